"""Calls that several interpreters submit to one run one at a time, in order, and end before it does."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

import atoll
from helpers import PATIENCE, Thread, check_ended, run_python

CALLS = 60


def note(queue, name, number):
    """Put who called, the how manieth time, and how many calls were inside at once so far."""
    import sys
    import time

    sys.inside = getattr(sys, "inside", 0) + 1
    sys.most = max(getattr(sys, "most", 0), sys.inside)
    time.sleep(0.001)
    sys.inside -= 1
    queue.put((name, number, sys.most))


def submit_all(interp, queue, name, count):
    futures = [interp.submit(note, queue, name, number) for number in range(count)]
    for future in futures:
        future.result(60)


def submit_one(interp, function, *args):
    """Submit and forget."""
    interp.submit(function, *args)


def submit_and_ask(interp, function, *args):
    return interp.submit(function, *args).result(60)


def wait_for(gate, done):
    gate.get(timeout=60)
    done.put("done")


def close_by_way_of_main(interp):
    """Run in interp, as a call that was submitted to it."""
    import atoll

    def close(interp):
        try:
            interp.close()
        except atoll.InterpreterError as error:
            return str(error)
        return "closed"

    return atoll.get_main().call(close, interp)


def loop(started, queue):
    """Loop until something is raised, and say what."""
    try:
        started.set()
        while True:
            pass
    except BaseException as exc:
        queue.put(type(exc).__name__)
        raise


def submit_and_cancel(interp, function, started, *args):
    """In an interpreter: submit a call to another one, and cancel it when it has started."""
    future = interp.submit(function, started, *args)
    started.wait()
    assert future.cancel() is False
    assert isinstance(future.exception(60), KeyboardInterrupt)


@pytest.fixture
def others():
    interps = [atoll.create(), atoll.create()]
    yield interps
    for interp in interps:
        interp.close()


class TestOneLine:
    def test_calls_never_overlap_and_keep_their_order(self, others):
        queue = atoll.create_queue()
        with atoll.create() as interp:
            threads = [Thread(other.call, submit_all, interp, queue, other.id, CALLS) for other in others]
            submit_all(interp, queue, 0, CALLS)
            for thread in threads:
                thread.result()
            items = [queue.get(timeout=PATIENCE) for _ in range(3 * CALLS)]
        assert max(most for _, _, most in items) == 1
        for name in (0, *(other.id for other in others)):
            assert [number for who, number, _ in items if who == name] == list(range(CALLS))

    def test_one_order_for_all_who_submit(self, others):
        queue = atoll.create_queue()
        with atoll.create() as interp:
            for number in range(30):
                if number % 3 == 2:
                    submit_one(interp, note, queue, "main", number)
                else:
                    others[number % 3].call(submit_one, interp, note, queue, "other", number)
            assert [queue.get(timeout=PATIENCE)[1] for _ in range(30)] == list(range(30))

    def test_cancelled_calls_hold_nobody_up(self, others):
        gate, done = atoll.create_queue(), atoll.create_queue()
        with atoll.create() as interp:
            others[0].call(submit_one, interp, wait_for, gate, done)
            mine = [interp.submit(int, str(number)) for number in range(3)]
            others[1].call(submit_one, interp, note, done, "other", 1)
            assert [future.cancel() for future in mine[:2]] == [True, True]
            assert not mine[2].done()
            gate.put(None)
            assert mine[2].result(PATIENCE) == 2
            assert done.get(timeout=PATIENCE) == "done"
            assert done.get(timeout=PATIENCE)[0] == "other"

    def test_a_call_that_raises_holds_nobody_up(self, others):
        with atoll.create() as interp:
            others[0].call(submit_one, interp, divmod, 1, 0)
            assert interp.submit(divmod, 7, 2).result(PATIENCE) == (3, 1)

    def test_whoever_submits_in_turn_is_served(self, others):
        with atoll.create() as interp:
            for number in range(20):
                assert others[number % 2].call(submit_and_ask, interp, int, str(number)) == number
                assert interp.submit(abs, -number).result(PATIENCE) == number


class TestCancel:
    def test_a_running_call_is_interrupted(self, interp):
        started, queue = atoll.Event(), atoll.create_queue()
        running = interp.submit(loop, started, queue)
        waiting = interp.submit(int, "2")
        assert started.wait(PATIENCE)
        assert running.cancel() is False
        with pytest.raises(KeyboardInterrupt):
            running.result(PATIENCE)
        assert queue.get(timeout=PATIENCE) == "KeyboardInterrupt"
        assert not running.cancelled()
        assert waiting.result(PATIENCE) == 2  # the next one is not hit
        assert running.cancel() is waiting.cancel() is False
        assert interp.submit(int, "3").result(PATIENCE) == 3

    def test_one_that_waits_is_cancelled(self, interp):
        started, queue = atoll.Event(), atoll.create_queue()
        running, waiting = interp.submit(loop, started, queue), interp.submit(int, "2")
        assert started.wait(PATIENCE)
        assert waiting.cancel() is True
        assert running.cancel() is False
        assert isinstance(running.exception(PATIENCE), KeyboardInterrupt)
        with pytest.raises(CancelledError):
            waiting.result(PATIENCE)

    def test_one_of_a_pool_goes_on(self):
        gate, done = atoll.create_queue(), atoll.create_queue()
        with atoll.InterpreterPoolExecutor(1) as pool:
            running = pool.submit(wait_for, gate, done)
            while not running.running():
                pass
            assert running.cancel() is False
            gate.put(None)
            running.result(PATIENCE)
            assert done.get(timeout=PATIENCE) == "done"

    def test_by_another_interpreter(self, others, interp):
        started, queue = atoll.Event(), atoll.create_queue()
        others[0].call(submit_and_cancel, interp, loop, started, queue)
        assert queue.get(timeout=PATIENCE) == "KeyboardInterrupt"


class TestClose:
    def test_finishes_what_others_have_submitted(self, others):
        queue = atoll.create_queue()
        interp = atoll.create()
        for other in others:
            for number in range(5):
                other.call(submit_one, interp, note, queue, other.id, number)
        interp.close()
        assert queue.qsize() == 10
        with pytest.raises(atoll.ExecutionFailed, match="InterpreterNotFoundError"):
            others[0].call(submit_one, interp, note, queue, "late", 0)

    def test_nobody_submits_while_it_is_closed(self, others):
        gate, done = atoll.create_queue(), atoll.create_queue()
        interp = atoll.create()
        others[0].call(submit_one, interp, wait_for, gate, done)
        others[1].call(submit_and_ask, others[0], int, "1")
        closing = Thread(interp.close)
        with pytest.raises(atoll.InterpreterError, match="it is being closed"):
            for _ in range(100_000):
                others[1].call(submit_one, interp, int, "1")
                interp.submit(int, "1").cancel()
        gate.put(None)
        closing.result()
        assert done.qsize() == 1  # by one that is gone

    def test_a_close_that_is_refused_leaves_the_line_open(self):
        inside, go = threading.Event(), atoll.create_queue()

        def hold():
            inside.set()
            interp.call(wait_for, go, done)

        done = atoll.create_queue()
        interp = atoll.create()
        holder = Thread(hold)
        assert inside.wait(PATIENCE)
        while not interp.is_running():
            pass
        with pytest.raises(atoll.InterpreterError, match="already running"):
            interp.close()
        assert interp.submit(int, "5").result(PATIENCE) == 5
        go.put(None)
        holder.result()
        interp.close()

    def test_ctrl_c_after_a_close_that_is_refused(self):
        """It ends what was submitted before that, too."""
        begun, never = atoll.create_queue(), atoll.create_queue()

        def wait():
            begun.put(None)
            never.get()

        interp = atoll.create()
        futures = [interp.submit(wait), interp.submit(abs, -1)]
        begun.get(timeout=PATIENCE)
        for _ in range(2):
            with pytest.raises(atoll.InterpreterError, match="already running"):
                interp.close(timeout=0)
            futures.append(interp.submit(abs, -2))
        with pytest.raises(KeyboardInterrupt) as caught, interp:
            raise KeyboardInterrupt
        assert not hasattr(caught.value, "__notes__")
        assert isinstance(futures[0].exception(PATIENCE), KeyboardInterrupt)
        assert all(future.cancelled() for future in futures[1:])
        assert interp not in atoll.list_all()

    def test_a_call_cannot_close_the_interpreter_it_runs_in(self):
        with atoll.create() as interp:
            assert "already running" in interp.submit(close_by_way_of_main, interp).result(PATIENCE)
            assert interp.submit(int, "3").result(PATIENCE) == 3


def test_a_call_that_waits_for_its_turn_is_cancelled_while_its_interpreter_ends():
    """Who submitted it ends; nobody is left who would pass it over."""

    def submit(interp, cancelled):
        import threading
        import time

        from atoll._pool import executor

        future = interp.submit(int)
        pool = executor._guests[interp]

        def cancel():
            while not pool.is_shut:
                time.sleep(0.001)
            time.sleep(0.1)  # its worker has seen that, and sleeps again
            future.cancel()
            cancelled.set()

        thread = threading.Thread(target=cancel)
        thread.start()
        executor._end_guest(interp, "join")
        thread.join()
        return pool.finished

    gate, done, cancelled = atoll.create_queue(), atoll.create_queue(), atoll.Event()
    with atoll.create() as interp, atoll.create() as other:
        first = interp.submit(wait_for, gate, done)
        outcome = Thread(other.call, submit, interp, cancelled)
        assert cancelled.wait(PATIENCE)
        assert outcome.result() is True
        gate.put(None)
        first.result(PATIENCE)


class TestDropped:
    """What nobody has any more ends when what was submitted to it is done, whoever has submitted that."""

    @pytest.mark.parametrize(
        "submit",
        [
            "one.call(to, one)",
            "one.call(to, other); other.call(to, one)",
            "one.call(to, other); other.call(to, one); one.submit(nap); other.submit(nap)",
        ],
        ids=["itself", "each other", "everybody"],
    )
    def test_by_interpreters(self, submit):
        source = f"""
            import os, sys, time
            import atoll
            from helpers import has_two_threads
            def nap():
                import time
                time.sleep(0.01)
            def to(interp):
                interp.submit(nap)
            for _ in range(10):
                one, other = atoll.create(), atoll.create()
                {submit}
            del one, other
            while len(atoll.list_all()) > 1 or not has_two_threads():
                atoll.create().close()  # those that refer to each other are found by who looks
                time.sleep(0.001)
            print("ended")
        """
        check_ended(run_python(source, "-X", "dev"), 0, "ended\n", clean=True)


class TestCtrlCWhenItGoes:
    """Python drops what is raised in code that runs then: the pool ends all the same, as it does where none runs."""

    @staticmethod
    def ends(kind, out):
        """Whether nothing is left of what was dropped, in a process of its own."""
        source = f"""
