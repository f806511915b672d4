"""What the codec does in Python: the slow and rare parts of sending by value.

Called by ``atoll._atoll`` only.  Classes by value are the subject of ``atoll._crossing.classes``, modules that of
``atoll._crossing.places``; the rest are reductions of objects that pickle has no good word for.
"""

from __future__ import annotations

import copyreg
import sys
import types
from typing import Any

from .annotations import annotations_as_text, reduce_namespace
from .classes import describe_class, fill_class, make_class
from .statements import waits_for

__all__ = [
    "annotations_as_text",
    "describe_class",
    "fill_class",
    "make_class",
    "reduce_namespace",
    "waits_for",
]


def which_module(obj: object, name: str) -> str:
    """The name of an imported module that binds obj to name; '__main__' when there is none."""
    for module_name, module in list(sys.modules.items()):
        if module_name in ("__main__", "__mp_main__") or not isinstance(module, types.ModuleType):
            continue
        if module.__dict__.get(name) is obj:
            return module_name
    return "__main__"


def reduce_special(obj: object) -> str | tuple[Any, ...] | None:
    """A reduction for a context, a context variable, or an instance of a class of some modules of the standard library.

    None stands for the usual one.

    The sentinels of dataclasses are compared by identity, and its fields hold mapping proxies.  The timezone of
    _pydatetime reduces to a state that datetime's own does not take.  A library of ctypes has a class of its own.
    """
    if type(obj).__module__ == "_contextvars":
        from . import variables

        return variables.reduce(obj)
    if type(obj).__module__ == "itertools":
        return _reduce_count(obj)
    if type(obj).__module__ == "ctypes":
        return _reduce_library(obj)
    if type(obj).__module__ in ("weakref", "_weakrefset"):
        import weakref

        if type(obj) is weakref.WeakSet:
            return weakref.WeakSet, (list(obj),)
        if type(obj) in (weakref.WeakKeyDictionary, weakref.WeakValueDictionary):
            return type(obj), (dict(obj),)  # type: ignore[call-overload]
        return None
    if type(obj).__module__ == "_pydatetime":
        if type(obj).__name__ == "timezone":
            return type(obj), obj.__getinitargs__()  # type: ignore[attr-defined]
        return None
    import dataclasses

    if type(obj) is dataclasses.Field:
        values = {slot: getattr(obj, slot, None) for slot in dataclasses.Field.__slots__}
        values["metadata"] = dict(obj.metadata)
        return rebuild_field, (), values, None, None, restore_field
    if type(obj).__name__ in ("_MISSING_TYPE", "_KW_ONLY_TYPE", "_HAS_DEFAULT_FACTORY_CLASS", "_FIELD_BASE"):
        for name, value in vars(dataclasses).items():
            if value is obj:
                return rebuild_attribute, ("dataclasses", name)
    return None


def reduce_refused(obj: object) -> tuple[Any, ...] | None:
    """A reduction for what pickle refuses, or None.

    The standard streams of the process are the receiver's there: functions have them as defaults of their parameters.
    """
    for name in ("__stdin__", "__stdout__", "__stderr__"):
        if obj is getattr(sys, name, None):
            return rebuild_attribute, ("sys", name)
    if type(obj) is types.MappingProxyType:
        return reduce_proxy(obj)
    nothing: dict[Any, Any] = {}
    for kind in ("keys", "values", "items"):
        if isinstance(obj, type(getattr(nothing, kind)())):
            import gc

            return rebuild_view, (kind, *gc.get_referents(obj))
    if type(obj).__module__ == "_struct":
        import struct

        if type(obj) is struct.Struct:
            return struct.Struct, (obj.format,)
    if type(obj).__module__ == "_json" and type(obj).__name__ == "Scanner":  # of a JSONDecoder
        options = [
            name for name, value in vars(type(obj)).items() if type(value) is types.MemberDescriptorType
        ]
        return type(obj), (types.SimpleNamespace(**{name: getattr(obj, name) for name in options}),)
    if type(obj) is getattr(types, "LazyImportType", None):  # 3.15 on
        return _reduce_lazy_import(obj)
    place = _place_of(obj)
    if place is not None:
        return rebuild_attribute, place
    if type(obj).__module__ == "random" and type(obj).__name__ == "SystemRandom":
        return type(obj), ()
    return None


