"""Check a wheel of Atoll: what it has, and that auditwheel has changed none of it.

    check_wheel.py MADE REPAIRED

MADE is the wheel as it was built, REPAIRED what auditwheel made of it. Clones of extension modules are written from
the bytes of the shim, a library that must need no other and have no path to search: a tool that appends sections or
libraries to it would break what it is for, so each file of the package has to be the same in both. Prints a line for
each thing that is wrong; the exit status is 1 when there is one.
"""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

NEEDED = {
    "atoll/__init__.py",
    "atoll/_atoll.pyi",
    "atoll/py.typed",
    "atoll/_shim.so",
    "atoll/cli/__init__.py",
    "atoll/include/atoll.h",
    "atoll/include/atoll.pxd",
}
SUFFIXES = {".py", ".pyi", ".so", ".typed", ".h", ".pxd"}


def files_of(wheel: Path) -> dict[str, bytes]:
    """The package's files, without the metadata that a repair writes anew."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: archive.read(name)
            for name in archive.namelist()
            if ".dist-info/" not in name and not name.endswith("/")
        }


def faults_of(made: Path, repaired: Path) -> Iterator[str]:
    """What is wrong with a repaired wheel."""
    before, after = files_of(made), files_of(repaired)
    if repaired.name.rpartition("-")[2].startswith("linux"):
        yield "no index takes it: its platform is plain linux"
    with zipfile.ZipFile(repaired) as archive:
        if not any(name.endswith(".dist-info/sboms/atoll.cdx.json") for name in archive.namelist()):
            yield "it has no list of what is in it (tools/add_sbom.py)"
    for name in sorted(NEEDED - set(after)):
        yield f"{name} is missing"
    modules = [name for name in after if name.startswith("atoll/_atoll.") and name.endswith(".so")]
    if len(modules) != 1:
        yield f"one C module is expected, not {modules}"
    for name in sorted(after):
        if not name.startswith("atoll/") or Path(name).suffix not in SUFFIXES:
            yield f"{name} does not belong there"
    for name in sorted(set(before) | set(after)):
        if before.get(name) != after.get(name):
            yield f"{name} was changed by the repair"


def main() -> int:
    """Check; the exit status."""
    made, repaired = map(Path, sys.argv[1:])
    faults = list(faults_of(made, repaired))
    for fault in faults:
        print(f"{repaired.name}: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
