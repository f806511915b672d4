"""Interrupts and time limits of code that closes another interpreter, in which something does not end."""

from __future__ import annotations

import os
import time

import pytest

import atoll
from closing_helpers import is_gone
from helpers import IS_X86, PATIENCE

LOOP = """
import atexit
def loop():
    while not over.is_set():
        pass
atexit.register(loop)
"""
# What close() waits for.
HOLDS = {
    "thread": "import threading\nthreading.Thread(target=over.wait).start()",
    "thread in a system call": "import os, threading\nthreading.Thread(target=os.read, args=(r, 1)).start()",
    "exit function that waits": "import atexit\natexit.register(over.wait)",
    "exit function that sleeps": "import atexit, time\natexit.register(time.sleep, 1000)",
    "exit function that loops": LOOP,
}
NEEDS_LEADING = ("thread", "thread in a system call", "exit function that sleeps")


@pytest.fixture(params=HOLDS)
def held(request):
    """An interpreter that does not end by itself before the test has."""
    if request.param in NEEDS_LEADING and not IS_X86:
        pytest.skip("threads are led out of system calls on x86-64 only")
    interp, over = atoll.create(), atoll.Event()
    r, w = os.pipe()
    interp.prepare_main(over=over, r=r)
    interp.exec(HOLDS[request.param])
    yield interp
    over.set()
    os.write(w, b"!")
    os.close(w)


def close(interp):
    interp.close()


def await_close(interp):
    """Wait until it has begun; a call into the interpreter would have it refused."""
    while interp.stats()["state"] != "closing":
        time.sleep(0.001)


def test_time_limit(fresh, held):
    with pytest.raises(TimeoutError), atoll.timeout(fresh, 1):
        fresh.call(close, held)
    assert is_gone(held)
    assert fresh.call(pow, 2, 3) == 8


def test_interrupt(fresh, held):
    future = fresh.submit(close, held)
    await_close(held)
    assert fresh.interrupt(ValueError("that is enough"))
    assert type(future.exception(PATIENCE)) is ValueError
    assert fresh.call(pow, 2, 3) == 8


def test_interrupt_of_a_call_further_out(fresh, held):
    """What is interrupted waits for another call, which closes."""

    def call(interp):
        import atoll

        with atoll.create() as other:
            other.call(close, interp)

    future = fresh.submit(call, held)
    await_close(held)
    assert future.interrupt()
    assert type(future.exception(PATIENCE)) is KeyboardInterrupt


def test_close_in_an_exit_function(fresh, held):
    """Two are wound down, one inside of the other."""

    def call(interp):
        import atexit

        import atoll

        other = atoll.create()
        other.call(atexit.register, close, interp)
        other.close()

    future = fresh.submit(call, held)
    await_close(held)
    assert future.interrupt()
    assert type(future.exception(PATIENCE)) is KeyboardInterrupt
    assert fresh.call(pow, 2, 3) == 8


def test_close_by_the_last_reference_in_a_result(fresh):
    """It goes when the result has been sent, where nothing else would be raised."""
    if not IS_X86:
        pytest.skip("threads are led out of system calls on x86-64 only")

    class Result:
        def __init__(self):
            import atexit
            import time

            import atoll

            self.interp = atoll.create()
            self.interp.call(atexit.register, time.sleep, 1000)

        def __reduce__(self):
            return int, ("8",)

    with pytest.raises(TimeoutError), atoll.timeout(fresh, 1):
        fresh.call(Result)
    assert fresh.call(pow, 2, 3) == 8
