"""Pure-Python work on all cores: interpreters here, against threads of a free-threaded build, and processes.

The other build is the one that ATOLL_FREE_THREADED names, or that tools/get-free-threaded has made; without one there
are no results.  It is another version of CPython, maybe, and compiled by another compiler: what its one thread does,
beside one thread here, says how much of a difference that is.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import IO

from harness import Effort, Result, alternate, processors
from subjects_pool import atoll_pool, process_pool
from work import KINDS

HERE = Path(__file__).resolve().parent
MADE = HERE.parent / ".pythons" / "free-threaded" / "bin" / "python3.13t"
TITLES = {
    "parse": "parsing source (ast)",
    "words": "counting words (str, dict)",
    "bodies": "moving bodies (float, attributes)",
}
CALLS_PER_CORE = 4


class Other:
    """The other Python, asked for times."""

    def __init__(self, python: str) -> None:
        """Start it, and wait until it says its version and where its standard library is."""
        command = [python, str(HERE / "free_threaded.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.questions: IO[str] = self.process.stdin
        self.answers: IO[str] = self.process.stdout
        self.version, _, self.folder = self.answers.readline().strip().partition(" ")
        if not self.folder:
            raise RuntimeError(f"{python} is no free-threaded Python")

    def rate(self, kind: str, threads: int, calls: int) -> float:
        """Return calls a second."""
        print(kind, threads, calls, file=self.questions, flush=True)
        return calls / float(self.answers.readline())

    def close(self) -> None:
        """End it."""
        self.questions.close()
        self.process.wait(timeout=60)
        self.answers.close()


def pool_rate(pool: futures.Executor, kind: str, folder: str, calls: int) -> float:
    """Return how many calls a second a warm pool makes."""
    began = time.perf_counter()
    for future in [pool.submit(KINDS[kind], folder) for _ in range(calls)]:
        future.result()
    return calls / (time.perf_counter() - began)


def serial_rate(kind: str, folder: str, calls: int) -> float:
    """Return how many calls a second this thread makes."""
    began = time.perf_counter()
    for _ in range(calls):
        KINDS[kind](folder)
    return calls / (time.perf_counter() - began)


def free_threaded(effort: Effort) -> list[Result]:
    """Measure each kind of work on all cores."""
    python = os.environ.get("ATOLL_FREE_THREADED") or (str(MADE) if MADE.exists() else None)
    if python is None:
        print("no free-threaded Python to compare with: tools/get-free-threaded makes one", file=sys.stderr)
        return []
    other = Other(python)
    folder, jobs = other.folder, processors()
    calls = CALLS_PER_CORE * jobs
    results = []
    try:
        with atoll_pool(jobs) as interpreters, process_pool(jobs) as processes:
            for kind, title in TITLES.items():
                sides: dict[str, Callable[[], float]] = {
                    "atoll": partial(pool_rate, interpreters, kind, folder, calls),
                    "free-threaded": partial(other.rate, kind, jobs, calls),
                    "processes": partial(pool_rate, processes, kind, folder, calls),
                    "serial": partial(serial_rate, kind, folder, CALLS_PER_CORE),
                    "free-threaded serial": partial(other.rate, kind, 1, CALLS_PER_CORE),
                }
                for side in sides.values():
                    side()
                measures = alternate(sides, 2 if effort.quick else 9, "/s")
                result = Result(
                    f"free.{kind}", title, measures, note=f"free-threaded CPython {other.version}"
                )
                result.compare("free-threaded")
                results.append(result)
    finally:
        other.close()
    return results


SUBJECTS: dict[str, Callable[[Effort], list[Result]]] = {"free": free_threaded}
