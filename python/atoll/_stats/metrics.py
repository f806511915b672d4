"""The statistics of a process as text in the OpenMetrics format, or for a registry of prometheus_client."""

import importlib
from collections import namedtuple

from atoll._stats.page import BUCKETS, stats

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, NamedTuple

    type Labels = dict[str, str]

    class Family(NamedTuple):
        """A metric with its samples: what follows its name, labels and value of each."""

        name: str
        type: str
        unit: str
        help: str
        samples: list[tuple[str, Labels, float]]

else:
    Family = namedtuple("Family", ("name", "type", "unit", "help", "samples"))

# (name, type, unit, key in the dict of one, help)
INTERPRETERS = (
    ("calls", "counter", "", "calls", "Calls and scripts that have come in."),
    ("raised", "counter", "", "raised", "Calls and tasks that ended with an exception."),
    ("tasks", "counter", "", "tasks", "Tasks of pools, and of submit()."),
    ("calls_out", "counter", "", "called", "Calls made from it into other interpreters."),
    ("items_sent", "counter", "", "sent", "Items that it has put into queues."),
    ("items_received", "counter", "", "received", "Items that it has got from queues."),
    (
        "sent_bytes",
        "counter",
        "bytes",
        "sent_bytes",
        "Encoded arguments, results and items that it has sent.",
    ),
    ("received_bytes", "counter", "bytes", "received_bytes", "The same that it has received."),
    ("running_seconds", "counter", "seconds", "running", "Time that calls and tasks have taken."),
    ("cpu_seconds", "counter", "seconds", "cpu", "Processor time of calls and tasks."),
    (
        "blocked_seconds",
        "counter",
        "seconds",
        "blocked",
        "Time that threads have waited for queues and locks.",
    ),
    ("gil_wait_seconds", "counter", "seconds", "gil_wait", "Time that threads have waited for its GIL."),
    ("inside", "gauge", "", "inside", "Calls and tasks that are inside now."),
    ("allocated_bytes", "gauge", "bytes", "allocated", "Memory that its Python objects have."),
    ("modules", "gauge", "", "modules", "Modules that are loaded."),
    ("clones", "gauge", "", "clones", "Shared objects that it has a clone of."),
    ("clone_bytes", "gauge", "bytes", "clone_bytes", "Memory of these that is its own."),
)
QUEUES = (
    ("items", "gauge", "", "length", "Items in the queue."),
    ("getters", "gauge", "", "getters", "Threads that wait for an item."),
    ("putters", "gauge", "", "putters", "Threads that wait for room."),
    ("put", "counter", "", "put", "Items that were put."),
    ("got", "counter", "", "got", "Items that were got or removed."),
    ("get_wait_seconds", "counter", "seconds", "get_wait", "Time that threads have waited for an item."),
    ("put_wait_seconds", "counter", "seconds", "put_wait", "Time that threads have waited for room."),
)
POOLS = (
    ("max_workers", "gauge", "", "max_workers", "The most workers that it may have."),
    ("workers", "gauge", "", "workers", "Workers that it has."),
    ("queued", "gauge", "", "queued", "Tasks that wait for a worker."),
    ("running", "gauge", "", "running", "Tasks that run."),
    ("submitted", "counter", "", "submitted", "Tasks that were submitted."),
    ("done", "counter", "", "done", "Tasks that have ended."),
    ("calls", "counter", "", "calls", "Calls that they were made of: a chunk of map() has many."),
    ("failed", "counter", "", "failed", "Tasks that raised, or whose result could not be sent."),
    ("timed_out", "counter", "", "late", "Tasks that took too long."),
    ("cancelled", "counter", "", "cancelled", "Tasks that were cancelled before they ran."),
    ("lost", "counter", "", "lost", "Tasks whose worker was given up, or could not be made ready."),
    ("restarts", "counter", "", "restarts", "Interpreters that took another one's place."),
)
HISTOGRAMS = (
    ("task_wait_seconds", "wait_times", "wait", "How long tasks have waited for a worker, of every eighth."),
    ("task_run_seconds", "run_times", "run", "How long tasks have run."),
)
STATES = ("idle", "running", "calling", "blocked", "spare", "closing", "zombie")
PROCESS = ("calls", "raised", "tasks")


