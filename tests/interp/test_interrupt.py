"""Interrupting what runs in an interpreter: what is hit, what is not, and how it comes out of what it does."""

from __future__ import annotations

import socket
import threading

import pytest

import atoll
from helpers import IS_X86, run_stress
from interrupt_helpers import call_in_thread, interrupt_when_started, kind_of, loop_forever


@pytest.fixture
def interp():
    with atoll.create() as made:
        yield made


class TestWhatIsBroken:
    def test_loop(self, interp):
        failure = interrupt_when_started(interp, loop_forever)
        assert kind_of(failure) == "KeyboardInterrupt"
        assert "loop_forever" in failure.excinfo.errdisplay
        assert interp.call(int, "7") == 7

    @pytest.mark.skipif(not IS_X86, reason="threads are led out of system calls on x86-64 only")
    def test_sleep(self, interp):
        def sleep(started):
            import time

            started.set()
            time.sleep(600)

        assert kind_of(interrupt_when_started(interp, sleep)) == "KeyboardInterrupt"

    @pytest.mark.skipif(not IS_X86, reason="threads are led out of system calls on x86-64 only")
    def test_socket(self, interp):
        def read(started, number):
            import socket

            started.set()
            socket.socket(fileno=number).recv(1)

        ours, theirs = socket.socketpair()
        with ours:
            assert kind_of(interrupt_when_started(interp, read, theirs.detach())) == "KeyboardInterrupt"

    @pytest.mark.skipif(not IS_X86, reason="threads are led out of system calls on x86-64 only")
    def test_pipe_and_lock(self, interp):
        def read(started):
            import os

            started.set()
            os.read(os.pipe()[0], 1)

        def acquire(started):
            import threading

            lock = threading.Lock()
            lock.acquire()
            started.set()
            lock.acquire()

        for function in (read, acquire):
            assert kind_of(interrupt_when_started(interp, function)) == "KeyboardInterrupt"

    def test_waits_of_atoll(self, interp):
        def get(started, from_queue):
            started.set()
            from_queue.get()

        def lock(started, held):
            started.set()
            held.acquire()

        held = atoll.Lock()
        with held:
            assert kind_of(interrupt_when_started(interp, get, atoll.create_queue())) == "KeyboardInterrupt"
            assert kind_of(interrupt_when_started(interp, lock, held)) == "KeyboardInterrupt"

    def test_import(self, interp, tmp_path):
        (tmp_path / "endless.py").write_text("import builtins\nbuiltins.started.set()\nwhile True: pass\n")

        def load(started, where):
            import builtins
            import sys

            builtins.started = started
            sys.path.insert(0, where)
            import endless

            return endless

        failure = interrupt_when_started(interp, load, str(tmp_path))
        assert kind_of(failure) == "KeyboardInterrupt"

    def test_describing_what_was_raised(self, interp):
        def fail(started):
            class Endless(Exception):
                def __str__(self):
                    started.set()
                    while True:
                        pass

            raise Endless

        assert kind_of(interrupt_when_started(interp, fail)) == "KeyboardInterrupt"


class TestWhatIsRaised:
    def test_class_and_instance(self, interp):
        assert kind_of(interrupt_when_started(interp, loop_forever, exc=ValueError)) == "ValueError"
        failure = interrupt_when_started(interp, loop_forever, exc=LookupError("over", 3))
        assert kind_of(failure) == "LookupError"
        assert failure.excinfo.msg == "('over', 3)"

    def test_class_of_the_program(self, interp):
        class Stop(BaseException):
            def __init__(self):
                super().__init__("stop it")

        failure = interrupt_when_started(interp, loop_forever, exc=Stop)
        assert failure.excinfo.type.__name__ == "Stop"
        assert failure.excinfo.msg == "stop it"

    def test_may_be_caught(self, interp):
        def catch(started):
            try:
                started.set()
                while True:
                    pass
            except KeyError as exc:
                return repr(exc)

        assert interrupt_when_started(interp, catch, exc=KeyError("key")) == "KeyError('key')"

    def test_none(self, interp):
        """No exception in particular is KeyboardInterrupt."""
        assert kind_of(interrupt_when_started(interp, loop_forever, exc=None)) == "KeyboardInterrupt"

    def test_bad_ones(self, interp):
        class Needs(Exception):
            def __init__(self, needed):
                pass

        for bad in (3, "KeyboardInterrupt", int):
            with pytest.raises(TypeError, match="exc must be an exception class or an exception"):
                interp.interrupt(bad)
        with pytest.raises(TypeError, match="needed"):
            interp.interrupt(Needs)
        with pytest.raises(atoll.NotShareableError, match="exc"):
            interp.interrupt(ValueError(threading.Lock()))

    def test_remote_class_that_cannot_be_had(self, interp, tmp_path, monkeypatch):
        (tmp_path / "known_here.py").write_text("class Here(Exception): pass\n")
        monkeypatch.syspath_prepend(tmp_path)
        import known_here

        (tmp_path / "known_here.py").write_text("raise OSError('gone')\n")

        def wait(started):  # for seconds: it is tried several times
            import time

            started.set()
            while True:
                time.sleep(0.01)

        failure = interrupt_when_started(interp, wait, exc=known_here.Here)
        assert kind_of(failure) == "KeyboardInterrupt"
        assert "cannot be had here" in str(failure)


