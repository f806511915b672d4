"""Objects of many kinds for the tests of the codec."""

from __future__ import annotations

import argparse
import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import operator
import pathlib
import re
import sys
import types
import uuid

from atoll import _atoll


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


UTC = datetime.UTC
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
