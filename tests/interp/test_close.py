"""Closing interpreters, by name and by losing the last reference, also nested ones."""

from __future__ import annotations

import contextlib
import gc
import itertools

import pytest

import atoll
import atoll.interpreters
from helpers import (
    PATIENCE,
    Pipe,
    Thread,
    busy,
    call_in,
    check_ended,
    current_id,
    ids,
    new,
    nothing,
    run_python,
)


class TestClose:
    def test_gone(self):
        interp = atoll.create()
        number = interp.id
        assert interp.close() is None
        assert number not in ids()
        with pytest.raises(atoll.InterpreterNotFoundError, match=str(number)):
            atoll.Interpreter(number)

    @pytest.mark.parametrize(
        "use",
        [
            lambda interp: interp.close(),
            lambda interp: interp.is_running(),
            lambda interp: interp.exec("pass"),
            lambda interp: interp.exec(nothing),
            lambda interp: interp.call(nothing),
            lambda interp: interp.prepare_main(x=1),
        ],
        ids=["close", "is_running", "exec", "exec function", "call", "prepare_main"],
    )
    def test_unusable_afterwards(self, use):
        interp = atoll.create()
        interp.close()
        with pytest.raises(atoll.InterpreterNotFoundError, match=str(interp.id)):
            use(interp)

    def test_the_object_survives(self):
        interp = atoll.create()
        number = interp.id
        interp.close()
        assert interp.id == number
        assert interp.whence == "atoll"
        assert repr(interp) == f"Interpreter({number})"
        assert hash(interp) == hash(number)

    def test_main(self):
        with pytest.raises(atoll.InterpreterError):
            atoll.get_main().close()

    def test_main_from_inside(self, interp):
        interp.exec("""
            import atoll
            try:
                atoll.get_main().close()
            except atoll.InterpreterError:
                pass
            else:
                raise AssertionError("closed the main interpreter")
            """)

    @pytest.mark.parametrize("how", ["exec", "call"])
    def test_running(self, interp, how):
        with busy(interp, how), pytest.raises(atoll.InterpreterError, match="running"):
            interp.close()
        assert interp.id in ids()
        interp.exec("pass")

    def test_itself(self, interp):
        interp.exec("""
            import atoll
            try:
                atoll.get_current().close()
            except atoll.InterpreterError as error:
                message = str(error)
            """)
        assert interp.call(eval, "message")
        assert interp.id in ids()

    def test_itself_from_a_background_thread(self, interp):
        interp.exec("""
            import atoll, threading
            errors = []
            def attempt():
                try:
                    atoll.get_current().close()
                except atoll.InterpreterError as error:
                    errors.append(str(error))
            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join()
            """)
        assert len(interp.call(eval, "errors")) == 1
        assert interp.id in ids()

    def test_the_caller_of_the_running_code(self):
        """Code called from an interpreter tries to close that one, which waits for it."""
        outer, inner = new(), new()
        number = outer.id
        inner.prepare_main(number=number)
        source = (
            "import atoll\n"
            "try:\n"
            "    atoll.Interpreter(number).close()\n"
            "except atoll.InterpreterError as error:\n"
            "    message = str(error)\n"
        )
        outer.call(call_in, inner.id, exec, source)
        assert "running" in inner.call(eval, "message")
        assert outer.call(current_id) == number

    def test_by_a_sibling(self, interp):
        other = atoll.create()
        number = other.id
        interp.exec(f"import atoll; atoll.Interpreter({number}).close()")
        assert number not in ids()
        with pytest.raises(atoll.InterpreterNotFoundError, match=str(number)):
            other.exec("pass")

    def test_by_another_thread(self):
        interp = atoll.create()
        Thread(interp.close).result()
        assert interp.id not in ids()

    def test_as_soon_as_there_is_one(self):
        """Others close what they find listed, while who makes it is about to get it."""
        done = run_python("""
            import atoll, contextlib, threading
            over = threading.Event()
            def make():
                for _ in range(60):
                    with contextlib.suppress(atoll.InterpreterError):
                        atoll.create().close()
            def snatch():
                while not over.is_set():
                    for interp in atoll.list_all()[1:]:
                        with contextlib.suppress(atoll.InterpreterError):
                            interp.close()
            snatcher = threading.Thread(target=snatch)
            makers = [threading.Thread(target=make) for _ in range(3)]
            for thread in (snatcher, *makers):
                thread.start()
            for thread in makers:
                thread.join()
            over.set()
            snatcher.join()
            print(len(atoll.list_all()))
        """)
        check_ended(done, 0, "1\n")

    def test_several_whose_finalizers_list_interpreters(self):
        """While others list them all the time."""
        done = run_python("""
            import atoll, threading
            over = threading.Event()
            SOURCE = '''
                import atoll, sys
                class Last:
                    def __del__(self, list_all=atoll.list_all): list_all()
                last = Last()
                last.itself = last
                sys.modules["last"] = Last()
            '''
            def make():
                for _ in range(15):
                    interp = atoll.create()
                    interp.exec(SOURCE)
                    interp.close()
            def look():
                while not over.is_set():
                    atoll.list_all()
            lookers = [threading.Thread(target=look) for _ in range(2)]
            makers = [threading.Thread(target=make) for _ in range(4)]
            for thread in (*lookers, *makers):
                thread.start()
            for thread in makers:
                thread.join()
            over.set()
            for thread in lookers:
                thread.join()
            print(len(atoll.list_all()))
        """)
        check_ended(done, 0, "1\n")

    def test_waits_for_its_threads(self):
        interp = atoll.create()
        with Pipe() as go, Pipe() as done:
            interp.exec(f"""
                import os, threading
                def work():
                    os.read({go.reader}, 1)
                    os.write({done.writer}, b'!')
                threading.Thread(target=work).start()
                """)
            closing = Thread(interp.close)
            go.signal()
            done.wait()
            closing.result()
        assert interp.id not in ids()

    def test_runs_exit_functions_and_finalizers(self):
        interp = atoll.create()
        with Pipe() as pipe:
            interp.exec(f"""
                import atexit, os
                atexit.register(os.write, {pipe.writer}, b'!')
                class Noisy:
                    def __del__(self, write=os.write):
                        write({pipe.writer}, b'!')
                noisy = Noisy()
                """)
            interp.close()
            pipe.wait()
            pipe.wait()

    def test_exit_function_that_raises(self, capfd):
        interp = atoll.create()
        interp.exec("import atexit; atexit.register(lambda: 1 / 0)")
        interp.close()
        assert "ZeroDivisionError" in capfd.readouterr().err

    def test_exit_function_that_uses_interpreters(self):
        interp, other = atoll.create(), atoll.create()
        interp.exec(f"""
            import atexit, atoll
            def leave():
                atoll.Interpreter({other.id}).exec("told = True")
                with_own = atoll.create()
                with_own.exec("pass")
                with_own.close()
            atexit.register(leave)
            """)
        interp.close()
        assert other.call(eval, "told") is True

    def test_with_statement(self):
        with atoll.create() as interp:
            assert interp.call(eval, "6 * 7") == 42
        assert interp.id not in ids()

    def test_with_statement_that_fails(self):
        with pytest.raises(LookupError), atoll.create() as interp:
            raise LookupError
        assert interp.id not in ids()

    def test_with_statement_that_fails_while_something_runs(self):
        """What the block raises is what is heard of, and a note says that the interpreter was not closed."""
        with pytest.raises(LookupError, match="mine") as caught, contextlib.ExitStack() as stack:
            with atoll.create() as interp:
                stack.enter_context(busy(interp))
                raise LookupError("mine")
        assert caught.value.__context__ is None
        assert caught.value.__notes__ == [
            f"cannot close interpreter {interp.id}: interpreter already running"
        ]
        interp.close()

    def test_with_statement_that_cannot_close(self):
        with contextlib.ExitStack() as stack:
            with pytest.raises(atoll.InterpreterError, match="already running"), atoll.create() as interp:
                stack.enter_context(busy(interp))
        interp.close()

    def test_with_statement_around_close(self):
        with atoll.create() as interp:
            interp.close()
        assert interp.id not in ids()

    def test_many_objects_and_modules_inside(self):
        interp = atoll.create()
        interp.exec("""
            import collections, contextlib, dataclasses, enum, functools, json, logging, re, threading, typing
            keep = [object() for _ in range(100_000)]
            keep.append(keep)
            """)
        interp.close()
        assert interp.id not in ids()


