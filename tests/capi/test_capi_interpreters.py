"""The C API's interpreters: made, entered from everywhere, left, closed and adopted (tests/capi/capi_module.c)."""

from __future__ import annotations

import os
import threading
import time

import pytest

import atoll
from helpers import PATIENCE, Thread, check_ended, new, run_python

pytest_plugins = ["capi_fixtures"]

OK, ERROR, INVALID, NOT_FOUND, NO_MEMORY, TIMEOUT, INTERRUPTED = 0, -1, -2, -3, -4, -5, -8
USE = "globals().setdefault('seen', []).append(1)"


class TestEnter:
    def test_from_main(self, capi):
        with atoll.create() as interp:
            assert capi.visit(interp, "x = 1") == (OK, "")
            assert capi.visit(interp, "x += 1") == (OK, "")
            assert interp.call(eval, "__import__('__main__').x") == 2
        assert capi.current_id() == 0

    def test_from_another_interpreter(self, capi, there):
        def visit(other):
            import __main__
            import atoll

            code = __main__.capi.visit(other, "import atoll; me = atoll.get_current().id")
            return code, __main__.capi.current_id() == atoll.get_current().id

        with atoll.create() as interp:
            assert there.call(visit, interp) == ((OK, ""), True)
            assert interp.call(eval, "__import__('__main__').me") == interp.id
            assert there.call(visit, atoll.get_main()) == ((OK, ""), True)

    def test_what_is_raised_there_is_raised_here(self, capi):
        with atoll.create() as interp:
            with pytest.raises(atoll.ExecutionFailed, match="ValueError: wrong"):
                capi.visit(interp, "raise ValueError('wrong')")
            assert capi.visit(interp, "x = 1") == (OK, "")

    def test_with_the_gil_given_back(self, capi):
        with atoll.create() as interp:
            assert capi.visit_released(interp, "x = 1") == (OK, "", True)
            code, message, same = capi.visit_released(interp, "raise ValueError('wrong')")
            assert (code, "ValueError: wrong" in message, same) == (ERROR, True, True)

    def test_from_threads_that_know_no_python(self, capi):
        with atoll.create() as one, atoll.create() as two:
            targets = [one, two, atoll.get_main()] * 4
            assert capi.visit_in_threads(targets, USE, 50) == [(OK, "", True)] * 12
            for interp in (one, two):
                assert len(interp.call(eval, "__import__('__main__').seen")) == 200

    def test_what_is_raised_in_a_thread_is_told(self, capi):
        with atoll.create() as interp:
            ((code, message, same),) = capi.visit_in_threads([interp], "raise ValueError('wrong')", 1)
            assert (code, message, same) == (ERROR, "ValueError: wrong", True)

    def test_a_message_is_cut_between_two_characters(self, capi):
        with atoll.create() as interp:
            for text in ("a" * before + "\u20ac" * 1000 for before in range(3)):
                ((code, message, _),) = capi.visit_in_threads([interp], f"raise ValueError({text!r})", 1)
                assert code == ERROR
                assert len(message.encode()) > 1000
                assert f"ValueError: {text}".startswith(message)

    def test_time_limit(self, capi):
        with atoll.create() as interp:
            with atoll.timeout(interp, 0):
                code, error = capi.enter(interp)
            assert (code, type(error)) == (TIMEOUT, TimeoutError)
            assert capi.enter(interp) == (OK, None)

    def test_nested(self, capi):
        with atoll.create() as one, atoll.create() as two:
            assert capi.nest([one, two, one]) == [one.id, two.id, one.id, two.id, one.id, 0]
            assert capi.nest([atoll.get_main(), one]) == [0, one.id, 0, 0]

    def test_closed(self, capi):
        interp = atoll.create()
        interp.close()
        with pytest.raises(atoll.InterpreterNotFoundError):
            capi.visit(interp, "x = 1")
        assert capi.visit_released(interp, "x = 1")[::2] == (NOT_FOUND, True)
        assert capi.visit_in_threads([interp], "x = 1", 1)[0][0] == NOT_FOUND

    def test_while_somebody_closes_it_who_may_open_it_again(self, capi):
        interp = atoll.create()
        queue = atoll.create_queue()
        interp.prepare_main(queue=queue)
        interp.exec("import threading; threading.Thread(target=queue.get).start()")
        closing = Thread(interp.close, timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while capi.enter(interp)[0] == OK and time.monotonic() < deadline:
            time.sleep(0.001)
        for _ in range(20):  # by then its gate is shut
            code, error = capi.enter(interp)
            assert (code, type(error)) == (ERROR, atoll.InterpreterError)
            assert "is being closed" in str(error)
            assert capi.visit_in_threads([interp], "x = 1", 1)[0][0] == ERROR
            assert capi.find(interp.id) == (OK, interp.id)
            assert atoll.Interpreter(interp.id) in atoll.list_all()
            assert not interp.is_running()
            time.sleep(0.005)
        queue.put(None)
        closing.result()
        code, error = capi.enter(interp)
        assert (code, type(error)) == (NOT_FOUND, atoll.InterpreterNotFoundError)

    def test_thread_that_ends_inside(self, capi, capi_folder):
        done = run_python(
            f"""
            import sys; sys.path.insert(0, {str(capi_folder)!r})
            import atoll, {capi.__name__} as capi
            interp = atoll.create()
            interp.call(abs, 1)
            capi.thread_ends_in(interp)
            for _ in range(20):
                interp.call(eval, "[0 for _ in range(10000)]")
                assert not interp.interrupt()
            try:
                interp.close(timeout=0.01)
            except atoll.InterpreterError as error:
                print(error)
            """
        )
        assert (done.returncode, done.stdout) == (
            0,
            "cannot close interpreter 1: interpreter already running\n",
        ), done.stderr

    def test_counts_as_a_call(self, capi):
        with atoll.create() as interp:
            interp.exec("import atoll; me = atoll.get_current()")
            capi.visit(interp, "was_running = me.is_running()")
            assert interp.call(eval, "__import__('__main__').was_running")
            assert not interp.is_running()

    def test_is_interrupted(self, capi):
        with atoll.create() as interp:
            interp.exec("import time")
            begun = threading.Event()
            entered = atoll.create_queue()
            interp.prepare_main(entered=entered)
            thread = Thread(
                capi.visit_in_threads, [interp], "entered.put(1)\nwhile True: time.sleep(0.01)", 1
            )
            assert entered.get(timeout=60) == 1
            begun.set()
            assert interp.interrupt()
            ((code, message, same),) = thread.result()
            assert (code, message.startswith("KeyboardInterrupt"), same) == (INTERRUPTED, True, True)

    def test_limit_of_processor_time(self, capi):
        with atoll.create(cpu_limit=0.05) as interp:
            with pytest.raises(atoll.ResourceLimitExceeded):
                capi.visit(interp, "while True: pass")
            with pytest.raises(atoll.ResourceLimitExceeded):
                capi.visit(interp, "pass")
            code, message, same = capi.visit_in_threads([interp], "pass", 1)[0]
            assert (code, "all the processor time" in message, same) == (INTERRUPTED, True, True)


FINALIZER = """
import sys; sys.path.insert(0, {folder!r})
import builtins, os, atoll, {name} as capi

interp = atoll.create()
queue = atoll.create_queue()
functions = [
    lambda: capi.visit(interp, "x = 1"),
    lambda: capi.enter(interp),
    lambda: capi.create(),
    lambda: capi.queue(0),
    lambda: capi.find_queue(10**9),
    lambda: capi.put(queue, "hello"),
    lambda: capi.get(queue),
    lambda: capi.share("hello"),
]

class Late:
    def __del__(self, write=os.write, capi=capi, functions=functions):
        write(1, b"%d " % capi.current_id())
        for function in functions:
            try:
                function()
                write(1, b".")
            except SystemError:
                write(1, b"an error without an exception")
            except Exception:
                write(1, b".")

builtins.late = Late()
interp.close()
"""


def test_in_finalizers_of_the_main_interpreter(capi, capi_folder):
    done = run_python(FINALIZER.format(folder=str(capi_folder), name=capi.__name__))
    check_ended(done, 0, "0 ........")


def test_a_queue_that_is_not_there_in_a_finalizer(capi, capi_folder):
    """Its own exception cannot be had any more: it is one that that derives from, and none of interpreters."""
    source = f"""
import sys; sys.path.insert(0, {str(capi_folder)!r})
import builtins, os, atoll, {capi.__name__} as capi

class Late:
    def __del__(self, write=os.write, find=capi.find_queue):
        try:
            find(10**9)
        except RuntimeError as error:
            write(1, type(error).__name__.encode() + b": " + str(error).encode() + b"\\n")

builtins.late = Late()
"""
    check_ended(run_python(source), 0, "RuntimeError: queue 1000000000 not found\n")


class TestLife:
    def test_create(self, capi):
        interp = capi.create("from C", "strict", 1 | 2 | 4)
        assert interp.name == "from C"
        assert interp.call(eval, "'site' in __import__('sys').modules") is False
        capi.close(interp)
        assert interp not in atoll.list_all()

    @pytest.mark.parametrize(
        "arguments, error",
        [
            (("", None), "name must not be empty"),
            ((None, "somehow"), "somehow"),
            ((None, None, 64), "options.flags has 0x40"),
            ((None, None, 0, 0, 0.0, 4), "options.size is 4"),
            (("name", None, 0, 0, 0.0, 12), "options.size is 12"),
            ((None, None, 0, 0, 0.0, 4000), "options.size is 4000"),
            ((None, None, 0, 0, -1.0), "cpu_limit"),
        ],
    )
    def test_create_refuses(self, capi, arguments, error):
        with pytest.raises(ValueError, match=error):
            capi.create(*arguments)

    def test_limits(self, capi):
        with capi.create(None, None, 0, 200_000_000) as interp, pytest.raises(atoll.ExecutionFailed):
            interp.exec("x = bytes(300_000_000)")

    def test_last_reference(self, capi):
        interp = capi.create()
        number = interp.id
        del interp
        assert capi.find(number)[0] == NOT_FOUND

    def test_in_a_thread_that_knows_no_python(self, capi):
        before = atoll.list_all()
        assert capi.create_in_thread("import json; x = json.dumps([1])") == (OK, "", True)
        code, message, same = capi.create_in_thread("1 / 0")
        assert (code, message, same) == (ERROR, "ZeroDivisionError: division by zero", True)
        assert atoll.list_all() == before

    def test_find(self, capi, there):
        assert capi.find(0) == (OK, 0)
        assert capi.find(there.id) == (OK, there.id)
        assert capi.find(10**9) == (NOT_FOUND, -1)
        assert capi.find(-1)[1] == -1

    def test_close_is_refused_while_somebody_is_inside(self, capi):
        interp = new()
        entered, to = os.pipe()
        wait, go = os.pipe()
        capi.stay(interp, to, wait)
        assert os.read(entered, 1) == b"!"
        with pytest.raises(atoll.InterpreterError, match="already running"):
            capi.close(interp)
        with pytest.raises(atoll.InterpreterError, match="already running"):
            capi.close(interp, 0.01)
        with pytest.raises(atoll.InterpreterStuckError):
            capi.close(interp, 0.01, True)
        os.write(go, b"!")
        assert os.read(entered, 1) == b"i"  # it was interrupted, too late for any code
        capi.close(interp, 60, False)
        with pytest.raises(atoll.InterpreterNotFoundError):
            capi.close(interp)
        for end in (entered, to, wait, go):
            os.close(end)

    def test_close_refuses(self, capi, there):
        with pytest.raises(atoll.InterpreterError):
            capi.close(atoll.get_main())
        with pytest.raises(
            atoll.ExecutionFailed, match="InterpreterError: cannot close the current interpreter"
        ):
            there.exec("import atoll; capi.close(atoll.get_current())")

    def test_wrong_objects(self, capi):
        with pytest.raises(TypeError, match="an Interpreter is needed, not int"):
            capi.visit(3, "x = 1")


@pytest.mark.parametrize("shares_gil", [False, True])
class TestAdopted:
    def test_is_called_entered_and_listed(self, capi, shares_gil):
        def use(number):
            interp = atoll.Interpreter(number)
            assert interp in atoll.list_all()
            assert interp.call(pow, 2, 10) == 1024
            assert capi.visit(interp, "x = 1") == (OK, "")
            assert capi.visit_in_threads([interp] * 3, USE, 5) == [(OK, "", True)] * 3
            with pytest.raises(atoll.InterpreterError):
                interp.close()
            with pytest.raises(atoll.InterpreterError):
                capi.close(interp)
            return capi.find(number)

        code, number = capi.adopted(shares_gil, use)
        assert code == OK
        assert number not in [interp.id for interp in atoll.list_all()]

    def test_its_end_waits_for_who_is_inside(self, capi, shares_gil):
        entered, to = os.pipe()
        wait, go = os.pipe()

        def use(number):
            capi.stay(atoll.Interpreter(number), to, wait)
            assert os.read(entered, 1) == b"!"
            threading.Timer(0.05, os.write, (go, b"!")).start()
            return True

        assert capi.adopted(shares_gil, use)
        assert os.read(entered, 1) == b"y"
        for end in (entered, to, wait, go):
            os.close(end)
