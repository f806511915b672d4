"""How classes by value are taken apart by `describe_class`, and put together again by `make_class` and `fill_class`.

A class arrives as it is: its state is copied, and none of the code that made it at home runs a second time.  The class
is made by ``type.__new__`` with its real metaclass, its bases and its slots; no ``__init_subclass__``, no
``__set_name__`` and nothing of its metaclass is called.  Whatever these have made is in the class's namespace, and is
copied with ``type.__setattr__`` like everything else that is there.

Three things are state that lies elsewhere:

* members of enums are made with the ``__new__`` of the builtin type that they come from, and get what is in their
  ``__dict__``;
* what an abstract class has registered;
* the functions of a named tuple, which ``collections`` compiles anew for each.

``atoll._crossing.statements`` says which classes are not copied, and what is done instead.

The codec calls this by way of ``atoll._crossing.byvalue``.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from . import annotations as _annotations
from . import statements

_MAIN_NAMES = ("__main__", "<fake __main__>")
# What belongs to the old class only, or is sent in another way.
_NOT_COPIED = frozenset({
    "__module__", "__slotnames__", "_abc_impl", "__classdictcell__", "__classcell__",
    "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__",
})  # fmt: skip
# Data descriptors of type that take what is in a namespace under their name.
_TAKEN_BY_TYPE = frozenset({"__doc__", "__abstractmethods__", "__type_params__"})
# What EnumType makes, and looks members up with: it is there before anything that may ask for a member.  But what has
# values of members in it, which may be anything, is not.
_OF_ENUM = (
    "_member_map_", "_member_type_", "_new_member_", "__new_member__", "_use_args_", "_value_repr_", "_boundary_",
    "_flag_mask_", "_singles_mask_", "_all_bits_", "_inverted_", "_member_names_", "_value2member_map_",
    "_hashable_values_", "_unhashable_values_", "_unhashable_values_map_", "__new__", "_missing_",
)  # fmt: skip
_OF_ENUM_VALUES = (
    "_value2member_map_", "_hashable_values_", "_unhashable_values_", "_unhashable_values_map_",
)  # fmt: skip
# Names that no attribute has, for what is not set as an attribute.
_MEMBERS = "<members>"
_DEFAULTS = "<defaults>"
_REGISTRARS = "<registrars>"
_PLAIN = (int, float, str, bytes, types.NoneType)
_FILLED_BY_INIT = (list, dict, set, bytearray)

# As type has them, whatever a metaclass says.
_namespace_of: Any = type.__dict__["__dict__"].__get__
_base_of: Any = type.__dict__["__base__"].__get__
_bases_of: Any = type.__dict__["__bases__"].__get__
_name_of: Any = type.__dict__["__name__"].__get__
_qualname_of: Any = type.__dict__["__qualname__"].__get__
_set_bases: Any = type.__dict__["__bases__"].__set__
_name_property: Any = property.__dict__["__set_name__"]


class _Made:
    """Stands for something in what is sent: in the receiver it is made by the call that a reduction says."""

    __slots__ = ("reduction",)

    def __init__(self, *reduction: Any) -> None:
        self.reduction = reduction

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return self.reduction


# ---- taking apart ----


def describe_class(
    cls: type,
) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any], dict[str, Any]] | str:
    """What makes cls again: a skeleton for `make_class`, and three sets of attributes for `fill_class`.

    The first two belong to the class's definition, and are not expected to change; the first of them is what others
    may need of a class whose code is still on its way.  The last two parts of the
    skeleton are for the codec: whether making the class runs code, for which all that it comes with has to be whole,
    and whether it is to be bound in ``__main__``.  A text instead says why cls cannot cross.
    """
    namespace = _namespace_of(cls).copy()  # another thread may give cls attributes meanwhile, as pickle does
    namespace.pop("__interp_registered__", None)  # comes with each instance
    of_c = statements.is_of_c(type(cls))
    if of_c or statements.is_made_by_package(cls):
        found = statements.describe(cls, namespace, of_c)
        if isinstance(found, str):
            return found
        if found is not None:
            return (*found[0], True, _is_bound(cls, namespace)), {}, *found[1:]
    slots, descriptors = _slots(cls, namespace)
    attributes = {k: v for k, v in namespace.items() if k not in _NOT_COPIED and k not in descriptors}
    outset: dict[str, Any] = {}
    definition: dict[str, Any] = {}
    body: dict[str, Any] = {}
    kind, extra = "class", None
    if _is_namedtuple(namespace):
        kind = "namedtuple"
        extra = _take_namedtuple(namespace, attributes, definition)
    elif _is_enum(cls, namespace):
        kind = "enum"
        _take_enum(cls, namespace, attributes, outset, definition)
    if "__parameters__" in attributes:  # for who writes cls[...]
        outset["__parameters__"] = attributes.pop("__parameters__")
    if slots is not None:
        body["__slots__"] = slots
    for name in [name for name in attributes if _meets_descriptor(type(cls), name)]:
        body[name] = attributes.pop(name)
    definition.update(_annotations.describe(cls, namespace))
    naming = _annotations.naming_annotated(cls, namespace, definition)
    if naming is not None:
        definition[statements.NAMES] = naming
    for name in (
        "__orig_bases__", "__dataclass_fields__", "__dataclass_params__", "__abstractmethods__", "_field_defaults",
    ):  # fmt: skip
        if name in attributes:
            definition[name] = attributes.pop(name)
    if "__dataclass_fields__" in definition:
        definition["__dataclass_fields__"] = _fields_of(definition["__dataclass_fields__"])
    abstract = "_abc_impl" in namespace
    if abstract:
        definition["_abc_impl"] = _registered(cls)
    registrars = _registrars(cls)
    if registrars:
        definition[_REGISTRARS] = registrars
    for name, value in attributes.items():
        attributes[name] = _as_sent(value)
    skeleton = (
        kind, type(cls), _name_of(cls), _qualname_of(cls), namespace.get("__module__"), _bases_of(cls), body,
        extra, abstract, False, _is_bound(cls, namespace),
    )  # fmt: skip
    return skeleton, outset, definition, attributes


def _take_namedtuple(
    namespace: Any, attributes: dict[str, Any], definition: dict[str, Any]
) -> tuple[Any, Any]:
    """What makes a named tuple besides its name: its fields, and the attributes that the maker gives it, taken out."""
    own = tuple(name for name, value in attributes.items() if _is_of_namedtuple(value))
    for name in own:
        del attributes[name]
    new = namespace["__new__"].__func__
    definition[_DEFAULTS] = (new.__defaults__, _annotations.values_of(new))
    return namespace["_fields"], own


def _take_enum(
    cls: type, namespace: Any, attributes: dict[str, Any], outset: dict[str, Any], definition: dict[str, Any]
) -> None:
    """Take what an enumeration's definition has out of its attributes: its members, and what EnumType keeps of them."""
    outset["_member_map_"], state = _enum_state(cls, namespace)
    definition.update(state)
    for name in [name for name, value in attributes.items() if type(value) is cls]:
        definition[name] = attributes.pop(name)
    for name in _OF_ENUM:
        value = attributes.pop(name, definition)
        if value is not definition and name not in outset and name not in definition:
            of = definition if name in _OF_ENUM_VALUES else outset
            of[name] = value


