"""What ``python -m atoll top`` shows: rates between two looks at a process, as lines of styled text.

A look is what ``atoll.stats(pid)`` says, and the innermost function of each interpreter where memory may be read.
"""

import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from atoll._interp.remote import Frame, Process, UnreadableError
from atoll._stats.page import stats

# How a piece of text looks; a terminal has its colours for them.
PLAIN, TITLE, GOOD, BUSY, BAD, FAINT = "plain", "title", "good", "busy", "bad", "faint"
STYLES = {"running": GOOD, "calling": BUSY, "blocked": FAINT, "idle": FAINT, "closing": BAD, "zombie": BAD}
SORTS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "c": ("cpu", lambda row: -row["cpu"]),
    "m": ("memory", lambda row: -(row["allocated"] or 0)),
    "n": ("calls", lambda row: -row["calls"] - row["tasks"]),
    "i": ("id", lambda row: row["id"]),
}
WIDEST_NAME = 24
NARROW, NARROWER = 120, 100  # columns, below which what was sent and got is left out, and names are shorter
Line = list[tuple[str, str]]  # pieces of text with their styles


@dataclass
class Look:
    """What a process did at a moment; `why` says why no functions are there."""

    stats: dict[str, Any]
    at: float
    frames: dict[int, Frame] = field(default_factory=dict)
    seconds: dict[int, dict[int, float]] = field(default_factory=dict)  # processor time of threads inside
    why: str = ""


def look(pid: int) -> Look:
    """Look at a process.  Raises LookupError (ProcessLookupError when it has ended) and PermissionError, as stats()."""
    found = Look(stats(pid), time.monotonic())
    try:
        with Process(pid) as process:
            threads = process.threads(most=1)
    except UnreadableError as error:
        found.why = str(error)
        return found
    for thread in threads:
        known = thread.interpreter in found.frames
        if not known or _is_running(pid, thread.thread):
            found.frames[thread.interpreter] = thread.frames[0]
        seconds = _thread_seconds(pid, thread.thread)
        if seconds is not None:
            found.seconds.setdefault(thread.interpreter, {})[thread.thread] = seconds
    return found


def _thread_seconds(pid: int, thread: int) -> float | None:
    try:
        with open(f"/proc/{pid}/task/{thread}/schedstat", "rb") as file:
            return int(file.read().split()[0]) * 1e-9
    except (OSError, ValueError, IndexError):
        return None


def _is_running(pid: int, thread: int) -> bool:
    try:
        with open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:
            return file.read().rsplit(b")", 1)[1].split()[0] == b"R"
    except (OSError, IndexError):
        return False


def rates(before: Look, after: Look) -> dict[str, Any]:
    """Return what happened between two looks, as JSON has it: rates per second, shares of a processor's time."""
    seconds = max(after.at - before.at, 1e-9)

    def per_second(kind: str, row: dict[str, Any], *names: str) -> dict[str, float]:
        old = {one["id"]: one for one in before.stats[kind]}.get(row["id"], {})
        return {name: max(row[name] - old.get(name, 0), 0) / seconds for name in names}

    interpreters = []
    for row in after.stats["interpreters"]:
        frame = after.frames.get(row["id"])
        interpreters.append(
            {
                **{
                    name: row[name]
                    for name in ("id", "name", "state", "blocked_on", "allocated", "modules", "clones")
                },
                **per_second("interpreters", row, "cpu", "gil_wait", "calls", "tasks", "sent", "received"),
                "frame": frame._asdict() if frame is not None else None,
            }
        )
    process = after.stats["process"]
    cpu = max(process["cpu"] - before.stats["process"]["cpu"], 0) / seconds
    _add_running(before, after, seconds, interpreters, cpu)
    pools = [
        {
            **{
                name: row[name]
                for name in ("id", "name", "workers", "max_workers", "queued", "running", "failed")
            },
            "restarts": row["restarts"],
            **per_second("pools", row, "done"),
            "mean_wait": row["wait"] / max(sum(row["wait_times"]), 1),
            "mean_run": row["run"] / max(row["done"], 1),
        }
        for row in after.stats["pools"]
    ]
    queues = [
        {
            **{name: row[name] for name in ("id", "length", "maxsize", "getters", "putters", "shut_down")},
            **per_second("queues", row, "put", "got", "get_wait", "put_wait"),
        }
        for row in after.stats["queues"]
    ]
    return {
        "process": {**{name: process[name] for name in ("pid", "memory", "threads")}, "cpu": cpu},
        "interpreters": interpreters,
        "pools": pools,
        "queues": queues,
        "note": after.why,
    }


