#!/usr/bin/env python3
"""Run CPython's own interpreter tests against Atoll.

    python tools/conformance.py [--baseline] [-k TEXT] [-v] [--timeout SECONDS]

The suites are ``test.test_interpreters`` (test_api, test_lifecycle, test_queues, test_stress) and
``test.test_concurrent_futures.test_interpreter_pool`` of the Python that runs this program, 3.14 or newer.
``atoll.install()`` runs before the tests are imported and in every process that they start, so that their
``from concurrent import interpreters`` and ``concurrent.futures.InterpreterPoolExecutor`` mean Atoll.
``--baseline`` leaves ``install()`` out and so shows what passes on this machine with the standard library.

How it works.  The tests start child processes with ``-E`` and ``-I``, which ignore the environment, so the
hook lives where those options do not reach: in the site-packages directory of a virtual environment made for
this run and removed afterwards.  The tests run in a worker process of that environment
(tests/conformance/worker.py), which reports each test over a pipe.  If the worker crashes or hangs, the test that
was running has failed and a new worker goes on with the rest.

What may be skipped stands in tests/conformance/skips.toml, with its reason.  A test listed there is run all the
same: it has to fail in the way its entry says, and only then does it count as skipped.  An entry that is not
needed any more is a failure, and so is a test that skips itself without being listed.

The last line is ``N passed, N failed, N skipped``.  The exit status is 0 when nothing failed and something
passed, else 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import select
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "tests" / "conformance"
MODULES = (
    "test_interpreters.test_api",
    "test_interpreters.test_lifecycle",
    "test_interpreters.test_queues",
    "test_interpreters.test_stress",
    "test_concurrent_futures.test_interpreter_pool",
)
KINDS = ("private", "spec", "cpython")
MOST_WORKERS = 25  # a run that needs more than this has crashed often enough
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

START_UP = """\
try:
    from _interpreters import get_current
except ImportError:
    pass
else:
    # Only in the main interpreter: what Atoll's own interpreters see is for install() to arrange.
    if get_current()[0] == 0:
        import atoll

        atoll.install()
"""


@dataclasses.dataclass
class Skip:
    """One entry of skips.toml."""

    test: str
    kind: str
    reason: str
    fails_with: str
    subtest: str | None = None

    def covers(self, description: str | None) -> bool:
        """Say whether the entry is about this subtest (None: the test as a whole)."""
        if self.subtest is None or description is None:
            return self.subtest is None and description is None
        pattern = re.escape(self.subtest).replace(r"\*", ".*")
        return re.fullmatch(pattern, description, re.DOTALL) is not None

    def name(self) -> str:
        """Return the test's name with the subtest's."""
        return self.test if self.subtest is None else f"{self.test} [{self.subtest}]"


@dataclasses.dataclass
class Outcome:
    """What one test did: (subtest, text) for each failure, and whatever else the worker reported."""

    failures: list[tuple[str | None, str]] = dataclasses.field(default_factory=list)
    passed_subtests: list[str] = dataclasses.field(default_factory=list)
    skipped: str | None = None
    died: str | None = None
    output: str = ""
    seconds: float = 0.0


@dataclasses.dataclass
class Verdict:
    """A test's place in the count, with what to print about it."""

    status: str  # "passed", "failed" or "skipped"
    notes: list[str] = dataclasses.field(default_factory=list)


def read_skips(path: Path) -> dict[str, list[Skip]]:
    """Return the entries for this Python version by test.  Raises ValueError for a malformed one."""
    with path.open("rb") as file:
        data = tomllib.load(file)
    skips: dict[str, list[Skip]] = {}
    for raw in data.get("skip", []):
        versions = raw.pop("versions", None)
        try:
            skip = Skip(**raw)
        except TypeError as error:
            raise ValueError(f"{path}: {raw}: {error}") from None
        if skip.kind not in KINDS:
            raise ValueError(f"{path}: {skip.name()}: kind {skip.kind!r} is none of {KINDS}")
        if not skip.reason.strip():
            raise ValueError(f"{path}: {skip.name()}: no reason is given")
        re.compile(skip.fails_with)
        if versions is None or VERSION in versions:
            skips.setdefault(skip.test, []).append(skip)
    return skips


