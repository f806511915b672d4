"""Time limits of calls into an interpreter whose GIL somebody else has."""

from __future__ import annotations

import os

import pytest

import atoll
from helpers import PATIENCE, Thread


def start_keeping(r, began):
    import ctypes
    import threading

    def keep_gil():
        """Wait in C for a byte, with the GIL."""
        buffer = ctypes.create_string_buffer(1)
        began.set()
        ctypes.PyDLL(None).read(r, buffer, 1)

    threading.Thread(target=keep_gil).start()


@pytest.fixture
def kept(fresh):
    """An interpreter whose GIL is given back a while after a time limit."""
    began = atoll.Event()
    r, w = os.pipe()
    starting = Thread(fresh.call, start_keeping, r, began)  # cannot come back meanwhile, perhaps
    assert began.wait(PATIENCE)
    yield fresh, lambda: (atoll.Event().wait(1), os.write(w, b"!"))
    starting.result()
    os.close(r)
    os.close(w)


def test_call(kept):
    interp, give_back = kept
    queue = atoll.create_queue()
    giving = Thread(give_back)
    with pytest.raises(TimeoutError), atoll.timeout(interp, 0.1):
        interp.call(queue.put, 1)
    giving.result()
    assert queue.empty()  # it was not made
    assert interp.call(pow, 2, 3) == 8


def test_begun_in_time(kept):
    """One that has time for that is made when the GIL is given back."""
    interp, give_back = kept
    queue = atoll.create_queue()
    giving = Thread(give_back)
    with atoll.timeout(interp, PATIENCE):
        interp.call(queue.put, 1)
    giving.result()
    assert queue.get_nowait() == 1