def _add_running(
    before: Look, after: Look, seconds: float, interpreters: list[dict[str, Any]], total: float
) -> None:
    """Count processor time of calls that have not ended: what the same threads have had since; main has the rest."""
    inside = [thread for number, threads in after.seconds.items() if number != 0 for thread in threads]
    others = 0.0
    for row in interpreters:
        if row["id"] == 0:
            continue
        then, now = (one.seconds.get(row["id"], {}) for one in (before, after))
        # One that is in two of them has called one from the other: it is not known when.
        same = [thread for thread in now if thread in then and inside.count(thread) == 1]
        row["cpu"] = max(row["cpu"], sum(now[thread] - then[thread] for thread in same) / seconds)
        others += row["cpu"]
    for row in interpreters:
        if row["id"] == 0:
            row["cpu"] = max(total - others, 0.0)


# ------------------------------------------------------------------------------------------------
# As text
# ------------------------------------------------------------------------------------------------


def lines(data: dict[str, Any], sort: str = "c", columns: int | None = None) -> list[Line]:
    """Return what is shown of it, interpreters sorted by the key of SORTS.

    Where there are fewer columns than it takes, names and rates that are wanted least make room for the functions.
    """
    columns = sys.maxsize if columns is None else columns
    shown = [_title(data, columns), [], *_interpreters(data, sort, columns)]
    if data["pools"]:
        shown += [[], *_pools(data, columns)]
    if data["queues"]:
        shown += [[], *_queues(data)]
    shown = [_cut(line, columns) for line in shown]
    if data["note"]:
        note = f"no functions: {data['note']}"
        shown += [[], *([(line, FAINT)] for line in textwrap.wrap(note, max(min(columns, 1000), 20)))]
    return shown


def _cut(line: Line, columns: int) -> Line:
    """Return a line that takes no more columns than there are."""
    kept: Line = []
    for text, style in line:
        kept.append((text if len(text) <= columns else f"{text[: columns - 1]}\u2026"[:columns], style))
        columns = max(columns - len(text), 0)
    return kept


def _title(data: dict[str, Any], columns: int) -> Line:
    process = data["process"]
    text = (
        f"  pid {process['pid']}, {process['cpu']:.0%} cpu, {size(process['memory'])},"
        f" {process['threads']} threads, {len(data['interpreters'])} interpreters"
    )
    return [(short(_command(process["pid"]), max(columns - len(text), 16)), TITLE), (text, PLAIN)]


def _interpreters(data: dict[str, Any], sort: str, columns: int) -> Iterator[Line]:
    wide = columns >= NARROW
    most = WIDEST_NAME if columns >= NARROWER else WIDEST_NAME // 2
    width = min(max(4, *(len(row["name"] or "") for row in data["interpreters"])), most)
    more = f" {'SENT':>7} {'GOT':>7}" if wide else ""
    yield [(f"{'ID':>4} {'NAME':<{width}} {'STATE':<8} {'CPU':>5} {'GIL':>5} {'CALLS':>7} {'TASKS':>7}{more}"
            f" {'MEMORY':>8}  FUNCTION", TITLE)]  # fmt: skip
    for row in sorted(data["interpreters"], key=SORTS[sort][1]):
        state = row["state"]
        more = f" {rate(row['sent']):>7} {rate(row['received']):>7}" if wide else ""
        yield [
            (f"{row['id']:>4} {short(row['name'] or '', width):<{width}} ", PLAIN),
            (f"{state:<8}", STYLES.get(state, PLAIN)),
            (f" {row['cpu']:>5.0%}", BUSY if row["cpu"] > 0.5 else PLAIN),
            (f" {row['gil_wait']:>5.0%}", BAD if row["gil_wait"] > 0.5 else PLAIN),
            (
                f" {rate(row['calls']):>7} {rate(row['tasks']):>7}{more} {size(row['allocated']):>8}  {_place(row)}",
                PLAIN,
            ),
        ]


