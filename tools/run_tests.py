"""Run test suites on each supported Python and add up what they say.

    run_tests.py [--suites SUITE ...] [--py 3.14 ...] [-- PYTEST ARGUMENTS]
    run_tests.py --room queue [--py 3.14 ...]

Each suite runs as its own process: lint, c, asan and tsan once, the others once for each Python, in the environment
that tools/env makes, one suite more at once than there are processors. pytest's tests are all run, but on a Python of
which a variant (another patch release, built otherwise) is tested as well only those that depend on CPython's insides.
blocks are some of them with ATOLL_DEBUG_BLOCKS, builtin some in a Python with all modules built in, old-wheel some
with an Atoll that another build of the same version has made (another patch release, linked otherwise), as users of a
wheel have it, and wheel those that tests/smoke.txt names, with the wheel of dist/ in a new environment. A suite that
crashes, hangs or cannot be built counts as one failure. A Python that cannot be had is named in the summary; it is a
failure when it was asked for with ``--py`` or when ``CI`` is set, where all of them must be covered.

A room of the source (ARCHITECTURE.md) is tested by the C tests and by pytest's that have its name, on the preferred
Python or those that are named, its files divided among as many pytests as run side by side.

After the table comes each test that failed, by name, or how the output of a suite ended that says no more than
that it did. The last line is ``N passed, N failed, N skipped`` over everything; the exit status is 0 when nothing
failed and something passed.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS, VARIANTS = (
    subprocess.run(
        ["tools/pythons", what], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    for what in ("versions", "variants")
)
ONCE = {
    "lint": ["tools/lint"],
    "c": ["tools/ctests", "plain"],
    "asan": ["tools/ctests", "asan"],
    "tsan": ["tools/ctests", "tsan"],
}
BY_PYTHON = ["pytest", "blocks", "builtin", "old-wheel", "wheel", "conformance"]
SUITES = [*ONCE, *BY_PYTHON]
# These take minutes, the others less.
LONGEST = ["pytest", "lint", "tsan", "asan"]
# What became of each environment that was asked for, and what whoever makes it holds.
ENVIRONMENTS: dict[str, str | None] = {}
MAKING = {version: threading.Lock() for version in (*VERSIONS, *VARIANTS)}
# What is also tested while all memory that interpreters leave is filled, counted and checked.
BLOCKS_TESTS = [
    "tests/interp/test_end.py",
    "tests/interp/test_exit.py",
    "tests/extension/test_extensions_exit.py",
    "tests/pool/test_pool_exit.py",
    "tests/memory/test_memory.py",
]
# Rooms with more than one folder of tests.
ROOM_FOLDERS = {
    "codec": ["codec", "crossing"],
    "module": ["interp", "queue", "pool", "sync", "map", "shared", "frozen"],
    "py": ["interp"],
    "shim": ["extension"],
}
# What is also tested in a Python that has all modules built in.
BUILTIN_TESTS = ["tests/extension/test_quirks.py", "tests/interp/test_call.py", "tests/codec/test_codec.py"]
# What is also tested with an Atoll that was built with another Python of the same version.
OLD_WHEEL_TESTS = [
    "tests/extension/test_quirks.py",
    "tests/extension/test_builtin.py",
    "tests/extension/test_extensions_close.py",
    "tests/interp/test_call.py",
]
# What is tested of a Python of which a variant is tested whole: how the two were built makes a difference here.
INSIDES_TESTS = ["tests/extension", "tests/frozen", "tests/interp", "tests/memory"]
# For one suite on one Python; only a hang that the suite itself does not notice lasts so long.
SUITE_SECONDS = 2700

COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed)\b")
MEANING = {"error": "failed", "errors": "failed", "xpassed": "failed", "xfailed": "skipped"}
# How the suites name a test that failed: pytest and tools/lint; tools/conformance.py; tests/c.
FAILURE = re.compile(
    r"(FAILED|ERROR) +\S.*|failed  +\S.*|\S+ \.\.\. (FAILED|\S+:\d+: failed: .*)|\S+:\d+: failed: .*"
)
# What comes before it is the output of tests, which may look like anything.
PYTEST_SUMMARY = re.compile(r"=+ short test summary info =+")
# For a row of the summary; who needs more has the output.
MOST_FAILURES = 40
MOST_CHARACTERS = 300
LAST_LINES = 12


@dataclasses.dataclass
class Row:
    """One line of the summary."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    note: str = ""
    failures: list[str] = dataclasses.field(default_factory=list)


