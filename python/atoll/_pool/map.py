"""InterpreterPoolExecutor.map(): results in order, in chunks that measure themselves.

A chunk is one task: a list of items for which the worker calls the function one after the other.  Map is made of three
things (chunks.py).  The *source* is what items are taken from.  The *sizer* says how many make a chunk: the first
chunks are single items, what they took says how long the next are.  The *window* is what is on its way, in order; it
bounds memory whatever the iterables yield.

What is taken when.  map() takes what has a length at once, as concurrent.futures does: what the caller does with a list
afterwards changes nothing.  An iterator is read lazily, always in a thread of the caller's: a window of chunks by
map() itself, then one chunk for each that is asked for, also when the pool has been shut meanwhile (its workers are
started again for that).  With a buffersize all is read lazily.  An error of an iterator is raised where its next item
would have been.

What is done without being asked.  Items with a length are sent in the background, chunk by chunk as they end, until
somebody asks for a result, and the rest when the pool is shut, because map() promises the calls.  It promises those of
an iterator too, but that might be endless: when results go that nobody asked for, or the process ends, at most UNASKED
more of its items are sent, and a RuntimeWarning says when there were more.

A worker that has worked at a chunk for 10 ms hands back what is left of it, in parts that stand in the queue before
everything else: the future of the chunk then has the futures of its parts.

Threads may share the iterator.  `_taking` is held by the one that waits for the next chunk; `_sending` guards source,
sizer and window, while items are taken and encoded, and is taken after it.

Ctrl-C may come anywhere, and who goes on after it gets every result, once, and the error if there was one.  So items
are ready in the source until they are in a chunk of the window, which one call of C changes together; a chunk leaves
the window when it is seen that the base has been given its results, not before; an error stays until it is raised.
What is only counted (how many items make a chunk, how many are ahead) may be wrong by one chunk after it.
A loop inside of a `with` or `try` is a function of its own: Ctrl-C where a loop jumps back skips what these do at their
end, in all versions of CPython.
"""

from __future__ import annotations

import itertools
import operator
import os
import threading
import time
import warnings
import weakref
from collections import deque
from concurrent.futures._base import CancelledError

from atoll import _atoll

from .chunks import Sizer, Source, Window

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, NoReturn, Protocol

    from .future import Future

    class Executor(Protocol):
        """What the executor, which is built on this, has for it."""

        _pool: _atoll._Pool
        _most_items: int | None
        _one_by_one: bool
        _max_workers: int

        def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]: ...


MOST_ITEMS = 20_000
UNASKED = 100_000
MOST = (1 << 31) - 1  # of anything that C counts


_maps: weakref.WeakSet[Map] = weakref.WeakSet()


def _after_fork() -> None:
    """In a child: threads that are not there may have the locks, and what was promised is the parent's to do."""
    for mapping in list(_maps):
        mapping._promised = False
        mapping._sending = threading.RLock()
        mapping._taking = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def check_sizes(chunksize: int | None, buffersize: int | None) -> None:
    """Raise TypeError or ValueError for a chunksize or buffersize that is no positive integer."""
    if chunksize is not None and not isinstance(chunksize, int):
        raise TypeError(f"chunksize must be an integer or None, not {type(chunksize).__name__}")
    if chunksize is not None and chunksize < 1:
        raise ValueError(f"chunksize must be >= 1, not {chunksize}")
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError(f"buffersize must be an integer or None, not {type(buffersize).__name__}")
    if buffersize is not None and buffersize < 1:
        raise ValueError(f"buffersize must be None or > 0, not {buffersize}")


def as_count(name: str, count: Any) -> int:
    """Return an integer; raise TypeError for what is none, ValueError for one that C cannot count with."""
    try:
        number = operator.index(count)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(count).__name__}") from None
    if number > MOST:
        raise ValueError(f"{name} must be at most {MOST}, not {number}")
    return number


def as_tuple(name: str, values: Iterable[Any]) -> tuple[Any, ...]:
    """Return a tuple of an iterable; raise TypeError for what is none."""
    try:
        iterator = iter(values)
    except TypeError:
        raise TypeError(f"{name} must be iterable, not {type(values).__name__}") from None
    return tuple(iterator)


def check_seconds(name: str, seconds: object) -> None:
    """Raise TypeError for what is neither a number nor None."""
    if seconds is not None and not hasattr(seconds, "__float__"):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(seconds).__name__}")


