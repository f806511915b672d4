"""Many operating system threads, many interpreters, and all ways in which either may go first."""

from __future__ import annotations

import random
import threading
import time

import pytest

import atoll
from helpers import (
    PATIENCE,
    Pipe,
    Thread,
    check_ended,
    current_id,
    identity,
    ids,
    new,
    run_python,
    signal_and_wait,
    thread_id,
    together,
    way_through,
)


def count_to(number):
    """Some work that gives up the GIL now and then."""
    total = 0
    for value in range(number):
        total += value
    return total


class TestManyCallers:
    def test_many_threads_one_interpreter(self, interp):
        def call(number):
            return [interp.call(identity, (number, turn)) for turn in range(200)]

        results = together(8, call)
        assert results == [[(number, turn) for turn in range(200)] for number in range(8)]

    def test_many_threads_many_interpreters(self):
        interps = [new() for _ in range(4)]

        def call(number):
            order = random.Random(number)
            for turn in range(150):
                interp = order.choice(interps)
                assert interp.call(current_id) == interp.id
                assert interp.call(identity, [turn, {"n": number}]) == [turn, {"n": number}]
            return threading.get_native_id()

        assert len(set(together(8, call))) == 8

    def test_each_call_runs_in_its_callers_thread(self, interp):
        def call(number):
            return interp.call(thread_id) == threading.get_native_id()

        assert all(together(8, call))

    def test_counting_under_one_gil(self, interp):
        """Calls take turns: none is lost, though each gives up the GIL many times."""
        interp.exec("import sys, threading; sys.setswitchinterval(1e-6)\ntotal, lock = 0, threading.Lock()")
        source = "for _ in range(2_000):\n    with lock:\n        total += 1"
        together(6, lambda number: interp.call(exec, source))
        assert interp.call(eval, "total") == 12_000

    def test_criss_cross(self):
        """Threads go through interpreters in different orders, each holding the ones before: no deadlock."""
        interps = [new() for _ in range(3)]

        def walk(number):
            order = random.Random(number)
            for _ in range(15):
                path = [order.choice(interps).id for _ in range(4)]
                assert way_through(path) == [0, *path]

        together(6, walk)

    def test_criss_cross_through_main(self):
        interps = [new() for _ in range(2)]

        def walk(number):
            first, second = interps if number % 2 else reversed(interps)
            for _ in range(20):
                path = [first.id, 0, second.id, 0]
                assert way_through(path) == [0, *path]

        together(6, walk)

    def test_thread_locals_stay_apart(self, interp):
        interp.exec("import threading; local = threading.local()")

        def call(number):
            interp.call(exec, f"local.value = {number}")
            return [interp.call(eval, "local.value") for _ in range(50)]

        assert together(6, call) == [[number] * 50 for number in range(6)]

    def test_context_variables(self, interp):
        interp.exec("import contextvars; variable = contextvars.ContextVar('variable', default=0)")
        together(4, lambda number: interp.call(exec, f"variable.set({number})"))
        assert Thread(interp.call, eval, "variable.get()").result() == 0