class TestWhatIsHit:
    def test_nothing(self, interp):
        assert interp.interrupt() is False
        assert interp.call(int) == 0
        assert atoll.get_main().interrupt() is False

    def test_never_the_next_one(self, interp):
        for _ in range(50):
            interp.call(int)
            interp.interrupt()
            interp.call(int)

    def test_all_that_run(self, interp):
        def wait(from_queue, ready):
            ready.put(None)
            from_queue.get()

        never, ready = atoll.create_queue(), atoll.create_queue()
        outcomes = [call_in_thread(interp, wait, never, ready) for _ in range(4)]
        for _ in outcomes:
            ready.get(timeout=60)
        assert interp.interrupt()
        for outcome in outcomes:
            assert kind_of(outcome.get(timeout=60)) == "KeyboardInterrupt"

    def test_once_while_one_is_pending(self, interp):
        def interrupt_twice():
            import atoll

            said = None
            try:
                said = [*map(atoll.get_current().interrupt, (KeyError, ValueError))]
                while True:
                    pass
            except KeyError:
                for _ in range(100_000):
                    pass
                return said

        assert interp.call(interrupt_twice) == [True, True]

    def test_from_inside(self, interp):
        def interrupt_itself():
            import atoll

            try:
                atoll.get_current().interrupt(ValueError)
                while True:
                    pass
            except ValueError:
                return "hit"

        assert interp.call(interrupt_itself) == "hit"

    def test_from_another_interpreter(self, interp):
        def interrupt(other, started):
            started.wait()
            return other.interrupt()

        started = atoll.Event()
        outcome = call_in_thread(interp, loop_forever, started)
        with atoll.create() as another:
            assert another.call(interrupt, interp, started) is True
        assert kind_of(outcome.get(timeout=60)) == "KeyboardInterrupt"

    def test_calls_into_main(self, interp):
        def call_main(started, loop):
            import atoll

            try:
                atoll.get_main().call(loop, started)
            except atoll.ExecutionFailed as exc:
                return exc.excinfo.type.__name__

        started = atoll.Event()
        outcome = call_in_thread(interp, call_main, started, loop_forever)
        assert started.wait(60)
        assert atoll.get_main().interrupt(ValueError)
        assert outcome.get(timeout=60) == "ValueError"

    def test_nested(self, interp):
        """What the interpreter's call is waiting for in another interpreter is unwound."""
        with atoll.create() as inner:

            def outer(started, inner, loop):
                try:
                    inner.call(loop, started)
                except ValueError:
                    return "its own"

            assert interrupt_when_started(interp, outer, inner, loop_forever, exc=ValueError) == "its own"
            assert inner.call(int) == 0
            failure = interrupt_when_started(interp, outer, inner, loop_forever, exc=KeyError)
            assert kind_of(failure) == "KeyError"

    def test_inner_alone(self, interp):
        with atoll.create() as inner:
            started = atoll.Event()

            def outer(started, inner, loop):
                import atoll

                try:
                    inner.call(loop, started)
                except atoll.ExecutionFailed as exc:
                    return exc.excinfo.type.__name__

            outcome = call_in_thread(interp, outer, started, inner, loop_forever)
            assert started.wait(60)
            assert inner.interrupt(KeyError)
            assert outcome.get(timeout=60) == "KeyError"

    def test_submitted(self, interp):
        started = atoll.Event()
        future = interp.submit(loop_forever, started)
        assert started.wait(60)
        assert interp.interrupt(ValueError)
        with pytest.raises(ValueError, match="^$"):
            future.result(60)

    def test_closed(self):
        interp = atoll.create()
        interp.close()
        with pytest.raises(atoll.InterpreterNotFoundError):
            interp.interrupt()


