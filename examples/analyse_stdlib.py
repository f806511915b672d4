"""Measure the complexity of Python's whole standard library, four ways.

What happens when you run this (``make run``, or ``python examples/analyse_stdlib.py``):

1. It finds every ``.py`` file of the standard library of the Python that runs it: about 1,800.
2. It parses each file and counts its syntax nodes, its names, and the cyclomatic complexity of
   each function.  This is pure Python work, the kind that one GIL keeps on one core.
3. It does that four times: serially, with a pool of threads, with a pool of processes, and with
   Atoll's interpreters, one per core.  Each way runs in a fresh process of its own, so that its
   time and its peak memory are its own.
4. It checks that the four results are equal (exit status 1 when they are not), prints what each
   way took, and names the ten most complex functions.

The part to copy into your own program is ``with_atoll()``.
"""

import argparse
import ast
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
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path

# (complexity, qualified name, line), of one function
Function = tuple[int, str, int]
# (path, nodes, distinct names, functions, why it was skipped or None), of one file
File = tuple[str, int, int, list[Function], str | None]
# What one way hands back: the files in the order of the chunks, and seconds until the first answer
Outcome = tuple[list[File], float]


# ------------------------------------------------------------------------------------------------
# The work: what is done to each file.  Nothing here knows that it may run in another interpreter.
# ------------------------------------------------------------------------------------------------

DECISIONS = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.comprehension),
    *(ast.ExceptHandler, ast.match_case, ast.Assert),
)


def measure(tree: ast.AST) -> tuple[int, int, list[Function]]:
    """Return the number of nodes, of distinct names, and every function with its complexity.

    The complexity is one more than the number of decisions in a function.  What a nested function
    decides counts for the nested function only.
    """
    nodes = 0
    names = set()
    functions: list[tuple[str, int]] = []
    complexities: list[int] = [0]  # [0] is the module's own, which nobody asks for
    # (node, the index in complexities of the function it is in, the qualified name it is under)
    todo: list[tuple[ast.AST, int, str]] = [(tree, 0, "")]
    while todo:
        node, owner, prefix = todo.pop()
        nodes += 1
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            owner = len(complexities)
            complexities.append(1)
            functions.append((prefix + node.name, node.lineno))
            prefix += node.name + "."
        elif isinstance(node, ast.ClassDef):
            prefix += node.name + "."
        elif isinstance(node, DECISIONS):
            complexities[owner] += 1
            if isinstance(node, ast.comprehension):
                complexities[owner] += len(node.ifs)
        elif isinstance(node, ast.BoolOp):
            complexities[owner] += len(node.values) - 1
        todo.extend([(child, owner, prefix) for child in ast.iter_child_nodes(node)])
    found = [
        (complexity, name, line) for complexity, (name, line) in zip(complexities[1:], functions, strict=True)
    ]
    return nodes, len(names), found


def analyse(paths: list[str]) -> list[File]:
    """Parse and measure some files; a file that is no valid Python is skipped with the reason.

    The standard library holds such files on purpose: they are the input of its own tests.
    """
    done: list[File] = []
    for path in paths:
        with open(path, "rb") as file:
            source = file.read()
        try:
            tree = ast.parse(source, path)
        except (SyntaxError, ValueError) as error:
            done.append((path, 0, 0, [], type(error).__name__))
        else:
            done.append((path, *measure(tree), None))
    return done


def ready() -> bool:
    """Answer at once: the first answer tells how long a way takes to start."""
    return True


# ------------------------------------------------------------------------------------------------
# The four ways.  Each gets the chunks, the number of workers and a function that reports progress.
# ------------------------------------------------------------------------------------------------

Chunks = list[list[str]]
Report = Callable[[list[str]], None]


def serially(chunks: Chunks, _jobs: int, report: Report) -> Outcome:
    """Use one core: the others are measured against this."""
    files = []
    for chunk in chunks:
        files += analyse(chunk)
        report(chunk)
    return files, 0.0


def with_executor(pool: Executor, began: float, chunks: Chunks, report: Report) -> Outcome:
    """Hand each chunk to a pool of threads or processes, which gives it to whoever is free."""
    pool.submit(ready).result()
    first = time.perf_counter() - began
    futures = {pool.submit(analyse, chunk): chunk for chunk in chunks}
    for future in as_completed(futures):
        report(futures[future])
    return list(itertools.chain.from_iterable(future.result() for future in futures)), first


