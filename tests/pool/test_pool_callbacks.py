"""add_done_callback(): what callbacks may do, and where they are called."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import threading
import time
import weakref

import pytest

import atoll
from helpers import PATIENCE, Pipe, Thread, fail, identity, signal_and_wait


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(2) as pool:
        yield pool


def outcome_of(submit, callback):
    """Return what a callback returns for a call that has ended, wherever it is called."""
    outcome = concurrent.futures.Future()

    def call(future):
        try:
            outcome.set_result(callback(future))
        except BaseException as error:
            outcome.set_exception(error)

    submit(identity, 0).add_done_callback(call)
    return outcome.result(PATIENCE)


class TestWaiting:
    """Each waits for futures that have to be told while the callback runs."""

    def test_wait(self, pool):
        def callback(_):
            futures = [pool.submit(identity, n) for n in range(4)]
            done, _ = concurrent.futures.wait(futures, PATIENCE)
            return sorted(future.result() for future in done)

        assert outcome_of(pool.submit, callback) == [0, 1, 2, 3]

    def test_as_completed(self, pool):
        def callback(_):
            futures = [pool.submit(identity, n) for n in range(4)]
            return sorted(f.result() for f in concurrent.futures.as_completed(futures, PATIENCE))

        assert outcome_of(pool.submit, callback) == [0, 1, 2, 3]

    def test_results_and_map(self, pool):
        def callback(_):
            watched = pool.submit(identity, 1)
            watched.add_done_callback(identity)
            return watched.result(PATIENCE), watched.exception(PATIENCE), list(pool.map(identity, range(50)))

        assert outcome_of(pool.submit, callback) == (1, None, list(range(50)))

    def test_another_callback(self, pool):
        def callback(_):
            told = threading.Event()
            pool.submit(identity, 1).add_done_callback(lambda _: told.set())
            return told.wait(PATIENCE)

        assert outcome_of(pool.submit, callback)

    def test_asyncio(self, pool):
        async def several():
            loop = asyncio.get_running_loop()
            return await asyncio.gather(*(loop.run_in_executor(pool, identity, n) for n in range(4)))

        assert outcome_of(pool.submit, lambda _: asyncio.run(several())) == [0, 1, 2, 3]

    def test_of_an_interpreter(self):
        with atoll.create() as interp:

            def callback(_):
                futures = [interp.submit(identity, n) for n in range(4)]
                return [future.result() for future in concurrent.futures.as_completed(futures, PATIENCE)]

            assert sorted(outcome_of(interp.submit, callback)) == [0, 1, 2, 3]


class TestEnd:
    def test_shutdown(self):
        pool = atoll.InterpreterPoolExecutor(1)
        assert outcome_of(pool.submit, lambda _: pool.shutdown()) is None
        pool.shutdown()

    def test_close(self):
        interp = atoll.create()
        assert outcome_of(interp.submit, lambda _: interp.close()) is None
        with pytest.raises(atoll.InterpreterNotFoundError):
            interp.close()

    def test_all_are_called_before_the_pool_has_ended(self):
        told = []
        with Pipe() as inside, Pipe() as leave:
            with atoll.InterpreterPoolExecutor(2) as pool:
                running = pool.submit(signal_and_wait, inside.writer, leave.reader)
                inside.wait()
                for future in [running, *(pool.submit(identity, n) for n in range(50))]:
                    future.add_done_callback(told.append)
                leave.signal()
            assert len(told) == 51
        assert [thread.name for thread in threading.enumerate() if "atoll" in thread.name] == []

    def test_nothing_is_kept(self):
        class Thing:
            def told(self, _):
                pass

        with atoll.InterpreterPoolExecutor(1) as pool:
            thing = Thing()
            future = pool.submit(identity, 1)
            future.add_done_callback(thing.told)
            pool.submit(identity, 2).add_done_callback(identity)
        gone = [weakref.ref(pool._pool), weakref.ref(future), weakref.ref(thing)]
        del pool, future, thing
        gc.collect()
        assert [reference() for reference in gone] == [None, None, None]


class TestExceptions:
    @pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
    def test_others_are_called_all_the_same(self, kind, caplog):
        told = []
        with atoll.InterpreterPoolExecutor(1) as pool, Pipe() as inside, Pipe() as leave:
            first = pool.submit(signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            first.add_done_callback(lambda _: fail(kind, "in a callback"))
            first.add_done_callback(told.append)
            second = pool.submit(identity, 2)
            second.add_done_callback(told.append)
            leave.signal()
        assert told == [first, second]
        assert "exception calling callback" in caplog.text
        assert "in a callback" in caplog.text


class TestCancelled:
    """Futures that are watched, of calls that cannot begin yet; the first has a callback that raises."""

    @pytest.fixture(params=[KeyboardInterrupt, SystemExit])
    def kind(self, request):
        return request.param

    @pytest.fixture
    def queued(self, pool, kind):
        with Pipe() as inside, Pipe() as leave:
            for _ in range(2):
                pool.submit(signal_and_wait, inside.writer, leave.reader)
                inside.wait()
            futures = [pool.submit(identity, number) for number in range(3)]
            futures[0].add_done_callback(lambda _: fail(kind, "in a callback"))
            for future in futures[1:]:
                future.add_done_callback(identity)
            yield futures
            leave.signal(2)
            with contextlib.suppress(RuntimeError):
                pool.submit(identity, 0).result(PATIENCE)
            pool.shutdown()

    def test_who_cancels_hears_of_it(self, queued, kind):
        """As with a ThreadPoolExecutor; and whoever waits is told."""
        waiting = Thread(concurrent.futures.wait, queued[:1], PATIENCE)
        with pytest.raises(kind, match="in a callback"):
            queued[0].cancel()
        assert waiting.result().done == {queued[0]}
        assert queued[0].cancelled() and queued[0].cancel()

    def test_all_are_told(self, pool, queued, kind):
        with pytest.raises(kind, match="in a callback"):
            pool.shutdown(wait=False, cancel_futures=True)
        assert concurrent.futures.wait(queued, PATIENCE).done == set(queued)

    def test_by_force(self, pool, queued, kind):
        with pytest.raises(kind, match="in a callback"):
            pool.terminate_workers()
        assert concurrent.futures.wait(queued, PATIENCE).done == set(queued)

    @pytest.mark.parametrize("wait", [concurrent.futures.wait, concurrent.futures.as_completed])
    def test_callbacks_may_wait(self, pool, queued, wait):
        """For the future that was cancelled, too: as with a ThreadPoolExecutor, which has a thread that tells them."""
        done = []
        queued[1].add_done_callback(lambda future: done.extend(wait([future], PATIENCE)))
        assert queued[1].cancel()
        assert done in ([{queued[1]}, set()], [queued[1]])

    def test_after_ctrl_c(self, pool, queued, caplog):
        """It ends the pool, whatever callbacks raise."""
        error = KeyboardInterrupt()
        assert not pool.__exit__(KeyboardInterrupt, error, None)
        assert concurrent.futures.wait(queued, PATIENCE).done == set(queued)
        assert "in a callback" in caplog.text


class TestCtrlC:
    def test_one_thread_tells(self, monkeypatch):
        """Also when it comes when that has just been started: two would not wait for each other at the end."""
        start = threading.Thread.start
        started = []

        def interrupted(thread):
            start(thread)
            started.append(thread)
            if len(started) == 1:
                raise KeyboardInterrupt

        told = []
        with atoll.InterpreterPoolExecutor(1) as pool, Pipe() as inside, Pipe() as leave:
            future = pool.submit(signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    future.add_done_callback(told.append)
                future.add_done_callback(told.append)
            deadline = time.monotonic() + PATIENCE
            while sum(thread.is_alive() for thread in started) > 1 and time.monotonic() < deadline:
                time.sleep(0.001)
            assert sum(thread.is_alive() for thread in started) == 1
            leave.signal()
        assert told == [future]
        assert not any(thread.is_alive() for thread in started)


class TestWithoutThreads:
    """No thread can be started that would tell futures: whoever asks hears of it, and the future is as it was."""

    @pytest.mark.parametrize(
        "watch",
        [
            lambda future: future.add_done_callback(identity),
            lambda future: concurrent.futures.wait([future], PATIENCE),
            lambda future: next(concurrent.futures.as_completed([future], PATIENCE)),
        ],
    )
    def test_the_result_is_to_be_had(self, watch, monkeypatch):
        def refuse(_thread):
            raise RuntimeError("can't start new thread")

        with atoll.InterpreterPoolExecutor(1) as pool, Pipe() as inside, Pipe() as leave:
            future = pool.submit(signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                for _ in range(2):
                    with pytest.raises(RuntimeError, match="can't start new thread"):
                        watch(future)
            leave.signal()
            assert future.exception(PATIENCE) is None
            told = []
            later = pool.submit(identity, 3)
            later.add_done_callback(told.append)
            assert concurrent.futures.wait([later], PATIENCE).done == {later}
        assert told == [later]


class TestMemory:
    def test_telling_is_tried_again(self, pool, monkeypatch):
        """Whoever waits for a future that could not be told for want of memory would wait for ever."""
        tell = concurrent.futures.Future.set_result

        def fail_once(future, result):
            monkeypatch.setattr(concurrent.futures.Future, "set_result", tell)
            raise MemoryError

        with Pipe() as inside, Pipe() as leave:
            future = pool.submit(signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            future.add_done_callback(identity)
            monkeypatch.setattr(concurrent.futures.Future, "set_result", fail_once)
            leave.signal()
            assert future.exception(PATIENCE) is None
        pool.shutdown()

    def test_cancelling_is_tried_again(self, pool, monkeypatch):
        cancel = concurrent.futures.Future.cancel

        def fail_once(future):
            monkeypatch.setattr(concurrent.futures.Future, "cancel", cancel)
            raise MemoryError

        with Pipe() as inside, Pipe() as leave:
            for _ in range(2):
                pool.submit(signal_and_wait, inside.writer, leave.reader)
                inside.wait()
            future = pool.submit(identity, 0)
            future.add_done_callback(identity)
            monkeypatch.setattr(concurrent.futures.Future, "cancel", fail_once)
            with pytest.raises(MemoryError):
                super(type(future), future).cancel()
            assert concurrent.futures.wait([future], PATIENCE).done == {future}
            leave.signal(2)
            pool.shutdown()
