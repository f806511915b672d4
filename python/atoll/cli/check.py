"""``python -m atoll check``: which packages work in interpreters."""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from atoll._pool.inner import processors

from .arguments import add_parser, positive
from .children import Children
from .packages import Package, UnknownPackageError, find, find_all
from .report import Report, document
from .verdict import Verdict, judge

_DESCRIPTION = """\
Import each package, with all its extension modules, in fresh interpreters, two at the same time, in a child process
that may crash; close them; and say whether the package supports sub-interpreters itself, works through isolation,
is pure Python, or fails, and why.
"""
_EPILOG = """\
A PACKAGE is the name of an installed distribution (PyYAML) or of a module (yaml). Nothing is installed and no
function of a package is called. Exit status: 0 when all work, 1 when some do not, 2 for an unknown package.

examples:
  python -m atoll check numpy pandas
  python -m atoll check --json > packages.json     everything that is installed
"""


def add_command(commands: Any) -> None:
    """Add this command to a parser's subparsers."""
    parser = add_parser(
        commands,
        "check",
        main,
        help="say which packages work in interpreters",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    jobs = default_jobs()
    parser.add_argument(
        "packages", nargs="*", metavar="PACKAGE", help="default: every installed distribution"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="every installed distribution: the default, for who wants to say so",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--jobs",
        type=positive(int),
        default=jobs,
        metavar="N",
        help=f"packages at the same time (default {jobs}: half of the CPUs)",
    )
    parser.add_argument(
        "--timeout",
        type=positive(float),
        default=60.0,
        metavar="SECONDS",
        help="time limit of each child process (default 60)",
    )


def default_jobs() -> int:
    """Return how many packages are checked at once: each keeps two threads busy."""
    return max(1, processors() // 2)


def main(options: argparse.Namespace) -> int:
    """Check, report, return the exit status."""
    if options.all and options.packages:
        options.parser.error("--all and names of packages exclude each other")
    try:
        packages = find(options.packages) if options.packages else find_all()
    except UnknownPackageError as error:
        print(f"{options.parser.prog}: {error}", file=sys.stderr)
        return 2
    report = Report(packages, sys.stdout, show=not options.json)
    children = Children(options.timeout)
    began = time.monotonic()
    try:
        verdicts = check_all(packages, children, report, options.jobs)
    except KeyboardInterrupt:
        report.finish(time.monotonic() - began)
        raise
    seconds = time.monotonic() - began
    report.finish(seconds)
    if options.json:
        print(json.dumps(document(verdicts, options.timeout, seconds), indent=2))
    return 0 if all(verdict.works for verdict in verdicts) else 1


def check_all(packages: list[Package], children: Children, report: Report, jobs: int) -> list[Verdict]:
    """Judge the packages, `jobs` at a time; KeyboardInterrupt ends the children and passes on."""

    def check(package: Package) -> Verdict:
        report.begin(package)
        verdict = judge(package, children)
        report.end(verdict)
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        try:
            return list(pool.map(check, packages))
        except BaseException:
            children.stop()
            pool.shutdown(cancel_futures=True)
            raise
