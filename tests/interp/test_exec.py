"""exec() and prepare_main()."""

from __future__ import annotations

import array
import threading

import pytest

import atoll
from helpers import Pipe, Thread, busy, new, nothing


def sets_a_name():
    global result
    result = __name__


def returns_none():
    global result
    result = 1
    return None


def raises():
    raise LookupError("from a function")


def closure():
    variable = 1

    def inner():
        nonlocal variable
        variable += 1

    return inner


class Callable:
    def __call__(self):
        pass

    def method(self):
        pass


class TestSource:
    def test_returns_none(self, interp):
        assert interp.exec("1 + 1") is None

    def test_runs_in_main_module(self, interp):
        interp.exec("name, space = __name__, globals() is vars(__import__('__main__'))")
        assert interp.call(eval, "(name, space)") == ("__main__", True)

    def test_namespace_persists(self, interp):
        interp.exec("x = 1")
        interp.exec("x += 1")
        interp.exec("def f(): return x")
        interp.exec("assert f() == 2")

    def test_locals_are_globals(self, interp):
        interp.exec("""
            y = 3
            assert [y for _ in range(2)] == [3, 3]
            class C:
                z = y
            assert (lambda: C.z)() == 3
            """)

    @pytest.mark.parametrize("source", ["", " ", "\n", "# nothing", "   # nothing\n"])
    def test_nothing(self, interp, source):
        assert interp.exec(source) is None

    def test_subclass_of_str(self, interp):
        class Source(str):
            def __str__(self):
                raise AssertionError("asked")

        interp.exec(Source("x = 'subclass'"))
        assert interp.call(eval, "x") == "subclass"

    def test_unicode(self, interp):
        interp.exec("größe = 'Ω\U0001f40d'")
        assert interp.call(eval, "größe") == "Ω\U0001f40d"

    def test_big(self, interp):
        interp.exec("x = [\n" + "    0,\n" * 50_000 + "]\n")
        assert interp.call(eval, "len(x)") == 50_000

    def test_in_a_thread(self, interp):
        Thread(interp.exec, "import threading; x = threading.get_native_id()").result()
        assert interp.call(eval, "x") != threading.get_native_id()

    def test_in_the_callers_thread(self, interp):
        interp.exec("import threading; x = threading.get_native_id()")
        assert interp.call(eval, "x") == threading.get_native_id()

    def test_features_of_the_caller_stay_there(self, interp):
        """This file has `from __future__ import annotations`; the source that it sends has not."""
        interp.exec("def f(x: 1 + 1): pass")
        assert interp.call(eval, "f.__annotations__['x']") == 2

    def test_background_threads_go_on(self, interp):
        with Pipe() as go, Pipe() as done:
            interp.exec(f"""
                import os, threading
                def work():
                    os.read({go.reader}, 1)
                    os.write({done.writer}, b'!')
                thread = threading.Thread(target=work)
                thread.start()
                """)
            interp.exec("x = 'meanwhile'")
            go.signal()
            done.wait()
            interp.exec("thread.join()")


class TestDedent:
    def test_by_default(self, interp):
        interp.exec("""
            if True:
                x = 1
            y = 2
            """)
        assert interp.call(eval, "(x, y)") == (1, 2)

    def test_without_leading_newline(self, interp):
        interp.exec("    x = 1\n    y = 2")
        assert interp.call(eval, "(x, y)") == (1, 2)

    def test_tabs(self, interp):
        interp.exec("\tif True:\n\t\tx = 1\n\ty = 2\n")
        assert interp.call(eval, "(x, y)") == (1, 2)

    def test_windows_line_ends(self, interp):
        interp.exec("    x = 1\r\n    y = 2\r\n")
        assert interp.call(eval, "(x, y)") == (1, 2)

    def test_blank_lines_do_not_count(self, interp):
        interp.exec("\n  \n    x = 1\n\n \n    y = 2\n  ")
        assert interp.call(eval, "(x, y)") == (1, 2)

    def test_not_for_unindented(self, interp):
        interp.exec("x = '''\n    kept'''\n")
        assert interp.call(eval, "x") == "\n    kept"

    def test_as_textwrap_does(self, interp):
        interp.exec("    x = '''\n      two'''\n")
        assert interp.call(eval, "x") == "\n  two"

    def test_line_numbers(self, interp):
        with pytest.raises(atoll.ExecutionFailed) as caught:
            interp.exec("""
                x = 1
                1 / 0
                """)
        assert "line 3, in <module>" in caught.value.excinfo.errdisplay

    @pytest.mark.parametrize("off", [{"dedent": False}, {"dedent": 0}, {"dedent": None}])
    def test_off(self, interp, off):
        with pytest.raises(IndentationError):
            interp.exec("    x = 1", **off)
        interp.exec("x = 1", **off)

    def test_off_by_position(self, interp):
        with pytest.raises(IndentationError):
            interp.exec("    x = 1", False)

    def test_inconsistent(self, interp):
        with pytest.raises(IndentationError):
            interp.exec("    x = 1\n  y = 2\n")


