"""Calls into an interpreter: on the main thread, on another, and in a process full of mappings."""

import mmap
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import stdlib_side
import targets
from harness import Effort, Goal, Result, Side, compare_sides, format_value

import atoll

# The figures to reach: on these two versions the other side does the same thing
SAME_API = sys.version_info >= (3, 14)
MOST_SECONDS = 1.5e-6 if SAME_API else 2e-6
TIMES_ON_MAIN = 100
TIMES_ON_OTHERS = 8
TIMES_WITH_RECORD = 30
GROWTH_ALLOWED = 1.25  # what the clock of a shared machine makes of "none"
MAPPINGS = 3000

Sides = dict[str, Side]


@contextmanager
def both_sides() -> Iterator[dict[str, Sides]]:
    """Create an interpreter of each side and yield the statements to time, by subject."""
    ours = atoll.create()
    theirs = stdlib_side.Interpreter()
    ours.exec(stdlib_side.PREPARE)
    expected = targets.ten_of(targets.RECORD)
    assert ours.call(targets.ten_of, targets.RECORD) == theirs.call_record() == expected
    names: dict[str, Any] = {
        "interp": ours,
        "noop": targets.noop,
        "ten_of": targets.ten_of,
        "record": targets.RECORD,
    }
    try:
        yield {
            "exec.pass": {
                "atoll": Side("interp.exec('pass')", names),
                stdlib_side.MODULE: Side("call()", {"call": theirs.exec_pass}),
            },
            "call.noop": {
                "atoll": Side("interp.call(noop)", names),
                stdlib_side.MODULE: Side("call()", {"call": theirs.call_noop}),
            },
            "call.record": {
                "atoll": Side("interp.call(ten_of, record)", names),
                stdlib_side.MODULE: Side("call()", {"call": theirs.call_record}),
            },
        }
    finally:
        theirs.close()
        ours.close()


TITLES = {
    "exec.pass": "exec('pass')",
    "call.noop": "call(noop)",
    "call.record": "call(f, dict of 10) -> list of 10",
}
NOTES = {
    "exec.pass": "",
    "call.noop": stdlib_side.NOTE_NOOP,
    "call.record": stdlib_side.NOTE_CALL,
}


def measure_calls(effort: Effort, place: str, where: str, times: float) -> list[Result]:
    """Measure the three calls on the thread that calls this."""
    results = []
    with both_sides() as subjects:
        for name, sides in subjects.items():
            result = Result(
                name=f"{name}.{place}",
                title=f"{TITLES[name]}, {where}",
                sides=compare_sides(sides, effort),
                note=NOTES[name],
            )
            result.compare(stdlib_side.MODULE)
            if name == "call.record":
                if SAME_API and place == "main":
                    result.at_least(TIMES_WITH_RECORD)
            else:
                if SAME_API:
                    result.at_least(times)
                if SAME_API or name == "call.noop":
                    result.at_most(MOST_SECONDS)
            results.append(result)
    return results


def on_main_thread(effort: Effort) -> list[Result]:
    """Measure on the process's main thread, where CPython 3.14+ asks for the stack's limits."""
    return measure_calls(effort, "main", "main thread", TIMES_ON_MAIN)


def on_other_thread(effort: Effort) -> list[Result]:
    """Measure on a thread that is not the main one."""
    results: list[Result] = []

    def measure() -> None:
        results.extend(measure_calls(effort, "thread", "other thread", TIMES_ON_OTHERS))

    thread = threading.Thread(target=measure)
    thread.start()
    thread.join()
    if not results:
        raise RuntimeError("the measuring thread has failed: see its traceback")
    return results


@contextmanager
def many_mappings() -> Iterator[None]:
    """Map 3,000 pages that the kernel cannot merge: their protections alternate."""
    protections = (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    maps = [mmap.mmap(-1, mmap.PAGESIZE, flags=flags, prot=protections[i % 2]) for i in range(MAPPINGS)]
    try:
        yield
    finally:
        for mapping in maps:
            mapping.close()


def with_mappings(effort: Effort) -> list[Result]:
    """Measure with thousands of mappings in the process and without them, in one go."""
    results = []
    with both_sides() as subjects:
        for name in ("exec.pass", "call.noop"):
            sides = subjects[name]
            measures = compare_sides(
                {side: replace(how, around=many_mappings) for side, how in sides.items()}
                | {f"{side} without": how for side, how in sides.items()},
                effort,
            )
            result = Result(
                name=f"{name}.mappings",
                title=f"{TITLES[name]}, main thread, {MAPPINGS:,} more mappings",
                sides=measures,
                note=NOTES[name],
            )
            result.compare(stdlib_side.MODULE)
            before = measures["atoll without"].median
            growth = measures["atoll"].median / before
            text = f"no growth (is {growth:.2f}x of {format_value(before, 's')})"
            result.goals.append(Goal(text, growth <= GROWTH_ALLOWED))
            results.append(result)
    return results


SUBJECTS: dict[str, Callable[[Effort], list[Result]]] = {
    "calls.main": on_main_thread,
    "calls.thread": on_other_thread,
    "calls.mappings": with_mappings,
}
