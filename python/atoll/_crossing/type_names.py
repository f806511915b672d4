"""How type variables, ``NewType``s, sentinels and ``type`` aliases of ``__main__`` cross.

They are compared by identity. Each has a key that is unique in the process, and each interpreter at most one object for
it, as long as that is alive.
Aliases are made anew each time: CPython has no weak references to them.
Called by ``atoll._crossing.byvalue`` and by what it sends.
"""

from __future__ import annotations

import builtins
import itertools
import os
import sys
import threading
import typing
import weakref
from typing import Any

from atoll import _atoll

_Key = tuple[int, int]  # the interpreter's id, and a number there

_lock = threading.RLock()  # what the garbage collector runs meanwhile may send one, too
_numbers = itertools.count(1)
_keys: weakref.WeakKeyDictionary[Any, _Key] = weakref.WeakKeyDictionary()
_objects: weakref.WeakValueDictionary[_Key, Any] = weakref.WeakValueDictionary()


def _after_fork() -> None:
    """In a child: a thread that is not there may have the lock."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def _key_of(obj: Any) -> _Key:
    with _lock:
        key = _keys.get(obj)
        if key is None:
            key = _keys[obj] = (_atoll.get_current().id, next(_numbers))
            _objects[key] = obj
        return key


# CPython has no weak references to sentinels (3.15 on), of which there are few: each is kept.
_Sentinel: Any = getattr(builtins, "sentinel", None)
_sentinel_keys: dict[int, tuple[_Key, Any]] = {}
_sentinels: dict[_Key, Any] = {}


def _key_of_sentinel(obj: Any) -> _Key:
    with _lock:
        if id(obj) not in _sentinel_keys:
            _keep_sentinel((_atoll.get_current().id, next(_numbers)), obj)
        return _sentinel_keys[id(obj)][0]


def _keep_sentinel(key: _Key, obj: Any) -> None:
    _sentinel_keys[id(obj)] = key, obj
    _sentinels[key] = obj


def rebuild_sentinel(key: _Key, name: str, options: dict[str, Any], module: str) -> Any:
    """Return this interpreter's sentinel for a key."""
    with _lock:
        if key not in _sentinels:
            made = _Sentinel(name, **options)
            made.__module__ = module
            _keep_sentinel(key, made)
        return _sentinels[key]


def reduce(obj: Any) -> tuple[Any, ...] | None:
    """Return the reduction of such an object, None for any other."""
    options: dict[str, Any] = {}
    if _Sentinel is not None and isinstance(obj, _Sentinel):
        shown = repr(obj)
        options = {} if shown == obj.__name__ else {"repr": shown}
        return rebuild_sentinel, (_key_of_sentinel(obj), obj.__name__, options, obj.__module__)
    if isinstance(obj, typing.TypeAliasType):
        options = {"type_params": obj.__type_params__}
        if sys.version_info >= (3, 15):
            options["qualname"] = obj.__qualname__
        return rebuild_alias, (obj.__name__, obj.__value__, options, obj.__module__)
    arguments: tuple[Any, ...]
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
        known = _objects.get(key)
        if known is None:
            known = kind(*arguments, **options)
            known.__module__ = module
            if qualname is not None:
                known.__qualname__ = qualname
            _keys[known] = key
            _objects[key] = known
        return known


def rebuild_alias(name: str, value: Any, options: dict[str, Any], module: str) -> typing.TypeAliasType:
    """Return an alias of another interpreter's ``__main__``."""
    # It takes its module from the code that makes it.
    make: Any = eval("lambda kind, name, value, options: kind(name, value, **options)", {"__name__": module})
    alias: typing.TypeAliasType = make(typing.TypeAliasType, name, value, options)
    return alias
