"""Times, memory, modules and pools in the statistics."""

from __future__ import annotations

import contextlib
import gc
import threading

import pytest

import atoll
from helpers import VERSION, Pipe, new, signal_and_wait_stubbornly

pytest_plugins = ["ext_fixtures"]


def burn(seconds):
    """Take processor time."""
    import time

    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def double(value):
    return value * 2


def wait_for(begun, queue):
    begun.put(None)
    queue.get()


def wait_until_set(event):
    return event.wait()


def call_there(interp, function, argument):
    return interp.call(function, argument)


def fail():
    raise ValueError("no")


def keep(count):
    """Hold on to much memory in small objects."""
    import builtins

    builtins.kept = [str(number) for number in range(count)]


def pool_stats(name):
    return next(pool for pool in atoll.stats()["pools"] if pool["name"] == name)


class TestTimes:
    def test_processor_time_of_calls(self):
        with new() as interp:
            before = interp.stats()
            interp.call(burn, 0.1)
            after = interp.stats()
            assert 0.08 < after["cpu"] - before["cpu"] < 0.2
            assert after["running"] - before["running"] > 0.09

    def test_a_call_inside_of_a_call_is_counted_once(self):
        with new() as outer, new() as inner:
            outer.prepare_main(inner=inner)
            outer.exec(
                "def burn(s):\n import time\n e = time.thread_time() + s\n while time.thread_time() < e: pass"
            )
            outer.exec("inner.call(burn, 0.1)")
            assert inner.stats()["cpu"] > 0.08
            assert outer.stats()["cpu"] < 0.06

    def test_what_calls_another_interpreter_stands_still_meanwhile(self):
        event = atoll.Event()
        with new() as outer, new() as inner:
            outer.call(call_there, inner, double, 1)  # they have imported what they need
            before, there = outer.stats(), inner.stats()["running"]
            thread = threading.Thread(target=outer.call, args=(call_there, inner, wait_until_set, event))
            thread.start()
            while inner.stats()["running"] < there + 0.5:
                pass
            meanwhile = outer.stats()
            event.set()
            thread.join()
            after = outer.stats()
            assert before["running"] <= meanwhile["running"] <= after["running"]
            assert before["cpu"] <= meanwhile["cpu"] <= after["cpu"]
            assert after["running"] - before["running"] < inner.stats()["running"] - there
            assert (meanwhile["thread"], meanwhile["state"]) == (None, "calling")

    def test_a_task_that_calls_another_interpreter_stands_still_meanwhile(self):
        event = atoll.Event()

        def worker():
            [found] = [interp for interp in atoll.stats()["interpreters"] if interp["pooled"]]
            return found["running"]

        with new() as inner, atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(call_there, inner, double, 1).result()
            before, there = worker(), inner.stats()["running"]
            future = pool.submit(call_there, inner, wait_until_set, event)
            while inner.stats()["running"] < there + 0.5:
                pass
            event.set()
            assert future.result()
            assert worker() - before < inner.stats()["running"] - there

    def test_a_second_call_takes_nothing_back(self):
        event = atoll.Event()
        with new() as interp:
            thread = threading.Thread(target=interp.call, args=(wait_until_set, event))
            thread.start()
            while (before := interp.stats())["running"] < 0.1:
                pass
            assert before["thread"] == thread.native_id
            interp.call(double, 1)
            after = interp.stats()
            event.set()
            thread.join()
            assert before["running"] <= after["running"] <= interp.stats()["running"]
            assert after["thread"] == thread.native_id

    def test_processor_time_of_main_never_goes_back(self):
        with new() as interp:
            thread = threading.Thread(target=interp.call, args=(burn, 0.3))
            thread.start()
            seen = []
            while thread.is_alive():
                seen.append(atoll.stats()["interpreters"][0]["cpu"])
            thread.join()
            seen.append(atoll.get_main().stats()["cpu"])
            assert seen == sorted(seen)

    def test_what_runs_now_is_counted_before_it_ends(self):
        with new() as interp:
            thread = threading.Thread(target=interp.call, args=(burn, 0.4))
            thread.start()
            seen = 0.0
            while thread.is_alive() and seen == 0:
                stats = interp.stats()
                seen = stats["cpu"] if stats["inside"] and stats["thread"] == thread.native_id else 0.0
            assert seen > 0
            thread.join()
            assert interp.stats()["thread"] is None

    @pytest.mark.skipif(VERSION < (3, 13), reason="3.12 does not say whether a GIL is taken")
    def test_waiting_for_a_gil_that_a_thread_of_its_own_has(self):
        with new() as interp:
            interp.exec(
                "import threading\n"
                "over = []\n"
                "def burn():\n"
                "    while not over: pass\n"
                "threading.Thread(target=burn).start()\n"
            )
            while interp.stats()["gil_waits"] == 0:
                interp.call(abs, -1)
            interp.exec("over.append(1)")
            assert interp.stats()["gil_wait"] > 0

    def test_waiting_for_a_gil_that_a_call_has(self):
        with new() as interp:
            threads = [threading.Thread(target=interp.call, args=(burn, 0.05)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            stats = interp.stats()
            assert stats["gil_waits"] >= 1
            assert stats["gil_wait"] > 0


class TestSizes:
    def test_memory_of_small_objects(self):
        with new() as interp:
            before = interp.stats()["allocated"]
            interp.call(keep, 200_000)
            grown = interp.stats()["allocated"] - before
            assert grown >= 8 * 1024 * 1024
            interp.exec("import builtins; del builtins.kept")
            assert interp.stats()["allocated"] < before + grown / 2

    def test_memory_of_main_is_not_known(self):
        """What it has taken since Atoll is there would pass for all that it has."""
        kept = [object() for _ in range(200_000)]
        assert atoll.get_main().stats()["allocated"] is None
        assert 'atoll_interpreter_allocated_bytes{interpreter="0"' not in atoll.metrics()
        assert len(kept) == 200_000

    def test_modules(self):
        with new() as interp:
            before = interp.stats()["modules"]
            interp.exec("import colorsys, time; time.sleep(0.02)")
            assert interp.stats()["modules"] >= before + 1
            assert interp.call(seen_modules) == interp.stats()["modules"]

    def test_clones(self, corpus):
        with new() as interp:
            interp.exec(f"import sys; sys.path.insert(0, {str(corpus)!r}); import ext_single")
            stats = interp.stats()
            assert stats["clones"] >= 1
            assert stats["clone_bytes"] > 0


def seen_modules():
    import sys

    atoll.get_current().stats()
    return len(sys.modules)


class TestPools:
    def test_tasks(self):
        with atoll.InterpreterPoolExecutor(2, thread_name_prefix="counted") as pool:
            futures = [pool.submit(burn, 0.002) for _ in range(6)]
            futures += [pool.submit(fail) for _ in range(2)]
            for future in futures:
                future.exception()
            assert list(pool.map(abs, range(10), chunksize=5)) == list(range(10))
            stats = pool_stats("counted")
            assert (stats["submitted"], stats["done"], stats["failed"], stats["calls"]) == (10, 10, 2, 18)
            assert (stats["queued"], stats["running"], stats["max_workers"]) == (0, 0, 2)
            assert 1 <= stats["workers"] <= 2
            assert stats["run"] >= 0.012
            assert stats["wait"] > 0
            assert (sum(stats["run_times"]), sum(stats["wait_times"])) == (10, 2)  # of every eighth
            workers = [interp for interp in atoll.stats()["interpreters"] if interp["pooled"]]
            assert sum(worker["tasks"] for worker in workers) == 10
            assert sum(worker["cpu"] for worker in workers) > 0.008
        del pool, futures, future
        gc.collect()
        assert "counted" not in [pool["name"] for pool in atoll.stats()["pools"]]

    def test_what_is_queued_runs_and_is_cancelled(self):
        queue, begun = atoll.create_queue(), atoll.create_queue()
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix="queued") as pool:
            pool.submit(wait_for, begun, queue)
            waiting = [pool.submit(abs, -1) for _ in range(3)]
            begun.get()
            stats = pool_stats("queued")
            assert (stats["queued"], stats["running"]) == (3, 1)
            assert waiting[1].cancel()
            stats = pool_stats("queued")
            assert (stats["queued"], stats["cancelled"]) == (2, 1)
            queue.put(None)
        assert pool_stats("queued")["queued"] == 0

    def test_restarts(self):
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix="again", max_tasks_per_child=2) as pool:
            for _ in range(5):
                pool.submit(abs, -1).result()
            assert pool_stats("again")["restarts"] == 2

    def test_time_limits(self):
        with atoll.InterpreterPoolExecutor(
            1, thread_name_prefix="late", task_timeout=2, imports=[__name__]
        ) as pool:
            with pytest.raises(TimeoutError):
                pool.submit(burn, 60).result()
            assert pool_stats("late")["late"] == 1

    def test_submit_to_an_interpreter(self):
        with new() as interp:
            before = interp.stats()["tasks"]
            interp.submit(burn, 0.05).result()
            stats = interp.stats()
            assert stats["tasks"] == before + 1
            assert 0.03 < stats["cpu"] < 0.2

    def test_a_worker_that_is_stuck(self):
        with Pipe() as inside, Pipe() as leave:
            with atoll.InterpreterPoolExecutor(1, thread_name_prefix="stuck", task_timeout=0.5) as pool:
                with pytest.raises(TimeoutError):
                    pool.submit(signal_and_wait_stubbornly, inside.writer, leave.reader).result()
                assert pool.submit(abs, -1).result() == 1
                stats = pool_stats("stuck")
                assert (stats["lost"], stats["restarts"], stats["done"]) == (1, 1, 1)
                assert (stats["queued"], stats["running"]) == (0, 0)
            leave.signal()
            while any(interp.name == "stuck_0" for interp in atoll.list_all()):
                pass  # what nobody waits for any more ends by itself

    def test_a_pool_that_is_broken(self):
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix="broken", initializer=fail) as pool:
            futures = []
            with contextlib.suppress(atoll.futures.BrokenInterpreterPool):
                for _ in range(5):
                    futures.append(pool.submit(abs, -1))
            for future in futures:
                assert isinstance(future.exception(), atoll.futures.BrokenInterpreterPool)
            stats = pool_stats("broken")
            assert (stats["submitted"], stats["lost"]) == (len(futures), len(futures))
            assert (stats["queued"], stats["running"], stats["done"]) == (0, 0, 0)