class TestBadSource:
    @pytest.mark.parametrize(
        "source",
        [
            "def f(:",
            "x = (1,\n",
            "  x = 1\n y = 2",
            "'unterminated",
            "return 1",
            "await x",
            "x = 1 +",
            "nonlocal x",
        ],
    )
    def test_syntax_error_in_the_caller(self, interp, source):
        with pytest.raises(SyntaxError) as caught:
            interp.exec(source, dedent=False)
        with pytest.raises(SyntaxError) as expected:
            compile(source, caught.value.filename, "exec")
        for name in ("msg", "lineno", "offset", "text", "end_lineno", "end_offset"):
            assert getattr(caught.value, name) == getattr(expected.value, name)
        assert type(caught.value) is type(expected.value)

    def test_nothing_ran(self, interp):
        with pytest.raises(SyntaxError):
            interp.exec("x = 1\ny = = 2")
        assert interp.call(eval, "'x' in globals()") is False
        assert interp.is_running() is False

    @pytest.mark.parametrize("source", ["\0", "x = 1\0", "x = '\0'", "x = 1\n\0y = 2"])
    def test_nul(self, interp, source):
        with pytest.raises(SyntaxError, match="null bytes"):
            interp.exec(source)
        interp.exec("pass")

    @pytest.mark.parametrize("encoding", ["latin-1", "cp1251", "no-such-encoding"])
    def test_text_has_no_encoding(self, interp, encoding):
        interp.exec(f"# -*- coding: {encoding} -*-\nx = 'äж'")
        assert interp.call(eval, "x") == "äж"
        interp.exec(f"  # coding: {encoding}\n  x = 'жä'")
        assert interp.call(eval, "x") == "жä"

    @pytest.mark.parametrize("source", ["\udc80", "x = '\ud800'", "# \udfff"])
    def test_surrogates(self, interp, source):
        with pytest.raises((UnicodeEncodeError, SyntaxError)):
            interp.exec(source)
        interp.exec("pass")

    def test_too_deep(self, interp):
        with pytest.raises((SyntaxError, MemoryError, RecursionError)):
            interp.exec("(" * 5_000 + ")" * 5_000)
        interp.exec("pass")

    @pytest.mark.parametrize(
        "bad", [None, 1, 1.0, [], object(), print, Callable, Callable(), Callable().method]
    )
    def test_wrong_type(self, interp, bad):
        with pytest.raises(TypeError):
            interp.exec(bad)

    def test_the_error_names_what_it_got(self, interp):
        with pytest.raises(TypeError, match=r"\[1, 2\]|list"):
            interp.exec([1, 2])

    def test_no_argument(self, interp):
        with pytest.raises(TypeError):
            interp.exec()


class TestBytes:
    """Source as it is in a file, as concurrent.interpreters has it."""

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_runs(self, interp, kind):
        assert interp.exec(kind(b"x = __name__")) is None
        assert interp.call(eval, "x") == "__main__"

    @pytest.mark.parametrize(
        "source",
        [
            "x = 'ä'".encode(),
            "x = 'ä'".encode("utf-8-sig"),
            "# coding: latin-1\nx = 'ä'".encode("latin-1"),
            "#!python\n# -*- coding: cp1252 -*-\nx = 'ä'".encode("cp1252"),
        ],
    )
    def test_encodings(self, interp, source):
        interp.exec(source)
        assert interp.call(eval, "x") == "ä"

    @pytest.mark.parametrize(
        "source", [b"x = '\xe4'", b"# coding: no-such-encoding", b"x = = 1", b"  x = 1", b"x = 1\0", b"\0"]
    )
    def test_syntax_errors_are_those_of_compile(self, interp, source):
        with pytest.raises(SyntaxError) as caught:
            interp.exec(source)
        with pytest.raises(SyntaxError) as expected:
            compile(source, "<script>", "exec")
        assert caught.value.args == expected.value.args

    def test_other_items_are_bytes_too(self, interp):
        interp.exec(array.array("H", b"x = 2+3\n"))
        assert interp.call(eval, "x") == 5

    def test_failure(self, interp):
        with pytest.raises(atoll.ExecutionFailed, match="ValueError: no") as caught:
            interp.exec(b"\nraise ValueError('no')")
        assert 'File "<script>", line 2' in str(caught.value)


