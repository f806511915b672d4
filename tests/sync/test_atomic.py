"""AtomicInt between interpreters."""

from __future__ import annotations

import operator

import pytest

import atoll
from helpers import new

MOST = 2**63 - 1


def test_operations():
    number = atoll.AtomicInt(5)
    assert number.add(3) == 8
    assert number.add() == 9
    assert number.fetch_add(2) == 9
    assert number.sub(1) == 10
    assert number.fetch_sub() == 10
    assert number.exchange(-4) == 9
    assert not number.compare_exchange(9, 1)
    assert number.compare_exchange(expected=-4, value=7)
    number.store(42)
    assert (number.load(), int(number), operator.index(number), repr(number)) == (42, 42, 42, "AtomicInt(42)")
    assert [*range(43)][number] == 42
    assert bool(number)
    assert not atoll.AtomicInt()


def test_in_place_operators_keep_the_object():
    number = same = atoll.AtomicInt()
    number += 5
    number -= 2
    assert number is same
    assert number.load() == 3
    with pytest.raises(TypeError):
        number *= 2
    with pytest.raises(TypeError):
        number += 1.5
    with pytest.raises(TypeError):
        number + 1
    assert same.load() == 3


def test_never_wraps():
    number = atoll.AtomicInt(MOST)
    for change in (
        lambda: number.add(),
        lambda: number.add(2**70),
        lambda: number.sub(-1),
        lambda: number.sub(-MOST - 1),
        lambda: number.store(2**63),
        lambda: number.compare_exchange(MOST, 2**64),
    ):
        with pytest.raises(OverflowError, match="64 bits"):
            change()
        assert number.load() == MOST
    number.store(-1)
    assert number.sub(-MOST - 1) == MOST  # which has no opposite
    with pytest.raises(OverflowError):
        atoll.AtomicInt(-(2**63) - 1)
    assert atoll.AtomicInt(-(2**63)).load() == -(2**63)


LEAST = -MOST - 1
EDGES = sorted({edge + off for edge in (0, LEAST, MOST, 2**64, -(2**64), 2**65) for off in (-2, -1, 0, 1, 2)})


@pytest.mark.parametrize("value", [edge for edge in EDGES if LEAST <= edge <= MOST])
def test_changes_by_what_the_value_has_room_for(value):
    """Also by more than 64 bits with a sign hold."""
    number = atoll.AtomicInt()
    for change in EDGES:
        for method, after in ((number.add, value + change), (number.sub, value - change)):
            number.store(value)
            if LEAST <= after <= MOST:
                assert method(change) == after == number.load()
            else:
                with pytest.raises(OverflowError, match="64 bits"):
                    method(change)
                assert number.load() == value


def test_wrong_arguments():
    number = atoll.AtomicInt()
    for wrong in (
        lambda: number.add("1"),
        lambda: number.add(1, 2),
        lambda: number.store(1.5),
        lambda: number.wait(),
    ):
        with pytest.raises(TypeError):
            wrong()


def add_up(number, times):
    for _ in range(times):
        number += 1


def test_no_addition_is_lost():
    number = atoll.AtomicInt()
    with new() as one, new() as two:
        threads = [interp.call_in_thread(add_up, number, 5000) for interp in (one, two)]
        add_up(number, 5000)
        for thread in threads:
            thread.join(60)
        assert number.load() == 15000
        assert one.call(lambda number: number, number) is number


def test_waits_for_a_change():
    number = atoll.AtomicInt()

    def answer(number):
        for _ in range(20):
            assert number.wait(number.load() // 2 * 2, 60)  # until it is odd
            number.add()

    with new() as interp:
        thread = interp.call_in_thread(answer, number)
        for turn in range(1, 40, 2):
            number.add()
            assert number.wait(turn, 60)
        thread.join(60)
        assert number.load() == 40
    assert number.wait(40, 0.001) is False
    assert number.wait(39) is True
    assert number.wait(40, timeout=0) is False