class TestReferences:
    def test_last_object_closes(self):
        interp = atoll.create()
        number = interp.id
        del interp
        assert number not in ids()

    def test_last_object_in_a_cycle(self):
        cycle = [atoll.create()]
        number = cycle[0].id
        cycle.append(cycle)
        del cycle
        gc.collect()
        assert number not in ids()

    def test_finalizers_run(self):
        with Pipe() as pipe:
            interp = atoll.create()
            interp.exec(f"import atexit, os; atexit.register(os.write, {pipe.writer}, b'!')")
            del interp
            pipe.wait()

    def test_kept_by_an_object_elsewhere(self, interp):
        other = atoll.create()
        number = other.id
        interp.prepare_main(other=other)
        del other
        assert number in ids()
        assert interp.call(eval, "other.id") == number
        interp.exec("del other")
        assert number not in ids()

    def test_released_by_closing_the_keeper(self):
        interp, other = atoll.create(), atoll.create()
        number = other.id
        interp.prepare_main(other=other)
        del other
        assert number in ids()
        interp.close()
        assert number not in ids()

    def test_dropped_by_another_thread(self):
        box = [atoll.create()]
        number = box[0].id
        Thread(box.clear).result()
        assert number not in ids()

    def test_main_stays(self):
        main = atoll.get_main()
        del main
        gc.collect()
        assert atoll.get_main().is_running()

    def test_a_reference_in_a_closed_interpreter(self):
        """The object for a closed interpreter goes without touching whoever came after."""
        interp = atoll.create()
        interp.close()
        after = atoll.create()
        del interp
        gc.collect()
        assert after.call(eval, "1") == 1