class TestFunctions:
    def test_runs_in_main_module(self, interp):
        interp.exec(sets_a_name)
        assert interp.call(eval, "result") == "__main__"

    def test_return_none(self, interp):
        assert interp.exec(returns_none) is None
        assert interp.call(eval, "result") == 1

    def test_lambda(self, interp):
        assert interp.exec(lambda: None) is None

    def test_local_function(self, interp):
        def script():
            global x
            import sys

            x = len(sys.path)

        interp.exec(script)
        assert interp.call(eval, "x") > 0

    def test_uses_its_names(self, interp):
        interp.exec("value = 20")

        def script():
            global value
            value += 22  # noqa: F821

        interp.exec(script)
        assert interp.call(eval, "value") == 42

    def test_closure(self, interp):
        with pytest.raises(ValueError, match="closure"):
            interp.exec(closure())

    @pytest.mark.parametrize(
        "function",
        [
            lambda a: None,
            lambda a=1: None,
            lambda *a: None,
            lambda **a: None,
            lambda *, a: None,
            lambda *, a=1: None,
            lambda a, /: None,
        ],
        ids=["a", "a=1", "*a", "**a", "*, a", "*, a=1", "a, /"],
    )
    def test_arguments(self, interp, function):
        with pytest.raises(ValueError, match="arg"):
            interp.exec(function)

    def test_returns_something(self, interp):
        with pytest.raises(ValueError, match="return"):
            interp.exec(lambda: 1)

    def test_generators_and_coroutines(self, interp):
        def generator():
            yield

        async def coroutine():
            pass

        for function in (generator, coroutine):
            with pytest.raises(ValueError):
                interp.exec(function)

    def test_failure(self, interp):
        with pytest.raises(atoll.ExecutionFailed) as caught:
            interp.exec(raises)
        info = caught.value.excinfo
        assert (info.type.__name__, info.msg) == ("LookupError", "from a function")
        assert 'raise LookupError("from a function")' in info.errdisplay
        assert "test_exec.py" in info.errdisplay


class TestCode:
    def test_module_code(self, interp):
        interp.exec(compile("x = __name__", "somewhere.py", "exec"))
        assert interp.call(eval, "x") == "__main__"

    def test_code_of_a_function(self, interp):
        interp.exec(sets_a_name.__code__)
        assert interp.call(eval, "result") == "__main__"

    def test_file_name_in_the_traceback(self, interp):
        with pytest.raises(atoll.ExecutionFailed) as caught:
            interp.exec(compile("\n\n1 / 0", "somewhere.py", "exec"))
        assert 'File "somewhere.py", line 3' in caught.value.excinfo.errdisplay

    def test_closure(self, interp):
        with pytest.raises(ValueError, match="closure"):
            interp.exec(closure().__code__)

    def test_arguments(self, interp):
        with pytest.raises(ValueError, match="arg"):
            interp.exec((lambda a: None).__code__)

    def test_expression(self, interp):
        with pytest.raises(ValueError, match="return"):
            interp.exec(compile("1 + 1", "somewhere.py", "eval"))

    def test_with_everything_marshal_knows(self, interp):
        interp.exec(
            compile("x = (1, 2.5, 3j, 'é', b'b', None, ..., True, 10**30, frozenset({1}))", "f", "exec")
        )
        assert interp.call(eval, "x") == (1, 2.5, 3j, "é", b"b", None, ..., True, 10**30, frozenset({1}))


class TestRunning:
    """One exec() at a time in an interpreter, and nothing else that changes its __main__ meanwhile."""

    @pytest.mark.parametrize("how", ["exec", "call"])
    def test_exec(self, interp, how):
        with busy(interp, how), pytest.raises(atoll.InterpreterError, match="already running"):
            interp.exec("x = 1")
        assert interp.call(eval, "'x' in globals()") is False
        interp.exec("x = 2")

    @pytest.mark.parametrize("how", ["exec", "call"])
    def test_exec_of_a_function(self, interp, how):
        with busy(interp, how), pytest.raises(atoll.InterpreterError, match="already running"):
            interp.exec(nothing)

    @pytest.mark.parametrize("how", ["exec", "call"])
    def test_prepare_main(self, interp, how):
        with busy(interp, how), pytest.raises(atoll.InterpreterError, match="running"):
            interp.prepare_main(x=1)
        assert interp.call(eval, "'x' in globals()") is False

    def test_itself(self, interp):
        interp.exec("""
            import atoll
            try:
                atoll.get_current().exec("x = 1")
            except atoll.InterpreterError as error:
                message = str(error)
            """)
        assert "running" in interp.call(eval, "message")

    def test_around_a_nested_call(self, interp):
        other = new()
        interp.exec(f"""
            import atoll
            other = atoll.Interpreter({other.id})
            source = '''
                import atoll
                try:
                    atoll.Interpreter({interp.id}).exec("x = 1")
                except atoll.InterpreterError as error:
                    message = str(error)
                '''
            other.exec(source)
            """)
        assert "running" in other.call(eval, "message")


