"""Where in running code an interrupt is raised, and what becomes of one that CPython drops."""

from __future__ import annotations

import pytest

import atoll
from interrupt_helpers import call_in_thread, interrupt_when_started, kind_of


@pytest.fixture
def interp():
    with atoll.create() as made:
        yield made


class TestWhatIsDropped:
    """CPython drops what is raised where nobody is there to raise in: then it is raised again."""

    def in_weak_reference(started, go_on):
        import sys
        import weakref

        def wait(_):
            started.set()
            while True:
                pass

        class Thing:
            pass

        thing = Thing()
        sys.unraisablehook = lambda _: None
        ref = weakref.ref(thing, wait)
        del thing
        while go_on:
            pass
        return ref

    def in_destructor(started, go_on):
        import sys

        class Thing:
            def __del__(self):
                started.set()
                while True:
                    pass

        sys.unraisablehook = lambda _: None
        Thing()
        while go_on:
            pass

    def in_generator(started, go_on):
        import sys

        def generate():
            try:
                yield
            finally:
                started.set()
                while True:
                    pass

        sys.unraisablehook = lambda _: None
        next(generate())
        while go_on:
            pass

    def in_collector(started, go_on):
        import gc
        import sys

        def wait(*_):
            started.set()
            [None for _ in iter(int, 1)]

        sys.unraisablehook = lambda _: None
        gc.callbacks.append(wait)
        gc.collect()
        gc.callbacks.clear()
        while go_on:
            pass

    WHERE = (in_weak_reference, in_destructor, in_generator, in_collector)

    @pytest.mark.parametrize("function", WHERE)
    def test_goes_on(self, interp, function):
        assert kind_of(interrupt_when_started(interp, function, True)) == "KeyboardInterrupt"
        assert kind_of(interrupt_when_started(interp, function, True, exc=KeyError)) == "KeyError"
        assert interp.call(int, "7") == 7

    @pytest.mark.parametrize("function", WHERE)
    def test_ends(self, interp, function):
        assert kind_of(interrupt_when_started(interp, function, False)) == "KeyboardInterrupt"

    def test_submitted(self, interp):
        for go_on in (False, True):
            started = atoll.Event()
            future = interp.submit(TestWhatIsDropped.in_weak_reference, started, go_on)
            assert started.wait(60)
            assert future.interrupt()
            assert isinstance(future.exception(60), KeyboardInterrupt)

    def test_another_thread_looks(self, interp):
        """The thread that goes on is not the one that comes by."""
        until = atoll.AtomicInt(0)

        def beside(started, until, drops):
            import threading

            def spin():
                while not until.load():
                    pass

            thread = threading.Thread(target=spin)
            thread.start()
            try:
                drops(started, True)
            finally:
                until.store(1)
                thread.join()

        for _ in range(3):
            until.store(0)
            failure = interrupt_when_started(interp, beside, until, TestWhatIsDropped.in_weak_reference)
            assert kind_of(failure) == "KeyboardInterrupt"

    def test_what_was_caught_is_not_raised_again(self, interp):
        def by_whom_c_has_called(started):
            def key(_):
                try:
                    started.set()
                    while True:
                        pass
                except KeyboardInterrupt:
                    return 0

            sorted([1], key=key)
            spin()
            return "caught"

        def further_out(started):
            def wait():
                started.set()
                while True:
                    pass

            try:
                [wait() for _ in range(3)]
            except KeyboardInterrupt:
                pass
            spin()
            return "caught"

        def by_a_block(started):
            import contextlib

            with contextlib.suppress(KeyboardInterrupt):
                started.set()
                while True:
                    pass
            spin()
            return "caught"

        def and_kept(started):
            try:
                started.set()
                while True:
                    pass
            except KeyboardInterrupt as exc:
                kept = exc
            spin()
            return "caught" if kept else None

        def spin():
            import time

            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                pass

        for function in (by_whom_c_has_called, further_out, by_a_block, and_kept):
            assert interrupt_when_started(interp, function) == "caught", function


