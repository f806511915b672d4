"""What the scripts of tests/crossing call: each runs something at home and in an interpreter, and compares."""

from __future__ import annotations

import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

import atoll

_section = ""
_failed: list[str] = []
_same = object()


def section(name: str) -> None:
    """Begin a section of the script: what fails from here on is in it."""
    global _section
    _section = name


def _fail(text: str) -> None:
    _failed.append(f"{_section}: {text}")


def equal(got: object, right: object, what: str = "") -> None:
    """Note a failure where the two differ."""
    if got != right:
        _fail(f"{what}: {got!r}\n    right: {right!r}")


def check(
    function: Callable[..., Any],
    right: object,
    *args: Any,
    there: object = _same,
    compare: Callable[[Any], Any] = lambda x: x,
) -> None:
    """Call the function in a new interpreter, then at home; note a failure where a result is not the right one.

    there is what is right in the interpreter, where copies make a difference.
    """
    line = sys._getframe(1).f_lineno
    try:
        with atoll.create() as interp:
            got = interp.call(function, *args)
        if compare(got) != compare(right if there is _same else there):
            _fail(f"line {line}, there {got!r}\n    right: {right if there is _same else there!r}")
    except Exception as error:
        text = "".join(traceback.format_exception_only(error)).strip()
        _fail(f"line {line}, there {text[-700:]}")
    got = function(*args)
    if compare(got) != compare(right):
        _fail(f"line {line}, AT HOME {got!r}\n    right: {right!r}")


def raised(function: Callable[[], Any], kind: type[BaseException]) -> Any:
    """Return what the function raises as a task of a pool, which is of that very type."""
    with atoll.InterpreterPoolExecutor(1) as pool:
        try:
            result = pool.submit(function).result(60)
        except BaseException as error:
            if type(error) is not kind:
                text = "".join(traceback.format_exception_only(error)).strip()
                _fail(f"{kind.__name__} arrives as {text[-500:]}")
            return error
    return _fail(f"{function} returned {result!r}")


def refused(thing: object) -> None:
    """Note a failure where an object that holds the thing is not refused with its path and the name of its type."""
    holder = types.SimpleNamespace(inner={"list": [thing]})
    with atoll.create() as interp:
        try:
            interp.call(id, holder)
        except atoll.NotShareableError as error:
            text, name = str(error), type(thing).__name__
            if "args[0].inner['list'][0]: " not in text or name not in text:
                _fail(f"{name}: {text}")
        else:
            _fail(f"{thing} crosses")


def finish() -> None:
    """Print what failed; end with status 1 where something did."""
    for text in _failed:
        print(text)
    print("done", len(_failed))
    sys.exit(bool(_failed))
