"""map(): when items are taken, whose thread does it, what is done that nobody asks for, and errors in their place."""

from __future__ import annotations

import functools
import itertools
import threading

import pytest

import atoll
import atoll.futures
from atoll._pool.chunks import Source, Window, cancel
from helpers import PATIENCE, Pipe, Thread, check_ended, identity, run_python


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(2) as pool:
        yield pool


def queue_put(queue, number):
    queue.put(number)


def dear_from(first, number):
    """Take 4 ms from a number on."""
    import time

    until = time.perf_counter() + 0.004 * (number >= first)
    while time.perf_counter() < until:
        pass
    return number


def where(first, number):
    import atoll

    dear_from(first, number)
    return atoll.get_current().id


def bare(source):
    return run_python(f"import atoll, itertools\nPool = atoll.InterpreterPoolExecutor\n{source}")


class TestTaken:
    def test_list_is_cleared(self, pool):
        batch = list(range(5000))
        results = pool.map(identity, batch)
        batch.clear()
        assert list(results) == list(range(5000))

    def test_list_is_sorted(self, pool):
        numbers = list(range(5000))
        results = pool.map(identity, numbers)
        numbers.reverse()
        assert list(results) == list(range(5000))

    def test_dict_grows(self, pool):
        keys = dict.fromkeys(range(5000))
        results = pool.map(identity, keys)
        keys["later"] = 1
        assert list(results) == list(range(5000))

    def test_sized_wrapper(self, pool):
        class Rows:
            threads: set[str] = set()

            def __len__(self):
                return 3000

            def __iter__(self):
                for row in range(3000):
                    self.threads.add(threading.current_thread().name)
                    yield row

        assert list(pool.map(identity, Rows())) == list(range(3000))
        assert Rows.threads == {threading.current_thread().name}

    def test_length_that_refuses(self, pool):
        class Rows:
            def __len__(self):
                raise TypeError("object of type 'generator' has no len()")

            def __iter__(self):
                return iter(range(3000))

        assert list(pool.map(identity, Rows())) == list(range(3000))

    def test_error_of_what_is_taken_at_once(self, pool):
        class Broken:
            def __len__(self):
                return 3000

            def __iter__(self):
                yield 1
                raise OSError("disk")

        with pytest.raises(OSError, match="disk"):
            pool.map(identity, Broken())

    def test_iterators_are_read_where_results_are_asked_for(self, pool):
        threads = set()

        def items():
            for number in range(500):
                threads.add(threading.current_thread().name)
                yield number

        assert list(pool.map(identity, items())) == list(range(500))
        assert threads == {threading.current_thread().name}


class TestErrors:
    def test_in_its_place(self, pool):
        def items():
            yield from range(700)
            raise LookupError("broke")

        got = []
        with pytest.raises(LookupError, match="broke"):
            for number in pool.map(identity, items()):
                got.append(number)
        assert got == list(range(700))

    @pytest.mark.parametrize("chunksize", [None, 1, 100])
    def test_stop_iteration(self, pool, chunksize):
        """Out of a call it is no end of the results; it becomes what it becomes in concurrent.futures."""
        results = pool.map(next, map(iter, ["a", "b", "", "c"]), chunksize=chunksize)
        assert [next(results), next(results)] == ["a", "b"]
        with pytest.raises(RuntimeError, match="StopIteration") as info:
            next(results)
        assert type(info.value.__cause__) is StopIteration
        assert list(results) == []

    def test_runtime_error_is_no_end(self, pool):
        def items():
            yield from range(10)
            raise RuntimeError("dictionary changed size during iteration")

        results = pool.map(identity, items())
        with pytest.raises(RuntimeError, match="dictionary"):
            list(results)
        assert list(results) == []

    def test_the_pool_is_shut_all_the_same(self):
        def items():
            yield from range(3)
            raise LookupError("broke")

        with atoll.InterpreterPoolExecutor(1) as pool:
            results = pool.map(identity, items())
        with pytest.raises(RuntimeError):
            pool.submit(identity, 1)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(LookupError):
            next(results)
        pool.shutdown()

    def test_item_that_cannot_be_sent(self, pool):
        results = pool.map(identity, [1, 2, threading.Lock(), 4], chunksize=4)
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(TypeError, match="lock"):
            next(results)
        assert list(results) == []