class TestPrepareMain:
    @pytest.mark.parametrize(
        ("args", "kwargs", "expected"),
        [
            (({"a": 1, "b": "two"},), {}, {"a": 1, "b": "two"}),
            ((), {"a": 1, "b": "two"}, {"a": 1, "b": "two"}),
            (({"a": 1},), {"b": 2}, {"a": 1, "b": 2}),
            (({"a": 1},), {"a": 2}, {"a": 2}),
            (((("a", 1), ("b", 2)),), {}, {"a": 1, "b": 2}),
            (([["a", 1]],), {}, {"a": 1}),
            ((None,), {"a": 1}, {"a": 1}),
            ((), {"ns": 1, "self": 2}, {"ns": 1, "self": 2}),
        ],
    )
    def test_binds(self, interp, args, kwargs, expected):
        assert interp.prepare_main(*args, **kwargs) is None
        for name, value in expected.items():
            assert interp.call(eval, name) == value

    @pytest.mark.parametrize(
        "value",
        [None, True, 1, -(2**63), 2**62, 1.5, "text", "", b"bytes", (), (1, ("a", None), b"")],
        ids=repr,
    )
    def test_shareable(self, interp, value):
        interp.prepare_main(x=value)
        assert interp.call(eval, "x") == value
        interp.prepare_main(x=0)
        assert interp.call(eval, "x") == 0

    def test_keeps_the_order(self, interp):
        before = interp.call(dir)
        interp.prepare_main({"zz_b": 1, "zz_a": 2})
        assert interp.call(eval, "list(globals())[-2:]") == ["zz_b", "zz_a"]
        assert interp.call(dir) == [*before, "zz_a", "zz_b"]

    @pytest.mark.parametrize("args", [(), (None,), ({},), ((),)])
    def test_nothing_to_bind(self, interp, args):
        with pytest.raises(ValueError):
            interp.prepare_main(*args)

    @pytest.mark.parametrize("bad", [5, object(), [1], "x"])
    def test_no_mapping(self, interp, bad):
        with pytest.raises((TypeError, ValueError)):
            interp.prepare_main(bad)

    def test_keys_have_to_be_text(self, interp):
        with pytest.raises(TypeError):
            interp.prepare_main({1: 2})
        with pytest.raises(TypeError):
            interp.prepare_main({"good": 1, None: 2})
        assert interp.call(eval, "'good' in globals()") is False

    def test_nul_in_a_name(self, interp):
        with pytest.raises(ValueError):
            interp.prepare_main({"good": 1, "a\0b": 1})
        assert interp.call(eval, "'good' in globals()") is False

    @pytest.mark.parametrize(
        "value", [threading.Lock(), [1], {"a": 1}, {1}, object(), (1, [2]), nothing, Callable], ids=repr
    )
    def test_not_shareable(self, interp, value):
        interp.prepare_main(before=1)
        with pytest.raises(atoll.NotShareableError, match="spoilt"):
            interp.prepare_main(before=2, spoilt=value, after=3)
        assert interp.call(eval, "before") == 1
        assert interp.call(eval, "[name in globals() for name in ('spoilt', 'after')]") == [False, False]

    def test_the_error_names_the_place(self, interp):
        with pytest.raises(atoll.NotShareableError, match=r"model\[1\]\[0\].*lock"):
            interp.prepare_main(model=(1, (threading.Lock(),)))

    def test_in_an_interpreter(self, interp):
        interp.exec("""
            import atoll
            other = atoll.create()
            other.prepare_main(x=1, y='two')
            assert other.call(eval, '(x, y)') == (1, 'two')
            other.close()
            """)

    def test_replaced_values_are_released(self, interp):
        interp.exec("""
            class Noisy:
                def __del__(self):
                    global gone
                    gone = True
            x = Noisy()
            """)
        interp.prepare_main(x=1)
        assert interp.call(eval, "gone") is True
