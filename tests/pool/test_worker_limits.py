"""InterpreterPoolExecutor(worker_limits=): a task that takes too much fails, and its worker is replaced."""

from __future__ import annotations

import pytest

import atoll
from helpers import PATIENCE, current_id, spin

MIB = 1 << 20
LIMIT = 48 * MIB


def eat(kind: str = "small") -> None:
    """Take memory until there is no more."""
    kept: list[object] = []
    while True:
        kept.append(object() if kind == "small" else bytearray(100_000))


def eat_and_hide() -> None:
    """Raise something else, because of that."""
    try:
        eat("large")
    except MemoryError as exc:
        raise RuntimeError("no memory") from exc


def eat_and_go_on() -> str:
    """Handle it."""
    try:
        eat("large")
    except MemoryError:
        return "went on"
    return "never"


def raise_one() -> None:
    """Raise MemoryError for no reason."""
    raise MemoryError("mine")


def double_or_eat(n: int) -> int:
    """Take all memory for one number only."""
    if n == 50:
        eat()
    return 2 * n


class TestMemory:
    """memory_limit of workers."""

    @pytest.mark.parametrize("kind", ["small", "large"])
    def test_fails_and_is_replaced(self, kind):
        with atoll.InterpreterPoolExecutor(1, worker_limits={"memory_limit": LIMIT}) as pool:
            before = pool.submit(current_id).result(PATIENCE)
            error = pool.submit(eat, kind).exception(PATIENCE)
            assert type(error) is atoll.ResourceLimitExceeded
            assert str(LIMIT) in str(error)
            assert (error.limit, error.amount) == ("memory_limit", LIMIT)
            assert isinstance(error.__cause__, MemoryError)
            assert "in eat" in error.__cause__.__cause__.excinfo.errdisplay
            assert pool.submit(current_id).result(PATIENCE) != before
            assert [one for one in atoll.stats()["pools"] if one["restarts"]]

    def test_only_its_own_task_fails(self):
        with atoll.InterpreterPoolExecutor(4, worker_limits={"memory_limit": LIMIT}) as pool:
            futures = [pool.submit(eat) if n % 10 == 3 else pool.submit(pow, n, 2) for n in range(40)]
            for n, future in enumerate(futures):
                if n % 10 == 3:
                    assert type(future.exception(PATIENCE)) is atoll.ResourceLimitExceeded
                else:
                    assert future.result(PATIENCE) == n * n

    def test_map(self):
        with atoll.InterpreterPoolExecutor(2, worker_limits={"memory_limit": LIMIT}) as pool:
            results = pool.map(double_or_eat, range(100))
            assert [next(results) for _ in range(50)] == [2 * n for n in range(50)]
            with pytest.raises(atoll.ResourceLimitExceeded):
                next(results)
            assert list(pool.map(double_or_eat, range(40))) == [2 * n for n in range(40)]

    def test_raised_as_something_else(self):
        with atoll.InterpreterPoolExecutor(1, worker_limits={"memory_limit": LIMIT}) as pool:
            error = pool.submit(eat_and_hide).exception(PATIENCE)
            assert type(error) is atoll.ResourceLimitExceeded
            assert type(error.__cause__) is RuntimeError

    def test_handled(self):
        """A task that goes on is none that fails, and its worker stays."""
        with atoll.InterpreterPoolExecutor(1, worker_limits={"memory_limit": LIMIT}) as pool:
            before = pool.submit(current_id).result(PATIENCE)
            assert pool.submit(eat_and_go_on).result(PATIENCE) == "went on"
            assert pool.submit(current_id).result(PATIENCE) == before

    def test_another_memory_error(self):
        with atoll.InterpreterPoolExecutor(1, worker_limits={"memory_limit": LIMIT}) as pool:
            before = pool.submit(current_id).result(PATIENCE)
            error = pool.submit(raise_one).exception(PATIENCE)
            assert type(error) is MemoryError
            assert error.args == ("mine",)
            assert pool.submit(current_id).result(PATIENCE) == before

    def test_large_argument(self):
        with atoll.InterpreterPoolExecutor(1, worker_limits={"memory_limit": LIMIT}) as pool:
            future = pool.submit(len, list(range(5_000_000)))
            assert type(future.exception(PATIENCE)) is atoll.ResourceLimitExceeded
            assert pool.submit(len, [1, 2]).result(PATIENCE) == 2

    def test_too_small_for_an_interpreter(self):
        with atoll.InterpreterPoolExecutor(1, worker_limits={"memory_limit": 1000}) as pool:
            error = pool.submit(current_id).exception(PATIENCE)
            assert "memory_limit of 1000 bytes is too small" in str(error.__cause__)

    def test_initializer(self):
        with atoll.InterpreterPoolExecutor(1, initializer=eat, worker_limits={"memory_limit": LIMIT}) as pool:
            error = pool.submit(current_id).exception(PATIENCE)
            assert "initializer" in str(error)

    def test_many_times(self):
        with atoll.InterpreterPoolExecutor(2, worker_limits={"memory_limit": LIMIT}) as pool:
            for _ in range(10):
                assert type(pool.submit(eat).exception(PATIENCE)) is atoll.ResourceLimitExceeded
            assert pool.submit(pow, 2, 3).result(PATIENCE) == 8

    def test_an_interpreter_of_ones_own(self):
        """What is submitted to an interpreter raises MemoryError, as a call does."""
        with atoll.create(memory_limit=LIMIT) as interp:
            assert type(interp.submit(eat).exception(PATIENCE)) is MemoryError
            assert interp.submit(pow, 2, 3).result(PATIENCE) == 8