class TestAfterwards:
    @pytest.mark.parametrize("asked", [0, 1, 100])
    @pytest.mark.parametrize("options", [{}, {"chunksize": 7}, {"buffersize": 9}])
    def test_generator(self, asked, options):
        with atoll.InterpreterPoolExecutor(2) as pool:
            results = pool.map(identity, (n for n in range(3000)), **options)
            got = list(itertools.islice(results, asked))
        assert got + list(results) == list(range(3000))
        pool.shutdown()

    def test_limits_hold_afterwards(self):
        with atoll.InterpreterPoolExecutor(1, task_timeout=2) as pool:
            results = pool.map(eval, iter(["1"] * 40 + ["all(1 for _ in iter(int, 1))"]))
            assert next(results) == 1
        with pytest.raises(TimeoutError):
            for result in results:
                assert result == 1
        pool.shutdown()

    def test_not_after_force(self):
        with atoll.InterpreterPoolExecutor(1) as pool:
            results = pool.map(identity, itertools.count())
            assert next(results) == 0
            pool.kill_workers()
        with pytest.raises((RuntimeError, atoll._pool.executor.CancelledError)):
            list(results)

    def test_endless_and_unasked(self):
        def numbers():
            number = 0
            while True:
                yield number
                number += 1

        with atoll.InterpreterPoolExecutor(1) as pool:
            results = pool.map(identity, numbers())
        assert list(itertools.islice(results, 500)) == list(range(500))
        results.close()
        pool.shutdown()


class TestUnasked:
    @pytest.mark.parametrize("make", [list, iter, lambda numbers: (n for n in numbers)])
    def test_is_done(self, make):
        queue = atoll.create_queue()
        with atoll.InterpreterPoolExecutor(2) as pool:
            pool.map(queue_put, itertools.repeat(queue, 500), make(range(500)))
        assert queue.qsize() == 500

    def test_held_until_after_the_pool(self):
        queue = atoll.create_queue()
        with atoll.InterpreterPoolExecutor(2) as pool:
            results = pool.map(queue_put, itertools.repeat(queue), iter(range(500)))
        del results
        pool.shutdown()
        assert queue.qsize() == 500

    def test_endless(self):
        with atoll.InterpreterPoolExecutor(2) as pool:
            with pytest.warns(RuntimeWarning, match="items of an iterator that has more"):
                pool.map(identity, itertools.count())

    def test_at_the_end_of_the_process(self):
        done = bare("""
import os
def tell(n): os.write(1, b"x")
pool = Pool(2); results = pool.map(tell, (n for n in range(50)))
""")
        check_ended(done, 0, "x" * 50, clean=True)

    @pytest.mark.parametrize("hold", ["", "results = "])
    def test_endless_at_the_end_of_the_process(self, hold):
        done = bare(f"pool = Pool(2); {hold}pool.map(abs, itertools.count()); print('end', flush=True)")
        check_ended(done, 0, "end\n")
        assert "RuntimeWarning: nobody has asked" in done.stderr

    def test_error_at_the_end_of_the_process(self):
        done = bare("""
def items():
    yield from range(100)
    raise LookupError("broke")
pool = Pool(2); results = pool.map(abs, items()); print("end", flush=True)
""")
        check_ended(done, 0, "end\n")
        assert "LookupError: broke" in done.stderr

    def test_exception_in_the_body(self):
        done = bare("""
with Pool(2) as pool:
    results = pool.map(abs, itertools.count())
    raise ValueError("configuration")
""")
        check_ended(done, 1, "")
        assert "ValueError: configuration" in done.stderr
        assert "RuntimeWarning" not in done.stderr


class TestErrorsOfThePool:
    def test_in_the_background_is_raised_where_results_end(self, monkeypatch):
        """Chunks go on being sent when one could not be: nothing after it may be given out in its place."""
        failed = threading.Event()
        with Pipe() as gate, atoll.InterpreterPoolExecutor(1) as pool:
            results = pool.map(functools.partial(wait_first, gate.reader), range(1000), chunksize=1)
            submit = results._submit

            def fail_once(count, late):
                monkeypatch.setattr(results, "_submit", submit)
                failed.set()
                raise RuntimeError("no more threads")

            monkeypatch.setattr(results, "_submit", fail_once)
            gate.signal()
            assert failed.wait(PATIENCE)
        got = []
        with pytest.raises(RuntimeError, match="no more threads"):
            for number in results:
                got.append(number)
        assert got == list(range(len(got))) and 0 < len(got) < 1000

    @pytest.mark.parametrize("timeout", [0.01, -1, float("nan")])
    def test_a_timeout_ends_it(self, timeout):
        """One that is not positive is over at once, as in concurrent.futures."""
        queue = atoll.create_queue()
        with Pipe() as gate, atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(wait_first, gate.reader, 0)
            results = pool.map(queue.put, range(5), chunksize=1, timeout=timeout)
            with pytest.raises(TimeoutError):
                next(results)
            assert list(results) == []
            gate.signal()
        assert queue.empty()

    def test_at_shutdown(self, monkeypatch):
        def fail(count, late):
            raise RuntimeError("no more threads")

        with Pipe() as gate:
            with atoll.InterpreterPoolExecutor(1) as pool:
                results = pool.map(functools.partial(wait_first, gate.reader), range(1000), chunksize=1)
                monkeypatch.setattr(results, "_submit", fail)
                gate.signal()
            with pytest.raises(RuntimeError, match="no more threads"):
                list(results)


