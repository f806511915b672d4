"""Reads the page in which a process keeps what its interpreters, pools and queues have done.

src/core/stats/stats.h says what is in it. Reading stops nobody; the process may be this one or another one of the same
user's.
"""

import mmap
import os
import sys
import time

from atoll import _atoll

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAGIC = b"ATOLLST\0"
VERSION = 3
FILE = "/memfd:atoll-stats"
U64 = 8

# The words of a slot, by their place.
INTERP = {"seq": 0, "id": 1, "born": 2, "life": 3, "kind": 4, "name": 5, "turn": 13, "words": 16}
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
PAST, ENDING, ENDED = 13, 61, 62  # of the header
HEADER = 4096  # bytes: the slots begin behind it
SLOTS = (512, 192, 512)  # bytes of one of each kind
BUCKETS = tuple(4**i * 1e-6 for i in range(15))  # the longest time of each but the last, in seconds
OWNED, POOLED = 1, 2

LIVES = ("spare", "open", "closing", "closing", "closing", "zombie", "ended", "left")
OPEN = 1
CLOCK_MONOTONIC_COARSE = 6  # of Linux; the one that sessions are timed by
READS = 10  # then what is read together changes all the time
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
    "a semaphore",
    "an AtomicInt",
)


class Page:
    """The page of a process."""

    def __init__(self, pid: int | None = None) -> None:
        """Find the page of this process, or of another one."""
        self.pid = os.getpid() if pid is None else pid
        self.bytes = memoryview(_atoll._stats_page() if self.pid == os.getpid() else _open(self.pid))
        if bytes(self.bytes[:8]) != MAGIC:
            raise LookupError(f"process {self.pid} is just beginning to use Atoll")
        if len(self.bytes) < HEADER or len(self.bytes) % U64:
            raise self._damaged()
        self.words = self.bytes.cast("Q")
        self.numbers = self.bytes.cast("I")  # each is half a word
        if self.numbers[2] != VERSION:
            raise LookupError(
                f"process {self.pid} uses another version of Atoll: its statistics have format {self.numbers[2]}, "
                f"this one reads {VERSION}"
            )
        for kind, needed in enumerate(SLOTS):
            at, size, most, _ = self.numbers[4 + 4 * kind : 8 + 4 * kind]
            if at % U64 or size % U64 or size < needed or at + size * most > len(self.bytes):
                raise self._damaged()
        self.coarse_ns = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
        self.ticks, self.ns = _atoll._ticks()
        # What lies behind the four kinds' numbers, which are 4 words of 32 bits each.
        ticks, ns = self.words[9], self.words[10]
        self.tick_ns = (self.ns - ns) / max(self.ticks - ticks, 1)

    def _damaged(self) -> LookupError:
        return LookupError(f"the statistics of process {self.pid} are damaged")

    def slots(self, kind: int) -> "Iterator[int]":
        """Yield where the slots of a kind begin that are in use, in words."""
        at, size, most, used = self.numbers[4 + 4 * kind : 8 + 4 * kind]
        for slot in range(min(used, most)):
            yield (at + slot * size) // U64

    def stable(self, at: int, end: int) -> list[int] | None:
        """Return the words of a slot up to `end`, which are one thing's; None when it is free, or has ended."""
        return _atoll._stats_slot(self.bytes, at, end)

    def interpreters(self) -> "Iterator[tuple[list[int], dict[str, int], int | None]]":
        """Yield who each interpreter is, its words, and the processor time of the thread that is inside, in ns."""
        first = INTERP["words"]
        for at in self.slots(0):
            for _ in range(READS):
                found = self.stable(at, first + len(INTERP_WORDS))
                if found is None:
                    break
                words = dict(zip(INTERP_WORDS, found[first:], strict=True))
                cpu = _thread_cpu(self.pid, words["now_thread"]) if words["now_thread"] else None
                turn = found[INTERP["turn"]]
                if turn % 2 == 0 and self.words[at + INTERP["turn"]] == turn:
                    break
            if found is not None:
                yield found[:first], words, cpu

    def all(self) -> "tuple[list[tuple[list[int], dict[str, int], int | None]], dict[str, int]]":
        """Return what interpreters() yields, and what those that have ended had counted: each is in one of the two."""
        for _ in range(READS):
            ended = self.words[ENDED]
            interpreters = list(self.interpreters())
            past = self.words[PAST : PAST + len(INTERP_WORDS)].tolist()
            if self.words[ENDING] == ended:
                break
        return interpreters, dict(zip(INTERP_WORDS, past, strict=True))


