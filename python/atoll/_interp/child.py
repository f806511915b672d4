"""What an interpreter that may fork does in the child, where it becomes the main interpreter.

Imported by each that ``create(fork=True)`` makes.
"""

from __future__ import annotations

import _imp
import os

from . import imports, signals  # noqa: F401
from .in_main import is_main

# CPython asks modules that are built in whether they support interpreters, also in the child; that this is the main
# interpreter there counts only when somebody wants to stop that.  So it is stopped before, and goes on in the parent.
_checks: list[int] = []  # what held before, while a fork is made


def _before() -> None:
    if not is_main():
        _checks.append(_imp._override_multi_interp_extensions_check(-1))  # type: ignore[attr-defined]


def _in_parent() -> None:
    if _checks:
        _imp._override_multi_interp_extensions_check(_checks.pop())  # type: ignore[attr-defined]


def _in_child() -> None:
    _checks.clear()
    signals.in_child()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
