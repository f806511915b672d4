"""Classes that cannot be copied, because other code than the user's and the standard library's ran over their making.

The rule.  A class by value (``atoll._crossing.classes``) is copied, unless

* its metaclass is of C and has more in its classes than ``type`` has (``ctypes.Structure``, ``msgspec.Struct``), or
* a metaclass's ``__new__``, ``__init__`` or ``__prepare__``, or a base's ``__init_subclass__``, lives in an imported
  module that is not the standard library's (pydantic, SQLAlchemy, Django, a module of the user's own).

Of such a class the very ``class`` statement that made it is run once more in each interpreter that receives it, hooks
and all, so that the module over there knows the class as the one here does.  The statement is found by its file (or
notebook cell, or what else has put its source into linecache) and line; the names that it uses come by value, as the
globals of a function do.  Those that lead back to the class, and that only its functions and annotations use, come
when it is there.  So do those of another such class that comes because this statement needs it: they may need this
class, and the codec leaves them out there.
Of what was set later (``Model.rate = 5``) numbers, strings and the like come, and what the statement does
not set of a ctypes class.

Where the source is not to be had, or the statement needs what cannot be found (a variable of the function that the
class was defined in), the class is copied, if its metaclass is not of C; else it is refused, with the advice to put it
into a module.  Types that ctypes makes on demand (arrays, pointers, ``CFUNCTYPE``) are made by asking it again.

What a decorator makes of a class (``dataclass``, attrs) is state like any other.
"""

from __future__ import annotations

import functools
import sys
import types
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator

    from . import source

_Described = tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]
_MAIN_NAMES = ("__main__", "<fake __main__>")
_HEAP, _IMMUTABLE = 1 << 9, 1 << 8
_PLAIN = (int, float, complex, str, bytes, bool, type(None))
_namespace_of: Any = type.__dict__["__dict__"].__get__
_qualname_of: Any = type.__dict__["__qualname__"].__get__
_module_of: Any = type.__dict__["__module__"].__get__
_name_of: Any = type.__dict__["__name__"].__get__
_known: dict[int, Any] = {}  # by a class's address: a reference to it, and what is known of it
_statements: dict[int, Any] = {}  # likewise, what its statement names
_later: dict[int, Any] = {}  # likewise, what that uses later
NAMES = "<names>"  # under which the globals come that are bound when the class is there


def is_of_c(meta: type) -> bool:
    """Whether the classes of a metaclass have more in them than ``type`` makes, or are made by code of C."""
    base: Any
    for base in meta.__mro__:
        if base is type:
            break
        if not base.__flags__ & _HEAP or base.__basicsize__ != type.__basicsize__:
            return True
        own = _namespace_of(base)
        if isinstance(own.get("__new__"), types.BuiltinFunctionType):
            return True
        if isinstance(own.get("__init__"), types.WrapperDescriptorType):
            return True
    return False


def _is_of_package(hook: Any) -> bool:
    """Whether its code is that of an imported module which is not the standard library's."""
    hook = getattr(hook, "__func__", hook)
    globals_ = getattr(hook, "__globals__", None)
    name = globals_.get("__name__") if globals_ is not None else getattr(hook, "__module__", None)
    if not isinstance(name, str) or name in _MAIN_NAMES:
        return False
    module = sys.modules.get(name)
    if module is None or name.partition(".")[0] in sys.stdlib_module_names:
        return False
    return globals_ is None or getattr(module, "__dict__", None) is globals_


def is_made_by_package(cls: type) -> bool:
    """Whether code of a package ran over the making of cls."""
    metaclass: Any = type(cls)
    for meta in metaclass.__mro__:
        if meta is type:
            break
        own = _namespace_of(meta)
        if any(name in own and _is_of_package(own[name]) for name in ("__new__", "__init__", "__prepare__")):
            return True
    hooks = (_namespace_of(base).get("__init_subclass__") for base in cls.__mro__[1:-1])
    return any(hook is not None and _is_of_package(hook) for hook in hooks)


