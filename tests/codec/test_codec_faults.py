"""The codec: objects that change while they are sent, hostile bytes, leaks, buffers."""

from __future__ import annotations

import collections
import datetime
import enum
import gc
import operator
import random
import sys
import threading

import pytest

import atoll
from atoll import _atoll
from codec_samples import (
    UTC,
    Colour,
    Frozen,
    MyList,
    Plain,
    Point,
    Slotted,
    function,
    there_and_back,
)
from helpers import new


class Emptied(Exception):
    __slots__ = ("a", "b")

    def __getattr__(self, name):
        type(self).__slotnames__.clear()
        return 1


class Misleads:
    def __get__(self, obj, owner):
        if obj is None:
            raise ValueError("of the class there is none")
        return lambda: (int(obj),)


class Number(int):
    __getnewargs__ = Misleads()

    def __new__(cls, value):
        return int.__new__(cls, value)


class LooksAtAll:
    """Its making there looks at every object that there is, as tools that look for leaks do."""

    def __init__(self):
        self.seen = True

    def __setstate__(self, state):
        for one in gc.get_objects():
            if type(one) in (tuple, list):
                list(map(type, one))
        self.__dict__.update(state)


def keep(*items, **named):
    return items, named


class Reduced:
    def __reduce__(self):
        return keep, (Plain(a=1), LooksAtAll(), Plain(b=2))


class TestWhatIsHalfMadeIsNotFound:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: (Plain(a=1), LooksAtAll(), Plain(b=2)),
            lambda: [Plain(a=1), LooksAtAll(), Plain(b=2)],
            lambda: Point(Plain(a=1), LooksAtAll()),
            lambda: slice(Plain(a=1), LooksAtAll()),
            Reduced,
        ],
        ids=["tuple", "list", "named tuple", "slice", "arguments"],
    )
    def test_by_the_garbage_collector(self, make):
        assert type(there_and_back(make())) is type(make()) or make is Reduced

    def test_arguments_of_a_call(self):
        with atoll.create() as interp:
            items, named = interp.call(keep, (1, LooksAtAll()), a=1, b=LooksAtAll(), c=2)
        assert items[0][1].seen
        assert list(named) == ["a", "b", "c"]

    def test_values_of_a_shared_dict(self):
        shared = atoll.SharedDict()
        shared.update({i: LooksAtAll() for i in range(3)})
        assert [value.seen for value in shared.values()] == [True] * 3
        assert all(value.seen for _, value in shared.items())


class TestObjectsThatLie:
    def test_names_of_slots_go_while_an_exception_is_sent(self):
        assert there_and_back(Emptied("x")).args == ("x",)

    def test_what_a_value_is_made_of_cannot_be_told(self):
        assert there_and_back(Number(3)) == 3


class TestChangesMeanwhile:
    @pytest.mark.parametrize("change", ["clear", "append"])
    def test_list(self, change):
        items = ["a", None, "b"]

        class Changes:
            def __reduce__(self):
                items.clear() if change == "clear" else items.append(1)
                return int, ()

        items[1] = Changes()
        with pytest.raises(RuntimeError, match="list changed size"):
            _atoll._encode(items)

    def test_dict(self):
        items = {"a": 1}

        class Changes:
            def __reduce__(self):
                items.clear()
                gc.collect()
                return int, ()

        items["b"] = Changes()
        items["c"] = "d" * 100
        with pytest.raises(RuntimeError, match="dictionary changed size"):
            _atoll._encode(items)

    def test_objects_that_die_are_not_confused(self):
        class Makes:
            def __reduce__(self):
                return list, (["new"],)

        result = there_and_back([Makes() for _ in range(100)])
        assert result == [["new"]] * 100
        assert len({id(item) for item in result}) == 100

    def test_encoding_while_encoding(self):
        class Nested:
            def __reduce__(self):
                return _atoll._decode, (_atoll._encode(["inner", [1], (2,)]),)

        shared = ["shared"]
        result = there_and_back([shared, Nested(), shared])
        assert result == [["shared"], ["inner", [1], (2,)], ["shared"]]
        assert result[0] is result[2]


