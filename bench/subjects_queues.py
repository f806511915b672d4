"""Queues between interpreters: round trips, items, streams, and what waiting and storing cost.

The other sides are the queues of `concurrent.interpreters` (3.14 and newer: before that the standard
library has no such queues), and for streams also those between threads and between processes.
"""

import gc
import importlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import stdlib_side
import targets
from harness import Effort, Goal, Result, Side, alternate, compare_sides, format_value, processors, summarise
from subjects_scaling import process_context

import atoll

# Both have create() and create_queue()
WAYS: dict[str, Any] = {"atoll": atoll}
if sys.version_info >= (3, 14):
    WAYS[stdlib_side.MODULE] = importlib.import_module(stdlib_side.MODULE)

# The other sides of streams
THREADS = "queue.SimpleQueue"
PROCESSES = "multiprocessing.Queue"

PATIENCE = 120.0  # seconds after which something that still runs hangs

# The figures to reach
TRIP_TIMES = 1000
TRIP_SECONDS = 5e-6
TRIP_SECONDS_BUSY = 150e-6
ITEM_SECONDS = 0.2e-6
RATE = 3e6
RATE_IN_BATCHES = 10e6
TIMES_THREADS = 1.0
TIMES_PROCESSES = 20.0
SHARE_OF_ONE_PAIR = 0.5
IDLE_SHARE = 0.01
BYTES_EACH = 48

SECONDS_OF_TRIPS = 0.05  # in one sample
BATCH = 1000
PAIRS = 4
WAITING = 200
WAITING_IN = 4  # interpreters
QUEUED = 1_000_000


# What the interpreters, threads and processes run.  These need nothing from this module: interpreters of
# the standard library get the code of a function without its globals.


def ping(there: Any, back: Any, seconds: float) -> list[float]:
    """Send items to and fro for some seconds, and return what each took but the first, sorted."""
    from time import perf_counter

    took: list[float] = []
    until = perf_counter() + seconds
    while len(took) < 4 or perf_counter() < until:
        began = perf_counter()
        there.put(1)
        back.get()
        took.append(perf_counter() - began)
    there.put(None)
    return sorted(took[1:])


def pong(there: Any, back: Any) -> None:
    """Send back what comes, until None comes."""
    while (item := there.get()) is not None:
        back.put(item)


def produce(queue: Any, count: int) -> float:
    """Put ints, and return when that began, on the clock of perf_counter()."""
    from time import perf_counter

    put = queue.put
    began = perf_counter()
    for number in range(count):
        put(number)
    return began


def consume(queue: Any, count: int) -> float:
    """Get so many items and return when that was done."""
    from time import perf_counter

    get = queue.get
    for _ in range(count):
        get()
    return perf_counter()


def produce_batches(queue: Any, count: int, size: int) -> float:
    """Put ints, `size` at a time, and return when that began."""
    from time import perf_counter

    began = perf_counter()
    for first in range(0, count, size):
        queue.put_many(range(first, min(first + size, count)))
    return began


def consume_batches(queue: Any, count: int, size: int) -> float:
    """Get so many items, at most `size` at a time, and return when that was done."""
    from time import perf_counter

    while count:
        count -= len(queue.get_many(size if size < count else count))
    return perf_counter()