def describe(cls: type, namespace: Any, of_c: bool) -> _Described | str | None:
    """What makes cls by its statement, as ``classes.describe_class`` has it; None when that cannot be had.

    Raises:
        TypeError: cls is of C, and so cannot be copied instead.
    """
    call = _ctypes_call(cls) if of_c else None
    if call is not None:
        return ("call", *call), {}, {}
    try:
        return _describe(cls, namespace, of_c)
    except LookupError as error:
        if not of_c:
            return None
        return (
            f"class {_qualname_of(cls)} has to be made by its statement in each interpreter, {error.args[0]}: "
            f"define it in a module that can be imported"
        )


def _describe(cls: type, namespace: Any, of_c: bool) -> _Described:
    known = _recall(_known, cls) or _keep(cls, *_analyse(cls, namespace, of_c))
    _, skeleton, definition, set_by_statement = known
    attributes = {
        name: value for name, value in namespace.items() if _is_set_later(name, value, set_by_statement, of_c)
    }
    return skeleton, definition, attributes


def _keep(cls: type, skeleton: tuple[Any, ...], definition: dict[str, Any], bound: set[str]) -> Any:
    """Note what is known of a class."""
    return _remember(_known, cls, skeleton, definition, bound)


def keep_names(cls: type, naming: types.FunctionType) -> None:
    """Note what is bound when a class that was sent is there, for those whom it is sent on to."""
    known = _recall(_known, cls)
    if known is not None:
        known[2][NAMES] = naming


def waits_for(cls: type, classes: list[type]) -> bool:
    """Whether the statement of cls needs one of these classes, which are copied and not whole yet."""
    if _namespace_of(cls).get("__module__") not in _MAIN_NAMES or not _is_by_statement(cls):
        return False
    return any(one is not cls and _holds(cls, one) for one in classes)


def _is_by_statement(cls: type) -> bool:
    return is_of_c(type(cls)) or is_made_by_package(cls)


def _remember(known: dict[int, Any], cls: type, *what: Any) -> Any:
    """Note something of a class, for as long as it is there."""
    import weakref

    # Of C: Ctrl-C would be lost in a callback of Python's.
    entry = known[id(cls)] = weakref.ref(cls, functools.partial(known.pop, id(cls))), *what
    return entry


def _recall(known: dict[int, Any], cls: type) -> Any:
    """What was noted of it: an entry, or None."""
    entry = known.get(id(cls))
    return entry if entry is not None and entry[0]() is cls else None


def _analyse(cls: type, namespace: Any, of_c: bool) -> tuple[tuple[Any, ...], dict[str, Any], set[str]]:
    """The skeleton and the definition, which stay as they are, and what the statement sets."""
    from . import source

    functions = list(functions_of(namespace, _qualname_of(cls)))
    home = home_of(cls, functions)
    first_line = namespace.get("__firstlineno__")
    node, enclosing, file, tree = source.find_statement(_qualname_of(cls), first_line, functions, home)
    own_module = namespace.get("__module__")
    closure = _closure(cls, functions)

    def resolve() -> tuple[set[str], dict[str, Any], list[str], list[str]]:
        names = source.Names(node)
        variables = _resolve_locals(cls, node, names, enclosing, closure)
        return (
            names.bound,
            variables,
            *_partition(cls, names, home, {one.name for one in enclosing}, variables, (file, node.lineno)),
        )

    try:
        bound_by, variables, first, later = resolve()
    except LookupError:
        if not of_c or not node.decorator_list:
            raise
        # Decorators that keep the class in a registry have it there when that is sent; what they set is set later.
        node = source.undecorated(node)
        bound_by, variables, first, later = resolve()
    code = source.compile_alone(
        node, enclosing, sorted(variables), own_module, source.flags_of(tree, functions), file
    )
    path = tuple((one.name, source.is_function(one)) for one in (*enclosing, node))
    bound = tuple(name for name, value in home.items() if value is cls)
    skeleton = ("statement", code, path, variables, naming(first, home), bound, own_module)
    return skeleton, {NAMES: naming(later, home)}, bound_by


