"""How type variables, ``NewType``s, sentinels and ``type`` aliases of ``__main__`` cross.

They are compared by identity. Each has a key that is unique in the process, and each interpreter at most one object for
it, as long as that is alive.
CPython has no weak references to sentinels and aliases: the last thousand are kept. Aliases with parameters are made
anew.
Called by ``atoll._crossing.byvalue`` and by what it sends.
"""

from __future__ import annotations

import builtins
import functools
import itertools
import keyword
import os
import sys
import threading
import typing
import weakref
from typing import Any

from atoll import _atoll

_Key = tuple[int, int]  # the interpreter's id, and a number there

# Ctrl-C, or no memory, may come between any two steps. So of two tables the one that is asked whether something is
# known is written last: what is known is whole.
_lock = threading.RLock()  # what the garbage collector runs meanwhile may send one, too
_numbers = itertools.count(1)
# By address, and by key: weak references, whose callbacks are of C. In those of weakref's dictionaries Ctrl-C is lost.
_keys: dict[int, Any] = {}  # and the key
_objects: dict[_Key, Any] = {}


def _after_fork() -> None:
    """In a child: a thread that is not there may have the lock."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def _key_of(obj: Any) -> _Key:
    with _lock:
        known = _keys.get(id(obj))
        if known is not None and known[0]() is obj:
            key: _Key = known[1]
            return key
        key = (_atoll.get_current().id, next(_numbers))
        _note_object(key, obj)
        _note_key(key, obj)
        return key


def _note_object(key: _Key, obj: Any) -> None:
    _objects[key] = weakref.ref(obj, functools.partial(_objects.pop, key))


def _note_key(key: _Key, obj: Any) -> None:
    _keys[id(obj)] = weakref.ref(obj, functools.partial(_keys.pop, id(obj))), key


# Those that are kept. Most programs have a few; one that makes them anew all the time need not keep all.
_KEPT_MOST = 1000
_kept_keys: dict[int, tuple[_Key, Any]] = {}  # by address
_kept: dict[_Key, Any] = {}
# By address: of aliases that were made here, which may name themselves, until it is there.
_values: dict[int, list[Any]] = {}


def _key_of_kept(obj: Any) -> _Key:
    with _lock:
        if id(obj) not in _kept_keys:
            key = (_atoll.get_current().id, next(_numbers))
            _forget_oldest()
            _kept[key] = obj
            _kept_keys[id(obj)] = key, obj
        return _kept_keys[id(obj)][0]


def _keep_received(key: _Key, obj: Any) -> None:
    _forget_oldest()
    _kept_keys[id(obj)] = key, obj
    _kept[key] = obj


def _forget_oldest() -> None:
    while len(_kept_keys) >= _KEPT_MOST:
        address = next(iter(_kept_keys))
        key, _ = _kept_keys.pop(address)
        _kept.pop(key, None)


_Sentinel: Any = getattr(builtins, "sentinel", None)  # 3.15 on


def rebuild_sentinel(key: _Key, name: str, options: dict[str, Any], module: str) -> Any:
    """Return this interpreter's sentinel for a key."""
    with _lock:
        if key not in _kept:
            made = _Sentinel(name, **options)
            made.__module__ = module
            _keep_received(key, made)
        return _kept[key]


def reduce(obj: Any) -> tuple[Any, ...] | None:
    """Return the reduction of such an object, None for any other."""
    arguments: tuple[Any, ...]
    options: dict[str, Any] = {}
    if _Sentinel is not None and isinstance(obj, _Sentinel):
        shown = repr(obj)
        options = {} if shown == obj.__name__ else {"repr": shown}
        return rebuild_sentinel, (_key_of_kept(obj), obj.__name__, options, obj.__module__)
    if isinstance(obj, typing.TypeAliasType) and _may_be_lazy(obj):
        arguments = _key_of_kept(obj), _qualname_of(obj), obj.__module__
        return rebuild_lazy_alias, arguments, obj.__value__, None, None, set_value
    if isinstance(obj, typing.TypeAliasType):
        options = {"type_params": obj.__type_params__}
        if sys.version_info >= (3, 15):
            options["qualname"] = obj.__qualname__
        return rebuild_alias, (obj.__name__, obj.__value__, options, obj.__module__)
    if isinstance(obj, typing.NewType):
        arguments = (obj.__name__, obj.__supertype__)
    elif isinstance(obj, (typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple)):
        arguments = (obj.__name__, *getattr(obj, "__constraints__", ()))
        for name in ("bound", "covariant", "contravariant", "infer_variance"):
            value = getattr(obj, f"__{name}__", None)
            if value:
                options[name] = value
    else:
        return None
    if sys.version_info >= (3, 13) and not isinstance(obj, typing.NewType) and obj.has_default():
        options["default"] = obj.__default__
    qualname = getattr(obj, "__qualname__", None)
    return rebuild, (_key_of(obj), type(obj), arguments, options, obj.__module__, qualname)


def rebuild(
    key: _Key,
    kind: Any,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    module: str,
    qualname: str | None,
) -> Any:
    """Return this interpreter's object for a key."""
    with _lock:
        reference = _objects.get(key)
        known = reference() if reference is not None else None
        if known is None:
            known = kind(*arguments, **options)
            known.__module__ = module
            if qualname is not None:
                known.__qualname__ = qualname
            _note_key(key, known)
            _note_object(key, known)
        return known


def _may_be_lazy(alias: Any) -> bool:
    """Whether a statement without parameters makes the same."""
    names = [name for name in _qualname_of(alias).split(".") if name != "<locals>"]
    plain = all(name.isidentifier() and not keyword.iskeyword(name) for name in names)
    mangled = len(names) > 1 and any(name.startswith("__") for name in names)
    return plain and not mangled and isinstance(alias.__module__, str) and not alias.__type_params__


def _qualname_of(alias: Any) -> str:
    qualname: str = getattr(alias, "__qualname__", alias.__name__)  # 3.15 on
    return qualname


def _statement_of(qualname: str) -> str:
    """What puts an alias of this qualified name into ``_made``: it is readonly, and said by where the statement is."""
    outer, _, name = qualname.rpartition(".")
    lines = [f"type {name} = _value[0]", f"_made.append({name})"]
    while outer:
        is_function = outer.endswith(".<locals>")
        outer, _, name = outer.removesuffix(".<locals>").rpartition(".")
        lines = [f"def {name}():" if is_function else f"class {name}:", *(f" {line}" for line in lines)]
        lines += [f"{name}()"] if is_function else []
    return "\n".join(lines)


def rebuild_lazy_alias(key: _Key, qualname: str, module: str) -> Any:
    """Return this interpreter's alias for a key, which is given its value next."""
    with _lock:
        if key not in _kept:
            value: list[Any] = []
            made: list[Any] = []
            exec(_statement_of(qualname), {"__name__": module, "_value": value, "_made": made})
            _values[id(made[0])] = value
            _keep_received(key, made[0])
        return _kept[key]


def set_value(alias: Any, value: Any) -> None:
    """Give an alias that was made here its value, unless it has one."""
    with _lock:
        place = _values.get(id(alias))
        if place is not None:
            if not place:
                place.append(value)
            del _values[id(alias)]


def rebuild_alias(name: str, value: Any, options: dict[str, Any], module: str) -> typing.TypeAliasType:
    """Return an alias of another interpreter's ``__main__``."""
    # It takes its module from the code that makes it.
    make: Any = eval("lambda kind, name, value, options: kind(name, value, **options)", {"__name__": module})
    alias: typing.TypeAliasType = make(typing.TypeAliasType, name, value, options)
    return alias