class TestCpu:
    """cpu_limit of workers: for each task."""

    def test_fails_and_is_replaced(self):
        with atoll.InterpreterPoolExecutor(1, worker_limits={"cpu_limit": 0.2}) as pool:
            before = pool.submit(current_id).result(PATIENCE)
            error = pool.submit(spin, 600).exception(PATIENCE)
            assert type(error) is atoll.ResourceLimitExceeded
            assert (error.limit, error.amount) == ("cpu_limit", 0.2)
            assert "in spin" in error.__cause__.excinfo.errdisplay
            assert pool.submit(current_id).result(PATIENCE) != before

    def test_counts_for_each_task(self):
        with atoll.InterpreterPoolExecutor(1, worker_limits={"cpu_limit": 0.3}) as pool:
            before = pool.submit(current_id).result(PATIENCE)
            for _ in range(6):
                pool.submit(spin_for, 0.1).result(PATIENCE)
            assert pool.submit(current_id).result(PATIENCE) == before

    def test_only_its_own_task_fails(self):
        with atoll.InterpreterPoolExecutor(
            3, worker_limits={"cpu_limit": 0.2, "memory_limit": LIMIT}
        ) as pool:
            futures = [pool.submit(spin, 600) if n % 10 == 3 else pool.submit(pow, n, 2) for n in range(30)]
            for n, future in enumerate(futures):
                if n % 10 == 3:
                    assert type(future.exception(PATIENCE)) is atoll.ResourceLimitExceeded
                else:
                    assert future.result(PATIENCE) == n * n


def spin_for(seconds: float) -> None:
    """Take so much processor time."""
    import time

    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class TestBadValues:
    """What are no limits."""

    @pytest.mark.parametrize(
        ("limits", "kind", "text"),
        [
            ({"memory": 100}, ValueError, "'memory' is none of memory_limit, cpu_limit"),
            ({"memory_limit": 0}, ValueError, "memory_limit must be a positive"),
            ({"memory_limit": "100M"}, TypeError, "memory_limit must be an int"),
            ({"cpu_limit": float("nan")}, ValueError, "cpu_limit must be a positive"),
            ({"cpu_limit": True}, TypeError, "cpu_limit must be a number"),
            (100, TypeError, "worker_limits must be a mapping"),
            ("memory_limit", TypeError, "worker_limits must be a mapping"),
        ],
    )
    def test_refused(self, limits, kind, text):
        with pytest.raises(kind, match=text):
            atoll.InterpreterPoolExecutor(1, worker_limits=limits)

    def test_none(self):
        with atoll.InterpreterPoolExecutor(
            1, worker_limits={"memory_limit": None, "cpu_limit": None}
        ) as pool:
            assert pool.submit(pow, 2, 3).result(PATIENCE) == 8