def test_workers_that_are_faster_than_the_sender(pool, monkeypatch):
    """Each chunk has ended when it is to be watched, as many as there are."""
    watch = atoll.futures.Future.add_done_callback

    def watch_late(future, callback):
        future.exception(PATIENCE)
        watch(future, callback)

    monkeypatch.setattr(atoll.futures.Future, "add_done_callback", watch_late)
    assert list(pool.map(identity, range(3_000), chunksize=1)) == list(range(3_000))


def wait_first(descriptor, number):
    """Wait for a signal when number is 0; return it."""
    import os

    if number == 0:
        os.read(descriptor, 1)
    return number


class TestThreads:
    @pytest.mark.parametrize("options", [{}, {"chunksize": 10}, {"buffersize": 20}])
    @pytest.mark.parametrize("make", [range, lambda n: iter(range(n))], ids=["range", "iterator"])
    def test_share_one(self, pool, make, options):
        results = pool.map(identity, make(20_000), **options)
        threads = [Thread(lambda: list(results)) for _ in range(4)]
        got = [thread.result() for thread in threads]
        assert sorted(itertools.chain(*got)) == list(range(20_000))
        assert all(part == sorted(part) for part in got)


def send(pool, function, items, *, divide=True):
    """Send a chunk as map() does; return its future."""
    window, source = Window(9, None), Source((items,))
    future = pool._pool.submit_chunk(function, source, len(items), True, divide, False, window)
    assert (window.all(), source.ended) == ([future], True)
    return future


def add_one(number, item):
    return number.add()


def wait_for(begun, gate):
    begun.set()
    gate.wait()


def test_code_that_finds_the_items_and_empties_their_list():
    """By gc.get_objects(), as tools that look for memory find them: no item is taken that is not there."""
    code = """
        import gc, itertools, atoll

        def work(number):
            for found in gc.get_objects():
                if type(found) is list and len(found) == 50 and found[-1] == [49]:
                    found.clear()
            return number

        with atoll.InterpreterPoolExecutor(1) as pool:
            results = pool.map(work, [[number] for number in range(50)], chunksize=50)
            try:
                print([*itertools.islice(results, 1)])
                next(results)
            except IndexError as error:
                print(repr(error))
    """
    done = run_python(code, environment={"PYTHONMALLOC": "debug"})
    check_ended(done, out="[[0]]\nIndexError('list index out of range')\n", clean=True)


def test_code_that_finds_the_results_and_empties_their_list():
    """Likewise."""
    code = """
        import gc, atoll

        with atoll.InterpreterPoolExecutor(1) as pool:
            results = pool.map(str, range(50), chunksize=50)
            print(next(results))
            for found in gc.get_objects():
                if type(found) is list and len(found) == 50 and found[-1] == "49":
                    found.clear()
            print([*results])
    """
    check_ended(run_python(code, environment={"PYTHONMALLOC": "debug"}), out="0\n[]\n", clean=True)


def test_no_memory_for_a_chunk():
    """Whatever allocation fails: what raises has neither sent the chunk nor noted it, so no call is made twice."""
    testcapi = pytest.importorskip("_testcapi", reason="this Python has no _testcapi")
    number, gate = atoll.AtomicInt(), atoll.Event()
    sent, failed = [], 0
    with atoll.InterpreterPoolExecutor(1) as pool:
        function = pool._pool.prepare(functools.partial(add_one, number))
        pool.submit(abs, 1).result()
        begun = atoll.Event()
        pool.submit(wait_for, begun, gate)  # so that no allocation of the worker's fails
        begun.wait()
        for start in range(60):
            window, source = Window(9, None), Source(([1, 2, 3, 4],))
            futures, future = window.futures, None
            testcapi.set_nomemory(start, start + 1)
            try:
                future = pool._pool.submit_chunk(function, source, 2, False, False, False, window)
            except MemoryError:
                failed += 1
            finally:
                testcapi.remove_mem_hooks()
            if future is None:
                assert (list(futures), source.ready) == ([], ([1, 2, 3, 4], 0)), start
            else:
                assert (list(futures), source.ready) == ([future], ([1, 2, 3, 4], 2)), start
                sent.append(future)
        gate.set()
        assert all(len(future.result()) == 2 for future in sent)
    assert int(number) == 2 * len(sent)
    assert failed > 5


