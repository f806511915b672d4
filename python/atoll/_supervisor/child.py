"""What a supervisor does in its children's interpreters."""

from __future__ import annotations

import time

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from atoll._atoll import AtomicInt

NOT_BEGUN, ENDED = -1, -2  # in the place of the interpreter's number

_beat: AtomicInt | None = None  # of the child that this interpreter is


def run(
    beat: AtomicInt,
    number: AtomicInt,
    function: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> None:
    """Run a child's function; what it returns is of no use to anybody."""
    global _beat
    from atoll._atoll import get_current

    try:
        _beat = beat
        number.store(get_current().id)
        beat.store(time.monotonic_ns())
        function(*args, **kwargs)
    finally:
        number.store(ENDED)


def heartbeat() -> bool:
    """Tell the supervisor that runs this interpreter that its child is alive; return whether there is one.

    A child of ``Supervisor.add(..., heartbeat=seconds)`` has to call this at least that often, from any of its threads.
    """
    if _beat is None:
        return False
    _beat.store(time.monotonic_ns())
    return True


heartbeat.__module__ = "atoll"
