"""Many isolated Python interpreters in one process, each with its own GIL.

``import atoll as interpreters`` gives what ``concurrent.interpreters`` (PEP 734) documents, on CPython 3.12 to
3.15. The same names are in :mod:`atoll.interpreters`.

>>> import atoll
>>> with atoll.create() as interp:
...     interp.call(pow, 2, 10)
1024
"""

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
from ._install import install

__version__ = "0.1.0.dev0"

__all__ = [
    "ExecutionFailed",
    "Interpreter",
    "InterpreterError",
    "InterpreterNotFoundError",
    "NotShareableError",
    "create",
    "get_current",
    "get_main",
    "install",
    "is_shareable",
    "list_all",
]
