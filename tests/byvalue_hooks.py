"""What is to happen in the middle of sending something: an object's __reduce__ calls reached()."""

from __future__ import annotations

import threading
from collections.abc import Callable

_left = 0
_action: Callable[[], object] = int

begin = threading.Event()
end = threading.Event()


def at(moment: int, action: Callable[[], object]) -> None:
    """Have the action done when reached() is called for the moment-th time from now; never, with 0."""
    global _left, _action
    _left, _action = moment, action


def reached() -> None:
    """Say that the middle of something is reached."""
    global _left
    _left -= 1
    if _left == 0:
        _action()


def let_other_thread() -> None:
    """Have another thread, which waits for `begin`, do what it does until it sets `end`."""
    begin.set()
    end.wait()
