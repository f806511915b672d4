"""Describes an exception as text, in the interpreter where it was raised.

Called by the C library when code run by ``exec()`` or ``call()`` fails.  What was typed into a notebook, a doctest or
the interactive interpreter is in no file: only the interpreter that sent it has its lines, and fills them in.
"""

import linecache
import re
import sys
import traceback
from collections.abc import Iterator
from textwrap import dedent
from types import CodeType, SimpleNamespace, TracebackType

from atoll._atoll import ExecutionFailed

_SCRIPT = "<script>"

# Failures of failures (interpreters that call each other) would repeat every text inside the next one.
_HEAD = 20_000
_TAIL = 60_000


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _tracebacks(exc: BaseException) -> Iterator[TracebackType]:
    """Yield those of an exception and of all that led to it, however long the chain is."""
    seen: set[int] = set()
    left: list[BaseException | None] = [exc]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        tb = one.__traceback__
        while tb is not None:
            yield tb
            tb = tb.tb_next
        left += (one.__context__, one.__cause__)
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def _is_all_of(script: CodeType, exc: BaseException) -> bool:
    """Whether every frame named "<script>" runs code of this very script, so that its lines can be shown."""
    own = set(_codes(script))
    return all(
        tb.tb_frame.f_code in own for tb in _tracebacks(exc) if tb.tb_frame.f_code.co_filename == _SCRIPT
    )


# Of a frame without a source line: co_filename, the line's number, co_name, co_qualname, co_firstlineno.
_Missing = tuple[str, int, str, str, int]

_FRAME = re.compile(r'([ |]*)  File "(.*)", line (\d+), in (.*)')


def _missing(exc: BaseException) -> tuple[_Missing, ...]:
    found: dict[_Missing, None] = {}
    for tb in _tracebacks(exc):
        code = tb.tb_frame.f_code
        if not linecache.getline(code.co_filename, tb.tb_lineno, tb.tb_frame.f_globals):
            place = (code.co_filename, tb.tb_lineno, code.co_name, code.co_qualname, code.co_firstlineno)
            found[place] = None
    return tuple(found)


def _line(place: _Missing) -> str:
    filename, number, name, qualname, first = place
    # Any code that exec() runs may be called <string>; and modules are not sent.
    line = linecache.getline(filename, number) if filename != "<string>" else ""
    if line or name == "<module>":
        return line
    # A module of an archive: its loader has the text.
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == filename:
            return linecache.getline(filename, number, vars(module))
    # From 3.14 on what was typed, or given with -c, is found by its code.
    if hasattr(linecache, "_make_key"):
        code = SimpleNamespace(co_filename=filename, co_name=name, co_qualname=qualname, co_firstlineno=first)
        line_of = getattr(linecache, "_getline_from_code")  # noqa: B009 - typeshed does not know it
        return str(line_of(code, number))
    return ""


def fill_in(display: str, missing: tuple[_Missing, ...]) -> str:
    """Return a traceback with the source lines of the frames *missing* that are known here."""
    known = {}
    for place in missing:
        line = _line(place).strip()
        if line:
            known[place[0], str(place[1]), place[2]] = line
    lines = display.split("\n") if known else []
    filled = []
    for i, line in enumerate(lines):
        filled.append(line)
        frame = _FRAME.fullmatch(line)
        source = known.get(frame.group(2, 3, 4)) if frame else None  # type: ignore[arg-type]
        if frame and source and not (i + 1 < len(lines) and lines[i + 1].startswith(frame[1] + "    ")):
            filled.append(f"{frame[1]}    {source}")
    return "\n".join(filled) if known else display


def _shortened(text: str) -> str:
    left_out = len(text) - _HEAD - _TAIL
    return f"{text[:_HEAD]}\n[... {left_out} characters ...]\n{text[-_TAIL:]}" if left_out > 0 else text


def _message(exc: BaseException) -> str:
    try:
        # The summary alone: the remote traceback, which str() adds, is shown once, in errdisplay.
        return str(exc.args[0]) if isinstance(exc, ExecutionFailed) else str(exc)
    except BaseException:  # as the traceback module: what __str__ raises is nobody's, SystemExit neither
        return "<exception str() failed>"


def describe(
    exc: BaseException, script: CodeType | None, source: str | None
) -> tuple[str, str, str | None, str, str, str, tuple[_Missing, ...]]:
    """Return ``(name, qualname, module, msg, formatted, errdisplay, missing)`` of an exception.

    *missing* says of which frames the source is not known here, for ``fill_in()``.

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
            lines = dedent(source).splitlines(True)  # as it was compiled
            linecache.cache[_SCRIPT] = (len(source), None, lines, _SCRIPT)
        display = "".join(traceback.TracebackException.from_exception(exc).format())
        missing = _missing(exc)
    except Exception:
        display = formatted
        missing = ()
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
        missing,
    )


def prepare() -> None:
    """Load what a description takes, for an interpreter that may have no memory for it then."""
    source = "1 if [].missing else (\n  2)\n"
    script = compile(source, _SCRIPT, "exec")
    try:
        exec(script, {})
    except AttributeError as exc:
        describe(exc, script, source)
