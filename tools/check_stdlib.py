#!/usr/bin/env python3
"""check_stdlib.py [--py X.Y] [--page] [--timeout SECONDS] [--jobs N] [FILE ...]: the standard library's own tests.

Runs each test file of a Python's `test` package in an interpreter, in a process of its own
(tests/stdlib/worker.py), and those of its tests that do not pass there in a plain run of that Python, too. A test
that does not end as it does in main is a difference. What takes a network, much time or much room is off, as
regrtest's default has it. FILE is a name as regrtest has it, or how one begins (test_os, test_asyncio.test_tasks);
without one, all are run. --py (default: the best there is) is a version, whose environment tools/env makes, or the
path of a Python that has Atoll.

Differences that have to be stand in tests/stdlib/differences.toml, with their reason, and so does what is not run
at all. Where a group there says `again = "fork"`, its tests are run once more in an interpreter that may fork, and
have to end there as in main. A difference that is not listed is run a second time; it is told in any case, and
counts when it is there again.

docs/stdlib.md is made from the list: --page writes it and runs nothing.

The last line is `N files as in main, N as listed, N not, N tests in interpreters`. The exit status is 1 when a
file differs and that is not listed, or when what is listed does not differ any more. Not part of CI: a version
takes ten minutes or more.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "stdlib" / "differences.toml"
WORKER = ROOT / "tests" / "stdlib" / "worker.py"
PAGE = ROOT / "docs" / "stdlib.md"
PASSES, NOT_THERE = "passes", "is not there"
# What says of a skipped test that it would be skipped in main, too, so that main need not be asked.
SAME_SKIP = re.compile(r"skipped: (Use of the '\w+' resource not enabled|resource '\w+' is not enabled)")


@dataclasses.dataclass(frozen=True)
class Group:
    """What differs for one reason: tests by pattern of their name, and by what their outcome says."""

    title: str
    reason: str
    tests: tuple[str, ...] = ()
    outcome: str | None = None  # a regular expression
    versions: tuple[str, ...] = ()  # none: all
    again: str | None = None  # where these tests have to end as in main
    sometimes: bool = False  # not each time, or not on each machine

    def find(self, test: str, outcome: str) -> str | None:
        """Return the pattern or expression that a difference matches."""
        if self.outcome is not None and re.search(self.outcome, outcome):
            return self.outcome
        return find_pattern(test, self.tests)


@dataclasses.dataclass(frozen=True)
class Known:
    """What differences.toml says of one version."""

    left_out: tuple[Group, ...]  # files that are not run, and tests
    differs: tuple[Group, ...]

    def is_left_out(self, name: str) -> bool:
        """Tell whether a file is not run."""
        return any(find_pattern(name, group.tests) for group in self.left_out)

    def tests_left_out(self, name: str) -> list[str]:
        """Return the patterns of a file's tests that are not run."""
        return [test for group in self.left_out for test in group.tests if test.startswith(f"{name}.")]

    def find(self, test: str, outcome: str) -> tuple[Group, str] | None:
        """Return the group that a difference belongs to, and what it matches there."""
        for group in self.differs:
            if (found := group.find(test, outcome)) is not None:
                return group, found
        return None


@dataclasses.dataclass
class Run:
    """What became of a file in one place."""

    status: int | str  # of its process, or what else ended it
    tests: list[str] = dataclasses.field(default_factory=list)  # all that are there
    ran: set[str] = dataclasses.field(default_factory=set)
    outcomes: dict[str, str] = dataclasses.field(default_factory=dict)  # of those that do not pass
    complete: bool = False
    during: str = ""  # the test that was run last
    words: str = ""  # the end of what was written to stderr

    def outcome(self, test: str) -> str:
        """Return what a test did; a kind, a colon and more where it did not pass."""
        return self.outcomes.get(test, PASSES if test in self.tests else NOT_THERE)


