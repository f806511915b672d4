#!/usr/bin/env python3
"""Check that popular packages, and the standard library's extension modules, work in Atoll's interpreters.

    python tools/check_packages.py [--py 3.14 ...] [--only NAME ...] [--main yes|no|both] [--jobs N]
        [--json FILE] [--table] [--baseline] [--no-large] [--environments DIRECTORY] [--pin]

For each case in tests/packages, a child process (tests/packages/child.py) makes three interpreters, imports
the package and runs its operation in each, runs the operation in two of them at once for a second, closes all
three and exits; once with the main interpreter having imported it before, once without.  A case works when every
stage does, the exit status is 0 and no file is left behind.

The packages are wheels, pinned in tests/packages/pins, installed into .venv/packages-X.Y.  --no-large leaves out what
brings several GB.  --environments takes DIRECTORY/X.Y instead, as it is.  --baseline runs everything in the
main interpreter and its threads, which shows what is wrong with an environment rather than with Atoll.  --pin
writes new pins, of the newest versions.  --table (`make check-packages` gives it) writes what has been found into
docs/extensions.md, unless something was left out.

What does not work is listed in tests/packages/known.toml, with its mechanism.  An entry that is not needed any more
is a failure.  The last line is ``N passed, N failed, N skipped``; skipped are known failures and what has no wheel.
The exit status is 0 when nothing failed and something passed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "packages"
DOCUMENT = ROOT / "docs" / "extensions.md"
sys.path.insert(0, str(DATA))

import cases  # noqa: E402
import environments  # noqa: E402

MARKS = ("<!-- packages:start -->", "<!-- packages:end -->")
VERSIONS = subprocess.run(
    ["tools/pythons", "versions"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
).stdout.split()
TAIL = 6000  # characters of a child's output that are kept


@dataclasses.dataclass
class Known:
    """One entry of known.toml."""

    case: str
    stage: str
    mechanism: str
    versions: list[str] | None = None
    main: bool | None = None
    sometimes: bool = False

    def covers(self, result: Result) -> bool:
        """Say whether the entry is about this run."""
        return (
            self.case == result.case
            and (self.versions is None or result.version in self.versions)
            and (self.main is None or self.main == result.main)
        )


@dataclasses.dataclass
class Result:
    """What came of a case on one Python, with or without main having imported it."""

    version: str
    case: str
    main: bool
    release: str = ""  # the distribution's
    outcome: str = "failed"  # or "passed", "known", "no wheel", "not installed"
    stage: str = ""  # the one that failed
    status: int | None = None  # the exit status
    signal: str = ""
    error: str = ""
    output: str = ""  # the end of what the child wrote
    mechanism: str = ""  # of a known failure
    operations: list[int] = dataclasses.field(default_factory=list)
    extensions: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def line(self) -> str:
        """Return what is printed of it."""
        name = f"{self.version} {self.case}" + (", main too" if self.main else "")
        if self.outcome != "failed":
            return f"{name}: {self.outcome}"
        how = self.signal or (f"exit status {self.status}" if self.status else "")
        last = self.error.strip().splitlines()[-1:] or [""]
        return f"{name}: FAILED in {self.stage}: {' '.join(part for part in (how, last[0]) if part)}"


def read_known() -> list[Known]:
    """Return the entries of known.toml."""
    with (DATA / "known.toml").open("rb") as file:
        return [Known(**entry) for entry in tomllib.load(file).get("known", [])]


def child_environment(directory: Path) -> dict[str, str]:
    """Return the environment of a child: nothing steers its Python, and its temporary files are in DIRECTORY/tmp."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # PyTorch makes a directory for what it might compile, with or without Atoll.
    return kept | {"TMPDIR": str(directory / "tmp"), "TORCHINDUCTOR_CACHE_DIR": str(directory / "torch")}


def read_events(text: bytes, result: Result) -> None:
    """Take over what a child has reported."""
    for line in text.splitlines():
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:
            continue  # cut off by the child's end
        result.stage = event.get("stage", result.stage)
        for name in ("error", "operations", "extensions"):
            if name in event:
                setattr(result, name, event[name])
        if "error" in event:
            return


