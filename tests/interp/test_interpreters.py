"""Making, finding, naming and closing interpreters."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import weakref

import pytest

import atoll
import atoll.interpreters
from helpers import (
    Pipe,
    Thread,
    busy,
    call_in,
    current_id,
    ids,
    new,
    ping,
    thread_id,
    way_through,
)

API = [
    "ExecutionFailed",
    "Interpreter",
    "InterpreterError",
    "InterpreterNotFoundError",
    "NotShareableError",
    "create",
    "get_current",
    "get_main",
    "is_shareable",
    "list_all",
]


class TestModule:
    @pytest.mark.parametrize("name", API)
    def test_the_same_objects_under_both_names(self, name):
        assert getattr(atoll, name) is getattr(atoll.interpreters, name)
        assert name in atoll.__all__
        assert name in atoll.interpreters.__all__

    def test_exception_types(self):
        assert issubclass(atoll.InterpreterError, Exception)
        assert issubclass(atoll.InterpreterNotFoundError, atoll.InterpreterError)
        assert issubclass(atoll.ExecutionFailed, atoll.InterpreterError)
        assert issubclass(atoll.NotShareableError, TypeError)

    def test_everything_is_documented(self):
        for name in API:
            assert getattr(atoll, name).__doc__
        for name in ("close", "exec", "call", "call_in_thread", "prepare_main", "is_running", "id", "whence"):
            assert getattr(atoll.Interpreter, name).__doc__

    def test_usable_inside_an_interpreter(self, interp):
        interp.exec("""
            import atoll
            from atoll import interpreters
            other = atoll.create()
            other.exec("x = 1")
            assert other.call(eval, "x + 1") == 2
            assert interpreters.get_main().id == 0
            try:
                other.exec("raise ValueError('inner')")
            except atoll.ExecutionFailed as error:
                assert error.excinfo.msg == "inner"
            other.close()
            try:
                other.exec("x")
            except atoll.InterpreterNotFoundError:
                pass
            else:
                raise AssertionError("a closed interpreter executed code")
            """)


class TestCreate:
    def test_new_ids(self):
        first, second = atoll.create(), atoll.create()
        assert 0 < first.id < second.id

    def test_isolated(self, interp):
        other = atoll.create()
        interp.exec("import os; value = 'here'; os.marked = True")
        assert other.call(eval, "'value' in globals()") is False
        other.exec("import os; assert not hasattr(os, 'marked')")
        assert "value" not in globals()
        assert not hasattr(os, "marked")

    def test_idle(self, interp):
        assert interp.is_running() is False

    def test_own_gil(self, interp):
        """Two threads meet inside two interpreters without either giving up its GIL on the way."""
        with Pipe() as there, Pipe() as back:
            source = (
                "import fcntl, os, sys\n"
                "sys.setswitchinterval(1000)\n"
                "os.set_blocking({0}, False)\n"
                "os.write({1}, b'!')\n"
                "while True:\n"
                "    try:\n"
                "        os.read({0}, 1)\n"
                "        break\n"
                "    except BlockingIOError:\n"
                "        pass\n"
            )
            other = atoll.create()
            one = Thread(interp.exec, source.format(there.reader, back.writer))
            two = Thread(other.exec, source.format(back.reader, there.writer))
            one.result()
            two.result()

    def test_in_a_thread(self):
        interp = Thread(atoll.create).result()
        assert interp in atoll.list_all()
        assert interp.call(eval, "1 + 1") == 2

    def test_unexpected_arguments(self):
        with pytest.raises(TypeError):
            atoll.create("positional")
        with pytest.raises(TypeError):
            atoll.create(no_such_option=True)

    def test_standard_streams_and_imports_work(self, interp):
        interp.exec("""
            import sys, re, json, collections, io
            assert sys.stdout.writable()
            assert json.loads('[1]') == [1]
            """)


class TestIdentity:
    def test_main(self):
        main = atoll.get_main()
        assert main is atoll.get_main()
        assert main is atoll.get_current()
        assert main is atoll.Interpreter(0)
        assert main is atoll.list_all()[0]
        assert main.id == 0

    def test_one_object_per_id(self, interp):
        assert atoll.Interpreter(interp.id) is interp
        assert [found for found in atoll.list_all() if found.id == interp.id][0] is interp
        assert pickle.loads(pickle.dumps(interp)) is interp

    def test_one_object_per_id_in_every_interpreter(self, interp):
        interp.exec("""
            import atoll
            assert atoll.get_main() is atoll.get_main() is atoll.Interpreter(0)
            assert atoll.get_current() is atoll.get_current() is atoll.Interpreter(atoll.get_current().id)
            assert atoll.get_current() is not atoll.get_main()
            """)

    def test_from_many_threads(self, interp):
        found = [Thread(atoll.Interpreter, interp.id) for _ in range(8)]
        assert all(thread.result() is interp for thread in found)

    def test_a_new_object_after_the_last_is_gone(self, interp):
        interp.exec("""
            import atoll, gc
            number = atoll.create().id
            assert number not in [found.id for found in atoll.list_all()]
            """)

    def test_hash_equality_repr(self, interp):
        other = atoll.create()
        assert hash(interp) == hash(interp.id)
        assert interp == atoll.Interpreter(interp.id)
        assert interp != other
        assert interp != interp.id
        assert repr(interp) == f"Interpreter({interp.id})"
        assert repr(atoll.get_main()) == "Interpreter(0)"
        assert {interp: 1}[interp] == 1

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickle(self, interp, protocol):
        assert pickle.loads(pickle.dumps(interp, protocol)) is interp

    def test_pickle_of_a_closed_one(self):
        interp = atoll.create()
        data = pickle.dumps(interp)
        interp.close()
        with pytest.raises(atoll.InterpreterNotFoundError):
            pickle.loads(data)

    def test_weak_reference(self):
        interp = atoll.create()
        reference = weakref.ref(interp)
        assert reference() is interp
        del interp
        gc.collect()
        assert reference() is None

    def test_read_only(self, interp):
        for name in ("id", "whence"):
            with pytest.raises(AttributeError):
                setattr(interp, name, 1)

    @pytest.mark.parametrize("bad", ["0", 0.0, None, b"0", object(), ()])
    def test_wrong_type_of_id(self, bad):
        with pytest.raises(TypeError, match="int"):
            atoll.Interpreter(bad)

    def test_no_id(self):
        with pytest.raises(TypeError):
            atoll.Interpreter()

    @pytest.mark.parametrize("number", [1_000_000, 2**62])
    def test_unknown_id(self, number):
        with pytest.raises(atoll.InterpreterNotFoundError, match=str(number)):
            atoll.Interpreter(number)

    def test_negative_id(self):
        with pytest.raises(ValueError, match="-1"):
            atoll.Interpreter(-1)

    def test_id_too_big_for_c(self):
        with pytest.raises((OverflowError, atoll.InterpreterNotFoundError)):
            atoll.Interpreter(10**30)


class TestWhence:
    def test_main(self):
        assert atoll.get_main().whence == "runtime init"

    def test_own(self, interp):
        assert interp.whence == "atoll"

    def test_seen_from_inside(self, interp):
        interp.exec("""
            import atoll
            assert atoll.get_current().whence == 'atoll'
            assert atoll.get_main().whence == 'runtime init'
            """)


class TestListAll:
    def test_only_main(self):
        assert atoll.list_all() == [atoll.get_main()]

    def test_in_order(self):
        first, second, third = (atoll.create() for _ in range(3))
        assert atoll.list_all() == [atoll.get_main(), first, second, third]
        second.close()
        assert atoll.list_all() == [atoll.get_main(), first, third]

    def test_from_inside(self, interp):
        other = atoll.create()
        source = "__import__('json').dumps([i.id for i in __import__('atoll').list_all()])"
        assert interp.call(eval, source) == f"[0, {interp.id}, {other.id}]"

    def test_made_by_an_interpreter(self, interp):
        interp.exec("import atoll; made = atoll.create()")
        number = interp.call(eval, "made.id")
        made = atoll.Interpreter(number)
        assert made in atoll.list_all()
        assert made.whence == "atoll"
        assert made.call(eval, "6 * 7") == 42

    def test_destroyed_while_listing(self):
        """An interpreter in a garbage cycle may go at any moment, also in the middle of list_all()."""
        interp = atoll.create()
        number = interp.id
        cycle = [interp]
        cycle.append(cycle)
        gc.disable()
        try:
            del interp, cycle
            threshold = gc.get_threshold()
            gc.set_threshold(1)
            gc.enable()
            ids()
        finally:
            gc.enable()
            gc.set_threshold(*threshold)
        gc.collect()
        assert number not in ids()


class TestGetCurrent:
    def test_inside(self, interp):
        assert interp.call(current_id) == interp.id

    def test_in_a_thread_of_an_interpreter(self, interp):
        interp.exec("""
            import atoll, threading
            found = []
            thread = threading.Thread(target=lambda: found.append(atoll.get_current().id))
            thread.start()
            thread.join()
            """)
        assert interp.call(eval, "found") == [interp.id]

    def test_in_a_thread_of_main(self):
        assert Thread(current_id).result() == 0


class TestIsRunning:
    def test_main(self):
        assert atoll.get_main().is_running() is True

    @pytest.mark.parametrize("how", ["exec", "call"])
    def test_while_code_runs(self, interp, how):
        with busy(interp, how):
            assert interp.is_running() is True
        assert interp.is_running() is False

    def test_of_itself(self, interp):
        assert interp.call(eval, "__import__('atoll').get_current().is_running()") is True

    def test_after_a_failure(self, interp):
        with pytest.raises(atoll.ExecutionFailed):
            interp.exec("1 / 0")
        assert interp.is_running() is False

    def test_background_threads_do_not_count(self, interp):
        with Pipe() as pipe:
            interp.exec(f"""
                import os, threading
                thread = threading.Thread(target=os.read, args=({pipe.reader}, 1))
                thread.start()
                """)
            assert interp.is_running() is False
            pipe.signal()
            interp.exec("thread.join()")

    def test_closed(self):
        interp = atoll.create()
        interp.close()
        with pytest.raises(atoll.InterpreterNotFoundError, match=str(interp.id)):
            interp.is_running()


class TestCallingMain:
    def test_from_main(self):
        assert atoll.get_main().call(current_id) == 0

    def test_from_an_interpreter(self, interp):
        assert interp.call(call_in, 0, current_id) == 0

    def test_in_the_same_thread(self, interp):
        assert interp.call(call_in, 0, thread_id) == threading.get_native_id()

    def test_on_to_another(self, interp):
        """main -> X -> main -> Y"""
        other = new()
        assert atoll.get_main().call(way_through, [interp.id, 0, other.id]) == [0, interp.id, 0, other.id]

    def test_and_back_again(self, interp):
        """main -> X -> main -> X: a call, which any number may make."""
        assert way_through([interp.id, 0, interp.id, 0]) == [0, interp.id, 0, interp.id, 0]

    def test_from_a_thread(self, interp):
        assert Thread(interp.call, call_in, 0, thread_id).result() != threading.get_native_id()

    def test_from_a_thread_of_an_interpreter(self, interp):
        interp.exec("""
            import atoll, helpers, threading
            found = []
            def work():
                found.append(atoll.get_main().call(helpers.current_id))
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            """)
        assert interp.call(eval, "found") == [0]

    def test_failure_comes_back(self, interp):
        with pytest.raises(atoll.ExecutionFailed) as caught:
            interp.call(call_in, 0, eval, "1 / 0")
        assert caught.value.excinfo.type.__name__ == "ExecutionFailed"
        assert "ZeroDivisionError" in caught.value.excinfo.msg

    def test_deep(self, interp):
        other = new()
        assert ping(interp.id, other.id, 40) == 40

    @pytest.mark.parametrize("method", ["exec", "prepare_main"])
    @pytest.mark.parametrize("where", ["main", "interpreter"])
    def test_the_rest_is_refused(self, interp, method, where):
        source = (
            "import atoll\n"
            "main = atoll.get_main()\n"
            "try:\n"
            f"    {'main.exec(chr(49))' if method == 'exec' else 'main.prepare_main(x=1)'}\n"
            "except atoll.InterpreterError as error:\n"
            "    message = str(error)\n"
        )
        if where == "main":
            space: dict[str, str] = {}
            exec(source, space)
            message = space["message"]
        else:
            interp.exec(source)
            message = interp.call(eval, "message")
        assert "0" in message
