"""What the benchmarks share: the measuring of `python -m atoll bench`, and writing down what came out."""

import datetime
import json
import sys
from dataclasses import asdict
from pathlib import Path

from atoll._pool.inner import processors
from atoll.cli.measure import (
    FULL,
    QUICK,
    Effort,
    Goal,
    Measure,
    Result,
    Side,
    alternate,
    compare_sides,
    describe_machine,
    format_value,
    print_result,
    summarise,
)

__all__ = [
    "FULL",
    "QUICK",
    "Effort",
    "Goal",
    "Measure",
    "Result",
    "Side",
    "alternate",
    "compare_sides",
    "describe_machine",
    "format_value",
    "print_result",
    "processors",
    "python_version",
    "summarise",
    "write_json",
]


def python_version() -> str:
    """Return the version of this Python as "3.14"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def write_json(path: Path, machine: dict[str, str], results: list[Result], quick: bool) -> None:
    """Write the results, and where (see describe_machine) and when they were measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": machine,
        "date": datetime.date.today().isoformat(),
        "quick": quick,
        "results": [asdict(result) for result in results],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
