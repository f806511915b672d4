"""Modules that are built into this Python and that an interpreter with a GIL of its own cannot simply have.

The loader asks create() for those on its list, in interpreters that isolate extensions, and says whether a built-in
_datetime can be had.
"""

import _imp
import importlib
import importlib.machinery
import os
import sys
from types import ModuleType

from atoll._atoll import get_main

_VERSION = sys.version_info[:2]

# Why a built-in module cannot be had in an interpreter, and what to do. They keep Python objects, or the state of
# a device, in static variables, of which there is one set for the process.
_REASONS = {
    "_curses": "curses keeps one terminal for the process: use it in the main interpreter",
    "_curses_panel": "curses keeps one terminal for the process: use it in the main interpreter",
    "_datetime": "it could not be prepared in the main interpreter: `import datetime` uses _pydatetime",
    "_tkinter": "Tcl is bound to the interpreter that began it: use tkinter in the main interpreter",
    "_zoneinfo": "it would use another interpreter's _datetime: `import zoneinfo` uses its Python version",
    "readline": "it edits lines of one terminal for the process: use it in the main interpreter",
}
if _VERSION < (3, 13):
    _REASONS |= {
        "_ctypes": "it keeps Python objects in static variables: use ctypes in the main interpreter",
        "_decimal": "it keeps Python objects in static variables: `import decimal` uses _pydecimal",
        "nis": "it keeps its answers in static variables: use it in the main interpreter",
        "ossaudiodev": "it keeps a Python object in a static variable: use it in the main interpreter",
    }


def why_not(name: str, datetime_is_held: bool) -> str | None:
    """Return why a module that is built in cannot be had in an interpreter, with what to do; None when it can.

    Some depend on whether a built-in _datetime can be had.
    """
    reason = _REASONS.get(name)
    if reason is None or (name in ("_datetime", "_zoneinfo") and (datetime_is_held or _VERSION >= (3, 14))):
        return None
    return (
        f"{name} is built into this Python, without a file to make a copy of, and cannot be used"
        f" in an interpreter of its own: {reason}, or use a Python that has {name} as a file"
    )


def _find_file(name: str) -> importlib.machinery.ModuleSpec | None:
    """Find the file of a module that is built in as well, where this Python keeps those of its own."""
    library = f"python{_VERSION[0]}.{_VERSION[1]}"
    directory = os.path.join(sys.base_exec_prefix, sys.platlibdir, library, "lib-dynload")
    if directory not in sys.path:
        return None
    return importlib.machinery.PathFinder.find_spec(name, [directory])


def create(name: str, datetime_is_held: bool) -> ModuleType | None:
    """Return a module for this interpreter in the place of the built-in one, or None: that one will do.

    Raises:
        ImportError: there is nothing that could take its place.
    """
    reason = why_not(name, datetime_is_held)
    if reason is None:
        return None
    spec = _find_file(name)
    if spec is not None:
        module = _imp.create_dynamic(spec)
        module.__file__ = (
            spec.origin
        )  # which importlib does not do for a module that it takes for one that is built in
        return module
    if name == "_ctypes":
        from .no_ctypes import make

        return make(reason)
    raise ImportError(reason, name=name)


def import_here(name: str) -> str | None:
    """Import a module here; return what went wrong, or None."""
    try:
        importlib.import_module(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def import_in_main(name: str) -> None:
    """Import a module in the main interpreter.

    Raises:
        ImportError: that failed.
    """
    failed = get_main().call(import_here, name)
    if failed is not None:
        raise ImportError(f"{name} cannot be imported in the main interpreter: {failed}", name=name)