def _place_of(obj: object) -> tuple[str, str] | None:
    """Which module of the standard library has it, and under which name.

    ``types.TracebackType`` and its like, which do not know where they are; ``sys.version_info``; secrets' generator.
    But what a program has put there, as ``sys.stdout`` and ``sys.last_traceback``, is not.
    """
    if not isinstance(obj, type):
        import io

        if (
            type(obj).__module__ == "builtins"
            or not _is_standard(type(obj).__module__)
            or isinstance(obj, io.IOBase)
        ):
            return None
    for module_name, module in (("types", types), *list(sys.modules.items())):
        if type(module) is types.ModuleType and _is_standard(module_name) and module_name != "builtins":
            for name, value in list(vars(module).items()):
                if value is obj:
                    return module_name, name
    return None


def _is_standard(name: object) -> bool:
    return isinstance(name, str) and name.partition(".")[0] in sys.stdlib_module_names


def _reduce_count(obj: object) -> tuple[Any, ...] | None:
    """A reduction for ``itertools.count`` of plain numbers: pickle refuses it from 3.14 on, and warns before."""
    import ast
    import itertools

    if type(obj) is not itertools.count:
        return None
    call = ast.parse(repr(obj), mode="eval").body  # count(3), count(0.5, 2)
    try:
        arguments = [ast.literal_eval(argument) for argument in call.args]  # type: ignore[attr-defined]
    except ValueError:
        return None
    return itertools.count, tuple(arguments)


def _reduce_lazy_import(obj: object) -> tuple[Any, ...] | None:
    """A reduction for what ``lazy import`` has bound and nobody has used yet: it is imported where it is used.

    CPython tells what it is by its references only: what ``import a.b`` binds has "a.b"; what ``from a import b``
    does, "b" and an object that has "a" and ("b",); what ``import a.b as x`` does, "b" and one that has "a.b".
    """
    import gc

    kind, attribute, nested = type(obj), "", False
    while True:
        parts = gc.get_referents(obj)
        names = [part for part in parts if type(part) is str]
        if len(names) != 1:
            return None
        outer = next((part for part in parts if type(part) is kind), None)
        if outer is None:
            chosen = any(type(part) is tuple for part in parts)
            return rebuild_lazy_import, (names[0], attribute if chosen else "", nested)
        attribute, nested, obj = names[0], True, outer


def rebuild_lazy_import(module: str, attribute: str, nested: bool) -> object:
    """What a lazy import of a module binds, of a name in it, or of a module in a package under a name."""
    found: dict[str, object] = {}
    if attribute:
        statement, name = f"lazy from {module} import {attribute} as found", "found"
    elif nested:
        statement, name = f"lazy import {module} as found", "found"
    else:
        statement, name = f"lazy import {module}", module.partition(".")[0]
    exec(statement, found)  # it is a statement only, of a module's top level
    return found[name]


def _reduce_library(library: Any) -> tuple[Any, ...]:
    """A reduction for a ``ctypes.CDLL`` or PyDLL: opened there, with what its functions take and return."""
    import ctypes

    functions, others = {}, {}
    for name, value in vars(library).items():
        if isinstance(value, library._FuncPtr):
            functions[name] = value.argtypes, value.restype, value.errcheck
        elif name not in ("_name", "_handle", "_FuncPtr"):
            others[name] = value
    use_errno = bool(library._FuncPtr._flags_ & ctypes._FUNCFLAG_USE_ERRNO)  # type: ignore[attr-defined]
    made = rebuild_library, (type(library), library._name, use_errno)
    return *made, (functions, others), None, None, restore_library


def rebuild_library(cls: Any, name: str | None, use_errno: bool) -> Any:
    """A library that this interpreter opens."""
    return cls(name, use_errno=use_errno)


