"""Print, as JSON, how many bytes one more idle worker adds: interpreter or process.

Run in a process of its own for each kind of worker, by subjects_scaling.  The first worker is not
counted, because it also pays for what all workers share.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

WORKERS = 8
START = "PROBE_START"  # in the environment: how processes are started instead
IMPORTS = "PROBE_IMPORTS"  # in the environment: a module that interpreters and processes import
BUSY = 0.2  # seconds: long enough that no worker takes two tasks


def family(pid: int | str) -> Iterator[int | str]:
    """Yield a process and all its descendants, as Linux lists them."""
    yield pid
    for tasks in Path(f"/proc/{pid}/task").iterdir():
        for child in (tasks / "children").read_text().split():
            yield from family(child)


def occupied() -> int:
    """Return the bytes that this process and its descendants occupy: the sum of their PSS."""
    total = 0
    for pid in family("self"):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def process_context() -> Any:
    """Return how processes are started: safely with threads around, as 3.14 does by default.

    With fork they would seem to need no memory, until they use the pages that they share.
    """
    if START in os.environ:
        return multiprocessing.get_context(os.environ[START])
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


def serve(connection: Connection) -> None:
    """Be a worker process: get ready, say so, and wait for the end."""
    import targets

    targets.noop()
    if IMPORTS in os.environ:
        importlib.import_module(os.environ[IMPORTS])
    connection.send("ready")
    connection.recv()


class Processes:
    """Worker processes that start, answer once and wait."""

    def __init__(self) -> None:
        """Have none yet."""
        self.context = process_context()
        self.workers: list[tuple[Any, Any]] = []

    def add(self) -> None:
        """Start one more and wait until it is ready."""
        here, there = self.context.Pipe()
        process = self.context.Process(target=serve, args=(there,))
        process.start()
        here.recv()
        self.workers.append((process, here))

    def close(self) -> None:
        """End them all."""
        for process, connection in self.workers:
            connection.send(None)
            process.join()


class AtollInterpreters:
    """Interpreters of Atoll, each called once."""

    def __init__(self) -> None:
        """Have none yet."""
        self.workers: list[Any] = []

    def add(self) -> None:
        """Make one more and call it."""
        import stdlib_side
        import targets

        import atoll

        interp = atoll.create()
        interp.exec(stdlib_side.PREPARE)
        interp.call(targets.noop)
        if IMPORTS in os.environ:
            interp.call(importlib.import_module, os.environ[IMPORTS])
        self.workers.append(interp)

    def close(self) -> None:
        """Close them all."""
        for interp in self.workers:
            interp.close()


class StdlibInterpreters:
    """Interpreters of the standard library, each called once."""

    def __init__(self) -> None:
        """Have none yet."""
        self.workers: list[Any] = []

    def add(self) -> None:
        """Make one more and call it."""
        import stdlib_side

        interp = stdlib_side.Interpreter()
        interp.call_noop()
        self.workers.append(interp)

    def close(self) -> None:
        """Close them all."""
        for interp in self.workers:
            interp.close()


class Pool:
    """The workers of an executor, each of which has worked while all others did."""

    def __init__(self, make: Callable[[int], futures.Executor]) -> None:
        """Have none yet."""
        self.pool = make(WORKERS + 1)
        self.count = 0

    def add(self) -> None:
        """Submit as many tasks as keep one more busy."""
        self.count += 1
        futures.wait([self.pool.submit(time.sleep, BUSY) for _ in range(self.count)])

    def close(self) -> None:
        """End them all."""
        self.pool.shutdown()


def atoll_pool(workers: int) -> futures.Executor:
    """Return an executor of Atoll's."""
    import atoll

    return atoll.InterpreterPoolExecutor(workers)


def stdlib_pool(workers: int) -> futures.Executor:
    """Return the standard library's, which is new in 3.14."""
    from concurrent.futures.interpreter import InterpreterPoolExecutor

    return InterpreterPoolExecutor(workers)


def process_pool(workers: int) -> futures.Executor:
    """Return an executor with processes."""
    return futures.ProcessPoolExecutor(workers, mp_context=process_context())


SIDES: dict[str, Callable[[], Any]] = {
    "atoll": AtollInterpreters,
    "stdlib": StdlibInterpreters,
    "processes": Processes,
    "pool:atoll": lambda: Pool(atoll_pool),
    "pool:InterpreterPoolExecutor": lambda: Pool(stdlib_pool),
    "pool:ProcessPoolExecutor": lambda: Pool(process_pool),
}


def main() -> None:
    """Start one worker, measure, start more, measure again, print the difference for one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=SIDES)
    workers = SIDES[parser.parse_args().side]()
    workers.add()
    before = occupied()
    for _ in range(WORKERS):
        workers.add()
    after = occupied()
    workers.close()
    print(json.dumps({"bytes": (after - before) / WORKERS, "workers": WORKERS}))


if __name__ == "__main__":
    main()
