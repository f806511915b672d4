"""map() with items and results that are numbers: they never are a list, whatever comes between them."""

from __future__ import annotations

import math
import operator

import pytest

import atoll
from atoll._pool.chunks import Source, Window
from helpers import PATIENCE

EDGES = [
    *(0, 1, -1, 127, 128, -128, -129, 32767, 32768, -32768, -32769),
    *(2**30 - 1, 2**30, -(2**30), 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63)),
]
FLOATS = [0.0, -0.0, 1.5, math.inf, -math.inf, 5e-324, 1e308]


class Number(int):
    pass


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(2) as pool:
        yield pool


def divide(number):
    return 12 // (number - 40)


def dear_from(number):
    """Take 4 ms from the tenth number on."""
    import time

    until = time.perf_counter() + 0.004 * (number >= 10)
    while time.perf_counter() < until:
        pass
    return -number


def plus_one(number):
    return number + 1


def same(values, others):
    """Return whether these are the same numbers: of the same types, signs of zeros included."""
    return [(type(value), repr(value)) for value in values] == [
        (type(other), repr(other)) for other in others
    ]


def send(pool, function, items):
    """Return the outcome of one chunk."""
    window, source = Window(9, None), Source((items,))
    future = pool._pool.submit_chunk(function, source, len(items), False, True, False, window)
    return future, future._outcome(PATIENCE)


MIXED = {
    "ints": EDGES,
    "small": [1, 2, -3],
    "large": [2**40, *EDGES],
    "beyond": [1, 2, 2**64, 3, -(2**64)],
    "beyond at once": [2**200, 1],
    "floats": FLOATS,
    "float after int": [1, 2, 3.5, 4],
    "int after float": [1.5, 2, 3.5],
    "bool after int": [1, 0, True, False, 5],
    "bool": [True, False, True],
    "none": [1.5, None, 2.5],
    "text": [1, 2, "three", 4],
    "text first": ["zero", 1, 2],
    "subclass": [1, 2, Number(3), 4],
    "one": [7],
}


@pytest.mark.parametrize("kind", MIXED)
@pytest.mark.parametrize("chunksize", [None, 3, 100])
def test_results(pool, kind, chunksize):
    values = MIXED[kind]
    places = range(len(values))
    assert same(pool.map(values.__getitem__, places, chunksize=chunksize), values)
    assert same(pool.map(abs_of, values, chunksize=chunksize), values)


def abs_of(value):
    return value


@pytest.mark.parametrize("items", [EDGES, FLOATS, EDGES[:1], tuple(EDGES), {1.5: 0, 2.5: 0}])
def test_items(pool, items):
    for chunksize in (None, 4, 100):
        assert same(pool.map(abs_of, items, chunksize=chunksize), list(items))
        assert same(pool.map(abs_of, iter(items), chunksize=chunksize, buffersize=5), list(items))


@pytest.mark.parametrize(
    "items",
    [range(0), range(1), range(3000), range(50, -50, -7), range(2**70, 2**70 + 9, 2), range(-3, 300_000, 5)],
)
@pytest.mark.parametrize("chunksize", [None, 7])
def test_ranges(pool, items, chunksize):
    assert list(pool.map(operator.neg, items, chunksize=chunksize)) == [-number for number in items]


def test_nan(pool):
    assert math.isnan(next(pool.map(abs_of, [math.nan])))


def test_several_iterables(pool):
    assert list(pool.map(operator.add, range(1000), range(1000))) == list(range(0, 2000, 2))
    assert list(pool.map(pow, range(50), [2] * 50)) == [number**2 for number in range(50)]


@pytest.mark.parametrize("make", [range, lambda n: list(range(n)), lambda n: iter(range(n))])
@pytest.mark.parametrize("chunksize", [None, 9, 100])
def test_an_exception_comes_after_the_results_before_it(pool, make, chunksize):
    got = []
    with pytest.raises(ZeroDivisionError):
        for value in pool.map(divide, make(60), chunksize=chunksize):
            got.append(value)
    assert got == [12 // (number - 40) for number in range(40)]


@pytest.mark.parametrize("items", [range(60), list(range(60))], ids=["range", "list"])
def test_what_is_left_of_a_chunk_is_handed_back(pool, items):
    future, (values, error) = send(pool, dear_from, items)
    assert error is None
    assert 10 <= len(values) < 60
    got, todo = list(values), future._parts
    assert todo
    while todo:
        part = todo.pop(0)
        values, error = part._outcome(PATIENCE)
        assert error is None
        got += values
        todo = part._parts + todo
    assert got == [-number for number in range(60)]


def test_a_row_is_a_sequence(pool):
    _, (values, error) = send(pool, plus_one, range(300))
    assert error is None
    assert type(values) is atoll._atoll._Row
    assert len(values) == 300
    assert (values[0], values[299], values[-1]) == (1, 300, 300)
    for index in (300, -301):
        with pytest.raises(IndexError):
            values[index]
    with pytest.raises(TypeError):
        type(values)()


def test_frozen_numbers_stay_what_they_are(pool):
    numbers = atoll.freeze([float(number) + 0.5 for number in range(300)])
    for got, sent in zip(pool.map(abs_of, numbers, chunksize=50), numbers, strict=True):
        assert got is sent


def test_results_outlive_the_pool():
    with atoll.InterpreterPoolExecutor(1) as pool:
        results = pool.map(plus_one, range(5000))
        assert next(results) == 1
    assert sum(results) == sum(range(2, 5001))


def test_threads_share_the_results(pool):
    from helpers import Thread

    results = pool.map(plus_one, range(20_000))
    threads = [Thread(lambda: list(results)) for _ in range(4)]
    got = sorted(value for thread in threads for value in thread.result())
    assert got == list(range(1, 20_001))
