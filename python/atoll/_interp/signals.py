"""The signal module in an interpreter that has the process's main thread.

A process has one set of signal handlers, and CPython calls those written in Python in the main interpreter only. So
what sets one in another interpreter has the main interpreter do it, with a handler that only notes the signal for that
interpreter. The thread is inside it at that time, or else calls it; there what was set is called, on the main thread,
between two bytecodes, and what it raises is raised there. ``src/py/interp/signals.c`` has the other half.

As in a single interpreter only the process's main thread may set a handler.

What getsignal() returns is never an object of another interpreter: a handler of the main interpreter's own is a
MainHandler, which calls it.

The functions named ``in_main_...`` run in the main interpreter, all others in the one that uses signal.
"""

from __future__ import annotations

import operator
import sys
from types import FrameType, ModuleType

from atoll import _atoll

from .in_main import call_in_main

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec, TypeVar

    _P = ParamSpec("_P")
    _T = TypeVar("_T")

SIGINT = 2
COUNT = 65  # as CPython has it: numbers below that
DEFAULT, IGNORE = 0, 1  # signal.SIG_DFL, SIG_IGN

# ------------------------------------------------------------------------------------------------
# In main
# ------------------------------------------------------------------------------------------------

_own: dict[int, Any] = {}  # main's handlers, before an interpreter set another one
_set_here: dict[int, Any] = {}  # what was set for interpreters


class _Forward:
    """A handler, in main, of a signal that another interpreter handles."""

    def __init__(self, owner: int) -> None:
        self.owner = owner

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if _atoll._note_signal(self.owner, number):
            return  # the thread is inside: it is called when it goes on there
        try:
            _atoll.Interpreter(self.owner).call(call_handler, number)
        except _atoll.InterpreterNotFoundError:
            if _own.get(number) is None:
                return  # it was C's, which Python cannot put back
            import _signal  # type: ignore[import-not-found]

            in_main_set(number, "main", 0)
            _signal.raise_signal(number)


def in_main_set(number: int, what: str, owner: int) -> None:
    """Set the handler of a signal."""
    import _signal

    now = _signal.getsignal(number)
    if number not in _set_here or _set_here[number] is not now:
        _own[number] = now
    handler: Any = {
        "default": DEFAULT,
        "ignore": IGNORE,
        "interrupt": _signal.default_int_handler,
        "main": _own.get(number),
        "here": _Forward(owner),
    }[what]
    if handler is not None:
        _signal.signal(number, handler)
        _set_here[number] = handler


def in_main_call(number: int) -> None:
    """Call the handler that main had before."""
    handler = _own.get(number)
    if callable(handler):
        handler(number, None)


def in_main_set_wakeup_fd(fd: int, warn: bool) -> int:
    """Call signal.set_wakeup_fd()."""
    import _signal

    return int(_signal.set_wakeup_fd(fd, warn_on_full_buffer=warn))


# ------------------------------------------------------------------------------------------------
# In the interpreter
# ------------------------------------------------------------------------------------------------

_handlers: dict[int, Any] = {}  # that were set here
_replaced: list[tuple[ModuleType, str, Any]] = []  # what apply() has replaced
_kept: list[object] = []  # in a forked child: objects of another interpreter, which must not be freed here


class MainHandler:
    """A handler of the main interpreter's, as another interpreter has it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        _atoll.get_main().call(in_main_call, self.number)

    def __repr__(self) -> str:
        return f"<handler of signal {self.number} in the main interpreter>"


def handler_of(number: int) -> Any:
    """Return what was set for a signal, None for what is not there any more."""
    return _handlers.get(number)


def call_handler(number: int) -> None:
    """Call what was set for a signal, from main."""
    handler = _handlers.get(number)
    if handler is not None:
        handler(number, None)


def _number_of(signalnum: object) -> int:
    number = operator.index(signalnum)  # type: ignore[arg-type]
    if not 0 < number < COUNT:
        raise ValueError("signal number out of range")
    return number


def _require_main_thread(message: str) -> None:
    if not _atoll._on_main_thread():
        raise ValueError(message)


def apply(module: ModuleType) -> None:
    """Give ``_signal``, whose own functions refuse, functions that do it in the main interpreter."""
    interrupt = module.default_int_handler
    mains: dict[int, MainHandler] = {}

    def named(function: Callable[_P, _T]) -> Callable[_P, _T]:
        name = function.__name__
        _replace(module, name, _atoll._facade(getattr(module, name), function))
        return function

    @named
    def getsignal(signalnum: object, /) -> Any:
        number = _number_of(signalnum)
        disposition = _atoll._signal_disposition(number)
        if disposition != 2:
            return disposition
        if number in _handlers:
            return _handlers[number]
        return interrupt if number == SIGINT else mains.setdefault(number, MainHandler(number))

    @named
    def signal(signalnum: object, handler: Any, /) -> Any:
        _require_main_thread("signal only works in main thread of the main interpreter")
        number = _number_of(signalnum)
        if handler is interrupt and number == SIGINT:
            what = "interrupt"
        elif isinstance(handler, MainHandler):
            what = "main"
        elif callable(handler):
            what = "here"
        elif isinstance(handler, int) and handler in (DEFAULT, IGNORE):
            what = "default" if handler == DEFAULT else "ignore"
        else:
            raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
        _atoll._check_signals()
        before = getsignal(number)
        replaced = _handlers.get(number)
        if what == "here":
            _handlers[number] = handler
        try:
            call_in_main(in_main_set, number, what, _atoll.get_current().id)
        except Exception:
            if replaced is not None:
                _handlers[number] = replaced
            else:
                _handlers.pop(number, None)
            raise
        if what != "here":
            _handlers.pop(number, None)
        return before

    @named
    def set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
        _require_main_thread("set_wakeup_fd only works in main thread of the main interpreter")
        return call_in_main(in_main_set_wakeup_fd, operator.index(fd), bool(warn_on_full_buffer))

    _check_after_signals(module)


def _check_after_signals(module: ModuleType) -> None:
    """Have the functions by which a thread may send itself a signal look for it before they return.

    CPython looks for it soon after; here the watcher would, up to a twentieth of a second later.
    """
    import _thread
    import posix

    for owner, name in (
        (module, "raise_signal"),
        (module, "pause"),
        (module, "pthread_kill"),
        (module, "pthread_sigmask"),
        (module, "pidfd_send_signal"),
        (posix, "kill"),
        (posix, "killpg"),
        (_thread, "interrupt_main"),
    ):
        original = getattr(owner, name, None)
        if original is None:
            continue  # this system has none
        checking = _atoll._facade(original, _atoll._then_check_signals(original))
        _replace(owner, name, checking)
        if owner is posix and "os" in sys.modules:
            _replace(sys.modules["os"], name, checking)


def _replace(module: ModuleType, name: str, function: Any) -> None:
    _replaced.append((module, name, getattr(module, name)))
    setattr(module, name, function)


def in_child() -> None:
    """Undo apply(): in a forked child this is the main interpreter.

    What was set here stays set; handlers of the parent's main interpreter become those that a new process has.
    """
    import _signal

    while _replaced:
        module, name, original = _replaced.pop()
        setattr(module, name, original)
    _signal.set_wakeup_fd(-1)
    for number in _signal.valid_signals():
        handler = _signal.getsignal(number)
        if callable(handler):
            _kept.append(handler)
            default = _signal.default_int_handler if number == SIGINT else DEFAULT
            is_own = type(handler).__name__ == _Forward.__name__
            _signal.signal(number, _handlers.get(number, default) if is_own else default)