def _is_set_later(name: str, value: Any, bound: set[str], of_c: bool) -> bool:
    """Whether an attribute is to be set once more: it is no part of what the making has made."""
    if name.startswith("__"):
        return False
    if of_c:
        return name not in bound and not hasattr(type(value), "__set__")
    return not name.startswith("_") and (
        type(value) in _PLAIN or (type(value) is tuple and all(type(one) in _PLAIN for one in value))
    )


# ---- where it is from ----


def functions_of(namespace: Any, qualname: str) -> Iterator[types.FunctionType]:
    """The functions that the statement has made."""
    for value in list(namespace.values()):
        parts = [value]
        for attribute in ("__func__", "__wrapped__", "wrapped", "fget", "func"):
            for one in tuple(parts):
                try:  # without code of the object's own: it may stand for one that is made when it is asked
                    parts.append(object.__getattribute__(one, attribute))
                except MemoryError:
                    raise
                except Exception:
                    continue
        for part in parts:
            if isinstance(part, types.FunctionType) and part.__qualname__.startswith(f"{qualname}."):
                yield part
                break


def home_of(cls: type, functions: list[types.FunctionType]) -> dict[str, Any]:
    """The globals that the statement ran in."""
    if functions:
        return functions[0].__globals__
    name = _namespace_of(cls).get("__module__")
    module = sys.modules.get("__main__" if name in _MAIN_NAMES else name)
    if module is None:
        raise LookupError(f"and its module {name!r} is not there")
    return vars(module)


def _closure(cls: type, functions: list[types.FunctionType]) -> dict[str, Any]:
    """What the functions of a class have of the function that it was defined in."""
    found: dict[str, Any] = {}
    for function in functions:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # it is empty
                continue
            if not name.startswith(("__", ".")) and value is not cls:
                found[name] = value
    return found


def _named_bases(cls: Any, node: ast.ClassDef) -> dict[str, Any]:
    """What the names of bases, and of the metaclass, in a statement have stood for."""
    import ast

    bases = getattr(cls, "__orig_bases__", cls.__bases__)
    found = {one.id: base for one, base in zip(node.bases, bases, strict=False) if isinstance(one, ast.Name)}
    for one in node.keywords:
        if one.arg == "metaclass" and isinstance(one.value, ast.Name):
            found[one.value.id] = type(cls)
    return found if len(bases) == len(node.bases) else {}


def _resolve_locals(
    cls: type, node: ast.ClassDef, names: source.Names, enclosing: list[Any], closure: dict[str, Any]
) -> dict[str, Any]:
    """The variables of the function around a statement that it needs.

    Raises:
        LookupError: One of them is not to be found.
    """
    from . import source

    outer: set[str] = set()
    for function in enclosing:
        if source.is_function(function):
            arguments = function.args
            given = [
                *arguments.posonlyargs,
                *arguments.args,
                *arguments.kwonlyargs,
                arguments.vararg,
                arguments.kwarg,
            ]
            outer.update(one.arg for one in given if one is not None)
            outer.update(source.stored_names(function.body))
    found = {name: value for name, value in closure.items() if name in outer}
    bases = _named_bases(cls, node)
    for name in (names.direct | names.annotated) & outer - found.keys() - names.bound - {_name_of(cls)}:
        if name not in bases:
            raise LookupError(f"but {name!r} that it uses, a variable of the function it is in, is gone")
        found[name] = bases[name]
    for name, value in found.items():
        if _holds(value, cls):
            raise LookupError(f"but {name!r} that it uses needs the class itself")
    return found


class _Statement(NamedTuple):
    """What a class statement names, the globals that it ran in, and where it stands."""

    names: source.Names
    home: dict[str, Any]
    place: tuple[str, int]

    def globals_of(self, names: set[str]) -> set[str]:
        return {
            name for name in names & self.home.keys() if not (name.startswith("__") and name.endswith("__"))
        }

    def needed(self) -> set[str]:
        """What running it needs; annotations may name what was still to come when it ran at home."""
        annotated = self.names.annotated - self.names.direct
        return self.globals_of(self.names.direct | annotated) - {
            name for name in annotated & self.home.keys() if _comes_after(self.home[name], self.place)
        }

    def used_later(self, cls: type) -> set[str]:
        """What else it names, and what leads back to its class, by way of other statements, too."""
        known = _recall(_later, cls)
        if known is None:
            others = self.globals_of(self.names.nested | self.names.annotated) - self.needed()
            found = {
                name
                for name in others
                if self.home[name] is not cls and _reached(self.home[name], cls, whole=True) is None
            }
            known = _remember(_later, cls, found)
        return set(known[1])


