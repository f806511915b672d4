"""Corrects what threading knows of an interpreter's threads; see src/py/interp/threading.c, which calls this.

Imported in workers when they import threading, so it imports nothing else.
"""

import threading

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_active: "dict[int, Any]" = threading._active  # type: ignore[attr-defined]
_HANDLES = ("_os_thread_handle", "_handle")  # a thread's, on CPython 3.14 and newer, on 3.13; 3.12 has a lock


def correct_main_thread(main_ident: int) -> None:
    """Say that the main thread is the one with this ident, on another one that has just imported threading."""
    main: Any = threading.main_thread()
    del _active[main.ident]
    main._ident = main_ident
    _active[main_ident] = main
    # The lock that is released when the importing thread ends: nobody waits for that, and it looks held as the main
    # thread's does.
    threading._shutdown_locks.discard(main._tstate_lock)  # type: ignore[attr-defined]
    main._tstate_lock = _held_lock()


def _held_lock() -> "threading.Lock":
    lock = threading.Lock()
    lock.acquire()
    return lock


def adopt(prefix: str, number: int) -> None:
    """Make this thread, which something else has started, one that threading knows by the name PREFIX_NUMBER.

    It is no daemon, as the threads of an executor are none, but nobody waits for it at the interpreter's end.
    """
    thread: Any = threading.Thread(name=f"{prefix}_{number}", daemon=False)
    thread._started.set()
    thread._set_ident()
    thread._set_native_id()
    for attribute in _HANDLES:
        if hasattr(thread, attribute):
            setattr(thread, attribute, threading._make_thread_handle(thread.ident))  # type: ignore[attr-defined]
            break
    else:
        thread._tstate_lock = _held_lock()
    with threading._active_limbo_lock:  # type: ignore[attr-defined]
        _active[thread.ident] = thread


def let_go(forget: bool) -> None:
    """Say that this thread, which was adopted, has ended; forget it, so that others may get its ident."""
    ident = threading.get_ident()
    thread = _active[ident]
    for attribute in _HANDLES:
        if hasattr(thread, attribute):
            getattr(thread, attribute)._set_done()
            break
    else:
        thread._tstate_lock.release()
        thread._stop()
    if forget:
        with threading._active_limbo_lock:  # type: ignore[attr-defined]
            del _active[ident]
