"""Imports that a fork has cut off.

A forked child has only the thread that forked. A module that another thread was importing at that moment would stay
half done there, and its lock, one of importlib's, locked by nobody: whoever imports it would wait for ever. So in the
child such modules are forgotten together with their locks, and imported anew by who needs them. With a package go
those of its modules that are there already, because what has imported them binds their names; but for extension
modules, some of which refuse to be loaded twice.

Imported by the main interpreter and by each that ``create(fork=True)`` makes. Names of importlib's that are not there
are done without.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from types import ModuleType


def _is_extension(module: ModuleType) -> bool:
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return type(loader).__name__ == "ExtensionFileLoader"


def _forget(name: str) -> None:
    """Forget a module whose import was cut off."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if not getattr(spec, "_initializing", False):
        return  # it was done, or had not begun
    del sys.modules[name]
    for inner, module in list(sys.modules.items()):
        if inner.startswith(name + ".") and not _is_extension(module):
            del sys.modules[inner]


def _in_child() -> None:
    importlib = sys.modules["_frozen_importlib"]
    locks = getattr(importlib, "_module_locks", {})
    for name, reference in list(locks.items()):
        owner = getattr(reference(), "owner", None)
        if owner != get_ident():  # also one that nobody has: a thread may have been about to take it
            locks.pop(name, None)
            if owner is not None:
                _forget(name)
    getattr(importlib, "_blocking_on", {}).clear()


os.register_at_fork(after_in_child=_in_child)
