"""A soft limit of memory, in the interpreter that has it: what is called when it is crossed.

The C library (py/interp/limits.c) calls ``crossed()``, in a pending call of the interpreter.
"""

from __future__ import annotations

import warnings

from atoll import _atoll

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable

_callback: Callable[[int, int], object] | None = None


def set_soft(limit: int, callback: Callable[[int, int], object] | None) -> None:
    """Watch how much memory this interpreter has, from now on."""
    global _callback
    _callback = callback
    _atoll._set_soft_limit(limit)


def crossed(used: int, limit: int) -> None:
    """Tell the one who asked for it."""
    if _callback is not None:
        _callback(used, limit)
    else:
        text = (
            f"this interpreter has {used} bytes of memory, more than its soft_memory_limit of {limit} bytes"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=3)
