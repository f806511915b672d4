"""The registry of what is checked: a case is a package, or a part of the standard library, with an operation.

An operation is a function without arguments that imports what it needs, does real work in compiled code and asserts
the result. It is run many times a second, in several interpreters at once and, in the baseline, in several
threads of one. So it keeps no state that another run could see, leaves no files and no threads behind, and talks
to nobody but itself.

The modules ``ops_*`` hold the operations. Importing one imports no package.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable
from pathlib import Path

Operation = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to check."""

    name: str  # unique; a distribution's name, or modules of the standard library
    distributions: tuple[str, ...]  # what has to be installed; none for the standard library
    imports: tuple[str, ...]  # modules, imported before the operation
    operation: Operation
    seconds: float  # after which a child has hung
    since: tuple[int, int]  # the first Python that has it
    home: str  # the module that holds the operation


CASES: dict[str, Case] = {}


def package(
    name: str, *imports: str, needs: tuple[str, ...] = (), seconds: float = 120
) -> Callable[[Operation], Operation]:
    """Register the decorated function as the operation of an installed distribution.

    `imports` are its modules (default: its name) and `needs` further distributions.
    """
    return _register(name, (name, *needs), imports or (name,), seconds)


def standard(
    name: str, *imports: str, seconds: float = 120, since: tuple[int, int] = (3, 12)
) -> Callable[[Operation], Operation]:
    """Register the decorated function as the operation of a part of the standard library."""
    return _register(name, (), imports, seconds, since)


def _register(
    name: str,
    distributions: tuple[str, ...],
    imports: tuple[str, ...],
    seconds: float,
    since: tuple[int, int] = (3, 12),
) -> Callable[[Operation], Operation]:
    def register(operation: Operation) -> Operation:
        if name in CASES:
            raise ValueError(f"two cases are named {name!r}")
        CASES[name] = Case(name, distributions, imports, operation, seconds, since, operation.__module__)
        return operation

    return register


def load() -> dict[str, Case]:
    """Return every case by its name, packages first."""
    for path in sorted(Path(__file__).parent.glob("ops_*.py")):
        importlib.import_module(path.stem)
    return dict(sorted(CASES.items(), key=lambda item: (not item[1].distributions, item[0].lower())))


# What runs in an interpreter: the names of a case and of its module are all that has to cross.


def import_modules(home: str, name: str) -> None:
    """Import what the case imports."""
    importlib.import_module(home)
    for module in CASES[name].imports:
        importlib.import_module(module)


def operate(home: str, name: str, seconds: float = 0) -> int:
    """Run the operation for so many seconds, at least once; how often it ran."""
    importlib.import_module(home)
    operation = CASES[name].operation
    end = time.monotonic() + seconds
    count = 0
    while True:
        operation()
        count += 1
        if time.monotonic() >= end:
            return count


# What operations use.


def same(result: object, expected: object) -> None:
    """Raise AssertionError, with both values, unless they are equal."""
    if result != expected:
        raise AssertionError(f"{result!r} is not {expected!r}")


def near(result: float, expected: float, tolerance: float = 1e-6) -> None:
    """Raise AssertionError, with both values, unless they differ by no more than the tolerance."""
    if not abs(result - expected) <= tolerance:
        raise AssertionError(f"{result!r} is not {expected!r} within {tolerance}")
