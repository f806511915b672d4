"""Ctrl-C wherever CPython looks for it in map()'s code: who goes on gets every result, once, and the error."""

from __future__ import annotations

import dis
import functools
import itertools
import sys
import threading
import types
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import atoll
from atoll._pool import chunks
from atoll._pool import map as atoll_map
from helpers import identity, run_python

TOOL = 3
COUNT = 24


def codes_of(thing):
    """Yield the code of what a class or a function consists of."""
    if isinstance(thing, type):
        for part in vars(thing).values():
            yield from codes_of(getattr(part, "fget", part))
    elif isinstance(thing, types.FunctionType):
        yield from codes_of(thing.__code__)
    elif isinstance(thing, types.CodeType):
        yield thing
        for constant in thing.co_consts:
            yield from codes_of(constant)


class Interrupter:
    """Raises KeyboardInterrupt at a place: where a function starts, jumps back or has called one of C's."""

    def __init__(self):
        self.number = None
        self.seen = 0
        self.thread = threading.current_thread()
        here = [
            thing
            for module in (atoll_map, chunks)
            for thing in vars(module).values()
            if getattr(thing, "__module__", "") == module.__name__
        ]
        self.codes = [code for thing in here for code in codes_of(thing)]

    def __enter__(self):
        events = sys.monitoring.events
        sys.monitoring.use_tool_id(TOOL, "interrupter")
        for event, callback in (
            (events.PY_START, self.look),
            (events.C_RETURN, self.returned),
            (events.JUMP, lambda code, at, to: self.look() if to < at else None),
        ):
            sys.monitoring.register_callback(TOOL, event, callback)
        for code in self.codes:
            sys.monitoring.set_local_events(TOOL, code, events.PY_START | events.CALL | events.JUMP)
        return self

    def __exit__(self, *details):
        for code in self.codes:
            sys.monitoring.set_local_events(TOOL, code, 0)
        sys.monitoring.free_tool_id(TOOL)

    def returned(self, code, at, function, _first):
        # Between the __enter__ of a lock and the body of its `with` nothing could be done about it; only CPython 3.14
        # looks there.
        if getattr(function, "__name__", "") != "__enter__":
            self.look()

    def look(self, *_details):
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_name != "__del__":  # what is raised there is lost
            frame = frame.f_back
        if threading.current_thread() is self.thread and frame is None:
            self.seen += 1
            if self.seen == self.number:
                raise KeyboardInterrupt


def fails_at_ten(number):
    return number if number != 10 else 1 // 0


def breaks_at_ten():
    yield from range(10)
    raise LookupError("broke")


def with_a_lock():
    yield from range(10)
    yield threading.Lock()
    yield from range(11, COUNT)


WAYS = {
    "chunks": lambda pool: pool.map(identity, iter(range(COUNT)), chunksize=5),
    "sized": lambda pool: pool.map(identity, range(COUNT)),
    "buffersize": lambda pool: pool.map(identity, iter(range(COUNT)), buffersize=7),
    "call fails": lambda pool: pool.map(fails_at_ten, iter(range(COUNT)), chunksize=4),
    "iterator breaks": lambda pool: pool.map(identity, breaks_at_ten(), chunksize=4),
    "item cannot be sent": lambda pool: pool.map(identity, with_a_lock(), chunksize=4),
}

ERRORS = {
    "call fails": ZeroDivisionError,
    "iterator breaks": LookupError,
    "item cannot be sent": atoll.NotShareableError,
}


def collect(results):
    """Go on after Ctrl-C; return the results, and the type of the error that ended them."""
    got = []
    while True:
        try:
            got.extend(results)  # keeps what came before
        except KeyboardInterrupt:
            continue
        except Exception as error:
            return got, type(error)
        return got, None


@pytest.mark.parametrize("way", WAYS)
def test_goes_on(way):
    expected = (list(range(COUNT if way not in ERRORS else 10)), ERRORS.get(way))
    wrong = []
    with atoll.InterpreterPoolExecutor(2) as pool:
        list(pool.map(identity, range(2)))
        number, seen = 1, 1
        while number <= seen:
            results = WAYS[way](pool)
            with Interrupter() as interrupter:
                interrupter.number = number
                got = collect(results)
            seen = interrupter.seen
            if got != expected:
                wrong.append((number, got))
            number += 1
    assert number > 50
    assert wrong == []


def wait_for_gate(gate, number):
    """Wait for an event when the number is 0."""
    if number == 0:
        gate.wait()


class TestPromises:
    """What was promised is not done after Ctrl-C."""

    def test_while_it_is_sent(self):
        sent = []

        class Item:
            def __init__(self, number):
                self.number = number

            def __reduce__(self):
                sent.append(self.number)
                if self.number == 20:
                    raise KeyboardInterrupt
                return int, (self.number,)

        gate = atoll.Event()
        pool = atoll.InterpreterPoolExecutor(1)
        results = pool.map(
            functools.partial(wait_for_gate, gate), [Item(number) for number in range(1_000)], chunksize=1
        )
        with pytest.raises(KeyboardInterrupt), pool:
            pass
        pool.shutdown()
        assert sent == list(range(21))
        with pytest.raises((KeyboardInterrupt, CancelledError)):
            next(results)  # of the call that was interrupted, if it had begun

    def test_that_nobody_has_caught(self):
        done = run_python("""
import atexit, time
import atoll
sent = []
atexit.register(lambda: print(len(sent) < 100))
class Item:
    def __reduce__(self):
        sent.append(self)
        return int, ()
pool = atoll.InterpreterPoolExecutor(1)
gate = atoll.Event()
pool.submit(gate.wait)
results = pool.map(abs, [Item() for _ in range(100)], chunksize=1)
raise KeyboardInterrupt
""")
        assert done.stdout == "True\n", done.stderr


def handlers(code, place):
    """Return where Ctrl-C leads to that comes at a place of code, and from there, and so on."""
    table = dis._parse_exception_table(code)
    found = set()
    todo = {place}
    while todo:
        at = todo.pop()
        todo |= {entry.target for entry in table if entry.start <= at < entry.end} - found
        found |= todo
    return found


def skips_an_end(code):
    """Yield the lines where a loop inside of a `with` jumps back, and its end is skipped by what is raised there."""
    steps = list(dis.get_instructions(code))
    ends = {step.offset for step, after in itertools.pairwise(steps) if after.opname == "WITH_EXCEPT_START"}
    begun = {entry.target: entry.start for entry in reversed(dis._parse_exception_table(code))}
    for step in steps:
        if step.opname == "JUMP_BACKWARD":
            around = {end for end in ends & handlers(code, step.argval) if begun[end] < step.argval}
            if not around <= handlers(code, step.offset):
                yield step.positions.lineno


def test_no_lock_stays_taken():
    """A lock that a `with` does not give back: its other threads wait for ever."""
    package = Path(atoll.__file__).parent
    found = [
        (str(path.relative_to(package)), code.co_qualname, line)
        for path in package.rglob("*.py")
        if path.parent.name != "cli"
        for code in codes_of(compile(path.read_text(), str(path), "exec"))
        for line in skips_an_end(code)
    ]
    assert found == []
