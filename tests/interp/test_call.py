"""call(), call_in_thread() and what they carry."""

from __future__ import annotations

import sys
import threading

import pytest

import atoll
from helpers import (
    Pipe,
    Thread,
    arguments,
    busy,
    check_ended,
    current_id,
    fail,
    identity,
    new,
    nothing,
    ping,
    run_python,
    signal_and_wait,
)
from queue_helpers import make_foreigner  # noqa: F401


class TestCall:
    def test_result(self, interp):
        assert interp.call(nothing) is None
        assert interp.call(current_id) == interp.id
        assert interp.call(len, "four") == 4

    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [
            ((), {}),
            ((1, "two"), {}),
            ((), {"a": 1}),
            ((1,), {"b": [2]}),
            ((), {"callable": 1, "self": 2, "args": 3}),
        ],
    )
    def test_arguments(self, interp, args, kwargs):
        assert interp.call(arguments, *args, **kwargs) == (args, kwargs)

    def test_arguments_are_copies(self, interp):
        sent = [1, {"a": []}]
        received = interp.call(identity, sent)
        assert received == sent
        assert received is not sent
        assert received[1] is not sent[1]

    def test_shared_references_keep_their_shape(self, interp):
        inner = [1]
        one, two = interp.call(identity, (inner, inner))
        assert one is two
        inner.append(inner)
        cyclic = interp.call(identity, inner)
        assert cyclic[1] is cyclic

    def test_one_object_in_two_arguments(self, interp):
        shared = [1]
        assert interp.call(lambda a, b: a is b, shared, shared) is True

    def test_in_the_callers_thread(self, interp):
        assert interp.call(threading.get_native_id) == threading.get_native_id()

    def test_in_the_interpreters_namespace(self, interp):
        interp.exec("x = 5")
        assert interp.call(eval, "x + 1") == 6
        interp.call(exec, "x = 7")
        assert interp.call(eval, "x") == 7

    def test_local_function_sees_the_interpreters_main(self, interp):
        def set_name(name, value):
            globals()[name] = value

        interp.call(set_name, "set_by_function", 1)
        assert interp.call(eval, "set_by_function") == 1
        assert "set_by_function" not in globals()

    def test_builtin_bound_to_a_value(self, interp):
        assert interp.call("a,b".split, ",") == ["a", "b"]
        assert interp.call([3, 1].index, 1) == 1

    def test_class(self, interp):
        assert interp.call(complex, 1, imag=2) == 1 + 2j

    def test_module_state_persists(self, interp):
        interp.call(exec, "import helpers; helpers.counter = 1")
        assert interp.call(eval, "__import__('helpers').counter") == 1

    def test_function_from_inside(self, interp):
        """A function defined in the interpreter's __main__ comes out, and goes back in, by value."""
        interp.exec("def double(x): return x * 2")
        double = interp.call(eval, "double")
        assert double(4) == 8
        assert interp.call(double, 5) == 10

    @pytest.mark.parametrize("bad", [5, None, "text", [], object()])
    def test_not_callable(self, interp, bad):
        with pytest.raises(TypeError, match="callable"):
            interp.call(bad)

    def test_no_arguments(self, interp):
        with pytest.raises(TypeError):
            interp.call()

    def test_interpreter_as_argument(self, interp):
        other = atoll.create()
        assert interp.call(identity, other) is other
        assert interp.call(lambda i: (type(i).__name__, i.id, i.whence), other) == (
            "Interpreter",
            other.id,
            "atoll",
        )
        assert interp.call(lambda i: __import__("atoll").Interpreter(i.id) is i, other) is True

    def test_recursion_inside(self, interp):
        def forever():
            def down():
                down()

            down()

        with pytest.raises(atoll.ExecutionFailed) as caught:
            interp.call(forever)
        assert caught.value.excinfo.type.__name__ == "RecursionError"
        assert interp.call(len, "ok") == 2

    def test_recursion_between_interpreters(self, interp):
        other = new()
        with pytest.raises((atoll.ExecutionFailed, RecursionError)) as caught:
            ping(interp.id, other.id, 10**6)
        assert "RecursionError" in caught.exconly()
        assert interp.call(current_id) == interp.id
        assert other.call(current_id) == other.id

    def test_recursion_between_interpreters_without_their_limits(self, interp):
        """The limit of each interpreter counts its own frames only: the C stack needs a bound of Atoll's own."""
        other = new()
        before = sys.getrecursionlimit()
        for one in (interp, other):
            one.call(sys.setrecursionlimit, 10**6)
        sys.setrecursionlimit(10**6)
        try:
            assert ping(interp.id, other.id, 500) == 500
            with pytest.raises((atoll.ExecutionFailed, RecursionError)) as caught:
                ping(interp.id, other.id, 10**6)
        finally:
            sys.setrecursionlimit(before)
        assert "RecursionError" in caught.exconly()
        assert interp.call(current_id) == interp.id

    @pytest.mark.parametrize("kib", [256, 512])
    def test_a_small_stack_is_named_at_its_end(self, kib):
        """There is enough of it left to describe the error."""
        # in a process of its own: the system may give a thread the larger stack of one that has ended
        done = run_python(f"""
            import threading
            import atoll
            from helpers import Thread
            def down(ids, depth):
                import atoll
                return atoll.Interpreter(ids[depth % 2]).call(down, ids, depth + 1)
            with atoll.create() as one, atoll.create() as other:
                threading.stack_size({kib} * 1024)
                thread = Thread(one.call, down, [one.id, other.id], 1)
                threading.stack_size(0)
                try:
                    thread.result()
                except atoll.ExecutionFailed as error:
                    assert "RecursionError: the stack is used up by calls" in str(error), str(error)[-200:]
                else:
                    raise SystemExit("no error")
            print("right")
        """)
        check_ended(done, 0, "right\n")

    def test_recursion_limit_is_the_interpreters_own(self, interp):
        before = sys.getrecursionlimit()
        interp.exec("import sys; sys.setrecursionlimit(300)")
        assert interp.call(lambda: __import__("sys").getrecursionlimit()) == 300
        assert sys.getrecursionlimit() == before

    def test_exit_inside(self, interp):
        with pytest.raises(atoll.ExecutionFailed) as caught:
            interp.call(sys.exit, 3)
        assert (caught.value.excinfo.type.__name__, caught.value.excinfo.msg) == ("SystemExit", "3")


