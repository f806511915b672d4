"""The codec: objects to messages and back."""

from __future__ import annotations

import argparse
import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import gc
import itertools
import operator
import pathlib
import random
import re
import sys
import threading
import types
import uuid

import pytest

import atoll
from atoll import _atoll
from helpers import new


def there_and_back(obj):
    return _atoll._decode(_atoll._encode(obj))


class Colour(enum.Enum):
    RED = 1
    GREEN = "g"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


Point = collections.namedtuple("Point", "x y", defaults=[0])


@dataclasses.dataclass
class Record:
    name: str
    parts: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    number: int


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("a", "__b", "__dict__")

    def __init__(self, a, b):
        self.a = a
        self.__b = b

    def b(self):
        return self.__b


class WithState:
    def __getstate__(self):
        return 5

    def __setstate__(self, state):
        self.state = state + 1


class WithArguments:
    def __new__(cls, a, *, b):
        self = object.__new__(cls)
        self.given = (a, b)
        return self

    def __getnewargs_ex__(self):
        return self.given[:1], {"b": self.given[1]}


class MyList(list):
    pass


class MyDict(dict):
    pass


class Raises:
    def __init__(self, exc):
        self.exc = exc

    def __reduce__(self):
        raise self.exc


def set_state(obj, state):
    obj.state = ("set", state)


class WithSetter:
    def __reduce__(self):
        return WithSetter, (), 7, None, None, set_state


def function(x, y=1):
    return helper(x) + y


def helper(x):
    return x


UTC = datetime.timezone.utc
VALUES = [
    None, True, False, ..., NotImplemented,
    0, 1, -1, 127, 128, -128, -129, 2**15, 2**30, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63), 2**63, 2**64,
    -(2**64), 2**1000, -(2**1000),
    0.0, -1.5, float("inf"), 1j, -0.5 + 2j,
    "", "a", "\xe9", "abc", "\xe9t\xe9", "日本", "😀x", "\ud800", "a" * 255, "a" * 256, "\xe9" * 300, "x\0y",
    b"", b"a", b"ab" * 300, bytearray(), bytearray(b"xyz"),
    (), (1,), ("a", 2, None), [], [1], [None, "a", 1], {}, {"a": 1}, {1: "b", (1, 2): [3], None: 0},
    set(), {1, "a"}, frozenset(), frozenset([1, (2, 3)]),
    range(3), range(0, 2**70, 3), slice(1, 2, 3), slice(None), slice("a", [1]),
    datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5, 6), datetime.datetime(2020, 1, 2, tzinfo=UTC),
    datetime.time(1, 2, 3, 4, fold=1), datetime.timedelta(1, 2, 3), UTC,
    datetime.timezone(datetime.timedelta(hours=2), "x"),
    decimal.Decimal("1.50"), decimal.Decimal("-Infinity"), uuid.UUID(int=5), fractions.Fraction(1, 3),
    collections.OrderedDict([(2, 1), (1, 2)]), collections.deque([1, 2], 5), collections.Counter("hello"),
    collections.defaultdict(list, {1: [2]}), array.array("i", [1, 2, 3]), types.SimpleNamespace(x=1, y=[2]),
    re.compile("a+", re.I), re.I | re.M, pathlib.PurePosixPath("/a/b"), argparse.Namespace(a=1),
    Colour.RED, Colour.GREEN, Access.READ, Access.READ | Access.WRITE, Point(1, 2), Point(1),
    Record("a", [1]), Frozen(3), MyList([1, 2]), MyDict(a=1),
    len, sys.exit, function, Plain, Colour, Point, int, Exception, type(None), type(...), type(NotImplemented),
    sys, collections.abc, str.upper, list[int], int | str, operator.itemgetter, dict.fromkeys,
]  # fmt: skip