class TestTimeout:
    def test_exec(self, interp):
        with pytest.raises(TimeoutError, match=f"time limit of 500 ms in interpreter {interp.id}") as caught:
            interp.exec("def spin():\n    while True: pass\nspin()", timeout=0.5)
        assert isinstance(caught.value.__cause__, atoll.ExecutionFailed)
        assert "spin" in caught.value.__cause__.excinfo.errdisplay
        interp.exec("x = 1", timeout=60)
        interp.exec("assert x == 1", timeout=None)

    @pytest.mark.skipif(not IS_X86, reason="threads are led out of system calls on x86-64 only")
    def test_sleep(self, interp):
        with pytest.raises(TimeoutError):
            interp.exec("import time; time.sleep(600)", timeout=0.02)

    def test_swallowed(self, interp):
        """Code that catches what is raised is interrupted again."""
        with pytest.raises(TimeoutError):
            interp.exec(
                """
                for i in range(2):
                    try:
                        while True: pass
                    except KeyboardInterrupt:
                        pass
                """,
                timeout=0.02,
            )

    def test_block(self, interp):
        started = atoll.Event()
        with pytest.raises(TimeoutError), atoll.timeout(interp, 0.05):
            assert interp.call(int, "3") == 3
            interp.call(loop_forever, started)
        assert interp.call(int, "4") == 4

    def test_over_before_the_call(self, interp):
        with atoll.timeout(interp, 0), pytest.raises(TimeoutError):
            interp.call(int)
        assert interp.call(int) == 0
        with atoll.timeout(interp, 0), pytest.raises(TimeoutError):
            interp.prepare_main(late=1)
        assert not interp.call(eval, "'late' in globals()")

    def test_nested(self, interp):
        started = atoll.Event()
        with atoll.timeout(interp, 600):
            with pytest.raises(TimeoutError, match="20 ms"), atoll.timeout(interp, 0.02):
                interp.call(loop_forever, started)
            assert interp.call(int) == 0
        with pytest.raises(TimeoutError, match="20 ms"), atoll.timeout(interp, 0.02):
            with atoll.timeout(interp, 600), atoll.timeout(interp, None):
                interp.call(loop_forever, started)

    def test_only_that_interpreter_and_thread(self, interp):
        with atoll.create() as other, atoll.timeout(interp, 0):
            assert other.call(int) == 0
            assert call_in_thread(interp, int, "5").get(timeout=60) == 5

    def test_from_inside_another(self, interp):
        def limited(other, loop):
            import atoll

            try:
                with atoll.timeout(other, 0.02):
                    other.call(loop, atoll.Event())
            except TimeoutError:
                return "late"

        with atoll.create() as other:
            assert other.call(limited, interp, loop_forever) == "late"

    def test_bad_values(self, interp):
        for bad in (-1, float("nan")):
            with pytest.raises(ValueError, match="non-negative"):
                interp.exec("", timeout=bad)
            with pytest.raises(ValueError, match="non-negative"):
                atoll.timeout(interp, bad)
        for bad in ("1", [1]):
            with pytest.raises(TypeError, match="seconds or None"):
                interp.exec("", timeout=bad)
            with pytest.raises(TypeError, match="seconds or None"):
                atoll.timeout(interp, bad)
        block = atoll.timeout(interp, 60)
        with block, pytest.raises(RuntimeError, match="entered already"):
            block.__enter__()

    def test_left_by_another_thread(self, interp):
        block = atoll.timeout(interp, 0)
        block.__enter__()
        thread = threading.Thread(target=block.__exit__)
        thread.start()
        thread.join()
        assert interp.call(int) == 0


def test_what_is_raised_has_no_notes(interp):
    """Also where another thread of the interpreter has it raised, by an asynchronous exception of Atoll's own."""

    def work(started):
        started.set()
        try:
            while True:
                pass
        except ValueError as error:
            return getattr(error, "__notes__", None)

    for _ in range(5):
        started = [atoll.Event() for _ in range(3)]
        outcomes = [call_in_thread(interp, work, event) for event in started]
        for event in started:
            assert event.wait(60)
        assert interp.interrupt(ValueError("enough"))
        for outcome in outcomes:
            notes = outcome.get(timeout=60)
            if isinstance(notes, atoll.ExecutionFailed):  # before the `try:`
                notes = "Normalization" in str(notes) or None
            assert notes is None


def test_storm():
    """Each interrupt that says so is raised in one call, and no other call fails: stress/interrupts.py, in short."""
    assert "interrupts, of which" in run_stress("interrupts.py", "--interrupts", "150")