class TestNotShareable:
    def test_argument(self, interp):
        with pytest.raises(atoll.NotShareableError, match=r"args\[0\].*lock"):
            interp.call(identity, threading.Lock())

    def test_deep_in_an_argument(self, interp):
        with pytest.raises(atoll.NotShareableError, match=r"args\[1\]\['model'\]\[0\].*lock"):
            interp.call(arguments, 1, {"model": (threading.Lock(),)})

    def test_keyword(self, interp):
        with pytest.raises(atoll.NotShareableError, match=r"model\W.*lock"):
            interp.call(arguments, model=[threading.Lock()])

    def test_result(self, interp):
        with pytest.raises(atoll.NotShareableError, match="lock"):
            interp.call(eval, "[__import__('threading').Lock()]")

    def test_nothing_ran(self, interp):
        interp.exec("import helpers; helpers.ran = False")
        with pytest.raises(atoll.NotShareableError):
            interp.call(exec, "import helpers; helpers.ran = True", {"lock": threading.Lock()})
        assert interp.call(eval, "helpers.ran") is False
        assert interp.is_running() is False

    def test_type_that_the_interpreter_lacks(self, interp, foreigner):
        """An instance of a class whose module the other side fails to import: a clear error."""
        with pytest.raises(atoll.ExecutionFailed, match="only_here"):
            interp.call(identity, foreigner)
        assert interp.call(identity, 1) == 1


@pytest.mark.parametrize(
    "use",
    [
        "assert main.call(len, 'abc') == 3",
        "thread = main.call_in_thread(print, 'called', flush=True); thread.join()",
        "assert main.interrupt() is False",
        """with atoll.timeout(main, 60):
            assert main.call(len, 'abc') == 3""",
    ],
    ids=["call", "call_in_thread", "interrupt", "timeout"],
)
def test_main_that_does_not_know_atoll(use):
    """The first to import it is an interpreter that others have made."""
    code = f"""
import atoll
main = atoll.get_main()
for _ in range(2):
    {use}
print("right", flush=True)
"""
    done = run_python(f"""
import sys
new = sys.version_info >= (3, 13)
private = __import__("_interpreters" if new else "_xxsubinterpreters")
made = private.create()
failed = (private.exec if new else private.run_string)(made, {code!r})
assert failed is None, failed
private.destroy(made)
print("ended")
""")
    called = "called\n" * 2 * ("print" in use)
    check_ended(done, 0, called + "right\nended\n", clean=True)


class TestIsShareable:
    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            1,
            1.0,
            "text",
            b"bytes",
            (),
            (1, ("a", b"b"), None),
            memoryview(b"view"),
            atoll.get_main(),
        ],
        ids=repr,
    )
    def test_yes(self, value):
        assert atoll.is_shareable(value) is True

    @pytest.mark.parametrize(
        "value",
        [
            [],
            {},
            set(),
            (1, [2]),
            ((((object(),),),),),
            object(),
            type,
            Exception(),
            ...,
            NotImplemented,
            nothing,
        ],
        ids=repr,
    )
    def test_no(self, value):
        assert atoll.is_shareable(value) is False

    def test_subclasses_are_not(self):
        for base in (int, str, bytes, tuple, float):
            subclass = type("Sub", (base,), {})
            assert atoll.is_shareable(subclass()) is False