def read_counts(line: str) -> dict[str, int] | None:
    """The counts in a suite's closing line, or None when it is not one."""
    found = COUNT.findall(line)
    if not found:
        return None
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for number, word in found:
        counts[MEANING.get(word, word)] += int(number)
    return counts


class Output:
    """What a suite's output, given line by line, says."""

    def __init__(self) -> None:
        self.closing: dict[str, int] | None = None
        self.failures: list[str] = []
        self.last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)

    def read(self, line: str) -> None:
        """Take the next line."""
        line = line.rstrip()
        if not line:
            return
        # Only the last line counts: a crash after a summary of something else shows none.
        self.closing = read_counts(line)
        self.last.append(line)
        if PYTEST_SUMMARY.fullmatch(line):
            self.failures.clear()
        elif FAILURE.fullmatch(line):
            self.failures.append(line)


def run_suite(name: str, command: list[str], mark: str = "") -> Row:
    """Run one suite, passing on its output line by line, marked, and count what its closing line says."""
    row = Row(name)
    print(f"\n=== {name}: {shlex.join(command)}", flush=True)
    begun = time.monotonic()
    # A session of its own, so that a hang is ended with every process it has started.
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None

    def end() -> None:
        row.note = f"ended after {SUITE_SECONDS} s"
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(SUITE_SECONDS, end)
    timer.start()
    output = Output()
    try:
        for line in process.stdout:
            print(mark + line, end="", flush=True)
            output.read(line)
        status = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    row.seconds = time.monotonic() - begun
    closing = output.closing
    if closing is None:
        row.failed = 1
        row.note = row.note or f"no closing line, exit status {status}"
    else:
        row.passed, row.failed, row.skipped = closing["passed"], closing["failed"], closing["skipped"]
        if row.failed == 0 and (status != 0 or row.passed == 0):
            row.failed = 1
            row.note = f"exit status {status}, {row.passed} passed"
    if row.failed:
        row.failures = output.failures
        if closing is None or not output.failures:
            row.failures = [*output.failures, *output.last]
    return row


def make_environment(version: str) -> str | None:
    """Make .venv/VERSION, once; what went wrong, or None."""
    with MAKING[version]:
        if version not in ENVIRONMENTS:
            ENVIRONMENTS[version] = try_environment(version)
        return ENVIRONMENTS[version]


def try_environment(version: str) -> str | None:
    """Make .venv/VERSION; what went wrong, or None."""
    print(f"\n=== environment for Python {version}", flush=True)
    if subprocess.run(["tools/pythons", "get", version], cwd=ROOT, check=False).returncode != 0:
        return "cannot be had"
    # With numpy and pandas: the examples are tested as well.
    if subprocess.run(["tools/env", version, "--examples"], cwd=ROOT, check=False).returncode != 0:
        return "its environment could not be made"
    return None


def has_test_suite(python: str) -> bool:
    """Whether this Python came with CPython's own tests; not every distributor includes them."""
    source = "import test.test_interpreters.test_api"
    return subprocess.run([python, "-c", source], capture_output=True, check=False).returncode == 0


