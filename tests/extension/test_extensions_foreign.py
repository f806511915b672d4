"""What isolated extensions ask the interpreter for: threads of their own enter the interpreter of their copy, and so do
pending calls; PyInterpreterState_Main() and the functions that are called at the end are those of their interpreter."""

from __future__ import annotations

import os

import pytest

import atoll
import ext_use
from helpers import Pipe, Thread, together

pytest_plugins = ["ext_fixtures"]


class TestForeignThreads:
    @pytest.mark.parametrize(
        ("calls", "threads", "depth"), [(1, 1, 1), (100, 1, 1), (20, 8, 1), (10, 2, 4)], ids=repr
    )
    def test_enter_their_own(self, make, calls, threads, depth):
        interps = [make(), make()]
        for interp in interps:
            (done, wrong), here, _ = interp.call(ext_use.foreign_run, calls, threads, depth)
            assert (done, wrong, here) == (calls * threads, 0, True)

    def test_two_interpreters_at_once(self, make):
        interps = [make(), make(), make()]
        for result in together(3, lambda number: interps[number].call(ext_use.foreign_run, 100, 3)):
            assert result[:2] == ((300, 0), True)

    def test_python_goes_on(self, make):
        assert make().call(ext_use.foreign_background, 200) == (200, 0)

    def test_started_from_a_thread_of_the_interpreter(self, make):
        interp = make()
        assert interp.call(ext_use.in_thread, ext_use.foreign_run, 10, 2)[0] == (20, 0)
        thread = Thread(interp.call, ext_use.foreign_run, 10, 2)
        assert thread.result()[0] == (20, 0)

    def test_attached(self, make):
        """PyGILState_Ensure() where the interpreter is entered already."""
        interp = make()
        right = (True, True, interp.id)
        assert interp.call(ext_use.call, "ext_foreign", "attached") == right
        assert interp.call(ext_use.in_thread, ext_use.call, "ext_foreign", "attached") == right
        assert Thread(interp.call, ext_use.call, "ext_foreign", "attached").result() == right

    def test_after_save_thread(self, make):
        """The GIL given up and taken again by PyGILState_Ensure() on one thread: with the thread state it had."""
        interp = make()
        assert interp.call(ext_use.foreign_here, "detached") is True
        assert interp.call(ext_use.in_thread, ext_use.foreign_here, "detached") is True
        assert Thread(interp.call, ext_use.foreign_here, "detached").result() is True

    def test_thread_state_of_their_own(self, make):
        assert make().call(ext_use.foreign_here, "own_state") == (1, 0)

    def test_exception(self, make):
        done, told = make().call(ext_use.foreign_raising)
        assert done == (2, 0)
        assert len(told) == 1
        assert told[0].startswith("ZeroDivisionError")

    def test_python_on_them(self, make):
        assert make().call(ext_use.foreign_python) == {
            "local": None,
            "kept": 0,
            "import": "2.5",
            "thread": True,
            "started": True,
            "generator": [0, 2, 4],
        }

    def test_into_another_interpreter(self, make):
        """From a foreign thread into another interpreter, where the same extension asks for that one's GIL."""
        one, other = make(), make()
        other.call(ext_use.call, "ext_foreign", "bump")
        done, seen = one.call(ext_use.foreign_into, other.id)
        assert done == (2, 0)
        assert seen == [(True, True, other.id), True, (True, True, one.id), True] * 2

    def test_cannot_close_where_they_are(self, make):
        interp = make()
        assert interp.call(ext_use.foreign_closing)
        interp.call(ext_use.foreign_run, 1, 1)

    def test_until_stopped(self, make):
        interp = make()
        interp.call(ext_use.start_forever, 3)
        interp.call(ext_use.stop_forever)
        interp.close()

    def test_a_call_waits_for_no_foreign_thread(self, make):
        """Calls from main go on while foreign threads call all the time, and main's GIL is not theirs."""
        interp = make()
        interp.call(ext_use.start_forever, 2)
        assert [interp.call(ext_use.call, "ext_foreign", "owner") for _ in range(20)] == [interp.id] * 20
        interp.call(ext_use.stop_forever)


class TestPending:
    @pytest.mark.parametrize("foreign", [False, True], ids=["here", "foreign"])
    def test_runs_in_its_interpreter(self, make, foreign):
        for interp in [make(), make()]:
            assert interp.call(ext_use.pending, foreign) == ((1, interp.id, 0), {interp.id})
            assert interp.call(ext_use.pending, foreign, 10) == ((11, interp.id, 0), {interp.id})

    @pytest.mark.parametrize("foreign", [False, True], ids=["here", "foreign"])
    def test_runs_when_the_interpreter_does(self, make, foreign):
        """Added while nothing runs: it waits, at the latest for the end, and is not run anywhere else."""
        with Pipe() as ran:
            interp = make()
            interp.call(ext_use.add_pending, foreign, ran.writer)
            interp.call(ext_use.call, "ext_pending", "bump")
            interp.close()
            ran.wait()

    def test_two_interpreters_at_once(self, make):
        interps = [make(), make()]
        for number, result in enumerate(
            together(2, lambda number: interps[number].call(ext_use.pending, True, 50))
        ):
            assert result == ((50, interps[number].id, 0), {interps[number].id})


class TestOwnInterpreter:
    def test_is_its_main(self, make):
        for interp in [make(), make()]:
            assert interp.call(ext_use.call, "ext_main_only", "state") == (interp.id, True, False)

    def test_room_for_exit_functions(self, make):
        """CPython promises 32 functions; each interpreter has its own."""
        for interp in [make(), make()]:
            assert interp.call(ext_use.call, "ext_exit", "fill", 32) == 32


class TestOwnThreads:
    def test_thread_without_python_stays(self, make):
        """A thread that never touches Python goes on after the interpreter's end, in code that is still there."""
        with Pipe() as first, Pipe() as later:
            interp = make()
            interp.call(ext_use.call, "ext_worker", "wait", later.writer, first.reader)
            interp.close()
            first.signal()
            later.wait()

    def test_its_interpreter_is_not_reused(self, make):
        """A copy with a thread of its own serves no other interpreter."""
        with Pipe() as first, Pipe() as later:
            interp = make()
            interp.call(ext_use.fresh, "ext_worker")
            interp.call(ext_use.call, "ext_worker", "wait", later.writer, first.reader)
            interp.close()
            again = make()
            again.call(ext_use.fresh, "ext_worker")
            assert again.call(ext_use.call, "ext_worker", "rounds") == 0
            first.signal()
            later.wait()
            assert again.call(ext_use.call, "ext_worker", "rounds") == 0

    def test_thread_outlives_the_copy(self, make):
        """A Python thread of main's that used thread-local objects and pthread keys of a copy ends after it."""
        with Pipe() as used, Pipe() as go:

            def work(interp):
                interp.call(ext_use.call, "ext_thread_local", "touch")
                interp.call(ext_use.call, "ext_keys", "set", 1)
                del interp
                used.signal()
                go.wait()

            interp = make()
            thread = Thread(work, interp)
            used.wait()
            interp.close()
            go.signal()
            thread.result()


def test_main_is_not_touched(make):
    """Nothing of all this has imported anything in main, or left a thread of an interpreter there."""
    interp = make()
    interp.call(ext_use.foreign_run, 5, 2)
    interp.call(ext_use.pending, True)
    assert atoll.get_current().id == 0
    assert os.getpid() > 0
    interp.close()
