"""What the codec does in Python: the slow and rare parts of sending by value.

Called by ``atoll._atoll`` only.  Classes of ``__main__`` are taken apart by `describe_class` and put
together again by `make_class` and `fill_class`; `load_module` finds a module that the receiving
interpreter cannot import by its name; the rest are reductions of objects that pickle has no good word for.
"""

from __future__ import annotations

import sys
import types
from typing import Any

_MAIN_NAMES = ("__main__", "<fake __main__>")
# What creating a class makes anew, or what describes the old class's layout only.
_NOT_COPIED = frozenset({
    "__dict__", "__weakref__", "__module__", "__qualname__", "__slots__", "__slotnames__",
    "_abc_impl", "__abstractmethods__", "__orig_bases__", "__classdictcell__", "__classcell__",
    "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__",
    "__parameters__",
})  # fmt: skip
# What collections.namedtuple() makes.
_NAMEDTUPLE_OWN = frozenset({
    "__new__", "_make", "_replace", "__replace__", "__repr__", "_asdict", "__getnewargs__",
    "_fields", "_field_defaults", "__match_args__", "__doc__",
})  # fmt: skip
# What EnumType makes of a class body.
_ENUM_OWN = frozenset({
    "_generate_next_value_", "_member_names_", "_member_map_", "_value2member_map_",
    "_hashable_values_", "_unhashable_values_", "_unhashable_values_map_", "_member_type_",
    "_value_repr_", "_use_args_", "_new_member_", "__new_member__", "_flag_mask_",
    "_singles_mask_", "_all_bits_", "_boundary_", "_inverted_", "_sort_order_",
})  # fmt: skip


def _is_namedtuple(cls: type) -> bool:
    fields = cls.__dict__.get("_fields")
    return (
        cls.__bases__ == (tuple,)
        and isinstance(fields, tuple)
        and getattr(cls.__dict__.get("_make"), "__func__", None) is not None
        and "_field_defaults" in cls.__dict__
    )


def _is_enum(cls: type) -> bool:
    enum = sys.modules.get("enum")
    return enum is not None and isinstance(cls, enum.EnumType)


def _slots(cls: type) -> tuple[str, ...] | None:
    slots = cls.__dict__.get("__slots__")
    if slots is None:
        return None
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _mangled(cls: type, slot: str) -> str:
    if slot.startswith("__") and not slot.endswith("__") and cls.__name__.strip("_"):
        return f"_{cls.__name__.lstrip('_')}{slot}"
    return slot


def _annotations(cls: type) -> dict[str, Any]:
    """cls's own annotations: since 3.14 the function that computes them, where it can be sent."""
    if sys.version_info >= (3, 14):
        annotate = cls.__annotate__
        if annotate is None:  # there are none, or they are strings (from __future__ import annotations)
            own = dict(cls.__annotations__)
            return {"__annotations__": own} if own else {}
        if annotate.__module__ in _MAIN_NAMES and not annotate.__closure__:
            return {"__annotate__": annotate}
        return {"__annotations__": _values(cls)}
    import inspect

    own = inspect.get_annotations(cls)
    return {"__annotations__": own} if own else {}


def _values(obj: Any) -> dict[str, Any]:
    """The annotations of a class or function, computed now; as text where they name what is not there."""
    try:
        return dict(obj.__annotations__)
    except Exception:  # whatever it is that evaluating them raises
        return annotations_as_text(obj)


def annotations_as_text(obj: Any) -> dict[str, Any]:
    """The annotations of a class or function as they stand in the source."""
    text: dict[str, Any] = {}  # before 3.14 they are not computed late: what is there was had
    if sys.version_info >= (3, 14):
        import annotationlib

        text = annotationlib.get_annotations(obj, format=annotationlib.Format.STRING)
    return text