def restore_library(library: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Says what the functions of a library take and return."""
    functions, others = state
    for name, (argtypes, restype, errcheck) in functions.items():
        function = getattr(library, name)
        function.argtypes, function.restype = argtypes, restype
        if errcheck is not None:
            function.errcheck = errcheck
    vars(library).update(others)


def rebuild_view(kind: str, mapping: dict[Any, Any]) -> object:
    """The view of a received dict."""
    return getattr(mapping, kind)()


def reduce_proxy(proxy: types.MappingProxyType[Any, Any]) -> tuple[Any, ...]:
    """A reduction for a proxy, which goes on to show what its mapping has."""
    import gc

    return rebuild_proxy, tuple(gc.get_referents(proxy))


def rebuild_proxy(mapping: Any) -> types.MappingProxyType[Any, Any]:
    """A proxy of a received mapping."""
    return types.MappingProxyType(mapping)


def reduce_method(method: types.MethodType) -> tuple[Any, ...]:
    """A reduction for a method that getattr() does not find by its function's name."""
    return rebuild_method, (method.__func__, method.__self__)


def rebuild_method(function: Any, owner: object) -> types.MethodType:
    """The method of a function and what it is bound to."""
    return types.MethodType(function, owner)


def rebuild_attribute(module: str, name: str) -> object:
    """A global that is compared by identity."""
    import importlib

    return getattr(importlib.import_module(module), name)


def rebuild_field() -> Any:
    """A dataclass field whose values come with `restore_field`."""
    import dataclasses

    return dataclasses.field()


def restore_field(field: Any, values: dict[str, Any]) -> None:
    """Sets a dataclass field's values."""
    for name, value in values.items():
        setattr(field, name, types.MappingProxyType(value) if name == "metadata" else value)


def reduce_named(obj: object) -> tuple[Any, ...] | None:
    """A reduction for an object of ``__main__`` that reduces to its own name; None when there is none."""
    import functools

    if type(obj) is functools._lru_cache_wrapper:
        parameters = obj.cache_parameters()
        state = {k: v for k, v in vars(obj).copy().items() if k not in ("__wrapped__", "cache_parameters")}
        return rebuild_lru_cache, (obj.__wrapped__, parameters["maxsize"], parameters["typed"]), state
    from . import type_names

    return type_names.reduce(obj) or _as_it_is(obj)


def shell_of(obj: Any) -> object:
    """An empty one of the same kind, to be filled later as a list is; None where obj is no such thing."""
    import collections
    import weakref

    kind = type(obj)
    if kind is collections.deque:
        return collections.deque(maxlen=obj.maxlen)
    if kind is collections.defaultdict:
        return collections.defaultdict(obj.default_factory)
    kinds = (collections.OrderedDict, collections.Counter, weakref.WeakSet)
    return kind() if kind in (*kinds, weakref.WeakKeyDictionary, weakref.WeakValueDictionary) else None


def contents_of(shell: Any) -> list[Any]:
    """What is to be put into another: items, or pairs of a key and a value."""
    return list(shell.items() if hasattr(shell, "items") else shell)


def put_into_shell(shell: Any, item: Any) -> None:
    """Put one of its contents into it."""
    if hasattr(shell, "items"):
        shell[item[0]] = item[1]
    elif hasattr(shell, "append"):
        shell.append(item)
    else:
        shell.add(item)


def fill_shell(shell: Any, contents: list[Any]) -> None:
    """Make it have these and nothing else, whatever has been put into it meanwhile.

    What is weak keeps that: of two that are one at home it may be the one that stays.
    """
    if type(shell).__module__ == "collections" and contents_of(shell) != contents:
        shell.clear()
        for item in contents:
            put_into_shell(shell, item)


def _as_it_is(obj: Any) -> tuple[Any, ...] | None:
    """Its class and its attributes: the name that it reduces to says which it is, as far as there is one over there."""
    cls = type(obj)
    heap, immutable = 1 << 9, 1 << 8
    if any(not base.__flags__ & heap or base.__flags__ & immutable for base in cls.__mro__[:-1]):
        return None  # there is more in it than it tells
    make: Any = copyreg.__newobj__  # type: ignore[attr-defined]
    return make, (cls,), object.__getstate__(obj)


def rebuild_lru_cache(function: Any, maxsize: int | None, typed: bool) -> object:
    """An empty cache around a received function."""
    import functools

    return functools.lru_cache(maxsize, typed)(function)
