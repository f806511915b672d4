"""Random structures cross as pickle has them, with all that is shared in them, and random buffers as they are."""

from __future__ import annotations

import collections
import datetime
import decimal
import pickle
import random

import pytest

import atoll
from atoll import _atoll
from codec_samples import Colour, MyList, Plain, Point

NUMBERS = (0, 127, 128, -129, 2**15, 2**30 - 1, 2**30, -(2**31), 2**63 - 1, 2**63, -(10**50))
TEXTS = ("", "a", "ab", "é" * 3, "一", "\U0001f600", "\ud800", "x" * 255, "y" * 256)
LEAVES = (
    int, float, complex, str, bytes, bool, type(None), type(...), range, decimal.Decimal, datetime.date, Colour,
)  # fmt: skip


class Maker:
    """Makes structures whose parts are used again, also inside of themselves."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.made: list[object] = []

    def leaf(self) -> object:
        rng = self.rng
        return rng.choice((
            None, True, ..., 1.5, -0.0, float("inf"), 1 - 2j, Colour.RED, range(3), decimal.Decimal("1.5"),
            datetime.date(2020, 1, 2), bytes(rng.randrange(4)), rng.choice(NUMBERS), rng.choice(TEXTS),
        ))  # fmt: skip

    def key(self, depth: int) -> object:
        kind = self.rng.randrange(5) if depth else 0
        if kind == 3:
            return tuple(self.key(depth - 1) for _ in range(self.rng.randrange(4)))
        if kind == 4:
            return frozenset(self.key(depth - 1) for _ in range(self.rng.randrange(4)))
        return self.leaf()

    def keep(self, obj: object) -> object:
        self.made.append(obj)
        return obj

    def node(self, depth: int) -> object:
        rng = self.rng
        if self.made and rng.random() < 0.3:
            return rng.choice(self.made)
        if depth == 0:
            return self.keep(self.leaf())
        size = rng.randrange(5)
        kind = rng.randrange(10)
        new: object
        if kind == 0:
            new = self.keep([])
            new.extend(self.node(depth - 1) for _ in range(size))
        elif kind in (1, 2):
            new = self.keep({} if kind == 1 else collections.OrderedDict())
            for _ in range(size):
                new[self.key(2)] = self.node(depth - 1)
        elif kind == 3:
            new = self.keep(tuple(self.node(depth - 1) for _ in range(size)))
        elif kind == 4:
            new = self.keep({self.key(2) for _ in range(size)})
        elif kind == 5:
            new = self.keep(Plain())
            new.a, new.b = self.node(depth - 1), self.node(depth - 1)
        elif kind == 6:
            new = self.keep(Point(self.node(depth - 1), self.node(depth - 1)))
        elif kind == 7:
            new = self.keep(MyList())
            new.extend(self.node(depth - 1) for _ in range(size))
            new.more = self.node(depth - 1)
        elif kind == 8:
            new = self.keep(collections.deque(self.node(depth - 1) for _ in range(size)))
        else:
            new = [rng.randrange(-(10**n), 10**n) for n in range(1, 2 + size * 3)]
        return new


def shape(obj: object) -> list[object]:
    """What obj consists of: a type or value for each part, and a number for one that came before."""
    seen: dict[int, int] = {}
    held: list[object] = []
    out: list[object] = []

    def walk(part: object) -> None:
        kind = type(part)
        if kind in (
            int,
            float,
            complex,
            str,
            bytes,
            bool,
            type(None),
            type(...),
            range,
            decimal.Decimal,
            datetime.date,
            Colour,
        ):
            out.append((kind, repr(part)))
            return
        if id(part) in seen:
            out.append(seen[id(part)])
            return
        seen[id(part)] = len(seen)
        held.append(part)
        out.append(kind)
        if isinstance(part, dict):
            parts = [x for pair in part.items() for x in pair]
        elif isinstance(part, (set, frozenset)):
            out.append(sorted(map(repr, part)))
            parts = []
        else:
            parts = list(part) if isinstance(part, (list, tuple, collections.deque)) else []
        out.append(len(parts))
        for one in parts:
            walk(one)
        if hasattr(part, "__dict__"):
            walk(part.__dict__)

    walk(obj)
    return out


@pytest.mark.parametrize("start", range(0, 600, 100))
def test_structures(start):
    for seed in range(start, start + 100):
        obj = Maker(seed).node(4)
        expected = shape(pickle.loads(pickle.dumps(obj, 5)))
        assert shape(_atoll._decode(_atoll._encode(obj))) == expected, seed


def test_buffers(interp):
    """Shape, strides, format and contents, also of a slice of what was received, and sent home."""
    testbuffer = pytest.importorskip("_testbuffer", reason="CPython's own tests are not installed")
    rng = random.Random(1)
    queue = atoll.create_queue()
    for _ in range(200):
        shape_of = [rng.randrange(1, 4) for _ in range(rng.randrange(1, 4))]
        count = 1
        for n in shape_of:
            count *= n
        code = rng.choice("bBhHiIqQd")
        array = testbuffer.ndarray(list(range(count)), shape=shape_of, format=code)
        view = memoryview(array)
        if len(shape_of) == 1:
            view = view[:: rng.choice((1, -1, 2))]
        queue.put(view)
        received = queue.get()
        assert (received.shape, received.strides, received.format) == (view.shape, view.strides, view.format)
        assert received.tolist() == view.tolist()
        there, back = interp.call(listed, view)
        assert there == view.tolist() == back.tolist()


def listed(view: memoryview) -> tuple[object, memoryview]:
    return view.tolist(), view