class TestHostileBytes:
    MESSAGES = [
        [1, 2.5, "abc", b"xyz", None, True, ("a", "b", "abc")],
        {"key": "value", "k2": ["value", {"n": 1}]},
        list(range(300)),
        [1.5] * 20,
        {1, 2, "a", frozenset([3, 4])},
        "\xe9日😀" * 5,
        2**200,
        range(5),
        slice(1, 2, 3),
        [Point(1, "x"), Frozen(1), Slotted(1, "q"), Colour.RED],
        datetime.datetime(2020, 1, 1, tzinfo=UTC),
        collections.OrderedDict(a=1, b=2),
        [Plain(a=1), Plain(a=2)],
        [["a"] * 3] * 3,
        function,
        (lambda x: x + 1),
    ]

    @staticmethod
    def mutate(data, rng):
        data = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(4)
            if kind == 0:
                del data[at:]
            elif kind == 1:
                data[at : at + 1] = bytes([rng.randrange(256)])
            elif kind == 2:
                data[at:at] = bytes([rng.randrange(256)])
            elif at < len(data):
                data[at] ^= 1 << rng.randrange(8)
        return bytes(data)

    @pytest.mark.parametrize("index", range(len(MESSAGES)))
    def test_mutations(self, index):
        rng = random.Random(index)
        data = _atoll._encode(self.MESSAGES[index])
        failures = 0
        for _ in range(600):
            try:
                _atoll._decode(self.mutate(data, rng))
            except Exception:
                failures += 1
        assert failures > 0
        assert there_and_back([1]) == [1]

    @pytest.mark.parametrize("index", range(len(MESSAGES)))
    def test_truncations(self, index):
        data = _atoll._encode(self.MESSAGES[index])
        for size in range(len(data)):
            with pytest.raises(ValueError, match="malformed message"):
                _atoll._decode(data[:size])
        with pytest.raises(ValueError, match="malformed message"):
            _atoll._decode(data + b"\x00")

    def test_lengths_beyond_the_end(self):
        for tag in range(256):
            for size in (b"\x7f", b"\xff\xff\xff\xff\x7f", b"\xff" * 9 + b"\x01", b"\xff" * 20):
                with pytest.raises(ValueError, match="malformed message"):
                    _atoll._decode(
                        bytes([19, 2, tag]) + size
                    )  # in a list of two, so that one value does not do

    def test_altered_code(self):
        data = bytearray(_atoll._encode(lambda x: x + 1))
        at = data.index(b"x")
        data[at] ^= 1
        with pytest.raises(ValueError, match="tampered"):
            _atoll._decode(bytes(data))


class TestLeaks:
    def test_memory_is_flat(self):
        makers = [
            lambda: [1, 2.5, "abc" * 5, (1, "x", [2])],
            lambda: Plain(a=[1]),
            lambda: datetime.datetime(2020, 1, 1),
            lambda: [len, OSError("x", 2), Colour.RED, Point(1, 2)],
            lambda: 2**300,
            lambda: collections.OrderedDict(a=[1]),
            lambda: lambda x: x + 1,
            lambda: slice(1, "a" * 3, [2]),
        ]
        lock = threading.Lock()

        def work():
            for make in makers:
                data = _atoll._encode(make())
                _atoll._decode(data)
                failures = 0
                for size in range(0, len(data), 3):
                    try:
                        _atoll._decode(data[:size])
                    except ValueError:
                        failures += 1
                try:
                    _atoll._encode([make(), lock])
                except atoll.NotShareableError:
                    failures += 1
                assert failures == len(range(0, len(data), 3)) + 1

        def blocks():
            gc.collect()
            return sys.getallocatedblocks()

        growths = []
        for _ in range(6):
            before = blocks()
            for _ in range(300):
                work()
            growths.append(blocks() - before)
        # Caches and free lists fill in some of the six; what is lost in each round is lost in all of them.
        assert min(growths) < 250, growths


class TestBuffers:
    """Out-of-band buffers of pickle protocol 5: copied once, into memory the receiver uses in place."""

    def test_there_and_back(self, interp):
        for size in (0, 1, 1000, 1 << 20):
            result = interp.call(operator.attrgetter("data"), Holder(bytes(size)))
            assert bytes(result) == bytes(size)
            assert result.readonly

    def test_writable_stays_writable(self, interp):
        data = bytearray(b"abc")
        result = interp.call(write_first, Holder(data))
        assert bytes(result.data) == b"Xbc" and not result.data.readonly
        assert data == b"abc"

    def test_outlives_its_sender(self):
        with new() as sender:
            result = sender.call(make_holder, 1000)
        assert bytes(result.data) == b"h" * 1000

    def test_not_contiguous(self):
        with pytest.raises(atoll.NotShareableError, match="not contiguous"):
            _atoll._encode(Holder(memoryview(b"abcdef")[::2]))


class Holder:
    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        import pickle

        return Holder, (pickle.PickleBuffer(self.data),)


def write_first(holder):
    holder.data[0] = ord("X")
    return holder


def make_holder(size):
    return Holder(b"h" * size)


class TestIsShareable:
    @pytest.mark.parametrize(
        "obj", [None, True, 1, 2**70, 1.5, "a", "\ud800", b"b", (), (1, ("a", None)), memoryview(b"a")]
    )
    def test_yes(self, obj):
        assert atoll.is_shareable(obj)

    @pytest.mark.parametrize(
        "obj",
        [..., NotImplemented, 1j, [], {}, set(), bytearray(), object(), int, len, function, (1, []), ((), ([],)),
         MyList(), Point(1, 2), Colour.RED, enum.IntEnum("E", "A").A],
    )  # fmt: skip
    def test_no(self, obj):
        assert not atoll.is_shareable(obj)

    def test_too_deep(self):
        obj = ()
        for _ in range(200_000):
            obj = (obj,)
        with pytest.raises(RecursionError):
            atoll.is_shareable(obj)
        while obj:
            (obj,) = obj
