"""What an interpreter has the main interpreter do, because it concerns the whole process.

Exceptions of CPython's own arrive as they were raised there, an OSError with its errno.
"""

from __future__ import annotations

import builtins

from atoll import _atoll

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def attempt(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str | None, Any]:
    """Call a function here; return None and the result, or the name of what it raised and the arguments of that."""
    try:
        return None, function(*args, **kwargs)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        name = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
        return name, error.args


def is_main() -> bool:
    """Tell whether this is the main interpreter, as one is in a child that it has forked."""
    return _atoll.get_current() == _atoll.get_main()


def call_in_main[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function of a module of Atoll's in the main interpreter."""
    failed, outcome = _atoll.get_main().call(attempt, function, args, kwargs)
    if failed is not None:
        raise getattr(builtins, failed)(*outcome)
    result: T = outcome
    return result
