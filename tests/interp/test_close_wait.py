"""Interpreter.close(wait=False): comes back at once, and what it leaves to do is done, also at the end of a process."""

from __future__ import annotations

import contextlib
import time

import pytest

import atoll
from closing_helpers import in_thread, is_gone, read_one, spin, start_thread
from helpers import PATIENCE, Pipe, check_ended, foreign, identity, run_python


def tell_at_exit(writer):
    """In an interpreter: have its end heard of."""
    import atexit
    import os

    atexit.register(os.write, writer, b"!")


def wait_until(condition):
    """Until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"force": True}, "takes no force"),
            ({"timeout": 1}, "takes no timeout"),
            ({"timeout": -1}, "non-negative"),
        ],
    )
    def test_refused(self, fresh, options, message):
        with pytest.raises(ValueError, match=message):
            fresh.close(wait=False, **options)
        assert fresh.call(int) == 0

    def test_what_decides(self, fresh):
        class Undecided:
            def __bool__(self):
                raise LookupError("undecided")

        with pytest.raises(LookupError, match="undecided"):
            fresh.close(wait=Undecided())
        assert fresh.close(wait=1) is None
        assert is_gone(fresh)

    def test_of_others(self):
        with foreign() as number, pytest.raises(atoll.InterpreterError, match="unrecognized"):
            atoll.Interpreter(number).close(wait=False)
        with pytest.raises(atoll.InterpreterError, match="main"):
            atoll.get_main().close(wait=False)

    def test_current(self, fresh):
        def close_me():
            import atoll

            atoll.get_current().close(wait=False)

        for run in (fresh.call, lambda f: fresh.submit(f).result(PATIENCE)):
            with pytest.raises(atoll.InterpreterError, match="cannot close the current interpreter"):
                run(close_me)
        assert fresh.call(int) == 0

    def test_of_a_pool(self):
        with atoll.InterpreterPoolExecutor(1) as pool:
            worker = pool.submit(lambda: __import__("atoll").get_current()).result(PATIENCE)
            with pytest.raises(atoll.InterpreterError, match="it is running as a worker of the pool"):
                worker.close(wait=False)
            assert pool.submit(identity, 1).result(PATIENCE) == 1


class TestIdle:
    def test_gone_at_once(self, fresh):
        with Pipe() as end:
            fresh.call(tell_at_exit, end.writer)
            assert fresh.close(wait=False) is None
            assert is_gone(fresh)
            for again in ({}, {"wait": False}, {"force": True}):
                with pytest.raises(atoll.InterpreterNotFoundError):
                    fresh.close(**again)
            end.wait()

    def test_many(self):
        with Pipe() as end:
            made = [atoll.create() for _ in range(8)]
            for interp in made:
                interp.call(tell_at_exit, end.writer)
            for interp in made:
                interp.close(wait=False)
            assert all(is_gone(interp) for interp in made)
            for _ in made:
                end.wait()

    def test_inside_with(self):
        with atoll.create() as interp:
            interp.close(wait=False)
        assert is_gone(interp)

    def test_by_another(self, fresh):
        with atoll.create() as other:
            other.call(lambda interp: interp.close(wait=False), fresh)
        assert is_gone(fresh)


class TestBusy:
    def test_call_inside(self, fresh):
        with Pipe() as leave:
            started = atoll.Event()

            call = in_thread(fresh, read_one, started, leave.reader)
            assert started.wait(PATIENCE)
            fresh.close(wait=False)
            wait_until(lambda: is_refused(fresh))
            with pytest.raises(atoll.InterpreterError, match="it is being closed"):
                fresh.submit(int)
            leave.signal()
            assert call.result() == "ended"
        wait_until(lambda: fresh not in atoll.list_all())

    def test_what_was_submitted(self, fresh):
        futures = [fresh.submit(pow, 2, n) for n in range(50)]
        fresh.close(wait=False)
        assert [future.result(PATIENCE) for future in futures] == [2**n for n in range(50)]
        wait_until(lambda: fresh not in atoll.list_all())
        assert is_gone(fresh)

    def test_then_by_force(self, fresh):
        started = atoll.Event()
        call = in_thread(fresh, spin, started)
        assert started.wait(PATIENCE)
        fresh.close(wait=False)
        with contextlib.suppress(
            atoll.InterpreterNotFoundError
        ):  # who waits for it to be left may come first
            fresh.close(force=True, timeout=PATIENCE)
        assert call.result() == "KeyboardInterrupt"
        assert is_gone(fresh)

    def test_thread_of_its_own(self, fresh):
        with Pipe() as leave, Pipe() as end:

            def start(reader):
                import os

                start_thread(os.read, reader, 1)

            fresh.call(tell_at_exit, end.writer)
            fresh.call(start, leave.reader)
            fresh.close(wait=False)
            assert is_gone(fresh)
            leave.signal()
            end.wait()


def is_refused(interp):
    """Whether nobody gets in any more, while somebody is inside."""
    try:
        interp.call(int)
    except atoll.InterpreterNotFoundError:
        raise
    except atoll.InterpreterError as exc:
        return "it is being closed" in str(exc)
    return False


class TestEndOfTheProcess:
    """It waits for what is being closed, and has nothing to say of it."""

    @pytest.mark.parametrize(
        "last",
        [
            "",
            "interp.submit(__import__('time').sleep, 0.2)",
            "interp.exec('import threading, time; threading.Thread(target=time.sleep, args=(0.2,)).start()')",
            "threading.Thread(target=interp.call, args=(time.sleep, 0.2)).start(); time.sleep(0.1)",
        ],
    )
    def test_ends(self, last):
        done = run_python(f"""
            import atoll, threading, time
            interp = atoll.create()
            interp.exec("import atexit, os; atexit.register(os.write, 1, b'exit functions')")
            {last}
            interp.close(wait=False)
        """)
        check_ended(done, 0, "exit functions")

    def test_fork(self):
        done = run_python("""
            import atoll, os, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            for _ in range(20):
                interp = atoll.create()
                interp.close(wait=False)
                pid = os.fork()
                if pid == 0:
                    with atoll.create() as other:
                        assert other.call(pow, 2, 3) == 8
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            print("ended")
        """)
        check_ended(done, 0, "ended\n")
