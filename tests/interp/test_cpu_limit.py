"""create(cpu_limit=): so many seconds of processor time for the calls into an interpreter."""

from __future__ import annotations

import threading
import time

import pytest

import atoll
from helpers import PATIENCE, Pipe, signal_and_wait, spin

SPIN = "while True: pass"


def spent(interp: atoll.Interpreter, amount: float) -> atoll.ResourceLimitExceeded:
    """Run what does not end by itself."""
    with pytest.raises(
        atoll.ResourceLimitExceeded, match=rf"interpreter {interp.id} .*cpu_limit is"
    ) as caught:
        interp.exec(SPIN)
    assert caught.value.limit == "cpu_limit"
    assert caught.value.amount == amount
    return caught.value


def burn(seconds: float) -> None:
    """Take so much processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class TestSpent:
    """The time is over."""

    def test_exec(self):
        with atoll.create(cpu_limit=0.2) as interp:
            error = spent(interp, 0.2)
            assert error.__cause__.excinfo.type.__name__ == "KeyboardInterrupt"

    def test_call(self):
        with atoll.create(cpu_limit=0.2) as interp:
            with pytest.raises(atoll.ResourceLimitExceeded) as caught:
                interp.call(spin, 600)
            assert "in spin" in caught.value.__cause__.excinfo.errdisplay

    def test_everything_later(self):
        with atoll.create(cpu_limit=0.1) as interp:
            spent(interp, 0.1)
            for call in (
                lambda: interp.exec("x = 1"),
                lambda: interp.call(sum, [1]),
                lambda: interp.prepare_main(x=1),
                lambda: interp.submit(sum, [1]).result(PATIENCE),
                lambda: interp.submit(spin, 600).result(PATIENCE),
            ):
                with pytest.raises(atoll.ResourceLimitExceeded, match="cpu_limit is 0.1 seconds"):
                    call()

    def test_many_tasks_later(self):
        """Whether it is noticed before, while or after a task has run."""
        with atoll.create(cpu_limit=0.1) as interp:
            spent(interp, 0.1)
            futures = [interp.submit(sum, [1]) for _ in range(300)]
            errors = [future.exception(PATIENCE) for future in futures]
            assert {type(error) for error in errors} == {atoll.ResourceLimitExceeded}

    def test_many_calls_together(self):
        with atoll.create(cpu_limit=0.3) as interp:
            calls = 0
            with pytest.raises(atoll.ResourceLimitExceeded):
                while calls < 1000:
                    interp.call(burn, 0.02)
                    calls += 1
            assert 0 < calls <= 15

    def test_two_threads(self):
        """Both of those that run are interrupted."""
        with atoll.create(cpu_limit=0.3) as interp:
            raised = []

            def run() -> None:
                try:
                    interp.call(spin, 600)
                except atoll.ResourceLimitExceeded as exc:
                    raised.append(exc)

            threads = [threading.Thread(target=run) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            assert len(raised) == 2

    def test_swallowed(self):
        """Code that catches it once is interrupted again."""
        code = "for _ in range(2):\n  try:\n    while True: pass\n  except BaseException: pass\n"
        with atoll.create(cpu_limit=0.1) as interp, pytest.raises(atoll.ResourceLimitExceeded):
            interp.exec(code)

    def test_with_a_time_limit(self):
        with atoll.create(cpu_limit=600) as interp:
            with pytest.raises(TimeoutError):
                interp.exec(SPIN, timeout=0.1)
            assert interp.call(sum, [1, 2]) == 3
        with atoll.create(cpu_limit=0.1) as interp, pytest.raises(atoll.ResourceLimitExceeded):
            interp.exec(SPIN, timeout=600)

    def test_interrupted_before(self):
        with atoll.create(cpu_limit=600) as interp, Pipe() as inside:
            future = interp.submit(spin_and_say, inside.writer)
            inside.wait()
            assert interp.interrupt()
            assert type(future.exception(PATIENCE)) is KeyboardInterrupt
            assert interp.call(sum, [1, 2]) == 3


def spin_and_say(fd: int) -> None:
    """Say that it runs, and do not end."""
    import os

    os.write(fd, b"!")
    while True:
        pass


def call_other(number: int, seconds: float) -> None:
    """Take processor time in another interpreter."""
    atoll.Interpreter(number).call(burn, seconds)


class TestNotCounted:
    """What does not take processor time of the interpreter."""

    def test_sleep(self):
        with atoll.create(cpu_limit=0.2) as interp:
            interp.exec("import time; time.sleep(0.5)")
            spent(interp, 0.2)

    def test_waiting(self):
        with atoll.create(cpu_limit=0.2) as interp, Pipe() as inside, Pipe() as leave:
            future = interp.submit(signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            burn(0.3)
            leave.signal()
            future.result(PATIENCE)
            assert interp.call(sum, [1, 2]) == 3

    def test_other_interpreters(self):
        with atoll.create(cpu_limit=0.3) as interp, atoll.create() as other:
            for _ in range(3):
                interp.call(call_other, other.id, 0.2)
            spent(interp, 0.3)

    def test_in_between(self):
        with atoll.create(cpu_limit=0.3) as interp:
            for _ in range(4):
                burn(0.1)
                assert interp.call(sum, [1, 2]) == 3

    def test_inner_is_limited(self):
        with atoll.create() as outer, atoll.create(cpu_limit=0.2) as inner:
            with pytest.raises(atoll.ExecutionFailed, match="ResourceLimitExceeded"):
                outer.call(call_other, inner.id, 600)
            assert outer.call(sum, [1, 2]) == 3


class TestSeen:
    """What stats() says, and what arrives elsewhere."""

    def test_stats(self):
        with atoll.create(cpu_limit=2.5) as interp, atoll.create() as other:
            assert interp.stats()["cpu_limit"] == 2.5
            assert other.stats()["cpu_limit"] is None

    def test_error_crosses(self):
        with atoll.create(cpu_limit=0.1) as interp, atoll.create() as other:
            error = spent(interp, 0.1)
            kind, text, limit, amount = other.call(
                lambda exc: (type(exc).__name__, str(exc), exc.limit, exc.amount), error
            )
        assert (kind, text, limit, amount) == ("ResourceLimitExceeded", str(error), "cpu_limit", 0.1)


class TestBadValues:
    """Numbers of seconds that are none."""

    @pytest.mark.parametrize("value", [0, 0.0, -1, -0.5, float("nan"), float("inf"), float("-inf"), 10**400])
    def test_value(self, value):
        with pytest.raises(ValueError, match="cpu_limit must be a positive"):
            atoll.create(cpu_limit=value)

    @pytest.mark.parametrize("value", [True, False, "1", b"1", [1], 1j])
    def test_type(self, value):
        with pytest.raises(TypeError, match="cpu_limit must be a number of seconds or None"):
            atoll.create(cpu_limit=value)

    def test_large(self):
        with atoll.create(cpu_limit=1e300) as interp:
            assert interp.call(sum, [1, 2]) == 3
