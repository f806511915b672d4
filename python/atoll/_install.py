"""Puts Atoll in the place of the standard library's ``concurrent.interpreters`` and its executor."""

import importlib.machinery
import importlib.util
import sys
import types

from . import _atoll

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Sequence
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
    name = f"{_FUTURES}.interpreter"
    module = types.ModuleType(name, "Stands for the standard library's module of this name.")
    module.__getattr__ = _get  # type: ignore[method-assign]
    sys.modules[name] = module
    futures = sys.modules.get(_FUTURES)
    if futures is not None:
        _add_to(futures)
        futures.interpreter = module  # type: ignore[attr-defined]
    elif sys.version_info < (3, 14) and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # From 3.14 on it takes the executor from the module above.
        sys.meta_path.insert(0, _Finder())


def _get(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    from . import _pool

    try:
        return getattr(_pool, name)
    except AttributeError:
        raise AttributeError(f"module '{_FUTURES}.interpreter' has no attribute {name!r}") from None


def _add_to(futures: types.ModuleType) -> None:
    """Give the module concurrent.futures the executor, when it is first asked for."""
    if sys.version_info >= (3, 14):
        if _EXECUTOR in vars(futures):
            setattr(futures, _EXECUTOR, _get(_EXECUTOR))
        return
    before: Any = vars(futures).get("__getattr__")

    def get(name: str) -> object:
        if name != _EXECUTOR:
            return before(name)
        setattr(futures, name, executor := _get(name))
        return executor

    if before is not None and _EXECUTOR not in vars(futures):
        futures.__getattr__ = get  # type: ignore[method-assign]


class _Finder:
    """Finds concurrent.futures as usual, once, and adds to it what install() promises."""

    def find_spec(
        self, name: str, _path: "Sequence[str] | None" = None, _target: types.ModuleType | None = None
    ) -> "importlib.machinery.ModuleSpec | None":
        """Return the usual spec, with a loader that adds the executor."""
        if name != _FUTURES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                execute(module)
                _add_to(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