@dataclasses.dataclass
class Verdict:
    """What came of a file."""

    name: str
    count: int = 0
    seconds: float = 0.0
    unknown: dict[str, str] = dataclasses.field(default_factory=dict)
    passing: dict[str, str] = dataclasses.field(default_factory=dict)  # unknown, but not there a second time
    used: set[tuple[str, str]] = dataclasses.field(default_factory=set)  # titles of groups, with what matched


def find_pattern(text: str, patterns: Iterable[str]) -> str | None:
    """Return the first of the patterns that fits."""
    return next((pattern for pattern in patterns if fnmatch.fnmatchcase(text, pattern)), None)


def read_list(version: str | None = None, path: Path = DATA) -> Known:
    """Read differences.toml, for one version or (None) all of it.  Raises ValueError where it makes no sense."""
    data: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    groups: dict[str, list[Group]] = {"left_out": [], "differs": []}
    for kind, entries in data.items():
        for entry in entries:
            fields: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
            }
            try:
                group = Group(**fields)
                groups[kind].append(group)
            except (TypeError, KeyError) as error:
                raise ValueError(f"{path}: {entry.get('title', kind)}: {error}") from None
            if not group.reason.strip() or not (group.tests or group.outcome):
                raise ValueError(f"{path}: {group.title}: it needs a reason, and tests or an outcome")
    return Known(
        *(
            tuple(
                group for group in each if version is None or not group.versions or version in group.versions
            )
            for each in groups.values()
        )
    )


# ---- the page ----


def make_page(known: Known) -> str:
    """Return docs/stdlib.md."""
    lines = [
        "# The standard library in interpreters",
        "",
        "<!-- Written by `tools/check_stdlib.py --page` from tests/stdlib/differences.toml. -->",
        "",
        "`make stdlib` runs the standard library's own tests, each file in an interpreter, and compares with a plain",
        "run of the same Python. They end as they do there, but for what this page lists; the check fails when that is",
        "not so, and when something here does not differ any more.",
        "",
        "## What differs",
        *(line for group in known.differs for line in describe(group)),
        "",
        "## What is not run",
        *(line for group in known.left_out for line in describe(group)),
    ]
    return "\n".join(lines) + "\n"


def describe(group: Group) -> list[str]:
    """Return the page's lines about a group."""
    lines = ["", f"### {group.title}", "", " ".join(group.reason.split())]
    if group.versions:
        lines[-1] += f" (Python {', '.join(group.versions)})"
    if group.sometimes:
        lines[-1] += " Not each time, or not on each machine."
    if group.again == "fork":
        lines[-1] += (
            " In an interpreter of `create(fork=True)` these tests end as in main, which is checked, too."
        )
    if group.outcome:
        lines += ["", f"Every test that fails with `{group.outcome}`."]
    if group.tests:
        lines += ["", ", ".join(f"`{test}`" for test in group.tests)]
    return lines


# ---- running ----


