"""InterpreterPoolExecutor.map()."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import threading
import time
import weakref

import pytest

import atoll
from atoll._pool import progress
from helpers import PATIENCE, Pipe, fail, identity, signal_and_wait


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(2) as pool:
        yield pool


def invert(number):
    return 1 / (number - 5)


def note(descriptor, number):
    import os

    os.write(descriptor, b"x")
    return number


class Thing:
    def __init__(self, number):
        self.number = number


class Counted:
    """An iterator that knows how much was taken from it."""

    def __init__(self, iterable):
        self.iterator = iter(iterable)
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        value = next(self.iterator)
        self.taken += 1
        return value


def test_order(pool):
    assert list(pool.map(identity, range(30_000))) == list(range(30_000))


def test_several_iterables(pool):
    assert list(pool.map(pow, range(100), itertools.repeat(2))) == [n * n for n in range(100)]


def test_shortest_counts(pool):
    assert list(pool.map(pow, [1, 2, 3], [1, 1])) == [1, 2]


def test_nothing(pool):
    assert list(pool.map(identity, [])) == []
    assert list(pool.map(identity)) == []


def test_generator(pool):
    assert list(pool.map(identity, (n for n in range(5000)))) == list(range(5000))


@pytest.mark.parametrize("chunksize", [1, 3, 1000])
def test_chunksize(pool, chunksize):
    assert list(pool.map(identity, range(100), chunksize=chunksize)) == list(range(100))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": "x"}, TypeError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": 2.0}, TypeError),
    ],
)
def test_bad_options(pool, options, error):
    with pytest.raises(error):
        pool.map(identity, range(4), **options)


def test_endless_in_bounded_memory(pool):
    source = Counted(itertools.count())
    results = pool.map(identity, source)
    assert list(itertools.islice(results, 1000)) == list(range(1000))
    assert source.taken < 1_000_000
    results.close()


def test_buffersize(pool):
    source = Counted(range(100))
    results = pool.map(identity, source, buffersize=4)
    assert source.taken == 4
    assert next(results) == 0
    assert source.taken <= 5
    assert list(results) == list(range(1, 100))


def test_begins_at_once(pool):
    with Pipe() as pipe:
        results = pool.map(note, itertools.repeat(pipe.writer), range(3))
        for _ in range(3):
            assert os.read(pipe.reader, 1) == b"x"
        assert list(results) == [0, 1, 2]


def test_a_sequence_is_worked_off_without_being_asked(pool):
    results = pool.map(identity, range(200))
    deadline = time.monotonic() + PATIENCE
    while results._sizer.count < 200 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert results._sizer.count == 200
    assert list(results) == list(range(200))


@pytest.mark.parametrize("make", [list, iter], ids=["list", "iterator"])
def test_dropped_results(make):
    queue = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(2) as pool:
        pool.map(queue_put, itertools.repeat(queue, 500), make(range(500)))
    assert queue.qsize() == 500


def test_after_shutdown():
    with atoll.InterpreterPoolExecutor(2) as pool:
        results = pool.map(identity, range(500))
        assert next(results) == 0
    assert list(results) == list(range(1, 500))


def test_executor_may_go():
    results = atoll.InterpreterPoolExecutor(2).map(identity, range(5000))
    assert list(results) == list(range(5000))
    while len(atoll.list_all()) > 1:  # nobody waits for the end of its workers
        time.sleep(0.001)


def test_exception_after_what_came_before(pool):
    results = pool.map(invert, range(100), chunksize=10)
    assert [next(results) for _ in range(5)] == [invert(n) for n in range(5)]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert isinstance(caught.value.__cause__, atoll.ExecutionFailed)
    assert list(results) == []


def test_unsendable_result(pool):
    results = pool.map(eval, ["1", "2", "__import__('threading').Lock()", "4"], chunksize=4)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(atoll.NotShareableError):
        next(results)


@pytest.mark.parametrize("chunksize", [None, 1, 4])
def test_unsendable_argument(pool, chunksize):
    """It is named as an argument of its call, whatever it was sent with."""
    items = [[n] for n in range(10)] + [[threading.Lock()]]
    results = pool.map(identity, items, chunksize=chunksize)
    assert [next(results) for _ in range(10)] == items[:10]
    with pytest.raises(atoll.NotShareableError, match=r"^args\[0\]\[0\]: _thread.lock "):
        next(results)
    with pytest.raises(atoll.NotShareableError, match=r"^args\[1\]\['a'\]: _thread.lock "):
        list(pool.map(max, range(3), [1, 2, {"a": threading.Lock()}], chunksize=chunksize))


def test_given_out_is_not_kept(pool):
    results = pool.map(Thing, range(8), chunksize=4)
    for _ in range(6):
        thing = weakref.ref(next(results))
        assert thing() is None


def test_closed_in_the_middle_of_a_chunk(pool):
    results = pool.map(identity, range(100), chunksize=10)
    assert next(results) == 0
    results.close()
    assert list(results) == []


def test_failing_iterable(pool):
    def items():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(pool.map(identity, items()))


def test_timeout(pool):
    with Pipe() as inside, Pipe() as leave:
        results = pool.map(signal_and_wait, [inside.writer], [leave.reader], timeout=0.05)
        inside.wait()
        with pytest.raises(TimeoutError):
            next(results)
        leave.signal()


def test_cancelled_by_shutdown():
    pool = atoll.InterpreterPoolExecutor(1)
    with Pipe() as inside, Pipe() as leave:
        pool.submit(signal_and_wait, inside.writer, leave.reader)
        inside.wait()
        results = pool.map(identity, range(100))
        pool.shutdown(wait=False, cancel_futures=True)
        leave.signal()
        with pytest.raises(concurrent.futures.CancelledError):
            list(results)
    pool.shutdown()


def test_progress(pool, capsys):
    assert list(pool.map(identity, range(50), progress=True)) == list(range(50))
    assert "50/50" in capsys.readouterr().err


@pytest.mark.parametrize("total, expected", [(50, "3/50 (6%) "), (None, "3 ")])
def test_progress_as_far_as_it_came(total, expected, capsys):
    results = progress._plain(iter(range(50)), total)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert capsys.readouterr().err.startswith(expected)


def test_broken_pool():
    with atoll.InterpreterPoolExecutor(1, initializer=fail, initargs=(ValueError,)) as pool:
        with pytest.raises(atoll.futures.BrokenInterpreterPool):
            list(pool.map(identity, range(10)))


def queue_put(queue, number):
    queue.put(number)