def _fields_of(fields: Any) -> Any:
    """The fields of a dataclass, without the values that its class variables had at first.

    Nothing asks for these, and they may be the registry of instances, which need the fields to be made again.
    """
    dataclasses: Any = sys.modules.get("dataclasses")
    if dataclasses is None or type(fields) is not dict:
        return fields
    found = {}
    for name, field in fields.items():
        found[name] = field
        variable = getattr(field, "_field_type", None) is dataclasses._FIELD_CLASSVAR
        if variable and not isinstance(field.default, _PLAIN):
            found[name] = other = dataclasses.Field.__new__(type(field))
            for slot in dataclasses.Field.__slots__:
                setattr(other, slot, getattr(field, slot))
            other.default = dataclasses.MISSING
    return found


def _slots(cls: type, namespace: Any) -> tuple[tuple[str, ...] | None, set[str]]:
    """The slots that cls was made with, None when it was made without any, and the names of their descriptors."""
    descriptors = {name for name, value in namespace.items() if _is_slot(cls, name, value)}
    if "__slots__" not in namespace:
        return None, descriptors
    declared = namespace["__slots__"]
    names = [declared] if isinstance(declared, str) else list(declared)
    there = [
        name for name in names if name in ("__dict__", "__weakref__") or _mangled(cls, name) in namespace
    ]
    slots = dict.fromkeys(_mangled(cls, name) for name in there if isinstance(name, str))
    slots.update(dict.fromkeys(sorted(descriptors)))
    return tuple(slots), descriptors


