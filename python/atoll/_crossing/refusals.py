"""What an error says of an object that cannot cross: which object it is, in the user's words, and what to do instead.

Called by ``atoll._atoll`` only, when something has been refused.
"""

from __future__ import annotations

import sys
from typing import Any

_LOCK = "it belongs to one interpreter: make it there, or use {}, which all share"
_QUEUE = "use atoll.create_queue()"
_POOL = "a pool stays where it was made: send it tasks and pass on their results, or make one there"
_FUTURE = "wait for it where it is, and send its result"
_FILE = "open it where it is used, by its name"
_PIPE = "send its descriptor, which is the same in all interpreters, and open that there"
_CONNECTION = "connect where it is used: a connection belongs to the interpreter that made it"
_TK = "a window belongs to the interpreter that made it: send what it is to show, through a queue"

# By module and name of a class, which may be a base of the object's.
_ADVICE = {
    ("_thread", "lock"): _LOCK.format("atoll.Lock"),
    ("_thread", "RLock"): _LOCK.format("atoll.RLock"),
    ("threading", "_RLock"): _LOCK.format("atoll.RLock"),
    ("threading", "Condition"): _LOCK.format("atoll.Condition"),
    ("threading", "Event"): _LOCK.format("atoll.Event"),
    ("threading", "Semaphore"): _LOCK.format("atoll.Semaphore"),
    ("threading", "Barrier"): _LOCK.format("atoll.Barrier"),
    ("multiprocessing.synchronize", "SemLock"): _LOCK.format("atoll.Lock"),
    ("multiprocessing.synchronize", "Condition"): _LOCK.format("atoll.Condition"),
    ("multiprocessing.synchronize", "Event"): _LOCK.format("atoll.Event"),
    ("asyncio.mixins", "_LoopBoundMixin"): "it belongs to one event loop: make it there",
    ("queue", "Queue"): _QUEUE,
    ("_queue", "SimpleQueue"): _QUEUE,
    ("multiprocessing.queues", "Queue"): _QUEUE,
    ("multiprocessing.queues", "SimpleQueue"): _QUEUE,
    ("concurrent.futures._base", "Executor"): _POOL,
    ("multiprocessing.pool", "Pool"): _POOL,
    ("concurrent.futures._base", "Future"): _FUTURE,
    ("_asyncio", "Future"): _FUTURE,
    ("asyncio.futures", "Future"): _FUTURE,
    ("asyncio.events", "AbstractEventLoop"): "make one there, with asyncio.run()",
    ("threading", "Thread"): "start threads where they run, or use Interpreter.call_in_thread()",
    ("threading", "local"): "it is of the threads of one interpreter: make it there",
    ("_thread", "_local"): "it is of the threads of one interpreter: make it there",
    ("_io", "_IOBase"): _FILE,
    ("tempfile", "_TemporaryFileWrapper"): _FILE,
    ("tempfile", "TemporaryDirectory"): "send its name",
    ("zipfile", "ZipFile"): _FILE,
    ("tarfile", "TarFile"): _FILE,
    ("posix", "ScandirIterator"): "send a list of the names",
    ("posix", "DirEntry"): "send its path",
    ("mmap", "mmap"): "send a memoryview of it",
    ("_socket", "socket"): "send its descriptor, from detach(), and make it there again: socket.socket(fileno=...)",
    ("_ssl", "_SSLContext"): "make it where it is used",
    ("_ssl", "_SSLSocket"): "connect where it is used",
    ("multiprocessing.connection", "_ConnectionBase"): _PIPE,
    ("select", "epoll"): _PIPE,
    ("selectors", "BaseSelector"): "make it where it is used",
    ("subprocess", "Popen"): "start the process where it is waited for, or send its pid",
    ("builtins", "generator"): "send what it yields, as a list, or the function that makes it",
    ("builtins", "coroutine"): "run it where it is, with asyncio.run()",
    ("builtins", "async_generator"): "iterate it where it is, and send what it yields",
    ("builtins", "frame"): "send text: traceback.format_stack()",
    ("builtins", "traceback"): "send text: traceback.format_tb()",
    ("weakref", "ReferenceType"): "send what it refers to",
    ("builtins", "weakref.ReferenceType"): "send what it refers to",
    ("weakref", "ProxyType"): "send what it refers to",
    ("re", "Match"): "send what it has found: match.group() or match.groups()",
    ("_hashlib", "HASH"): "send its digest()",
    ("logging", "Handler"): "set logging up there, or send records through a queue",
    ("sqlite3", "Connection"): _CONNECTION,
    ("sqlite3", "Cursor"): "send the rows: cursor.fetchall()",
    ("sqlite3", "Blob"): "read it where it is",
    ("_dbm", "dbm"): _FILE,
    ("_gdbm", "gdbm"): _FILE,
    ("shelve", "Shelf"): _FILE,
    ("_tkinter", "tkapp"): _TK,
    ("tkinter", "Misc"): _TK,
    ("tkinter", "Variable"): _TK,
    ("sqlalchemy.engine.base", "Engine"): _CONNECTION,
    ("sqlalchemy.ext.asyncio.engine", "AsyncEngine"): _CONNECTION,
    ("sqlalchemy.orm.session", "Session"): _CONNECTION,
}  # fmt: skip
# What such a class is usually called in the modules of those who talk to databases and services.
_USUAL = {
    "Connection": _CONNECTION,
    "AsyncConnection": _CONNECTION,
    "Cursor": "send the rows",
    "Client": _CONNECTION,
}

# What holds users' things: they know what they have put there.
_CONTAINERS = frozenset({
    "builtins", "collections", "contextvars", "_contextvars", "copyreg", "dataclasses", "enum", "functools",
    "itertools", "operator", "types", "typing", "weakref", "_weakrefset", "__main__", "__mp_main__",
})  # fmt: skip


def _advice(obj: object) -> str | None:
    """What to do about an object of a known kind, unless its class says how it is reduced."""
    reduced = False
    for cls in type(obj).__mro__:
        advice = _ADVICE.get((cls.__module__, cls.__qualname__))
        if advice is not None:
            return None if reduced else advice
        if not _is_library(cls):
            reduced = reduced or any(
                name in vars(cls) for name in ("__reduce__", "__reduce_ex__", "__getstate__")
            )
    return None


def _is_library(cls: type) -> bool:
    module = cls.__module__
    top = module.partition(".")[0] if isinstance(module, str) else "builtins"
    return top in sys.stdlib_module_names or top == "atoll"


def _usual(obj: object) -> str | None:
    advice = _USUAL.get(type(obj).__name__)
    if advice is None and hasattr(type(obj), "__next__"):
        return "send what it yields, as a list"
    return advice


def choose(objects: list[Any]) -> tuple[int, str | None]:
    """Which of nested objects, outermost first, an error is to name, and what it says of that one besides.

    The last is what was refused.  An object of a known kind, or of the standard library's making, is named as a
    whole: what is in it is nobody's business.
    """
    for index, obj in enumerate(objects):
        advice = _advice(obj)
        if advice is not None:
            return index, advice
        if _is_library(type(obj)) and type(obj).__module__ not in _CONTAINERS:
            return index, _usual(obj)
    return len(objects) - 1, _usual(objects[-1])
