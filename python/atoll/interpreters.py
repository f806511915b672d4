"""The PEP 734 API: the same objects as in :mod:`atoll`; what ``install()`` puts in the standard library's place."""

from ._atoll import (
    ExecutionFailed,
    Interpreter,
    InterpreterError,
    InterpreterNotFoundError,
    NotShareableError,
    create,
    get_current,
    get_main,
    is_shareable,
    list_all,
)

__all__ = [
    "ExecutionFailed",
    "Interpreter",
    "InterpreterError",
    "InterpreterNotFoundError",
    "NotShareableError",
    "create",
    "get_current",
    "get_main",
    "is_shareable",
    "list_all",
]
