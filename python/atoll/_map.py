"""InterpreterPoolExecutor.map(): results in order, in chunks that measure themselves.

A chunk is one task: a list of items for which the worker calls the function one after the other.  The first chunks are
single items.  What they took says how long the next are: CHUNK_SECONDS, so that neither the cost of a task nor the
wait for one matters; at most GROWTH times the last, because the first call of a function is slow and says little.

How far ahead.  At most `window` chunks are on their way, which bounds memory whatever the iterables yield.  Who asks
for a result sends the next chunk first.  Until somebody asks, a sequence is sent in the background, chunk by
chunk as they end, because map() promises to begin at once; any other iterable is left alone then, since
taking items from it runs code that expects to run in its own thread.  shutdown() sends what is left of a sequence, and
of an iterable whose results nobody has asked for.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections import deque

from . import _atoll

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ._pool import Future, InterpreterPoolExecutor

CHUNK_SECONDS = 0.002
GROWTH = 16
MOST_ITEMS = 20_000


def check_sizes(chunksize: int | None, buffersize: int | None) -> None:
    """Raise TypeError or ValueError for a chunksize or buffersize that is no positive integer."""
    if chunksize is not None and not isinstance(chunksize, int):
        raise TypeError("chunksize must be an integer or None")
    if chunksize is not None and chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")


def each(
    executor: InterpreterPoolExecutor,
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    buffersize: int | None,
) -> tuple[Iterator[Any], int | None]:
    """Return an iterator over the results of executor.submit(fn, *item), one call for each item, and their number.

    Without a buffersize all are submitted before it returns, as in concurrent.futures.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    items = zip(*iterables, strict=False)
    futures = deque(executor.submit(fn, *item) for item in itertools.islice(items, buffersize))
    total = len(futures) if buffersize is None else None
    return _results_of(weakref.ref(executor), fn, items, futures, deadline), total


def _results_of(
    executor: weakref.ref[InterpreterPoolExecutor],
    fn: Callable[..., Any],
    items: Iterator[tuple[Any, ...]],
    futures: deque[Future],
    deadline: float | None,
) -> Iterator[Any]:
    """Yield results; submit the next item before each, if there is one."""
    try:
        while futures:
            pool = executor()
            if pool is not None and (item := next(items, None)) is not None:
                futures.append(pool.submit(fn, *item))
            pool = item = None
            yield _take(futures.popleft(), deadline)
    finally:
        for future in futures:
            future.cancel()


def _take(future: Future, deadline: float | None) -> Any:
    try:
        return future.result(None if deadline is None else deadline - time.monotonic())
    finally:
        future.cancel()
        del future  # a traceback is not to keep it


