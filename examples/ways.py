"""Do a list of tasks in four ways and compare: serially, with threads, with processes and with Atoll's interpreters.

The examples beside this file say what the tasks are. Each way runs in a fresh process of its own, so that its
time and its peak memory are its own; the results have to be equal.

The part to copy into your own program is ``with_atoll()``.
"""

import argparse
import importlib.util
import itertools
import math
import multiprocessing
import os
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The paths and the bytes of the files that are one task
Task = tuple[list[str], int]
# What one way hands back: the results in the order of the tasks, and seconds until the first answer
Outcome = tuple[list[Any], float]


@dataclass(frozen=True)
class Job:
    """The tasks and the functions for them, which may run in any thread, process or interpreter.

    ``work`` takes a task's paths and returns a list of results; ``ready`` makes a worker ready, and its return says
    that it is; ``data`` is what the bytes of the tasks are, in words; ``share`` makes what all interpreters see.
    """

    tasks: list[Task]
    work: Callable[[list[str]], list[Any]]
    ready: Callable[[], object]
    data: str
    share: Callable[[], None] = lambda: None


# ------------------------------------------------------------------------------------------------
# The four ways.  Each gets the job, the number of workers and a function that reports progress.
# ------------------------------------------------------------------------------------------------

Report = Callable[[Task], None]


def serially(job: Job, _workers: int, report: Report) -> Outcome:
    """Use one core: the others are measured against this."""
    began = time.perf_counter()
    job.ready()
    first = time.perf_counter() - began
    results = []
    for task in job.tasks:
        results += job.work(task[0])
        report(task)
    return results, first


def with_executor(pool: Executor, began: float, job: Job, report: Report) -> Outcome:
    """Hand each task to a pool of threads or processes, which gives it to whoever is free."""
    pool.submit(job.ready).result()
    first = time.perf_counter() - began
    futures = {pool.submit(job.work, task[0]): task for task in job.tasks}
    for future in as_completed(futures):
        report(futures[future])
    return list(itertools.chain.from_iterable(future.result() for future in futures)), first


def with_threads(job: Job, workers: int, report: Report) -> Outcome:
    """Use threads of one interpreter: they share one GIL, so they take turns at whatever needs it."""
    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        return with_executor(pool, began, job, report)


def with_processes(job: Job, workers: int, report: Report) -> Outcome:
    """Use processes: all cores, paid for in memory, and all that they exchange is pickled."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    began = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return with_executor(pool, began, job, report)


def with_atoll(job: Job, workers: int, report: Report) -> Outcome:
    """Use Atoll: a pool of interpreters, each with its own GIL; otherwise like the other executors.

    `work` is a function of the script that was started: it travels by value, with the functions and modules that
    it names, and the script is not run again.
    """
    import atoll

    began = time.perf_counter()
    job.share()
    # Without this CPython forgets -W in other interpreters.
    with atoll.InterpreterPoolExecutor(workers, initializer=exec, initargs=("import warnings",)) as pool:
        return with_executor(pool, began, job, report)


WAYS: dict[str, Callable[[Job, int, Report], Outcome]] = {
    "serial": serially,
    "threads": with_threads,
    "processes": with_processes,
    "atoll": with_atoll,
}


# ------------------------------------------------------------------------------------------------
# The child process: one way, once.
# ------------------------------------------------------------------------------------------------


class Progress:
    """A progress bar on a terminal, a line for each quarter of the work elsewhere."""

    def __init__(self, title: str, job: Job) -> None:
        """Start with nothing done."""
        self.title = title
        self.data = job.data
        self.total = sum(len(paths) for paths, _ in job.tasks)
        self.todo = max(1, sum(size for _, size in job.tasks))
        self.done = self.files = 0
        self.began = self.drawn = time.monotonic()
        self.lock = threading.Lock()
        self.tty = sys.stdout.isatty()

    def add(self, task: Task) -> None:
        """Count a task as done.  Any thread may call this."""
        with self.lock:
            before = self.done
            self.done += task[1]
            self.files += len(task[0])
            finished = self.files == self.total
            now = time.monotonic()
            if self.tty:
                if finished or now - self.drawn >= 0.1:
                    self.drawn = now
                    self.draw("\r", "\n" if finished else "")
            elif finished or 4 * before // self.todo < 4 * self.done // self.todo < 4:
                self.draw("", "\n")

    def draw(self, start: str, end: str) -> None:
        """Write the bar as it is now."""
        share = self.done / self.todo
        bar = "#" * int(30 * share)
        seconds = time.monotonic() - self.began
        line = (
            f"  {self.title:<10} [{bar:.<30}] {share:4.0%} of the {self.data}"
            f" {self.files:6,} files {seconds:6.1f} s"
        )
        print(start + line, end=end, flush=True)


def run_child(job: Job, options: argparse.Namespace) -> int:
    """Do the whole job in one way and write what it gave and took to the file that the parent named."""
    progress = Progress(options.way, job)
    began = time.perf_counter()
    results, first = WAYS[options.way](job, options.jobs, progress.add)
    seconds = time.perf_counter() - began
    with open(options.out, "wb") as file:
        pickle.dump((results, seconds, first), file)
    return 0


# ------------------------------------------------------------------------------------------------
# The parent process: starts the children, watches their memory, compares and prints.
# ------------------------------------------------------------------------------------------------


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants, as Linux lists them."""
    yield pid
    try:
        for tasks in Path(f"/proc/{pid}/task").iterdir():
            for child in (tasks / "children").read_text().split():
                yield from family(int(child))
    except OSError:
        pass  # it has just ended, or this is not Linux


