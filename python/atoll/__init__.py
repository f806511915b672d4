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
    Queue,
    create,
    create_queue,
    get_current,
    get_main,
    is_shareable,
    list_all,
    select,
)
from ._install import install
from ._queues import (
    UNBOUND,
    UNBOUND_ERROR,
    UNBOUND_REMOVE,
    ItemInterpreterDestroyed,
    QueueEmpty,
    QueueError,
    QueueFull,
    QueueNotFoundError,
    QueueShutDown,
)

__version__ = "0.1.0.dev0"

__all__ = [
    "UNBOUND",
    "UNBOUND_ERROR",
    "UNBOUND_REMOVE",
    "ExecutionFailed",
    "Interpreter",
    "InterpreterError",
    "InterpreterNotFoundError",
    "ItemInterpreterDestroyed",
    "NotShareableError",
    "Queue",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "QueueNotFoundError",
    "QueueShutDown",
    "create",
    "create_queue",
    "get_current",
    "get_main",
    "install",
    "is_shareable",
    "list_all",
    "select",
]