def with_threads(chunks: Chunks, jobs: int, report: Report) -> Outcome:
    """Use threads of one interpreter: they share one GIL, so they take turns."""
    began = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        return with_executor(pool, began, chunks, report)


def with_processes(chunks: Chunks, jobs: int, report: Report) -> Outcome:
    """Use processes: all cores, paid for in memory, and all that they exchange is pickled."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    began = time.perf_counter()
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        return with_executor(pool, began, chunks, report)


def with_atoll(chunks: Chunks, jobs: int, report: Report) -> Outcome:
    """Use Atoll: one interpreter with its own GIL per core, and one thread to call it.

    Each thread takes the next small chunk from the iterator that all share, so no core idles
    while another still has a long list.  `analyse` is a function of this script: it travels by
    value, with the functions and modules that it names, and the script is not run again.
    """
    import atoll

    began = time.perf_counter()
    firsts: list[float] = []
    results: dict[int, list[File]] = {}
    errors: list[BaseException] = []
    numbered = enumerate(chunks)
    taking = threading.Lock()

    def take() -> tuple[int, list[str]] | None:
        with taking:
            return None if errors else next(numbered, None)

    def work() -> None:
        try:
            with atoll.create() as interp:
                interp.exec("import warnings")  # without this CPython forgets -W here
                interp.call(ready)
                firsts.append(time.perf_counter() - began)
                while (taken := take()) is not None:
                    number, chunk = taken
                    results[number] = interp.call(analyse, chunk)
                    report(chunk)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt as error:  # each thread stops after the chunk it is at
        errors.append(error)
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return [file for number in range(len(chunks)) for file in results[number]], min(firsts)


WAYS: dict[str, Callable[[Chunks, int, Report], Outcome]] = {
    "serial": serially,
    "threads": with_threads,
    "processes": with_processes,
    "atoll": with_atoll,
}


# ------------------------------------------------------------------------------------------------
# The input: all files, cut into chunks of similar size, the largest first.
# ------------------------------------------------------------------------------------------------


def find_files(limit: int | None) -> list[tuple[int, str]]:
    """Return (bytes, path) of every .py file of the standard library, or of `limit` of them.

    A limit takes files spread over the whole library, so that their kinds stay mixed.
    """
    root = sysconfig.get_path("stdlib")
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in ("site-packages", "dist-packages")]
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".py") and os.path.isfile(path):
                found.append((os.path.getsize(path), path))
    found.sort()
    if limit is not None and limit < len(found):
        step = len(found) / limit
        found = [found[int(i * step)] for i in range(limit)]
    return found


def cut(files: Iterable[tuple[int, str]], chunk_bytes: int = 64 * 1024) -> Chunks:
    """Cut the files into chunks of about `chunk_bytes` of source, the largest files first."""
    chunks: Chunks = []
    room = 0
    for size, path in sorted(files, reverse=True):
        if not chunks or size > room:
            chunks.append([])
            room = chunk_bytes
        chunks[-1].append(path)
        room -= size
    return chunks


# ------------------------------------------------------------------------------------------------
# The child process: one way, once.
# ------------------------------------------------------------------------------------------------


class Progress:
    """A progress bar on a terminal, a line for each quarter of the work elsewhere."""

    def __init__(self, title: str, files: list[tuple[int, str]]) -> None:
        """Start with nothing done of `files`: (bytes, path) each."""
        self.title = title
        self.sizes = {path: size for size, path in files}
        self.todo = max(1, sum(self.sizes.values()))
        self.done = self.files = 0
        self.began = self.drawn = time.monotonic()
        self.lock = threading.Lock()
        self.tty = sys.stdout.isatty()

    def add(self, paths: list[str]) -> None:
        """Count some files as done.  Any thread may call this."""
        with self.lock:
            before = self.done
            self.done += sum(self.sizes[path] for path in paths)
            self.files += len(paths)
            finished = self.files == len(self.sizes)
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
            f"  {self.title:<10} [{bar:.<30}] {share:4.0%} of the source"
            f" {self.files:6,} files {seconds:6.1f} s"
        )
        print(start + line, end=end, flush=True)


def run_child(way: str, jobs: int, limit: int | None, out: str) -> None:
    """Do the whole work in one way and write what it gave and took to the file `out`."""
    files = find_files(limit)
    chunks = cut(files)
    progress = Progress(way, files)
    began = time.perf_counter()
    result, first = WAYS[way](chunks, jobs, progress.add)
    seconds = time.perf_counter() - began
    with open(out, "wb") as file:
        pickle.dump((result, seconds, first), file)


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


def run_way(way: str, jobs: int, limit: int | None) -> tuple[list[File], float, float, int]:
    """Run one way in a child; return its result, seconds, start-up seconds and peak bytes."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        command = [sys.executable, "-W", "ignore", __file__, "--way", way, "--out", out]
        command += ["--jobs", str(jobs)] + (["--files", str(limit)] if limit is not None else [])
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
            result, seconds, first = pickle.load(file)
    return result, seconds, first, peak