def memory(pid: int) -> int:
    """Return the bytes that a process and its descendants occupy, shared pages counted once."""
    total = 0
    for member in family(pid):
        try:
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total


def run_way(way: str, more: list[str]) -> tuple[list[Any], float, float, int]:
    """Run one way in a child; return its results, seconds, start-up seconds and peak bytes.

    The child is this script again, with the same options and `more`.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        command = [sys.executable, "-W", "ignore", *sys.argv, *more, "--way", way, "--out", out]
        with subprocess.Popen(command) as child:
            peak = 0
            try:
                while child.poll() is None:
                    peak = max(peak, memory(child.pid))
                    time.sleep(0.1)
            except KeyboardInterrupt:
                child.wait()  # the terminal has told it as well
                raise
        if child.returncode != 0:
            sys.exit(f"{way}: the child process ended with status {child.returncode}")
        with open(out, "rb") as file:
            results, seconds, first = pickle.load(file)
    return results, seconds, first, peak


class Comparison:
    """What the ways gave and took."""

    def __init__(self, options: argparse.Namespace, more: list[str]) -> None:
        """Run them all."""
        print(f"Python {platform.python_version()}, {options.jobs} workers")
        self.rows: dict[str, list[tuple[float, float, int]]] = {}
        self.results: dict[str, list[Any]] = {}
        self.equal = True
        for _ in range(options.repeat):
            for way in options.ways:
                result, seconds, first, peak = run_way(way, more)
                self.rows.setdefault(way, []).append((seconds, first, peak))
                self.equal = self.results.setdefault(way, result) == result and self.equal

    def print_equality(self) -> list[Any]:
        """Say whether the results are equal; return those of the first way."""
        heading("The results: equal?")
        reference_way, reference = next(iter(self.results.items()))
        for way, result in self.results.items():
            if result != reference:
                self.equal = False
                print(f"NOT EQUAL: {way} differs from {reference_way}")
        if self.equal and len(self.results) > 1:
            print(f"{' = '.join(self.results)}: the same in every detail")
        return reference

    def print_costs(self) -> None:
        """Print a line for each way: medians of its runs."""
        heading("What each way took")
        print(f"{'way':<12}{'seconds':>9}{'speed-up':>10}{'first answer':>14}{'peak memory':>13}")
        medians = {
            way: [statistics.median(column) for column in zip(*runs, strict=True)]
            for way, runs in self.rows.items()
        }
        base = medians["serial"][0] if "serial" in medians else math.nan
        for way, (seconds, first, peak) in medians.items():
            speed_up = "-" if math.isnan(base) else f"{base / seconds:.2f}x"
            start = "at once" if first < 0.0001 else f"{first * 1000:,.1f} ms"
            size = f"{peak / 2**20:,.0f} MiB" if peak else "not known"
            print(f"{way:<12}{seconds:>9.2f}{speed_up:>10}{start:>14}{size:>13}")
        print("speed-up: against serial; first answer: from starting the workers until one answered;")
        print("peak memory: of the process and its children, pages that they share counted once.")


def heading(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


# ------------------------------------------------------------------------------------------------
# The command line
# ------------------------------------------------------------------------------------------------


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_arguments(description: str | None, files: str) -> argparse.Namespace:
    """Read the command line; `files` is the help for the option that limits the number of files."""
    cores = count_cores()
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=cores, help=f"workers (default {cores})")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="default: all")
    parser.add_argument("--files", type=int, help=files)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each way; medians count")
    for name in ("--way", "--out", "--data"):  # for the child
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in ("jobs", "files", "repeat"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return options


def is_missing(options: argparse.Namespace) -> bool:
    """Say so when Atoll is asked for and not installed."""
    missing = "atoll" in options.ways and importlib.util.find_spec("atoll") is None
    if missing:
        print(f"Atoll is not installed for {sys.executable}: `make run` sees to that.")
    return missing


def run(main: Callable[[], int]) -> None:
    """Run an example's main() and exit with what it returns."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
