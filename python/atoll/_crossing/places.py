"""Where definitions live: which modules another interpreter can import, and what becomes of those that it cannot.

Called by ``atoll._atoll`` only.  A module that its own name leads to, in the way of ``import``, crosses by its name.
What else has globals (a script, a cell, a file that runpy, a recipe or a test runner executes, a module that is still
being imported) is a namespace that crosses by value: nothing is ever executed a second time for it.
"""

from __future__ import annotations

import sys
import types
from typing import Any

_SEPARATOR = "\x1f"
_NOTHING = "\x00"
# What is no module's name in sys.modules, or the interpreter's own.
_NO_NAMES = frozenset({"", "__main__", "__mp_main__", "<fake __main__>"})


def _is_top_level(frame: types.FrameType | None, namespaces: list[dict[str, Any]]) -> bool:
    """Whether the frame, or one further out, runs the top-level code of a module with one of these namespaces."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and any(
            frame.f_globals is namespace for namespace in namespaces
        ):
            return True
        frame = frame.f_back
    return False


def is_executing(name: str) -> bool:
    """Whether code of the module of this name, or of a package that it is in, is being executed for the first time."""
    namespaces = []
    while name:
        module = sys.modules.get(name)
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            return True
        if isinstance(module, types.ModuleType):
            namespaces.append(vars(module))
        name = name.rpartition(".")[0]
    # No name of this frame's is left with a frame: one of them is this one, and would keep all that its callers have.
    return any(_is_top_level(frame, namespaces) for frame in sys._current_frames().values())


def refuse_top_level() -> None:
    """Called where interpreters have made each other several times over, and another is to be made.

    Raises:
        RuntimeError: It is the top-level code of a module that makes it, which would run in that one, too.
    """
    at: types.FrameType | None = sys._getframe()
    while at is not None:
        code = at.f_code
        if code.co_name == "<module>" and code.co_filename not in ("<script>", "<string>"):
            raise RuntimeError(
                f"interpreters make each other without end: {code.co_filename} makes one when it is imported, and is"
                " imported there. Put what it does, and is no definition, into a function, or under"
                ' `if __name__ == "__main__":`'
            )
        at = at.f_back


def origin_of(name: str, module: Any) -> str | bool | None:
    """The file that importing `name` elsewhere leads to; None where no file is needed; False: it leads nowhere.

    Args:
        name: The module's name in sys.modules.
        module: What is there; not one of the standard library's.
    """
    own = vars(module) if isinstance(module, types.ModuleType) else {}
    file = own.get("__file__")
    file = str(file) if isinstance(file, str) else None
    parent = name.rpartition(".")[0]
    path = None
    if parent:
        package = sys.modules.get(parent)
        if package is None or not _is_found(parent, package):
            return False
        path = getattr(package, "__path__", None)
        if file is None and "__path__" not in own:
            return None  # what a package has put there itself, when it was imported
        if path is None:
            return False
    found = _find(name, path)
    if found is None:
        return False
    spec = own.get("__spec__")
    if _same_file(found.origin, file) or _same_file(found.origin, getattr(spec, "origin", None)):
        return file
    if file is None and found.submodule_search_locations is not None:
        locations = {*map(str, found.submodule_search_locations)}
        return None if locations & {*map(str, own.get("__path__", ()))} else False
    return False


def _is_found(name: str, module: Any) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names or origin_of(name, module) is not False


def _find(name: str, path: Any) -> Any:
    """The spec that ``import`` would find, or None."""
    finders = sorted(sys.meta_path, key=lambda finder: not _is_standard(finder))
    for finder in finders:
        find_spec = getattr(finder, "find_spec", None)
        if find_spec is None:
            continue
        try:
            spec = find_spec(name, path)
        except MemoryError:
            raise
        except Exception:  # a finder of somebody's: it finds nothing then
            continue
        if spec is not None:
            return spec
    return None


def _is_standard(finder: Any) -> bool:
    return getattr(finder, "__module__", "") in ("_frozen_importlib", "_frozen_importlib_external")


def _same_file(one: object, other: object) -> bool:
    import os

    if not isinstance(one, str) or not isinstance(other, str):
        return False
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def load_module(name: str, origin: str, error: ImportError) -> types.ModuleType:
    """Imports module `name` where the sender has found it, when this interpreter's path does not lead there.

    The directory that holds it (for a module of a package, that holds the package) is searched for this import only.

    Raises:
        ImportError: error itself, when there is no such file, or the module was found, and misses another.
    """
    import importlib
    import os

    if not f"{name}.".startswith(f"{error.name}."):
        raise error
    parts = name.split(".")
    stem, _ = os.path.splitext(os.path.basename(origin))
    directory = os.path.dirname(os.path.abspath(origin))
    if stem == "__init__":
        directory = os.path.dirname(directory)
    if not os.path.exists(origin):
        raise error
    for _ in parts[1:]:
        directory = os.path.dirname(directory)
    sys.path.append(directory)
    try:
        importlib.invalidate_caches()
        return importlib.import_module(name)
    finally:
        # The last one: the module may have put the directory before all others.
        for i in reversed(range(len(sys.path))):
            if sys.path[i] == directory:
                del sys.path[i]
                break


def module_of(namespace: dict[str, Any]) -> types.ModuleType | None:
    """The module in sys.modules that has this namespace."""
    for module in list(sys.modules.values()):
        if isinstance(module, types.ModuleType) and vars(module) is namespace:
            return module
    return None


def submodules(name: str, names: set[str]) -> tuple[str, ...]:
    """The loaded submodules of package `name` that code with these names may reach, with their packages first."""
    found: list[str] = []
    packages = [name]
    for package in packages:
        if not hasattr(sys.modules.get(package), "__path__"):
            continue
        for attribute in names:
            dotted = f"{package}.{attribute}"
            module = sys.modules.get(dotted)
            if (
                isinstance(module, types.ModuleType)
                and getattr(sys.modules[package], attribute, None) is module
            ):
                found.append(dotted)
                packages.append(dotted)
    return tuple(found)


def named(module: types.ModuleType, names: set[str] | None) -> dict[str, Any]:
    """What a module that crosses by value brings along: what code with these names may reach, or all of it."""
    own = vars(module)
    if names is None:
        return {name: value for name, value in own.items() if not (name[:2] == name[-2:] == "__")}
    skipped = ("__name__", "__builtins__", "__file__", "__spec__", "__loader__", "__package__", "__dict__")
    return {name: own[name] for name in names if name in own and name not in skipped}


def describe(namespace: dict[str, Any]) -> str:
    """What functions find out about where they are from their globals, for `settle`: one text, which goes with each.

    Its parts are the name, file and package, name and origin of the spec, three of the loader (`_describe_loader`), and
    then, for a package, "" and where its modules are.
    """
    spec = namespace.get("__spec__")
    loader = namespace.get("__loader__") or getattr(spec, "loader", None)
    locations = getattr(spec, "submodule_search_locations", None)
    parts = [namespace.get(key) for key in ("__name__", "__file__", "__package__")]
    parts += [getattr(spec, "name", None), getattr(spec, "origin", None), *_describe_loader(loader)]
    if locations is not None:
        parts += ["", *map(str, locations)]
    return _SEPARATOR.join(
        part if type(part) is str and _SEPARATOR not in part else _NOTHING for part in parts
    )


def _describe_loader(loader: Any) -> tuple[str | None, str | None, str | None]:
    """What to make of a loader of the standard library's that has the source: tracebacks and inspect ask for it."""
    kind = type(loader)
    if kind.__module__ == "zipimport" and isinstance(getattr(loader, "archive", None), str):
        import os

        return "zip", os.path.join(loader.archive, loader.prefix) if loader.prefix else loader.archive, None
    if kind.__name__ in ("SourceFileLoader", "SourcelessFileLoader") and "importlib" in kind.__module__:
        return kind.__name__, str(loader.name), str(loader.path)
    return None, None, None


