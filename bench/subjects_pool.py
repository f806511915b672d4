"""The executor: many small tasks, single ones, map(), start-up, large arguments, against the standard library's."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack
from functools import partial
from typing import Any

import stdlib_side
import targets
from harness import Effort, Result, alternate, processors
from subjects_scaling import PSS, one_more, process_context

import atoll

OUTSTANDING = 10_000
TASK_SECONDS = 0.001


def atoll_pool(workers: int, *, use_spares: bool = False) -> futures.Executor:
    """Return a pool of Atoll whose workers can import `targets`."""
    return atoll.InterpreterPoolExecutor(workers, use_spares=use_spares)


def stdlib_pool(workers: int) -> futures.Executor:
    """Return the standard library's pool of interpreters, its workers likewise prepared."""
    from concurrent.futures.interpreter import InterpreterPoolExecutor

    return InterpreterPoolExecutor(workers, initializer=exec, initargs=(stdlib_side.PREPARE,))


def process_pool(workers: int) -> futures.Executor:
    """Return a pool of processes."""
    return futures.ProcessPoolExecutor(workers, mp_context=process_context())


def executors() -> dict[str, Callable[[int], futures.Executor]]:
    """Return the executors that this version has."""
    made: dict[str, Callable[[int], futures.Executor]] = {
        "atoll": atoll_pool,
        "ThreadPoolExecutor": futures.ThreadPoolExecutor,
        "ProcessPoolExecutor": process_pool,
    }
    if importlib.util.find_spec("concurrent.futures.interpreter") is not None:
        made["InterpreterPoolExecutor"] = stdlib_pool
    return made


class Pools:
    """Warm pools of each kind, one worker per core."""

    def __init__(self, *names: str, workers: int | None = None) -> None:
        """Make those of the kinds (all without names)."""
        self.stack = ExitStack()
        self.pools = {}
        workers = workers or processors()
        for name, make in executors().items():
            if not names or name in names:
                pool = self.stack.enter_context(make(workers))
                list(pool.map(targets.spin, [20_000] * 4 * workers))
                self.pools[name] = pool

    def __enter__(self) -> dict[str, futures.Executor]:
        """Return them by kind."""
        return self.pools

    def __exit__(self, *_details: object) -> None:
        """End them."""
        self.stack.close()


def against(result: Result, others: dict[str, float]) -> Result:
    """Compare with several sides at once: a goal for each; the ratio shown is that of the first that is there."""
    for other, times in reversed(others.items()):
        if other in result.sides:
            result.compare(other)
            result.at_least(times)
            result.goals[-1].text += f" {other}"
    result.goals.reverse()
    return result


def outstanding(effort: Effort) -> list[Result]:
    """Measure submit() and result() of a tiny function with 10,000 futures outstanding."""

    def rate(pool: futures.Executor) -> float:
        began = time.perf_counter()
        todo = [pool.submit(targets.stdlib_noop) for _ in range(OUTSTANDING)]
        for future in todo:
            future.result()
        return OUTSTANDING / (time.perf_counter() - began)

    with Pools("atoll", "ThreadPoolExecutor", "InterpreterPoolExecutor") as pools:
        sides = {name: partial(rate, pool) for name, pool in pools.items()}
        measures = alternate(sides, 3 if effort.quick else 9, "/s")
    result = Result("pool.outstanding", "pool: tiny tasks, 10,000 outstanding", measures)
    return [against(result, {"InterpreterPoolExecutor": 10, "ThreadPoolExecutor": 1})]


def latency(effort: Effort) -> list[Result]:
    """Measure one submit() and its result()."""
    number = 300

    def one(pool: futures.Executor) -> float:
        began = time.perf_counter()
        for _ in range(number):
            pool.submit(targets.stdlib_noop).result()
        return (time.perf_counter() - began) / number

    with Pools() as pools:
        sides = {name: partial(one, pool) for name, pool in pools.items()}
        measures = alternate(sides, 3 if effort.quick else 15)
    result = Result("pool.latency", "pool: submit() to result()", measures)
    against(result, {"InterpreterPoolExecutor": 1, "ThreadPoolExecutor": 1})
    result.goals.clear()
    result.at_most(30e-6)
    return [result]


def mapping(effort: Effort) -> list[Result]:
    """Measure map() over a tiny function."""
    items = {"atoll": 1_000_000, "multiprocessing.Pool": 200_000, "ThreadPoolExecutor": 20_000}

    def rate(call: Callable[..., Iterator[Any]], n: int) -> float:
        began = time.perf_counter()
        count = sum(1 for _ in call(targets.increment, range(n)))
        assert count == n
        return n / (time.perf_counter() - began)

    with (
        Pools("atoll", "ThreadPoolExecutor") as pools,
        process_context().Pool(processors()) as processes,
    ):
        processes.map(targets.increment, range(1000))
        calls: dict[str, Callable[..., Any]] = {
            "atoll": pools["atoll"].map,
            "multiprocessing.Pool": processes.map,
            "ThreadPoolExecutor": pools["ThreadPoolExecutor"].map,
        }
        sides = {name: partial(rate, call, items[name]) for name, call in calls.items()}
        measures = alternate(sides, 3 if effort.quick else 7, "/s")
    result = Result("pool.map", "pool: map() over a tiny function", measures)
    against(result, {"multiprocessing.Pool": 20})
    reached = measures["atoll"].median >= 1e6
    result.goals.append(type(result.goals[0])("at least 1,000,000/s", reached))
    return [result]


