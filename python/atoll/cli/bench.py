"""``python -m atoll bench``: how Atoll compares with processes, and the standard library's interpreters, here.

A few of the questions that ``bench/`` of the source measures thoroughly, in a quarter of a minute. The functions that
are called are builtins: a process has to import nothing for them.
"""

import argparse
import dataclasses
import importlib.util
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import atoll
from atoll._pool.inner import processors

from .arguments import add_parser
from .measure import (
    FULL,
    QUICK,
    Effort,
    Measure,
    Result,
    Side,
    alternate,
    compare_sides,
    describe_machine,
    print_result,
)

_DESCRIPTION = """\
Measure on this machine what calls, queues and pools of interpreters take, and the same with processes and, from
Python 3.14 on, with the standard library's interpreters. Both sides take turns, so that a busy machine slows down both;
the ratio says how many times better Atoll is.
"""
_EPILOG = """\
examples:
  python -m atoll bench
  python -m atoll bench --quick --json
"""
PROCESSES = "processes"
STDLIB = "concurrent.interpreters"
_HAS_STDLIB = sys.version_info >= (3, 14) and importlib.util.find_spec(STDLIB) is not None
_OUTSTANDING = 1000
_WORK = range(60_000)  # a millisecond's or two
_BYTES = 16 << 20


def add_command(commands: Any) -> None:
    """Add this command to a parser's subparsers."""
    parser = add_parser(
        commands,
        "bench",
        main,
        help="compare with processes on this machine",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("--quick", action="store_true", help="measure roughly, in some seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def main(options: argparse.Namespace) -> int:
    """Measure, print, return the exit status."""
    machine = describe_machine()
    if not options.json:
        print(
            f"atoll {atoll.__version__}, Python {machine['python']}, {machine['cpu']}, {machine['cores']} cores"
        )
        if float(machine["load"]) > 0.5:
            print(f"The machine is busy (load {machine['load']}): the times are too long, the ratios rough")
        print(f"\n{'':<46}{'atoll':>10}{'other':>10}{'ratio':>9}", flush=True)
    results = []
    with _bare_main():
        for result in measure_all(QUICK if options.quick else FULL):
            results.append(result)
            if not options.json:
                print_result(result)
    if options.json:
        document = {
            "atoll": atoll.__version__,
            "machine": machine,
            "results": [dataclasses.asdict(one) for one in results],
        }
        print(json.dumps(document, indent=2))
    return 0


@contextmanager
def _bare_main() -> Iterator[None]:
    """Have an empty ``__main__``: a process would import this program's, and so Atoll, for nothing."""
    own = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = own


def measure_all(effort: Effort) -> Iterator[Result]:
    """Yield a result for each question."""
    yield from _calls(effort)
    yield from _queues(effort)
    yield from _starts(effort)
    yield from _pools(effort)


def _result(name: str, title: str, sides: dict[str, Measure]) -> Result:
    """Return the result, compared with its last side."""
    result = Result(name, title, sides)
    result.compare(list(sides)[-1])
    return result


def _processes(workers: int) -> futures.Executor:
    return futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("forkserver"))


def _kinds() -> dict[str, Callable[[int], futures.Executor]]:
    """Return what makes a pool of so many workers, for each kind of pool."""
    kinds: dict[str, Callable[[int], futures.Executor]] = {
        "atoll": partial(atoll.InterpreterPoolExecutor, use_spares=False)
    }
    if _HAS_STDLIB:
        pools = importlib.import_module("concurrent.futures.interpreter")
        kinds["InterpreterPoolExecutor"] = pools.InterpreterPoolExecutor
    kinds[PROCESSES] = _processes
    return kinds


def _calls(effort: Effort) -> Iterator[Result]:
    with atoll.create() as interp, _processes(1) as pool:
        sides = {"atoll": Side("interp.call(abs, -1)", {"interp": interp})}
        if _HAS_STDLIB:
            theirs = importlib.import_module(STDLIB).create()
            sides[STDLIB] = Side("interp.call(abs, -1)", {"interp": theirs})
        sides[PROCESSES] = Side("pool.submit(abs, -1).result()", {"pool": pool})
        yield _result("call", "call of a function there", compare_sides(sides, effort))
        if _HAS_STDLIB:
            theirs.close()


def _queues(effort: Effort) -> Iterator[Result]:
    statement = "queue.put(1); queue.get()"
    sides = {"atoll": Side(statement, {"queue": atoll.create_queue()})}
    if _HAS_STDLIB:
        sides[STDLIB] = Side(statement, {"queue": importlib.import_module(STDLIB).create_queue()})
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    sides[PROCESSES] = Side(statement, {"queue": queue})
    yield _result("queue", "queue: put + get of an int", compare_sides(sides, effort))
    queue.close()


def _first_result(make: Callable[[int], futures.Executor]) -> float:
    began = time.perf_counter()
    with make(1) as pool:
        pool.submit(abs, -1).result()
        return time.perf_counter() - began


def _starts(effort: Effort) -> Iterator[Result]:
    sides = {name: partial(_first_result, make) for name, make in _kinds().items()}
    measures = alternate(sides, 3 if effort.quick else 15)
    yield _result("start", "pool: a new one's first result", measures)


def _burst(pool: futures.Executor) -> float:
    began = time.perf_counter()
    for future in [pool.submit(abs, -1) for _ in range(_OUTSTANDING)]:
        future.result()
    return _OUTSTANDING / (time.perf_counter() - began)


def _rate(pool: futures.Executor, tasks: int) -> float:
    began = time.perf_counter()
    for future in [pool.submit(sum, _WORK) for _ in range(tasks)]:
        future.result()
    return tasks / (time.perf_counter() - began)


def _serial_rate(tasks: int) -> float:
    began = time.perf_counter()
    for _ in range(tasks):
        sum(_WORK)
    return tasks / (time.perf_counter() - began)


def _pools(effort: Effort) -> Iterator[Result]:
    cores = processors()
    pools = {name: make(cores) for name, make in _kinds().items()}
    try:
        for pool in pools.values():
            _rate(pool, 8 * cores)  # they start when there is work
        one = {name: Side("pool.submit(abs, -1).result()", {"pool": pool}) for name, pool in pools.items()}
        yield _result("submit", "pool: submit to result", compare_sides(one, effort))
        rounds = 3 if effort.quick else 15
        burst = {name: partial(_burst, pool) for name, pool in pools.items()}
        yield _result("burst", f"pool: {_OUTSTANDING:,} tiny tasks at once", alternate(burst, rounds, "/s"))
        large = {
            name: Side("pool.submit(len, data).result()", {"pool": pool, "data": b"x" * _BYTES})
            for name, pool in pools.items()
        }
        yield _result("bytes", "pool: an argument of 16 MiB of bytes", compare_sides(large, effort))
        tasks = 32 * cores
        work: dict[str, Callable[[], float]] = {"atoll": partial(_rate, pools["atoll"], tasks)}
        work[PROCESSES] = partial(_rate, pools[PROCESSES], tasks)
        work["one core"] = partial(_serial_rate, tasks)
        yield _result("cores", "pool: computing on all cores", alternate(work, rounds, "/s"))
    finally:
        for pool in pools.values():
            pool.shutdown(cancel_futures=True)