def _is_slot(cls: type, name: str, value: Any) -> bool:
    if name in ("__dict__", "__weakref__"):
        return isinstance(value, types.GetSetDescriptorType)
    return isinstance(value, types.MemberDescriptorType) and value.__objclass__ is cls


def _mangled(cls: type, slot: str) -> str:
    name = _name_of(cls).lstrip("_")
    return f"_{name}{slot}" if slot.startswith("__") and not slot.endswith("__") and name else slot


def _meets_descriptor(meta: type, name: str) -> bool:
    """Whether the metaclass has a data descriptor of this name: it would be asked when the attribute is set."""
    if name in _TAKEN_BY_TYPE:
        return False
    for base in meta.__mro__:
        found = _namespace_of(base).get(name)
        if found is not None:
            return hasattr(type(found), "__set__")
    return False


def _is_bound(cls: type, namespace: Any) -> bool:
    """Whether its module has cls under its own name: then pickle finds it here, and is to find it there."""
    module = sys.modules.get(namespace.get("__module__", ""))
    return isinstance(module, types.ModuleType) and vars(module).get(_qualname_of(cls)) is cls


def _as_sent(value: Any) -> Any:
    """What is sent for an attribute: mostly itself."""
    functools: Any = sys.modules.get("functools")
    if functools is not None and type(value) is functools.partialmethod:
        # Pickle does not make it again where its __new__ wants its function (3.14).
        return _Made(rebuild_partialmethod, (value.func, value.args, value.keywords))
    for kind in (property, staticmethod, classmethod):
        if type(value) is not kind and issubclass(type(value), kind):
            parts = (value.fget, value.fset, value.fdel) if kind is property else (value.__func__,)
            state = getattr(value, "__dict__", None) or None
            return _Made(rebuild_wrapper, (type(value), kind, parts), state)
    return value


# ---- abstract classes ----


def _registered(cls: type) -> list[type]:
    """What was given to ``cls.register()``."""
    abc: Any = sys.modules["abc"]
    return [one for reference in abc._get_dump(cls)[0] if (one := reference()) is not None]


def _register(cls: type, registered: list[type]) -> None:
    """Gives cls a registry of its own.

    ``cls.register()`` would ask whether it is one already, and so the user's code.  What a class keeps for this is an
    object of its own; it is filled as that of another.
    """
    import abc

    class Donor(abc.ABC):  # noqa: B024
        pass

    earlier = _registered(cls) if "_abc_impl" in _namespace_of(cls) else []
    for one in dict.fromkeys((*earlier, *registered)):
        Donor.register(one)
    type.__setattr__(cls, "_abc_impl", _namespace_of(Donor)["_abc_impl"])


_known_registrars: dict[
    int, list[type]
] = {}  # by the address of a class that is registered: by which modules' classes
_known_token: object = None


def _registrars(cls: type) -> list[type]:
    """The abstract classes of modules that cls was registered with (``collections.abc.Sequence.register(cls)``)."""
    global _known_registrars, _known_token
    abc: Any = sys.modules.get("abc")
    if abc is None:
        return []
    token = abc.get_cache_token()  # another after each registration
    if token != _known_token:
        found: dict[int, list[type]] = {}
        stack = [one for one in type.__subclasses__(object) if issubclass(type(one), abc.ABCMeta)]
        seen = {id(one) for one in stack}
        while stack:
            one = stack.pop()
            below = [sub for sub in type.__subclasses__(one) if id(sub) not in seen]
            seen.update(map(id, below))
            stack.extend(below)
            if "_abc_impl" in _namespace_of(one) and _has_path(one):
                for registered in _registered(one):
                    found.setdefault(id(registered), []).append(one)
        _known_registrars, _known_token = found, token
    registrars = _known_registrars.get(id(cls), ())
    return [one for one in registrars if any(other is cls for other in _registered(one))]


def _has_path(cls: type) -> bool:
    name = _namespace_of(cls).get("__module__")
    module = None if name in _MAIN_NAMES else sys.modules.get(name)
    return getattr(module, "__dict__", {}).get(_qualname_of(cls)) is cls