def ask(python: Path, source: str, variables: dict[str, str] | None = None) -> str:
    """What a program prints, from elsewhere than the checkout."""
    environ = {**os.environ, **(variables or {})}
    command = [python, "-c", source]
    return subprocess.run(
        command, cwd=python.parent, env=environ, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def run_old_wheel(variant: str, required: bool, arguments: list[str], mark: str) -> Row:
    """Run tests on a variant X.Y-NAME with the Atoll of .venv/X.Y, which another build of that version has made."""
    name = f"old-wheel {variant}"
    version = variant.split("-")[0]
    trouble = make_environment(version)
    if trouble is not None:
        failed = required or trouble != "cannot be had"
        return Row(name, failed=int(failed), note=f"Python {version} {trouble}")
    builder, python = (ROOT / ".venv" / which / "bin" / "python" for which in (version, variant))
    packages = ask(builder, "import sysconfig; print(sysconfig.get_path('platlib'))")
    loaded = ask(python, "import atoll._atoll as a; print(a.__file__)", {"PYTHONPATH": packages})
    if not loaded.startswith(packages):
        return Row(name, failed=1, note=f"imports {loaded}, not what is in {packages}")
    tests = [str(python), "-m", "pytest", "-q", *OLD_WHEEL_TESTS, *arguments]
    row = run_suite(name, ["env", f"PYTHONPATH={packages}", *tests], mark)
    built, on = (ask(which, "import sys; print(sys.version.split()[0])") for which in (builder, python))
    row.note = row.note or f"built with {built}, run on {on}"
    return row


def runs_on(suite: str, version: str) -> bool:
    """Whether a suite is run on this Python."""
    if version in VARIANTS:
        return suite in {"pytest", "old-wheel"}
    # concurrent.interpreters, and with it CPython's tests of it, came with 3.14.
    return suite != "old-wheel" and not (suite == "conformance" and version in {"3.12", "3.13"})


def run_on(
    version: str, suite: str, required: bool, arguments: list[str], mark: str, *, whole: bool = True
) -> Row:
    """Run a suite that needs a Python on this one, and mark its output; not whole: some of pytest's tests."""
    name = f"{suite} {version}"
    if suite == "wheel":
        return run_suite(name, ["tools/test-wheel", version, *arguments], mark)
    trouble = make_environment(version)
    if trouble is not None:
        failed = required or trouble != "cannot be had"
        return Row(name, failed=int(failed), note=f"Python {version} {trouble}")
    python = str(ROOT / ".venv" / version / "bin" / "python")
    pytest = [python, "-m", "pytest", "-q"]
    if suite == "pytest":
        return run_suite(name, [*pytest, *([] if whole or arguments else INSIDES_TESTS), *arguments], mark)
    if suite == "blocks":
        return run_suite(name, ["env", "ATOLL_DEBUG_BLOCKS=1", *pytest, *BLOCKS_TESTS, *arguments], mark)
    if suite == "builtin":
        host = [python, "tests/builtin_host.py", "all"]
        return run_suite(name, [*host, *pytest, *BUILTIN_TESTS, *arguments], mark)
    if suite == "old-wheel":
        return run_old_wheel(version, required, arguments, mark)
    if not has_test_suite(python):
        return Row(name, failed=int(required), note="this Python came without CPython's tests")
    return run_suite(name, [python, "tools/conformance.py"], mark)


def jobs_at_once() -> int:
    """How many suites run side by side.

    Nothing in the tests depends on how fast they are, and much of them waits for child processes: one more than
    there are processors keeps these busy.
    """
    return len(os.sched_getaffinity(0)) + 1


def divide(paths: list[Path], parts: int) -> list[list[Path]]:
    """The files of tests in so many parts, or fewer, that take about as long, as far as their sizes tell."""
    groups: list[list[Path]] = [[] for _ in range(min(parts, len(paths)))]
    for path in sorted(paths, key=lambda path: path.stat().st_size, reverse=True):
        min(groups, key=lambda group: sum(one.stat().st_size for one in group)).append(path)
    return groups


def run_divided(name: str, version: str, folders: list[str]) -> list[Row]:
    """Run the tests of these folders by several pytests at once."""
    pytest = [str(ROOT / ".venv" / version / "bin" / "python"), "-m", "pytest", "-q"]
    parts = divide(
        sorted(path for one in folders for path in (ROOT / one).rglob("test_*.py")), jobs_at_once()
    )

    def run(number: int) -> Row:
        paths = [str(path.relative_to(ROOT)) for path in parts[number]]
        return run_suite(f"{name} {number + 1}/{len(parts)}", [*pytest, *paths], f"{number + 1}| ")

    with concurrent.futures.ThreadPoolExecutor(len(parts)) as threads:
        return list(threads.map(run, range(len(parts))))


def run_room(name: str, versions: list[str]) -> list[Row]:
    """Run the tests of one room of the source."""
    rows = []
    if any((ROOT / "tests" / "c").glob(f"test_{name}*.c")):
        rows.append(run_suite(f"c {name}", ["tools/ctests", "plain", f"/test_{name}"]))
    folders = [f"tests/{one}" for one in ROOM_FOLDERS.get(name, [name]) if (ROOT / "tests" / one).is_dir()]
    for version in versions if folders else []:
        trouble = make_environment(version)
        if trouble is not None:
            rows.append(Row(f"Python {version}", failed=1, note=trouble))
            continue
        rows += run_divided(f"{name} {version}", version, folders)
    if not rows:
        known = sorted({path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))})
        rows.append(
            Row(f"room {name}", failed=1, note=f"no tests have this name; there are {', '.join(known)}")
        )
    return rows