def run_child(python: Path, case: cases.Case, result: Result, seconds: float, baseline: bool) -> None:
    """Run one child to its end and fill in the result."""
    request = {
        "home": case.home,
        "name": case.name,
        "main": result.main,
        "seconds": seconds,
        "baseline": baseline,
    }
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="atoll-packages-") as directory:
        place = Path(directory)
        work = place / "tmp"
        work.mkdir()
        with (place / "events").open("wb") as events, (place / "output").open("wb") as output:
            process = subprocess.Popen(
                [python, "-X", "faulthandler", DATA / "child.py", str(events.fileno()), json.dumps(request)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(events.fileno(),),
                env=child_environment(place),
                cwd=work,
                start_new_session=True,
            )
            try:
                result.status = process.wait(case.seconds)
            except subprocess.TimeoutExpired:
                result.error = f"no end after {case.seconds:.0f} s"
                os.kill(process.pid, signal.SIGABRT)  # faulthandler prints what every thread does
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    pass
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
        read_events((place / "events").read_bytes(), result)
        result.output = (place / "output").read_text(errors="replace")[-TAIL:]
        left = sorted(path.relative_to(work).as_posix() for path in work.rglob("*"))
    result.seconds = round(time.monotonic() - begun, 2)
    if result.status is not None and result.status < 0:
        result.signal = signal.Signals(-result.status).name
    if result.status == 0 and result.stage == "exit" and not result.error:
        if left:
            result.stage, result.error = "files", f"left behind: {', '.join(left)}"
        else:
            result.outcome, result.stage = "passed", ""


def judge(result: Result, known: list[Known]) -> None:
    """Compare a result with the list of known failures."""
    for entry in known:
        if not entry.covers(result):
            continue
        if result.outcome == "passed":
            if not entry.sometimes:
                result.outcome, result.stage = "failed", "known.toml"
                result.error = f"it works, but is listed: {entry.mechanism}"
            return
        if re.fullmatch(entry.stage, result.stage):
            result.outcome, result.mechanism = "known", entry.mechanism
            return


class Progress:
    """Counts what is done: one line that changes on a terminal, lines for what fails everywhere."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.failed = total, 0, 0

    def add(self, result: Result) -> None:
        """Show one more result."""
        self.done += 1
        self.failed += result.outcome == "failed"
        live = sys.stdout.isatty()
        if live:
            print("\r\x1b[K", end="")
        if result.outcome == "failed" or (not live and result.outcome in ("passed", "known")):
            print(f"[{self.done}/{self.total}] {result.line()} ({result.seconds:.1f} s)", flush=True)
        if live:
            print(f"[{self.done}/{self.total}, {self.failed} failed] {result.line()}", end="", flush=True)
            if self.done == self.total:
                print("\r\x1b[K", end="")


def check(options: argparse.Namespace) -> list[Result]:
    """Run everything that the command line asks for."""
    every = cases.load()
    unknown = set(options.only) - set(every)
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}\nthere are: {', '.join(every)}")
    chosen = [case for case in every.values() if not options.only or case.name in options.only]
    mains = {"yes": [True], "no": [False], "both": [False, True]}[options.main]
    known = [] if options.baseline else read_known()
    results: list[Result] = []
    work: list[tuple[Path, cases.Case, Result]] = []
    for version in options.py:
        try:
            if options.environments:
                environment = options.environments / version
            else:
                environment = environments.provide(version, options.large)
            there = environments.installed(environment)
        except environments.CannotProvide as error:
            results.append(Result(version, "environment", False, stage="environment", error=str(error)))
            continue
        missing = environments.without_wheel(version)
        for case in chosen:
            if tuple(map(int, version.split("."))) < case.since:
                continue
            names = [environments.normal(name) for name in case.distributions]
            for main in mains[:1] if options.baseline else mains:
                result = Result(version, case.name, main, release=there.get(names[0], "") if names else "")
                results.append(result)
                if all(name in there for name in names):
                    work.append((environments.python_of(environment), case, result))
                else:
                    result.outcome = "no wheel" if missing.intersection(names) else "not installed"
    progress = Progress(len(work))

    def one(item: tuple[Path, cases.Case, Result]) -> Result:
        python, case, result = item
        run_child(python, case, result, options.seconds, options.baseline)
        judge(result, known)
        return result

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for future in concurrent.futures.as_completed([pool.submit(one, item) for item in work]):
            progress.add(future.result())
    return results


def cell(results: list[Result]) -> str:
    """Return a table's word for a case on one Python."""
    outcomes = {result.outcome for result in results}
    words = {"failed": "**no**", "known": "no", "passed": "yes", "no wheel": "no wheel"}
    word = next((word for outcome, word in words.items() if outcome in outcomes), "-")
    counts = [result.extensions for result in results if result.extensions]
    if word == "yes" and counts and not any(count.get("isolated") for count in counts):
        return "itself"
    return word


def table(results: list[Result]) -> list[list[str]]:
    """Return the rows of the final table, its head first."""
    versions = [version for version in VERSIONS if any(result.version == version for result in results)]
    rows = [["", "release", *versions]]
    for name in dict.fromkeys(result.case for result in results):
        mine = [result for result in results if result.case == name]
        releases = list(dict.fromkeys(result.release for result in mine if result.release))
        cells = [cell([result for result in mine if result.version == version]) for version in versions]
        rows.append([name, ", ".join(releases), *cells])
    return rows


def left_out(options: argparse.Namespace, results: list[Result]) -> str:
    """Return why these results are not all that the table in docs/extensions.md wants; empty when they are."""
    absent = [version for version in VERSIONS if version not in options.py]
    broken = [result.version for result in results if result.stage == "environment"]
    if absent or broken:
        return f"without {', '.join(absent + broken)}"
    if options.only or not options.large:
        return "some cases only"
    if options.main != "both":
        return f"only with --main {options.main}"
    return "without Atoll" if options.baseline else ""


def write_table(results: list[Result]) -> None:
    """Put the table between its marks in docs/extensions.md."""
    head, *rows = table(results)
    lines = [head, ["---"] * len(head), *rows]
    text = "".join("| " + " | ".join(row) + " |\n" for row in lines)
    reasons = dict.fromkeys((result.case, result.mechanism) for result in results if result.mechanism)
    if reasons:
        text += "\n" + "".join(f"* {name}: {mechanism}\n" for name, mechanism in reasons)
    document = DOCUMENT.read_text()
    before, found, rest = document.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    if not found or not after:
        sys.exit(f"{DOCUMENT}: there is no {MARKS[0]} with {MARKS[1]} after it")
    DOCUMENT.write_text(f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after}")


def summarise(results: list[Result]) -> int:
    """Print the table, the failures and the totals; the exit status."""
    rows = table(results)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    for result in results:
        if result.outcome == "known":
            print(f"\n{result.line()} in {result.stage}: {result.mechanism}")
        elif result.outcome == "failed":
            print(f"\n{result.line()}")
            detail = result.error if not result.signal else result.output
            print("\n".join("    " + line for line in (detail or result.output).strip().splitlines()[-25:]))
    failed = sum(result.outcome == "failed" for result in results)
    passed = sum(result.outcome == "passed" for result in results)
    print(f"\n{passed} passed, {failed} failed, {len(results) - passed - failed} skipped", flush=True)
    return 1 if failed or not passed else 0


def main() -> int:
    """Do what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--py", nargs="+", choices=VERSIONS, default=VERSIONS)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--main", choices=["yes", "no", "both"], default="both")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="children at once")
    parser.add_argument("--seconds", type=float, default=1.0, help="for two interpreters at once")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--baseline", action="store_true")
    parser.add_argument("--no-large", dest="large", action="store_false")
    parser.add_argument("--environments", type=Path, metavar="DIRECTORY")
    parser.add_argument("--pin", action="store_true")
    options = parser.parse_args()
    if options.pin:
        names = [name for case in cases.load().values() for name in case.distributions]
        for version in options.py:
            environments.pin(version, names)
        return 0
    results = check(options)
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(result) for result in results], indent=1))
    if options.table:
        reason = left_out(options, results)
        if not reason:
            write_table(results)
        print(f"\n{DOCUMENT.relative_to(ROOT)}: {f'unchanged, {reason}' if reason else 'written'}")
    return summarise(results)


if __name__ == "__main__":
    sys.exit(main())
