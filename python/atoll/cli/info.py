"""``python -m atoll info``: what is here, and what that means for Atoll."""

import argparse
import importlib.metadata
import importlib.util
import json
import mmap
import os
import platform
import resource
import sys
import sysconfig
import tempfile
from typing import Any

import atoll
from atoll._extension.builtin import why_not
from atoll._pool.inner import processors

from .arguments import add_parser
from .children import Children
from .measure import describe_machine

_DESCRIPTION = """\
Print what a bug report should say: versions, how this Python was built and what that means for Atoll, cores and
memory with the limits of the control group, where clones of extension modules go, and whether interpreters work here,
which is tried in a child process.
"""
_EPILOG = """\
exit status: 0; 1 when interpreters do not work here.

examples:
  python -m atoll info
  python -m atoll info --json | jq .clones
"""
_TRIED = ("ctypes", "decimal", "sqlite3", "ssl")  # each is cloned on some version, and may be missing
_SIZES = ("memory", "memory of its control group", "address space")  # of these, in bytes
_OPTIONAL = ("argcomplete", "numpy", "rich", "tqdm")


def add_command(commands: Any) -> None:
    """Add this command to a parser's subparsers."""
    parser = add_parser(
        commands,
        "info",
        main,
        help="what a bug report should say of this machine and Python",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def main(options: argparse.Namespace) -> int:
    """Collect, print, return the exit status."""
    document = collect()
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        for section, content in document.items():
            if not content:  # no notes: all is as usual
                continue
            print(f"{section}:")
            entries = content.items() if isinstance(content, dict) else enumerate(content)
            for key, value in entries:
                print(f"  {key}: {_text(value, key)}" if isinstance(key, str) else f"  * {value}")
    return 0 if document["works"]["interpreters"] is True else 1


def _text(value: Any, key: str = "") -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items()) or "-"
    if key in _SIZES and isinstance(value, int):
        return f"{value / 2**20:,.0f} MiB"
    return str(value)


def collect() -> dict[str, Any]:
    """Return all of it, as JSON takes it; lengths of memory are in bytes."""
    document: dict[str, Any] = {
        "atoll": _atoll(),
        "python": _python(),
        "machine": _machine(),
        "clones": dict(clone_places()),
        "works": _try(),
    }
    document["notes"] = _notes(document)
    return document


def _atoll() -> dict[str, Any]:
    return {
        "version": atoll.__version__,
        "directory": os.path.dirname(os.path.abspath(atoll.__file__)),
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("ATOLL_", "PYTHON")) or name in ("LD_PRELOAD", "LD_LIBRARY_PATH")
        },
        "optional packages": {name: _version(name) for name in _OPTIONAL},
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> dict[str, Any]:
    jit = getattr(sys, "_jit", None)
    return {
        "version": platform.python_version(),
        "built": " ".join(platform.python_build()),
        "compiler": platform.python_compiler(),
        "executable": sys.executable,
        "environment of": sys.base_prefix if sys.prefix != sys.base_prefix else None,
        "shared libpython": bool(sysconfig.get_config_var("Py_ENABLE_SHARED")),
        "debug build": hasattr(sys, "gettotalrefcount"),
        "just-in-time compiler": bool(jit is not None and jit.is_enabled()),
        "development mode": sys.flags.dev_mode,
        "modules built in": len(sys.builtin_module_names),
        "built in, not usable in interpreters": sorted(
            name for name in sys.builtin_module_names if why_not(name, datetime_is_held=True)
        ),
    }


def _machine() -> dict[str, Any]:
    described = describe_machine()
    cpus, memory = cgroup_limits()
    libc, version = platform.libc_ver()
    return {
        "processor": described["cpu"],
        "architecture": platform.machine(),
        "kernel": described["kernel"],
        "C library": f"{libc} {version}".strip() or "not glibc",
        "cores": os.cpu_count(),
        "cores of this process": processors(),
        "cores of its control group": cpus,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "memory of its control group": memory,
        "address space": _limit(resource.RLIMIT_AS),
        "open files": _limit(resource.RLIMIT_NOFILE),
        "mappings": int(_read("/proc/sys/vm/max_map_count") or 0) or None,
        "load": described["load"],
    }


def _limit(what: int) -> int | None:
    soft = resource.getrlimit(what)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return None


