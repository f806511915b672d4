"""The other Python of subjects_free.py: run by a free-threaded build, it works in threads when it is told to.

The first line that it prints is its version and the folder of its standard library, which all sides read.  Each line
of its input is a kind of work.py, how many threads, and how many calls in all; the answer is a line with the seconds
that they took.
"""

import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor

from work import KINDS


def take(folder: str, kind: str, threads: int, calls: int) -> float:
    """Return the seconds that the calls take; in this thread when it is to be one."""
    function = KINDS[kind]
    if threads == 1:
        began = time.perf_counter()
        for _ in range(calls):
            function(folder)
        return time.perf_counter() - began
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(KINDS["bodies"], [folder] * threads))  # the threads are there
        began = time.perf_counter()
        list(pool.map(function, [folder] * calls))
        return time.perf_counter() - began


def main() -> None:
    """Answer until there is no more input."""
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        sys.exit(f"{sys.executable} has a GIL")
    folder = sysconfig.get_path("stdlib")
    print(sys.version.split()[0], folder, flush=True)
    for line in sys.stdin:
        kind, threads, calls = line.split()
        print(take(folder, kind, int(threads), int(calls)), flush=True)


if __name__ == "__main__":
    main()