import gc, sys, threading, time
import atoll, atoll.futures
from atoll._pool import executor
def interrupted(*args):
    raise KeyboardInterrupt
def names():
    import contextlib, pathlib
    for one in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError): # it has just ended
            yield (one / "comm").read_text().strip()
executor._let_go = interrupted
def forbid(frame, event, arg):
    if event == "call" and frame.f_globals["__name__"].startswith("atoll"):
        print("called:", frame.f_code.co_qualname, flush=True)
sys.unraisablehook = lambda unraisable: print(unraisable.exc_type.__name__, flush=True)
{kind}
gc.collect()
until = time.monotonic() + {PATIENCE}
while any(name.startswith("dropped") for name in names()) or len(atoll.list_all()) != 1:
    assert time.monotonic() < until, (list(names()), atoll.list_all())
    time.sleep(0.001)
"""
        check_ended(run_python(source), 0, out, clean=True)

    def test_an_interpreter(self):
        interp = "interp = atoll.create(name='dropped'); interp.submit(len, 'abc').result(); del interp"
        self.ends(interp, "KeyboardInterrupt\n")

    def test_an_executor(self):
        pool = "pool = atoll.InterpreterPoolExecutor(1, 'dropped'); pool.submit(len, 'abc').result()"
        self.ends(f"{pool}; sys.setprofile(forbid); del pool; sys.setprofile(None)", "")
