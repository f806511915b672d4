"""Reads the page in which a process keeps what its interpreters, pools and queues have done.

src/core/stats/stats.h says what is in it. Reading stops nobody; the process may be this one or another one of the same
user's.
"""

import mmap
import os
import sys

from atoll import _atoll

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAGIC = b"ATOLLST\0"
VERSION = 2
FILE = "/memfd:atoll-stats"
U64 = 8

# The words of a slot, by their place.
INTERP = {"seq": 0, "id": 1, "born": 2, "life": 3, "kind": 4, "name": 5, "words": 16}
INTERP_WORDS = (
    "runners",
    "calls",
    "raised",
    "tasks",
    "called",
    "outside",
    "sent",
    "received",
    "sent_bytes",
    "received_bytes",
    "run_ns",
    "task_ns",
    "cpu_ns",
    "gil_waits",
    "gil_ticks",
    "blocked",
    "blocked_on",
    "blocked_id",
    "waits",
    "wait_ticks",
    "now_thread",
    "now_ns",
    "now_cpu_ns",
    "modules",
    "clones",
    "clone_bytes",
    "arena_bytes",
    "large_bytes",
    "limit_bytes",
    "cpu_limit_ns",
)
QUEUE = {
    "seq": 0,
    "id": 1,
    "maxsize": 2,
    "shut": 3,
    "waits": 4,
    "wait_ticks": 6,
    "puts": 8,
    "putters": 9,
    "gets": 16,
    "getters": 17,
}
POOL_WORDS = (
    "max_workers",
    "workers",
    "started",
    "done",
    "failed",
    "late",
    "calls",
    "cancelled",
    "lost",
    "restarts",
    "wait_ns",
    "run_ns",
)
POOL = {"seq": 0, "id": 1, "name": 2, "words": 10, "submitted": 24, "waited": 32, "ran": 48}
NAME_WORDS = 8
BUCKETS = tuple(4**i * 1e-6 for i in range(15))  # the longest time of each but the last, in seconds
OWNED, POOLED = 1, 2

LIVES = ("spare", "open", "closing", "closing", "closing", "zombie", "ended", "left")
OPEN = 1
WAITS_FOR = (
    None,
    "an item of queue {}",
    "room in queue {}",
    "one of several queues",
    "a lock",
    "a condition",
    "an event",
    "a barrier",
    "a future",
    "a pool",
    "a task",
    "the end of what was submitted",
    "a function that another thread receives",
)


class Page:
    """The page of a process."""

    def __init__(self, pid: int | None = None) -> None:
        """Find the page of this process, or of another one."""
        self.pid = os.getpid() if pid is None else pid
        self.bytes = memoryview(_atoll._stats_page() if self.pid == os.getpid() else _open(self.pid))
        self.words = self.bytes.cast("Q")
        self.numbers = self.bytes.cast("I")  # each is half a word
        if bytes(self.bytes[:8]) != MAGIC:
            raise LookupError(f"process {self.pid} is just beginning to use Atoll")
        if self.numbers[2] != VERSION:
            raise LookupError(
                f"process {self.pid} uses another version of Atoll: its statistics have format {self.numbers[2]}, "
                f"this one reads {VERSION}"
            )
        self.ticks, self.ns = _atoll._ticks()
        # What lies behind the four kinds' numbers, which are 4 words of 32 bits each.
        ticks, ns = self.words[9], self.words[10]
        self.tick_ns = (self.ns - ns) / max(self.ticks - ticks, 1)

    def slots(self, kind: int) -> "Iterator[int]":
        """Yield where the slots of a kind begin that are in use, in words."""
        at, size, most, used = self.numbers[4 + 4 * kind : 8 + 4 * kind]
        for slot in range(min(used, most)):
            yield (at + slot * size) // U64

    def stable(self, at: int, end: int) -> list[int] | None:
        """Return the words of a slot up to `end`, which are one thing's; None when it is free, or has ended."""
        return _atoll._stats_slot(self.bytes, at, end)

    def interpreters(self) -> "Iterator[tuple[list[int], dict[str, int]]]":
        """Yield who each interpreter is, and its words."""
        for at in self.slots(0):
            first = INTERP["words"]
            found = self.stable(at, first + len(INTERP_WORDS))
            if found is not None:
                yield found[:first], dict(zip(INTERP_WORDS, found[first:], strict=True))

    def past(self) -> dict[str, int]:
        """Return what interpreters that have ended had counted."""
        first = 13
        return dict(zip(INTERP_WORDS, self.words[first : first + len(INTERP_WORDS)].tolist(), strict=True))