class TestNested:
    @pytest.mark.parametrize(
        "order", list(itertools.permutations(range(3))), ids=lambda order: "".join(map(str, order))
    )
    def test_closed_in_any_order(self, order):
        """Each interpreter is made by the one before; main holds all three."""
        first = new()
        second = atoll.Interpreter(first.call(eval, "(made := __import__('atoll').create()).id"))
        third = atoll.Interpreter(second.call(eval, "(made := __import__('atoll').create()).id"))
        chain = [first, second, third]
        assert ids() == [0, *(interp.id for interp in chain)]
        for closed, number in enumerate(order, 1):
            chain[number].close()
            left = [interp for interp in chain if interp.id in ids()]
            assert len(left) == 3 - closed
            for interp in left:
                assert interp.call(eval, "2 + 2") == 4
        assert ids() == [0]

    @pytest.mark.parametrize("daemon", [False, True])
    def test_not_by_a_thread_of_its_own(self, interp, daemon):
        """It would wait for itself: the thread is inside a call to main, and what it comes back to is gone."""

        def close(interp):
            try:
                interp.close()
            except atoll.InterpreterError as error:
                return str(error)
            return "closed"

        def start(interp, close, answers, daemon):
            import threading

            import atoll

            def run():
                answers.put(atoll.get_main().call(close, interp))
                answers.put(interp.id)

            threading.Thread(target=run, daemon=daemon).start()

        answers = atoll.create_queue()
        interp.call(start, interp, close, answers, daemon)
        assert answers.get(timeout=PATIENCE).startswith(f"cannot close interpreter {interp.id}: ")
        assert answers.get(timeout=PATIENCE) == interp.id
        interp.close()
        assert ids() == [0]

    def test_held_only_by_its_maker(self):
        first = new()
        number = first.call(eval, "(made := __import__('atoll').create()).id")
        assert number in ids()
        first.close()
        assert number not in ids()

    def test_made_and_closed_inside(self, interp):
        interp.exec("""
            import atoll
            for _ in range(3):
                made = atoll.create()
                made.exec("import atoll; inner = atoll.create(); inner.exec('x = 1')")
                made.close()
            """)
        interp.exec("del made")
        assert ids() == [0, interp.id]