def _open(pid: int) -> mmap.mmap:
    """Map the page of another process."""
    try:
        found = _find(pid)
    except PermissionError:
        raise PermissionError(
            f"process {pid} may not be looked at: it is another user's, or protected"
        ) from None
    if found is None:
        raise LookupError(
            f"process {pid} has no statistics of Atoll's: it does not use Atoll, or has closed their file"
        )
    return found


def _find(pid: int) -> mmap.mmap | None:
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):
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
            if os.fstat(fd).st_size == 0:
                raise LookupError(f"process {pid} is just beginning to use Atoll")
            return mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
    return None


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


def _times(page: Page, words: dict[str, int], thread_cpu: int | None) -> tuple[float, float]:
    """Return the seconds that an interpreter has run, and of processor time for it, what runs now included."""
    running = words["run_ns"] + words["task_ns"]
    cpu = words["cpu_ns"]
    if thread_cpu is not None:  # there is a thread inside
        more = max(thread_cpu - words["now_cpu_ns"], 0)
        if words["now_ns"]:  # else a worker's, whose tasks are counted
            elapsed = max(page.coarse_ns - words["now_ns"], 0)
            running += elapsed
            more = min(more, elapsed)
        cpu += more
    return running * 1e-9, cpu * 1e-9


def _interpreter(
    page: Page, who: list[int], words: dict[str, int], thread_cpu: int | None
) -> "dict[str, Any]":
    state, blocked_on = _state(who, words)
    running, cpu = _times(page, words, thread_cpu)
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


# What main was said to have used, by process and when that began to use Atoll.
_main_cpu: dict[tuple[int, int], float] = {}


def _cpu_of_main(page: Page, rest: float) -> float:
    """Return what main has used: what is left, which is measured by several clocks, but never less than before."""
    key = (page.pid, page.words[10])
    if key not in _main_cpu and len(_main_cpu) >= 100:
        _main_cpu.clear()
    _main_cpu[key] = max(rest, _main_cpu.get(key, 0.0))
    return _main_cpu[key]


def _process(page: Page, interpreters: "list[dict[str, Any]]", past: dict[str, int]) -> "dict[str, Any]":
    """Return what the system knows of the process; main's processor time is what is left of it."""
    try:
        with open(f"/proc/{page.pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        raise ProcessLookupError(f"there is no process {page.pid}") from None
    tick = os.sysconf("SC_CLK_TCK")
    cpu = (int(fields[11]) + int(fields[12])) / tick
    past_cpu = past["cpu_ns"] * 1e-9
    for interp in interpreters:
        if interp["id"] == 0:
            others = sum(other["cpu"] for other in interpreters if other["id"] != 0)
            interp["cpu"] = _cpu_of_main(page, cpu - others - past_cpu)
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
    when it does not use Atoll, TypeError for a pid that is no integer.
    """
    if pid is not None and not isinstance(pid, int):
        raise TypeError(f"pid must be an integer, not {type(pid).__name__}")
    page = Page(pid)
    found, past = page.all()
    interpreters = [_interpreter(page, *one) for one in found]
    interpreters = [interp for interp in interpreters if interp["state"] not in ("ended", "left")]
    interpreters.sort(key=lambda interp: interp["id"])
    return {
        "process": _process(page, interpreters, past),
        "interpreters": interpreters,
        "queues": sorted(_queues(page), key=lambda queue: queue["id"]),
        "pools": sorted(_pools(page), key=lambda pool: pool["id"]),
    }


def stats_of(interp: "_atoll.Interpreter") -> "dict[str, Any]":
    """Return what is counted of one interpreter."""
    page = Page()
    for who, words, thread_cpu in page.interpreters():
        if who[INTERP["id"]] == interp.id and interp.id != 0:
            return _interpreter(page, who, words, thread_cpu)
    if interp.id == 0:  # whose processor time is what the others have left
        main: dict[str, Any] = stats()["interpreters"][0]
        return main
    raise _atoll.InterpreterNotFoundError(f"unrecognized interpreter ID {interp.id}")


stats.__module__ = "atoll"