class TestValues:
    @pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
    def test_round_trip(self, value):
        result = there_and_back(value)
        assert type(result) is type(value)
        assert result == value

    @pytest.mark.parametrize("value", [None, True, ..., NotImplemented, int, len, Colour.RED, function, sys, ()])
    def test_what_there_is_one_of_stays_itself(self, value):
        assert there_and_back([value])[0] is value

    def test_nan(self):
        assert there_and_back(float("nan")) != 0.0
        assert str(there_and_back([float("nan"), 1.0, 2.0])) == "[nan, 1.0, 2.0]"

    def test_negative_zero(self):
        assert str(there_and_back([-0.0, 1.0, -0.0, -0.0])) == "[-0.0, 1.0, -0.0, -0.0]"

    @pytest.mark.parametrize("size", [2, 3, 10, 300, 70_000])
    @pytest.mark.parametrize(
        "numbers",
        [
            [1, -1, 127],
            [-128, 127],
            [128, -129],
            [32767, -32768],
            [2**20],
            [2**30 - 1, -(2**30)],
            [2**40, 1],
            [2**63 - 1, -(2**63)],
            [2**64, 1],
            [1.5, -2.25],
            [1, 1.5],
            [True, 1],
            [1, True],
            [1, None],
        ],
    )
    def test_runs_of_numbers(self, numbers, size):
        values = list(itertools.islice(itertools.cycle(numbers), size))
        for container in (list, tuple):
            result = there_and_back(container(values))
            assert result == container(values)
            assert [type(x) for x in result] == [type(x) for x in values]

    def test_set_order_does_not_matter(self):
        assert there_and_back([{i, str(i)} for i in range(100)]) == [{i, str(i)} for i in range(100)]

    def test_slots_and_dict(self):
        obj = Slotted(1, 2)
        obj.c = 3
        result = there_and_back(obj)
        assert (result.a, result.b(), result.c) == (1, 2, 3)

    def test_unset_slot(self):
        obj = Slotted.__new__(Slotted)
        assert not hasattr(there_and_back(obj), "a")

    def test_state_hooks(self):
        assert there_and_back(WithState()).state == 6
        assert there_and_back(WithArguments(1, b=2)).given == (1, 2)
        assert there_and_back(WithSetter()).state == ("set", 7)

    def test_attributes_of_subclasses(self):
        obj = MyList([1])
        obj.extra = "e"
        result = there_and_back(obj)
        assert result == [1] and result.extra == "e"

    def test_exceptions(self):
        result = there_and_back(KeyError("a", 1))
        assert type(result) is KeyError and result.args == ("a", 1)
        exc = OSError(2, "no", "file")
        assert str(there_and_back(exc)) == str(exc)

    def test_partial_and_method(self):
        assert there_and_back(functools.partial(int, base=2))("101") == 5
        assert there_and_back(Point(1, 2)._asdict)() == {"x": 1, "y": 2}

    def test_code(self):
        code = compile("x = 41 + 1", "<test>", "exec")
        namespace = {}
        exec(there_and_back(code), namespace)
        assert namespace["x"] == 42


class TestShape:
    def test_shared_objects(self):
        for shared in ([1], {"a": 1}, {1}, bytearray(b"x"), Plain(a=1), (1, [2]), "a string", b"bytes", 2**70 + 0.5):
            a, b = there_and_back([shared, shared])
            assert a is b or isinstance(shared, float)

    def test_list_in_itself(self):
        items = [1]
        items.append(items)
        result = there_and_back(items)
        assert result[1] is result

    def test_dict_in_itself(self):
        items = {}
        items["self"] = items
        result = there_and_back(items)
        assert result["self"] is result

    def test_instance_in_itself(self):
        obj = Plain(items=[])
        obj.items.append({"me": obj})
        result = there_and_back(obj)
        assert result.items[0]["me"] is result

    def test_tuple_in_itself(self):
        def make():
            items = []
            outer = (items, items)
            items.append(outer)
            return outer

        result = there_and_back(make())
        assert result[0] is result[1] and result[0][0] is result

    def test_frozenset_through_an_instance(self):
        obj = Plain()
        obj.members = frozenset([obj])
        result = there_and_back(obj.members)
        (member,) = result
        assert member.members is result

    def test_reduction_through_its_arguments(self):
        exc = ValueError()
        exc.args = ([exc],)
        result = there_and_back(exc)
        assert result.args[0][0] is result

    def test_container_subclass_in_itself(self):
        items = MyList()
        items.append(items)
        result = there_and_back(items)
        assert result[0] is result and type(result) is MyList

    def test_new_strings_of_static_types_are_not_mixed_up(self):
        types_ = [int, float, dict, list, set, tuple, str, bytes, zip, map, filter, reversed, KeyError, IndexError]
        assert there_and_back(types_ * 2) == types_ * 2

    def test_module_and_class_of_one_name(self):
        value = [datetime.datetime(2020, 1, 1), "datetime", datetime.datetime, datetime]
        assert there_and_back(value) == value

    def test_arguments_share_one_memo(self, interp):
        shared = [1]
        assert interp.call(operator.is_, shared, shared)
        assert interp.call(operator.is_not, [1], shared)


