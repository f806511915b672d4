"""Interpreter.close(timeout=): what is inside is waited for, and close() comes back in time; its arguments."""

from __future__ import annotations

import time

import pytest

import atoll
from closing_helpers import SOON, in_thread, is_gone, read_one, spin, start_thread, stubborn
from helpers import PATIENCE, Pipe, Thread, foreign, identity


class TestArguments:
    def test_keywords_only(self, fresh):
        with pytest.raises(TypeError, match="positional"):
            fresh.close(True)
        with pytest.raises(TypeError, match="unexpected keyword argument 'now'"):
            fresh.close(now=True)

    @pytest.mark.parametrize("timeout", [-1, float("nan"), -0.5])
    def test_bad_timeouts(self, fresh, timeout):
        with pytest.raises(ValueError, match="timeout must be non-negative"):
            fresh.close(timeout=timeout)

    def test_no_number(self, fresh):
        with pytest.raises(TypeError, match="number of seconds or None, not str"):
            fresh.close(force=True, timeout="1")
        assert fresh.call(int) == 0

    @pytest.mark.parametrize(
        "options", [{"timeout": 0}, {"timeout": 60}, {"force": True}, {"force": True, "timeout": 0.5}]
    )
    def test_idle(self, fresh, options):
        assert fresh.close(**options) is None
        assert is_gone(fresh)
        with pytest.raises(atoll.InterpreterNotFoundError):
            fresh.close(**options)

    def test_infinite(self, fresh):
        fresh.close(force=True, timeout=float("inf"))
        assert is_gone(fresh)

    def test_of_others(self):
        with foreign() as number, pytest.raises(atoll.InterpreterError, match="unrecognized"):
            atoll.Interpreter(number).close(force=True)
        with pytest.raises(atoll.InterpreterError, match="main"):
            atoll.get_main().close(force=True)

    def test_current(self, fresh):
        def close_me():
            import atoll

            atoll.get_current().close(force=True)

        with pytest.raises(atoll.ExecutionFailed, match="cannot close the current interpreter"):
            fresh.call(close_me)

    def test_from_inside_by_way_of_another(self, fresh):
        def close_by_main(interp):
            import atoll

            atoll.get_main().call(close, interp)

        def close(interp):
            interp.close(force=True)

        with pytest.raises(atoll.ExecutionFailed, match="this thread runs in it"):
            fresh.call(close_by_main, fresh)
        assert fresh.call(int) == 0

    def test_from_what_was_submitted(self, fresh):
        def close_by_main(interp):
            import atoll

            atoll.get_main().call(lambda one: one.close(force=True), interp)

        with pytest.raises(atoll.ExecutionFailed):
            fresh.submit(close_by_main, fresh).result(PATIENCE)
        assert fresh.call(int) == 0

    def test_of_a_pool(self):
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix="named_x") as pool:
            worker = pool.submit(lambda: __import__("atoll").get_current()).result(PATIENCE)
            for options in ({"force": True}, {"timeout": 0.01}, {}):
                with pytest.raises(
                    atoll.InterpreterError, match=r"worker of the pool 'named_x', .* shutdown\(\)"
                ):
                    worker.close(**options)
            assert pool.submit(identity, 1).result(PATIENCE) == 1


class TestTimeout:
    """Without force."""

    def test_call_ends_in_time(self, fresh):
        with Pipe() as leave:
            started = atoll.Event()

            call = in_thread(fresh, read_one, started, leave.reader)
            assert started.wait(PATIENCE)
            closing = Thread(fresh.close, timeout=PATIENCE)
            leave.signal()
            closing.result()
            assert call.result() == "ended"
        assert is_gone(fresh)

    def test_call_goes_on(self, fresh):
        started = atoll.Event()
        call = in_thread(fresh, spin, started)
        assert started.wait(PATIENCE)
        with pytest.raises(atoll.InterpreterError, match="interpreter already running") as caught:
            fresh.close(timeout=SOON)
        assert not isinstance(caught.value, atoll.InterpreterStuckError)
        assert fresh.call(int, "3") == 3  # open as before
        fresh.interrupt()
        assert call.result() == "KeyboardInterrupt"
        fresh.close(timeout=0)

    def test_nobody_gets_in_meanwhile(self, fresh):
        started = atoll.Event()
        call = in_thread(fresh, spin, started)
        assert started.wait(PATIENCE)
        closing = Thread(fresh.close, timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                fresh.call(int)
            except atoll.InterpreterError as exc:
                assert not isinstance(exc, atoll.InterpreterNotFoundError)
                assert str(exc) == f"cannot enter interpreter {fresh.id}: it is being closed"
                break
        with pytest.raises(atoll.InterpreterError, match="it is being closed"):
            fresh.submit(int)
        assert fresh.interrupt()  # visits still get in
        closing.result()
        assert call.result() == "KeyboardInterrupt"
        assert is_gone(fresh)

    def test_submitted_calls_are_finished(self, fresh):
        futures = [fresh.submit(pow, 2, n) for n in range(50)]
        fresh.close(timeout=PATIENCE)
        assert [future.result(0) for future in futures] == [2**n for n in range(50)]

    def test_submitted_calls_of_others_are_finished(self, fresh):
        def submit(interp, count):
            import sys

            sys.kept = [interp.submit(abs, -n) for n in range(count)]

        with atoll.create() as other:
            other.call(submit, fresh, 30)
            fresh.close(timeout=PATIENCE)
            assert other.call(lambda: [future.result() for future in __import__("sys").kept]) == list(
                range(30)
            )

    def test_submitted_call_goes_on(self, fresh):
        started = atoll.Event()
        future = fresh.submit(spin, started)
        later = fresh.submit(identity, "later")
        assert started.wait(PATIENCE)
        with pytest.raises(atoll.InterpreterError, match="interpreter already running"):
            fresh.close(timeout=SOON)
        future.interrupt()
        with pytest.raises(KeyboardInterrupt):
            future.result(PATIENCE)
        assert later.result(PATIENCE) == "later"
        assert fresh.submit(identity, "again").result(PATIENCE) == "again"
        fresh.close(timeout=PATIENCE)

    def test_thread_ends_in_time(self, fresh):
        with Pipe() as leave:

            def start(reader):
                import os
                import threading

                threading.Thread(target=os.read, args=(reader, 1)).start()

            fresh.call(start, leave.reader)
            closing = Thread(fresh.close, timeout=PATIENCE)
            leave.signal()
            closing.result()
        assert is_gone(fresh)

    def test_thread_goes_on(self, fresh, over):
        started = atoll.Event()
        fresh.call(start_thread, stubborn, started, over)
        assert started.wait(PATIENCE)
        with pytest.raises(atoll.InterpreterError, match="a thread still runs in it"):
            fresh.close(timeout=SOON)
        assert fresh.call(int, "3") == 3
        over.set()
        fresh.close(timeout=PATIENCE)
        assert is_gone(fresh)

    def test_zero(self, fresh):
        started = atoll.Event()
        call = in_thread(fresh, spin, started)
        assert started.wait(PATIENCE)
        with pytest.raises(atoll.InterpreterError, match="already running"):
            fresh.close(timeout=0)
        fresh.close(force=True)
        assert call.result() == "KeyboardInterrupt"