def run_suites(suites: list[str], versions: list[str], required: bool, arguments: list[str]) -> list[Row]:
    """Run suites on these Pythons, several side by side; their rows, as they are named in ``SUITES``."""
    jobs = [(name, "") for name in ONCE if name in suites]
    jobs += [
        (suite, version)
        for suite in BY_PYTHON
        if suite in suites
        for version in versions
        if runs_on(suite, version)
    ]
    if not jobs:
        return [Row(", ".join(suites), note=f"not run on {', '.join(versions)}")]
    at_once = min(jobs_at_once(), len(jobs))
    in_part = {version.split("-")[0] for version in versions if version in VARIANTS}

    def run(job: tuple[str, str]) -> Row:
        suite, version = job
        mark = f"{f'{suite} {version}'.strip()}| " if at_once > 1 else ""
        if suite in ONCE:
            return run_suite(suite, ONCE[suite], mark)
        return run_on(version, suite, required, arguments, mark, whole=version not in in_part)

    # What takes longest begins first, so that none is alone in the end.
    order = sorted(jobs, key=lambda job: LONGEST.index(job[0]) if job[0] in LONGEST else len(LONGEST))
    with concurrent.futures.ThreadPoolExecutor(at_once) as threads:
        futures = {job: threads.submit(run, job) for job in order}
        return [futures[job].result() for job in jobs]


def print_summary(rows: list[Row]) -> int:
    """Print the table, what failed and the totals; the exit status."""
    print(f"\n{'':<24}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for row in rows:
        print(
            f"{row.name:<24}{row.passed:>8}{row.failed:>8}{row.skipped:>9}{row.seconds:>9.1f}  {row.note}".rstrip()
        )
    for row in rows:
        if row.failures:
            print(f"\n{row.name}:")
        for failure in row.failures[:MOST_FAILURES]:
            print(f"  {failure[:MOST_CHARACTERS]}")
        if len(row.failures) > MOST_FAILURES:
            print(f"  and {len(row.failures) - MOST_FAILURES} more")
    passed, failed, skipped = (
        sum(getattr(row, key) for row in rows) for key in ("passed", "failed", "skipped")
    )
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or not passed else 0


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=["c", "pytest", "conformance"])
    pythons = [*VERSIONS, *VARIANTS]
    parser.add_argument("--py", nargs="*", choices=pythons, default=[], help="default: all that can be had")
    parser.add_argument("--room", help="a room of the source: only its tests")
    parser.add_argument("arguments", nargs="*", help="for pytest, after --")
    options = parser.parse_args()
    # What a shell starts in the background ignores SIGINT, which the programs that tests interrupt would inherit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if options.room:
        best = subprocess.run(
            ["tools/pythons", "best"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
        return print_summary(run_room(options.room.rsplit("/", 1)[-1], options.py or [best.stdout.strip()]))
    required = bool(options.py) or bool(os.environ.get("CI"))
    versions = options.py or pythons
    if set(BY_PYTHON) & set(options.suites):
        # All at once, which is quicker; what cannot be had is said for each below.
        subprocess.run(["tools/pythons", "get", *versions], cwd=ROOT, capture_output=True, check=False)
    return print_summary(run_suites(options.suites, versions, required, options.arguments))


if __name__ == "__main__":
    sys.exit(main())
