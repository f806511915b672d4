"""Limits, replacement of workers, spare interpreters, asyncio, and calls in one interpreter."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

import atoll
import atoll._atoll
from helpers import (
    PATIENCE,
    Pipe,
    Thread,
    current_id,
    identity,
    ids,
    signal_and_wait,
    signal_and_wait_stubbornly,
    spin,
    wait_for_spares,
)


def where(number):
    return atoll.get_current().id


def spin_for_ever(inside):
    import os
    import time

    os.write(inside, b"!")
    while True:
        time.monotonic()


def swallow(inside):
    try:
        spin_for_ever(inside)
    except BaseException:
        return "swallowed"


class TestTimeLimit:
    def test_fails_and_goes_on(self):
        with atoll.InterpreterPoolExecutor(1, task_timeout=1) as pool:
            before = pool.submit(current_id).result(PATIENCE)
            error = pool.submit(spin, 600).exception(PATIENCE)
            assert type(error) is TimeoutError
            assert "1000 ms" in str(error)
            assert "in spin" in error.__cause__.excinfo.errdisplay
            assert pool.submit(current_id).result(PATIENCE) == before

    def test_only_its_own_task_fails(self):
        with atoll.InterpreterPoolExecutor(2, task_timeout=1) as pool:
            slow = pool.submit(spin, 600)
            assert [pool.submit(identity, n).result(PATIENCE) for n in range(100)] == list(range(100))
            assert type(slow.exception(PATIENCE)) is TimeoutError

    def test_wait_in_a_queue(self):
        queue = atoll.create_queue()
        with atoll.InterpreterPoolExecutor(1, task_timeout=1) as pool:
            assert type(pool.submit(queue.get).exception(PATIENCE)) is TimeoutError

    def test_swallowed(self):
        with atoll.InterpreterPoolExecutor(1, task_timeout=1) as pool, Pipe() as inside:
            error = pool.submit(swallow, inside.writer).exception(PATIENCE)
            assert type(error) is TimeoutError
            assert pool.submit(identity, 1).result(PATIENCE) == 1

    def test_stuck_worker_is_replaced(self):
        with Pipe() as inside, Pipe() as leave:
            with atoll.InterpreterPoolExecutor(1, task_timeout=1) as pool:
                before = pool.submit(current_id).result(PATIENCE)
                stuck = pool.submit(signal_and_wait_stubbornly, inside.writer, leave.reader)
                queued = pool.submit(current_id)
                assert type(stuck.exception(PATIENCE)) is TimeoutError
                assert queued.result(PATIENCE) != before
            leave.signal()
            deadline = time.monotonic() + PATIENCE
            while before in ids() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert before not in ids()

    def test_map(self):
        with atoll.InterpreterPoolExecutor(2, task_timeout=10) as pool:
            assert list(pool.map(identity, range(100))) == list(range(100))

    @pytest.mark.parametrize("value", [0, -1])
    def test_bad(self, value):
        with pytest.raises(ValueError, match="task_timeout"):
            atoll.InterpreterPoolExecutor(1, task_timeout=value)


class TestTasksPerChild:
    def test_new_interpreters(self):
        with atoll.InterpreterPoolExecutor(1, max_tasks_per_child=2) as pool:
            seen = [pool.submit(current_id).result(PATIENCE) for _ in range(6)]
        assert [seen.count(number) for number in dict.fromkeys(seen)] == [2, 2, 2]

    def test_initializer_runs_again(self):
        with atoll.InterpreterPoolExecutor(
            1, max_tasks_per_child=1, initializer=exec, initargs=("import builtins; builtins.mark = 5",)
        ) as pool:
            assert [pool.submit(eval, "mark").result(PATIENCE) for _ in range(3)] == [5, 5, 5]

    @pytest.mark.parametrize("options", [{}, {"chunksize": 50}, {"chunksize": 3}, {"chunksize": 2}])
    def test_map(self, options):
        """No chunk is for more than one interpreter."""
        with atoll.InterpreterPoolExecutor(1, max_tasks_per_child=5) as pool:
            places = list(pool.map(where, range(60), **options))
        assert max(map(places.count, places)) <= 5

    @pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.5, TypeError)])
    def test_bad(self, value, error):
        with pytest.raises(error):
            atoll.InterpreterPoolExecutor(1, max_tasks_per_child=value)


class TestPrewarm:
    @pytest.fixture(autouse=True)
    def none_left(self):
        yield
        atoll.prewarm(0)
        wait_for_spares(0)

    def test_hidden_until_taken(self):
        before = ids()
        atoll.prewarm(2)
        wait_for_spares(2)
        assert ids() == before
        with atoll.create() as interp:
            assert interp in atoll.list_all()
            assert interp.call(pow, 2, 3) == 8
            assert interp.whence == "atoll"
            wait_for_spares(2)
        assert ids() == before

    def test_path_is_the_callers(self, monkeypatch):
        atoll.prewarm(1)
        wait_for_spares(1)
        monkeypatch.syspath_prepend("somewhere")
        with atoll.create() as interp:
            assert interp.call(eval, "__import__('sys').path") == sys.path

    def test_only_what_matches(self):
        atoll.prewarm(1, extensions="strict")
        wait_for_spares(1)
        with atoll.create():
            assert atoll._atoll._spares_ready() == 1

    def test_others_are_replaced(self):
        atoll.prewarm(2)
        wait_for_spares(2)
        atoll.prewarm(1, extensions="strict")
        wait_for_spares(1)
        with atoll.create(extensions="strict"), atoll.create():
            wait_for_spares(1)

    def test_pool(self):
        atoll.prewarm(2)
        wait_for_spares(2)
        for spares in (True, False):
            with atoll.InterpreterPoolExecutor(2, use_spares=spares) as pool:
                assert list(pool.map(identity, range(100))) == list(range(100))
            wait_for_spares(2)

    def test_fewer(self):
        atoll.prewarm(3)
        wait_for_spares(3)
        atoll.prewarm(1)
        wait_for_spares(1)

    def test_bad(self):
        with pytest.raises(ValueError, match="negative"):
            atoll.prewarm(-1)
        with pytest.raises(TypeError):
            atoll.prewarm("x")


class TestAsyncio:
    def test_run_in_executor(self):
        async def main():
            loop = asyncio.get_running_loop()
            with atoll.InterpreterPoolExecutor(2) as pool:
                loop.set_default_executor(pool)
                several = [loop.run_in_executor(pool, pow, 2, n) for n in range(50)]
                assert await asyncio.gather(*several) == [2**n for n in range(50)]
                assert await loop.run_in_executor(None, pow, 2, 5) == 32
                with pytest.raises(ZeroDivisionError):
                    await loop.run_in_executor(pool, divmod, 1, 0)

        asyncio.run(main())

    def test_cancelled_before_it_began(self):
        async def main():
            loop = asyncio.get_running_loop()
            with atoll.InterpreterPoolExecutor(1) as pool, Pipe() as inside, Pipe() as leave:
                running = loop.run_in_executor(pool, signal_and_wait, inside.writer, leave.reader)
                waiting = pool.submit(identity, 1)
                wrapped = asyncio.wrap_future(waiting)
                wrapped.cancel()
                await asyncio.sleep(0)
                assert waiting.cancelled()
                leave.signal()
                await running

        asyncio.run(main())

    def test_call_async(self):
        async def main():
            with atoll.create() as interp:
                assert await interp.call_async(pow, 2, 5) == 32
                assert await asyncio.gather(*[interp.call_async(identity, n) for n in range(20)]) == list(
                    range(20)
                )
                with pytest.raises(ZeroDivisionError):
                    await interp.call_async(divmod, 1, 0)

        asyncio.run(main())

    def test_cancellation_reaches_the_call(self):
        async def main():
            with atoll.create() as interp, Pipe() as inside:
                task = asyncio.create_task(interp.call_async(spin_for_ever, inside.writer))
                await asyncio.to_thread(inside.wait)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await interp.call_async(identity, 1) == 1

        asyncio.run(main())


def put_later(queue, number):
    import time

    time.sleep(0.02)
    queue.put(number)
    return number


def visit():
    """Return how many calls were inside at once, at most."""
    import sys
    import time

    sys.inside = getattr(sys, "inside", 0) + 1
    sys.most = max(getattr(sys, "most", 0), sys.inside)
    time.sleep(0.005)
    sys.inside -= 1
    return sys.most


class TestSubmitToOne:
    def test_result(self):
        with atoll.create() as interp:
            assert interp.submit(current_id).result(PATIENCE) == interp.id
            assert interp.submit(dict, a=1).result(PATIENCE) == {"a": 1}

    def test_in_turn(self):
        with atoll.create() as interp:
            interp.exec("order = []")
            futures = [interp.submit(eval, f"order.append({n})") for n in range(50)]
            for future in futures:
                future.result(PATIENCE)
            assert interp.submit(eval, "order").result(PATIENCE) == list(range(50))

    def test_exception(self):
        with atoll.create() as interp:
            assert type(interp.submit(divmod, 1, 0).exception(PATIENCE)) is ZeroDivisionError

    def test_closed_meanwhile(self):
        interp = atoll.create()
        assert interp.submit(identity, 1).result(PATIENCE) == 1
        interp.close()
        with pytest.raises(atoll.InterpreterNotFoundError):
            interp.submit(identity, 1)

    @pytest.mark.parametrize("end", ["close", "__exit__"])
    def test_close_finishes_what_was_submitted(self, end):
        queue = atoll.create_queue()
        interp = atoll.create()
        futures = [interp.submit(put_later, queue, n) for n in range(5)]
        interp.close() if end == "close" else interp.__exit__(None, None, None)
        assert [future.result(PATIENCE) for future in futures] == list(range(5))
        assert queue.qsize() == 5

    def test_one_at_a_time_whoever_submits_first(self):
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(20):
                with atoll.create() as interp:
                    together = threading.Barrier(4)

                    def go(interp=interp, together=together):
                        together.wait()
                        return interp.submit(visit).result(PATIENCE)

                    assert [thread.result() for thread in [Thread(go) for _ in range(4)]] == [1] * 4
        finally:
            sys.setswitchinterval(interval)

    def test_dropped_with_work_left(self):
        before = ids()
        interp = atoll.create()
        future = interp.submit(spin, 0.05)
        del interp
        assert future.result(PATIENCE) == 0.05
        del future
        deadline = time.monotonic() + PATIENCE
        while ids() != before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ids() == before

    def test_not_for_main(self):
        with pytest.raises(atoll.InterpreterError):
            atoll.get_main().submit(identity, 1)

    def test_without_a_callable(self):
        with atoll.create() as interp, pytest.raises(TypeError):
            interp.submit()


class TestInstall:
    @pytest.mark.parametrize(
        "first", ["", "import concurrent.futures\n", "import concurrent.futures.thread\n"]
    )
    def test_means_ours(self, first):
        source = first + (
            "import atoll\n"
            "atoll.install()\n"
            "import concurrent.futures\n"
            "from concurrent.futures import InterpreterPoolExecutor\n"
            "from concurrent.futures.interpreter import BrokenInterpreterPool\n"
            "assert InterpreterPoolExecutor is atoll.InterpreterPoolExecutor\n"
            "assert concurrent.futures.InterpreterPoolExecutor is InterpreterPoolExecutor\n"
            "assert concurrent.futures.ThreadPoolExecutor(1).submit(pow, 2, 3).result() == 8\n"
            "inner = 'import concurrent.futures, atoll; '"
            "'assert concurrent.futures.InterpreterPoolExecutor is atoll.InterpreterPoolExecutor'\n"
            "with atoll.create() as interp: interp.exec(inner)\n"
            "with InterpreterPoolExecutor(1) as pool: assert pool.submit(pow, 2, 3).result() == 8\n"
            "try: concurrent.futures.nothing\n"
            "except AttributeError: print('good')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (done.stdout, done.stderr, done.returncode) == ("good\n", "", 0)
