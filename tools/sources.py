"""Keep the source lists of the meson.build files equal to what is on disk.

``sources.py`` checks and names each list that is out of date; ``sources.py --write``
(``make sources``) rewrites them. The lists are explicit so that a build sees exactly the
files that a commit holds, and so that a new file makes meson configure again.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "atoll"
HEADER = "# Written by `make sources`: add a file to this directory, then run that.\n"

# Directory of C files and the variable that names its list.
LAYERS = {
    "src/port/linux": "port_sources",
    "src/core": "core_sources",
    "src/py": "py_sources",
    "src/module": "module_sources",
    "src/shim": "shim_sources",
}


def quoted(names: list[str]) -> str:
    """The names as the lines of a meson list."""
    return "".join(f"  '{name}',\n" for name in names)


def layer_list(directory: Path, variable: str) -> str:
    """The meson.build text for one layer's C files."""
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.c"))
    return f"{HEADER}{variable} = files(\n{quoted(names)})\n" if names else f"{HEADER}{variable} = files()\n"


def package_list() -> str:
    """The meson.build text that installs the Python package."""
    text = HEADER
    directories = {path.parent for pattern in ("*.py", "*.pyi") for path in PACKAGE.rglob(pattern)}
    for directory in sorted(directories | {PACKAGE}):
        inside = directory.relative_to(PACKAGE)
        wanted = [
            path for path in directory.iterdir() if path.suffix in {".py", ".pyi"} or path.name == "py.typed"
        ]
        names = sorted(path.relative_to(PACKAGE).as_posix() for path in wanted)
        target = (Path("atoll") / inside).as_posix()
        text += (
            f"py.install_sources(\n  [\n{quoted(names).replace('  ', '    ')}  ],\n  subdir: '{target}',\n)\n"
        )
    return text


def main() -> int:
    """Check or write; the exit status."""
    wanted = {
        ROOT / name / "meson.build": layer_list(ROOT / name, variable)
        for name, variable in LAYERS.items()
        if (ROOT / name).is_dir()
    }
    wanted[PACKAGE / "meson.build"] = package_list()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--write" in sys.argv[1:]:
            path.write_text(wanted[path])
        print(f"{path.relative_to(ROOT)}: {'written' if '--write' in sys.argv[1:] else 'out of date'}")
    if stale and "--write" not in sys.argv[1:]:
        print("run: make sources")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
