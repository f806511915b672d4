"""InterpreterPoolExecutor: the executor interface over native workers (``atoll._atoll._Pool``).

What is here is what the submitting interpreter does: the executor's contract, map(), and the end.  Tasks go to
the workers and their outcomes come back without any of it.  Loaded when a pool is first made.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor
from concurrent.futures import Future as _BaseFuture  # noqa: F401 (src/module/pool.c has it from here)
from concurrent.futures._base import LOGGER
from concurrent.futures.thread import BrokenThreadPool
from operator import attrgetter
from types import MethodType

from atoll import _atoll

from . import replaced
from .callbacks import Teller
from .future import Future, interrupt_again
from .imports import BEGIN_ARGS, REFUSED, as_names, begin
from .inner import inner_count, processors
from .limits import check_limits
from .map import Map, as_count, as_tuple, check_seconds, check_sizes, each

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Any, Literal, NoReturn, ParamSpec, TypeVar

    from .limits import Limits

    _P = ParamSpec("_P")
    _T = TypeVar("_T")

REPEAT = 0.1  # s: a call is interrupted again so often: code may catch it and go on
MOST_INTERRUPTS = 10  # before its worker is given up: on a machine that is busy each takes longer to arrive

__all__ = ["BrokenInterpreterPool", "CancelledError", "Future", "InterpreterPoolExecutor"]


class BrokenInterpreterPool(BrokenThreadPool):
    """The pool has no workers: an initializer raised, no interpreter could be made, or they were terminated.

    Also what a pool raises in a forked child when it was made before the fork, and what its futures of then raise.
    """


def _broken(pool: _atoll._Pool) -> BrokenInterpreterPool:
    """Return the exception for calls of a broken pool; log the reason once."""
    if pool.is_foreign:
        return BrokenInterpreterPool("the pool belongs to the parent process: make another one after a fork")
    if pool.killed:
        return BrokenInterpreterPool("the workers of the pool were terminated, it is not usable anymore")
    why = pool.why()
    if isinstance(why, _atoll.NotShareableError):
        what = "An initializer cannot be sent to the workers"
    elif isinstance(why, _atoll.ExecutionFailed):
        told = why.excinfo.msg or ""
        what = told if told.startswith(REFUSED) else "A thread initializer failed"
    else:
        what = "A worker could not be started"
    if pool not in _reported:
        _reported.add(pool)
        LOGGER.critical("%s:", "Exception in initializer" if "initializer" in what else what, exc_info=why)
    broken = BrokenInterpreterPool(f"{what}, the thread pool is not usable anymore")
    broken.__cause__ = why
    return broken


_starting = threading.RLock()


def _start(pool: _atoll._Pool) -> None:
    """Start the thread that tells the futures of a pool that somebody watches, or raise."""
    with _starting:
        if not pool.delivers:
            teller = _tellers.get(pool)
            if teller is None:
                teller = _tellers[pool] = Teller(pool.max_workers)
            teller.start(pool)
            pool.delivers = True  # last: whoever sees that relies on it


# ---- calls in one interpreter ----

_guests: weakref.WeakKeyDictionary[_atoll.Interpreter, _atoll._Pool] = weakref.WeakKeyDictionary()
_guests_lock = threading.RLock()  # one interpreter has one of them: what is submitted runs in order
_ending: weakref.WeakKeyDictionary[_atoll.Interpreter, list[_atoll._Pool]] = weakref.WeakKeyDictionary()


def _after_fork() -> None:
    """In a child: threads that are not there may have the locks."""
    global _guests_lock, _starting
    _guests_lock = threading.RLock()
    _starting = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def _submit_to(
    interp: _atoll.Interpreter, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Future[Any]:
    """``Interpreter.submit``: a pool with one worker, which works in that interpreter."""
    while True:
        try:
            return _guest_of(interp).submit(fn, *args, **kwargs)
        except RuntimeError:
            if interp in _guests:
                raise
        # close() has come in between: the next pool says that the interpreter is closed


def _guest_of(interp: _atoll.Interpreter) -> _atoll._Pool:
    with _guests_lock:
        pool = _guests.get(interp)
        if pool is not None and not pool.is_foreign:
            return pool
        pool = _atoll._Pool(
            max_workers=1,
            name=interp.name or f"atoll-{interp.id}",
            initializer=None,
            initargs=(),
            max_tasks=0,
            timeout=0.0,
            extensions=None,
            spares=False,
            guest=interp,
        )
        _shut_with(interp, pool)
        weakref.finalize(interp, _let_go, pool).atexit = False
        _note(pool)
        _guests[interp] = pool  # last: whoever finds it there relies on the rest
        return pool


def _let_go(pool: _atoll._Pool) -> None:
    """Forget a pool that never had a worker: who is noted keeps the interpreter.  It is called before it is shut."""
    pool.shut()
    if pool.finished:
        _pools.discard(pool)


async def _call_async(
    interp: _atoll.Interpreter, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """``Interpreter.call_async``."""
    import asyncio

    return await asyncio.wrap_future(_submit_to(interp, fn, *args, **kwargs))


# ---- the end of the interpreter ----

_reported: weakref.WeakSet[_atoll._Pool] = weakref.WeakSet()
_tellers: weakref.WeakKeyDictionary[_atoll._Pool, Teller] = weakref.WeakKeyDictionary()
_pools: set[_atoll._Pool] = set()  # that may have workers, also of executors that are gone
_executors: weakref.WeakSet[InterpreterPoolExecutor] = weakref.WeakSet()


def _shut_with(owner: object, pool: _atoll._Pool) -> None:
    """Have a pool shut when what it belongs to goes.

    By C alone: Ctrl-C in Python's code that runs then is lost, and so is the rest of that code.
    """
    pool.owner = weakref.ref(owner, pool.shut)


def _note(pool: _atoll._Pool) -> None:
    """Remember that a pool is there, and forget those that have ended."""
    for other in list(_pools):
        if other.finished:
            _pools.discard(other)
    _pools.add(pool)


def _join(pool: _atoll._Pool) -> None:
    """Wait for the last worker, and for all futures to be told."""
    while not pool.join(REPEAT) and interrupt_again():
        pass
    pool.join(None)
    if pool.delivers:
        _tellers[pool].join()
    if pool.finished:
        _pools.discard(pool)


def _interrupt(*pools: _atoll._Pool) -> None:
    """End pools now, because of Ctrl-C: what has not begun is cancelled, what runs is interrupted.

    A worker that does not react to any of MOST_INTERRUPTS is given up.
    """
    for pool in pools:
        pool.shut()
        try:
            pool.drain()
        except BaseException:  # of a callback, or Ctrl-C once more: it ends all the same
            LOGGER.critical("exception calling callback", exc_info=True)
    left = list(pools)
    for _ in range(MOST_INTERRUPTS):
        for pool in left:
            pool.interrupt()
        if left:
            left[0].join(REPEAT)
        left = [pool for pool in left if not pool.join(0)]
    for pool in left:
        pool.abandon()


def _end_guest(interp: _atoll.Interpreter, how: Literal["join", "interrupt", "shut", "drop"]) -> None:
    """An interpreter is about to be closed: see to what was submitted to it, as src/module/closing.c has it.

    "join" waits for its end, and "interrupt" interrupts it, after Ctrl-C; the others come back at once: "shut" only
    takes no more, "drop" cancels what has not begun.  After these the close may fail: the next one finds it again.
    """
    with _guests_lock:
        pools = list(itertools.filterfalse(attrgetter("finished"), _ending.pop(interp, ())))
        pool = _guests.pop(interp, None)
        if pool is not None:
            pools.append(pool)
        if how in ("shut", "drop") and pools:
            _ending[interp] = pools
    if how == "interrupt":
        _interrupt(*pools)
        return
    try:
        for pool in pools:
            pool.shut()
            if how == "drop":
                pool.drain()
            elif how == "join":
                _join(pool)
    except KeyboardInterrupt:
        _interrupt(*pools)
        raise


def _is_ended_by_ctrl_c() -> bool:
    """Whether the program ends by Ctrl-C that nothing has caught; where one is typed in, that ended a line of it.

    Python's main program has no caller: what a console in a program has shown, which went on, has one.
    """
    last = getattr(sys, "last_exc", None)
    if not isinstance(last, KeyboardInterrupt) or hasattr(sys, "ps1"):
        return False
    trace = last.__traceback__
    return trace is None or trace.tb_frame.f_back is None


def _at_exit() -> None:
    """Let the pools finish what they have, as the standard library's do, unless the program was told not to go on."""
    pools, executors = list(_pools), list(_executors)
    try:
        interrupted = _is_ended_by_ctrl_c()
        for executor in executors:
            if interrupted:
                executor._abandon_maps()
            executor._keep_promises()
            executor.shutdown(wait=False)
        for pool in pools:
            pool.shut()
        if interrupted:
            _interrupt(*pools)
        for pool in pools:
            _join(pool)
    except KeyboardInterrupt:
        for executor in executors:
            executor._abandon_maps()
        _interrupt(*pools)
        raise
    except SystemExit:
        pass  # the process ends with this interpreter left open: nothing waits here, and what runs is interrupted