def judge(outcome: Outcome, skips: list[Skip], *, baseline: bool) -> Verdict:
    """Compare what a test did with what the skip list says of it."""
    if outcome.died is not None:
        return Verdict("failed", [outcome.died, *(text for _, text in outcome.failures)])
    if outcome.skipped is not None and baseline:
        return Verdict("skipped", [outcome.skipped])
    failures = list(outcome.failures)
    if outcome.skipped is not None:
        failures.append((None, f"skipped by CPython: {outcome.skipped}"))
    notes: list[str] = []
    needed: set[int] = set()
    for description, text in failures:
        for number, skip in enumerate(skips):
            if skip.covers(description):
                needed.add(number)
                if re.search(skip.fails_with, text) is None:
                    notes.append(
                        f"{skip.name()} failed, but not as the skip list says ({skip.fails_with!r}):\n{text}"
                    )
                break
        else:
            notes.append(text if description is None else f"subtest [{description}]:\n{text}")
    for number, skip in enumerate(skips):
        passes = [text for text in outcome.passed_subtests if skip.covers(text)]
        if number not in needed:
            notes.append(f"stale skip: {skip.name()} does not fail any more")
        elif passes:
            notes.append(f"stale skip: {skip.name()} also covers subtests that pass: {', '.join(passes)}")
    if notes:
        return Verdict("failed", notes)
    if skips:
        return Verdict(
            "skipped", list(dict.fromkeys(f"{skip.kind}: {skip.reason.strip()}" for skip in skips))
        )
    return Verdict("passed")


