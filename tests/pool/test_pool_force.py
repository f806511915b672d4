"""kill_workers() and terminate_workers()."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time

import pytest

import atoll
from atoll.futures import BrokenInterpreterPool
from helpers import PATIENCE, Pipe, check_ended, identity, ids, run_python, signal_and_wait

BOTH = pytest.mark.parametrize("end", ["kill_workers", "terminate_workers"])


def spin(descriptor):
    import os

    os.write(descriptor, b"!")
    while True:
        pass


def clean_up(inside, done):
    import os

    try:
        os.write(inside, b"!")
        while True:
            pass
    finally:
        os.write(done, b"y")


def swallow(descriptor):
    import os

    try:
        os.write(descriptor, b"!")
        while True:
            pass
    except KeyboardInterrupt:
        return "a result"


def only_these_are_left(interpreters):
    """Wait until there are no others."""
    deadline = time.monotonic() + PATIENCE
    while ids() != interpreters and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ids() == interpreters


@BOTH
class TestBoth:
    def test_running_calls_fail(self, end):
        with Pipe() as inside, atoll.InterpreterPoolExecutor(2) as pool:
            futures = [pool.submit(spin, inside.writer) for _ in range(2)]
            inside.wait()
            inside.wait()
            getattr(pool, end)()
            for future in futures:
                with pytest.raises(BrokenInterpreterPool, match="terminated"):
                    future.result(PATIENCE)
                assert isinstance(future.exception(), concurrent.futures.BrokenExecutor)

    def test_pending_calls_are_cancelled(self, end):
        told = []
        with Pipe() as inside, atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(spin, inside.writer)
            inside.wait()
            pending = [pool.submit(identity, n) for n in range(3)]
            pending[0].add_done_callback(told.append)
            getattr(pool, end)()
            assert [future.cancelled() for future in pending] == [True] * 3
        assert told == pending[:1]

    def test_the_pool_is_shut(self, end):
        with Pipe() as inside:
            pool = atoll.InterpreterPoolExecutor(1)
            pool.submit(spin, inside.writer)
            inside.wait()
            getattr(pool, end)()
            with pytest.raises(BrokenInterpreterPool):
                pool.submit(identity, 1)
            with pytest.raises(RuntimeError):
                list(pool.map(identity, [1]))
            pool.shutdown()
            assert len(pool._threads) == 0

    def test_what_is_done_stays_done(self, end):
        pool = atoll.InterpreterPoolExecutor(1)
        future = pool.submit(identity, 4)
        assert future.result() == 4
        kept = pool.submit(identity, 5)
        concurrent.futures.wait([kept])
        getattr(pool, end)()
        assert (future.result(), kept.result()) == (4, 5)
        pool.shutdown()

    @pytest.mark.parametrize("again", ["kill_workers", "terminate_workers"])
    def test_again(self, end, again):
        with Pipe() as inside:
            pool = atoll.InterpreterPoolExecutor(1)
            future = pool.submit(spin, inside.writer)
            inside.wait()
            getattr(pool, end)()
            getattr(pool, again)()
            assert isinstance(future.exception(PATIENCE), BrokenInterpreterPool)
            pool.shutdown()
            getattr(pool, again)()

    def test_never_used(self, end):
        pool = atoll.InterpreterPoolExecutor(1)
        getattr(pool, end)()
        with pytest.raises(RuntimeError):
            pool.submit(identity, 1)
        pool.shutdown()

    def test_during_shutdown(self, end):
        with Pipe() as inside:
            pool = atoll.InterpreterPoolExecutor(1)
            future = pool.submit(spin, inside.writer)
            inside.wait()
            waiting = threading.Thread(target=pool.shutdown)
            waiting.start()
            getattr(pool, end)()
            waiting.join(PATIENCE)
            assert not waiting.is_alive()
            assert isinstance(future.exception(PATIENCE), BrokenInterpreterPool)

    def test_code_that_does_not_return(self, end):
        before = ids()
        with Pipe() as inside, Pipe() as leave:
            pool = atoll.InterpreterPoolExecutor(1)
            future = pool.submit(signal_and_wait, inside.writer, leave.reader)  # in a system call
            inside.wait()
            getattr(pool, end)()
            pool.shutdown()
            assert isinstance(future.exception(PATIENCE), BrokenInterpreterPool)
            leave.signal()
            only_these_are_left(before)

    def test_map(self, end):
        with Pipe() as inside, atoll.InterpreterPoolExecutor(1) as pool:
            results = pool.map(spin, [inside.writer] * 10)
            inside.wait()
            getattr(pool, end)()
            with pytest.raises(BrokenInterpreterPool):
                next(results)
            assert list(results) == []

    def test_initializer(self, end):
        with Pipe() as inside:
            pool = atoll.InterpreterPoolExecutor(1, initializer=spin, initargs=(inside.writer,))
            future = pool.submit(identity, 1)
            inside.wait()
            getattr(pool, end)()
            pool.shutdown()
            assert future.cancelled()

    def test_others_go_on(self, end):
        with Pipe() as inside, atoll.InterpreterPoolExecutor(1) as other:
            with atoll.InterpreterPoolExecutor(1) as pool:
                pool.submit(spin, inside.writer)
                inside.wait()
                getattr(pool, end)()
            assert other.submit(identity, 3).result() == 3

    def test_nothing_is_logged(self, end, caplog):
        with Pipe() as inside, atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(spin, inside.writer)
            inside.wait()
            getattr(pool, end)()
        assert not caplog.records

    def test_process_ends(self, end):
        source = f"""
            import atoll, os
            def spin(descriptor):
                os.write(descriptor, b"!")
                while True: pass
            reader, writer = os.pipe()
            pool = atoll.InterpreterPoolExecutor(2)
            futures = [pool.submit(spin, writer) for _ in range(3)]
            os.read(reader, 1)
            pool.{end}()
            print(sum(f.cancelled() for f in futures) > 0)
            """
        check_ended(run_python(source), 0, "True\n")


def test_terminated_calls_clean_up():
    with Pipe() as inside, Pipe() as done, atoll.InterpreterPoolExecutor(1) as pool:
        future = pool.submit(clean_up, inside.writer, done.writer)
        inside.wait()
        pool.terminate_workers()
        assert os.read(done.reader, 1) == b"y"
        failed = future.exception(PATIENCE)
        assert isinstance(failed, BrokenInterpreterPool)


def test_a_terminated_call_has_no_result():
    with Pipe() as inside, atoll.InterpreterPoolExecutor(1) as pool:
        future = pool.submit(swallow, inside.writer)
        inside.wait()
        pool.terminate_workers()
        assert isinstance(future.exception(PATIENCE), BrokenInterpreterPool)


def test_interpreters_of_killed_workers_end():
    before = ids()
    with Pipe() as inside, Pipe() as done:
        pool = atoll.InterpreterPoolExecutor(1)
        pool.submit(clean_up, inside.writer, done.writer)
        inside.wait()
        pool.kill_workers()
        assert os.read(done.reader, 1) == b"y"
        pool.shutdown()
        only_these_are_left(before)