class TestWhatIsLeft:
    """Code is not interrupted between a call that gives it something and the block that gives that back."""

    @pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition"])
    def test_locks(self, interp, kind):
        def acquire(started, kind):
            import threading

            global lock
            lock = getattr(threading, kind)()
            started.set()
            while True:
                lock.acquire()
                try:
                    id(lock)
                finally:
                    lock.release()
                with lock:
                    id(lock)

        def is_free():
            import threading

            taken = []
            thread = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
            thread.start()
            thread.join()
            return taken == [True]

        for _ in range(20):
            assert kind_of(interrupt_when_started(interp, acquire, kind)) == "KeyboardInterrupt"
            assert interp.call(is_free)

    @pytest.mark.parametrize("delicate", ["_release_save", "_acquire_restore"])
    def test_condition(self, interp, delicate):
        """It waits without its lock, and has it again when it is interrupted."""

        def wait(started, delicate):
            import threading

            class Lock:
                def __init__(self):
                    self.lock = threading.Lock()
                    self.acquire = self.lock.acquire
                    self.release = self.lock.release
                    self.locked = self._is_owned = self.lock.locked

                def __enter__(self):
                    return self.acquire()

                def __exit__(self, *args):
                    self.release()

                def _release_save(self):
                    self.release()
                    if delicate == "_release_save":
                        started.set()
                        for _ in range(20):
                            sum(numbers)

                def _acquire_restore(self, saved):
                    if delicate == "_acquire_restore":
                        started.set()
                        for _ in range(20):
                            sum(numbers)
                    self.acquire()

            numbers = range(20000)

            condition = threading.Condition(Lock())
            with condition:
                condition.wait(0.01)
            while True:
                pass

        for _ in range(20):
            assert kind_of(interrupt_when_started(interp, wait, delicate)) == "KeyboardInterrupt"

    def semaphore():
        import threading

        semaphore = threading.BoundedSemaphore(1)

        def use():
            with semaphore:
                id(semaphore)

        return use, lambda: semaphore._value == 1

    def stack():
        import contextlib
        import threading

        lock = threading.Lock()

        def use():
            with contextlib.ExitStack() as stack:
                stack.enter_context(lock)

        return use, lambda: not lock.locked()

    def handler():
        import io
        import logging

        handler = logging.StreamHandler(io.StringIO())
        record = logging.makeLogRecord({})
        return lambda: handler.handle(record), lambda: not handler.lock._is_owned()

    @pytest.mark.parametrize("make", [semaphore, stack, handler])
    def test_what_is_written_in_python(self, interp, make):
        """It has what it had, wherever in its functions the interrupt would have been raised."""

        def prepare(make):
            global use, is_whole
            use, is_whole = make()

        def loop(started):
            started.set()
            while True:
                use()

        def look():
            return is_whole()

        interp.call(prepare, make)
        for _ in range(50):
            assert kind_of(interrupt_when_started(interp, loop)) == "KeyboardInterrupt"
            assert interp.call(look)

    def wait_for_event(started):
        import threading

        started.set()
        while True:
            threading.Event().wait(0.001)

    def wait_for_semaphore(started):
        import threading

        semaphore = threading.Semaphore(0)
        started.set()
        while not semaphore.acquire(timeout=0.001):
            pass

    def wait_for_queue(started):
        import queue

        started.set()
        queue.Queue().get(timeout=600)

    def wait_for_what_never_comes(started):
        import threading

        condition = threading.Condition()

        def notify():
            while started:
                with condition:
                    condition.notify_all()

        thread = threading.Thread(target=notify)
        thread.start()
        started.set()
        try:
            with condition:
                condition.wait_for(lambda: False)
        finally:
            started = None
            thread.join()

    def wait_in_a_stack(started):
        import contextlib

        def leave():
            started.set()
            while True:
                pass

        with contextlib.ExitStack() as stack:
            stack.callback(leave)

    @pytest.mark.parametrize(
        "function",
        [
            wait_for_event,
            wait_for_semaphore,
            wait_for_queue,
            wait_for_what_never_comes,
            wait_in_a_stack,
        ],
    )
    def test_waits_are_interrupted(self, interp, function):
        for _ in range(3):
            assert kind_of(interrupt_when_started(interp, function)) == "KeyboardInterrupt"

    def test_imports(self, interp):
        """Several threads only import, and each of them is interrupted: importlib's locks are free afterwards."""

        def load(started, name):
            import sys

            started.set()
            while True:
                sys.modules.pop(name, None)
                __import__(name)

        def load_once(name):
            import sys

            sys.modules.pop(name, None)
            return __import__(name).__name__

        names = ("colorsys", "stringprep", "sched")

        for _ in range(2):  # each takes seconds: imports are not interrupted at once
            started = [atoll.Event() for _ in names]
            outcomes = [call_in_thread(interp, load, *each) for each in zip(started, names, strict=True)]
            assert all(event.wait(60) for event in started)
            assert interp.interrupt()
            for outcome in outcomes:
                assert kind_of(outcome.get(timeout=60)) == "KeyboardInterrupt"
            for name in names:
                assert call_in_thread(interp, load_once, name).get(timeout=60) == name

    @pytest.mark.parametrize("handles", ["futures", "timers"])
    def test_asyncio(self, interp, handles):
        """No callback of a loop is lost: asyncio.run() cancels its tasks, and they end."""

        def run(started, handles):
            import asyncio
            import logging

            logging.disable()  # tasks that were interrupted

            async def spin():
                loop = asyncio.get_running_loop()
                started.set()
                while True:
                    if handles == "timers":
                        await asyncio.sleep(0.0001)
                    else:
                        future = loop.create_future()
                        loop.call_soon(future.set_result, None)
                        await future

            async def main():
                async with asyncio.TaskGroup() as group:
                    for _ in range(5):
                        group.create_task(spin())

            asyncio.run(main())

        for _ in range(30):
            assert kind_of(interrupt_when_started(interp, run, handles)) == "KeyboardInterrupt"


