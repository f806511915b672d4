"""The annotations of classes by value: as what they are sent, and how the names in those that are text are found.

Text (forward references, ``from __future__ import annotations``) names definitions that nothing else of the class may
use.  They come as what a function with the same annotations names, and are bound where ``typing.get_type_hints()``
looks for them: in the ``__main__`` of the receiver, unless the name is taken there.

For ``atoll._crossing.classes``.
"""

from __future__ import annotations

import functools
import sys
import types
from typing import TYPE_CHECKING, Any

from . import statements

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAIN_NAMES = ("__main__", "<fake __main__>")
_namespace_of: Any = type.__dict__["__dict__"].__get__
_qualname_of: Any = type.__dict__["__qualname__"].__get__
_bound: dict[str, Any] = {}  # what `bind_annotated` has put into __main__
_annotations_of: Any = type.__dict__["__annotations__"].__get__  # noqa: RUF063


def raw_namespace(cls: type) -> dict[str, Any]:
    """The dict behind ``cls.__dict__``: what functions that compute annotations look names up in."""
    import gc

    found: dict[str, Any] = gc.get_referents(_namespace_of(cls))[0]
    return found


def reduce_namespace(cls: type) -> tuple[Any, ...]:
    """A reduction for the dict behind ``cls.__dict__``."""
    return raw_namespace, (cls,)


def describe(cls: type, namespace: Any) -> dict[str, Any]:
    """cls's own annotations: since 3.14 the function that computes them, where it can be sent."""
    if sys.version_info >= (3, 14):
        annotate: Any = type.__dict__["__annotate__"].__get__(cls)
        if annotate is None:  # there are none, or they are strings (from __future__ import annotations)
            own = values_of(cls)
            return {"__annotations__": own} if own else {}
        if isinstance(annotate, types.FunctionType) and _crosses(annotate, cls):
            computed = namespace.get("__annotations_cache__")  # which may have been changed
            return {
                "__annotate__": annotate,
                **({} if computed is None else {"__annotations_cache__": dict(computed)}),
            }
        return {"__annotations__": values_of(cls)}
    import inspect

    own = inspect.get_annotations(cls)
    return {"__annotations__": own} if own else {}


def _crosses(annotate: types.FunctionType, cls: type) -> bool:
    """Whether a function that computes annotations crosses, and would look names up in this class's namespace."""
    name = annotate.__globals__.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if (
        annotate.__module__ not in _MAIN_NAMES
        and getattr(module, "__dict__", None) is not annotate.__globals__
    ):
        return False
    for free, cell in zip(annotate.__code__.co_freevars, annotate.__closure__ or (), strict=False):
        if free == "__classdict__" and cell.cell_contents is not raw_namespace(cls):
            return False
    return True


def values_of(obj: Any) -> dict[str, Any]:
    """The annotations of a class or function, computed now; as text where they name what is not there."""
    try:
        return dict(_annotations_of(obj) if isinstance(obj, type) else obj.__annotations__)
    except MemoryError:
        raise
    except Exception:  # whatever it is that evaluating them raises
        return annotations_as_text(obj)


def annotations_as_text(obj: Any) -> dict[str, Any]:
    """The annotations of a class or function as they stand in the source."""
    text: dict[str, Any] = {}  # before 3.14 they are not computed late: what is there was had
    if sys.version_info >= (3, 14):
        import annotationlib

        text = annotationlib.get_annotations(obj, format=annotationlib.Format.STRING)
    return text


_known_naming: dict[int, Any] = {}  # by a class's address: a reference to it, texts, and the function


def naming_annotated(cls: type, namespace: Any, definition: dict[str, Any]) -> types.FunctionType | None:
    """A function that has the text in cls's annotations for its own: the definitions that it names are sent with it."""
    annotate = definition.get("__annotate__")
    functions = [annotate] if annotate is not None else statements.functions_of(namespace, _qualname_of(cls))
    functions = [one for one in functions if one.__module__ == namespace.get("__module__")]
    if annotate is None or functions:
        values = list(definition.get("__annotations__", {}).values()) or _constants(annotate)
    else:  # one of typing, for a TypedDict or a NamedTuple
        values = list(_evaluated(annotate).values())
    texts = {text for value in values for text in _texts(value)}
    if not texts:
        return None
    known = _known_naming.get(id(cls))
    if known is None or known[0]() is not cls or known[1] != texts:
        import weakref

        try:
            home = statements.home_of(cls, functions)
        except LookupError:
            return None
        naming = statements.naming([], home)
        naming.__annotations__ = dict(zip(texts, texts, strict=True))
        # Of C: Ctrl-C would be lost in a callback of Python's.
        forget = functools.partial(_known_naming.pop, id(cls))
        known = weakref.ref(cls, forget), texts, naming
        _known_naming[id(cls)] = known
    return known[2]


def _constants(annotate: Any) -> list[Any]:
    return [] if annotate is None else list(annotate.__code__.co_consts)


def _evaluated(annotate: Any) -> dict[str, Any]:
    try:
        return dict(annotate(1))
    except MemoryError:
        raise
    except Exception:  # whatever it is that evaluating them raises
        return {}


def _texts(value: Any) -> Iterator[str]:
    """What is text in an annotation."""
    text = getattr(value, "__forward_arg__", value)
    if isinstance(text, str):
        yield text
    elif isinstance(args := getattr(value, "__args__", None), tuple):
        for one in args:
            yield from _texts(one)


def bind_annotated(cls: type, naming: types.FunctionType) -> None:
    """Has what text in cls's annotations names where typing looks it up: in the module of cls's name."""
    main = vars(sys.modules["__main__"])
    if not naming.__annotations__ or main is naming.__globals__ or cls.__module__ not in _MAIN_NAMES:
        return
    import re

    for name in {name for text in naming.__annotations__ for name in re.findall(r"\b[^\W\d]\w*", text)}:
        value = naming.__globals__.get(name)
        is_type = isinstance(value, (type, types.ModuleType)) or type(value).__module__ in ("types", "typing")
        if is_type and (name not in main or main[name] is _bound.get(name, main)):
            main[name] = _bound[name] = value
