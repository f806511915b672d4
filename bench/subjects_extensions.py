"""Extension modules in interpreters: what an import takes, and the memory, against processes.

Needs numpy and pandas (tools/requirements/examples.txt); what is not installed is left out.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from harness import Effort, Goal, Measure, Result, alternate, format_value, summarise

MODULES = ("numpy", "pandas")
IMPORT_TIMES = 1.2  # at most so many times what a fresh process needs
BUSY_TIMES = 1.3
LEAK_BYTES = 0.2 * 2**20
PRIVATE_ARENAS = (3, 14)  # before, CPython itself never returns an interpreter's memory
PROBE = Path(__file__).resolve().with_name("extensions_probe.py")


def installed() -> list[str]:
    """Return the modules that there are to measure with."""
    return [module for module in MODULES if importlib.util.find_spec(module) is not None]


def probe(*words: object) -> dict[str, Any]:
    """Run the probe; return its answer."""
    command = [sys.executable, "-W", "ignore", str(PROBE), *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def import_times(effort: Effort) -> list[Result]:
    """Measure the import of a module in a fresh interpreter, and in a fresh process."""

    def in_process(module: str) -> float:
        source = (
            f"import time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"
        )
        command = [sys.executable, "-c", source]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    results = []
    for module in installed():
        sides = {
            "atoll": lambda module=module: float(probe("import", module, 1)["seconds"][0]),
            "process": partial(in_process, module),
        }
        measures = alternate(sides, 3 if effort.quick else 15)
        result = Result(
            f"extensions.import.{module}",
            f"import {module}, against a fresh process",
            measures,
            note="an interpreter beside others: the first one in a process also reads the files",
        )
        ratio = result.compare("process")
        result.goals.append(Goal(f"at most {IMPORT_TIMES:g} times a process's", ratio >= 1 / IMPORT_TIMES))
        results.append(result)
    return results


def busy_main(effort: Effort) -> list[Result]:
    """Measure the import while the main interpreter sleeps, and while it computes."""
    results = []
    for module in installed()[-1:]:
        found = probe("busy", module, 2 if effort.quick else 9)
        sides = {"atoll": summarise(found["busy"]), "main asleep": summarise(found["idle"])}
        result = Result(f"extensions.busy.{module}", f"import {module} while main computes", sides)
        ratio = result.compare("main asleep")
        result.goals.append(Goal(f"at most {BUSY_TIMES:g} times as long", ratio >= 1 / BUSY_TIMES))
        results.append(result)
    return results


def memory(effort: Effort) -> list[Result]:
    """Measure what one more interpreter takes that has imported a module, and what a process has to itself."""
    results = []
    for module in installed():
        sides: dict[str, Callable[[], float]] = {
            "atoll": lambda module=module: float(probe("interpreters", module, 4)["bytes"]),
            "process": lambda module=module: float(probe("process", module)["bytes"]),
        }
        measures = alternate(sides, 1 if effort.quick else 5, "B")
        result = Result(f"extensions.memory.{module}", f"memory of one more worker with {module}", measures)
        result.note = "process: what it shares with no other process"
        result.goals.append(Goal("below a process's", result.compare("process") > 1))
        results.append(result)
    return results


def leak(effort: Effort) -> list[Result]:
    """Measure by how much the process grows with each interpreter that imports numpy, uses it and is closed."""
    if "numpy" not in installed():
        return []
    count = 30 if effort.quick else 300
    grown = float(probe("cycles", "numpy", count)["bytes"])
    result = Result(
        "extensions.leak.numpy",
        f"growth per create, import numpy, use, close ({count})",
        {"atoll": Measure(grown, grown, grown, count, "B")},
    )
    if sys.version_info >= PRIVATE_ARENAS:
        result.goals.append(Goal(f"at most {format_value(LEAK_BYTES, 'B')}", grown <= LEAK_BYTES))
    else:
        result.note = "this CPython never returns the object arenas of an interpreter that ended"
    return [result]


SUBJECTS: dict[str, Callable[[Effort], list[Result]]] = {
    "extensions.import": import_times,
    "extensions.busy": busy_main,
    "extensions.memory": memory,
    "extensions.leak": leak,
}