def each(
    executor: Executor,
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
    executor: weakref.ref[Executor],
    fn: Callable[..., Any],
    items: Iterator[tuple[Any, ...]],
    futures: deque[Future[Any]],
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


def _take(future: Future[Any], deadline: float | None) -> Any:
    try:
        return future.result(None if deadline is None else deadline - time.monotonic())
    finally:
        future.cancel()
        del future  # a traceback is not to keep it


class Map(_atoll._Results):
    """The iterator that map() returns.  Its base gives out the results of one chunk after the other: see _more()."""

    def __init__(
        self,
        executor: Executor,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
    ) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._pool = executor._pool
        self._fn = executor._pool.prepare(fn)  # as it, and all that it reaches, is now
        self._lazy = buffersize is not None
        self._source = Source(iterables, lazy=self._lazy)
        most = MOST_ITEMS if executor._most_items is None else executor._most_items
        self._sizer = Sizer(
            fixed=1 if executor._one_by_one else chunksize,
            most=min(most, buffersize or most),
            workers=executor._max_workers,
            total=self._source.total,
        )
        self._window = Window(2 * executor._max_workers + 2, buffersize)
        # Without a buffersize everything counts as submitted, so the executor stays until it is.
        self._executor = None if self._lazy else executor
        self._error: BaseException | None = None  # that is to be raised next
        self._asked = False  # somebody has asked for a result
        self._is_asking = False  # the thread that has `_taking` is
        self._promised = not self._lazy  # what is not asked for is to be done all the same
        self._ended: deque[Future[Any]] = (
            deque()
        )  # chunks, in the background, for which no other was sent yet
        self._follows = False  # the thread that has `_sending` is about that
        self._sending = threading.RLock()
        self._taking = threading.RLock()
        _maps.add(self)

    @property
    def _size(self) -> int:
        return self._sizer.size

    # ---- sending ----

    def _send(self, *, late: bool = True) -> bool:
        """Send one chunk, if there are items left and there is room for them."""
        size = self._sizer.next(self._window.room())
        if size <= 0 or self._source.ended:
            return False
        count = self._source.take(size)
        if not count:
            return False
        future = self._submit(count, late)
        if not future._is_refused:
            self._sizer.sent(count, future._bytes)
        elif count > 1:
            # What comes before the item that cannot be sent can be, what comes after it is never asked for.
            left = count - 1
            while not self._submit(1, late)._is_refused and left:
                left -= 1
            self._source.skip(left)
        self._window.added(count)
        return True

    def _submit(self, count: int, late: bool) -> Future[Any]:
        """Send the next so many items, which are then in the window, and not ready any more."""
        star, divide = self._source.star, not self._sizer.fixed
        return self._pool.submit_chunk(self._fn, self._source, count, star, divide, late, self._window)

    def _fill(self, *, late: bool = True) -> None:
        while not self._window.is_full() and self._send(late=late):
            pass

    def _begin(self) -> None:
        """Send the first chunks; see to it that the others follow."""
        with self._sending:
            try:
                self._fill(late=False)
            except BaseException:
                self._end()
                raise
            if self._source.settled and not self._lazy and not self._source.ended:
                for future in self._window.all():
                    future.add_done_callback(self._in_background)  # type: ignore[arg-type]

    def _in_background(self, future: Future[Any]) -> None:
        """A chunk has ended and nobody has asked for a result yet: send the next.

        Workers may be so fast that each has ended when it is to be watched, which calls this at once: for as many
        chunks as there are, so whoever is in here already goes on with it.
        """
        with self._sending:
            self._ended.append(future)
            if not self._follows:
                self._follow_all()

    def _follow_all(self) -> None:
        try:
            self._follows = True
            self._follow_each()
        finally:
            self._follows = False

    def _follow_each(self) -> None:
        while self._ended:
            self._follow(self._ended.popleft())

    def _follow(self, future: Future[Any]) -> None:
        if self._asked or not self._promised or self._source.ended or future.cancelled():
            return
        self._sizer.learn(future._seconds, future._count)
        try:
            if self._send():
                self._window.newest().add_done_callback(self._in_background)  # type: ignore[arg-type]
        except Exception as error:
            self._end(error)

    def _end(self, error: Exception | None = None) -> None:
        """Send nothing more; an error is raised where the next result would have been."""
        self._promised = False
        self._source.stop(error)

    def _finish(self, most: int | None = None) -> bool:
        """Send what is left, at most so many items. Return whether that was all."""
        with self._sending:
            return self._send_rest(most)

    def _send_rest(self, most: int | None) -> bool:
        begun = self._sizer.count
        while self._send():
            if len(self._window) % 16 == 0:
                self._sizer.hurry()
            if most is not None and self._sizer.count - begun >= most:
                return False
        self._promised = False
        return True

    def _at_shutdown(self) -> None:
        """The pool is about to be shut: send what map() has promised, if that runs no code of the caller's."""
        if not self._promised or not self._source.settled:
            return
        try:
            self._finish()
        except Exception as error:  # the pool is broken
            self._end(error)

    def _keep_promise(self) -> None:
        """Nobody will ask for results: send what map() has promised."""
        if not self._promised or self._asked:
            return
        if not self._finish(None if self._source.settled else UNASKED):
            self._end()
            warnings.warn(
                f"nobody has asked for the results of map(): it has taken {self._sizer.count:,} items of an iterator "
                "that has more, and takes no more of them",
                RuntimeWarning,
                stacklevel=2,
            )
        if self._source.error is not None:
            raise self._source.error

    def _forget_unasked(self) -> None:
        """An exception leaves the pool: an iterator is read no more unless somebody asks for results."""
        if not self._source.settled:
            self._promised = False

    def _abandon(self) -> None:
        """Send nothing more; cancel what was sent and has not begun."""
        self._promised = False  # before that: somebody may be sending one chunk after the other
        with self._sending:
            self._end(None if self._source.ended else CancelledError())
            self._window.cancel()

    # ---- receiving ----

    def _more(self) -> bool:
        """Give out the results of the next chunk; return whether there are any.

        Raises what a call raised, what the iterator raised, TimeoutError, CancelledError; ValueError inside of itself,
        as generators do.
        """
        with self._taking:
            if self._has_some():
                return True  # another thread was faster
            if self._is_asking:  # a signal's handler, or an iterator that results are taken from
                raise ValueError("map(): this thread is waiting for the next result already")
            try:
                self._is_asking = True
                return self._ask()
            finally:
                self._is_asking = False

    def _ask(self) -> bool:
        future = self._next()
        if future is None:
            return False
        values, error = self._receive(future)
        if values:
            self._give(values)
            return True
        return self._raise(error)

    def _raise(self, error: BaseException | None) -> NoReturn:
        """Raise the error of a call, of the source or of the pool; nothing comes after it."""
        self._error = error = error or RuntimeError("a chunk of map() without results")
        self._give_up()
        try:
            self._error = None
            raise error
        finally:
            del error

    def _next(self) -> Future[Any] | None:
        """Send more; return the chunk that is to be waited for."""
        error = self._error
        if error is not None:  # Ctrl-C came when it was to be raised
            return self._raise(error)
        self._asked = True  # likewise
        with self._sending:
            last = self._last()
            if last is not None and self._window and self._window.oldest()._result is last:
                error = self._window.oldest()._exception
                if error is None:
                    self._window.given(len(last))
                    self._window.divided()
            if error is None:
                self._window.given(1)  # one is about to be
                try:
                    self._fill()
                except Exception as failure:  # the pool is broken
                    self._end(failure)
                finally:
                    self._window.given(-1)
                if self._window:
                    return self._window.oldest()
                self._executor = None
                error = self._source.error
        if error is None:
            return None
        return self._raise(error)

    def _receive(self, future: Future[Any]) -> tuple[list[Any] | None, BaseException | None]:
        """Wait for a chunk and return its results, and the error that comes after them."""
        timeout = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())  # nan: 0
        try:
            values, error = future._outcome(timeout)
        except Exception as error:
            return self._raise(error)
        if values:
            self._sizer.learn(future._seconds, len(values))
        return values, error

    def _give_up(self) -> None:
        """Send and give out nothing more, as an iterator that has raised."""
        self._abandon()
        self._source.error = None
        self._executor = None
        self._window.clear()

    def close(self) -> None:
        """Ask for no more results: what has not begun is cancelled."""
        self._give()
        self._give_up()

    def __del__(self) -> None:
        """Forget the results; what was promised is done."""
        if not hasattr(self, "_taking"):
            return
        if self._asked:
            self._abandon()
        else:
            self._keep_promise()