def cgroup_limits(
    root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup"
) -> tuple[float | None, int | None]:
    """Return how many cores' time, and bytes of memory, this process's control group may use; None: no limit.

    The limits of the groups that it is in count as well. Version 1 has a tree for each kind.
    """
    cpus: list[float] = []
    memory: list[int] = []
    for line in (_read(own) or "").splitlines():
        _, kinds, path = line.split(":", 2)
        base = root if not kinds else os.path.join(root, kinds)
        parts = path.strip("/").split("/") if path.strip("/") else []
        for count in range(len(parts), -1, -1):
            group = os.path.join(base, *parts[:count])
            quota = (_read(f"{group}/cpu.max") or "").split() or [
                _read(f"{group}/cpu.cfs_quota_us") or "max",
                _read(f"{group}/cpu.cfs_period_us") or "100000",
            ]
            if quota[0] not in ("max", "-1"):
                cpus.append(int(quota[0]) / int(quota[1]))
            most = _read(f"{group}/memory.max") or _read(f"{group}/memory.limit_in_bytes") or "max"
            if most != "max" and int(most) < 1 << 60:  # version 1 says "no limit" by a number
                memory.append(int(most))
    return min(cpus, default=None), min(memory, default=None)


def clone_places() -> list[tuple[str, str]]:
    """Return the directories where clones go, in the order in which they are tried, and what is said of each.

    As src/port/linux/scratch.c has it. The first that can be used is used; when it is full the next one, in the end
    memory.
    """
    home = os.environ.get("HOME")
    places = [
        ("ATOLL_CLONE_DIR", os.environ.get("ATOLL_CLONE_DIR")),
        ("/dev/shm", "/dev/shm"),
        ("XDG_RUNTIME_DIR", os.environ.get("XDG_RUNTIME_DIR")),
        ("TMPDIR", os.environ.get("TMPDIR")),
        ("/tmp", "/tmp"),
        ("/var/tmp", "/var/tmp"),
        ("HOME/.cache", f"{home}/.cache" if home else None),
    ]
    states = []
    used = False
    for name, directory in places:
        if not directory:
            states.append((name, "not set"))
            continue
        good, state = _try_place(directory)
        if good and not used:
            used, state = True, f"used: {state}"
        states.append((name, state if name == directory else f"{directory}: {state}"))
    states.append(("memory", "used when no directory can be" if used else "used"))
    return states


def _try_place(directory: str) -> tuple[bool, str]:
    """Return whether clones can be made in a directory, and why not or how much space there is."""
    if not directory.startswith("/"):
        return False, "not an absolute path"
    try:
        info = os.statvfs(directory)
        if info.f_flag & os.ST_NOEXEC:
            return False, "mounted noexec"
        with tempfile.TemporaryFile(dir=directory, prefix="atoll-") as file:
            file.truncate(mmap.PAGESIZE)
            mmap.mmap(file.fileno(), mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
    except OSError as error:
        return False, error.strerror or str(error)
    free = info.f_bavail * info.f_frsize
    return (
        True,
        f"{free / 2**20:,.0f} MiB free" if free >= 1 << 24 else f"full ({free / 2**10:,.0f} KiB free)",
    )


def _try() -> dict[str, Any]:
    """Return whether interpreters work here: made, used for modules of C, closed, in a child process."""
    tried = [name for name in _TRIED if importlib.util.find_spec(name) is not None]
    done = Children(timeout=60).run("isolate", tried)
    return {
        "interpreters": True if not done.failed else "; ".join(f"{f.text} {f.stage}" for f in done.failures),
        "extension modules": {
            module or os.path.basename(file): how
            for module, file, how, _ in done.extensions
            if how != "usual"
        },
    }


def _notes(document: dict[str, Any]) -> list[str]:
    """Return what all of this means, where it is not as usual."""
    python, machine = document["python"], document["machine"]
    notes = []
    for name in python["built in, not usable in interpreters"]:
        notes.append(why_not(name, datetime_is_held=True) or name)
    cpus, cores = machine["cores of its control group"], machine["cores of this process"]
    if cpus is not None and cpus < cores:
        notes.append(
            f"the control group allows {cpus:g} cores, and a pool has {cores} workers by default:"
            f" consider max_workers={max(1, round(cpus))}"
        )
    if not machine["C library"].startswith("glibc"):
        notes.append("extension modules that do not support interpreters need glibc: others load")
    if machine["architecture"] != "x86_64":
        notes.append(
            "Ctrl-C does not end a system call that blocks in an interpreter: it takes effect when it returns"
        )
    if sys.version_info < (3, 14) and (python["development mode"] or "PYTHONMALLOC" in os.environ):
        notes.append(
            "with debug hooks interpreters of Python 3.12 and 3.13 give no memory back when they are closed"
        )
    if python["debug build"]:
        notes.append("a debug build of Python: everything is several times slower than with another one")
    if document["clones"]["memory"] == "used":
        notes.append(
            "no directory can hold clones of extension modules: they are made in memory, for the same effect"
        )
    return notes
