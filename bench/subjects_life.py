"""The ends of an interpreter's life: making one, from spares and from many threads at once, and closing it."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from functools import partial
from typing import Any

import stdlib_side
import targets
from harness import Effort, Result, alternate, processors, summarise
from memory_probe import process_context
from subjects_extensions import installed

import atoll
from atoll._atoll import _spares_ready

SPARES = 4


def timed(function: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def at_once(functions: Sequence[Callable[[], object]]) -> float:
    """Call each on a thread of its own, all at the same time; return the seconds until the last has ended."""
    ready = threading.Barrier(len(functions) + 1)

    def run(function: Callable[[], object]) -> None:
        ready.wait()
        function()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def create_into(made: list[Any]) -> None:
    """Make an interpreter, and keep it there."""
    made.append(atoll.create())


def creation(effort: Effort) -> list[Result]:
    """Measure making an interpreter on the main thread, from spares, and from a thread for each core at once."""
    rounds = 15 if effort.quick else 60

    def ours() -> float:
        made: list[Any] = []
        took = timed(partial(create_into, made))
        made[0].close()
        return took

    sides = {"atoll": ours, stdlib_side.MODULE: stdlib_side.time_create}
    alone = Result("life.create", "create() on the main thread", alternate(sides, rounds))
    alone.compare(stdlib_side.MODULE)

    def warm() -> float:
        """The worst of those that are ready."""
        atoll.prewarm(SPARES)
        while _spares_ready() < SPARES:
            time.sleep(0.001)
        took = []
        for _ in range(SPARES):
            made: list[Any] = []
            took.append(timed(partial(create_into, made)))
            made[0].close()
        return max(took)

    spares = Result("life.create.spares", "create() where prewarm() has made one", {})
    spares.sides["atoll"] = summarise([warm() for _ in range(3 if effort.quick else 15)])
    atoll.prewarm(0)

    jobs = processors()

    def make_many() -> None:
        for _ in range(8):
            atoll.create().close()

    def rate(threads: int) -> float:
        return 8 * threads / at_once([make_many] * threads)

    sides = {"atoll": lambda: rate(jobs), "one thread": lambda: rate(1)}
    title = f"create() and close() from {jobs} threads at once"
    many = Result("life.create.threads", title, alternate(sides, 3 if effort.quick else 9, "/s"))
    many.compare("one thread")
    return [alone, spares, many]


def closing(effort: Effort) -> list[Result]:
    """Measure close() of an interpreter that has imported a module; all the time, and that of close(wait=False)."""
    rounds = 3 if effort.quick else 15

    def close(module: str, **options: bool) -> float:
        interp = atoll.create()
        interp.exec(f"import {module}")
        return timed(lambda: interp.close(**options))

    results = []
    for module in ("sys", *installed()):
        sides = {"atoll": summarise([close(module) for _ in range(rounds)])}
        what = "close()" if module == "sys" else f"close() with {module}"
        results.append(Result(f"life.close.{module}", what, sides))
    last = installed()[-1:] or ["sys"]
    later = summarise([close(last[0], wait=False) for _ in range(rounds)])
    results.append(Result("life.close.later", f"close(wait=False) with {last[0]}", {"atoll": later}))
    return results


def importing(effort: Effort) -> list[Result]:
    """Measure the import of a large module by a worker for each core at once, and in as many processes."""
    if not installed():
        return []
    module, jobs = installed()[-1], processors()

    def interpreters() -> float:
        made = [atoll.create() for _ in range(jobs)]
        took = at_once([partial(interp.exec, f"import {module}") for interp in made])
        for interp in made:
            interp.close()
        return took

    def processes() -> float:
        with futures.ProcessPoolExecutor(jobs, mp_context=process_context()) as pool:
            for future in [pool.submit(time.sleep, 0.05) for _ in range(jobs)]:  # all are there
                future.result()
            began = time.perf_counter()
            for future in [pool.submit(targets.import_once, module) for _ in range(jobs)]:
                future.result()
            return time.perf_counter() - began

    sides = {"atoll": interpreters, "processes": processes}
    title = f"import {module} in {jobs} workers at once"
    result = Result("life.import.together", title, alternate(sides, 2 if effort.quick else 7))
    result.compare("processes")
    return [result]


def calling(effort: Effort) -> list[Result]:
    """Measure calls from main, and from interpreters of their own: a thread for each core at once, and one alone."""
    jobs, count = processors(), 20_000 if effort.quick else 100_000
    rounds = 3 if effort.quick else 9
    interps = [atoll.create() for _ in range(2 * jobs)]
    callers, called = interps[:jobs], interps[jobs:]

    def from_main(threads: int) -> float:
        return at_once([partial(targets.call_often, interp, count) for interp in called[:threads]]) / count

    def from_own(threads: int) -> float:
        pairs = zip(callers[:threads], called, strict=False)
        return at_once([partial(one.call, targets.call_often, other, count) for one, other in pairs]) / count

    results = []
    try:
        for interp in interps:
            interp.exec(stdlib_side.PREPARE)
        for name, title, each, note in (
            ("life.calls", f"call(noop) from {jobs} threads at once", from_main, "main's GIL is one"),
            ("life.calls.pairs", f"call(noop) in {jobs} pairs of interpreters at once", from_own, ""),
        ):
            sides = {"atoll": partial(each, jobs), "one alone": partial(each, 1)}
            result = Result(name, title, alternate(sides, rounds), note=note)
            result.compare("one alone")
            results.append(result)
    finally:
        for interp in interps:
            interp.close()
    return results


SUBJECTS: dict[str, Callable[[Effort], list[Result]]] = {
    "life.create": creation,
    "life.close": closing,
    "life.import": importing,
    "life.calls": calling,
}
