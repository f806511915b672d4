"""What a trace costs: a call with it and without, and so each event that it notes."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import targets
from harness import Effort, Goal, Result, Side, compare_sides, format_value

import atoll

EVENTS = 6  # of a call: two for the call itself, encoding and decoding on both sides
MOST_SECONDS = 200e-9  # for each of them
ROOM = 20_000_000


@contextmanager
def traced() -> Iterator[None]:
    """Trace to a file that goes at once."""
    with tempfile.TemporaryDirectory() as folder, atoll.trace(Path(folder) / "trace.json", max_events=ROOM):
        yield


def event(effort: Effort) -> list[Result]:
    """Measure a call while a trace is on, and while none is."""
    with atoll.create() as interp:
        names: dict[str, Any] = {"interp": interp, "noop": targets.noop}
        side = Side("interp.call(noop)", names)
        sides = compare_sides({"atoll": replace(side, around=traced), "not traced": side}, effort)
    each = (sides["atoll"].median - sides["not traced"].median) / EVENTS
    text = f"at most {format_value(MOST_SECONDS, 's')} for each of its {EVENTS} events"
    result = Result("trace.event", "call(noop) while a trace is on", sides)
    result.compare("not traced")
    result.goals.append(Goal(f"{text} (is {format_value(max(each, 0.0), 's')})", each <= MOST_SECONDS))
    return [result]


SUBJECTS: dict[str, Callable[[Effort], list[Result]]] = {"trace.event": event}
