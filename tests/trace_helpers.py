"""Reading what traces have written, and what must be right in each of them."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

PHASES = {"X", "M", "s", "f"}

Event = dict[str, Any]


def read(path: str | os.PathLike[str]) -> list[Event]:
    """Return the events of a trace of which all must be right: rows have names, stretches of a row are nested."""
    events: list[Event] = json.loads(Path(path).read_text(encoding="utf-8"))["traceEvents"]
    assert {event["ph"] for event in events} <= PHASES
    processes = [e["pid"] for e in events if e["name"] == "process_name"]
    threads = [(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"]
    assert len(processes) == len(set(processes))
    assert len(threads) == len(set(threads))
    assert all(e["args"]["name"] for e in events if e["name"] in {"process_name", "thread_name"})
    assert all(pid > 0 and tid > 0 for pid, tid in threads)
    assert {e["pid"] for e in events} <= set(processes)
    assert {(e["pid"], e["tid"]) for e in events if e["ph"] != "M"} == set(threads)
    arrows = {phase: {e["id"] for e in events if e["ph"] == phase} for phase in "sf"}
    assert arrows["f"] <= arrows["s"]
    check_nesting(events)
    return events


def check_nesting(events: list[Event]) -> None:
    """Each stretch is inside of the one that is written before it, in its row, or after it."""
    stacks: dict[tuple[int, int], list[float]] = {}
    for event in events:
        if event["ph"] != "X":
            continue
        begin = round(event["ts"] * 1000)
        end = begin + round(event["dur"] * 1000)
        assert begin >= 0
        assert event["dur"] >= 0
        stack = stacks.setdefault((event["pid"], event["tid"]), [math.inf])
        while begin >= stack[-1] and len(stack) > 1 and begin != end:
            stack.pop()
        while begin > stack[-1]:
            stack.pop()
        assert end <= stack[-1], event
        stack.append(end)


def spans(path: str | os.PathLike[str]) -> list[Event]:
    """Return the events of a trace that have a duration."""
    return [event for event in read(path) if event["ph"] == "X"]


def tally(path: str | os.PathLike[str]) -> Counter[tuple[str, str]]:
    """Return how many of each kind and name there are."""
    return Counter((event["cat"], event["name"]) for event in spans(path))


def rows_of(path: str | os.PathLike[str], *, of: str) -> dict[int, str]:
    """Return the names of processes or threads by the processes' numbers."""
    return {e["pid"]: e["args"]["name"] for e in read(path) if e["name"] == of}