def wait_in_threads(queue: Any, count: int) -> None:
    """Get so many items, each on a thread of its own."""
    from threading import Thread

    threads = [Thread(target=queue.get) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def serve_produce(commands: Any, queue: Any) -> None:
    """Be a process that produces as many items as it is told, until it is told 0."""
    while count := commands.recv():
        commands.send(produce(queue, count))


@contextmanager
def interpreters(way: Any, count: int) -> Iterator[list[Any]]:
    """Create interpreters of one of WAYS, and close them afterwards."""
    with ExitStack() as stack:
        interps = []
        for _ in range(count):
            interps.append(way.create())
            stack.callback(interps[-1].close)
        yield interps


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make the calls at the same time, each on a thread of its own, and return their results."""
    outcomes: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()

    def make(number: int, call: Callable[[], Any]) -> None:
        try:
            outcomes.put((number, call(), None))
        except BaseException as error:
            outcomes.put((number, None, error))

    for number, call in enumerate(calls):
        threading.Thread(target=make, args=(number, call), daemon=True).start()
    results: dict[int, Any] = {}
    while len(results) < len(calls):
        number, result, error = outcomes.get(timeout=PATIENCE)
        if error is not None:
            raise error
        results[number] = result
    return [results[number] for number in range(len(calls))]


def measure_trips(name: str, title: str, rounds: int) -> Result:
    """Measure round trips between two interpreters on two threads: the median of each sample's."""
    means: dict[str, list[float]] = {side: [] for side in WAYS}

    def trip(side: str, interps: list[Any]) -> float:
        there, back = WAYS[side].create_queue(), WAYS[side].create_queue()
        took, _ = together(
            [
                partial(interps[0].call, ping, there, back, SECONDS_OF_TRIPS),
                partial(interps[1].call, pong, there, back),
            ]
        )
        means[side].append(sum(took) / len(took))
        return float(took[len(took) // 2])

    with ExitStack() as stack:
        sides = {
            side: partial(trip, side, stack.enter_context(interpreters(way, 2))) for side, way in WAYS.items()
        }
        result = Result(name, title, alternate(sides, rounds))
    result.sides["atoll's mean"] = summarise(means["atoll"])
    if stdlib_side.MODULE in WAYS:
        result.compare(stdlib_side.MODULE)
    return result


def round_trip(effort: Effort) -> list[Result]:
    """Measure round trips with nothing else to do for the cores."""
    rounds = 5 if effort.quick else 40
    result = measure_trips("queue.roundtrip", "queue: round trip", rounds)
    if result.ratio is not None:
        result.at_least(TRIP_TIMES)
    result.at_most(TRIP_SECONDS)
    return [result]


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep each core busy with a process; it ends by itself should nobody end it."""
    source = "import time\nuntil = time.monotonic() + 60\nwhile time.monotonic() < until: pass"
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(processors()):
            processes.append(subprocess.Popen([sys.executable, "-S", "-c", source]))
        time.sleep(0.2)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def busy_round_trip(effort: Effort) -> list[Result]:
    """Measure round trips with each core busy elsewhere."""
    with busy_cores():
        result = measure_trips(
            "queue.busy", "queue: round trip, all cores busy elsewhere", 5 if effort.quick else 30
        )
    result.at_most(TRIP_SECONDS_BUSY)
    return [result]


# The items, and what must be reached: how many times faster, and at most how many seconds
ITEMS: dict[str, tuple[str, Any, float, float | None]] = {
    "int": ("int", 1234, 2.0, ITEM_SECONDS),
    "none": ("None", None, 2.0, ITEM_SECONDS),
    "str": ("str of 10", "abcdefghij", 2.0, ITEM_SECONDS),
    "dict": ("dict of 10", targets.RECORD, 3.0, None),
    "list": ("list of 10", list(targets.RECORD.values()), 3.0, None),
    "bytes": ("1 MiB of bytes", bytes(2**20), 0.9, None),
}


def items(effort: Effort) -> list[Result]:
    """Measure put() and get() of one item on one thread."""
    results = []
    for name, (text, item, times, seconds) in ITEMS.items():
        sides = {}
        for side, way in WAYS.items():
            channel = way.create_queue()
            channel.put(item)
            assert channel.get() == item
            names = {"put": channel.put, "get": channel.get, "item": item}
            sides[side] = Side("put(item); get()", names)
        result = Result(f"queue.item.{name}", f"queue: put and get, {text}", compare_sides(sides, effort))
        if stdlib_side.MODULE in WAYS:
            result.compare(stdlib_side.MODULE)
            result.at_least(times)
        if seconds is not None:
            result.at_most(seconds)
        results.append(result)
    return results


def stream_rate(
    channel: Any, producers: Sequence[Callable[..., Any]], consumers: Sequence[Callable[..., Any]], count: int
) -> float:
    """Send `count` ints through a queue, and return how many went through in a second.

    producers, consumers: what calls a function, one for each thread.
    """
    ends = [partial(call, consume, channel, count // len(consumers)) for call in consumers]
    begins = [partial(call, produce, channel, count // len(producers)) for call in producers]
    times = together(ends + begins)
    return float(count / (max(times[: len(ends)]) - min(times[len(ends) :])))


def batch_rate(channel: Any, producer: Callable[..., Any], consumer: Callable[..., Any], count: int) -> float:
    """Do the same as stream_rate() with one interpreter at each end, in batches."""
    ended, began = together(
        [
            partial(consumer, consume_batches, channel, count, BATCH),
            partial(producer, produce_batches, channel, count, BATCH),
        ]
    )
    return float(count / (ended - began))


@contextmanager
def process_stream(count: int) -> Iterator[Callable[[], float]]:
    """Start a process that produces; yield what consumes in this process and returns the rate."""
    context = process_context()
    channel = context.Queue()
    here, there = context.Pipe()
    process = context.Process(target=serve_produce, args=(there, channel), daemon=True)
    process.start()

    def rate() -> float:
        here.send(count)
        ended = consume(channel, count)
        return float(count / (ended - here.recv()))

    try:
        rate()
        yield rate
    finally:
        here.send(0)
        process.join()
        channel.close()


def in_this(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in this interpreter."""
    return function(*args)


def streams(stack: ExitStack, count: int) -> dict[str, Callable[[], float]]:
    """Return what measures the rate of each kind of stream; what they need ends with the stack."""
    sides: dict[str, Callable[[], float]] = {}

    def one_pair(way: Any, calls: list[Any]) -> float:
        return stream_rate(way.create_queue(), calls[:1], calls[1:2], count)

    for side, way in WAYS.items():
        interps = stack.enter_context(interpreters(way, 2 * PAIRS if way is atoll else 2))
        calls = [interp.call for interp in interps]
        sides[side] = partial(one_pair, way, calls)
        if way is atoll:
            ours = calls
    sides["batches"] = lambda: batch_rate(atoll.create_queue(), ours[0], ours[1], 4 * count)
    sides["pairs"] = lambda: stream_rate(atoll.create_queue(), ours[:PAIRS], ours[PAIRS:], count)
    sides[THREADS] = lambda: stream_rate(queue.SimpleQueue(), [in_this], [in_this], count)
    sides[PROCESSES] = stack.enter_context(process_stream(count // 8))
    return sides


def stream(effort: Effort) -> list[Result]:
    """Measure how many ints go one way: one at a time, in batches, and with many at each end."""
    with ExitStack() as stack:
        sides = streams(stack, 200_000 if effort.quick else 400_000)
        measures = alternate(sides, 5 if effort.quick else 13, "/s")
    batches, pairs = measures.pop("batches"), measures.pop("pairs")

    one = Result(
        "queue.stream",
        "queue: stream of ints",
        measures,
        note=f"{THREADS}: its threads run by turns of 5 ms and pass on references",
    )
    for other, times in ((PROCESSES, TIMES_PROCESSES), (THREADS, TIMES_THREADS)):
        ratio = one.compare(other)
        one.goals.append(Goal(f"at least {times:g}x {other} (is {ratio:.2f}x)", ratio >= times))
    at_rate(one, RATE)

    threads = {THREADS: measures[THREADS]}
    many = Result(
        "queue.stream.batches", f"queue: the same in batches of {BATCH:,}", {"atoll": batches, **threads}
    )
    many.compare(THREADS)
    at_rate(many, RATE_IN_BATCHES)

    crowd = Result(
        "queue.stream.pairs",
        f"queue: the same, {PAIRS} producers and {PAIRS} consumers",
        {"atoll": pairs, "one pair": measures["atoll"]},
    )
    crowd.compare("one pair")
    crowd.at_least(SHARE_OF_ONE_PAIR)
    return [one, many, crowd]


def at_rate(result: Result, rate: float) -> None:
    """Add the goal that Atoll does at least so many operations a second."""
    text = f"at least {format_value(rate, '/s')}"
    result.goals.append(Goal(text, result.sides["atoll"].median >= rate))


def idle(effort: Effort) -> list[Result]:
    """Measure the processor time that threads take which wait for an item."""

    def wait(way: Any) -> float:
        with interpreters(way, WAITING_IN) as interps:
            channel = way.create_queue()
            share = WAITING // WAITING_IN

            def measure() -> float:
                time.sleep(0.3)  # until all wait
                began, used = time.perf_counter(), time.process_time()
                time.sleep(0.3 if effort.quick else 1)
                used, took = time.process_time() - used, time.perf_counter() - began
                for _ in range(WAITING):
                    channel.put(None)
                return used / took

            waiters = [partial(interp.call, wait_in_threads, channel, share) for interp in interps]
            return float(together([measure, *waiters])[0])

    sides = {side: partial(wait, way) for side, way in WAYS.items()}
    result = Result(
        "queue.idle",
        f"queue: processor seconds in a second, {WAITING} wait",
        alternate(sides, 1 if effort.quick else 3),
    )
    if stdlib_side.MODULE in WAYS:
        result.compare(stdlib_side.MODULE)
    result.at_most(IDLE_SHARE)
    return [result]


def queued_bytes(side: str) -> int:
    """Return what a million queued ints add to the resident memory of this process."""

    def resident() -> int:
        gc.collect()
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    channel = WAYS[side].create_queue()
    for number in range(1000):
        channel.put(number)
        channel.get()
    before = resident()
    for number in range(QUEUED):
        channel.put(number)
    return resident() - before


def memory(effort: Effort) -> list[Result]:
    """Measure the memory of a million queued ints, in a process of its own."""

    def measure(side: str) -> float:
        source = f"import subjects_queues; print(subjects_queues.queued_bytes({side!r}))"
        answer = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", source],
            cwd=Path(__file__).resolve().parent,
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return float(answer.stdout)

    sides = {side: partial(measure, side) for side in WAYS}
    result = Result(
        "queue.memory",
        f"queue: memory of {QUEUED:,} ints in it",
        alternate(sides, 1 if effort.quick else 3, "B"),
    )
    if stdlib_side.MODULE in WAYS:
        result.compare(stdlib_side.MODULE)
    each = result.sides["atoll"].median / QUEUED
    result.goals.append(Goal(f"at most {BYTES_EACH} bytes each (is {each:.1f})", each <= BYTES_EACH))
    return [result]


SUBJECTS: dict[str, Callable[[Effort], list[Result]]] = {
    "queue.roundtrip": round_trip,
    "queue.busy": busy_round_trip,
    "queue.item": items,
    "queue.stream": stream,
    "queue.idle": idle,
    "queue.memory": memory,
}