def test_a_chunk_that_is_not_taken(pool):
    """It is not noted either."""
    window, source = Window(9, None), Source(([1, 2, 3],))
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool._pool.submit_chunk(pool._pool.prepare(abs), source, 2, False, False, False, window)
    assert (list(window.futures), source.ready) == ([], ([1, 2, 3], 0))


class TestDivided:
    @pytest.mark.parametrize("make", [range, lambda n: iter(range(n))], ids=["range", "iterator"])
    def test_order(self, pool, make):
        numbers = pool.map(dear_from, itertools.repeat(3000), make(3060))
        assert list(numbers) == list(range(3060))

    def test_both_workers_share_a_chunk(self, pool):
        future = send(pool, where, [(0, n) for n in range(40)])
        places, futures = set(), [future]
        count = 0
        while futures:
            future = futures.pop(0)
            values, error = future._outcome(PATIENCE)
            assert error is None
            assert len(values) == future._count
            count += len(values)
            places.update(values)
            futures += future._parts
        assert count == 40
        assert len(places) == 2

    def test_not_with_a_chunksize(self, pool):
        future = send(pool, where, [(0, n) for n in range(10)], divide=False)
        assert len(future._outcome(PATIENCE)[0]) == 10
        assert future._parts == []

    def test_error_in_a_part(self, pool):
        results = pool.map(fail_at, itertools.repeat(12), iter(range(60)))
        got = []
        with pytest.raises(ZeroDivisionError):
            for number in results:
                got.append(number)
        assert got == list(range(12))

    def test_new_interpreters_count_what_was_done(self):
        with atoll.InterpreterPoolExecutor(2, max_tasks_per_child=5) as pool:
            assert list(pool.map(dear_from, itertools.repeat(0), range(30))) == list(range(30))

    def test_abandoned(self, pool):
        with Pipe() as inside:
            future = send(pool, tell_and_work, [(inside.writer, n) for n in range(4000)])
            inside.wait()
            while not future.done():
                pass
            cancel(future)
            assert any(part.cancelled() for part in future._parts)


def fail_at(number, item):
    return dear_from(0, item) if item != number else 1 // 0


def tell_and_work(descriptor, number):
    import os

    if number == 0:
        os.write(descriptor, b"!")
    return dear_from(0, number)


class TestInterrupted:
    def test_a_wait_can_be_asked_again(self):
        done = bare("""
import os, signal, threading, time
def slow(n):
    time.sleep(0.6)
    return n
pool = Pool(1)
pool.submit(abs, 1).result()
results = pool.map(slow, [1, 2])
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    print(next(results))
except KeyboardInterrupt:
    print("interrupted")
print(list(results))
""")
        check_ended(done, 0, "interrupted\n[1, 2]\n")

    def test_by_a_handler_that_asks_itself(self):
        """As of a generator; or both would get the same results."""
        done = bare("""
import os, signal, threading
def wait(descriptor, number):
    os.read(descriptor, 1)
    return number
def ask(*_):
    try:
        print(next(results))
    except ValueError as error:
        print(error)
    os.write(writer, b"!" * 9)
reader, writer = os.pipe()
signal.signal(signal.SIGUSR1, ask)
with Pool(1) as pool:
    results = pool.map(wait, itertools.repeat(reader), range(3), chunksize=2)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    print(list(results))
""")
        check_ended(done, 0, "map(): this thread is waiting for the next result already\n[0, 1, 2]\n")

    @pytest.mark.parametrize("options", [{}, {"buffersize": 2}])
    def test_by_an_iterator_that_asks_itself(self, pool, options):
        def items():
            yield from range(20)
            with pytest.raises(ValueError, match="waiting for the next result already"):
                next(results)
            yield 20

        results = pool.map(identity, items(), chunksize=1, **options)
        assert list(results) == list(range(21))