class TestImports:
    """What is imported is imported as a whole: there is no second try, modules of a package stay when it does not."""

    @pytest.fixture
    def started(self, interp, tmp_path):
        """Set by both things that can be imported here, while they are."""
        package = tmp_path / "halves"
        package.mkdir()
        (package / "__init__.py").write_text("from . import first\nnames = (first.__name__,)\n")
        (package / "first.py").write_text(
            "import builtins, time\n"
            "builtins.started.set()\n"
            "end = time.monotonic() + 0.3\n"
            "while time.monotonic() < end: pass\n"
            "time.sleep(0.2)\n"
        )
        (tmp_path / "endless.py").write_text("import builtins\nbuiltins.started.set()\nwhile True: pass\n")
        event = atoll.Event()
        interp.call(self.prepare, event, str(tmp_path))
        return event

    @staticmethod
    def prepare(started, where):
        import builtins
        import sys

        builtins.started = started
        sys.path.insert(0, where)

    @staticmethod
    def load(name):
        import importlib

        importlib.import_module(name)
        while True:
            pass

    @staticmethod
    def names():
        import halves

        return halves.names

    def test_interrupted(self, interp, started):
        outcome = call_in_thread(interp, self.load, "halves")
        assert started.wait(60)
        assert interp.interrupt()
        assert kind_of(outcome.get(timeout=60)) == "KeyboardInterrupt"
        assert interp.call(self.names) == ("halves.first",)

    def test_too_late(self, interp, started):
        """A machine that is busy may not have come to the import when the time is over: then it is right as well."""
        with pytest.raises(TimeoutError), atoll.timeout(interp, 0.1):
            interp.call(self.load, "halves")
        assert interp.call(self.names) == ("halves.first",)

    def test_two_threads(self, interp, started):
        """Whichever of them looks for both."""
        outcome = call_in_thread(interp, self.load, "halves")
        assert started.wait(60)
        assert kind_of(interrupt_when_started(interp, spin_and_say)) == "KeyboardInterrupt"
        assert kind_of(outcome.get(timeout=60)) == "KeyboardInterrupt"
        assert interp.call(self.names) == ("halves.first",)

    def test_a_close_by_force_does_not_wait_for_one(self, interp, started):
        outcome = call_in_thread(interp, self.load, "endless")
        assert started.wait(60)
        interp.close(force=True, timeout=4)
        assert kind_of(outcome.get(timeout=60)) == "KeyboardInterrupt"


def spin_and_say(started):
    started.set()
    while True:
        pass
