"""Locks, numbers and dicts that all interpreters share, against threading's, an attribute, and multiprocessing's."""

import threading
from collections.abc import Callable
from typing import Any

import targets
from harness import Effort, Result, Side, alternate, compare_sides
from subjects_scaling import process_context

import atoll


class Holder:
    """An object with an attribute to count in."""

    def __init__(self) -> None:
        self.value = 0


def lock(effort: Effort) -> list[Result]:
    """Taking and giving back what nobody else wants."""
    results = []
    pairs = (("Lock", atoll.Lock, threading.Lock), ("RLock", atoll.RLock, threading.RLock))
    for name, ours, theirs in pairs:
        result = Result(
            name=f"sync.{name.lower()}",
            title=f"with {name}: nobody else wants it",
            sides=compare_sides(
                {
                    "atoll": Side("with lock: pass", {"lock": ours()}),
                    "threading": Side("with lock: pass", {"lock": theirs()}),
                },
                effort,
            ),
        )
        result.compare("threading")
        result.at_least(1 / 1.5)
        results.append(result)
    return results


def number(effort: Effort) -> list[Result]:
    """AtomicInt.add(), beside what it replaces, which loses additions."""
    result = Result(
        name="sync.atomic",
        title="AtomicInt.add(1)",
        sides=compare_sides(
            {
                "atoll": Side("number.add(1)", {"number": atoll.AtomicInt()}),
                "attribute": Side("holder.value += 1", {"holder": Holder()}),
            },
            effort,
        ),
        note="attribute: holder.value += 1",
    )
    result.compare("attribute")
    result.at_least(1 / 1.5)
    return [result]


def contended(effort: Effort) -> list[Result]:
    """Two that take one lock all the time."""
    seconds = 0.05 if effort.quick else 0.3
    context = process_context()
    theirs, ready, answers = context.Lock(), context.Semaphore(0), context.SimpleQueue()
    commands = [context.SimpleQueue() for _ in range(2)]
    workers = [
        context.Process(target=targets.serve_holding, args=(theirs, ready, one, answers), daemon=True)
        for one in commands
    ]
    for worker in workers:
        worker.start()

    def processes() -> float:
        for one in commands:
            one.put(seconds)
        for _ in workers:
            ready.acquire()
        return float(sum(answers.get() for _ in workers)) / seconds

    ours = atoll.Lock()
    with atoll.InterpreterPoolExecutor(2) as pool:
        barrier = atoll.Barrier(2)

        def holding(*locks: atoll.Lock) -> float:
            done = [pool.submit(targets.hold, one, seconds, barrier) for one in locks]
            return float(sum(one.result() for one in done)) / seconds

        holding(ours, ours)
        sides: dict[str, Callable[[], float]] = {
            "atoll": lambda: holding(ours, ours),
            "multiprocessing": processes,
            "one each": lambda: holding(ours, atoll.Lock()),
            "alone": lambda: (
                float(pool.submit(targets.hold, ours, seconds, atoll.Barrier(1)).result()) / seconds
            ),
        }
        result = Result(
            name="sync.contended",
            title="taking a lock that another one wants all the time",
            sides=alternate(sides, 2 if effort.quick else 5, "/s"),
            note="by two at once, both counted; one each: a lock for each; alone: by one, as fast as Python is",
        )
    for one in commands:
        one.put(0)
    for worker in workers:
        worker.join()
    result.compare("multiprocessing")
    result.at_least(10)
    return [result]


def shared_dict(effort: Effort) -> list[Result]:
    """Looking up a short text."""
    shared = atoll.SharedDict()
    shared["key"] = "a short text"
    with process_context().Manager() as manager:
        theirs: Any = manager.dict(key="a short text")
        result = Result(
            name="shareddict.get",
            title="SharedDict.get() of a short str",
            sides=compare_sides(
                {
                    "atoll": Side("d.get('key')", {"d": shared}),
                    "Manager().dict()": Side("d.get('key')", {"d": theirs}),
                },
                effort,
            ),
        )
    result.compare("Manager().dict()")
    result.at_least(100)
    result.at_most(5e-7)
    return [result]


SUBJECTS = {
    "sync.lock": lock,
    "sync.atomic": number,
    "sync.contended": contended,
    "shareddict.get": shared_dict,
}
