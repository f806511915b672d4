"""The three things that map() is made of, each alone."""

from __future__ import annotations

import itertools
from collections import deque

import pytest

from atoll._pool.chunks import CHUNK_BYTES, CHUNK_SECONDS, GROWTH, Sizer, Source, Window


class Sized:
    """Iterated by code of its own; its __len__ may refuse."""

    def __init__(self, error=None):
        self.error = error

    def __len__(self):
        if self.error:
            raise self.error
        return 3

    def __iter__(self):
        yield from "abc"


def ready(source, count):
    """Return the next items, as they are made ready."""
    count = source.take(count)
    items, at = source.ready
    return list(items[at : at + count])


def taken(source, count):
    """Take items and do away with them, as who sends them does."""
    items = ready(source, count)
    source.skip(len(items))
    return items


class TestSource:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: [1, 2, 3],
            lambda: {1: 0, 2: 0, 3: 0},
            lambda: {1, 2, 3},
            lambda: deque([1, 2, 3]),
            lambda: bytearray([1, 2, 3]),
        ],
    )
    def test_what_has_a_length_is_taken_at_once(self, make):
        items = make()
        source = Source((items,))
        items.clear()
        assert (source.total, source.settled) == (3, True)
        assert taken(source, 2) == [1, 2]
        assert not source.ended
        assert taken(source, 2) == [3]
        assert source.ended

    def test_what_cannot_change_is_not_copied(self):
        assert ready(Source((range(10**12),)), 2) == [0, 1]
        assert Source((range(10**12),)).total == 10**12

    def test_several(self):
        source = Source(([1, 2, 3], "ab"))
        assert (source.total, source.settled, source.star) == (2, True, True)
        assert ready(source, 5) == [(1, "a"), (2, "b")]

    def test_iterators_are_read_lazily(self):
        numbers = itertools.count()
        source = Source((numbers, "abc"))
        assert (source.total, source.settled) == (3, False)
        assert ready(source, 2) == [(0, "a"), (1, "b")]
        assert next(numbers) == 2

    def test_an_iterator_with_a_length_is_an_iterator(self):
        class Both(Sized):
            def __iter__(self):
                return self

            def __next__(self):
                return 1

        source = Source((Both(),))
        assert (source.total, source.settled) == (None, False)

    def test_everything_lazily(self):
        items = [1, 2]
        source = Source((items,), lazy=True)
        items.append(3)
        assert not source.settled
        assert ready(source, 9) == [1, 2, 3]

    @pytest.mark.parametrize("error", [TypeError("unknown"), NotImplementedError(), OverflowError()])
    def test_a_length_that_does_not_answer(self, error):
        source = Source((Sized(error),))
        assert (source.total, source.settled) == (None, False)
        assert ready(source, 9) == ["a", "b", "c"]

    def test_code_of_its_own_runs_at_once(self):
        source = Source((Sized(),))
        assert (source.total, source.settled) == (3, True)

    def test_error(self):
        def items():
            yield 1
            raise LookupError("broke")

        source = Source((items(),))
        assert taken(source, 5) == [1]
        assert source.ended
        assert isinstance(source.error, LookupError)

    def test_nothing_is_lost_by_ctrl_c(self):
        class Interrupted:
            numbers = iter([1, 2, None, 3, 4])

            def __iter__(self):
                return self

            def __next__(self):
                value = next(self.numbers)
                if value is None:
                    raise KeyboardInterrupt
                return value

        source = Source((Interrupted(),))
        with pytest.raises(KeyboardInterrupt):
            source.take(3)
        assert taken(source, 3) == [1, 2, 3]
        assert taken(source, 3) == [4]

    def test_what_was_not_sent_is_taken_again(self):
        source = Source(("abcd",))
        assert ready(source, 3) == ["a", "b", "c"]
        source.skip(1)
        assert ready(source, 1) == ["b"]
        assert ready(source, 4) == ["b", "c", "d"]
        assert not source.ended
        assert taken(source, 1) == ["b"]
        assert taken(source, 3) == ["c", "d"]
        assert source.ended

    def test_stopped(self):
        source = Source(("abcd",))
        source.take(2)
        source.stop(LookupError("one"))
        source.stop(LookupError("other"))
        assert source.ended
        assert ready(source, 2) == []
        assert str(source.error) == "one"

    def test_none(self):
        source = Source(())
        assert ready(source, 3) == []
        assert source.ended