def settle(module: types.ModuleType, place: str, stand_ins: dict[str, types.ModuleType]) -> None:
    """Gives the module that stands for a sender's namespace the names of that one, and its place in sys.modules.

    A script's has none there: ``sys.modules["__main__"]`` is this interpreter's own.

    Args:
        module: The new stand-in.
        place: What `describe` said.
        stand_ins: Those that are in sys.modules, by name.
    """
    parts = [None if part == _NOTHING else part for part in place.split(_SEPARATOR)]
    name, file, package, spec, origin, *loader = parts[:8]
    own = vars(module)
    own["__name__"] = name if name is not None else "__main__"
    if file is not None:
        own["__file__"] = file
    own["__package__"] = package
    own["__loader__"] = made = _make_loader(*loader)
    if spec is not None:
        import importlib.machinery

        is_package = len(parts) > 8
        own["__spec__"] = again = importlib.machinery.ModuleSpec(
            spec, made, origin=origin, is_package=is_package
        )
        if is_package:
            own["__path__"] = [part for part in parts[9:] if part]
            again.submodule_search_locations = own["__path__"]
        again.has_location = file is not None
    if name is None or name in _NO_NAMES:
        return
    there = sys.modules.get(name)
    if there is None and not _can_import(name):
        sys.modules[name] = stand_ins[name] = module
    elif there is not None and there is stand_ins.get(name) and _is_made_for_classes(there):
        for key, value in vars(there).items():
            own.setdefault(key, value)
        sys.modules[name] = stand_ins[name] = module


def bind(cls: type, stand_ins: dict[str, types.ModuleType]) -> None:
    """Puts a received class where pickle looks for it: a stand-in in sys.modules, made now where there is none."""
    name, qualname = cls.__module__, cls.__qualname__
    there = sys.modules.get(name)
    if there is None and name not in _NO_NAMES and not _can_import(name):
        there = sys.modules[name] = stand_ins[name] = types.ModuleType(name)
    if there is not None and there is stand_ins.get(name):
        bound = vars(there).get(qualname)
        if bound is None or (isinstance(bound, type) and bound.__module__ == name):
            vars(there)[qualname] = cls


def _is_made_for_classes(module: types.ModuleType) -> bool:
    return "__builtins__" not in vars(module)


def _can_import(name: str) -> bool:
    parent = name.rpartition(".")[0]
    path = None
    if parent:
        path = getattr(sys.modules.get(parent), "__path__", None)
        if path is None:
            return parent not in sys.modules and _can_import(parent)
    return _find(name, path) is not None


def _make_loader(kind: str | None, name: str | None, path: str | None) -> Any:
    if kind is None:
        return None
    if kind == "zip":
        import zipimport

        try:
            return zipimport.zipimporter(name or "")
        except ImportError:  # the archive is gone
            return None
    import importlib.machinery

    return getattr(importlib.machinery, kind)(name, path)