def _labels(kind: str, thing: "dict[str, Any]") -> "Labels":
    labels = {kind: str(thing["id"])}
    if "name" in thing:
        labels["name"] = thing["name"] or ""
    return labels


def _simple(
    kind: str, things: "list[dict[str, Any]]", table: "Iterable[tuple[str, str, str, str, str]]"
) -> "Iterator[Family]":
    for name, of_type, unit, key, text in table:
        suffix = "_total" if of_type == "counter" else ""
        samples = [
            (suffix, _labels(kind, thing), float(thing[key])) for thing in things if thing[key] is not None
        ]
        yield Family(f"atoll_{kind}_{name}", of_type, unit, text, samples)


def _histogram(
    pool: "dict[str, Any]", counts: list[int], total: float
) -> "Iterator[tuple[str, Labels, float]]":
    labels = _labels("pool", pool)
    so_far = 0
    for count, bound in zip(counts, [*map(str, BUCKETS), "+Inf"], strict=True):
        so_far += count
        yield "_bucket", labels | {"le": bound}, float(so_far)
    yield "_count", labels, float(so_far)
    yield "_sum", labels, total


def families(pid: int | None = None) -> "Iterator[Family]":
    """Yield each metric of a process, with its samples."""
    found = stats(pid)
    interpreters, past = found["interpreters"], found["process"]["past"]
    count = float(len(interpreters))
    yield Family("atoll_interpreters", "gauge", "", "Interpreters that there are.", [("", {}, count)])
    for name in ("created", "closed"):
        value = float(found["process"][name])
        yield Family(
            f"atoll_{name}_interpreters", "counter", "", f"Interpreters {name}.", [("_total", {}, value)]
        )
    for name in PROCESS:
        so_far = float(past[name] + sum(interp[name] for interp in interpreters))
        text = f"The sum of atoll_interpreter_{name}, of closed interpreters, too."
        yield Family(f"atoll_{name}", "counter", "", text, [("_total", {}, so_far)])
    states = [
        (
            "",
            _labels("interpreter", interp) | {"atoll_interpreter_state": state},
            float(interp["state"] == state),
        )
        for interp in interpreters
        for state in STATES
    ]
    yield Family("atoll_interpreter_state", "stateset", "", "What the interpreter does.", states)
    yield from _simple("interpreter", interpreters, INTERPRETERS)
    yield from _simple("queue", found["queues"], QUEUES)
    yield from _simple("pool", found["pools"], POOLS)
    for name, key, total, text in HISTOGRAMS:
        samples = [sample for pool in found["pools"] for sample in _histogram(pool, pool[key], pool[total])]
        yield Family(f"atoll_pool_{name}", "histogram", "seconds", text, samples)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)


def _text(pid: int | None) -> str:
    lines = []
    for family in families(pid):
        lines.append(f"# TYPE {family.name} {family.type}")
        if family.unit:
            lines.append(f"# UNIT {family.name} {family.unit}")
        lines.append(f"# HELP {family.name} {_escape(family.help)}")
        for suffix, labels, value in family.samples:
            pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
            lines.append(f"{family.name}{suffix}{'{' + pairs + '}' if pairs else ''} {_number(value)}")
    return "\n".join([*lines, "# EOF", ""])


class Collector:
    """What a registry of prometheus_client asks for the metrics of this process."""

    def collect(self) -> "Iterator[Any]":
        """Yield each metric as prometheus_client has it."""
        metric_type = importlib.import_module("prometheus_client.metrics_core").Metric
        for family in families():
            metric = metric_type(family.name, family.help, family.type, family.unit)
            for suffix, labels, value in family.samples:
                metric.add_sample(family.name + suffix, labels, value)
            yield metric

    # What it has, without samples or not: so the registry refuses to have it twice.
    describe = collect


def metrics(pid: int | None = None, *, registry: "Any" = None) -> str:
    """Return atoll.stats() as text in the OpenMetrics format; docs/watching.md lists the metrics.

    With registry, a CollectorRegistry of prometheus_client, the metrics of this process are also registered there:
    whoever asks the registry gets them as they are then. Only once for each registry.

    Raises what stats() raises, and TypeError for a registry together with another process's pid.
    """
    if registry is not None:
        if pid is not None:
            raise TypeError("a registry has the metrics of its own process: give it no pid")
        registry.register(Collector())
    return _text(pid)


metrics.__module__ = "atoll"
