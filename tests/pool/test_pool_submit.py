"""map() beside a submit() that others provide."""

from __future__ import annotations

import functools
import itertools
import types
from unittest import mock

import pytest

import atoll
from helpers import fail, identity


class Traced(atoll.InterpreterPoolExecutor):
    """Counts its calls."""

    calls = 0

    def submit(self, fn, /, *args, **kwargs):
        self.calls += 1
        return super().submit(fn, *args, **kwargs)


class Proxy:
    """What instrumentation puts in a method's place: a callable that looks like what it wraps."""

    def __init__(self, wrapped, calls):
        self.wrapped = wrapped
        self.calls = calls

    def __get__(self, instance, owner=None):
        return Proxy(self.wrapped.__get__(instance, owner), self.calls)

    def __getattr__(self, name):
        return getattr(self.wrapped, name)

    def __call__(self, *args, **kwargs):
        self.calls.append(args)
        return self.wrapped(*args, **kwargs)


class TestMap:
    @pytest.mark.parametrize("options", [{}, {"chunksize": 10}, {"buffersize": 2}, {"progress": True}])
    def test_subclass(self, options):
        with Traced(2) as pool:
            assert list(pool.map(abs, [-1, -2, -3], **options)) == [1, 2, 3]
            assert pool.calls == 3

    def test_class_replaced(self):
        submit = atoll.InterpreterPoolExecutor.submit
        with mock.patch.object(atoll.InterpreterPoolExecutor, "submit", autospec=True) as double:
            double.side_effect = submit
            with atoll.InterpreterPoolExecutor(1) as pool:
                assert list(pool.map(pow, [1, 2, 3], itertools.repeat(2))) == [1, 4, 9]
            assert [call.args[1:] for call in double.call_args_list] == [(pow, n, 2) for n in (1, 2, 3)]

    def test_proxy(self):
        calls = []
        proxy = Proxy(atoll.InterpreterPoolExecutor.submit, calls)
        with mock.patch.object(atoll.InterpreterPoolExecutor, "submit", proxy):
            with atoll.InterpreterPoolExecutor(1) as pool:
                assert list(pool.map(abs, [-1, -2])) == [1, 2]
        assert calls == [(abs, -1), (abs, -2)]

    def test_instance_replaced(self):
        calls = []
        with atoll.InterpreterPoolExecutor(1) as pool, atoll.InterpreterPoolExecutor(1) as other:
            submit = pool.submit
            pool.submit = lambda *args: calls.append(args) or submit(*args)
            assert list(pool.map(abs, [-1, -2])) == [1, 2]
            assert len(calls) == 2
            pool.submit = other.submit
            assert set(pool.map(atoll_id, [0])) == {other.submit(atoll_id, 0).result()}
            pool.submit = types.MethodType(atoll.InterpreterPoolExecutor.submit, other)
            assert set(pool.map(atoll_id, [0])) == {other.submit(atoll_id, 0).result()}

    def test_wrapped_in_function(self):
        calls = []
        submit = atoll.InterpreterPoolExecutor.submit

        @functools.wraps(submit)
        def wrapper(self, *args, **kwargs):
            calls.append(args)
            return submit(self, *args, **kwargs)

        with mock.patch.object(atoll.InterpreterPoolExecutor, "submit", wrapper):
            with Traced(1) as pool:
                assert list(pool.map(abs, [-1, -2])) == [1, 2]
                assert pool.calls == len(calls) == 2

    def test_all_are_submitted_at_once(self):
        with Traced(2) as pool:
            pool.map(abs, iter(range(20)))
            assert pool.calls == 20

    def test_buffersize_submits_as_results_are_taken(self):
        with Traced(2) as pool:
            results = pool.map(abs, itertools.count(), buffersize=3)
            assert pool.calls == 3
            assert [next(results), next(results)] == [0, 1]
            assert pool.calls == 5

    def test_errors(self):
        with Traced(1) as pool:
            with pytest.raises(ValueError, match="chunksize"):
                pool.map(abs, [1], chunksize=0)
            results = pool.map(fail, [LookupError, LookupError])
            with pytest.raises(LookupError):
                next(results)
            assert list(results) == []

    def test_timeout(self):
        with Traced(1) as pool:
            with pytest.raises(TimeoutError):
                list(pool.map(sleep_shortly, range(4), timeout=0.01))

    def test_usual_way_where_none_is_provided(self):
        class Plain(atoll.InterpreterPoolExecutor):
            pass

        with Plain(1) as pool, mock.patch.object(Plain, "_one_by_one", True, create=True):
            assert type(pool.map(identity, range(10))).__name__ == "Map"


def atoll_id(_):
    import atoll

    return atoll.get_current().id


def sleep_shortly(_):
    import time

    time.sleep(0.2)
