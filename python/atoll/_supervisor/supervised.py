"""One child of a supervisor: what is to run, and the pool of one worker in which it runs.

A pool, because it has what a child needs: an interpreter with a thread, an interrupt of what runs, and a way to leave
alone what cannot be interrupted. Each start gets a new one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from concurrent.futures import CancelledError
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from functools import partial

from atoll import _atoll
from atoll._pool.executor import InterpreterPoolExecutor

from . import child

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future as BaseFuture
    from typing import Any, Literal

    from atoll._pool.future import Future

    Restart = Literal["always", "on-failure", "never"]
    Kind = Literal["started", "ended", "failed", "silent", "restarting", "stuck", "stopped", "gave up"]
    State = Literal["new", "running", "waiting", "ended", "stopped"]

LOGGER = logging.getLogger("atoll.supervisor")
RESTARTS = ("always", "on-failure", "never")


@dataclass(frozen=True)
class SupervisorEvent:
    """Something that happened to a child.

    Attributes:
        kind: ``"started"``; ``"ended"`` (the function returned) or ``"failed"`` (it raised, its interpreter
            exceeded a limit, or it could not be started); ``"silent"`` (no heartbeat); ``"restarting"`` (started again
            after ``delay`` seconds); ``"stuck"`` (it was interrupted, did not react, and is left alone);
            ``"stopped"``; ``"gave up"`` (there were too many restarts, and the supervisor stops).
        name: the child's.
        error: what it raised, if it did.
        restarts: how often it has been started again so far.
        delay: seconds until the next start, of ``"restarting"``.
    """

    kind: Kind
    name: str
    error: BaseException | None = None
    restarts: int = 0
    delay: float = 0.0


@dataclass(frozen=True)
class ChildState:
    """How a child is.

    Attributes:
        state: ``"new"`` (not started yet), ``"running"``, ``"waiting"`` (for its next start), ``"ended"`` (for good) or
            ``"stopped"``.
        restarts: how often it has been started again.
        interpreter: the id of its interpreter while it runs, once its function has begun.
        seconds: how long it has been running.
        error: what it raised last.
    """

    state: State
    restarts: int
    interpreter: int | None
    seconds: float
    error: BaseException | None


@dataclass(frozen=True)
class Settings:
    """What Supervisor.add() is told of a child."""

    restart: Restart
    backoff: float
    max_backoff: float
    heartbeat: float | None
    grace: float
    pool: dict[str, Any]

    def check(self, name: str) -> None:
        """Raise ValueError or TypeError for what makes no sense, for a child of that name."""
        if self.restart not in RESTARTS:
            raise ValueError(f"restart must be one of {', '.join(map(repr, RESTARTS))}, not {self.restart!r}")
        for setting in ("backoff", "max_backoff", "grace", "heartbeat"):
            check_seconds(
                setting,
                getattr(self, setting),
                or_none=setting == "heartbeat",
                positive=setting == "heartbeat",
            )
        InterpreterPoolExecutor(1, name, **self.pool).shutdown()  # the rest is its own to say


def check_seconds(name: str, value: Any, *, or_none: bool = False, positive: bool = False) -> None:
    """Raise TypeError for what is no number of seconds, ValueError for one that cannot be waited for."""
    if value is None and or_none:
        return
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if math.isnan(value) or value < 0 or (positive and value == 0):
        raise ValueError(f"{name} must be {'more than 0' if positive else 'at least 0'}, not {value}")


def _is_success(code: object) -> bool:
    """Whether the argument of sys.exit(), which may be anything, stands for the exit status 0."""
    return code is None or (isinstance(code, int) and int.__eq__(code, 0) is True)


class Child:
    """A child. Everything is done by the supervisor's thread, but for `state`, which others read."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        settings: Settings,
        tell_end: Callable[[Child, BaseFuture[Any]], None],
    ) -> None:
        self.name = name
        self.settings = settings
        self.state: State = "new"
        self.restarts = 0
        self.error: BaseException | None = None
        self.next_start = math.inf  # when it waits for one: the time of the monotonic clock
        self.future: Future[Any] | None = None  # of the call, while it runs
        self._call = (function, args, kwargs)
        self._tell_end = tell_end
        self._pool: InterpreterPoolExecutor | None = None
        self._began = 0.0
        self._delay = 0.0  # before the last restart
        self._beat = _atoll.AtomicInt()
        self._number = _atoll.AtomicInt()

    def start(self) -> None:
        """Run the function in a new interpreter. When this raises, the child has just ended."""
        self.next_start = math.inf
        self._number = _atoll.AtomicInt(child.NOT_BEGUN)
        self._beat = _atoll.AtomicInt(time.monotonic_ns())
        self._began = time.monotonic()
        self.state = "running"
        function, args, kwargs = self._call
        # Partial, so that errors name the places of args and kwargs.
        task = partial(child.run, self._beat, self._number, function)
        try:
            self._pool = InterpreterPoolExecutor(1, self.name, **self.settings.pool)
            self.future = self._pool.submit(task, *args, **kwargs)
        except BaseException as error:
            self.error = error
            if self._pool is not None:
                self._pool.shutdown(wait=False)
                self._pool = None
            raise
        self.future.add_done_callback(self._note_end)

    def _note_end(self, future: BaseFuture[Any]) -> None:
        self._tell_end(self, future)

    def finish(self) -> BaseException | None:
        """Take notice of the end of the call; return what it raised. sys.exit() without an error is an end as well."""
        assert self.future is not None
        assert self._pool is not None
        try:
            error = self.future.exception(0)
        except CancelledError:
            error = None
        if isinstance(error, SystemExit) and _is_success(error.code):
            error = None
        self.future = None
        self.error = error or self.error
        self._pool.shutdown(wait=False)
        self._pool = None
        return error

    def has_just_ended(self) -> bool:
        """Return whether its call has ended, and nothing has been done about it."""
        return self.state == "running" and self.future is None

    def stop(self) -> bool:
        """Interrupt what runs and wait for its end; return False when it did not react and was left alone."""
        future, pool = self.future, self._pool
        self.next_start = math.inf
        if future is None or pool is None:
            return True
        if not future.cancel():
            future.interrupt()  # once: it may need a while for its end
        grace = min(self.settings.grace, threading.TIMEOUT_MAX)
        if wait_for_futures([future], grace).done:
            self.finish()
            is_stuck = not pool._pool.join(grace)  # the interpreter's own threads have to end, too
        else:
            pool.terminate_workers()  # interrupts again, and leaves it alone after a second: then the future has ended
            wait_for_futures([future])
            self.future = self._pool = None
            is_stuck = self._number.load() != child.ENDED
        if is_stuck:
            pool._pool.abandon()
        return not is_stuck

    def is_silent(self, now: float) -> bool:
        """Whether a heartbeat is overdue."""
        limit = self.settings.heartbeat
        return limit is not None and self.future is not None and now > self._beat.load() / 1e9 + limit

    def next_look(self) -> float:
        """Return when something of this child may be due."""
        if self.future is not None and self.settings.heartbeat is not None:
            return self._beat.load() / 1e9 + self.settings.heartbeat
        return self.next_start

    def plan_restart(self, period: float) -> float:
        """Have it started again after a while, longer each time unless it ran for a period; return the seconds."""
        settings = self.settings
        ran = time.monotonic() - self._began
        delay = settings.backoff if self._delay == 0 or ran > period else self._delay * 2
        self._delay = min(delay, settings.max_backoff)
        self.state = "waiting"
        self.restarts += 1
        self.next_start = time.monotonic() + self._delay
        return self._delay

    def snapshot(self) -> ChildState:
        """Return how it is."""
        running = self.state == "running"
        number = self._number.load() if running else -1
        seconds = time.monotonic() - self._began if running else 0.0
        return ChildState(self.state, self.restarts, number if number >= 0 else None, seconds, self.error)


SupervisorEvent.__module__ = ChildState.__module__ = "atoll"
