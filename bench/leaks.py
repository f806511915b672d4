"""Does memory stay flat?  Thousands of interpreters' lives, and a million calls.

    python bench/leaks.py                      2,000 cycles, 1,000,000 calls, on both sides
    python bench/leaks.py --quick              a tenth of that

A cycle is create(), exec('x = 1'), close().  Each measurement runs in a process of its own; a
tenth of its operations come first and do not count.  The growth is the slope of a line laid
through the resident memory (RSS) at twenty moments, per operation; and beside it what the first
and the last moment say.  CPython 3.12 and 3.13 themselves never give back all memory of a closed
interpreter: what their own module leaks per cycle is measured in the same way, for comparison.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOMENTS = 20
# A leaking cycle takes 2 MiB: a measurement ends early rather than take the machine's memory
MOST_BYTES = 6 * 2**30
# Below this growth per operation, in bytes, memory counts as flat
FLAT = {"cycle": 1024.0, "call": 1.0}


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS")


def slope(points: list[tuple[int, int]]) -> float:
    """Return the slope of the line with the least squares through some points."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / below


def atoll_cycles(count: int) -> None:
    """Make, use and close interpreters of Atoll."""
    import atoll

    for _ in range(count):
        interp = atoll.create()
        interp.exec("x = 1")
        interp.close()


def stdlib_cycles(count: int) -> None:
    """Make, use and close interpreters of the standard library."""
    import stdlib_side

    for _ in range(count):
        stdlib_side.create_exec_close()


def make_atoll_calls() -> Callable[[int], None]:
    """Return what calls an interpreter of Atoll: with nothing, and with a record, by turns."""
    import stdlib_side
    import targets

    import atoll

    interp = atoll.create()
    interp.exec(stdlib_side.PREPARE)

    def calls(count: int) -> None:
        for _ in range(count // 2):
            interp.call(targets.noop)
            interp.call(targets.ten_of, targets.RECORD)

    return calls


MAKERS: dict[str, Callable[[], Callable[[int], None]]] = {
    "atoll-cycle": lambda: atoll_cycles,
    "stdlib-cycle": lambda: stdlib_cycles,
    "atoll-call": make_atoll_calls,
}


def measure(what: str, count: int) -> dict[str, Any]:
    """Do `count` operations in this process and return how memory grew."""
    operate = MAKERS[what]()
    step = max(2, count // MOMENTS)
    operate(2 * step)
    gc.collect()
    points = [(0, resident())]
    began = time.perf_counter()
    while points[-1][0] < count and points[-1][1] < MOST_BYTES:
        operate(step)
        gc.collect()
        points.append((points[-1][0] + step, resident()))
    done = points[-1][0]
    return {
        "done": done,
        "first": points[0][1],
        "last": points[-1][1],
        "growth": slope(points),
        "seconds": (time.perf_counter() - began) / done,
        "points": points,
    }


def measure_in_child(what: str, count: int) -> dict[str, Any]:
    """Do measure() in a fresh process."""
    command = [sys.executable, "-W", "ignore", __file__, "--child", what, "--count", str(count)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def main() -> int:
    """Measure all, print, write the JSON; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cycles", type=int, default=2000)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write the results")
    parser.add_argument("--child", choices=MAKERS, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.count)))
        return 0

    # Not before: a child of the standard library's side has nothing of Atoll in it
    from harness import describe_machine, format_value, python_version

    part = 10 if arguments.quick else 1
    counts = {"cycle": arguments.cycles // part, "call": arguments.calls // part}
    machine = describe_machine()
    print(f"Python {machine['python']}, {machine['cpu']}, {machine['kernel']}\n")
    print(f"{'':<14}{'operations':>12}{'each':>11}{'RSS first':>12}{'last':>12}{'growth each':>15}")
    results = {}
    for what in MAKERS:
        kind = what.partition("-")[2]
        result = results[what] = measure_in_child(what, counts[kind])
        flat = "flat" if result["growth"] < FLAT[kind] else ""
        print(
            f"{what:<14}{result['done']:>12,}{format_value(result['seconds'], 's'):>11}"
            f"{result['first'] / 2**20:>8,.1f} MiB{result['last'] / 2**20:>8,.1f} MiB"
            f"{result['growth']:>13,.2f} B  {flat}",
            flush=True,
        )
    path = arguments.json
    if path is None:
        path = Path(__file__).resolve().parent / "results" / "leaks" / f"{python_version()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "results": results}) + "\n", encoding="utf-8")
    print(f"results: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