def efficiency(effort: Effort) -> list[Result]:
    """Measure CPU-bound tasks of 1 ms on 1, 2, 4, ... cores and on all, as tasks per second against serial."""
    cores = processors()
    rounds = 10_000
    best = min(spin_seconds(rounds) for _ in range(20))
    rounds = int(rounds * TASK_SECONDS / best)

    def serial(times: int) -> float:
        began = time.perf_counter()
        for _ in range(200):
            targets.spin(rounds)
        return times * 200 / (time.perf_counter() - began)

    def rate(pool: futures.Executor, workers: int) -> float:
        began = time.perf_counter()
        for future in [pool.submit(targets.spin, rounds) for _ in range(200 * workers)]:
            future.result()
        return 200 * workers / (time.perf_counter() - began)

    results = []
    for workers in [*(n for n in (1, 2, 4, 8, 16, 32, 64) if n < cores), cores]:
        ideal = f"serial, {workers} times"
        with Pools("atoll", "ProcessPoolExecutor", "InterpreterPoolExecutor", workers=workers) as pools:
            sides = {name: partial(rate, pool, workers) for name, pool in pools.items()}
            measures = alternate({**sides, ideal: partial(serial, workers)}, 3 if effort.quick else 9, "/s")
        name = "pool.efficiency" if workers == cores else f"pool.efficiency.{workers}"
        result = Result(name, f"pool: 1 ms tasks on {workers} of {cores} cores", measures)
        results.append(against(result, {ideal: 0.95 if workers <= 2 else 0.9}))
    return results


def spin_seconds(rounds: int) -> float:
    """Return how long targets.spin takes."""
    began = time.perf_counter()
    targets.spin(rounds)
    return time.perf_counter() - began


def first_result(effort: Effort) -> list[Result]:
    """Measure a new pool of two workers up to its first result, cold and from spares."""

    def first(make: Callable[[int], futures.Executor]) -> float:
        began = time.perf_counter()
        pool = make(2)
        pool.submit(targets.stdlib_noop).result()
        took = time.perf_counter() - began
        pool.shutdown()
        return took

    def warm() -> float:
        deadline = time.monotonic() + 10
        while atoll._atoll._spares_ready() < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        return first(partial(atoll_pool, use_spares=True))

    rounds = 3 if effort.quick else 15
    measures = alternate({name: partial(first, make) for name, make in executors().items()}, rounds)
    cold = Result("pool.first", "pool: a new one's first result", measures)
    against(cold, {"ProcessPoolExecutor": 1})
    cold.goals.clear()
    cold.at_most(0.015)
    atoll.prewarm(2)
    try:
        spares = Result(
            "pool.first.spares", "pool: the same with prewarmed spares", alternate({"atoll": warm}, rounds)
        )
    finally:
        atoll.prewarm(0)
    spares.at_most(0.001)
    return [cold, spares]


def arguments(effort: Effort) -> list[Result]:
    """Measure large arguments on their way to a worker."""

    def send(pool: futures.Executor, value: Any) -> float:
        began = time.perf_counter()
        pool.submit(targets.size_of, value).result()
        return time.perf_counter() - began

    results = []
    with Pools("atoll", "ProcessPoolExecutor") as pools:

        def compare(name: str, title: str, value: Any, times: float) -> None:
            for pool in pools.values():
                pool.submit(targets.size_of, value).result()
            sides = {side: partial(send, pool, value) for side, pool in pools.items()}
            result = Result(name, title, alternate(sides, 3 if effort.quick else 11))
            results.append(against(result, {"ProcessPoolExecutor": times}))

        compare("pool.arguments.list", "pool: an argument, list of 200,000 ints", list(range(200_000)), 2)
        if importlib.util.find_spec("numpy") is not None:
            import numpy

            compare("pool.arguments.array", "pool: an argument, array of 100 MB", numpy.ones(12_500_000), 5)
        if importlib.util.find_spec("pandas") is not None:
            import numpy
            import pandas

            columns = {f"column{i}": numpy.arange(100_000) * i for i in range(50)}
            compare(
                "pool.arguments.frame", "pool: an argument, frame of 50 columns", pandas.DataFrame(columns), 5
            )
    return results


def memory(effort: Effort) -> list[Result]:
    """Measure what one more worker of an executor adds to the memory that the whole program occupies."""
    names = ["atoll", "ProcessPoolExecutor"]
    if "InterpreterPoolExecutor" in executors():
        names.append("InterpreterPoolExecutor")
    sides = {name: partial(one_more, f"pool:{name}") for name in names}
    result = Result(
        "pool.memory",
        "pool: memory of one more worker",
        alternate(sides, 1 if effort.quick else 5, "B"),
        note=PSS,
    )
    return [against(result, {"ProcessPoolExecutor": 4})]


SUBJECTS: dict[str, Callable[[Effort], list[Result]]] = {
    "pool.outstanding": outstanding,
    "pool.latency": latency,
    "pool.map": mapping,
    "pool.efficiency": efficiency,
    "pool.first": first_result,
    "pool.arguments": arguments,
    "pool.memory": memory,
}
