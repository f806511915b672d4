"""What a few modules need that keep one state for the whole process, in an interpreter of their own.

The loader calls apply() for a new module, before its code runs, in interpreters that isolate extensions.
"""

import atexit
import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from atoll._atoll import _count_arrays, _facade
from atoll._interp.in_main import call_in_main, is_main

# ------------------------------------------------------------------------------------------------
# faulthandler: the process has one set of handlers, and the file that they write to is an object of whoever enabled
# them, which it keeps. So main is the one who does, with a file of its own, or with the number of one of the process's
# three.
# ------------------------------------------------------------------------------------------------

# The place of the argument `file` among those of each function, None where it has none.
_PLACE_OF_FILE = {
    "enable": 0,
    "disable": None,
    "is_enabled": None,
    "register": 1,
    "unregister": None,
    "dump_traceback_later": 2,
    "cancel_dump_traceback_later": None,
}


def _descriptor(file: Any) -> int:
    """Return the descriptor of what faulthandler takes for a file."""
    if file is None:
        file = sys.stderr
        if file is None:
            raise RuntimeError("sys.stderr is None")
    if isinstance(file, int):
        return file
    descriptor = int(file.fileno())
    file.flush()
    return descriptor


class _File:
    """A descriptor of the same file, which is open as long as faulthandler has this."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def flush(self) -> None:
        pass

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "_descriptor"):
            close(self._descriptor)


def _put(place: int, file: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Put the file in its place among arguments: args with it, or kwargs."""
    if len(args) > place:
        return (*args[:place], file, *args[place + 1 :])
    kwargs["file"] = file
    return args


def call_faulthandler(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], file: int | None) -> Any:
    """Call a function of faulthandler here; file: a descriptor that its owner will close."""
    import faulthandler

    place = _PLACE_OF_FILE[name]
    if file is not None and place is not None:
        args = _put(place, _File(file), args, kwargs)
    return getattr(faulthandler, name)(*args, **kwargs)


def _faulthandler(module: ModuleType) -> None:
    is_enabled = module.is_enabled
    enabled_here = False

    # In a child that this interpreter has forked.  The file that main gave is main's object: not to be freed here.
    def in_child(name: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal enabled_here
        if name in ("enable", "disable") and is_enabled() and not enabled_here:
            if name == "enable":
                return None
            raise RuntimeError("faulthandler was enabled before the process was forked, and stays so")
        enabled_here |= name == "enable"
        return original(*args, **kwargs)

    def in_main(name: str, place: int | None) -> Callable[..., Any]:
        original = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if is_main():
                return in_child(name, original, *args, **kwargs)
            owned = None
            if place is not None:
                file = args[place] if len(args) > place else kwargs.get("file")
                descriptor = _descriptor(file)
                owned = descriptor if not isinstance(file, int) and descriptor > 2 else None
                args = _put(place, descriptor, args, kwargs)
            return call_in_main(call_faulthandler, name, args, kwargs, owned)

        return _facade(original, call)

    for name, place in _PLACE_OF_FILE.items():
        setattr(module, name, in_main(name, place))


# ------------------------------------------------------------------------------------------------
# pwd, grp: the C library has one list of users that it goes through, and before 3.15 CPython relies on one GIL there.
# ------------------------------------------------------------------------------------------------


def call_list(module: str, name: str) -> Any:
    """Call a function without arguments of a module here."""
    return getattr(importlib.import_module(module), name)()


def list_in_main(original: Callable[[], Any]) -> Any:
    """Call getpwall() or the like, as nobody else does it at the same time."""
    return original() if is_main() else call_in_main(call_list, original.__module__, original.__name__)


# ------------------------------------------------------------------------------------------------
# tracemalloc: traces all interpreters, and keeps objects of theirs.
# ------------------------------------------------------------------------------------------------


def _tracemalloc(module: ModuleType) -> None:
    def start(*_args: int) -> None:
        """Raise RuntimeError: tracing concerns the whole process."""
        raise RuntimeError("tracemalloc traces the whole process: start it in the main interpreter")

    module.start = _facade(module.start, start)  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------
# numexpr: its threads wait for work for ever, unless it is told to have one.
# ------------------------------------------------------------------------------------------------


def _numexpr(module: ModuleType) -> None:
    atexit.register(lambda: module._set_num_threads(1))


# ------------------------------------------------------------------------------------------------
# signal: the process has one set of handlers, which are main's.
# ------------------------------------------------------------------------------------------------


def _signal(module: ModuleType) -> None:
    from atoll._interp import signals

    signals.apply(module)


# ------------------------------------------------------------------------------------------------
# numpy: its arrays count for the memory_limit of the interpreter. This module of its comes after the one that has its
# table of functions, and before users have any array.
# ------------------------------------------------------------------------------------------------


def count_arrays() -> None:
    """Count what numpy's arrays take, from now on, if numpy is there and the interpreter has a limit."""
    for name in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        table = getattr(sys.modules.get(name), "_ARRAY_API", None)
        if table is not None:
            _count_arrays(table)
            return


def _numpy(_module: ModuleType) -> None:
    count_arrays()


_QUIRKS = {
    "_signal": _signal,
    "_tracemalloc": _tracemalloc,
    "faulthandler": _faulthandler,
    "numexpr.interpreter": _numexpr,
    "numpy.linalg._umath_linalg": _numpy,
}


def apply(name: str, module: ModuleType) -> None:
    """Change a module that was just made."""
    _QUIRKS[name](module)
