"""Many cores: the life of an interpreter, throughput, start-up and memory of each way."""

import json
import os
import subprocess
import sys
import threading
import time
import timeit
from collections.abc import Callable
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import stdlib_side
import targets
from harness import Effort, Measure, Result, alternate, processors
from memory_probe import process_context

import atoll

TASK_SECONDS = 0.002
TASKS_PER_CORE = 20


class Workers(Protocol):
    """A pool of workers, one per core: what all ways of using the cores have in common."""

    def run(self, rounds: int, tasks: int) -> None:
        """Call targets.spin(rounds) `tasks` times on the workers and wait for all."""

    def close(self) -> None:
        """End the workers."""


class ExecutorWorkers:
    """The workers of one of the executors of concurrent.futures."""

    def __init__(self, make: Callable[[], futures.Executor]) -> None:
        """Start the executor and wait for its first answer."""
        self.pool = make()
        self.pool.submit(targets.noop).result()

    def run(self, rounds: int, tasks: int) -> None:
        """See Workers."""
        for future in [self.pool.submit(targets.spin, rounds) for _ in range(tasks)]:
            future.result()

    def close(self) -> None:
        """See Workers."""
        self.pool.shutdown()


class AtollWorkers:
    """An interpreter for each thread of a thread pool."""

    def __init__(self, jobs: int) -> None:
        """Start the threads and wait for the first answer of an interpreter."""
        self.local = threading.local()
        self.interps: list[Any] = []
        self.pool = futures.ThreadPoolExecutor(jobs, initializer=self.set_up)
        self.pool.submit(self.call, targets.noop).result()

    def set_up(self) -> None:
        """Give this thread its interpreter."""
        self.local.interp = interp = atoll.create()
        self.interps.append(interp)
        interp.exec(stdlib_side.PREPARE)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in this thread's interpreter."""
        return self.local.interp.call(function, *args)

    def run(self, rounds: int, tasks: int) -> None:
        """See Workers."""
        todo = [self.pool.submit(self.call, targets.spin, rounds) for _ in range(tasks)]
        for future in todo:
            future.result()

    def close(self) -> None:
        """See Workers."""
        self.pool.shutdown()
        for interp in self.interps:
            interp.close()


def make_workers(jobs: int) -> dict[str, Callable[[], Workers]]:
    """Return what starts the workers of each way."""
    processes = partial(futures.ProcessPoolExecutor, jobs, mp_context=process_context())
    ways: dict[str, Callable[[], Workers]] = {
        "atoll": partial(AtollWorkers, jobs),
        "processes": partial(ExecutorWorkers, processes),
        "threads": partial(ExecutorWorkers, partial(futures.ThreadPoolExecutor, jobs)),
    }
    if sys.version_info >= (3, 14):
        pool = futures.InterpreterPoolExecutor
        prepare = partial(pool, jobs, initializer=exec, initargs=(stdlib_side.PREPARE,))
        ways["InterpreterPoolExecutor"] = partial(ExecutorWorkers, prepare)
    return ways


def life_cycle(effort: Effort) -> list[Result]:
    """Measure making and closing an interpreter."""

    def ours() -> float:
        began = time.perf_counter()
        atoll.create().close()
        return time.perf_counter() - began

    def theirs() -> float:
        began = time.perf_counter()
        stdlib_side.create_and_close()
        return time.perf_counter() - began

    sides = {"atoll": ours, stdlib_side.MODULE: theirs}
    rounds = 15 if effort.quick else 100
    result = Result("cycle", "create() and close()", alternate(sides, rounds))
    result.compare(stdlib_side.MODULE)
    return [result]


def throughput(effort: Effort) -> list[Result]:
    """Measure a CPU-bound function of about 2 ms on all cores, the workers being warm."""
    jobs = processors()
    rounds = 10_000
    best = min(timeit.repeat(lambda: targets.spin(rounds), number=1, repeat=20))
    rounds = int(rounds * TASK_SECONDS / best)
    tasks = TASKS_PER_CORE * jobs

    def serial() -> float:
        began = time.perf_counter()
        for _ in range(TASKS_PER_CORE):
            targets.spin(rounds)
        return TASKS_PER_CORE / (time.perf_counter() - began)

    def rate(workers: Workers) -> float:
        began = time.perf_counter()
        workers.run(rounds, tasks)
        return tasks / (time.perf_counter() - began)

    pools: dict[str, Workers] = {}
    try:
        for way, start in make_workers(jobs).items():
            pools[way] = start()
            pools[way].run(rounds, tasks)
        sides = {way: partial(rate, workers) for way, workers in pools.items()}
        measures = alternate(sides | {"serial": serial}, 3 if effort.quick else 12, "/s")
    finally:
        for workers in pools.values():
            workers.close()
    result = Result("throughput", f"2 ms tasks on {jobs} cores", measures)
    result.compare("processes")
    return [result]


def start_up(effort: Effort) -> list[Result]:
    """Measure the time from starting the workers of each way to their first answer."""

    def first_answer(start: Callable[[], Workers]) -> float:
        began = time.perf_counter()
        workers = start()
        took = time.perf_counter() - began
        workers.close()
        return took

    ways = make_workers(processors())
    sides = {way: partial(first_answer, start) for way, start in ways.items()}
    result = Result(
        "startup",
        "start of a pool to its first answer",
        alternate(sides, 3 if effort.quick else 11),
        note="processes: from a fork server that runs already",
    )
    result.compare("processes")
    return [result]


def one_more(side: str, **environment: str) -> float:
    """Return how many bytes one more worker of a side of memory_probe.py takes."""
    probe = Path(__file__).resolve().with_name("memory_probe.py")
    command = [sys.executable, "-W", "ignore", str(probe), side]
    answer = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )
    return float(json.loads(answer.stdout)["bytes"])


PSS = "proportional set size (PSS): pages that processes share are split between them"


def memory(effort: Effort) -> list[Result]:
    """Measure what one more idle worker adds to the memory that the whole program occupies."""
    names = {"atoll": "atoll", stdlib_side.MODULE: "stdlib", "processes": "processes"}
    sides = {name: partial(one_more, side) for name, side in names.items()}
    measures: dict[str, Measure] = alternate(sides, 1 if effort.quick else 5, "B")
    result = Result("memory", "memory of one more worker", measures, note=PSS)
    result.compare("processes")
    return [result]


SUBJECTS: dict[str, Callable[[Effort], list[Result]]] = {
    "cycle": life_cycle,
    "throughput": throughput,
    "startup": start_up,
    "memory": memory,
}