def heading(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def print_table(rows: dict[str, list[tuple[float, float, int]]]) -> None:
    """Print a line for each way: medians of its runs."""
    print(f"{'way':<12}{'seconds':>9}{'speed-up':>10}{'first answer':>14}{'peak memory':>13}")
    medians = {
        way: [statistics.median(column) for column in zip(*runs, strict=True)] for way, runs in rows.items()
    }
    base = medians["serial"][0] if "serial" in medians else math.nan
    for way, (seconds, first, peak) in medians.items():
        speed_up = "-" if math.isnan(base) else f"{base / seconds:.2f}x"
        start = "at once" if first == 0 else f"{first * 1000:,.1f} ms"
        size = f"{peak / 2**20:,.0f} MiB" if peak else "not known"
        print(f"{way:<12}{seconds:>9.2f}{speed_up:>10}{start:>14}{size:>13}")


def print_most_complex(files: list[File], count: int = 10) -> None:
    """Print the most complex functions of all files."""
    root = sysconfig.get_path("stdlib")
    functions = [
        (-complexity, os.path.relpath(file[0], root), line, name)
        for file in files
        for complexity, name, line in file[3]
    ]
    print(f"{'complexity':>10}  function")
    for complexity, path, line, name in sorted(functions)[:count]:
        print(f"{-complexity:>10}  {name}  ({path}:{line})")


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    cores = count_cores()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=cores, help=f"workers (default {cores})")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="default: all")
    parser.add_argument("--files", type=int, help="only so many files, spread over the library")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each way; medians count")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # for the child
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in ("jobs", "files", "repeat"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return arguments


def main() -> int:
    """Run the ways, compare, print; return the exit status."""
    arguments = parse_arguments()
    if arguments.way:
        run_child(arguments.way, arguments.jobs, arguments.files, arguments.out)
        return 0

    if "atoll" in arguments.ways and importlib.util.find_spec("atoll") is None:
        print(f"Atoll is not installed for {sys.executable}: `make run` sees to that.")
        return 1

    heading("The input")
    files = find_files(arguments.files)
    size = sum(size for size, _ in files)
    print(f"{len(files):,} files, {size / 2**20:,.1f} MiB of Python source")
    print(f"of {sysconfig.get_path('stdlib')}")
    if not files:
        print("The standard library of this Python is not on disk as .py files.")
        return 1

    heading("The work: parse each file, count nodes, names, and the complexity of each function")
    print(f"Python {platform.python_version()}, {arguments.jobs} workers")
    rows: dict[str, list[tuple[float, float, int]]] = {}
    results: dict[str, list[File]] = {}
    equal = True
    for _ in range(arguments.repeat):
        for way in arguments.ways:
            result, *costs = run_way(way, arguments.jobs, arguments.files)
            rows.setdefault(way, []).append(tuple(costs))  # type: ignore[arg-type]
            equal = results.setdefault(way, result) == result and equal

    heading("The results: equal?")
    reference_way, reference = next(iter(results.items()))
    for way, result in results.items():
        same = result == reference
        equal = equal and same
        if not same:
            print(f"NOT EQUAL: {way} differs from {reference_way}")
    if equal and len(results) > 1:
        print(f"{' = '.join(results)}: the same in every detail")
    skipped = sum(file[4] is not None for file in reference)
    print(f"{len(reference) - skipped:,} files parsed, {skipped:,} skipped (no valid Python)")
    print(
        f"{sum(file[1] for file in reference):,} nodes,"
        f" {sum(file[2] for file in reference):,} distinct names in files,"
        f" {sum(len(file[3]) for file in reference):,} functions"
    )

    heading("What each way took")
    print_table(rows)
    print("speed-up: against serial; first answer: from starting the workers until one answered;")
    print("peak memory: of the process and its children, pages that they share counted once.")

    heading("The ten most complex functions")
    print_most_complex(reference)
    return 0 if equal else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