class Map(_atoll._Results):
    """The iterator that map() returns.  Its base gives out the results of one chunk after the other: see _more()."""

    def __init__(
        self,
        executor: InterpreterPoolExecutor,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
    ) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._pool = executor._pool
        # Without a buffersize everything counts as submitted, so the executor stays until it is.
        self._executor = executor if buffersize is None else None
        self._executor_ref = weakref.ref(executor)
        self._fn = fn
        self._star = len(iterables) != 1
        self._items = zip(*iterables, strict=False) if self._star else iter(iterables[0])
        lengths = [
            len(iterable)  # type: ignore[arg-type]
            for iterable in iterables
            if hasattr(iterable, "__len__")
        ]
        self.total: int | None = min(lengths, default=None)
        self._is_sequence = len(lengths) == len(iterables) and bool(iterables)
        self._buffer = buffersize
        most = MOST_ITEMS if executor._most_items is None else executor._most_items
        self._most = min(most, buffersize or most)
        self._fixed = chunksize is not None
        self._size = min(chunksize or 1, self._most)
        if executor._one_by_one:
            self._fixed, self._size = True, 1
        self._window = 2 * executor._max_workers + 2
        self._workers = executor._max_workers
        self._chunks: deque[tuple[Future, int]] = deque()
        self._ahead = 0  # items that were sent and not yielded
        self._sent = 0
        self._exhausted = False
        self._started = False
        self._given = 0  # results of the chunk that is being given out
        self._error: BaseException | None = None  # to be raised after them
        self._lock = threading.RLock()  # who takes items

    # ---- sending ----

    def _send(self) -> bool:
        """Send one chunk, if there are items left and there is room for them."""
        size = self._size
        if not self._fixed and self.total is not None:
            # The last chunks get smaller, so that all workers end at the same time.
            size = max(1, min(size, (self.total - self._sent) // (2 * self._workers)))
        if self._buffer is not None:
            size = min(size, self._buffer - self._ahead)
            if size <= 0:
                return False
        items = list(itertools.islice(self._items, size))
        if len(items) < size:
            self._exhausted = True
        if not items:
            return False
        future = self._pool.submit_chunk(self._fn, items, self._star)
        self._chunks.append((future, len(items)))
        self._ahead += len(items)
        self._sent += len(items)
        return True

    def _fill(self) -> None:
        while not self._exhausted and len(self._chunks) < self._window and self._send():
            pass

    def _learn(self, seconds: float, count: int) -> None:
        """Choose the next size by what a chunk took."""
        if self._fixed:
            return
        best = int(CHUNK_SECONDS * count / max(seconds, 1e-7))
        self._size = max(1, min(best, self._size * GROWTH, self._most))

    def begin(self) -> None:
        """Send the first chunks; see to it that the others follow."""
        with self._lock:
            self._fill()
            if self._is_sequence and self._buffer is None and not self._exhausted:
                for future, _ in list(self._chunks):
                    future.add_done_callback(self._in_background)  # type: ignore[arg-type]

    def _in_background(self, future: Future) -> None:
        """A chunk has ended and nobody has asked for a result yet: send the next."""
        with self._lock:
            if self._started or self._exhausted or future.cancelled():
                return
            self._learn(future._seconds, 1 if not self._chunks else self._count_of(future))
            try:
                if self._send():
                    self._chunks[-1][0].add_done_callback(self._in_background)  # type: ignore[arg-type]
            except RuntimeError:
                self._exhausted = True  # shut down

    def _count_of(self, future: Future) -> int:
        # The one that has just ended is near the end of what was sent.
        for other, count in reversed(self._chunks):
            if other is future:
                return count
        return 1

    def finish(self) -> None:
        """Send what is left, before the pool is shut."""
        with self._lock:
            if self._buffer is None and (self._is_sequence or not self._started):
                while not self._exhausted and self._send():
                    pass

    def abandon(self) -> None:
        """Send nothing more; cancel what was sent and has not begun."""
        with self._lock:
            self._exhausted = True
            for future, _ in self._chunks:
                future.cancel()

    # ---- receiving ----

    def _more(self) -> list[Any] | None:
        """Return the results of the next chunk; None when there are no more.

        All of the chunk before were taken. Raises what a call raised, TimeoutError, CancelledError.
        """
        self._ahead -= self._given
        self._given = 0
        while True:
            if self._error is not None:
                error, self._error = self._error, None
                self.abandon()
                self._chunks.clear()
                try:
                    raise error
                finally:
                    del error
            with self._lock:
                self._started = True
                if self._buffer is None:
                    self._fill()
                elif self._executor_ref() is not None:
                    self._ahead -= 1  # one is about to be yielded
                    self._fill()
                    self._ahead += 1
                if not self._chunks:
                    self._executor = None
                    return None
                future, count = self._chunks.popleft()
            values = self._receive(future, count)
            if values:
                self._given = len(values)
                return values

    def _receive(self, future: Future, count: int) -> list[Any]:
        """Wait for a chunk and return its results, before an error if there is one."""
        timeout = None if self._deadline is None else self._deadline - time.monotonic()
        values: list[Any] | None
        try:
            values, error = future._outcome(None if timeout is None else max(timeout, 0.0))
        except BaseException:
            future.cancel()
            self.abandon()
            self._chunks.clear()
            raise
        self._learn(future._seconds, count)
        self._error = error
        if values is None:
            values = []
        self._ahead -= count - len(values)
        return values

    def close(self) -> None:
        """Ask for no more results: what has not begun is cancelled."""
        self._forget()
        self.abandon()
        self._chunks.clear()

    def __del__(self) -> None:
        """Forget the results.  map() has promised the calls, unless somebody has begun to take results."""
        if not hasattr(self, "_lock"):
            return
        if self._started:
            self.abandon()
        else:
            try:
                self.finish()
            except RuntimeError:
                pass  # shut down