class TestDyingThreads:
    def test_one_call_each(self, interp):
        for number in range(100):
            assert Thread(interp.call, identity, number).result() == number
        interp.close()

    def test_many_interpreters_each(self):
        interps = [new() for _ in range(3)]
        for _ in range(30):
            threads = [Thread(interp.call, current_id) for interp in interps for _ in range(2)]
            assert [thread.result() for thread in threads] == [
                interp.id for interp in interps for _ in range(2)
            ]
        for interp in interps:
            interp.close()

    def test_thread_locals_are_released(self, interp):
        """What a thread kept in the interpreter's threading.local goes once the thread is gone."""
        interp.exec("""
            import threading
            local, gone = threading.local(), []
            class Noisy:
                def __del__(self):
                    gone.append(1)
            """)
        for _ in range(5):
            Thread(interp.call, exec, "local.noisy = Noisy()").result()
        # A thread that was joined may not have ended yet, on 3.12: the operating system's part of it comes later.
        end = time.monotonic() + PATIENCE
        while interp.call(eval, "sum(gone)") < 5 and time.monotonic() < end:
            time.sleep(0.001)
        assert interp.call(eval, "sum(gone)") == 5

    def test_threads_of_an_interpreter(self, interp):
        """Threads that an interpreter started call another one, and die."""
        other = new()
        interp.exec(f"""
            import atoll, helpers, threading
            found = []
            def work():
                found.append(atoll.Interpreter({other.id}).call(helpers.current_id))
            for _ in range(20):
                threads = [threading.Thread(target=work) for _ in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            """)
        assert interp.call(eval, "found") == [other.id] * 40
        other.close()
        assert interp.call(current_id) == interp.id

    def test_thread_outlives_the_interpreter_that_started_it(self):
        """A thread dies holding nothing of interpreters that were closed before it."""
        with Pipe() as inside, Pipe() as leave:
            interps = [new() for _ in range(3)]

            def work():
                for interp in interps:
                    interp.call(current_id)
                signal_and_wait(inside.writer, leave.reader)

            thread = Thread(work)
            inside.wait()
            for interp in interps:
                interp.close()
            after = [new() for _ in range(3)]
            leave.signal()
            thread.result()
            assert [interp.call(current_id) for interp in after] == [interp.id for interp in after]

    def test_that_end_inside_of_a_call(self):
        """By a function of C's.  Nobody interrupts them, or whoever has their number, or looks at their stacks."""
        done = run_python(
            f"""
            import _thread, atoll, ctypes, os, threading, time

            def leave():
                import ctypes
                ctypes.CDLL(None).pthread_exit(None)

            def run():
                numbers.append(threading.get_native_id())
                interp.call(leave)

            def is_there():
                return not numbers or os.path.exists(f"/proc/self/task/{{numbers[0]}}")

            def use_stack(depth):
                return bytes(depth) and use_stack(depth - 1) if depth else os.urandom(4096)

            interp = atoll.create(cpu_limit=1000)
            numbers = []
            _thread.start_new_thread(run, ())
            deadline = time.monotonic() + {PATIENCE}
            while is_there() and time.monotonic() < deadline:
                time.sleep(0.001)
            print(interp.interrupt())
            for _ in range(10):
                thread = threading.Thread(target=use_stack, args=(100,))
                thread.start()
                thread.join()
                interp.interrupt()
            print(interp.call(int, "3"), flush=True)
            os._exit(0)
            """
        )
        check_ended(done, 0, "False\n3\n")


class TestClosedUnderThreads:
    """An interpreter is closed while other threads keep their cached way into it."""

    def test_found_out_by_the_next_call(self):
        other = new()
        called, closed = threading.Barrier(5), threading.Barrier(5)
        interp = new()

        def work(number):
            assert interp.call(current_id) == interp.id
            called.wait(PATIENCE)
            closed.wait(PATIENCE)
            with pytest.raises(atoll.InterpreterNotFoundError, match=str(interp.id)):
                interp.call(current_id)
            return other.call(current_id)

        threads = [Thread(work, number) for number in range(4)]
        called.wait(PATIENCE)
        interp.close()
        closed.wait(PATIENCE)
        assert [thread.result() for thread in threads] == [other.id] * 4

    def test_again_and_again(self):
        """The same threads, a new interpreter each time, perhaps at the old one's address."""
        box: list[atoll.Interpreter] = []
        start, done = threading.Barrier(4), threading.Barrier(4)
        rounds = 12

        def work(number):
            for turn in range(rounds):
                start.wait(PATIENCE)
                assert box[0].call(identity, turn) == turn
                done.wait(PATIENCE)

        threads = [Thread(work, number) for number in range(3)]
        for _ in range(rounds):
            box[:] = [new()]
            start.wait(PATIENCE)
            done.wait(PATIENCE)
            box[0].close()
        for thread in threads:
            thread.result()
        box.clear()

    def test_closed_by_a_thread_that_never_called(self, interp):
        interp.call(current_id)
        Thread(interp.close).result()
        with pytest.raises(atoll.InterpreterNotFoundError):
            interp.call(current_id)

    def test_racing_with_calls(self):
        """Each call either runs or says that the interpreter is gone; close() succeeds or says that it runs."""
        refused = 0
        for turn in range(10):
            interp = new()

            def work(number, interp=interp):
                for call in range(500):
                    try:
                        assert interp.call(identity, call) == call
                    except atoll.InterpreterNotFoundError:
                        return False
                    count_to(number * 300)
                return True

            threads = [Thread(work, number) for number in range(turn % 3 + 1)]
            closed = False
            while not closed:
                alive = any(thread.is_alive() for thread in threads)
                try:
                    interp.close()
                    closed = True
                except atoll.InterpreterError as error:
                    assert "running" in str(error)
                    assert alive, "nothing runs any more"
                    refused += 1
            for thread in threads:
                thread.result()
            assert interp.id not in ids()

    def test_two_close_it(self):
        for _ in range(5):
            interp = new()

            def close(number, interp=interp):
                try:
                    interp.close()
                except atoll.InterpreterError as error:
                    return error
                return None

            results = together(4, close)
            assert results.count(None) == 1
            for result in results:
                if result is not None:
                    assert (
                        isinstance(result, atoll.InterpreterNotFoundError)
                        or "clos" in str(result)
                        or "run" in str(result)
                    )
            del results, result

    def test_last_reference_dropped_in_another_thread(self):
        boxes = [[new()] for _ in range(4)]
        numbers = [box[0].id for box in boxes]
        for box in boxes:
            box[0].call(current_id)
        together(4, lambda number: boxes[number].clear())
        assert not set(numbers) & set(ids())