def _open(pid: int) -> mmap.mmap:
    """Map the page of another process."""
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except FileNotFoundError:
        raise ProcessLookupError(f"there is no process {pid}") from None
    for number in numbers:
        path = f"{folder}/{number}"
        try:
            if not os.readlink(path).startswith(FILE):
                continue
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue  # closed meanwhile
        try:
            return mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
    raise LookupError(
        f"process {pid} has no statistics of Atoll's: it does not use Atoll, or has closed their file"
    )


def _name(words: list[int]) -> str | None:
    """Return the name that is in these words."""
    text = b"".join(word.to_bytes(U64, sys.byteorder) for word in words).split(b"\0", 1)[0]
    return text.decode("utf-8", "replace") or None


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _count(word: int) -> int:
    """Return how many there are now: a word that is counted up and down, and in a forked child may be below 0."""
    return max(_signed(word), 0)


def _thread_cpu(pid: int, thread: int) -> int | None:
    """Return the ns of processor time that a thread has had, None when it has gone."""
    try:
        with open(f"/proc/{pid}/task/{thread}/schedstat", "rb") as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _state(who: list[int], words: dict[str, int]) -> tuple[str, str | None]:
    """Return what an interpreter does, and what it waits for."""
    life = who[INTERP["life"]]
    if life != OPEN:
        return LIVES[life] if life < len(LIVES) else "unknown", None
    inside, outside, blocked = (_count(words[name]) for name in ("runners", "outside", "blocked"))
    if blocked > 0 and blocked >= inside:
        kind = words["blocked_on"]
        what = WAITS_FOR[kind] if kind < len(WAITS_FOR) else "something"
        return "blocked", what.format(words["blocked_id"]) if what else None
    if outside > 0 and outside >= inside:
        return "calling", None
    if inside > 0:
        return "running", None
    return "running" if not who[INTERP["kind"]] & OWNED else "idle", None


def _times(page: Page, words: dict[str, int]) -> tuple[float, float]:
    """Return the seconds that an interpreter has run, and of processor time for it, what runs now included."""
    running = words["run_ns"] + words["task_ns"]
    cpu = words["cpu_ns"]
    thread = words["now_thread"]
    if thread:
        elapsed = (
            max(page.ns - words["now_ns"], 0) if words["now_ns"] else None
        )  # None: a worker's tasks are counted
        running += elapsed or 0
        now = _thread_cpu(page.pid, thread)
        if now is not None:
            more = max(now - words["now_cpu_ns"], 0)
            cpu += more if elapsed is None else min(more, elapsed)
    return running * 1e-9, cpu * 1e-9


def _interpreter(page: Page, who: list[int], words: dict[str, int]) -> "dict[str, Any]":
    state, blocked_on = _state(who, words)
    running, cpu = _times(page, words)
    return {
        "id": _signed(who[INTERP["id"]]),
        "name": _name(who[INTERP["name"] : INTERP["name"] + NAME_WORDS]),
        "state": state,
        "blocked_on": blocked_on,
        "owned": bool(who[INTERP["kind"]] & OWNED),
        "pooled": bool(who[INTERP["kind"]] & POOLED),
        "age": max(page.ns - who[INTERP["born"]], 0) * 1e-9,
        "running": running,
        "cpu": cpu,
        "blocked": words["wait_ticks"] * page.tick_ns * 1e-9,
        "waits": words["waits"],
        "gil_wait": words["gil_ticks"] * page.tick_ns * 1e-9,
        "gil_waits": words["gil_waits"],
        "inside": _count(words["runners"]),
        "outside": _count(words["outside"]),
        "thread": words["now_thread"] or None,
        **{
            name: words[name]
            for name in (
                "calls",
                "raised",
                "tasks",
                "called",
                "sent",
                "received",
                "sent_bytes",
                "received_bytes",
            )
        },
        "allocated": words["arena_bytes"] + words["large_bytes"] or None,
        "memory_limit": words["limit_bytes"] or None,
        "cpu_limit": words["cpu_limit_ns"] / 1e9 or None,
        "modules": words["modules"],
        "clones": words["clones"],
        "clone_bytes": words["clone_bytes"],
    }