def _statement_of(cls: type) -> _Statement | None:
    """The statement of a class of the script; None where it is not to be had."""
    namespace = _namespace_of(cls)
    if namespace.get("__module__") not in _MAIN_NAMES:
        return None
    known = _recall(_statements, cls)
    if known is None:
        from . import source

        functions = list(functions_of(namespace, _qualname_of(cls)))
        found = None
        try:
            home = home_of(cls, functions)
            node, _, file, _ = source.find_statement(
                _qualname_of(cls), namespace.get("__firstlineno__"), functions, home
            )
            found = _Statement(source.Names(node), home, (file, node.lineno))
        except LookupError:
            pass
        known = _remember(_statements, cls, found)
    statement: _Statement | None = known[1]
    return statement


def _comes_after(value: Any, place: tuple[str, int]) -> bool:
    """Whether the definition of a function or class stands behind a place in the same file."""
    own = None
    if type(value) is types.FunctionType:
        own = value.__code__.co_filename, value.__code__.co_firstlineno
    elif issubclass(type(value), type):
        statement = _statement_of(value)
        own = None if statement is None else statement.place
    return own is not None and own[0] == place[0] and own[1] > place[1]


def _partition(
    cls: type,
    names: source.Names,
    home: dict[str, Any],
    own: set[str],
    locals_: dict[str, Any],
    place: tuple[str, int],
) -> tuple[list[str], list[str]]:
    """The globals that the statement needs, and those that are bound when the class is there.

    Raises:
        LookupError: It needs one that holds the class.
    """
    statement = _Statement(names, home, place)
    first: list[str] = []
    later = statement.used_later(cls) - locals_.keys()
    for name in sorted(
        statement.globals_of(names.direct | names.annotated | names.nested) - locals_.keys() - later
    ):
        if home[name] is cls:
            continue
        if not _holds(home[name], cls):
            first.append(name)
        elif name not in names.direct:
            later.add(name)
        elif name not in names.bound and name not in own:
            raise LookupError(f"but {name!r} that it uses needs the class itself")
    # What is used later by other classes that come with it is left out there, as it may need this one.
    for one in _reached([home[name] for name in first], None) or ():
        other = _statement_of(one) if _is_by_statement(one) and one is not cls else None
        if other is not None and other.home is home:
            later |= other.used_later(one)
    return first, sorted(name for name in later.difference(first) if home[name] is not cls)


def _holds(value: Any, cls: type) -> bool:
    """Whether value cannot be made before cls is there: not where only a function names it, that is bound later."""
    return _reached(value, cls) is None


def _reached(value: Any, cls: type | None, *, whole: bool = False) -> list[type] | None:
    """The classes that come with a value; None when cls is one, otherwise than by a global name that a function uses.

    whole: also by what functions of classes that are made by their statement use when these are there.
    """
    found: list[type] = []
    seen: set[int] = set()
    queue: list[Any] = [value]
    for one in queue:
        if one is cls:
            return None
        if id(one) in seen or issubclass(type(one), types.ModuleType):
            continue
        seen.add(id(one))
        if len(seen) > 10_000:
            break
        if issubclass(type(one), type):
            found.append(one)
        queue.extend(part for part in _parts(one, cls, whole) if type(part) not in _PLAIN)
    return found


