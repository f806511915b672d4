"""Check the rules of the house that no compiler or linter knows.

* Includes point one way: port <- core <- py <- module, and port and core never see Python.h. The shim sees
  one header of core's.
* Only src/py/compat.h tests PY_VERSION_HEX or names CPython's private symbols.
* Source files have at most MAX_LINES lines, and every C file is in a source list.
* Nothing that only one machine or one person understands: absolute paths, hosts of package
  registries, ticket numbers. The text must explain itself.

Prints one line per violation, ``file:line: what``; the exit status is 1 when there is one.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 600

# A layer may include itself and those before it.
LAYERS = ["port", "core", "py", "module"]
NEEDS_PYTHON = {"py", "module"}
# A library of its own, beside the layers: it is copied, so it must not bring anything along.
SHIM = "shim"
SHIM_INCLUDES = {"core/clone/shim.h", "shim/shim_internal.h"}
COMPAT = Path("src/py/compat.h")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
# Comments and string literals may name what code may not.
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
VERSION_TEST = re.compile(r"\bPY_(?:VERSION_HEX|MINOR_VERSION|MAJOR_VERSION)\b")
PRIVATE = re.compile(r"\b_Py\w+")
# Written in two parts, so that this file passes its own check.
FORBIDDEN = {
    "an absolute path of one machine": re.compile(
        r"(?<![\w.$}~*-])/(?:ro" r"ot|wo" r"rk|opt/py|ho" r"me/\w|Use" r"rs/\w)\b"
    ),
    "the host of a package registry": re.compile(
        r"\b(?:deb\.deb" r"ian|pypi\.o" r"rg|files\.pytho" r"nhosted|archive\.ubu" r"ntu)\b"
    ),
    "a path outside the repository": re.compile(r"\.\./sha" r"red"),
    "a ticket number instead of the reason": re.compile(r"\b[Ii]ssue" r" #?\d+\b"),
    "a note to do later": re.compile(r"\b(?:FIX" r"ME|XX" r"X|TO" r"DO)\b"),
}
TEXT_SUFFIXES = {".c", ".h", ".py", ".pyi", ".md", ".toml", ".yaml", ".yml", ".txt", ".build", ".sh", ""}

Violation = tuple[Path, int, str]


def tracked_files() -> list[Path]:
    """What git does not ignore, or every file where there is no git; relative to the root."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        paths = [Path(name) for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        skipped = {".venv", ".pythons", "build", ".git", "__pycache__", ".ruff_cache", ".mypy_cache"}
        paths = [
            path.relative_to(ROOT)
            for path in ROOT.rglob("*")
            if not skipped & set(path.relative_to(ROOT).parts)
        ]
    return sorted(path for path in paths if (ROOT / path).is_file())


def blank_out(text: str, pattern: re.Pattern[str]) -> str:
    """The text with every match replaced by its newlines, so that line numbers stay."""
    return pattern.sub(lambda match: "\n" * match[0].count("\n") or " ", text)


def check_includes(path: Path, text: str) -> Iterator[Violation]:
    """Each include of another layer, or of Python.h, that the layer of this file may not have."""
    layer = path.parts[1]
    allowed = LAYERS[: LAYERS.index(layer) + 1] if layer != SHIM else []
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match is None:
            continue
        style, name = match.groups()
        target = name.split("/")[0]
        if layer == SHIM and style == '"':
            if name not in SHIM_INCLUDES:
                yield path, number, f"{layer} must not include {name}: only {', '.join(SHIM_INCLUDES)}"
        elif style == '"' and target in LAYERS:
            if target not in allowed:
                yield path, number, f"{layer} must not include {name}: {' <- '.join(LAYERS)}"
        elif style == '"' and name != "atoll/atoll.h":
            yield path, number, f'include {name} from src, with its layer: "{layer}/..."'
        elif name == "Python.h" and path != COMPAT:
            yield path, number, f"only {COMPAT} includes Python.h"
        elif name.startswith(("internal/", "cpython/")):
            yield path, number, f"{name} is private to CPython"


def check_symbols(path: Path, text: str) -> Iterator[Violation]:
    """Each use of what only compat.h may name, and of Python in a layer that knows none."""
    layer = path.parts[1]
    for number, line in enumerate(blank_out(text, NOT_CODE).splitlines(), 1):
        if path != COMPAT:
            for match in VERSION_TEST.finditer(line):
                yield path, number, f"{match[0]} outside {COMPAT}"
            for match in PRIVATE.finditer(line):
                yield path, number, f"private symbol {match[0]} outside {COMPAT}"
        if layer not in NEEDS_PYTHON:
            for match in re.finditer(r"\b(?:Py[A-Z]\w*|Py_\w+)", line):
                yield path, number, f"{layer} knows no Python: {match[0]}"


def check_text(path: Path, text: str) -> Iterator[Violation]:
    """Each forbidden text, and a file that is too long."""
    lines = text.splitlines()
    if path.suffix in {".c", ".h", ".py", ".pyi"} and len(lines) > MAX_LINES:
        yield path, len(lines), f"{len(lines)} lines, at most {MAX_LINES}: split it"
    for number, line in enumerate(lines, 1):
        for what, pattern in FORBIDDEN.items():
            if match := pattern.search(line):
                yield path, number, f"{what}: {match[0]}"


def main() -> int:
    """Check every file; the exit status."""
    violations: list[Violation] = []
    for path in tracked_files():
        if path.suffix not in TEXT_SUFFIXES:
            continue
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            violations.append((path, 1, "not UTF-8"))
            continue
        violations.extend(check_text(path, text))
        if path.suffix in {".c", ".h"} and path.parts[0] == "src" and path.parts[1] in {*LAYERS, SHIM}:
            violations.extend(check_includes(path, text))
            violations.extend(check_symbols(path, text))
    for path, number, what in violations:
        print(f"{path}:{number}: {what}")
    lists = subprocess.run([sys.executable, ROOT / "tools" / "sources.py"], check=False).returncode
    return 1 if violations or lists else 0


if __name__ == "__main__":
    sys.exit(main())
