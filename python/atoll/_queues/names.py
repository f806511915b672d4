"""What queues need of Python: their exceptions and constants, and waiting in an asyncio loop.

The names are those of the standard library's ``concurrent.interpreters._queues``, for which this module stands
after ``atoll.install()``.  Loaded in an interpreter when the first of them is needed.
"""

from __future__ import annotations

import queue
import sys
import weakref
from collections import deque

from atoll import _atoll
from atoll._atoll import Queue
from atoll._atoll import create_queue as create

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    import asyncio
    from typing import Any

__all__ = [
    "UNBOUND",
    "UNBOUND_ERROR",
    "UNBOUND_REMOVE",
    "ItemInterpreterDestroyed",
    "Queue",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "QueueNotFoundError",
    "QueueShutDown",
    "create",
    "list_all",
]


class QueueError(RuntimeError):
    """Something went wrong with a queue; the base of the exceptions below."""


class QueueNotFoundError(QueueError):
    """There is no queue with this id."""


class QueueEmpty(QueueError, queue.Empty):
    """No item came within the timeout, or none is there for get_nowait()."""


class QueueFull(QueueError, queue.Full):
    """There was no room within the timeout, or is none for put_nowait().

    Attributes:
        count: after put_many(), how many items were put.
    """

    count = 0


if sys.version_info >= (3, 13):

    class QueueShutDown(QueueError, queue.ShutDown):
        """The queue is shut down; for get(), nothing is left in it either.

        Attributes:
            count: after put_many(), how many items were put.
        """

        count = 0

else:

    class QueueShutDown(QueueError):
        """The queue is shut down; for get(), nothing is left in it either.

        Attributes:
            count: after put_many(), how many items were put.
        """

        count = 0


class ItemInterpreterDestroyed(QueueError):
    """The interpreter that put the item has ended."""


class _Constant:
    """A constant that stays itself when it is pickled or crosses to another interpreter."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"atoll.{self._name}"

    def __reduce__(self) -> str:
        return self._name


_Constant.__module__ = "atoll"  # pickle finds the constants there

UNBOUND = _Constant("UNBOUND")
UNBOUND_ERROR = _Constant("UNBOUND_ERROR")
UNBOUND_REMOVE = _Constant("UNBOUND_REMOVE")


for _public in (
    QueueError,
    QueueNotFoundError,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
    ItemInterpreterDestroyed,
):
    _public.__module__ = "atoll"  # as tracebacks show it
del _public


def list_all() -> list[Queue]:
    """Return every queue of the process, by id."""
    return _atoll._list_queues()


# ---- asyncio ----
#
# Each loop watches the queue's event while somebody in it waits for the queue.  Whoever waits is only told to try again
# and takes its item itself, so that one who is cancelled meanwhile has taken nothing, and the event, which still
# says that there are items, wakes the next.  That one is told when the one before has tried, and if there is another
# item, which the loop may not have seen yet: who comes in vain loses its place.


class _Line:
    """Who waits in a loop for an event of a queue, first come, first served."""

    def __init__(self, queue: Queue, put: bool) -> None:
        self.queue = queue
        self.put = put
        self.futures: deque[asyncio.Future[None]] = deque()
        self.told: asyncio.Future[None] | None = None  # of whoever is to try


_waiting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, _Line]] = weakref.WeakKeyDictionary()


def _wake(line: _Line) -> None:
    """Tell the first of those who wait for an event that it is set."""
    queue = line.queue
    if (queue.full() if line.put else queue.empty()) and not queue.is_shutdown:
        return
    while line.told is None and line.futures:
        future = line.futures.popleft()
        if not future.done():
            line.told = future
            future.set_result(None)


async def _readable(fd: int, queue: Queue, put: bool) -> None:
    """Wait until a file descriptor, a queue's, is readable."""
    import asyncio

    loop = asyncio.get_running_loop()
    lines = _waiting.setdefault(loop, {})
    line = lines.get(fd)
    if line is None:
        line = _Line(queue, put)
        loop.add_reader(fd, _wake, line)  # may refuse
        lines[fd] = line
    future: asyncio.Future[None] = loop.create_future()
    line.futures.append(future)
    try:
        await future
    finally:
        if line.told is future:
            line.told = None
        elif future in line.futures:
            line.futures.remove(future)
        if line.told is None and not line.futures and lines.get(fd) is line:
            del lines[fd]
            loop.remove_reader(fd)


async def _event(queue: Queue, put: bool) -> None:
    """Wait until it may be worth while to get from a queue again, or to put."""
    fd = queue._watch(put)
    try:
        await _readable(fd, queue, put)
    finally:
        queue._unwatch(put)


async def put_async(self: Queue, obj: Any, *, unbounditems: Any = None) -> None:
    """``Queue.put_async``."""
    while True:
        try:
            return self.put_nowait(obj, unbounditems=unbounditems)
        except QueueFull:
            await _event(self, put=True)


async def get_async(self: Queue) -> Any:
    """``Queue.get_async``."""
    while True:
        try:
            return self.get_nowait()
        except QueueEmpty:
            await _event(self, put=False)
