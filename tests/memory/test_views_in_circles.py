"""Interpreters that see each other's memory: closed in any order, each of them ends."""

from __future__ import annotations

import itertools

import pytest

import atoll

MAKE = {
    "bytearray": "memoryview(bytearray(100_000))",
    "array": "memoryview(__import__('array').array('d', bytes(80_000)))",
    "ctypes": "memoryview((__import__('ctypes').c_char * 100_000)())",
    "mmap": "memoryview(__import__('mmap').mmap(-1, 100_000))",
    "python": "memoryview(Memory())",
}
PREPARE = """
class Memory:
    def __init__(self):
        self.data, self.released = bytearray(100_000), 0
    def __buffer__(self, flags):
        return memoryview(self.data)
    def __release_buffer__(self, view):
        self.released += 1

class Noisy:
    def __init__(self, queue):
        self.queue = queue
    def __del__(self):
        self.queue.put(len(seen) if seen is not None else None)
"""


def left(interps: list[atoll.Interpreter]) -> list[str]:
    """What is left of them."""
    ids = {interp.id for interp in interps}
    atoll.create().close()  # a sweep
    return [s["state"] for s in atoll.stats()["interpreters"] if s["id"] in ids]


def give_to_all(interps: list[atoll.Interpreter], what: str) -> None:
    """Each of them has a view of the memory of each."""
    for number, owner in enumerate(interps):
        owner.exec(PREPARE)
        owner.exec(f"own = {what}")
        queue = atoll.create_queue()
        owner.prepare_main(queue=queue)
        for other in interps:
            owner.exec("queue.put(own)")
            other.prepare_main(queue=queue)
            other.exec(f"seen_{number} = queue.get()")


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_closed_in_any_order(kind: str, order: tuple[int, ...]) -> None:
    interps = [atoll.create() for _ in range(3)]
    give_to_all(interps, MAKE[kind])
    for closed in order:
        interps[closed].close()
    assert left(interps) == []


def test_what_main_has_seen_keeps_one() -> None:
    """The view stays right, and keeps its owner alone; in the end nothing is left."""
    interps = [atoll.create() for _ in range(3)]
    give_to_all(interps, MAKE["bytearray"])
    queue = atoll.create_queue()
    interps[1].prepare_main(queue=queue)
    interps[1].exec("own[5] = 7; queue.put(own)")
    view = queue.get()
    for interp in interps:
        interp.close()
    assert left(interps) == ["zombie"]
    assert view[5] == 7
    assert len(view) == 100_000
    view.release()
    assert left(interps) == []


def test_finalizers_run_when_it_is_closed() -> None:
    """Not when the last view of its memory goes."""
    interp = atoll.create()
    queue = atoll.create_queue()
    interp.prepare_main(queue=queue)
    interp.exec(PREPARE + "seen = [1, 2]\nown = memoryview(bytearray(10))\nqueue.put(own)\nz = Noisy(queue)")
    view = queue.get()
    interp.close()
    assert queue.get(timeout=60) in (2, None)
    assert view.nbytes == 10
    view.release()
    assert left([interp]) == []