class TestSizer:
    def make(self, **options):
        return Sizer(**{"fixed": None, "most": 1000, "workers": 2, "total": None} | options)

    def test_begins_with_one(self):
        assert self.make().next() == 1

    def test_grows_with_what_is_learnt(self):
        sizer = self.make()
        sizer.learn(CHUNK_SECONDS / 100, 1)
        assert sizer.next() == GROWTH
        sizer.learn(CHUNK_SECONDS * GROWTH / 100, GROWTH)
        assert sizer.next() == 100

    def test_shrinks_at_once(self):
        sizer = self.make()
        sizer.size = 500
        sizer.learn(CHUNK_SECONDS * 5, 10)
        assert sizer.next() == 2
        sizer.learn(1.0, 1)
        assert sizer.next() == 1

    def test_most(self):
        sizer = self.make(most=30)
        for _ in range(3):
            sizer.learn(0.0, 10)
        assert sizer.next() == 30
        sizer.hurry()
        assert sizer.next() == 30
        assert self.make(fixed=50, most=30).next() == 30

    def test_fixed(self):
        sizer = self.make(fixed=7, total=8)
        sizer.learn(0.0, 7)
        sizer.hurry()
        sizer.sent(7, 10 * CHUNK_BYTES)
        assert sizer.next() == 7

    def test_the_last_get_smaller(self):
        sizer = self.make(total=100)
        sizer.size = 1000
        sizes = []
        while sizer.count < 100:
            sizes.append(sizer.next())
            sizer.sent(sizes[-1], 1)
        assert sizes[0] == 25
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-4:] == [1] * 4

    def test_bytes(self):
        sizer = self.make()
        sizer.size = 500
        sizer.sent(2, CHUNK_BYTES // 5)
        assert sizer.next() == 10
        sizer.sent(1, 10 * CHUNK_BYTES)
        assert sizer.next() == 1

    def test_room(self):
        sizer = self.make()
        sizer.size = 10
        assert sizer.next(4) == 4
        assert sizer.next(0) == 0
        assert sizer.next(None) == 10

    def test_hurry(self):
        sizer = self.make()
        sizer.hurry()
        sizer.hurry()
        assert sizer.next() == 4


class Chunk:
    """Stands for a future."""

    def __init__(self, *parts, begun=False):
        self._parts = list(parts)
        self.begun = begun
        self.cancelled = False

    def cancel(self):
        self.cancelled = not self.begun
        return self.cancelled


def add(window, chunk, count):
    window.futures.append(chunk)
    window.added(count)


class TestWindow:
    def test_chunks(self):
        window = Window(2, None)
        add(window, Chunk(), 100)
        assert not window.is_full()
        assert window.room() is None
        add(window, Chunk(), 100)
        assert window.is_full()

    def test_items(self):
        window = Window(10, 5)
        add(window, Chunk(), 3)
        assert (window.is_full(), window.room()) == (False, 2)
        add(window, Chunk(), 2)
        assert (window.is_full(), window.room()) == (True, 0)
        window.given(1)
        assert (window.is_full(), window.room()) == (False, 1)

    def test_order(self):
        window = Window(9, None)
        parts = [Chunk(), Chunk()]
        first, second = Chunk(*parts), Chunk()
        add(window, first, 2)
        add(window, second, 1)
        assert window.oldest() is first
        window.divided()
        assert window.all() == [*parts, second]
        for left in (*parts, second):
            assert window.oldest() is left
            window.divided()
        assert len(window) == 0

    def test_cancel_reaches_parts(self):
        window = Window(9, None)
        inner = Chunk()
        middle = Chunk(inner, begun=True)
        add(window, Chunk(middle, begun=True), 1)
        add(window, Chunk(), 1)
        window.cancel()
        assert inner.cancelled
        assert not middle.cancelled
        assert window.newest().cancelled
        window.clear()
        assert window.all() == []
