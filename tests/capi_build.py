"""Compiles what uses atoll.h (tests/capi) for the running Python, as ext_build does with the other extension modules.

It is kept in build/ext-X.Y/capi.  By hand: python tests/capi_build.py
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import atoll
from ext_build import BUILD, SOURCES, SUFFIX, Target, compile_target

INCLUDE = Path(atoll.get_include())
HEADERS = [INCLUDE / "atoll.h", SOURCES / "../capi/capi_data.h"]
HASH = hashlib.sha256(b"".join(path.read_bytes() for path in HEADERS)).hexdigest()
FLAGS = (f"-I{INCLUDE}", f"-DHEADERS_{HASH[:16]}", "-Werror")


def module(source: str, name: str, *flags: str) -> Target:
    """An extension module in the folder capi."""
    names = (f"-DINIT_NAME=PyInit_{name}", f'-DMODULE="{name}"')
    path = source if source.startswith("/") else f"../capi/{source}"
    return Target(path, f"capi/{name}{SUFFIX}", (*names, *FLAGS, *flags))


TARGETS = [
    module("capi_module.c", "capi_shared", "-DDECLARES"),
    module("capi_module.c", "capi_cloned"),
]


# Modules that take a package to be compiled.
NEEDS = {"capi_cython": "Cython", "capi_pybind11": "pybind11"}


def missing_for(name: str) -> str | None:
    """The package that is needed for a module and is not installed, or None."""
    return NEEDS[name] if importlib.util.find_spec(NEEDS[name]) is None else None


def build_one(name: str) -> None:
    """Make a module that takes a package, if it is not up to date."""
    if name == "capi_pybind11":
        import pybind11

        target = module("capi_pybind11.cc", name, f"-isystem{pybind11.get_include()}")
    else:
        source = BUILD / "capi" / "capi_cython.c"
        source.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "cython", "-3", "-I", str(INCLUDE), "-o", str(source)]
        subprocess.run([*command, str(SOURCES / "../capi/capi_cython.pyx")], check=True)
        target = module(str(source), name, "-Wno-unused-parameter", "-Wno-missing-field-initializers")
    with open(BUILD / "lock-capi", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        compile_target(target)


def build() -> Path:
    """Make all that is not up to date; return the folder.  Raises FileNotFoundError, RuntimeError."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / "lock-capi", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for target in TARGETS:
            compile_target(target)
    return BUILD / "capi"


if __name__ == "__main__":
    print(build())