def run_file(python: str, request: dict[str, Any], timeout: float) -> Run:
    """Run one test file in a process of its own, with a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="atoll-stdlib-", ignore_cleanup_errors=True) as folder:
        output, work = os.path.join(folder, "output"), os.path.join(folder, "work")
        os.mkdir(work)
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "ATOLL"))
        }
        with open(os.path.join(folder, "errors"), "wb+") as errors:
            process = subprocess.Popen(
                [python, "-X", "faulthandler", "-W", "ignore", WORKER, json.dumps(request), output],
                cwd=work,
                env=environment | {"TMPDIR": work},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            try:
                status: int | str = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = "no end in time"
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)  # what it has started as well
                except ProcessLookupError:
                    pass
                process.wait()
            run = Run(status)
            errors.seek(0)
            run.words = errors.read().decode("utf-8", "replace")
        try:
            read_events(Path(output).read_text("utf-8"), run)
        except FileNotFoundError:
            pass
        return run


def read_events(text: str, run: Run) -> None:
    """Take over what a worker has written."""
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # cut off by the process's end
        if "tests" in event:
            run.tests = event["tests"]
        elif "start" in event:
            run.ran.add(event["start"])
            run.during = event["start"]
        elif "test" in event:
            # A failure says more than the skip of one of its subtests.
            if not run.outcomes.get(event["test"], "").startswith("fails"):
                run.outcomes[event["test"]] = event["outcome"]
        elif "end" in event:
            run.complete, run.during = True, ""


def compare(name: str, there: Run, here: Run) -> dict[str, str]:
    """Return how a file differs in an interpreter from main: the tests, with what they do there and here."""
    result = {}
    if there.status != here.status or there.complete != here.complete:
        ends = [f"{run.status}{' during ' + run.during if run.during else ''}" for run in (there, here)]
        last = there.words.strip().splitlines()[-1:] or [""]
        result[name] = f"fails: ends with {ends[0]}; in main: {ends[1]}; {last[0][-160:]}"
    for test in dict.fromkeys([*there.outcomes, *there.tests, *here.tests]):
        if any(not run.complete and test not in run.ran for run in (there, here)):
            continue  # it did not come to that
        outcome, other = there.outcome(test), here.outcome(test)
        if outcome.partition(":")[0] != other.partition(":")[0]:
            result[test] = outcome if other == PASSES else f"{outcome} (in main: {other})"
    return result


class Check:
    """One run over a Python's test files."""

    def __init__(self, python: str, known: Known, timeout: float) -> None:
        self.python = python
        self.known = known
        self.timeout = timeout

    def run(self, name: str, where: str, only: Iterable[str] | None = None) -> Run:
        """Run a file, or some of its tests."""
        without = self.known.tests_left_out(name)
        request = {"name": name, "where": where, "only": only and sorted(only), "without": without}
        return run_file(self.python, request, self.timeout)

    def find_differences(
        self, name: str, where: str, only: Iterable[str] | None, whole: bool
    ) -> tuple[Run, dict[str, str]]:
        """Run a file (`only` some of its tests) in an interpreter, and what does not pass, or the `whole`, in main."""
        there = self.run(name, where, only)
        asked = [test for test, outcome in there.outcomes.items() if not SAME_SKIP.match(outcome)]
        if there.status != 0 or not there.complete or name in asked or whole:
            return there, compare(name, there, self.run(name, "main", only))
        if asked:
            here = self.run(name, "main", asked)
            here.outcomes |= {test: there.outcomes[test] for test in there.outcomes.keys() - set(asked)}
            return there, compare(name, there, here)
        return there, {}

    def check(self, name: str) -> Verdict:
        """Run a file wherever that is needed."""
        begun = time.monotonic()
        verdict = Verdict(name)
        there, differences = self.find_differences(name, "interpreter", None, whole=False)
        verdict.count = len(there.ran)
        verdict.unknown = self.judge(differences, verdict)
        if verdict.unknown:
            # Once more, with all of it in main: tests depend on each other, and on what else the machine does.
            second = self.find_differences(name, "interpreter", None, whole=True)[1]
            for test in [test for test in verdict.unknown if test not in second]:
                verdict.passing[test] = verdict.unknown.pop(test)
        for where in {group.again for group in self.known.differs if group.again is not None}:
            again = [test for test, outcome in differences.items() if self.wants_again(test, outcome, where)]
            if again:
                for test, outcome in self.find_differences(name, where, again, whole=False)[1].items():
                    found = self.known.find(test, outcome)
                    if found is None or found[0].again == where:
                        verdict.unknown[test] = f"with {where}=True: {outcome}"
        verdict.seconds = time.monotonic() - begun
        return verdict

    def judge(self, differences: dict[str, str], verdict: Verdict) -> dict[str, str]:
        """Return the differences that are not listed; note what was used of the list."""
        unknown = {}
        for test, outcome in differences.items():
            found = self.known.find(test, outcome)
            if found is None:
                unknown[test] = outcome
            else:
                verdict.used.add((found[0].title, found[1]))
        return unknown

    def wants_again(self, test: str, outcome: str, where: str) -> bool:
        """Tell whether a difference belongs to a group whose tests have to end as in main elsewhere."""
        found = self.known.find(test, outcome)
        return found is not None and found[0].again == where