class TestSizes:
    def test_a_million_items(self):
        for values in (list(range(1_000_000)), ["x"] * 1_000_000, [None, 1] * 500_000):
            assert there_and_back(values) == values

    def test_a_hundred_megabytes(self):
        text = "x" * 100_000_000
        assert there_and_back(text) == text

    def test_depth(self):
        items = []
        for _ in range(500):
            items = [items]
        assert there_and_back(items) == items

    @pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {"a": x}, lambda x: Plain(a=x)])
    def test_too_deep(self, wrap):
        items = None
        for _ in range(200_000):
            items = wrap(items)
        with pytest.raises(RecursionError):
            _atoll._encode(items)
        while items is not None:  # taken apart without recursion
            items = next(iter(items.__dict__.values() if isinstance(items, Plain) else
                              items.values() if isinstance(items, dict) else items))  # fmt: skip

    def test_too_deep_to_receive(self):
        data = b"\x13\x01" * 1_000_000 + b"\x00"
        assert _atoll._encode([[None]]) == b"\x93\x01\x13\x01\x00"  # a list of one, remembered; a list of one
        with pytest.raises(RecursionError):
            _atoll._decode(data)


class TestRefusals:
    @pytest.fixture(autouse=True)
    def without_cloudpickle(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cloudpickle", None)

    @staticmethod
    def refused(obj):
        """What a fresh interpreter's codec, which has not met cloudpickle, says of obj."""
        with pytest.raises(atoll.NotShareableError) as caught:
            _atoll._encode(obj)
        return caught.value

    @pytest.mark.parametrize(
        ("make", "path"),
        [
            (lambda lock: lock, "obj"),
            (lambda lock: [1, lock], "obj[1]"),
            (lambda lock: (lock,), "obj[0]"),
            (lambda lock: {"a": [lock]}, "obj['a'][0]"),
            (lambda lock: {1: {2: lock}}, "obj[1][2]"),
            (lambda lock: {"k" * 100: lock}, "obj['" + "k" * 36 + "...]"),
            (lambda lock: {lock}, "obj{…}"),
            (lambda lock: {lock: 1}, "obj{…}"),
            (lambda lock: Plain(lock=lock), "obj.lock"),
            (lambda lock: [Plain(a=Plain(b={"c": lock}))], "obj[0].a.b['c']"),
            (lambda lock: Slotted(lock, 1), "obj.a"),
            (lambda lock: Record("a", [lock]), "obj.parts[0]"),
            (lambda lock: Point(1, lock), "obj[1]"),
            (lambda lock: ValueError("a", lock), "obj.args[1]"),
            (lambda lock: collections.deque([lock]), "obj[0]"),
            (lambda lock: collections.OrderedDict(a=lock), "obj['a']"),
            (lambda lock: slice(None, lock), "obj.stop"),
        ],
    )
    def test_path(self, make, path):
        exc = self.refused(make(threading.Lock()))
        assert str(exc) == f"{path}: _thread.lock is not shareable"
        assert isinstance(exc.__cause__, TypeError)

    def test_path_in_a_call(self, interp):
        lock = threading.Lock()
        for call, path in [
            (lambda: interp.call(print, 1, {"model": Plain(lock=lock)}), "args[1]['model'].lock"),
            (lambda: interp.call(print, sep=[lock]), "kwargs['sep'][0]"),
            (lambda: interp.call(functools.partial(print, lock)), "callable"),
        ]:
            with pytest.raises(atoll.NotShareableError) as caught:
                call()
            assert str(caught.value).startswith(path)
            assert str(caught.value).endswith(": _thread.lock is not shareable")

    def test_exception_of_a_hook(self):
        exc = self.refused([Raises(ZeroDivisionError("z"))])
        assert str(exc) == f"obj[0]: {__name__}.Raises is not shareable"
        assert isinstance(exc.__cause__, ZeroDivisionError)

    @pytest.mark.parametrize("kind", [MemoryError, RecursionError, KeyboardInterrupt, SystemExit])
    def test_exceptions_that_pass(self, kind):
        with pytest.raises(kind):
            _atoll._encode([Raises(kind())])

    @pytest.mark.parametrize("value", [5, (), (int,), (int, 5), (5, ()), (int, (), 0, 0, 0, 0, 0)])
    def test_wrong_reductions(self, value):
        class Wrong:
            def __reduce__(self):
                return value

        assert "__reduce__" in str(self.refused(Wrong()))

    def test_generator_file_and_frame(self):
        for obj in ((i for i in ()), sys.stdout, sys._getframe(), types.MappingProxyType({})):
            self.refused(obj)

    def test_local_functions_and_classes(self):
        number = 5

        def closure():
            return number

        class Local:
            pass

        for obj in (closure, Local, Local(), lambda: helper(1)):
            self.refused(obj)


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
                    _atoll._decode(bytes([19, 2, tag]) + size)  # in a list of two, so that one value does not do

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

        for _ in range(20):
            work()
        before = blocks()
        for _ in range(1000):
            work()
        assert blocks() - before < 800  # free lists come and go; a block lost in each round would be 1000


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
