"""The futures of pools: ``atoll._atoll._Future`` with what concurrent.futures has of them."""

from __future__ import annotations

import weakref
from concurrent.futures import Future as _BaseFuture

from atoll import _atoll

from .callbacks import invoke

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _T = TypeVar("_T")


class Future(_atoll._Future, _BaseFuture["_T"]):
    """A concurrent.futures.Future of a call in another interpreter.

    Executors make it; it cannot be made otherwise.
    """

    if TYPE_CHECKING:

        def result(self, timeout: float | None = None) -> _T:
            """Return the call's result, or raise its exception."""

    def cancel(self) -> bool:
        """Cancel the call if it has not begun; return whether it is cancelled.

        A call that is running is not cancelled, as for all executors. One that ``Interpreter.submit()`` has made is
        interrupted, with KeyboardInterrupt, as by ``interrupt()``; one of a pool goes on, unless asyncio awaits it.
        So does Ctrl-C end ``asyncio.run()``, which cancels what is awaited and then waits for the pool.
        """
        cancelled = super().cancel()
        if not cancelled and self._is_guests:
            self.interrupt()
        if not cancelled and any(
            getattr(callback, "__module__", None) == "asyncio.futures" for callback in self._done_callbacks
        ):
            self.interrupt()
            _given_up[self] = None
        return cancelled

    def _invoke_callbacks(self) -> None:
        """Call them here, or have them called where they may wait for other futures; for a cancelled one anywhere."""
        if self._state == "CANCELLED":
            self.set_running_or_notify_cancel()
        if not invoke(self, self._done_callbacks):
            super()._invoke_callbacks()  # type: ignore[misc]


# Calls that were interrupted because asyncio has cancelled them.
_given_up: weakref.WeakKeyDictionary[Future[Any], None] = weakref.WeakKeyDictionary()


def interrupt_again() -> bool:
    """Interrupt those that go on: code may have dropped what was raised. Return whether there are any."""
    going_on = [future for ref in _given_up.keyrefs() if (future := ref()) is not None and not future.done()]
    for future in going_on:
        future.interrupt()
    return bool(going_on)
