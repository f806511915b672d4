"""What interpreters import before they are used: ``imports=`` of pools and of ``prewarm()``."""

from __future__ import annotations

import gc
from importlib import import_module

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

REFUSED = "imports: "  # how what load() raises begins
BEGIN_ARGS = 2  # of begin(), before those of the initializer


def as_names(imports: Iterable[str]) -> tuple[str, ...]:
    """Return the names of modules as a tuple; TypeError or ValueError for what is none."""
    if isinstance(imports, str):
        raise TypeError(f"imports must be an iterable of names of modules, not a str: ({imports!r},)?")
    try:
        names = tuple(imports)
    except TypeError:
        raise TypeError(
            f"imports must be an iterable of names of modules, not {type(imports).__name__}"
        ) from None
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(f"imports[{i}] must be the name of a module, a str, not {type(name).__name__}")
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"imports[{i}]: {name!r} is not the name of a module")
    return names


def load(names: tuple[str, ...]) -> None:
    """Import modules, in the interpreter that this is called in; ImportError names the one that failed, and has why.

    The garbage collector rests meanwhile: it would look, over and over, through what stays.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        for name in names:
            try:
                import_module(name)
            except Exception as error:
                raise ImportError(
                    f"{REFUSED}{name!r} cannot be imported: {type(error).__name__}: {error}", name=name
                ) from error
    finally:
        if collects:
            gc.enable()


def begin(names: tuple[str, ...], initializer: Callable[..., object] | None, /, *initargs: Any) -> None:
    """Begin a worker's life: import modules, then call the pool's initializer."""
    load(names)
    if initializer is not None:
        initializer(*initargs)
