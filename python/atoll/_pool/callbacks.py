"""Telling futures that are watched, and calling what users have attached to them.

A pool that has such futures has one thread that tells them ("atoll-futures").  It calls no code that may wait for
another future, which it would have to tell: asyncio's callbacks and map()'s are called there, users' in other threads
("atoll-callbacks").  Of those there are as many as callbacks run at the same time, but no more than the pool may have
workers, as in a ThreadPoolExecutor, whose workers call them: what works there works here.

`_here` says for which pool a thread does either.  The pool's end waits for all of them, but not when one of them asks
for it.

A child that a callback forks has the thread of that callback, and no pool: the thread ends, and with it the child, when
the callback has returned there.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from concurrent.futures._base import LOGGER

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any

    from atoll import _atoll

_QUICK = (
    "asyncio.futures",
    "atoll._pool.map",
    "atoll._supervisor.supervised",
)  # modules whose callbacks wait for nothing

_here = threading.local()


class Teller:
    """The threads of one pool that tell its futures and call their callbacks."""

    def __init__(self, most: int) -> None:
        self._process = os.getpid()
        self._most = most
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._over = False
        self._todo: deque[tuple[Future[Any], list[Any]]] = deque()
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None  # that tells
        self._tells = False

    def start(self, pool: _atoll._Pool) -> None:
        """Start to tell.

        Ctrl-C may come when the thread has been started.  Then it tells if it gets there before the next call; else
        that starts another one, and this one ends.  A thread that was not started does not keep the pool.
        """
        with self._change:
            if not self._tells:
                thread = threading.Thread(target=self._tell, args=(weakref.ref(pool),), name="atoll-futures")
                self._thread = thread
                thread.start()

    def join(self) -> None:
        """Wait until all futures were told and all callbacks called, unless this is called by one."""
        if self._thread is not None and getattr(_here, "teller", None) is not self:
            self._thread.join()

    def _is_child(self) -> bool:
        return os.getpid() != self._process

    def _tell(self, ref: weakref.ref[_atoll._Pool]) -> None:
        with self._change:
            pool = ref()
            if pool is None or self._thread is not threading.current_thread():
                return
            self._tells = True
        _here.teller = self
        _here.hands_on = True
        try:
            pool.deliver()
        finally:
            if not self._is_child():
                self._end()

    def _end(self) -> None:
        with self._change:
            self._over = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def hand_on(self, future: Future[Any], callbacks: list[Any]) -> bool:
        """Have the callbacks of a future called by another thread. False: there is none and none could be started."""
        with self._change:
            if self._idle <= len(self._todo) and len(self._threads) < self._most:
                thread = threading.Thread(target=self._call, name=f"atoll-callbacks_{len(self._threads)}")
                try:
                    thread.start()
                except RuntimeError:  # no more threads
                    if not self._threads:
                        return False
                else:
                    self._threads.append(thread)
            self._todo.append((future, callbacks))
            self._change.notify()
            return True

    def _next(self) -> tuple[Future[Any], list[Any]] | None:
        with self._change:
            self._idle += 1
            self._change.wait_for(lambda: self._todo or self._over)
            self._idle -= 1
            return self._todo.popleft() if self._todo else None

    def _call(self) -> None:
        _here.teller = self
        while (todo := self._next()) is not None:
            future, callbacks = todo
            todo = None
            for callback in callbacks:
                try:
                    callback(future)
                except Exception:
                    LOGGER.exception("exception calling callback for %r", future)
                except BaseException:  # ends a worker of a ThreadPoolExecutor, but this thread is needed
                    LOGGER.critical("exception calling callback for %r", future, exc_info=True)
                if self._is_child():
                    return
            del future, callbacks, callback


def invoke(future: Future[Any], callbacks: list[Any]) -> bool:
    """Have a future's callbacks called elsewhere, if this thread tells futures and they may be anybody's."""
    if not getattr(_here, "hands_on", False) or all(
        getattr(callback, "__module__", None) in _QUICK for callback in callbacks
    ):
        return False
    handed: bool = _here.teller.hand_on(future, callbacks)
    return handed
