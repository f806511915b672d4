"""How contexts and context variables cross, for ``asyncio.to_thread`` and whatever else runs a function in a context.

A variable is the one that the same module binds to the same name in the receiving interpreter.  One that no module
binds, as those of ``__main__``, has a key that is unique in the process: each interpreter has one variable for it.
A context crosses with those of its variables whose values can be sent and received there; the others are left out.
Called by ``atoll._crossing.byvalue`` and by what it sends.
"""

from __future__ import annotations

import contextvars
import importlib
import itertools
import os
import sys
import threading
import types
from typing import Any

from atoll import _atoll

# (module, name), or (interpreter's id, number), name and default, which is a tuple of it, or empty.
_Reference = tuple[str, str] | tuple[tuple[int, int], str, tuple[Any, ...]]

_lock = threading.RLock()  # what the garbage collector runs meanwhile may send one, too
_numbers = itertools.count(1)
_references: dict[contextvars.ContextVar[Any], _Reference] = {}
_variables: dict[tuple[int, int], contextvars.ContextVar[Any]] = {}


def _after_fork() -> None:
    """In a child: a thread that is not there may have the lock."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def _path(variable: contextvars.ContextVar[Any]) -> tuple[str, str] | None:
    for module_name, module in list(sys.modules.items()):
        if module_name not in ("__main__", "__mp_main__") and isinstance(module, types.ModuleType):
            for name, value in list(vars(module).items()):
                if value is variable:
                    return module_name, name
    return None


def _reference(variable: contextvars.ContextVar[Any]) -> _Reference:
    found = _references.get(variable)
    if found is not None:
        return found
    path = _path(variable)
    if path is None:
        default: tuple[Any, ...] = ()
        try:
            default = (contextvars.Context().run(variable.get),)
        except LookupError:
            pass
        with _lock:
            key = (_atoll.get_current().id, next(_numbers))
            _variables[key] = variable
            return _references.setdefault(variable, (key, variable.name, default))
    return _references.setdefault(variable, path)


def rebuild_variable(reference: _Reference) -> contextvars.ContextVar[Any]:
    """Return this interpreter's variable."""
    if len(reference) == 2:
        variable = getattr(importlib.import_module(reference[0]), reference[1])
        if not isinstance(variable, contextvars.ContextVar):
            raise TypeError(f"{reference[0]}.{reference[1]} is no context variable in this interpreter")
        return variable
    key, name, default = reference
    with _lock:
        known = _variables.get(key)
        if known is None:
            known = (
                contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar(name)
            )
            _references[known] = reference
            _variables[key] = known  # last: a variable that is known can be sent back, whatever comes between
    return known


def _packed(value: object) -> tuple[bytes | None, Any]:
    """Return what stands for a value: its bytes, or itself where it is a shared object; or raise."""
    if _atoll.is_shareable(value):
        return None, value
    return _atoll._encode(value), None


def rebuild_context(items: tuple[tuple[bytes, bytes | None, Any], ...]) -> contextvars.Context:
    """Return a context with the variables that can be had in this interpreter."""
    context = contextvars.Context()
    for reference, data, shared in items:
        try:
            variable = rebuild_variable(_atoll._decode(reference))
            context.run(variable.set, shared if data is None else _atoll._decode(data))
        except MemoryError:
            raise
        except Exception:
            continue
    return context


def reduce(obj: object) -> tuple[Any, ...]:
    """Return the reduction of a context or a context variable."""
    if isinstance(obj, contextvars.ContextVar):
        return rebuild_variable, (_reference(obj),)
    assert isinstance(obj, contextvars.Context)
    items = []
    for variable, value in obj.items():
        try:
            items.append((_atoll._encode(_reference(variable)), *_packed(value)))
        except MemoryError:
            raise
        except Exception:
            continue
    return rebuild_context, (tuple(items),)
