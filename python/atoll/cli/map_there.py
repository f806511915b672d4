"""What ``python -m atoll map`` does in the interpreters of its pool: find the function, call it, write its result."""

import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

_found: dict[str, Callable[[str], Any]] = {}


class NotFoundError(Exception):
    """There is no such function."""


def prepare(path: list[str]) -> None:
    """Begin in a new interpreter."""
    sys.path[:] = path


def check(name: str) -> str | None:
    """Find the function; return what is wrong with it, or None."""
    try:
        _find(name)
    except NotFoundError as error:
        return str(error)
    except BaseException as error:
        lines = "".join(traceback.format_exception(_stripped(error)))
        return f"{name} cannot be imported:\n{lines.rstrip()}"
    return None


def _find(name: str) -> Callable[[str], Any]:
    """Return the function 'module:function' or 'path/to/file.py:function', imported when it is asked for first.

    Raises:
        NotFoundError: there is none.
    """
    function = _found.get(name)
    if function is None:
        where, _, what = name.rpartition(":")
        value: Any = _load(where)
        for part in what.split("."):
            if not hasattr(value, part):
                raise NotFoundError(f"{where} has no {what}")
            value = getattr(value, part)
        if not callable(value):
            raise NotFoundError(f"{name} is not callable: it is of type {type(value).__name__}")
        if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
            raise NotFoundError(f"{name} is an async function: name one that calls asyncio.run() with it")
        function = _found[name] = value
    return function


def _load(where: str) -> Any:
    """Return the module of this name, or of this file."""
    if not where.endswith(".py"):
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{where}.".startswith(f"{error.name}."):
                raise
            raise NotFoundError(f"there is no module {error.name}") from None
    if not os.path.exists(where):
        raise NotFoundError(f"there is no file {where}")
    if not sys.flags.safe_path:
        sys.path.insert(0, os.path.dirname(os.path.realpath(where)))
    name = os.path.basename(where)[: -len(".py")]
    while name in sys.modules:  # another one of that name, which others need
        name += "_"
    spec = importlib.util.spec_from_file_location(name, os.path.abspath(where))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def apply(name: str, item: str, as_json: bool) -> tuple[bool, str, str]:
    """Call the function with an item; return (True, what is to be printed, "") or (False, the error, its traceback).

    An empty text prints nothing: the function returned None.
    """
    try:
        result = _find(name)(item)
        if inspect.iscoroutine(result):
            result.close()
            return (
                False,
                "TypeError: it returned a coroutine: name a function that calls asyncio.run() with it",
                "",
            )
        if as_json:
            return _as_json(item, result)
        return True, "" if result is None else f"{result}\n", ""
    except (Exception, SystemExit) as error:
        text = "".join(traceback.format_exception_only(error)).rstrip()
        return False, text, "".join(traceback.format_exception(_stripped(error)))


def _as_json(item: str, result: Any) -> tuple[bool, str, str]:
    try:
        return True, json.dumps({"item": item, "result": result}) + "\n", ""
    except (TypeError, ValueError, RecursionError) as error:
        return False, f"{type(error).__name__}: what it returned is not JSON: {error}", ""


def _stripped(error: BaseException) -> BaseException:
    """Take this module's frames, and the import system's, off a traceback's outer end; return the exception."""
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace.tb_frame.f_globals["__name__"]):
        trace = trace.tb_next
    return error.with_traceback(trace)


def without_own_frames(text: str) -> str:
    """Take this module's frames out of a traceback that is text."""
    return re.sub(rf'^  File "{re.escape(__file__)}", .*\n(?:    .*\n)*', "", text, flags=re.MULTILINE)


def _is_machinery(module: str) -> bool:
    return module == __name__ or module.partition(".")[0] == "importlib"