def describe_class(cls: type) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """What makes cls again: a skeleton for `make_class`, and two sets of attributes for `fill_class`.

    The first of them belongs to the class's definition, and is not expected to change.
    """
    attributes = {k: v for k, v in cls.__dict__.items() if k not in _NOT_COPIED}
    kind = "class"
    extra: tuple[Any, ...] | None = None
    body: dict[str, Any] = {}
    slots = _slots(cls)
    if _is_namedtuple(cls):
        kind = "namedtuple"
        fields: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]
        extra = (fields, dict(cls._field_defaults), cls.__doc__, _values(cls.__new__))  # type: ignore[attr-defined]
        attributes = {k: v for k, v in attributes.items() if k not in _NAMEDTUPLE_OWN and k not in fields}
    elif _is_enum(cls):
        kind = "enum"
        members: dict[str, Any] = cls._member_map_  # type: ignore[attr-defined]
        values = [(name, member._value_) for name, member in members.items()]
        attributes = {k: v for k, v in attributes.items() if k not in _ENUM_OWN and k not in members}
        for name in ("__new__", "__init__"):
            # EnumType keeps the class's own __new__ elsewhere; members are made with it.
            own = cls.__dict__.get("__new_member__" if name == "__new__" else name)
            attributes.pop(name, None)
            if own is not None:
                body[name] = own
        extra = (values, getattr(getattr(cls, "_boundary_", None), "name", None))
    if slots is not None:
        body["__slots__"] = slots
        for slot in slots:
            attributes.pop(_mangled(cls, slot), None)
    if "__orig_bases__" in cls.__dict__:
        body["__orig_bases__"] = cls.__dict__["__orig_bases__"]
    definition = _annotations(cls)
    for name in ("__dataclass_fields__", "__dataclass_params__"):
        if name in attributes:
            definition[name] = attributes.pop(name)
    registered = _registered(cls)
    if registered:
        definition["_abc_impl"] = registered
    bases = cls.__bases__
    skeleton = (
        kind, type(cls), cls.__name__, cls.__qualname__, cls.__module__, bases, body, extra, _is_bound(cls),
    )  # fmt: skip
    return skeleton, definition, attributes


def _registered(cls: type) -> list[type]:
    """What was given to ``cls.register()``, when cls is an abstract class."""
    abc: Any = sys.modules.get("abc")
    if abc is None or not isinstance(cls, abc.ABCMeta) or "_abc_impl" not in cls.__dict__:
        return []
    return [one for reference in abc._get_dump(cls)[0] if (one := reference()) is not None]


def _is_bound(cls: type) -> bool:
    """Whether ``__main__`` has cls under its own name: then pickle finds it here, and is to find it there."""
    main = sys.modules.get("__main__")
    return cls.__module__ == "__main__" and vars(main).get(cls.__qualname__) is cls


def make_class(skeleton: tuple[Any, ...]) -> type:
    """The class of a skeleton, still without its other attributes."""
    kind, meta, name, qualname, module, bases, body, extra, _bound = skeleton
    cls: type
    if kind == "namedtuple":
        from collections import namedtuple

        fields, defaults, doc, annotations = extra
        given = [defaults[field] for field in fields if field in defaults]
        cls = namedtuple(name, fields, defaults=given)  # type: ignore[misc, no-redef]
        cls.__module__ = module
        cls.__doc__ = doc
        if annotations:
            cls.__new__.__annotations__ = annotations
    elif kind == "enum":
        members, boundary = extra
        if boundary is not None:
            from enum import FlagBoundary

            boundary = FlagBoundary[boundary]
        namespace = meta.__prepare__(name, bases, boundary=boundary)
        namespace["__module__"] = module
        namespace["__qualname__"] = qualname
        for key, value in body.items():
            namespace[key] = value
        for key, value in members:
            namespace[key] = value
        cls = meta.__new__(meta, name, bases, namespace, boundary=boundary)
    else:
        cls = _new(meta, name, bases, {"__module__": module, "__qualname__": qualname, **body})
    type.__setattr__(cls, "__qualname__", qualname)  # its metaclass may forbid it
    return cls


