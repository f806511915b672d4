"""Supervisor: functions that run for long, each in an interpreter of its own, started again when they end.

One thread does everything: it takes what others want (start, stop, add, remove, restart) and what has happened (a call
has ended) from one queue, and waits no longer than until the next start or heartbeat is due. So children need no lock.
While it waits for the end of a child that it has interrupted, the others go on without it. It calls `on_event`.

A child's end is told by its future's callback, with that future: one that is not the child's any more, because the
child was stopped meanwhile, is of no interest.

The end of the process stops supervisors before pools are waited for, which is why the executor is imported first. In a
forked child the supervisor is the parent's: its thread is not there.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future

from atoll._pool.map import as_tuple

from .supervised import LOGGER, Child, ChildState, Settings, SupervisorEvent, check_seconds

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Literal, Self

    from .supervised import Restart

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")


class SupervisorError(RuntimeError):
    """A supervisor has given up: its children ended too often. The cause is what the last one raised."""


class Supervisor:
    """Runs functions, each in an interpreter of its own, and starts them again when they end.

    >>> def tick():
    ...     while True:
    ...         atoll.heartbeat()
    ...         time.sleep(1)
    >>> with atoll.Supervisor() as supervisor:
    ...     supervisor.add("clock", tick, heartbeat=10)
    ...     supervisor.wait()

    `with` starts the children in the order in which they were added and stops them in the opposite order; so does the
    end of the process. To stop a child is to interrupt it: its function gets KeyboardInterrupt, at which it should end.
    Events are logged, in the logger "atoll.supervisor".
    """

    def __init__(
        self,
        *,
        strategy: Literal["one_for_one", "one_for_all", "rest_for_one"] = "one_for_one",
        max_restarts: int | None = 5,
        period: float = 60.0,
        on_event: Callable[[SupervisorEvent], object] | None = None,
    ) -> None:
        """Make a supervisor without children.

        Args:
            strategy: which children are started again when one has ended: ``"one_for_one"``, that one;
                ``"one_for_all"``, all; ``"rest_for_one"``, that one and those that were added after it.
            max_restarts: when there are more restarts than that within the period, the supervisor stops all children,
                and wait() raises SupervisorError. None: never.
            period: seconds. A child that ran for so long begins anew with its back-off.
            on_event: called with a SupervisorEvent whenever something happens to a child, in the supervisor's thread.

        Raises:
            ValueError, TypeError: for an argument that makes no sense.
        """
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(map(repr, STRATEGIES))}, not {strategy!r}")
        if max_restarts is not None and (not isinstance(max_restarts, int) or max_restarts < 0):
            raise ValueError(f"max_restarts must be an integer of at least 0, or None, not {max_restarts!r}")
        check_seconds("period", period, positive=True)
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event must be callable or None, not {type(on_event).__name__}")
        self._strategy = strategy
        self._max_restarts = max_restarts
        self._period = period
        self._on_event = on_event
        self._children: dict[str, Child] = {}  # changed by the thread only, while it is there
        # What is to be called, and who waits for it.
        self._inbox: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], Future[Any] | None]] = (
            queue.SimpleQueue()
        )
        self._restarts: deque[float] = deque()  # when there were some within the period
        self._thread: threading.Thread | None = None
        self._over: Future[None] = Future()  # set when all children have ended
        self._stopping = False  # of the thread: on_event, which may call anything, can start nothing more
        # Of _thread until it is there, of _over, and who puts into the inbox. A handler of signals may stop.
        self._lock = threading.RLock()
        self._process = os.getpid()

    # ---- what others call ----

    def add(
        self,
        name: str,
        function: Callable[..., object],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        restart: Restart = "always",
        backoff: float = 0.1,
        max_backoff: float = 30.0,
        heartbeat: float | None = None,
        grace: float = 5.0,
        extensions: Literal["isolate", "strict", "shared"] | None = None,
        memory_limit: int | None = None,
        cpu_limit: float | None = None,
    ) -> None:
        """Add a child; it is started now, or with the supervisor.

        Args:
            name: of the child, its thread and its interpreter.
            function: runs for as long as the child shall live; crosses as with ``Interpreter.call``.
            args: its arguments. What it shares with others it gets here: queues, locks, SharedDicts.
            kwargs: its keyword arguments.
            restart: when it is started again: ``"always"``, ``"on-failure"`` (when it raised, was silent or
                exceeded a limit) or ``"never"``.
            backoff: seconds before it is started again; twice as many each time that it does not last.
            max_backoff: at most so many.
            heartbeat: seconds within which the child has to call ``atoll.heartbeat()`` again and again; else it is
                interrupted and counts as failed. None: it need not.
            grace: seconds that it gets to end when it is interrupted. One that does not react is left alone.
            extensions: how extension modules are loaded in its interpreter; see ``create()``.
            memory_limit: bytes that its interpreter may take, as for ``create()``. What would be more is a MemoryError;
                a child that does not handle it has failed, with ResourceLimitExceeded.
            cpu_limit: seconds of processor time that it may take from each start on; then it is interrupted, and has
                failed likewise.

        Raises:
            ValueError: there is a child of that name, or an argument makes no sense.
            TypeError: likewise.
            RuntimeError: the supervisor has been stopped.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a string that is not empty, not {name!r}")
        if not callable(function):
            raise TypeError(f"function must be callable, not {type(function).__name__}")
        keywords = dict(kwargs or {})
        for keyword in keywords:
            if not isinstance(keyword, str):
                raise TypeError(f"kwargs must have strings as keys, not {keyword!r}")
        limits = {"memory_limit": memory_limit, "cpu_limit": cpu_limit}
        pool = {"extensions": extensions, "worker_limits": limits}
        settings = Settings(restart, backoff, max_backoff, heartbeat, grace, pool)
        settings.check(name)
        child = Child(name, function, as_tuple("args", args), keywords, settings, self._tell_end)
        self._check_usable()
        with self._lock:
            if self._thread is None:
                self._add(child)
                return
        self._do(self._add_and_start, child)

    def start(self) -> None:
        """Start the children, in the order in which they were added.

        Raises:
            RuntimeError: it has been started before.
        """
        self._check_usable()
        with self._lock:
            if self._thread is not None:
                raise RuntimeError("the supervisor has been started before")
            thread = threading.Thread(target=self._run, name="atoll-supervisor")
            thread.start()
            self._thread = thread
            _supervisors.add(self)
        self._do(self._start_all)

    def stop(self) -> None:
        """Stop the children, the last one first, and wait for that. A supervisor cannot be started again."""
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._thread is None:
                self._end()
                self._inbox.put(
                    (_wake, (), None)
                )  # start() may have begun a thread, and be interrupted by this
                return
        try:
            self._do(self._stop_all)
        except RuntimeError:  # it has stopped by itself meanwhile
            pass
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no child runs or will run; return whether that is so.

        Args:
            timeout: seconds, after which False is returned.

        Raises:
            SupervisorError: there were too many restarts.
            RuntimeError: in a forked child of the process that made it.
        """
        self._check_process()
        try:
            self._over.result(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        except TimeoutError:
            return False
        return True

    async def wait_async(self) -> None:
        """Wait as wait() does, in a coroutine."""
        import asyncio

        self._check_process()
        await asyncio.shield(asyncio.wrap_future(self._over))

    def restart(self, name: str) -> None:
        """Stop a child and start it again, also one that has ended; that does not count as one of max_restarts.

        Raises:
            KeyError: there is no child of that name.
            RuntimeError: the supervisor has not been started, or has been stopped.
        """
        self._do(self._restart, name)

    def remove(self, name: str) -> None:
        """Stop a child and forget it.

        Raises:
            KeyError: there is no child of that name.
            RuntimeError: the supervisor has not been started, or has been stopped.
        """
        self._do(self._remove, name)

    def children(self) -> dict[str, ChildState]:
        """Return how each child is, by its name."""
        return {name: child.snapshot() for name, child in list(self._children.items())}

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    async def __aenter__(self) -> Self:
        """Start."""
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, without blocking the loop."""
        import asyncio

        await asyncio.shield(asyncio.to_thread(self.stop))

    def __repr__(self) -> str:
        """Show the children's states."""
        states = ", ".join(f"{name} {child.state}" for name, child in list(self._children.items()))
        return f"<atoll.Supervisor: {states or 'no children'}>"

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError("the supervisor belongs to the parent process")

    def _check_usable(self) -> None:
        self._check_process()
        if self._over.done():
            raise RuntimeError("the supervisor has been stopped")

    def _do(self, function: Callable[..., Any], *args: Any) -> None:
        """Have the thread call this; raise what it raises."""
        if threading.current_thread() is self._thread:  # on_event does
            function(*args)
            return
        if self._thread is None:
            raise RuntimeError("the supervisor has not been started")
        done: Future[Any] = Future()
        self._check_usable()
        with self._lock:
            self._check_usable()
            self._inbox.put((function, args, done))
        done.result()

    def _tell_end(self, child: Child, future: Future[Any]) -> None:
        self._inbox.put((self._take_end, (child, future), None))

    # ---- the thread ----

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while not self._over.done() and not self._is_finished():
                self._step()
        except BaseException as raised:
            error = raised
        self._stop_all(error)
        _supervisors.discard(self)
        while not self._inbox.empty():
            function, _, done = self._inbox.get()
            if done is None:
                continue
            if function == self._stop_all:
                done.set_result(None)
            else:
                done.set_exception(RuntimeError("the supervisor has been stopped"))

    def _end(self, error: BaseException | None = None) -> None:
        """It is over: nobody puts anything into the inbox from now on, but for children's ends."""
        with self._lock:
            if self._over.done():
                return
            if error is None:
                self._over.set_result(None)
            else:
                self._over.set_exception(error)

    def _step(self) -> None:
        """Do what somebody wants, or what is due."""
        due = min((child.next_look() for child in self._children.values()), default=math.inf)
        seconds = min(max(0.0, due - time.monotonic()), threading.TIMEOUT_MAX)
        try:
            entry = self._inbox.get(timeout=seconds)
        except queue.Empty:
            entry = None
        if entry is None:
            self._look_at_the_clock()
            return
        function, args, done = entry
        if done is None:
            function(*args)
            return
        try:
            done.set_result(function(*args))
        except BaseException as error:
            done.set_exception(error)
            if isinstance(error, SupervisorError) or not isinstance(error, Exception):
                raise

    def _is_finished(self) -> bool:
        """Whether there were children, and none is left that runs or will."""
        states = {child.state for child in self._children.values()}
        return bool(states) and states <= {"ended"} and self._inbox.empty()

    def _look_at_the_clock(self) -> None:
        for child in list(self._children.values()):
            now = time.monotonic()
            if child.is_silent(now):
                self._replace_silent(child)
            elif now >= child.next_start:
                self._start(child)

    def _replace_silent(self, child: Child) -> None:
        limit, future = child.settings.heartbeat, child.future
        error = TimeoutError(f"{child.name} gave no heartbeat for {limit:g} seconds")
        child.error = error
        self._tell("silent", child, error)
        if child.future is not future:
            return  # on_event has stopped it
        has_stopped = child.stop()
        child.error = error  # and not what it was interrupted with
        if not has_stopped:
            self._tell("stuck", child)
        self._decide(child, failed=True)

    def _take_end(self, child: Child, future: Future[Any]) -> None:
        if child.future is not future:
            return
        error = child.finish()
        self._tell("failed" if error is not None else "ended", child, error)
        self._decide(child, failed=error is not None)

    def _decide(self, child: Child, failed: bool) -> None:
        """What becomes of a child that has ended, unless on_event has seen to it."""
        if not child.has_just_ended():
            return
        restart = child.settings.restart
        if restart == "never" or (restart == "on-failure" and not failed):
            child.state = "ended"
            return
        now = time.monotonic()
        self._restarts.append(now)
        while self._restarts[0] < now - self._period:
            self._restarts.popleft()
        if self._max_restarts is not None and len(self._restarts) > self._max_restarts:
            child.state = "ended"
            self._tell("gave up", child, child.error)
            message = (
                f"{child.name!r} ended: more than {self._max_restarts} restarts in {self._period:g} seconds"
            )
            raise SupervisorError(message) from child.error
        delay = child.plan_restart(self._period)
        next_start = child.next_start
        affected = self._affected(child)
        self._tell("restarting", child, child.error, delay)
        for other in reversed(affected):
            if child.state == "waiting" and other.state in ("running", "waiting"):
                self._stop(other)
                if self._may_start(other):
                    other.state, other.next_start = "waiting", next_start

    def _affected(self, child: Child) -> list[Child]:
        """Return the others that are started again with a child."""
        children = list(self._children.values())
        if self._strategy == "one_for_all":
            return [other for other in children if other is not child]
        if self._strategy == "rest_for_one":
            return children[children.index(child) + 1 :]
        return []

    def _start(self, child: Child) -> None:
        """Start a child; one for which no thread can be had, say, has failed."""
        try:
            child.start()
        except Exception as error:
            self._tell("failed", child, error)
            self._decide(child, failed=True)
        else:
            self._tell("started", child)

    def _may_start(self, child: Child) -> bool:
        """Whether a child that was stopped, of which on_event was told, is still to be started."""
        there = self._children.get(child.name) is child
        return there and not self._stopping and child.state not in ("running", "waiting")

    def _stop(self, child: Child) -> None:
        """Stop a child that runs, or will."""
        if child.state not in ("running", "waiting"):
            return
        reacted = child.stop()
        child.state = "stopped"
        self._tell("stopped" if reacted else "stuck", child)

    def _tell(self, kind: Any, child: Child, error: BaseException | None = None, delay: float = 0.0) -> None:
        """Log an event, and tell it whoever wants to know."""
        restarts = child.restarts
        message, details = "child %r: %s", [child.name, kind]
        if kind == "restarting":
            message += ", in %g s (restart number %d)"
            details += [delay, restarts]
        bad = kind in ("failed", "silent", "stuck", "gave up")
        LOGGER.log(
            30 if bad else 20, message, *details, exc_info=error if kind in ("failed", "gave up") else None
        )
        if self._on_event is not None:
            try:
                self._on_event(SupervisorEvent(kind, child.name, error, restarts, delay))
            except Exception:
                LOGGER.exception("on_event has raised:")

    # ---- what others want, in the thread ----

    def _add(self, child: Child) -> None:
        if child.name in self._children:
            raise ValueError(f"there is a child with the name {child.name!r}")
        self._children[child.name] = child

    def _check_going_on(self) -> None:
        if self._stopping:
            raise RuntimeError("the supervisor is being stopped")

    def _add_and_start(self, child: Child) -> None:
        self._check_going_on()
        self._add(child)
        self._start(child)

    def _start_all(self) -> None:
        for child in list(self._children.values()):
            if child.state == "new" and self._may_start(child):
                self._start(child)

    def _stop_all(self, error: BaseException | None = None) -> None:
        """Stop all children, whatever is raised meanwhile: the first of it is what wait() raises."""
        self._stopping = True
        for child in reversed(list(self._children.values())):
            try:
                self._stop(child)
            except BaseException as raised:
                error = error or raised
        self._end(error)

    def _find(self, name: str) -> Child:
        child = self._children.get(name)
        if child is None:
            raise KeyError(f"there is no child {name!r}: {', '.join(map(repr, self._children)) or 'none'}")
        return child

    def _restart(self, name: str) -> None:
        self._check_going_on()
        child = self._find(name)
        self._stop(child)
        if self._may_start(child):
            child.restarts += 1
            self._start(child)

    def _remove(self, name: str) -> None:
        child = self._find(name)
        del self._children[name]
        self._stop(child)


def _wake() -> None:
    """Do nothing: the thread looks at how things are."""


_supervisors: weakref.WeakSet[Supervisor] = weakref.WeakSet()


def _at_exit() -> None:
    for supervisor in list(_supervisors):
        supervisor.stop()


# After the executor has registered what waits for pools: the last one is called first.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_supervisors.clear)

# As tracebacks show them.
Supervisor.__module__ = SupervisorError.__module__ = "atoll"
