"""Create, import, use and close, over and over, for popular packages and for mixes of them.

    python stress/soak_packages.py [--rounds N] [--only NAME ...] [--mixes N] [--size N] [--seed N] [--jobs N]

What is imported and used are the cases of tests/packages whose distributions are installed for this Python
(tools/check_packages.py makes environments with all: .venv/packages-X.Y). Each package, and each of so many
random mixes, has a process of its own, in which every round makes an interpreter, imports and uses the packages
in it, and ends it: by close(), by leaving a `with`, after a call of submit(), or as a pool's worker, in turn. A
process is right when all rounds end and its exit status is 0; how much memory the later three quarters of
the rounds have added is told, and judged by nobody.

The last line is ``N passed, N failed``; the exit status is 0 when nothing failed and something passed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.metadata
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import atoll

PACKAGES = str(Path(__file__).resolve().parent.parent / "tests" / "packages")
sys.path.insert(0, PACKAGES)

import cases  # noqa: E402

PREPARE = f"import sys, warnings; sys.path.insert(0, {PACKAGES!r}); warnings.simplefilter('ignore')"


def use(names: list[tuple[str, str]]) -> None:
    """Import the packages of these cases and use each once."""
    import cases as here

    for name in names:
        here.import_modules(*name)
    for name in names:
        here.operate(*name)


def prepare(source: str) -> None:
    """Run what a fresh interpreter needs first."""
    exec(source, {})


def by_close(names: list[tuple[str, str]]) -> None:
    """End it by close()."""
    interp = atoll.create()
    interp.exec(PREPARE)
    interp.call(use, names)
    interp.close()


def by_with(names: list[tuple[str, str]]) -> None:
    """End it by leaving a with statement."""
    with atoll.create() as interp:
        interp.exec(PREPARE)
        interp.call(use, names)


def by_submit(names: list[tuple[str, str]]) -> None:
    """Use it from the thread that runs submitted calls, then close it."""
    interp = atoll.create()
    interp.exec(PREPARE)
    interp.submit(use, names).result()
    interp.close()


def by_pool(names: list[tuple[str, str]]) -> None:
    """Use it as a pool's worker."""
    with atoll.InterpreterPoolExecutor(1, initializer=prepare, initargs=(PREPARE,)) as pool:
        pool.submit(use, names).result()


WAYS = (by_close, by_with, by_submit, by_pool)


def resident() -> int:
    """The resident memory of this process in MiB."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") >> 20


def child(rounds: int, names: list[str]) -> None:
    """Do all rounds in this process."""
    warnings.simplefilter("ignore")
    known = cases.load()
    chosen = [(known[name].home, name) for name in names]
    settled = 0
    for number in range(rounds):
        if number == rounds // 4:
            settled = resident()
        print(f"round {number}: {WAYS[number % len(WAYS)].__name__}", flush=True)
        WAYS[number % len(WAYS)](chosen)
    print(f"{resident()} MiB, {resident() - settled:+d} since round {rounds // 4}", flush=True)


def installed(case: cases.Case) -> bool:
    """Whether all distributions of a case are there."""
    try:
        for name in case.distributions:
            importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return bool(case.distributions)


def run(names: list[str], rounds: int, limit: float) -> bool:
    """Run the rounds of one process and print what came of it; whether it was right."""
    begun = time.monotonic()
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        __file__,
        "--child",
        "--rounds",
        str(rounds),
        "--only",
        *names,
    ]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit,
        )
        output, status = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        output, status = (error.stdout or b"").decode(errors="replace"), None
    lines = output.strip().splitlines() or [""]
    took = f"{time.monotonic() - begun:.0f} s"
    if status == 0:
        print(f"{' + '.join(names)}: right, {lines[-1]}, {took}", flush=True)
        return True
    how = f"not done after {limit:.0f} s" if status is None else f"exit status {status}"
    if status is not None and status < 0:
        how = signal.Signals(-status).name
    tail = "\n    ".join(lines[-40:])
    print(f"{' + '.join(names)}: FAILED, {how}, {took}\n    {tail}", flush=True)
    return False


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cases of tests/packages")
    parser.add_argument("--mixes", type=int, default=5, help="how many random mixes besides")
    parser.add_argument("--size", type=int, default=4, help="packages in a mix")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=float, default=3600, help="seconds for one process")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.rounds, options.only)
        return 0
    known = cases.load()
    unknown = [name for name in options.only if name not in known]
    if unknown:
        parser.error(f"no case is named {', '.join(unknown)}")
    names = options.only or [case.name for case in known.values() if installed(case)]
    if not names:
        parser.error("none of the packages is installed for this Python")
    choose = random.Random(options.seed)
    mixes = [choose.sample(names, min(options.size, len(names))) for _ in range(options.mixes)]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as threads:
        right = list(
            threads.map(lambda one: run(one, options.rounds, options.limit), [*([n] for n in names), *mixes])
        )
    print(f"{sum(right)} passed, {len(right) - sum(right)} failed")
    return 0 if right and all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