def _queues(page: Page) -> "Iterator[dict[str, Any]]":
    for at in page.slots(1):
        who = page.stable(at, QUEUE["getters"] + 1)
        if who is None:
            continue
        put, got = who[QUEUE["puts"]], who[QUEUE["gets"]]
        seconds = page.tick_ns * 1e-9
        yield {
            "id": who[QUEUE["id"]],
            "length": max(put - got, 0),
            "maxsize": who[QUEUE["maxsize"]],
            "shut_down": bool(who[QUEUE["shut"]]),
            "put": put,
            "got": got,
            "getters": _count(who[QUEUE["getters"]]),
            "putters": _count(who[QUEUE["putters"]]),
            "get_waits": who[QUEUE["waits"]],
            "get_wait": who[QUEUE["wait_ticks"]] * seconds,
            "put_waits": who[QUEUE["waits"] + 1],
            "put_wait": who[QUEUE["wait_ticks"] + 1] * seconds,
        }


def _pools(page: Page) -> "Iterator[dict[str, Any]]":
    for at in page.slots(2):
        times = len(BUCKETS) + 1
        who = page.stable(at, POOL["ran"] + times)
        if who is None:
            continue
        words = dict(zip(POOL_WORDS, who[POOL["words"] :], strict=False))
        words["submitted"] = who[POOL["submitted"]]
        waited, ran = (who[POOL[name] : POOL[name] + times] for name in ("waited", "ran"))
        ended = words["done"] + words["lost"]
        yield {
            "id": who[POOL["id"]],
            "name": _name(who[POOL["name"] : POOL["name"] + NAME_WORDS]),
            "max_workers": words["max_workers"],
            "workers": _count(words["workers"]),
            "queued": max(words["submitted"] - words["started"] - words["cancelled"], 0),
            "running": max(words["started"] - ended, 0),
            **{
                name: words[name]
                for name in ("submitted", "done", "calls", "failed", "late", "cancelled", "lost", "restarts")
            },
            "wait": words["wait_ns"] * 1e-9,
            "run": words["run_ns"] * 1e-9,
            "wait_times": waited,
            "run_times": ran,
        }


def _process(page: Page, interpreters: "list[dict[str, Any]]") -> "dict[str, Any]":
    """Return what the system knows of the process; main's processor time is what is left of it."""
    with open(f"/proc/{page.pid}/stat", "rb") as file:
        fields = file.read().rsplit(b")", 1)[1].split()
    tick = os.sysconf("SC_CLK_TCK")
    cpu = (int(fields[11]) + int(fields[12])) / tick
    past = page.past()
    past_cpu = past["cpu_ns"] * 1e-9
    for interp in interpreters:
        if interp["id"] == 0:
            others = sum(other["cpu"] for other in interpreters if other["id"] != 0)
            interp["cpu"] = max(cpu - others - past_cpu, 0.0)
    return {
        "pid": page.pid,
        "cpu": cpu,
        "memory": int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        "threads": int(fields[17]),
        "created": page.words[11],
        "closed": page.words[12],
        "past": {name: past[name] for name in ("calls", "raised", "tasks", "called", "sent", "received")},
    }


def stats(pid: int | None = None) -> "dict[str, Any]":
    """Return what this process is doing, or another one of the same user's, by its process id.

    ``process``: its id, processor time, memory. ``interpreters``, ``queues`` and ``pools``: lists of dicts, as
    docs/watching.md describes them. Times are in seconds, sizes in bytes. Stops nothing and waits for nothing.

    Raises ProcessLookupError when there is no such process, PermissionError when it is not to be looked at, LookupError
    when it does not use Atoll.
    """
    page = Page(pid)
    interpreters = [_interpreter(page, who, words) for who, words in page.interpreters()]
    interpreters = [interp for interp in interpreters if interp["state"] not in ("ended", "left")]
    interpreters.sort(key=lambda interp: interp["id"])
    return {
        "process": _process(page, interpreters),
        "interpreters": interpreters,
        "queues": sorted(_queues(page), key=lambda queue: queue["id"]),
        "pools": sorted(_pools(page), key=lambda pool: pool["id"]),
    }


def stats_of(interp: "_atoll.Interpreter") -> "dict[str, Any]":
    """Return what is counted of one interpreter."""
    page = Page()
    for who, words in page.interpreters():
        if who[INTERP["id"]] == interp.id and interp.id != 0:
            return _interpreter(page, who, words)
    if interp.id == 0:  # whose processor time is what the others have left
        main: dict[str, Any] = stats()["interpreters"][0]
        return main
    raise _atoll.InterpreterNotFoundError(f"unrecognized interpreter ID {interp.id}")


stats.__module__ = "atoll"
