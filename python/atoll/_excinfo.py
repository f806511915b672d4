"""Describes an exception as text, in the interpreter where it was raised.

Called by the C library when code run by ``exec()`` or ``call()`` fails.
"""

import linecache
import traceback
from collections.abc import Iterator
from types import CodeType, TracebackType

from ._atoll import ExecutionFailed

_SCRIPT = "<script>"

# Failures of failures (interpreters that call each other) would repeat every text inside the next one.
_HEAD = 20_000
_TAIL = 60_000


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _tracebacks(exc: BaseException, seen: set[int]) -> Iterator[TracebackType]:
    if id(exc) in seen:
        return
    seen.add(id(exc))
    tb = exc.__traceback__
    while tb is not None:
        yield tb
        tb = tb.tb_next
    for other in (exc.__cause__, exc.__context__):
        if other is not None:
            yield from _tracebacks(other, seen)
    if isinstance(exc, BaseExceptionGroup):
        for part in exc.exceptions:
            yield from _tracebacks(part, seen)


def _is_all_of(script: CodeType, exc: BaseException) -> bool:
    """Whether every frame named "<script>" runs code of this very script, so that its lines can be shown."""
    own = set(_codes(script))
    return all(
        tb.tb_frame.f_code in own
        for tb in _tracebacks(exc, set())
        if tb.tb_frame.f_code.co_filename == _SCRIPT
    )


def _shortened(text: str) -> str:
    left_out = len(text) - _HEAD - _TAIL
    return f"{text[:_HEAD]}\n[... {left_out} characters ...]\n{text[-_TAIL:]}" if left_out > 0 else text


def _message(exc: BaseException) -> str:
    try:
        # The summary alone: the remote traceback, which str() adds, is shown once, in errdisplay.
        return str(exc.args[0]) if isinstance(exc, ExecutionFailed) else str(exc)
    except Exception:
        return "<exception str() failed>"


def describe(
    exc: BaseException, script: CodeType | None, source: str | None
) -> tuple[str, str, str | None, str, str, str]:
    """Return ``(name, qualname, module, msg, formatted, errdisplay)`` of an exception.

    *script* and *source* are the code that ``exec()`` was running and its text, for the source lines of
    the traceback; None when it was not a script.  Never raises for anything an exception's own methods do.
    """
    kind = type(exc)
    module = kind.__module__ if isinstance(kind.__module__, str) else None
    message = _message(exc)
    full_name = (
        kind.__qualname__ if module in (None, "builtins", "__main__") else f"{module}.{kind.__qualname__}"
    )
    formatted = f"{full_name}: {message}" if message else full_name
    if isinstance(exc, ExecutionFailed):
        formatted = _shortened(formatted)
    shown = script is not None and source is not None and _is_all_of(script, exc)
    try:
        if shown and source is not None:
            linecache.cache[_SCRIPT] = (len(source), None, source.splitlines(True), _SCRIPT)
        display = "".join(traceback.TracebackException.from_exception(exc).format())
    except Exception:
        display = formatted
    finally:
        if shown:
            linecache.cache.pop(_SCRIPT, None)
    return (
        kind.__name__,
        kind.__qualname__,
        module,
        message,
        formatted,
        _shortened(display.removesuffix("\n")),
    )