def make_environment(directory: Path, *, baseline: bool) -> Path:
    """Make a virtual environment whose every process calls atoll.install(); return its Python.

    Raises ModuleNotFoundError when Atoll is not importable here.
    """
    venv.EnvBuilder(symlinks=True, with_pip=False).create(directory)
    python = directory / "bin" / "python"
    if baseline:
        return python
    spec = importlib.util.find_spec("atoll")
    if spec is None:
        raise ModuleNotFoundError("No module named 'atoll': build it and install it for this Python first")
    paths = sysconfig.get_paths()
    sites = {paths["purelib"], paths["platlib"], *site.getsitepackages()}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(sites) if os.path.isdir(path)]
    if spec.origin is not None:
        parent = os.path.dirname(os.path.dirname(os.path.abspath(spec.origin)))
        if parent in map(os.path.abspath, sys.path) and parent not in sites:
            lines.insert(0, parent)
    target = Path(
        subprocess.run(
            [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    (target / "atoll_conformance_startup.py").write_text(START_UP)
    lines.append("import atoll_conformance_startup")
    (target / "zz_atoll_conformance.pth").write_text("\n".join(lines) + "\n")
    return python


def worker_environment() -> dict[str, str]:
    """Return an environment in which nothing steers the worker's Python but its own site-packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ATOLL"))}


class Worker:
    """One worker process, and the events that it sends."""

    def __init__(self, python: Path, request: dict[str, Any], log: Path) -> None:
        reader, writer = os.pipe()
        self.log = log
        self._reader = reader
        self._buffer = b""
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [python, "-X", "faulthandler", DATA / "worker.py", str(writer), json.dumps(request)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(writer,),
                env=worker_environment(),
                cwd=log.parent,
            )
        os.close(writer)

    def events(self, timeout: float) -> Iterator[dict[str, Any]]:
        """Yield the events; {'hung': True} when none comes for `timeout` seconds, which also ends the worker."""
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                yield json.loads(line)
                continue
            if not select.select([self._reader], [], [], timeout)[0]:
                yield {"hung": True}
                self._stop()
                return
            chunk = os.read(self._reader, 1 << 16)
            if not chunk:
                return
            self._buffer += chunk

    def _stop(self) -> None:
        """End a worker that hangs; SIGABRT first, for which faulthandler prints every thread's stack."""
        self.process.send_signal(signal.SIGABRT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def finish(self, timeout: float) -> int | None:
        """Wait for the process's end; return its status, or None when it had to be killed."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._stop()
            self.process.wait()
            return None
        finally:
            os.close(self._reader)

    def output(self, start: int = 0) -> str:
        """Return what the worker printed from byte `start` on."""
        with self.log.open("rb") as file:
            file.seek(start)
            return file.read().decode("utf-8", "replace")

    def printed(self) -> int:
        """Return how many bytes the worker has printed."""
        return self.log.stat().st_size


def say_status(status: int | None) -> str:
    """Put an exit status into words."""
    if status is None:
        return "hung and was killed"
    if status < 0:
        return f"died of {signal.Signals(-status).name}"
    return f"exited with status {status}"


class Run:
    """One run over all modules: collects outcomes, prints verdicts, counts."""

    def __init__(
        self, python: Path, directory: Path, options: argparse.Namespace, skips: dict[str, list[Skip]]
    ) -> None:
        self.python = python
        self.directory = directory
        self.options = options
        self.skips = skips
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.seen: set[str] = set()
        self.failed: list[str] = []
        self.workers = 0

    def report(self, test: str, verdict: Verdict, outcome: Outcome) -> None:
        """Print one test's verdict and count it."""
        self.seen.add(test)
        self.counts[verdict.status] += 1
        if verdict.status == "passed" and not self.options.verbose:
            return
        print(f"{verdict.status:8}{test}  ({outcome.seconds:.1f} s)")
        if verdict.status == "passed":
            return
        for note in verdict.notes:
            print("".join(f"        {line}\n" for line in note.rstrip().splitlines()), end="")
        if verdict.status == "failed":
            self.failed.append(test)
            if outcome.output.strip():
                print("    its output:")
                print("".join(f"        {line}\n" for line in outcome.output.rstrip().splitlines()), end="")
        sys.stdout.flush()

    def fail(self, name: str, note: str, output: str = "") -> None:
        """Count a failure that belongs to no test."""
        self.report(name, Verdict("failed", [note]), Outcome(output=output))

    def run_module(self, module: str) -> None:
        """Run one test module, with as many workers as it takes."""
        left: list[str] | None = None
        while left is None or left:
            if self.workers == MOST_WORKERS:
                self.fail(f"{module} (the rest)", f"given up after {MOST_WORKERS} workers; not run: {left}")
                return
            self.workers += 1
            request = {
                "module": f"test.{module}",
                "tests": left,
                "pattern": self.options.pattern,
                "adapt": not self.options.baseline,
            }
            left = self.run_worker(module, request, left)

    def run_worker(self, module: str, request: dict[str, Any], left: list[str] | None) -> list[str]:
        """Run one worker; return the tests that it did not get to."""
        worker = Worker(self.python, request, self.directory / f"worker{self.workers}.log")
        current: str | None = None
        outcome = Outcome()
        began, start, ended, hung = 0.0, 0, False, False
        for event in worker.events(self.options.timeout):
            if "tests" in event:
                left = list(event["tests"])
            elif "start" in event:
                current, outcome, began, start = event["start"], Outcome(), time.monotonic(), worker.printed()
            elif "failure" in event:
                outcome.failures.append((event["subtest"], event["failure"]))
            elif "passed_subtest" in event:
                outcome.passed_subtests.append(event["passed_subtest"])
            elif "skip" in event:
                outcome.skipped = event["skip"]
            elif "stop" in event:
                outcome.seconds = time.monotonic() - began
                outcome.output = worker.output(start)
                assert current is not None
                assert left is not None
                self.report(current, self.judge(current, outcome), outcome)
                left.remove(current)
                current = None
            elif "end" in event:
                ended = True
            elif "hung" in event:
                hung = True
        status = worker.finish(self.options.timeout)
        if ended:
            if status != 0:
                self.fail(
                    f"{module} (process exit)",
                    f"the worker {say_status(status)} after its tests",
                    worker.output(),
                )
            return []
        if current is None or left is None:
            self.fail(f"{module} (worker)", f"the worker {say_status(status)} between tests", worker.output())
            return []
        outcome.died = (
            f"no answer for {self.options.timeout} s" if hung else f"the worker {say_status(status)}"
        )
        outcome.seconds = time.monotonic() - began
        outcome.output = worker.output(start)
        self.report(current, self.judge(current, outcome), outcome)
        left.remove(current)
        return left

    def judge(self, test: str, outcome: Outcome) -> Verdict:
        """Judge with the entries for this test."""
        return judge(outcome, self.skips.get(test, []), baseline=self.options.baseline)

    def check_names(self) -> None:
        """Fail for each entry whose test does not exist."""
        if self.options.pattern is None:
            for test in sorted(set(self.skips) - self.seen):
                self.fail(test, "stale skip: there is no such test")

    def finish(self) -> int:
        """Print the count; return the exit status."""
        if self.failed:
            print("\nfailed: " + "\n        ".join(self.failed))
        print(", ".join(f"{count} {status}" for status, count in self.counts.items()))
        return 0 if self.counts["passed"] and not self.counts["failed"] else 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Run CPython's own interpreter tests against Atoll.")
    parser.add_argument(
        "--baseline", action="store_true", help="run them against the standard library instead"
    )
    parser.add_argument("-k", dest="pattern", metavar="TEXT", help="only the tests whose name contains TEXT")
    parser.add_argument("-v", "--verbose", action="store_true", help="name the tests that pass, too")
    parser.add_argument(
        "--timeout", type=float, default=180.0, metavar="SECONDS", help="for one test (%(default)s)"
    )
    return parser.parse_args()


def main() -> int:
    """Run everything; return the exit status."""
    options = parse_arguments()
    none = "0 passed, 0 failed, 0 skipped"
    if sys.version_info < (3, 14):
        print(f"Python {VERSION} has no concurrent.interpreters and so no tests of it\n{none}")
        return 1
    try:
        found = all(importlib.util.find_spec(f"test.{module}") for module in MODULES)
    except ImportError:
        found = False
    if not found:
        print(f"this Python {VERSION} comes without its own test suite\n{none}")
        return 1
    with tempfile.TemporaryDirectory(prefix="atoll-conformance-") as name:
        directory = Path(name).resolve()
        try:
            python = make_environment(directory / "venv", baseline=options.baseline)
        except ModuleNotFoundError as error:
            print(f"{error}\n{none}")
            return 1
        run = Run(python, directory, options, {} if options.baseline else read_skips(DATA / "skips.toml"))
        for module in MODULES:
            run.run_module(module)
        run.check_names()
        return run.finish()


if __name__ == "__main__":
    sys.exit(main())
