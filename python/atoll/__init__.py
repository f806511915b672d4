"""Many isolated Python interpreters in one process, each with its own GIL.

``import atoll as interpreters`` gives what ``concurrent.interpreters`` (PEP 734) documents, on CPython 3.12 to
3.15. The same names are in :mod:`atoll.interpreters`.

>>> import atoll
>>> with atoll.create() as interp:
...     interp.call(pow, 2, 10)
1024
"""

import copyreg  # what crosses asks it; imported by the first call, it would tell a hook of audits, which may call

from ._atoll import (
    Area,
    AtomicInt,
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    ExecutionFailed,
    Interpreter,
    InterpreterError,
    InterpreterNotFoundError,
    InterpreterStuckError,
    Lock,
    LockOwnerLost,
    NotShareableError,
    Queue,
    ResourceLimitExceeded,
    RLock,
    Semaphore,
    SharedArray,
    SharedArrow,
    SharedArrowStream,
    SharedBuffer,
    SharedDict,
    SharedTensor,
    create,
    create_queue,
    freeze,
    freezing,
    frozen_memory,
    get_current,
    get_main,
    is_frozen,
    is_shareable,
    list_all,
    prewarm,
    register_shareable,
    select,
    share,
    timeout,
    trace,
    unregister_shareable,
)
from ._extension.loaded import Extension, KeptExtension, kept_extensions, loaded_extensions
from ._include import get_include
from ._install import install
from ._queues.names import (
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

TYPE_CHECKING = False  # loaded when it is first used: concurrent.futures and threading are slow to import
if TYPE_CHECKING:
    from ._pool.executor import InterpreterPoolExecutor
    from ._stats.metrics import metrics
    from ._stats.page import stats
    from ._supervisor.child import heartbeat
    from ._supervisor.supervised import ChildState, SupervisorEvent
    from ._supervisor.supervisor import Supervisor, SupervisorError
else:
    _LATER = {  # what is not needed by every interpreter, and where it is
        "ChildState": "_supervisor.supervised",
        "InterpreterPoolExecutor": "_pool.executor",
        "Supervisor": "_supervisor.supervisor",
        "SupervisorError": "_supervisor.supervisor",
        "SupervisorEvent": "_supervisor.supervised",
        "heartbeat": "_supervisor.child",
        "metrics": "_stats.metrics",
        "stats": "_stats.page",
    }

    def __getattr__(name):
        """Load what is loaded when it is first used, or a module of the package."""
        module = _LATER.get(name, name if name in _MODULES else None)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        found = importlib.import_module(f"{__name__}.{module}")
        if name in _LATER:
            found = globals()[name] = getattr(found, name)
        return found

    def __dir__():
        """Return the public names, those that are not loaded yet as well."""
        return sorted({*__all__, *_MODULES, *(name for name in globals() if name.startswith("__"))})


del TYPE_CHECKING, copyreg

for _function in (
    create,
    create_queue,
    freeze,
    freezing,
    frozen_memory,
    get_current,
    get_include,
    get_main,
    install,
    is_frozen,
    is_shareable,
    kept_extensions,
    list_all,
    loaded_extensions,
    prewarm,
    register_shareable,
    select,
    share,
    unregister_shareable,
):
    _function.__module__ = __name__
del _function

if get_current() == get_main():
    from ._interp import imports as _imports  # noqa: F401

_MODULES = ("futures", "interpreters")

__version__ = "0.1.0"

__all__ = [
    "UNBOUND",
    "UNBOUND_ERROR",
    "UNBOUND_REMOVE",
    "Area",
    "AtomicInt",
    "Barrier",
    "BoundedSemaphore",
    "ChildState",
    "Condition",
    "Event",
    "ExecutionFailed",
    "Extension",
    "Interpreter",
    "InterpreterError",
    "InterpreterNotFoundError",
    "InterpreterPoolExecutor",
    "InterpreterStuckError",
    "ItemInterpreterDestroyed",
    "KeptExtension",
    "Lock",
    "LockOwnerLost",
    "NotShareableError",
    "Queue",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "QueueNotFoundError",
    "QueueShutDown",
    "RLock",
    "ResourceLimitExceeded",
    "Semaphore",
    "SharedArray",
    "SharedArrow",
    "SharedArrowStream",
    "SharedBuffer",
    "SharedDict",
    "SharedTensor",
    "Supervisor",
    "SupervisorError",
    "SupervisorEvent",
    "create",
    "create_queue",
    "freeze",
    "freezing",
    "frozen_memory",
    "get_current",
    "get_include",
    "get_main",
    "heartbeat",
    "install",
    "is_frozen",
    "is_shareable",
    "kept_extensions",
    "list_all",
    "loaded_extensions",
    "metrics",
    "prewarm",
    "register_shareable",
    "select",
    "share",
    "stats",
    "timeout",
    "trace",
    "unregister_shareable",
]
