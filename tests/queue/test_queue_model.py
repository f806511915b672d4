"""A queue against a list that does the same: random operations by several interpreters, some of which are closed."""

from __future__ import annotations

import random
import select
from typing import Any

import pytest

import atoll
from helpers import new
from queue_helpers import no_queue_left_behind  # noqa: F401

UNBOUND, ERROR, REMOVE = atoll.UNBOUND, atoll.UNBOUND_ERROR, atoll.UNBOUND_REMOVE
SIZES = [0, 10, 400, 500, 520, 3_000, 20_000]  # around what is kept in the queue's chunks, and above
PUT = """
def put(items, unbound):
    unbound = unbound and getattr(atoll, unbound)
    try:
        queue.put_many(items, False, unbounditems=unbound)
    except atoll.QueueFull as error:
        return error.count
    return len(items)
"""


class Model:
    """The queue, the list, and the interpreters.  An entry of the list: [value, sender's id, what becomes of it]."""

    def __init__(self, seed: int) -> None:
        self.order = random.Random(seed)
        self.maxsize = self.order.choice([0, 0, 1, 3, 10, 100])
        self.default = self.order.choice([UNBOUND, ERROR, REMOVE])
        self.queue = atoll.create_queue(self.maxsize, unbounditems=self.default)
        self.list: list[list[Any]] = []
        self.interps: list[atoll.Interpreter] = []
        self.made = 0

    def room(self) -> int:
        """Return how many items can be put."""
        return max(self.maxsize - len(self.list), 0) if self.maxsize > 0 else 1_000_000

    def items(self) -> list[tuple[int, bytes]]:
        """Return a few new items."""
        items = []
        for _ in range(self.order.choice([0, 1, 1, 1, 2, 7])):
            self.made += 1
            items.append((self.made, b"x" * self.order.choice(SIZES)))
        return items

    def put(self) -> None:
        """Put items: here, one by one or at once, or in another interpreter."""
        items = self.items()
        override = self.order.choice([None, None, UNBOUND, ERROR, REMOVE])
        interp = self.order.choice([None, *self.interps])
        expected = min(len(items), self.room())
        if interp is None and self.order.random() < 0.5:
            count = 0
            try:
                for item in items:
                    self.queue.put_nowait(item, unbounditems=override)
                    count += 1
            except atoll.QueueFull:
                pass
        elif interp is None:
            try:
                self.queue.put_many(items, False, unbounditems=override)
                count = len(items)
            except atoll.QueueFull as error:
                count = error.count
        else:
            name = override and repr(override).rpartition(".")[2]
            interp.prepare_main(items=tuple(items))
            count = interp.call(eval, f"put(items, {name!r})")
        assert count == expected
        sender = 0 if interp is None else interp.id
        self.list += [[item, sender, override or self.default] for item in items[:count]]

    def get(self) -> None:
        """Get one item."""
        try:
            found = self.queue.get_nowait()
        except atoll.QueueEmpty:
            assert self.list == []
        except atoll.ItemInterpreterDestroyed:
            assert self.list.pop(0)[0] is ERROR
        else:
            self.check(found)

    def get_many(self) -> None:
        """Get several."""
        most = self.order.choice([None, 1, 2, 5, 50])
        try:
            found = self.queue.get_many(most, False)
        except atoll.QueueEmpty:
            assert self.list == []
        except atoll.ItemInterpreterDestroyed:
            assert self.list.pop(0)[0] is ERROR
        else:
            assert 1 <= len(found) <= (most or len(self.list))
            for value in found:
                self.check(value)
            assert len(found) == most or self.list == [] or self.list[0][0] is ERROR

    def get_elsewhere(self) -> None:
        """Get an item in another interpreter."""
        if self.interps and self.list and isinstance(self.list[0][0], tuple):
            self.check(self.order.choice(self.interps).call(eval, "queue.get_nowait()"))

    def check(self, found: Any) -> None:
        """Compare with the list's first."""
        expected = self.list.pop(0)[0]
        assert found is expected or (isinstance(expected, tuple) and found == expected)

    def make(self) -> None:
        """Make an interpreter that knows the queue."""
        if len(self.interps) < 2:
            self.interps.append(new())
            self.interps[-1].prepare_main(queue=self.queue)
            self.interps[-1].exec("import atoll\n" + PUT)

    def close(self) -> None:
        """Close an interpreter, now and then."""
        if not self.interps or self.order.random() < 0.5:
            return
        interp = self.interps.pop(self.order.randrange(len(self.interps)))
        number = interp.id
        interp.close()
        self.list = [entry for entry in self.list if entry[1] != number or entry[2] is not REMOVE]
        for entry in self.list:
            if entry[1] == number:
                entry[:2] = [entry[2], -1]

    def check_state(self) -> None:
        """Compare everything that can be seen from outside."""
        assert self.queue.qsize() == len(self.list)
        assert self.queue.empty() is (self.list == [])
        assert self.queue.full() is (self.room() == 0)
        assert atoll.select([self.queue], 0) == ([self.queue] if self.list else [])
        assert select.select([self.queue], [], [], 0)[0] == ([self.queue] if self.list else [])


@pytest.mark.parametrize("seed", range(15))
def test_random_operations(seed):
    model = Model(seed)
    operations = [
        *[model.put] * 5,
        *[model.get] * 3,
        model.get_many,
        model.get_elsewhere,
        model.make,
        model.close,
    ]
    for _ in range(200):
        model.order.choice(operations)()
        model.check_state()
    model.queue.shutdown()
    while model.list:
        model.get()
    with pytest.raises(atoll.QueueShutDown):
        model.queue.get()
    for interp in model.interps:
        interp.close()