def _parts(value: Any, cls: type | None, whole: bool) -> list[Any]:
    """What is sent with a value, without cls as a global."""
    import gc

    kind = type(value)  # isinstance() would ask value itself
    if issubclass(kind, types.FunctionType):
        own = value.__module__ in _MAIN_NAMES
        if not own and "<locals>" not in value.__qualname__:
            return []
        parts = [
            one
            for one in gc.get_referents(value)
            if one is not value.__globals__ and one is not value.__builtins__
        ]
        if own:
            used = (value.__globals__.get(name) for name in _code_names(value.__code__))
            parts.extend(one for one in used if one is not cls)
        return parts
    if issubclass(kind, type):
        namespace = _namespace_of(value)
        if namespace.get("__module__") not in _MAIN_NAMES:
            return []
        if not _is_by_statement(value):
            return [*value.__bases__, kind, *namespace.values()]
        statement = _statement_of(value)
        if statement is None:
            return [*value.__bases__, kind]
        home, needed = statement.home, statement.needed()
        others = statement.globals_of(statement.names.nested | statement.names.annotated) - needed
        if not whole:
            others -= statement.used_later(value)
        return [
            *value.__bases__,
            kind,
            *(home[name] for name in needed),
            *(home[name] for name in others if home[name] is not cls),
        ]
    if _module_of(kind) == "typing":  # type variables and aliases, which are computed when they are sent
        parts = []
        for attribute in ("__bound__", "__constraints__", "__default__", "__value__"):
            try:
                parts.append(getattr(value, attribute))
            except MemoryError:
                raise
            except Exception:  # whatever it is that evaluating them raises
                continue
        return [kind, *parts, *gc.get_referents(value)]
    return [kind, *gc.get_referents(value)]


def _code_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _code_names(constant)
    return names


def naming(names: list[str], home: dict[str, Any]) -> types.FunctionType:
    """A function that uses these globals, and is sent with them."""
    code = compile(f"lambda: (__name__, {', '.join(names)})", "<names>", "eval")
    return types.FunctionType(code.co_consts[0], home, "<names>")


# ---- running it ----


def make(
    code: types.CodeType,
    path: tuple[tuple[str, bool], ...],
    variables: dict[str, Any],
    naming: types.FunctionType,
    bound: tuple[str, ...],
    module: Any,
) -> type:
    """Runs a statement that was sent, in the namespace that stands for its own (what hooks look up in a ``__main__`` is
    shown in this one: src/py/codec/shown.c).

    It goes on from here, and back, as it came: its source need not be found here.
    """
    namespace = naming.__globals__
    made: dict[str, Any] = {}
    exec(code, namespace, made)
    found = made[path[0][0]]
    innermost = max((i for i, (_, is_function) in enumerate(path) if is_function), default=-1)
    for i, (_, is_function) in enumerate(path[:-1]):
        used = variables if i == innermost else {}
        found = found(**used) if is_function else _namespace_of(found)[path[i + 1][0]]
    for name in bound:
        namespace.setdefault(name, found)
    cls: type = found
    skeleton = "statement", code, path, variables, naming, bound, module
    _keep(cls, skeleton, {}, set(_namespace_of(cls)))
    return cls


# ---- ctypes ----


def _ctypes_call(cls: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """What gives a type that ctypes makes on demand: a function and its arguments."""
    ctypes: Any = sys.modules.get("ctypes")
    namespace = _namespace_of(cls)
    item = namespace.get("_type_")
    if ctypes is None:
        return None
    if cls.__bases__ == (ctypes.Array,) and cls.__name__ == f"{item.__name__}_Array_{cls._length_}":
        return make_array, (item, cls._length_)
    if cls.__bases__ == (ctypes._Pointer,) and isinstance(item, type) and ctypes.POINTER(item) is cls:
        return ctypes.POINTER, (item,)
    if cls.__bases__ == (ctypes._CFuncPtr,) and cls.__name__ == "CFunctionType":
        return make_function_type, (cls._restype_, cls._argtypes_, cls._flags_)
    return None


def make_array(item: Any, length: int) -> Any:
    """A ctypes array type."""
    return item * length


def make_function_type(result: Any, arguments: tuple[Any, ...], flags: int) -> Any:
    """What ``ctypes.CFUNCTYPE()`` or ``PYFUNCTYPE()`` gives."""
    import ctypes

    if flags & 4:  # FUNCFLAG_PYTHONAPI
        return ctypes.PYFUNCTYPE(result, *arguments)
    return ctypes.CFUNCTYPE(result, *arguments, use_errno=bool(flags & 8), use_last_error=bool(flags & 16))
