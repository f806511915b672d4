"""Executors whose subclass makes the contexts of its workers: ``prepare_context()``, of CPython 3.14 and later.

There ThreadPoolExecutor asks its class for two functions: one makes a context for each worker thread, the other makes
a task of what is submitted; the context runs it.  The standard library's InterpreterPoolExecutor is no more than
that.  Atoll's has no such threads; for a subclass that has a prepare_context() of its own, a ThreadPoolExecutor
does the work, with the contexts that it makes.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, thread

from atoll import _atoll

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

    from .executor import InterpreterPoolExecutor


class WorkerContext(thread.WorkerContext):  # type: ignore[misc, name-defined]
    """The context of a worker thread that has an interpreter, as the standard library's class of this name."""

    interp: _atoll.Interpreter | None = None

    def initialize(self) -> None:
        """Make the interpreter and call the initializer in it."""
        self.interp = _atoll.create()
        try:
            if self.initializer is not None:
                self.run((self.initializer, self.initargs, {}))
        except BaseException:
            self.finalize()
            raise

    def finalize(self) -> None:
        """Close the interpreter."""
        interp, self.interp = self.interp, None
        if interp is not None:
            interp.close()

    def run(self, task: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
        """Call what was submitted in the interpreter; return its result or raise its exception."""
        fn, args, kwargs = task
        assert self.interp is not None
        return self.interp.submit(fn, *args, **kwargs).result()


def are_own(cls: type[InterpreterPoolExecutor], ours: type[InterpreterPoolExecutor]) -> bool:
    """Return whether a subclass of Atoll's executor makes its contexts itself."""
    prepare = getattr(cls, "prepare_context", None)
    return getattr(prepare, "__func__", prepare) is not ours.prepare_context.__func__  # type: ignore[attr-defined]


class _Workers(ThreadPoolExecutor):
    @classmethod
    def prepare_context(cls, initializer: Any, initargs: Any, *, prepare: Callable[[Any, Any], Any]) -> Any:
        return prepare(initializer, initargs)


class ContextPool:
    """What InterpreterPoolExecutor uses of ``_atoll._Pool``, done by threads with contexts."""

    broken = False  # the executor inside says so itself, and tells its futures
    delivers = False
    killed = False

    def __init__(
        self,
        executor: InterpreterPoolExecutor,
        max_workers: int,
        name: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> None:
        prepare: Any = type(executor).prepare_context
        make: Any = _Workers
        self._inner = make(max_workers, name, initializer, initargs, prepare=prepare)
        self._inner.BROKEN = executor.BROKEN
        self._process = os.getpid()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call."""
        future: Future[Any] = self._inner.submit(fn, *args, **kwargs)
        return future

    @property
    def is_foreign(self) -> bool:
        """Whether its threads are those of the process that this one was forked from."""
        return os.getpid() != self._process

    @property
    def is_shut(self) -> bool:
        """Whether shut() was called."""
        return bool(self._inner._shutdown)

    @property
    def workers(self) -> int:
        """How many threads there are."""
        return len(self._inner._threads)

    @property
    def finished(self) -> bool:
        """Whether it is shut and no thread is left."""
        return self.is_shut and not any(thread.is_alive() for thread in self._inner._threads)

    def shut(self) -> None:
        """Take no more calls."""
        self._inner.shutdown(wait=False)

    def drain(self) -> None:
        """Cancel what has not begun."""
        self._inner.shutdown(wait=False, cancel_futures=True)

    def join(self, _timeout: None, /) -> bool:
        """Wait for the threads."""
        self._inner.shutdown(wait=True)
        return True

    def kill(self, _now: bool, /) -> None:
        """Cancel what has not begun: what runs in a context is the context's."""
        self.drain()

    def interrupt(self) -> None:
        """Do nothing: what runs in a context is the context's."""

    def abandon(self) -> None:
        """Do nothing."""
