"""Large bytes objects: lent by the sender, copied once by the receiver."""

from __future__ import annotations

import gc
import os
import sys
import time

import pytest

import atoll
from helpers import PATIENCE, Thread, ids, new

SIZES = [(64 << 10) - 1, 64 << 10, 1 << 20]


def make(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


def send(queue, size):
    queue.put(make(size))


def echo(data):
    return data


def length_and_ends(data):
    return len(data), data[:3], data[-3:]


@pytest.mark.parametrize("size", SIZES)
class TestTrips:
    def test_call(self, interp, size):
        data = make(size)
        assert interp.call(length_and_ends, data) == length_and_ends(data)
        assert interp.call(make, size) == data
        assert interp.call(echo, data) == data

    def test_in_a_structure(self, interp, size):
        """Once for each object, however often it occurs."""
        data = make(size)
        result = interp.call(echo, {"one": [data], "two": (data, 1)})
        assert result == {"one": [data], "two": (data, 1)}
        assert result["one"][0] is result["two"][0]

    def test_queue(self, queue, size):
        data = make(size)
        queue.put([data])
        assert queue.get() == [data]

    def test_released(self, interp, size):
        """The sender's object is let go of when the receiver has its copy, and when the message is dropped."""
        data = make(size)
        before = sys.getrefcount(data)
        assert interp.call(len, data) == size
        queue = atoll.create_queue()
        for _ in range(3):
            queue.put(data)
        queue.get()
        queue.shutdown(immediate=True)
        interp.call(len, b"")
        assert sys.getrefcount(data) == before

    def test_sender_closed_before_it_is_received(self, queue, size):
        with new() as sender:
            sender.call(send, queue, size)
            number = sender.id
        assert number not in ids()
        assert queue.get() is atoll.UNBOUND

    def test_sender_closed_afterwards(self, queue, size):
        with new() as sender:
            sender.call(send, queue, size)
            data = queue.get()
        gc.collect()
        assert data == make(size)

    def test_sender_closed_meanwhile(self, queue, size):
        """Whoever is faster: the item is whole, or gone."""
        data = make(size)
        for _ in range(8):
            sender = new()
            sender.call(send, queue, size)
            thread = Thread(queue.get)
            sender.close()
            assert thread.result() in (data, atoll.UNBOUND)


def test_a_result_is_let_go_of_at_once(interp):
    """Nobody may come to the interpreter again for a long time, so who has the result sees to it."""
    interp.call(len, b"")
    before = resident()
    result = interp.call(bytes, 100 << 20)
    assert len(result) == 100 << 20
    assert resident() < before + (150 << 20)
    del result
    assert resident() < before + (50 << 20)


def put_and_wait(queue, back, how):
    queue.put(b"x" * (100 << 20))
    if how == "get":
        back.get()
    elif how == "select":
        atoll.select([back])
    elif how == "put":
        full = atoll.create_queue(1)
        full.put(back)
        back.put(full)
        full.put(None)
    queue.put("done")


@pytest.mark.parametrize("how", ["get", "select", "put"])
def test_who_waits_lets_go_of_what_was_lent(interp, queue, how):
    """A server that has sent something and waits for more to do."""
    back = atoll.create_queue()
    before = resident()
    thread = Thread(interp.call, put_and_wait, queue, back, how)
    assert len(queue.get()) == 100 << 20
    deadline = time.monotonic() + PATIENCE
    while resident() > before + (50 << 20) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert resident() < before + (50 << 20)
    if how == "put":
        back.get().get()
    else:
        back.put(None)
    thread.result()
    assert queue.get() == "done"


def resident():
    """Return how many bytes of memory the process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(name="queue")
def make_queue():
    return atoll.create_queue()
