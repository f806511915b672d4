"""Print, as JSON, one measurement of extension modules: a process of its own for subjects_extensions.

    extensions_probe.py import MODULE ROUNDS      {"seconds": [...]} of the import in fresh interpreters
    extensions_probe.py busy MODULE ROUNDS        {"idle": [...], "busy": [...]}: the same, main asleep or computing
    extensions_probe.py interpreters MODULE N     {"bytes": ...} that one more interpreter with the module takes
    extensions_probe.py process MODULE            {"bytes": ...} that are private to a process with the module
    extensions_probe.py cycles MODULE N           {"bytes": ...} of growth with each create, import, use, close

Bytes of interpreters count the memory that holds the files of their clones as well, although no process has it.
"""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import atoll

START_OF_CYCLES = 10  # which do not count


def import_seconds(module: str) -> float:
    """Import a module; return the seconds that took."""
    import importlib
    import time

    began = time.perf_counter()
    importlib.import_module(module)
    return time.perf_counter() - began


def in_interpreter(module: str) -> float:
    """Import a module in a fresh interpreter; return the seconds that the import took."""
    with atoll.create() as interp:
        return interp.call(import_seconds, module)


def use(module: str) -> None:
    """Import a module, and do a little with it when that is known."""
    import importlib

    found = importlib.import_module(module)
    if module == "numpy":
        assert float(found.linalg.det(found.eye(3) + found.arange(9.0).reshape(3, 3))) != 0


def private_bytes(pid: int | str) -> int:
    """Return the bytes that no other process has mapped."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1]) * 1024
    return total


def file_bytes() -> int:
    """Return the bytes that files in memory take, of the whole machine."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Shmem:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no Shmem")


def busy(module: str, rounds: int) -> dict[str, list[float]]:
    """Import on another thread, in turns with main asleep and with main computing."""

    def once(compute: bool) -> float:
        took: list[float] = []
        thread = threading.Thread(target=lambda: took.append(in_interpreter(module)))
        thread.start()
        count = 0
        while thread.is_alive():
            if compute:
                count += 1
            else:
                time.sleep(0.005)
        thread.join()
        return took[0]

    once(False)
    result: dict[str, list[float]] = {"idle": [], "busy": []}
    for _ in range(rounds):
        result["idle"].append(once(False))
        result["busy"].append(once(True))
    return result


def interpreters(module: str, count: int) -> int:
    """Return the bytes that one more interpreter takes that has imported the module."""
    made = []

    def add() -> None:
        interp = atoll.create()
        interp.call(use, module)
        made.append(interp)

    for _ in range(2):
        add()
    before = private_bytes("self") + file_bytes()
    for _ in range(count):
        add()
    after = private_bytes("self") + file_bytes()
    for interp in made:
        interp.close()
    return (after - before) // count


def process(module: str) -> int:
    """Return the private bytes of the second of two processes that have imported the module."""
    source = f"import importlib; importlib.import_module({module!r}); print('ready', flush=True); input()"
    children = [
        subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        return private_bytes(children[1].pid)
    finally:
        for child in children:
            child.communicate(b"\n")


def cycles(module: str, count: int) -> float:
    """Return by how many bytes each life of an interpreter with the module makes the process grow."""

    def cycle() -> None:
        with atoll.create() as interp:
            interp.call(use, module)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for _ in range(START_OF_CYCLES):
        cycle()
    before = resident()
    for _ in range(count):
        cycle()
    return (resident() - before) / count


def main(kind: str, module: str, number: int = 1) -> dict[str, Any]:
    """Do what the command line says."""
    if kind == "import":
        in_interpreter(module)
        return {"seconds": [in_interpreter(module) for _ in range(number)]}
    if kind == "busy":
        return busy(module, number)
    measure = {"interpreters": interpreters, "cycles": cycles}.get(kind)
    return {"bytes": process(module) if measure is None else measure(module, number)}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:3], *map(int, sys.argv[3:]))))