def _new(meta: Any, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    """A class as ``type`` makes it, without its metaclass's code.

    What that made of the definition is in the attributes; here it would see a class that has none yet, and not what
    the definition gave beside its bases.
    """
    cls: type
    try:
        cls = type.__new__(meta, name, bases, namespace)
    except TypeError as error:
        if "is not safe" in str(error):  # a metaclass of C, with more in its classes than type's have
            made: type = meta(name, bases, namespace)
            return made
        cls = _new_quietly(meta, name, bases, namespace, error)
    abc = sys.modules.get("abc")
    if abc is not None and issubclass(meta, abc.ABCMeta):
        abc._abc_init(cls)
    return cls


def _new_quietly(
    meta: Any, name: str, bases: tuple[type, ...], namespace: dict[str, Any], error: TypeError
) -> type:
    """A class whose bases have an ``__init_subclass__`` that wants what the definition gave it: it is not called.

    Raises:
        TypeError: error itself, when it had another reason.
    """

    class Quiet:
        def __init_subclass__(cls) -> None:
            pass

    class QuietWithSlots:
        __slots__ = ()

        def __init_subclass__(cls) -> None:
            pass

    for first in (
        Quiet,
        QuietWithSlots,
    ):  # one has the layout of what has a __dict__, the other of what has none
        try:
            cls: type = type.__new__(meta, name, (first, *bases), namespace)
            type.__dict__["__bases__"].__set__(cls, bases)
        except TypeError:
            continue
        return cls
    raise error


def fill_class(cls: type, attributes: dict[str, Any]) -> type:
    """Gives a new class the attributes that `describe_class` took from the old one."""
    for name, value in attributes.items():
        if name == "__doc__" and value is None and cls.__doc__ is None:
            continue
        if name == "_abc_impl":
            for registered in value:
                cls.register(registered)  # type: ignore[attr-defined]
            continue
        type.__setattr__(cls, name, value)
    abc = sys.modules.get("abc")
    if abc is not None and isinstance(cls, abc.ABCMeta):
        abc.update_abstractmethods(cls)
    return cls


def load_module(name: str, origin: str, error: ImportError) -> types.ModuleType:
    """Imports module `name` from the file it came from, when its name alone does not find it.

    The directory that holds it (for a module of a package, that holds the package) is searched for this import only.

    Raises:
        ImportError: error itself, when there is no such file either.
    """
    import importlib
    import importlib.util
    import os

    parts = name.split(".")
    stem, _ = os.path.splitext(os.path.basename(origin))
    directory = os.path.dirname(os.path.abspath(origin))
    if stem == "__init__":
        directory = os.path.dirname(directory)
    if not os.path.exists(origin):
        raise error
    for _ in parts[1:]:
        directory = os.path.dirname(directory)
    if len(parts) > 1 or stem in (parts[-1], "__init__"):
        sys.path.append(directory)
        try:
            importlib.invalidate_caches()
            return importlib.import_module(name)
        except ModuleNotFoundError as exc:
            if exc.name is None or not (name + ".").startswith(exc.name + "."):
                raise
        finally:
            sys.path.remove(directory)
    spec = importlib.util.spec_from_file_location(name, origin)
    if spec is None or spec.loader is None:
        raise error
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def dump_with_cloudpickle(obj: object) -> bytes | None:
    """What cloudpickle makes of obj; None where there is no cloudpickle.

    Raises:
        TypeError: There is an open file in it, of which cloudpickle would send the contents.
    """
    import importlib
    import io

    try:  # each time: it may come to be there
        cloudpickle: Any = importlib.import_module("cloudpickle")
    except ImportError:
        return None
    if not hasattr(cloudpickle, "Pickler"):  # what stands for it and has only this
        dumped: bytes = cloudpickle.dumps(obj)
        return dumped

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: object) -> Any:
            if isinstance(obj, io.IOBase) and not isinstance(obj, (io.StringIO, io.BytesIO)):
                raise TypeError(f"an open file ({type(obj).__qualname__}) is not shareable")
            return super().reducer_override(obj)

    file = io.BytesIO()
    Pickler(file).dump(obj)
    return file.getvalue()


def which_module(obj: object, name: str) -> str:
    """The name of an imported module that binds obj to name; '__main__' when there is none."""
    for module_name, module in list(sys.modules.items()):
        if module_name in ("__main__", "__mp_main__") or not isinstance(module, types.ModuleType):
            continue
        if module.__dict__.get(name) is obj:
            return module_name
    return "__main__"


def reduce_special(obj: object) -> str | tuple[Any, ...] | None:
    """A reduction for a context, a context variable, or an instance of a class of dataclasses, weakref or _pydatetime.

    None stands for the usual one.

    The sentinels of dataclasses are compared by identity, and its fields hold mapping proxies.  The timezone of
    _pydatetime reduces to a state that datetime's own does not take.
    """
    import dataclasses

    if type(obj).__module__ == "_contextvars":
        from . import _variables

        return _variables.reduce(obj)
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
        import gc

        return rebuild_proxy, tuple(gc.get_referents(obj))
    if type(obj).__module__ == "_struct":
        import struct

        if type(obj) is struct.Struct:
            return struct.Struct, (obj.format,)
    return None


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
        state = {k: v for k, v in vars(obj).items() if k not in ("__wrapped__", "cache_parameters")}
        return rebuild_lru_cache, (obj.__wrapped__, parameters["maxsize"], parameters["typed"]), state
    from . import _type_names

    return _type_names.reduce(obj)


def rebuild_lru_cache(function: Any, maxsize: int | None, typed: bool) -> object:
    """An empty cache around a received function."""
    import functools

    return functools.lru_cache(maxsize, typed)(function)