# ---- named tuples ----


def _is_namedtuple(namespace: Any) -> bool:
    new = namespace.get("__new__")
    return (
        isinstance(namespace.get("_fields"), tuple)
        and isinstance(new, staticmethod)
        and _is_of_namedtuple(new)
        and "_field_defaults" in namespace
    )


def _is_of_namedtuple(value: Any) -> bool:
    """Whether it is one of the functions that collections.namedtuple() makes."""
    function = getattr(value, "__func__", value)
    if not isinstance(function, types.FunctionType):
        return False
    collections: Any = sys.modules.get("collections")
    home = function.__globals__
    return home is vars(collections) or str(home.get("__name__")).startswith("namedtuple_")


# ---- enums ----


def _is_enum(cls: type, namespace: Any) -> bool:
    enum: Any = sys.modules.get("enum")
    return enum is not None and issubclass(type(cls), enum.EnumType) and "_member_map_" in namespace


def _enum_state(cls: type, namespace: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What makes the members, by name; and what is in them."""
    members: dict[str, Any] = namespace["_member_map_"].copy()
    made: dict[int, _Made] = {}
    state: dict[str, Any] = {}
    for name, member in members.items():
        if id(member) not in made:  # else name is an alias
            made[id(member)] = _Made(new_member, (cls, name, *_data_of(member)))
            state[name] = _without_inverted(object.__getstate__(member))
    found: dict[str, Any] = {_MEMBERS: state}
    by_value = namespace.get("_value2member_map_")
    if by_value is not None:  # without the combinations of flags that were asked for
        found["_value2member_map_"] = {
            value: one for value, one in by_value.copy().items() if id(one) in made
        }
    return {name: made[id(member)] for name, member in members.items()}, found


def _without_inverted(state: Any) -> Any:
    """The state of a member without what a flag remembers of ``~member``: that is made when it is asked for."""
    if isinstance(state, dict):
        return {name: value for name, value in state.items() if name != "_inverted_"}
    return state


def _data_of(member: Any) -> tuple[type, tuple[Any, ...]]:
    """The type of C that an object comes from, and what its __new__ needs to make the same."""
    heap, immutable = 1 << 9, 1 << 8
    base: Any = next(
        one for one in type(member).__mro__ if not one.__flags__ & heap or one.__flags__ & immutable
    )
    if base is object:
        return base, ()
    if base in _FILLED_BY_INIT:
        return base, (base(member),)
    if "__getnewargs__" in _namespace_of(base):
        return base, base.__getnewargs__(member)
    if base.__reduce_ex__ is not object.__reduce_ex__:
        reduced = base.__reduce_ex__(member, 2)
    elif base.__reduce__ is not object.__reduce__:
        reduced = base.__reduce__(member)
    else:
        return base, ()
    return base, reduced[1]


def new_member(cls: Any, name: str, base: Any, args: tuple[Any, ...]) -> Any:
    """The member of an enum that is being made, without what is in it; from here on the class has it."""
    members = _namespace_of(cls)["_member_map_"]
    if name not in members:
        members[name] = base.__new__(cls, *args)
        if base in _FILLED_BY_INIT:
            base.__init__(members[name], *args)
    return members[name]


def _set_state(obj: Any, state: Any) -> None:
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    for values in (attributes, slots):
        for name, value in (values or {}).items():
            object.__setattr__(obj, name, value)


# ---- putting together ----


def make_class(skeleton: tuple[Any, ...]) -> type:
    """The class of a skeleton, still without its other attributes."""
    cls: type
    if skeleton[0] == "statement":
        return statements.make(*skeleton[1:-2])
    if skeleton[0] == "call":
        cls = skeleton[1](*skeleton[2])
        return cls
    kind, meta, name, qualname, module, bases, body, extra, abstract = skeleton[:-2]
    namespace = dict(body)
    namespace["__module__"] = module  # None, too: else it would be this one
    if kind == "enum":
        namespace["_member_map_"] = {}
    cls = _new(meta, name, bases, namespace)
    type.__setattr__(cls, "__qualname__", qualname)
    if kind == "namedtuple":
        import collections

        fields, own = extra
        make: Any = collections.namedtuple
        fresh = make(name, fields, rename=True)  # names that rename= has given, too
        for function in own:  # the collector empties a class that nobody has
            type.__setattr__(cls, function, vars(fresh)[function])
    if abstract:
        _register(cls, [])
    return cls


def _new(meta: Any, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    """A class as ``type`` makes it, without code of its bases and its metaclass.

    Where a base has an ``__init_subclass__``, one that does nothing is put before all bases, and taken away again.
    CPython lets bases be exchanged for others of the same layout: which one that is is found by trying.
    """
    cls: type
    above = {id(one): one for base in bases for one in base.__mro__[:-1]}  # they need not hash
    hooked = [one for one in above.values() if "__init_subclass__" in _namespace_of(one)]
    if not hooked:
        cls = type.__new__(meta, name, bases, namespace)
        return cls
    typing: Any = sys.modules.get("typing")
    if typing is not None and hooked == [typing.Generic] and "__orig_bases__" not in namespace:
        return _new_generic(meta, name, bases, namespace)
    layouts = {id(one): one for base in bases for one in reversed(_layouts(base))}
    for layout in layouts.values():
        for slots in ((), None, ("__dict__",), ("__weakref__",)):
            body: dict[str, Any] = {"__init_subclass__": classmethod(_do_nothing)}
            if slots is not None:
                body["__slots__"] = slots
            try:
                quiet = _new(type(layout), "Quiet", (layout,), body)
                cls = type.__new__(meta, name, (quiet, *bases), namespace)
                _set_bases(cls, bases)
            except TypeError as error:
                why = error
                continue
            if layout is not object:
                import gc

                del quiet
                gc.collect(0)  # else layout.__subclasses__() has it for a while
            return cls
    raise why


def _new_generic(meta: Any, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    """A class with Generic's ``__init_subclass__`` only, which wants to see a parameter."""
    from typing import Generic, TypeVar

    parametrized: Any = Generic[TypeVar("T")]  # type: ignore[index]
    cls: type = type.__new__(meta, name, bases, {**namespace, "__orig_bases__": (parametrized,)})
    for made in ("__orig_bases__", "__parameters__"):
        type.__delattr__(cls, made)
    return cls


def _layouts(cls: type) -> list[type]:
    """What cls has its layout from, down to object."""
    found: list[type] = []
    base = _base_of(cls)
    while base is not None:
        found.append(base)
        base = _base_of(base)
    return found


def _do_nothing(cls: type, /, **given: Any) -> None:
    pass


def fill_class(cls: type, attributes: dict[str, Any], able: bool) -> type:
    """Gives a new class attributes that `describe_class` took from the old one.

    able: the functions of its metaclass have what they need, and can be called.
    """
    set_attribute = setattr if statements.is_of_c(type(cls)) else type.__setattr__
    for name, value in attributes.items():
        if name == statements.NAMES:
            statements.keep_names(cls, value)
            _annotations.bind_annotated(cls, value)
            continue
        if name == "_abc_impl":
            _register(cls, value)
        elif name == _MEMBERS:
            members = _namespace_of(cls)["_member_map_"]
            for one, state in value.items():
                _set_state(members[one], state)
        elif name == _REGISTRARS:
            for one in value:
                one.register(cls)
        elif name == _DEFAULTS:
            new = _namespace_of(cls)["__new__"].__func__
            new.__defaults__, annotations = value
            if annotations:
                new.__annotations__ = annotations
        elif name == "__doc__" and value is None and cls.__doc__ is None:
            continue
        else:
            set_attribute(cls, name, value)
            if issubclass(type(value), property):
                _name_property(value, cls, name)  # for its errors
    metaclass: Any = type(cls)
    if able and any(
        "mro" in _namespace_of(one) for one in metaclass.__mro__[: metaclass.__mro__.index(type)]
    ):
        _set_bases(cls, _bases_of(cls))  # the metaclass was not whole when cls was made
    return cls


def rebuild_partialmethod(function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """A partial method of received parts."""
    import functools

    return functools.partialmethod(function, *args, **keywords)


def rebuild_wrapper(cls: Any, kind: Any, parts: tuple[Any, ...]) -> Any:
    """A property, or static or class method, of a class that derives from those."""
    made = kind.__new__(cls)
    kind.__init__(made, *parts)
    return made
