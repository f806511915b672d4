"""Interpreter.close(force=True): what is inside is interrupted, and close() comes back in time."""

from __future__ import annotations

import concurrent.futures
import gc
import pickle
import time

import pytest

import atoll
from closing_helpers import SOON, in_thread, is_gone, spin, start_thread, stubborn
from helpers import IS_X86, PATIENCE, Pipe, Thread, identity, ids, run_stress, together


class TestForce:
    @pytest.mark.parametrize("what", ["loop", "queue", "lock", "sleep", "nested"])
    def test_calls(self, fresh, what):
        if what == "sleep" and not IS_X86:
            pytest.skip("threads are led out of system calls on x86-64 only")

        def work(what, started, never, lock):
            import atoll

            started.set()
            if what == "loop":
                while True:
                    pass
            if what == "queue":
                never.get()
            if what == "lock":
                lock.acquire()
            if what == "sleep":
                import time

                time.sleep(1000)
            atoll.get_main().call(never.get)

        started, never, lock = atoll.Event(), atoll.create_queue(), atoll.Lock()
        lock.acquire()
        calls = [in_thread(fresh, work, what, started, never, lock) for _ in range(3)]
        assert started.wait(PATIENCE)
        fresh.close(force=True, timeout=PATIENCE)
        # One that was on its way in is told that it is closed.
        outcomes = []
        for call in calls:
            try:
                outcomes.append(call.result())
            except atoll.InterpreterError as exc:
                outcomes.append(type(exc).__name__)
        assert "KeyboardInterrupt" in outcomes or "ExecutionFailed" in outcomes
        assert set(outcomes) <= {
            "KeyboardInterrupt",
            "ExecutionFailed",
            "InterpreterError",
            "InterpreterNotFoundError",
        }
        assert is_gone(fresh)

    def test_what_catches_it(self, fresh):
        """Interrupted again and again."""

        def catches(started):
            for _ in range(5):
                try:
                    started.set()
                    while True:
                        pass
                except KeyboardInterrupt:
                    pass
            return "ended"

        started = atoll.Event()
        call = in_thread(fresh, catches, started)
        assert started.wait(PATIENCE)
        fresh.close(force=True, timeout=PATIENCE)
        assert call.result() in ("ended", "KeyboardInterrupt")
        assert is_gone(fresh)

    def test_what_does_not_end(self, fresh, over):
        started = atoll.Event()
        call = in_thread(fresh, stubborn, started, over)
        assert started.wait(PATIENCE)
        with pytest.raises(atoll.InterpreterStuckError) as caught:
            fresh.close(force=True, timeout=SOON)
        error = caught.value
        assert isinstance(error, atoll.InterpreterError)
        assert str(error).startswith(
            f"cannot close interpreter {fresh.id} by force: interpreter already running\n\n"
        )
        assert "in stubborn" in error.stacks
        assert "closing_helpers.py" in error.stacks
        assert error.stacks in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), again.stacks) == (str(error), error.stacks)
        assert fresh.call(int, "3") == 3  # open as before
        with pytest.raises(atoll.InterpreterStuckError):
            fresh.close(force=True, timeout=SOON)
        over.set()
        call.result()
        fresh.close(force=True)
        assert is_gone(fresh)

    def test_names_it(self, over):
        started = atoll.Event()
        interp = atoll.create(name="io")
        call = in_thread(interp, stubborn, started, over)
        assert started.wait(PATIENCE)
        with pytest.raises(atoll.InterpreterStuckError, match=rf"interpreter {interp.id} \('io'\) by force"):
            interp.close(force=True, timeout=SOON)
        over.set()
        call.result()
        interp.close()

    def test_submitted(self, fresh):
        started = atoll.Event()
        future = fresh.submit(spin, started)
        later = [fresh.submit(identity, n) for n in range(10)]
        assert started.wait(PATIENCE)
        fresh.close(force=True, timeout=PATIENCE)
        with pytest.raises(KeyboardInterrupt):
            future.result(PATIENCE)
        concurrent.futures.wait(later, PATIENCE)
        assert all(one.cancelled() for one in later)
        assert is_gone(fresh)

    def test_submitted_by_others(self, fresh):
        def submit(interp, started, spin):
            import sys

            sys.kept = [interp.submit(spin, started), *(interp.submit(abs, -n) for n in range(10))]

        def outcomes():
            import sys

            names = []
            for future in sys.kept:
                try:
                    names.append(type(future.exception(60)).__name__)
                except BaseException as exc:
                    names.append(type(exc).__name__)
            return names

        started = atoll.Event()
        with atoll.create() as other:
            other.call(submit, fresh, started, spin)
            assert started.wait(PATIENCE)
            fresh.close(force=True, timeout=PATIENCE)
            assert other.call(outcomes) == ["KeyboardInterrupt"] + ["InterpreterError"] * 10
        assert is_gone(fresh)

    def test_asyncio(self, fresh):
        import asyncio

        async def main():
            started = atoll.Event()
            task = asyncio.create_task(fresh.call_async(spin, started))
            await asyncio.to_thread(started.wait, PATIENCE)
            await asyncio.to_thread(fresh.close, force=True, timeout=PATIENCE)
            with pytest.raises(KeyboardInterrupt):
                await task

        with pytest.raises(KeyboardInterrupt):  # what asyncio makes of a KeyboardInterrupt of a future
            asyncio.run(main())
        assert is_gone(fresh)

    @pytest.mark.parametrize("daemon", [False, True])
    @pytest.mark.parametrize("what", ["loop", "queue", "sleep", "lock", "catches"])
    def test_threads(self, fresh, what, daemon):
        if what in ("sleep", "lock") and not IS_X86:
            pytest.skip("threads are led out of system calls on x86-64 only")

        def start(what, started, never, daemon):
            import threading
            import time

            def work():
                started.set()
                if what == "loop":
                    while True:
                        pass
                if what == "queue":
                    never.get()
                if what == "sleep":
                    time.sleep(1000)
                if what == "lock":
                    lock = threading.Lock()
                    lock.acquire()
                    lock.acquire()
                for _ in range(3):
                    try:
                        while True:
                            pass
                    except SystemExit:
                        pass

            for _ in range(2):
                threading.Thread(target=work, daemon=daemon).start()

        started = atoll.Event()
        fresh.call(start, what, started, atoll.create_queue(), daemon)
        assert started.wait(PATIENCE)
        fresh.close(force=True, timeout=PATIENCE)
        assert is_gone(fresh)

    def test_thread_does_not_end(self, fresh, over):
        started = atoll.Event()
        fresh.call(start_thread, stubborn, started, over)
        assert started.wait(PATIENCE)
        with pytest.raises(atoll.InterpreterStuckError, match="a thread still runs in it") as caught:
            fresh.close(force=True, timeout=SOON)
        assert "in stubborn" in caught.value.stacks
        assert fresh.call(int, "3") == 3
        assert fresh.call(lambda: __import__("atoll").create_queue().qsize()) == 0
        over.set()
        fresh.close(force=True)
        assert is_gone(fresh)

    def test_thread_that_keeps_the_gil(self, fresh):
        """Attaching to it would take for ever: somebody else does."""

        def hold(reader, go, started):
            import ctypes
            import threading

            read = ctypes.PyDLL(None).read  # does not give back the GIL

            def work():
                go.wait()
                started.set()
                read(reader, ctypes.create_string_buffer(1), 1)

            threading.Thread(target=work).start()

        with Pipe() as leave:
            go, started = atoll.Event(), atoll.Event()
            fresh.call(hold, leave.reader, go, started)
            go.set()
            assert started.wait(PATIENCE)
            for _ in range(2):
                with pytest.raises(
                    atoll.InterpreterStuckError, match="it is being closed, which something"
                ) as caught:
                    fresh.close(force=True, timeout=SOON)
                assert "hold.<locals>.work" in caught.value.stacks
            leave.signal()
            deadline = time.monotonic() + PATIENCE
            while True:  # the one that was late opens it again when it gets to that
                try:
                    fresh.close(force=True, timeout=PATIENCE)
                    break
                except atoll.InterpreterNotFoundError:
                    break
                except atoll.InterpreterStuckError:
                    assert time.monotonic() < deadline
        assert is_gone(fresh)

    def test_exit_function_that_does_not_end(self, fresh):
        def register(reader):
            import atexit
            import os

            atexit.register(os.read, reader, 1)

        with Pipe() as leave:
            fresh.call(register, leave.reader)
            with pytest.raises(atoll.InterpreterStuckError, match="it is being closed, which something"):
                fresh.close(force=True, timeout=SOON)
            with pytest.raises(atoll.InterpreterNotFoundError):
                fresh.call(int)  # there is no way back
            with pytest.raises(atoll.InterpreterError, match="it is being closed, which something"):
                fresh.close(timeout=SOON)
            closing = Thread(fresh.close, force=True, timeout=PATIENCE)
            leave.signal()
            with pytest.raises(atoll.InterpreterNotFoundError):
                closing.result()
        deadline = time.monotonic() + PATIENCE
        while fresh.id in ids() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert is_gone(fresh)

    def test_exit_functions_are_called(self, fresh):
        def register(queue):
            import atexit

            atexit.register(queue.put, "bye")

        queue = atoll.create_queue(unbounditems=atoll.UNBOUND)
        fresh.call(register, queue)
        fresh.close(force=True)
        assert queue.qsize() == 1

    def test_from_another_interpreter(self, fresh):
        started = atoll.Event()
        call = in_thread(fresh, spin, started)
        assert started.wait(PATIENCE)
        with atoll.create() as other:
            other.call(lambda interp: interp.close(force=True), fresh)
        assert call.result() == "KeyboardInterrupt"
        assert is_gone(fresh)

    def test_from_a_finalizer(self, fresh):
        class Owner:
            def __init__(self, interp):
                self.interp = interp
                self.cycle = self

            def __del__(self):
                self.interp.close(force=True)

        started = atoll.Event()
        call = in_thread(fresh, spin, started)
        assert started.wait(PATIENCE)
        Owner(fresh)
        gc.collect()
        assert call.result() == "KeyboardInterrupt"
        assert is_gone(fresh)

    @pytest.mark.parametrize(
        "options", [{"force": True}, {"timeout": PATIENCE}, {"force": True, "timeout": PATIENCE}]
    )
    def test_from_several_threads(self, options):
        """One succeeds; for the others it is gone."""
        for _ in range(10):
            interp = atoll.create()
            started = atoll.Event()
            call = in_thread(interp, spin, started) if options.get("force") else None
            assert call is None or started.wait(PATIENCE)

            def close(_number, interp=interp):
                try:
                    interp.close(**options)
                except atoll.InterpreterNotFoundError:
                    return "gone"
                return "closed"

            assert sorted(together(4, close)) == ["closed", "gone", "gone", "gone"]
            assert call is None or call.result() == "KeyboardInterrupt"

    def test_beside_a_plain_close(self, fresh):
        """A plain close() that waits for a thread of the interpreter is waited for."""
        with Pipe() as leave:

            def start(reader):
                import os
                import threading

                threading.Thread(target=os.read, args=(reader, 1)).start()

            fresh.call(start, leave.reader)
            closing = Thread(fresh.close)
            deadline = time.monotonic() + PATIENCE
            while fresh.id in ids() and time.monotonic() < deadline:
                time.sleep(0.001)
            with pytest.raises(atoll.InterpreterStuckError, match="it is being closed"):
                fresh.close(force=True, timeout=SOON)
            leave.signal()
            closing.result()
        assert is_gone(fresh)

    def test_interrupted_itself(self, fresh, over):
        """A close that is interrupted leaves it open."""
        started = atoll.Event()
        call = in_thread(fresh, stubborn, started, over)
        assert started.wait(PATIENCE)
        with atoll.create() as other:
            with pytest.raises(TimeoutError), atoll.timeout(other, SOON):
                other.call(lambda interp: interp.close(force=True, timeout=1000), fresh)
            assert other.call(int) == 0
        assert fresh.call(int, "3") == 3
        over.set()
        call.result()
        fresh.close()

    def test_interrupted_while_a_thread_is_waited_for(self, fresh, over):
        started = atoll.Event()
        fresh.call(start_thread, stubborn, started, over)
        assert started.wait(PATIENCE)
        with atoll.create() as other:
            with pytest.raises(TimeoutError), atoll.timeout(other, SOON):
                other.call(lambda interp: interp.close(timeout=1000), fresh)
        deadline = time.monotonic() + PATIENCE
        while fresh.id not in ids() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert fresh.call(int, "3") == 3
        over.set()
        fresh.close(timeout=PATIENCE)

    def test_statistics(self, fresh, over):
        started = atoll.Event()
        call = in_thread(fresh, stubborn, started, over)
        assert started.wait(PATIENCE)
        closing = Thread(fresh.close, force=True, timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while (
            atoll.get_main().stats()["blocked_on"] != "the end of what was submitted"
            and time.monotonic() < deadline
        ):
            time.sleep(0.001)
        over.set()
        call.result()
        closing.result()


def test_storm():
    """Each call and each interrupt gets what it should, and every interpreter ends: stress/closing.py, in short."""
    assert "25 interpreters closed" in run_stress("closing.py", "--rounds", "25")