class TestBig:
    def test_long_list(self, interp):
        assert interp.call(len, list(range(1_000_000))) == 1_000_000
        assert interp.call(eval, "list(range(1_000_000))") == list(range(1_000_000))

    def test_long_text(self, interp):
        text = "x" * 100_000_000
        assert interp.call(len, text) == len(text)
        assert interp.call(lambda: "x" * 100_000_000) == text

    def test_wide_text(self, interp):
        text = "\U0001f40d" * 1_000_000
        assert interp.call(identity, text) == text

    def test_deep(self, interp):
        """Deeper than the C stack could recurse: an error or the same list, and never a crash."""
        deep: list[object] = []
        for _ in range(1_000_000):
            deep = [deep]
        try:
            received = interp.call(identity, deep)
        except (RecursionError, atoll.NotShareableError, atoll.ExecutionFailed):
            received = deep
        depth = 0
        while received:
            received, depth = received[0], depth + 1
        assert depth == 1_000_000
        assert interp.call(identity, 1) == 1


class TestAtTheSameTime:
    """Calls of one interpreter take turns on its GIL; none is refused."""

    def test_one_lets_the_other_go(self, interp):
        with Pipe() as inside, Pipe() as leave:
            waiting = Thread(interp.call, signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            assert interp.call(current_id) == interp.id
            interp.call(exec, f"import os; os.write({leave.writer}, b'!')")
            assert waiting.result() == interp.id

    def test_while_exec_runs(self, interp):
        with busy(interp):
            assert interp.call(current_id) == interp.id

    def test_many(self, interp):
        with Pipe() as inside, Pipe() as leave:
            waiting = [Thread(interp.call, signal_and_wait, inside.writer, leave.reader) for _ in range(10)]
            for _ in waiting:
                inside.wait()
            assert interp.is_running() is True
            leave.signal(len(waiting))
            assert [thread.result() for thread in waiting] == [interp.id] * 10
        assert interp.is_running() is False
        interp.exec("pass")

    def test_still_running_until_the_last_ends(self, interp):
        with busy(interp, "call"):
            with busy(interp, "call"):
                pass
            assert interp.is_running() is True
            with pytest.raises(atoll.InterpreterError, match="running"):
                interp.close()


class TestCallInThread:
    @pytest.fixture
    def errors(self, monkeypatch):
        caught: list[threading.ExceptHookArgs] = []
        monkeypatch.setattr(threading, "excepthook", caught.append)
        yield caught
        caught.clear()

    def test_started_thread(self, interp, errors):
        with Pipe() as inside, Pipe() as leave:
            thread = interp.call_in_thread(signal_and_wait, inside.writer, leave.reader)
            assert isinstance(thread, threading.Thread)
            inside.wait()
            assert thread.is_alive()
            leave.signal()
            thread.join()
        assert errors == []

    def test_arguments(self, interp, errors):
        interp.call_in_thread(exec, "x = 1").join()
        assert interp.call(eval, "x") == 1
        with pytest.raises(TypeError):
            interp.call_in_thread()

    def test_keyword_arguments(self, interp, errors):
        interp.call_in_thread(nothing, callable=1).join()
        assert [args.exc_type for args in errors] == [atoll.ExecutionFailed]

    def test_in_another_thread(self, interp, errors):
        interp.call_in_thread(exec, "import threading; x = threading.get_native_id()").join()
        assert interp.call(eval, "x") != threading.get_native_id()

    def test_failure(self, interp, errors):
        interp.call_in_thread(fail, ValueError, "in a thread").join()
        assert [args.exc_type for args in errors] == [atoll.ExecutionFailed]
        assert errors[0].exc_value.excinfo.msg == "in a thread"

    def test_not_shareable(self, interp, errors):
        interp.call_in_thread(identity, threading.Lock()).join()
        assert [args.exc_type for args in errors] == [atoll.NotShareableError]

    def test_several(self, interp, errors):
        interp.exec("import helpers; helpers.seen = []")
        threads = [interp.call_in_thread(exec, f"import helpers; helpers.seen.append({n})") for n in range(8)]
        for thread in threads:
            thread.join()
        assert sorted(interp.call(eval, "helpers.seen")) == list(range(8))
        assert errors == []

    def test_keeps_the_interpreter(self, errors):
        """The thread refers to the interpreter: it stays until the call has ended."""
        interp = new()
        with Pipe() as inside, Pipe() as leave:
            thread = interp.call_in_thread(signal_and_wait, inside.writer, leave.reader)
            inside.wait()
            number = interp.id
            del interp
            assert number in [found.id for found in atoll.list_all()]
            leave.signal()
            thread.join()
        assert errors == []
        del thread
        assert number not in [found.id for found in atoll.list_all()]