def _pools(data: dict[str, Any], columns: int) -> Iterator[Line]:
    width = 17 if columns >= NARROWER else 11
    yield [(f"{'POOL':<{width}} {'WORKERS':>9} {'QUEUED':>7} {'RUNNING':>7} {'DONE':>7} {'FAILED':>7}"
            f" {'RESTARTS':>8} {'WAIT':>8} {'RUN':>8}", TITLE)]  # fmt: skip
    for row in data["pools"]:
        workers = f"{row['workers']}/{row['max_workers']}"
        name = short(row["name"] or str(row["id"]), width)
        yield [
            (f"{name:<{width}} {workers:>9} {row['queued']:>7} {row['running']:>7}", PLAIN),
            (f" {rate(row['done']):>7}", PLAIN),
            (f" {row['failed']:>7}", BAD if row["failed"] else PLAIN),
            (f" {row['restarts']:>8}", BAD if row["restarts"] else PLAIN),
            (f" {duration(row['mean_wait']):>8} {duration(row['mean_run']):>8}", PLAIN),
        ]


def _queues(data: dict[str, Any]) -> Iterator[Line]:
    title = (
        f"{'QUEUE':>5} {'LENGTH':>9} {'MAX':>7} {'PUT':>7} {'GOT':>7} {'GETTERS':>7} {'PUTTERS':>7}  STATE"
    )
    yield [(title, TITLE)]
    for row in data["queues"]:
        yield [
            (f"{row['id']:>5} {row['length']:>9,} {row['maxsize'] or '-':>7}", PLAIN),
            (f" {rate(row['put']):>7} {rate(row['got']):>7}", PLAIN),
            (f" {row['getters'] or '-':>7} {row['putters'] or '-':>7}", PLAIN),
            ("  shut down" if row["shut_down"] else "", FAINT),
        ]


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").decode(errors="replace").split("\0")
    except OSError:
        return "(ended)"
    return _printable(" ".join([os.path.basename(words[0]), *words[1:]])[:60].replace("\n", " "))


def _place(row: dict[str, Any]) -> str:
    frame = row["frame"]
    place = f"{frame['function']} {os.path.basename(frame['file'])}:{frame['line']}" if frame else ""
    place = _printable(place)
    return (
        f"{place} ({row['blocked_on']})" if row["blocked_on"] and place else place or row["blocked_on"] or ""
    )


def _printable(text: str) -> str:
    """Return text without what would move a terminal's cursor, or is no character of its own."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def short(text: str, width: int) -> str:
    """Return text with so many characters at most, its end among them: what tells workers apart is there."""
    text = _printable(text)
    if len(text) <= width:
        return text
    end = width // 3
    return f"{text[: width - end - 1]}\u2026{text[-end:]}"


def size(number: float | None) -> str:
    """Return bytes in a few characters; None: it is not known how many."""
    if number is None:
        return "-"
    for unit in ("B", "K", "M"):
        if number < 1000:
            return f"{number:.0f}{unit}" if unit == "B" or number >= 10 else f"{number:.1f}{unit}"
        number /= 1024
    return f"{number:.1f}G"


def rate(number: float) -> str:
    """Return how many per second in a few characters."""
    if number == 0:
        return "-"
    for unit in ("", "k", "M"):
        if number < 999.5:
            return f"{number:.1f}{unit}" if number < 9.95 else f"{number:.0f}{unit}"
        number /= 1000
    return f"{number:.1f}G"


def duration(seconds: float) -> str:
    """Return seconds in a few characters."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g}{unit}"
    return f"{seconds / 1e-6:.0f}us" if seconds else "-"