class TestManyMakers:
    def test_create_and_close(self):
        def work(number):
            for turn in range(4):
                interp = atoll.create()
                interp.exec(f"x = {turn}")
                assert interp.call(eval, "x") == turn
                interp.close()

        together(5, work)
        assert ids() == [0]

    def test_create_close_and_list(self):
        stop = threading.Event()

        def watch():
            seen = 0
            while not stop.is_set():
                found = atoll.list_all()
                assert found[0].id == 0
                numbers = [interp.id for interp in found]
                assert numbers == sorted(set(numbers))
                seen += 1
            return seen

        watcher = Thread(watch)
        try:
            together(3, lambda number: [atoll.create().exec("pass") for _ in range(4)])
        finally:
            stop.set()
        assert watcher.result() > 0
        assert ids() == [0]

    def test_in_interpreters(self):
        """Interpreters that make and close interpreters, several at once."""
        makers = [new() for _ in range(3)]
        source = """
            import atoll
            for _ in range(3):
                made = atoll.create()
                made.exec('pass')
                made.close()
            """
        together(3, lambda number: makers[number].exec(source))
        makers.clear()
        assert ids() == [0]

    def test_ids_are_never_given_twice(self):
        def work(number):
            made = [atoll.create() for _ in range(3)]
            return [interp.id for interp in made]

        numbers = sum(together(4, work), [])
        assert len(set(numbers)) == len(numbers)

    def test_the_same_object_for_everyone(self, interp):
        found = together(6, lambda number: [atoll.Interpreter(interp.id) for _ in range(100)])
        assert all(one is interp for some in found for one in some)
        del found


class TestRunsInParallel:
    def test_meeting_inside(self):
        """Both interpreters are inside their call at the same moment."""
        interps = [new() for _ in range(2)]
        with Pipe() as inside, Pipe() as leave:
            threads = [
                Thread(interp.call, signal_and_wait, inside.writer, leave.reader) for interp in interps
            ]
            inside.wait()
            inside.wait()
            leave.signal(2)
            assert sorted(thread.result() for thread in threads) == sorted(interp.id for interp in interps)

    def test_the_callers_gil_is_free(self, interp):
        """While one thread of main is inside a long call, another thread of main goes on."""
        with Pipe() as inside, Pipe() as leave:
            thread = Thread(interp.call, signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            assert count_to(1000) == 499_500
            assert thread.is_alive()
            leave.signal()
            thread.result()

    def test_waiting_for_a_busy_interpreter_keeps_no_gil(self, interp):
        """A thread that waits for an interpreter's GIL does not keep its own interpreter's."""
        other = new()
        interp.exec("import sys; sys.setswitchinterval(1000)")
        with Pipe() as inside, Pipe() as leave:
            spin = (
                "import os\n"
                f"os.set_blocking({leave.reader}, False)\n"
                f"os.write({inside.writer}, b'!')\n"
                "while True:\n"
                "    try:\n"
                f"        os.read({leave.reader}, 1)\n"
                "        break\n"
                "    except BlockingIOError:\n"
                "        pass\n"
            )
            spinning = Thread(interp.exec, spin)
            inside.wait()
            waiting = Thread(other.call, way_through, [interp.id])
            assert Thread(other.call, current_id).result() == other.id
            leave.signal()
            spinning.result()
            assert waiting.result() == [other.id, interp.id]
