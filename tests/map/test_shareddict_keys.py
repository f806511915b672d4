"""SharedDict's keys: which are equal, which are refused, what errors say of them."""

from __future__ import annotations

import collections
import enum
import math

import pytest

import atoll
from helpers import check_ended, new, run_python


class Color(enum.IntEnum):
    RED = 1


class Name(enum.StrEnum):
    RED = "red"


class Plain(enum.Enum):
    RED = 1


class Strict(str):
    def __eq__(self, other):
        return self is other

    __hash__ = str.__hash__


Pair = collections.namedtuple("Pair", "a b")

# Equal keys, in groups.
SAME = [
    [1, 1.0, True, 1 + 0j, Color.RED],
    [0, 0.0, -0.0, False, 0j, complex(-0.0, -0.0)],
    ["red", Name.RED, "".join(["r", "ed"])],
    [b"red"],
    [()],
    [(1, "a"), (True, "a"), (1.0, "a"), Pair(1, "a")],
    [((1,), "a")],
    [(1, ("a",))],
    [("1", "a")],
    [None],
    ["None"],
    [2**63, float(2**63)],
    [-(2**63) - 1],
    [-(2**63), -(2.0**63)],
    [255],
    [-1],
    [256],
    [2**64],
    [2**1000, 2.0**1000],
    [0.5],
    [math.inf],
    [-math.inf],
    [1j],
    [frozenset({1, "a"}), frozenset({"a", 1.0})],
    [frozenset({frozenset(), "a"})],
    ["\xe9\u20ac\U0001f600"],
    ["\ud800"],
    [""],
    [b""],
    ["\0"],
    ["x" * 200],
    [("x" * 5000,)],
]


def test_keys_are_equal_as_in_a_dict():
    shared, plain = atoll.SharedDict(), {}
    for group in SAME:
        for key in group:
            assert key not in shared, key
        for key in group:
            shared[key] = plain[key] = repr(key)
        for key in group:
            assert shared[key] == plain[key], key
        assert len(shared) == len(plain)
    assert shared.keys() == list(plain), "in the order of their coming, and equal"
    assert shared.copy() == plain
    assert dict(shared) == plain
    with new() as interp:
        assert interp.call(lambda shared: shared.items(), shared) == shared.items() == list(plain.items())


def test_not_a_number_is_one_key():
    shared = atoll.SharedDict()
    shared[math.nan] = 1
    assert shared[float("nan")] == shared[-math.nan] == 1
    assert math.isnan(shared.keys()[0])


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ([], "key: list"),
        ({}, "key: dict"),
        (object(), "key: object"),
        ((1, (2, [3])), r"key\[1\]\[1\]: list"),
        (frozenset({(1, object)}), r"key\{\.\.\.\}\[1\]: type"),
        (Plain.RED, "key: Plain"),
        (Strict("a"), "key: Strict"),
    ],
)
def test_what_cannot_be_a_key_is_named(key, path):
    shared = atoll.SharedDict()
    for use in (
        lambda: shared.get(key),
        lambda: shared[key],
        lambda: shared.set(key, 1),
        lambda: shared.pop(key, None),
        lambda: shared.setdefault(key, "x"),
        lambda: shared.compare_and_set(key, 1, 2),
        lambda: shared.add(key),
        lambda: key in shared,
    ):
        with pytest.raises(atoll.NotShareableError, match=rf"^{path} cannot be a key of a SharedDict"):
            use()
    assert len(shared) == 0


def test_deep_keys_end_with_an_error():
    key: tuple[object, ...] = ()
    for _ in range(100_000):
        key = (key,)
    with pytest.raises(RecursionError):
        atoll.SharedDict().get(key)


def test_error_about_a_deep_key_names_it():
    """Its path is as long as the key is deep, and the stack nearly used up."""
    code = """
        import atoll
        for depth in range(10_000, 60_000, 5_000):
            key = []
            for _ in range(depth):
                key = (key,)
            try:
                atoll.SharedDict()[key] = 1
            except atoll.NotShareableError as error:
                assert str(error).startswith("key" + "[0]" * depth + ": list cannot be a key"), str(error)[-100:]
            except RecursionError:
                break
    """
    check_ended(run_python(code), clean=True)


def test_deep_key_comes_back_where_there_is_room_for_it():
    code = """
        import sys, atoll
        key = ()
        for _ in range(300):
            key = (key,)
        shared = atoll.SharedDict()
        shared[key] = 1
        sys.setrecursionlimit(10**6)
        tries = []

        def descend(then):
            try:
                return next(map(descend, [then]))
            except RecursionError:
                return then()

        def list_it():
            tries.append(1)
            return shared.keys()

        assert descend(list_it) == [key]
        assert len(tries) > 1, "nothing said that the stack was used up"
    """
    check_ended(run_python(code), clean=True)


class Shown(frozenset):
    """Compares as a frozenset does, but shows something else to those who go through it."""

    def __iter__(self):
        return iter([9])


def test_set_is_what_is_in_it():
    shared = atoll.SharedDict()
    shared[Shown({1, 2})] = "a"
    assert {Shown({1, 2}): "a"} == {frozenset({1, 2}): "a"}
    assert shared.items() == [(frozenset({1, 2}), "a")]
    assert shared[frozenset({1, 2})] == shared[Shown({2, 1})] == "a"


@pytest.mark.parametrize("key", [("user", 17), (), None, 5, "a"])
def test_key_error_has_the_key(key):
    shared = atoll.SharedDict()
    for use in (shared.__getitem__, shared.__delitem__, shared.pop, {}.__getitem__):
        with pytest.raises(KeyError) as caught:
            use(key)
        assert caught.value.args == (key,)
