"""Compiles what uses atoll.h (tests/capi) for the running Python, as ext_build does with the other extension modules.

It is kept in build/ext-X.Y/capi.  By hand: python tests/capi_build.py
"""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

import atoll
from ext_build import BUILD, SUFFIX, Target, compile_target

INCLUDE = Path(atoll.get_include())
HEADER = hashlib.sha256((INCLUDE / "atoll.h").read_bytes()).hexdigest()
FLAGS = (f"-I{INCLUDE}", f"-DHEADER_{HEADER[:16]}", "-Werror")


def module(source: str, name: str, *flags: str) -> Target:
    """An extension module in the folder capi."""
    names = (f"-DINIT_NAME=PyInit_{name}", f'-DMODULE="{name}"')
    return Target(f"../capi/{source}", f"capi/{name}{SUFFIX}", (*names, *FLAGS, *flags))


TARGETS = [
    module("capi_module.c", "capi_shared", "-DDECLARES"),
    module("capi_module.c", "capi_cloned"),
]


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
