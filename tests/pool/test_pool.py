"""InterpreterPoolExecutor: the executor's contract."""

from __future__ import annotations

import concurrent.futures
import copy
import gc
import math
import pickle
import threading
import time
import weakref
from decimal import Decimal
from fractions import Fraction

import pytest

import atoll
import atoll.futures
from atoll._pool import executor
from helpers import PATIENCE, Pipe, Thread, fail, identity, ids, signal_and_wait, spin


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(2) as pool:
        yield pool


def here():
    import atoll

    return atoll.get_current().id


class Odd(Exception):
    """An exception that cannot be sent."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def raise_odd():
    raise Odd


class TestSubmit:
    def test_result(self, pool):
        assert pool.submit(pow, 2, 8).result(PATIENCE) == 256

    def test_runs_elsewhere(self, pool):
        assert pool.submit(here).result(PATIENCE) != atoll.get_current().id

    def test_keywords(self, pool):
        assert pool.submit(dict, self=1, fn=2, callable=3).result(PATIENCE) == {
            "self": 1,
            "fn": 2,
            "callable": 3,
        }

    @pytest.mark.parametrize("value", [None, 1, "x", b"y" * 200_000, [1, [2]], {"a": (1, 2)}, {3}, 2.5])
    def test_values(self, pool, value):
        assert pool.submit(identity, value).result(PATIENCE) == value

    def test_many_outstanding(self, pool):
        futures = [pool.submit(identity, n) for n in range(20_000)]
        assert [future.result(PATIENCE) for future in futures] == list(range(20_000))

    def test_without_arguments(self, pool):
        with pytest.raises(TypeError):
            pool.submit()

    def test_script(self, pool):
        with pytest.raises(TypeError, match="scripts not supported"):
            pool.submit("pass")

    def test_not_callable(self, pool):
        assert isinstance(pool.submit(5).exception(PATIENCE), TypeError)

    def test_unsendable_argument(self, pool):
        error = pool.submit(identity, [threading.Lock()]).exception(PATIENCE)
        assert isinstance(error, TypeError)
        assert "lock" in str(error)
        assert pool.submit(identity, 1).result(PATIENCE) == 1

    def test_unsendable_result(self, pool):
        error = pool.submit(threading.Lock).exception(PATIENCE)
        assert isinstance(error, atoll.NotShareableError)
        assert "result" in str(error)

    def test_main_function(self, pool):
        scope = {"__name__": "__main__", "factor": 3}
        exec("def triple(x): return x * factor", scope)
        assert pool.submit(scope["triple"], 5).result(PATIENCE) == 15

    def test_state_is_kept_between_tasks(self):
        with atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(exec, "import builtins; builtins.kept = 7").result(PATIENCE)
            assert pool.submit(eval, "kept").result(PATIENCE) == 7

    def test_large_array_like(self, pool):
        data = bytearray(5_000_000)
        assert pool.submit(len, data).result(PATIENCE) == 5_000_000


class TestExceptions:
    def test_as_itself_with_remote_traceback(self, pool):
        error = pool.submit(fail, ValueError, "no").exception(PATIENCE)
        assert type(error) is ValueError
        assert error.args == ("no",)
        assert type(error.__cause__) is atoll.ExecutionFailed
        assert error.__cause__.excinfo.type.__name__ == "ValueError"
        assert "in fail" in error.__cause__.excinfo.errdisplay

    def test_is_raised(self, pool):
        with pytest.raises(KeyError, match="k"):
            pool.submit(fail, KeyError, "k").result(PATIENCE)

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
    def test_unusual(self, pool, kind):
        assert type(pool.submit(fail, kind, 3).exception(PATIENCE)) is kind
        assert pool.submit(identity, 1).result(PATIENCE) == 1

    def test_unsendable(self, pool):
        error = pool.submit(raise_odd).exception(PATIENCE)
        assert type(error) is atoll.ExecutionFailed
        assert error.excinfo.type.__name__ == "Odd"

    def test_same_object_each_time(self, pool):
        future = pool.submit(fail, ValueError, "no")
        assert future.exception(PATIENCE) is future.exception(PATIENCE)


class TestFuture:
    def test_is_one(self, pool):
        future = pool.submit(pow, 2, 3)
        assert isinstance(future, concurrent.futures.Future)
        assert isinstance(future, atoll.futures.Future)
        assert future.result(PATIENCE) == 8
        assert future.done()
        assert not future.running()
        assert not future.cancelled()
        assert future.exception() is None
        assert "finished" in repr(future)

    def test_cannot_be_made(self):
        with pytest.raises(TypeError):
            atoll.futures.Future()

    def test_result_is_the_same_object(self, pool):
        future = pool.submit(identity, [1])
        assert future.result(PATIENCE) is future.result(PATIENCE)

    def test_timeout(self, pool):
        with Pipe() as inside, Pipe() as leave:
            future = pool.submit(signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            assert future.running()
            assert not future.done()
            for timeout in (0, 0.01, -1, -math.inf, math.nan, Fraction(-1, 2), Decimal(-1), -(10**400)):
                with pytest.raises(TimeoutError):
                    future.result(timeout)
                with pytest.raises(TimeoutError):
                    future.exception(timeout=timeout)
            with pytest.raises(OverflowError):
                future.result(10**400)
            assert future.cancel() is False
            leave.signal()
            future.result(2**70)  # waits

    def test_bad_timeout(self, pool):
        with pytest.raises(TypeError):
            pool.submit(spin, 0.01).result("soon")

    def test_many_threads_wait(self, pool):
        with Pipe() as inside, Pipe() as leave:
            future = pool.submit(signal_and_wait, inside.writer, leave.reader)
            threads = [Thread(future.result, PATIENCE) for _ in range(5)]
            inside.wait()
            leave.signal()
            assert len({thread.result() for thread in threads}) == 1

    def test_cancel(self):
        with atoll.InterpreterPoolExecutor(1) as pool, Pipe() as inside, Pipe() as leave:
            running = pool.submit(signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            pending = pool.submit(identity, 1)
            assert pending.cancel()
            assert pending.cancel()
            assert pending.cancelled()
            assert pending.done()
            with pytest.raises(concurrent.futures.CancelledError):
                pending.result(0)
            with pytest.raises(concurrent.futures.CancelledError):
                pending.exception(0)
            assert concurrent.futures.wait([pending], PATIENCE).done == {pending}
            leave.signal()
            running.result(PATIENCE)
            assert running.cancel() is False

    def test_cancel_while_waited_for(self):
        with atoll.InterpreterPoolExecutor(1) as pool, Pipe() as inside, Pipe() as leave:
            running = pool.submit(signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            plain, watched = pool.submit(identity, 1), pool.submit(identity, 2)
            calls = []
            watched.add_done_callback(calls.append)
            threads = [
                Thread(concurrent.futures.wait, [watched], PATIENCE),
                Thread(plain.exception, PATIENCE),
            ]
            assert plain.cancel()
            assert watched.cancel()
            assert calls == [watched]
            assert threads[0].result().done == {watched}
            with pytest.raises(concurrent.futures.CancelledError):
                threads[1].result()
            leave.signal()
            running.result(PATIENCE)

    def test_interrupt(self, pool):
        with Pipe() as inside:
            future = pool.submit(signal_and_spin, inside.writer)
            inside.wait()
            assert future.interrupt()
            assert isinstance(future.exception(PATIENCE), KeyboardInterrupt)
            assert not future.interrupt()

    def test_interrupt_of_a_wait(self, pool):
        queue = atoll.create_queue()
        with Pipe() as inside:
            future = pool.submit(signal_and_get, inside.writer, queue)
            inside.wait()
            future.interrupt()
            assert isinstance(future.exception(PATIENCE), KeyboardInterrupt)

    def test_callbacks(self, pool):
        calls = []
        future = pool.submit(spin, 0.01)
        future.add_done_callback(lambda f: calls.append(1))
        future.add_done_callback(lambda f: 1 / 0)
        future.add_done_callback(lambda f: calls.append(2))
        assert future.result(PATIENCE) == 0.01
        concurrent.futures.wait([future], PATIENCE)
        future.add_done_callback(lambda f: calls.append(3))
        deadline = time.monotonic() + PATIENCE
        while len(calls) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert sorted(calls) == [1, 2, 3]

    def test_wait(self, pool):
        futures = [pool.submit(identity, n) for n in range(50)]
        done, left = concurrent.futures.wait(futures, PATIENCE)
        assert done == set(futures)
        assert not left

    def test_wait_for_first(self, pool):
        with Pipe() as inside, Pipe() as leave:
            slow = pool.submit(signal_and_wait, inside.writer, leave.reader)
            quick = pool.submit(identity, 1)
            done, left = concurrent.futures.wait([slow, quick], PATIENCE, concurrent.futures.FIRST_COMPLETED)
            assert done == {quick}
            assert left == {slow}
            leave.signal()

    def test_as_completed(self, pool):
        futures = [pool.submit(identity, n) for n in range(200)]
        for future in futures[::3]:
            future.result(PATIENCE)
        assert {f.result() for f in concurrent.futures.as_completed(futures, PATIENCE)} == set(range(200))

    def test_dropped(self, pool):
        for n in range(1000):
            pool.submit(identity, n)
        assert pool.submit(identity, 1).result(PATIENCE) == 1

    def test_is_freed(self, pool):
        future = pool.submit(identity, 1)
        future.add_done_callback(identity)
        concurrent.futures.wait([future], PATIENCE)
        gone = weakref.ref(future)
        del future
        deadline = time.monotonic() + PATIENCE
        while gone() is not None and time.monotonic() < deadline:
            gc.collect()
        assert gone() is None


class TestLife:
    @pytest.mark.parametrize("workers", [0, -1])
    def test_bad_number(self, workers):
        with pytest.raises(ValueError, match="greater than 0"):
            atoll.InterpreterPoolExecutor(workers)

    @pytest.mark.parametrize(
        "options",
        [
            {"max_workers": "2"},
            {"max_workers": 2.5},
            {"max_workers": 1 << 40},
            {"max_tasks_per_child": "2"},
            {"max_tasks_per_child": 1 << 40},
            {"task_timeout": "2"},
            {"initializer": print, "initargs": 5},
        ],
    )
    def test_bad_argument(self, options):
        """It is named, and nothing is left behind."""
        with pytest.raises(
            (TypeError, ValueError), match=[*options][-1] if len(options) == 1 else "iterable"
        ):
            atoll.InterpreterPoolExecutor(**options)

    def test_bad_timeout_of_map(self, pool):
        with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not str"):
            pool.map(abs, [1], timeout="1")

    @pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_cannot_be_copied(self, pool, how):
        """A copy that goes would end the pool."""
        with pytest.raises(TypeError, match="cannot pickle 'InterpreterPoolExecutor' object"):
            how(pool)
        with pytest.raises(
            atoll.NotShareableError, match=r"args\[0\]: atoll.InterpreterPoolExecutor is not shareable"
        ):
            pool.submit(identity, pool).result(PATIENCE)
        assert pool.submit(identity, 1).result(PATIENCE) == 1

    def test_bad_initializer(self):
        with pytest.raises(TypeError, match="callable"):
            atoll.InterpreterPoolExecutor(initializer=5)

    def test_workers_are_started_when_needed(self):
        with atoll.InterpreterPoolExecutor(4) as pool:
            for n in range(20):
                assert pool.submit(identity, n).result(PATIENCE) == n
            assert len(pool._threads) == 1

    def test_interpreters_end_with_it(self):
        before = ids()
        with atoll.InterpreterPoolExecutor(2) as pool:
            list(pool.map(spin, [0.01] * 4))
            assert len(ids()) > len(before)
        assert ids() == before

    def test_shutdown_waits(self):
        pool = atoll.InterpreterPoolExecutor(1)
        futures = [pool.submit(spin, 0.01) for _ in range(5)]
        pool.shutdown()
        assert all(future.done() for future in futures)

    def test_submit_after_shutdown(self):
        pool = atoll.InterpreterPoolExecutor(1)
        pool.shutdown()
        pool.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(identity, 1)

    def test_shutdown_cancels(self):
        pool = atoll.InterpreterPoolExecutor(1)
        with Pipe() as inside, Pipe() as leave:
            running = pool.submit(signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            futures = [pool.submit(identity, n) for n in range(10)]
            calls = []
            futures[3].add_done_callback(calls.append)
            pool.shutdown(wait=False, cancel_futures=True)
            assert all(future.cancelled() for future in futures)
            assert calls == [futures[3]]
            assert not running.done()
            leave.signal()
            running.result(PATIENCE)
            pool.shutdown()

    def test_results_after_shutdown(self):
        with atoll.InterpreterPoolExecutor(2) as pool:
            futures = [pool.submit(identity, b"x" * 100_000) for _ in range(10)]
        assert {future.result(0) for future in futures} == {b"x" * 100_000}

    def test_dropped_pool_finishes_its_work(self):
        future = atoll.InterpreterPoolExecutor(1).submit(identity, 5)
        gc.collect()
        assert future.result(PATIENCE) == 5

    def test_is_not_kept(self):
        pool = atoll.InterpreterPoolExecutor(1)
        pool.submit(identity, 1).result(PATIENCE)
        gone = weakref.ref(pool)
        del pool
        gc.collect()
        assert gone() is None

    @pytest.mark.parametrize("make", [atoll.InterpreterPoolExecutor, lambda _: atoll.create()])
    def test_nothing_is_kept_of_what_the_garbage_collector_finds(self, make):
        """As where an error was caught: its traceback leads to the variables, and so to itself."""

        def use():
            with make(1) as what:
                future = what.submit(divmod, 1, 0)
                with pytest.raises(ZeroDivisionError) as raised:
                    future.result(PATIENCE)
                cycle = [raised, what]
                cycle.append(cycle)
                return weakref.ref(getattr(what, "_pool", None) or executor._guests[what])

        gone = use()
        gc.collect()
        assert gone() is None

    def test_worker_cannot_be_closed(self, pool):
        interp = atoll.Interpreter(pool.submit(here).result(PATIENCE))
        with pytest.raises(atoll.InterpreterError):
            interp.close()
        assert pool.submit(identity, 1).result(PATIENCE) == 1

    def test_inside_an_interpreter(self):
        source = """if True:
            import atoll
            with atoll.InterpreterPoolExecutor(2) as pool:
                assert list(pool.map(pow, [2] * 5, range(5))) == [1, 2, 4, 8, 16]
                future = pool.submit(pow, 2, 9)
                future.add_done_callback(lambda f: None)
                assert future.result(60) == 512
            """
        with atoll.create() as interp:
            interp.exec(source)

    def test_nested(self, pool):
        def outer(n):
            import atoll

            with atoll.InterpreterPoolExecutor(1) as inner:
                return inner.submit(pow, 2, n).result()

        scope = {"__name__": "__main__"}
        exec(
            "def outer(n):\n"
            "    import atoll\n"
            "    with atoll.InterpreterPoolExecutor(1) as inner:\n"
            "        return inner.submit(pow, 2, n).result()\n",
            scope,
        )
        assert pool.submit(scope["outer"], 5).result(PATIENCE) == 32

    def test_thread_name(self):
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix="maple") as pool:
            assert pool.submit(comm).result(PATIENCE) == "maple_0"


class TestInitializer:
    def test_runs_once_per_worker(self):
        with atoll.InterpreterPoolExecutor(1, initializer=set_mark, initargs=(5,)) as pool:
            assert pool.submit(get_mark).result(PATIENCE) == 5

    def test_failure_breaks_the_pool(self, caplog):
        with atoll.InterpreterPoolExecutor(2, initializer=fail, initargs=(ValueError, "spam")) as pool:
            futures = [pool.submit(identity, n) for n in range(5)]
            for future in futures:
                assert isinstance(future.exception(PATIENCE), atoll.futures.BrokenInterpreterPool)
            with pytest.raises(concurrent.futures.BrokenExecutor):
                pool.submit(identity, 1)
        assert "Exception in initializer" in caplog.text
        assert "ValueError: spam" in caplog.text
        assert caplog.text.count("Exception in initializer") == 1

    def test_unsendable(self, caplog):
        pool = atoll.InterpreterPoolExecutor(1, initializer=identity, initargs=(threading.Lock(),))
        error = pool.submit(identity, 1).exception(PATIENCE)
        pool.shutdown()
        assert isinstance(error, atoll.futures.BrokenInterpreterPool)
        assert "lock" in caplog.text


def signal_and_spin(inside):
    import os
    import time

    os.write(inside, b"!")
    while True:
        time.monotonic()


def signal_and_get(inside, queue):
    import os

    os.write(inside, b"!")
    return queue.get()


def comm():
    import threading
    from pathlib import Path

    return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip()


def set_mark(value):
    import builtins

    builtins.mark = value


def get_mark():
    import builtins

    return builtins.mark


class Misfit(ValueError):
    """Its __init__ takes something else than its args."""

    def __init__(self, number, line, *, file=None):
        super().__init__(f"line {number}: {line!r}")
        self.number, self.line, self.file = number, line, file


class MisfitFile(OSError):
    def __init__(self, path, *, why):
        super().__init__(2, why, path)
        self.why = why


def misfit(kind, args, kwargs):
    raise kind(*args, **kwargs)


class TestExceptionsWithAnInit:
    @pytest.mark.parametrize(
        "kind, args, kwargs",
        [(Misfit, (1, "no"), {"file": "f"}), (MisfitFile, ("nowhere",), {"why": "gone"})],
    )
    def test_come_back(self, pool, kind, args, kwargs):
        wanted = kind(*args, **kwargs)
        for call in (
            lambda: pool.submit(misfit, kind, args, kwargs).result(PATIENCE),
            lambda: list(pool.map(misfit, [kind], [args], [kwargs])),
        ):
            with pytest.raises(kind) as caught:
                call()
            assert (str(caught.value), caught.value.args) == (str(wanted), wanted.args)
            assert vars(caught.value) == vars(wanted)
