"""A Python with modules of the standard library built in, made of an ordinary one by builtin/host.c.

By hand: python tests/builtin_host.py all|NAME,NAME... COMMAND..., which runs the command with such a Python.  Only
those modules are built in that this Python has as files; with `all` the files are not on sys.path.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
SOURCE = TESTS / "builtin" / "host.c"
HOST = TESTS.parent / "build" / "builtin_host.so"
VERSION = sys.version_info[:2]
DIRECTORY = Path(sys.base_exec_prefix, sys.platlibdir, "python{}.{}".format(*VERSION), "lib-dynload")


def files() -> list[str]:
    """Return the modules of the standard library that this Python has as files, those for CPython's tests aside."""
    return sorted({file.name.partition(".")[0] for file in DIRECTORY.glob("*.so")} & sys.stdlib_module_names)


def names() -> list[str]:
    """Return what is built in when all files are."""
    return sorted({*files(), *sys.builtin_module_names} & sys.stdlib_module_names)


def build() -> Path:
    """Compile the host where it is not up to date."""
    HOST.parent.mkdir(exist_ok=True)
    with open(HOST.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not HOST.exists() or HOST.stat().st_mtime < SOURCE.stat().st_mtime:
            flags = ["-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
            compiler = shlex.split(os.environ.get("CC", "cc"))
            subprocess.run([*compiler, *flags, str(SOURCE), "-o", str(HOST), "-ldl"], check=True)
    return HOST


def environment(modules: str) -> dict[str, str]:
    """Return the environment variables that make a Python started with them have these modules built in."""
    env = {"LD_PRELOAD": str(build()), "BUILTIN_MODULES": modules, "BUILTIN_DIRECTORY": str(DIRECTORY)}
    if modules == "all":
        path = [str(TESTS / "builtin"), os.environ.get("PYTHONPATH", "")]
        env["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    return env


if __name__ == "__main__":
    os.execvpe(sys.argv[2], sys.argv[2:], {**os.environ, **environment(sys.argv[1])})
