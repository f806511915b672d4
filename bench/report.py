"""What run.py does: find the subjects, measure, print."""

import argparse
import importlib
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from harness import (
    FULL,
    QUICK,
    Effort,
    Result,
    describe_machine,
    print_result,
    python_version,
    write_json,
)

MODULES = (
    "subjects_calls",
    "subjects_life",
    "subjects_codec",
    "subjects_frozen",
    "subjects_queues",
    "subjects_shared",
    "subjects_sync",
    "subjects_scaling",
    "subjects_pool",
    "subjects_free",
    "subjects_extensions",
    "subjects_trace",
    "subjects_limits",
)
BUSY = 0.5  # the load average, before the start, above which others disturb the measurements
RESULTS = Path(__file__).resolve().with_name("results")


def find_subjects(words: list[str]) -> dict[str, Callable[[Effort], list[Result]]]:
    """Return the subjects whose name holds one of the words; all, when there are none."""
    subjects: dict[str, Callable[[Effort], list[Result]]] = {}
    for module in MODULES:
        subjects |= importlib.import_module(module).SUBJECTS
    return {
        name: subject
        for name, subject in subjects.items()
        if not words or any(word in name for word in words)
    }


def use_cores(parser: argparse.ArgumentParser, number: int) -> None:
    """Bind this process, and so those that it starts, to that many of the cores that it may use."""
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= number <= len(cores):
        parser.error(f"--cores {number}: there are {len(cores)}")
    os.sched_setaffinity(0, cores[:number])


def main(description: str) -> int:
    """Run the subjects; return the exit status."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="measure roughly, in 25 seconds")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="only some subjects")
    parser.add_argument("--list", action="store_true", help="print the subjects' names and stop")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write the results")
    parser.add_argument("--cores", type=int, metavar="N", help="use N of the machine's cores, by default all")
    arguments = parser.parse_args()
    if arguments.cores is not None:
        use_cores(parser, arguments.cores)

    subjects = find_subjects(arguments.only)
    if arguments.list:
        print("\n".join(subjects))
        return 0
    if not subjects:
        parser.error(f"no subject's name holds any of {arguments.only}")

    machine = describe_machine()
    print(f"Python {machine['python']} ({machine['compiler']})")
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}")
    if float(machine["load"]) > BUSY:
        print(f"The machine is busy (load {machine['load']}): the times are too long, the ratios rough")
    print()
    print(f"{'':<46}{'atoll':>10}{'other':>10}{'ratio':>9}")
    began = time.monotonic()
    effort = QUICK if arguments.quick else FULL
    results: list[Result] = []
    broken = []
    for name, subject in subjects.items():
        try:
            found = subject(effort)
        except Exception:
            broken.append(name)
            print(f"{name}: BROKEN")
            traceback.print_exc()
            continue
        for result in found:
            print_result(result)
        results += found

    goals = [goal for result in results for goal in result.goals]
    reached = sum(goal.passed for goal in goals)
    print(f"\n{reached} of {len(goals)} goals reached, {time.monotonic() - began:.0f} s")
    whole = not arguments.only and not broken and arguments.cores is None
    path = arguments.json or (RESULTS / f"{python_version()}.json" if whole else None)
    if path is not None:
        write_json(path, machine, results, arguments.quick)
        print(f"results: {path}")
    if broken:
        print(f"broken: {', '.join(broken)}")
    return 1 if broken else 0