# Before threads are joined, as ThreadPoolExecutor has it; and later, for pools of these threads and of exit functions.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
atexit.register(_at_exit)


def _shown(name: str) -> str:
    """Return a name as debuggers and top can show it: as the name of a thread any str will do."""
    return name.replace("\0", "?").encode("utf-8", "replace").decode()


class _Threads:
    """How many workers there are, for those who ask ThreadPoolExecutor's private attribute."""

    def __init__(self, pool: _atoll._Pool) -> None:
        self._pool = pool

    def __len__(self) -> int:
        return self._pool.workers


HAS_CONTEXTS = hasattr(ThreadPoolExecutor, "prepare_context")  # from 3.14 on
if HAS_CONTEXTS:
    from . import contexts as contexts


class _Executors(type):
    """After install(), subclasses of the executor that it replaced count as subclasses of ours."""

    def __subclasscheck__(cls, subclass: type) -> bool:
        if type.__subclasscheck__(cls, subclass):
            return True
        return cls is InterpreterPoolExecutor and issubclass(subclass, replaced.executors())

    def __instancecheck__(cls, instance: object) -> bool:
        return type.__instancecheck__(cls, instance) or cls.__subclasscheck__(type(instance))


class InterpreterPoolExecutor(ThreadPoolExecutor, metaclass=_Executors):
    """A pool of interpreters, each with a thread and a GIL of its own, behind the interface of concurrent.futures.

    What is submitted crosses by value (see ``Interpreter.call``): also functions of ``__main__``, lambdas and closures.
    Exceptions come back as themselves; their ``__cause__`` is an ExecutionFailed with the remote traceback.
    Workers are started when there is work for them.

    It is a ThreadPoolExecutor in name only, as the standard library's is and as asyncio wants it: nothing of that is
    used.
    """

    BROKEN = BrokenInterpreterPool
    _counter = itertools.count().__next__

    if HAS_CONTEXTS:

        @classmethod
        def prepare_context(cls, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> Any:
            """Return two functions, as the standard library's: one makes a worker's context, one a task.

            A subclass that overrides it gets worker threads with the contexts that it returns.
            """
            return contexts.WorkerContext.prepare(initializer, initargs)

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        task_timeout: float | None = None,
        imports: Iterable[str] = (),
        inner_threads: int | None = None,
        worker_limits: Limits | None = None,
        use_spares: bool = True,
        extensions: Literal["isolate", "strict", "shared"] | None = None,
    ) -> None:
        """Make a pool.

        Args:
            max_workers: how many interpreters at most; the default is one for each processor.
            thread_name_prefix: the beginning of the workers' names, which debuggers and top show.
            initializer: called in each new interpreter before its first task. If it raises or cannot cross, the pool
                is broken.
            initargs: its arguments.
            max_tasks_per_child: after so many tasks a worker goes on in a new interpreter.
            task_timeout: seconds that a task may take. It then fails with TimeoutError; its worker is interrupted,
                and replaced when it does not react within a second.
            imports: names of modules that each new interpreter imports, before the initializer is called. One that
                cannot be imported breaks the pool, with an error that names it.
            inner_threads: how many threads OpenBLAS, BLIS, MKL and OpenMP runtimes that interpreters share may have for
                one operation while a worker works, from the end of the task, or of imports, that has loaded them; none
                gets more than it had. The default is the number of processors divided by max_workers, as joblib has
                it, unless an environment variable of theirs (OMP_NUM_THREADS, ...) says something else.
            worker_limits: what each worker may take, a dict with the limits that ``create()`` has: ``memory_limit`` in
                bytes, ``cpu_limit`` in seconds of processor time, here for each task. A task that would take more fails
                with ResourceLimitExceeded, its worker goes on in a new interpreter, and other tasks do not notice.
            use_spares: whether workers may start from the spare interpreters of ``atoll.prewarm()``.
            extensions: how extension modules are loaded; see ``create()``.

        Raises:
            ValueError: for a number that is not positive, a limit that there is not, and in imports for what is not the
                name of a module.
            TypeError: for what is no number, worker_limits that are no mapping, an initializer that is not callable,
                initargs that cannot be iterated, and in imports for what is no str.
        """
        if max_workers is None:
            max_workers = processors()
        max_workers = as_count("max_workers", max_workers)
        if max_workers <= 0:
            raise ValueError(f"max_workers must be greater than 0, not {max_workers}")
        if isinstance(initializer, str):
            raise TypeError("scripts not supported")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, not {type(initializer).__name__}")
        initargs = as_tuple("initargs", initargs)
        imports = as_names(imports)
        inner = inner_count(inner_threads, max_workers)
        if max_tasks_per_child is not None:
            max_tasks_per_child = as_count("max_tasks_per_child", max_tasks_per_child)
            if max_tasks_per_child <= 0:
                raise ValueError(f"max_tasks_per_child must be >= 1, not {max_tasks_per_child}")
        check_seconds("task_timeout", task_timeout)
        if task_timeout is not None and not task_timeout > 0:
            raise ValueError(f"task_timeout must be greater than 0, not {task_timeout}")
        self._thread_name_prefix = str(thread_name_prefix) or f"InterpreterPoolExecutor-{self._counter()}"
        self._max_workers = max_workers
        self._one_by_one = task_timeout is not None
        self._most_items = max_tasks_per_child
        self._maps: weakref.WeakSet[Map] = weakref.WeakSet()
        self._pool: _atoll._Pool
        if HAS_CONTEXTS and contexts.are_own(type(self), InterpreterPoolExecutor):
            options = (max_tasks_per_child, task_timeout, inner_threads, worker_limits, extensions)
            if imports or any(option is not None for option in options):
                raise TypeError("a pool with a prepare_context() of its own has no options for interpreters")
            self._pool = contexts.ContextPool(  # type: ignore[assignment]
                self, max_workers, self._thread_name_prefix, initializer, initargs
            )
            return
        if imports:
            initializer, initargs = begin, (imports, initializer, *initargs)
        self._pool = _atoll._Pool(
            max_workers=max_workers,
            name=_shown(self._thread_name_prefix),
            initializer=initializer,
            initargs=initargs,
            max_tasks=max_tasks_per_child or 0,
            timeout=float(task_timeout or 0),
            inner_threads=inner,
            extensions=extensions,
            spares=use_spares,
            guest=None,
            own_args=BEGIN_ARGS if imports else 0,
            **check_limits(worker_limits),
        )
        _shut_with(self, self._pool)
        _note(self._pool)
        _executors.add(self)

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Schedule fn(*args, **kwargs) and return its Future.

        What cannot be sent makes the future fail. Raises RuntimeError after shutdown(), BrokenInterpreterPool.
        """
        return self._pool.submit(fn, *args, **kwargs)

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[_T]:
        """Return an iterator over fn's results, in the order of the iterables' items.

        Args:
            fn: takes as many arguments as there are iterables.
            *iterables: what its arguments are taken from, until the shortest has ended.
            timeout: seconds from now, after which the iterator raises TimeoutError.
            chunksize: how many calls are sent to a worker at once. None: as many as take about two milliseconds.
            buffersize: how many items at most are taken from the iterables before their results are asked for. None:
                a few chunks, but a sequence is worked off in the background until the first result is asked for.
            progress: shows how far it is, with tqdm where that is installed.

        Where a subclass, or whoever has replaced it, provides another submit(), that is called once for each item, as
        concurrent.futures does: at once, or with a buffersize as results are asked for. chunksize then means nothing.

        Raises:
            TypeError, ValueError: for a chunksize or buffersize that is no positive integer, or a wrong timeout.
        """
        check_sizes(chunksize, buffersize)
        check_seconds("timeout", timeout)
        results: Iterator[_T]
        submit = self.submit
        is_ours = type(submit) is MethodType and submit.__func__ is _submit and submit.__self__ is self
        if is_ours and isinstance(self._pool, _atoll._Pool):
            results = mapping = Map(self, fn, iterables, timeout, chunksize, buffersize)
            self._maps.add(mapping)
            mapping._begin()
            total = mapping._source.total
        else:
            results, total = each(self, fn, iterables, timeout, buffersize)
        if progress:
            from .progress import show

            return show(results, total)
        return results

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; end the workers when all is done.

        Args:
            wait: whether to wait for that.
            cancel_futures: whether to cancel what has not begun.
        """
        pool: _atoll._Pool | None = getattr(self, "_pool", None)
        if pool is None or pool.is_foreign:  # __init__ failed; or what it had is the parent process's
            return
        try:
            self._shut(pool, wait, cancel_futures)
        except KeyboardInterrupt:
            self._abandon_maps()
            _interrupt(pool)
            raise

    def _shut(self, pool: _atoll._Pool, wait: bool, cancel_futures: bool) -> None:
        for mapping in list(self._maps):
            mapping._abandon() if cancel_futures else mapping._at_shutdown()
        pool.shut()
        if cancel_futures:
            pool.drain()
        if pool.broken:
            _broken(pool)
        if wait:
            _join(pool)
            if pool.broken:
                _broken(pool)

    def _abandon_maps(self) -> None:
        """What map() has promised is not done: it would be sent as what runs ends."""
        for mapping in list(self._maps):
            mapping._abandon()

    def _keep_promises(self) -> None:
        """At the end of the process: send what map() has promised and nobody has asked for."""
        for mapping in list(self._maps):
            try:
                mapping._keep_promise()
            except Exception:
                LOGGER.exception("An iterator that was given to map() has raised:")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        """Shut down and wait; after Ctrl-C what runs is interrupted and what has not begun is cancelled.

        In a coroutine Ctrl-C arrives as CancelledError, as does any other cancellation.
        """
        if self._pool.is_foreign:
            return False
        asyncio = sys.modules.get("asyncio")
        if kind is not None and (
            issubclass(kind, KeyboardInterrupt)
            or (asyncio is not None and issubclass(kind, asyncio.CancelledError))
        ):
            self._abandon_maps()
            _interrupt(self._pool)
            self.shutdown(wait=False)
        else:
            for mapping in list(self._maps) if kind is not None else ():
                mapping._forget_unasked()
            self.shutdown(wait=True)
        return False

    def terminate_workers(self) -> None:
        """End the pool by force: what its workers run is interrupted, and left alone when it has not ended in a second.

        What has not begun is cancelled. What runs fails with BrokenInterpreterPool, once it has reacted or was left
        alone; submit() raises that from now on. Does not wait.
        """
        self._end_by_force(now=False)

    def kill_workers(self) -> None:
        """End the pool by force, as terminate_workers() does; but what runs fails at once.

        It is interrupted all the same. Interpreters whose code cannot be interrupted stay until it returns.
        """
        self._end_by_force(now=True)

    def _end_by_force(self, *, now: bool) -> None:
        self._abandon_maps()
        self._pool.kill(now)

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        """Raise TypeError: a pool cannot be copied, pickled or sent."""
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    @property
    def _threads(self) -> _Threads:  # type: ignore[override]
        return _Threads(self._pool)

    @property
    def _broken(self) -> bool:  # type: ignore[override]
        return self._pool.broken

    @property
    def _shutdown(self) -> bool:  # type: ignore[override]
        return self._pool.is_shut


_submit = (
    InterpreterPoolExecutor.submit
)  # map() goes around it as long as nobody has put another in its place

# As tracebacks show them.
InterpreterPoolExecutor.__module__ = "atoll"
Future.__module__ = BrokenInterpreterPool.__module__ = "atoll.futures"