def find_stale(known: Known, files: list[str], used: set[tuple[str, str]], whole: bool) -> list[str]:
    """Return what the list has and these files did not need; of what outcomes say, only after the `whole` suite."""
    stale = []
    for group in known.differs:
        if group.sometimes:
            continue
        for pattern in group.tests:
            run = any(pattern == name or pattern.startswith(f"{name}.") for name in files)
            if (run or whole) and (group.title, pattern) not in used:
                stale.append(f"{pattern} ({group.title})")
        if group.outcome is not None and whole and (group.title, group.outcome) not in used:
            stale.append(f"{group.outcome} ({group.title})")
    return stale


def find_files(python: str) -> list[str]:
    """Return the names of a Python's test files, as regrtest has them; none where it comes without."""
    code = "from test.libregrtest.findtests import findtests; print('\\n'.join(findtests()))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return sorted({name.removeprefix("test.") for name in found.stdout.split()})


def find_python(version: str | None) -> str:
    """Return the path of a Python that has Atoll, which tools/env makes where a version is given."""
    if version is not None and os.sep in version:
        return os.path.abspath(version)
    if version is None:
        version = subprocess.check_output(["tools/pythons", "best"], cwd=ROOT, text=True).strip()
    subprocess.run(["tools/env", version], cwd=ROOT, check=True)
    return str(ROOT / ".venv" / version / "bin" / "python")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="The standard library's own tests, each file in an interpreter."
    )
    parser.add_argument("--py", metavar="X.Y", help="the Python (default: the best there is)")
    parser.add_argument("--page", action="store_true", help="write docs/stdlib.md, and run nothing")
    parser.add_argument(
        "--timeout", type=float, default=120, metavar="SECONDS", help="for one file (%(default)s)"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), metavar="N", help="files at a time (%(default)s)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="name each file, with its seconds")
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="test files, or how their names begin (default: all)"
    )
    return parser.parse_args()


def choose_files(all_files: list[str], wanted: list[str], known: Known) -> list[str]:
    """Return the files to run.  Raises ValueError for a wanted one that is not there."""
    if not wanted:
        return [name for name in all_files if not known.is_left_out(name)]
    chosen = []
    for want in wanted:
        found = [name for name in all_files if name == want or name.startswith(f"{want}.")]
        if not found:
            raise ValueError(f"there is no test file {want!r}")
        chosen += found
    return chosen


def main() -> int:
    """Run what is asked for; return the exit status."""
    options = parse_arguments()
    if options.page:
        PAGE.write_text(make_page(read_list()), "utf-8")
        return 0
    python = find_python(options.py)
    code = "import sys, atoll; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.check_output([python, "-c", code], text=True).strip()
    known = read_list(version)
    all_files = find_files(python)
    if not all_files:
        print(f"check_stdlib.py: {python} comes without its own test suite", file=sys.stderr)
        return 1
    try:
        files = choose_files(all_files, options.files, known)
    except ValueError as error:
        print(f"check_stdlib.py: {error}", file=sys.stderr)
        return 2
    check = Check(python, known, options.timeout)
    used: set[tuple[str, str]] = set()
    tests = same = listed = different = 0
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(check.check, name) for name in files]):
            verdict = done.result()
            tests += verdict.count
            used |= verdict.used
            different += bool(verdict.unknown)
            listed += bool(verdict.used) and not verdict.unknown
            same += not verdict.used and not verdict.unknown
            if options.verbose:
                print(f"{verdict.name}: {verdict.count} tests, {verdict.seconds:.1f} s", flush=True)
            for test, outcome in verdict.unknown.items():
                print(f"DIFFERS {test}: {outcome}", flush=True)
            for test, outcome in verdict.passing.items():
                print(f"differed once {test}: {outcome}", flush=True)
    stale = find_stale(known, files, used, whole=not options.files)
    for pattern in stale:
        print(f"does not differ any more: {pattern}")
    print(
        f"{version}: {same} files as in main, {listed} as listed, {different} not, {tests} tests in interpreters,"
        f" {time.monotonic() - begun:.0f} s"
    )
    return 1 if different or stale else 0


if __name__ == "__main__":
    sys.exit(main())
