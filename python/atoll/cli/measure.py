"""Timing two or more sides of one question fairly, for ``python -m atoll bench`` and the benchmarks of ``bench/``.

All sides of a subject run in the same process and in the same seconds: one small batch of
each, in turn, for as many rounds as there is time, in an order that is turned round after
every round.  What disturbs the machine for a while so disturbs all sides, and the median of
each side's batches leaves out what disturbed only one.  The garbage collector is off while a
batch runs, as in `timeit`, whose Timer does the running.

Times are seconds, sizes are bytes, everywhere but in printed text.
"""

import os
import platform
import statistics
import timeit
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from atoll._pool.inner import processors


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    batch: seconds that one batch takes at least; short, so that few batches are interrupted.
    rounds: how many batches each side gets, unless `seconds` is over before.
    seconds: how long one subject may take, about.
    """

    batch: float
    rounds: int
    seconds: float
    quick: bool


FULL = Effort(batch=0.0005, rounds=500, seconds=1.5, quick=False)
QUICK = Effort(batch=0.0005, rounds=30, seconds=0.2, quick=True)
FEWEST_ROUNDS = 3


@dataclass
class Measure:
    """What one side took: `unit` is "s" (per operation), "B" or "/s" (operations a second)."""

    median: float
    p10: float
    p90: float
    samples: int
    unit: str = "s"


@dataclass
class Goal:
    """A figure to reach, whether it is reached, and what it was compared with."""

    text: str
    passed: bool


@dataclass
class Result:
    """One line of the report.

    name: the subject's stable name, such as "call.noop.main".
    title: the same for people.
    sides: what was measured, by the name of the side; "atoll" is one of them.
    other: the side that `ratio` compares Atoll with, or None when there is nothing to compare.
    ratio: how many times better Atoll is than `other` (faster, or smaller).
    note: what a reader must know about the comparison.
    """

    name: str
    title: str
    sides: dict[str, Measure]
    other: str | None = None
    ratio: float | None = None
    goals: list[Goal] = field(default_factory=list)
    note: str = ""

    def compare(self, other: str) -> float:
        """Set and return the ratio of Atoll against the side `other`."""
        atoll, against = self.sides["atoll"], self.sides[other]
        if atoll.unit == "/s":
            self.ratio = atoll.median / against.median
        else:
            self.ratio = against.median / atoll.median
        self.other = other
        return self.ratio

    def at_least(self, times: float) -> None:
        """Add the goal that the ratio is at least `times`; needs compare() before."""
        assert self.ratio is not None
        self.goals.append(Goal(f"at least {times:g}x", self.ratio >= times))

    def at_most(self, seconds: float) -> None:
        """Add the goal that Atoll's median is at most `seconds`."""
        passed = self.sides["atoll"].median <= seconds
        self.goals.append(Goal(f"at most {format_value(seconds, 's')}", passed))


def summarise(values: list[float], unit: str = "s") -> Measure:
    """Return the median, the tenth and the ninetieth percentile of some values."""
    if len(values) == 1:
        return Measure(values[0], values[0], values[0], 1, unit)
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    return Measure(statistics.median(values), deciles[0], deciles[-1], len(values), unit)


@dataclass(frozen=True)
class Side:
    """A statement to time, the names that it uses, and what is around each batch, untimed."""

    statement: str
    names: Mapping[str, Any]
    around: Callable[[], AbstractContextManager[None]] = nullcontext


def compare_sides(sides: Mapping[str, Side], effort: Effort) -> dict[str, Measure]:
    """Time the sides in turn and return the seconds that each takes per operation."""
    timers = {name: timeit.Timer(s.statement, globals=dict(s.names)) for name, s in sides.items()}
    numbers = {}
    for name, side in sides.items():
        with side.around():
            numbers[name] = calibrate(timers[name], effort.batch)
    samples: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    until = timeit.default_timer() + effort.seconds
    for done in range(effort.rounds):
        if done >= FEWEST_ROUNDS and timeit.default_timer() > until:
            break
        for name in order:
            with sides[name].around():
                samples[name].append(timers[name].timeit(numbers[name]) / numbers[name])
        order.reverse()
    return {name: summarise(values) for name, values in samples.items()}


def calibrate(timer: timeit.Timer, seconds: float) -> int:
    """Return how many operations take at least `seconds`; this warms the side up as well."""
    timer.timeit(1)
    number = 1
    while (took := timer.timeit(number)) < seconds:
        number = max(2 * number, int(1.1 * number * seconds / max(took, 1e-9)))
    return number


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int, unit: str = "s") -> dict[str, Measure]:
    """Call the sides in turn, `rounds` times each, and summarise the values they return."""
    samples: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for _ in range(rounds):
        for name in order:
            samples[name].append(sides[name]())
        order.reverse()
    return {name: summarise(values, unit) for name, values in samples.items()}


def format_value(value: float, unit: str) -> str:
    """Return a value with three digits and the unit that suits it."""
    if unit == "B":
        return f"{value / 1024:.0f} KiB" if value < 2**20 else f"{value / 2**20:.1f} MiB"
    if unit == "/s":
        return f"{value:,.0f}/s"
    for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= scale:
            return f"{value / scale:.3g} {name}" if value < 999.5 * scale else f"{value:.0f} s"
    return f"{value * 1e9:.0f} ns"


def describe_machine() -> dict[str, str]:
    """Return the processor, the number of cores, the kernel and the Python version."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    model = line.split(":", 1)[1].strip()
                    break
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": str(processors()),
        "kernel": f"{platform.system()} {platform.release()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
    }


def show(measure: Measure) -> str:
    """Return a median as text."""
    return format_value(measure.median, measure.unit)


def print_result(result: Result) -> None:
    """Print one line, and one more for each side that the ratio leaves out."""
    line = f"{result.title:<46}{show(result.sides['atoll']):>10}"
    if result.other is not None and result.ratio is not None:
        ratio = f"{result.ratio:,.0f}" if result.ratio >= 100 else f"{result.ratio:.2f}"
        line += f"{show(result.sides[result.other]):>10}{ratio:>8}x  {result.other}"
    print(line, flush=True)
    for goal in result.goals:
        print(f"    {'ok    ' if goal.passed else 'MISSED'}  {goal.text}")
    others = [
        f"{name} {show(measure)}"
        for name, measure in result.sides.items()
        if name not in ("atoll", result.other)
    ]
    if others:
        print(f"    also: {', '.join(others)}")
    if result.note:
        print(f"    note: {result.note}")
