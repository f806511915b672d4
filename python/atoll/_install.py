"""Puts Atoll in the place of the standard library's ``concurrent.interpreters`` and its executor."""

import sys
import types

from . import _atoll

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from typing import Any

_EXECUTOR = "InterpreterPoolExecutor"
_FUTURES = "concurrent.futures"


def install() -> None:
    """Make Atoll's interpreters and executor the standard library's, here and in interpreters created from now on.

    ``import concurrent.interpreters`` and ``concurrent.futures.InterpreterPoolExecutor`` then mean Atoll's. Works on
    every supported version, also where the standard library has no such names. What was imported from the standard
    library's modules before stays what it was. Calling it again does nothing.
    """
    import concurrent

    from . import interpreters

    sys.modules["concurrent.interpreters"] = interpreters
    concurrent.interpreters = interpreters  # type: ignore[attr-defined]
    _install_executor()
    _atoll._set_installed(True)


def _install_executor() -> None:
    """Without importing concurrent.futures, which is slow, where nobody has done so."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    futures = sys.modules.get(_FUTURES)
    if futures is not None:
        _add_to(futures)


def _get(name: str) -> object:
    """Return Atoll's object of this name, or what the module that it replaced has."""
    if name.startswith("__"):
        raise AttributeError(name)
    from ._pool import executor, replaced

    if name in executor.__all__:
        return getattr(executor, name)
    if replaced.modules:
        return getattr(replaced.modules[0], name)  # what is in use has to be found here, by pickle for one
    if name == "WorkerContext" and executor.HAS_CONTEXTS:
        return executor.contexts.WorkerContext
    raise AttributeError(f"module '{_FUTURES}.interpreter' has no attribute {name!r}")


def _add_to(futures: types.ModuleType) -> None:
    """Give concurrent.futures the module, and the executor when it is first asked for."""
    name = f"{_FUTURES}.interpreter"
    module = sys.modules.get(name)
    if module is None or getattr(module, "__getattr__", None) is not _get:
        if module is not None and isinstance(vars(module).get(_EXECUTOR), type):
            from ._pool import replaced

            replaced.modules.append(module)
        module = types.ModuleType(name, "Stands for the standard library's module of this name.")
        module.__getattr__ = _get  # type: ignore[method-assign]
        sys.modules[name] = module
    futures.interpreter = module  # type: ignore[attr-defined]
    if isinstance(vars(futures).get(_EXECUTOR), type):
        setattr(futures, _EXECUTOR, _get(_EXECUTOR))
    if sys.version_info >= (3, 14):
        return  # it takes the executor from the module
    ask: Any = vars(futures).get("__getattr__")
    if ask is None or ask.__module__ == __name__:
        return

    def get(name: str) -> object:
        if name != _EXECUTOR:
            return ask(name)
        setattr(futures, name, executor := _get(name))
        return executor

    futures.__getattr__ = get  # type: ignore[method-assign]


class _Finder:
    """Finds concurrent.futures as the finders behind it do, and adds to it what install() promises.

    It stays: the module may be looked for without being imported, imported anew, or reloaded.
    """

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: types.ModuleType | None = None
    ) -> "ModuleSpec | None":
        """Return the usual spec, with a loader that adds the executor."""
        if name != _FUTURES:
            return None
        for finder in sys.meta_path:
            find: Any = getattr(finder, "find_spec", None)  # importlib passes over those that have none
            spec: ModuleSpec | None = (
                find(name, path, target) if finder is not self and find is not None else None
            )
            if spec is not None and hasattr(spec.loader, "exec_module"):
                loader: Any = _Loader(spec.loader)
                spec.loader = loader
                return spec
        return None


class _Loader:
    """The loader of concurrent.futures that a finder has found, which may be that of other modules, too."""

    def __init__(self, found: "Any") -> None:
        self._found = found

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._found, name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute the module, as if there were only the other loader, and add to it."""
        spec: Any = module.__spec__
        spec.loader = module.__loader__ = self._found
        self._found.exec_module(module)
        _add_to(module)
