"""What stress/everything.py has interpreters do."""

from __future__ import annotations

import asyncio
import atexit
import importlib
import threading
import time
import weakref
from collections.abc import Generator
from typing import Any

import atoll

kept: dict[str, Any] = {}  # in whichever interpreter: what is left behind until its end


def spin(seconds: float) -> None:
    """Compute for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def fail(value: float) -> None:
    """Raise ValueError."""
    raise ValueError(value)


def echo(value: Any) -> Any:
    """Return what has come."""
    return value


def put_soon(queue: atoll.Queue, value: Any) -> None:
    """Put an item if there is room soon."""
    queue.put(value, timeout=0.05)


def get_soon(queue: atoll.Queue) -> Any:
    """Get an item if there is one soon."""
    return queue.get(timeout=0.05)


def use_dict(shared: atoll.SharedDict, key: int) -> Any:
    """Use a SharedDict."""
    shared[key] = (key, [key])
    shared.update({key + 1: None})
    list(shared.items())
    return shared.pop(key, None)


def hold(lock: Any, seconds: float) -> None:
    """Have a lock for a while."""
    if lock.acquire(timeout=0.1):
        try:
            time.sleep(seconds)
        finally:
            lock.release()


def keep_lock(lock: Any) -> None:
    """Have a lock for good."""
    lock.acquire(timeout=0.05)


def wait_for_condition(condition: atoll.Condition, seconds: float) -> None:
    """Wait for others, and wake them."""
    with condition:
        condition.wait(seconds)
        condition.notify_all()


def start_threads(queue: atoll.Queue, daemon: bool) -> None:
    """Leave threads behind."""

    def run() -> None:
        for _ in range(1_000_000 if daemon else 5):
            try:
                queue.get(timeout=0.01)
            except atoll.QueueError:
                pass

    for _ in range(2):
        threading.Thread(target=run, daemon=daemon).start()


def nest(leave: bool, queue: atoll.Queue) -> int:
    """Make an interpreter, and leave it with something to do."""
    interp = atoll.create()
    if not leave:
        with interp:
            return interp.call(len, "nested")
    kept["interpreter"] = interp
    interp.submit(queue.get, timeout=1)
    return 0


def use_pool() -> list[int]:
    """Use a pool."""
    with atoll.InterpreterPoolExecutor(2) as pool:
        return list(pool.map(abs, range(50)))


def load(name: str) -> Any:
    """Import a module, and freeze some of its names."""
    return atoll.freeze(dir(importlib.import_module(name)))


def change(buffer: atoll.SharedBuffer) -> atoll.SharedBuffer:
    """Write to shared memory."""
    memory = memoryview(buffer)
    memory[0] = (memory[0] + 1) % 256
    return buffer


def view(size: int) -> memoryview:
    """Return memory of this interpreter's."""
    return memoryview(bytearray(size))


def run_loop(seconds: float) -> None:
    """Use asyncio."""

    async def main() -> None:
        await asyncio.gather(*(asyncio.sleep(seconds) for _ in range(5)))

    asyncio.run(main())


def recurse() -> None:
    """Recurse without end."""
    recurse()


def leave_finalizers(queue: atoll.Queue) -> None:
    """Leave behind what runs when the interpreter ends."""

    class Last:
        def __del__(self) -> None:
            atoll.list_all()

    def generator() -> Generator[int]:
        try:
            while True:
                yield 1
        finally:
            atoll.get_current()

    last = kept["last"] = Last()
    last.itself = last  # type: ignore[attr-defined]
    kept["generator"] = generator()
    next(kept["generator"])
    here = atoll.get_current()
    kept["reference"] = weakref.ref(here, lambda _: atoll.list_all())
    atexit.register(put_at_exit, queue)


def put_at_exit(queue: atoll.Queue) -> None:
    """Put an item if there is room."""
    try:
        queue.put("the end", timeout=0.01)
    except atoll.QueueError:
        pass


def look() -> None:
    """Read everything there is to know."""
    atoll.stats()
    atoll.metrics()
    atoll.loaded_extensions()
    [repr(interp) for interp in atoll.list_all()]


def use_other(interp: atoll.Interpreter | None, how: str) -> None:
    """Call, interrupt or close another interpreter."""
    if interp is None:
        return
    match how:
        case "call":
            interp.call(echo, [1, how])
        case "submit":
            interp.submit(time.sleep, 0.02).cancel()
        case "interrupt":
            interp.interrupt()
        case _:
            interp.close(force=how == "force", timeout=0.2)
