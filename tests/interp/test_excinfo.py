"""ExecutionFailed and what it tells about the exception on the other side."""

from __future__ import annotations

import re
import types

import pytest

import atoll
from helpers import VERSION, fail, nothing


def info_of(interp, source):
    """Run the source, which fails; return the excinfo."""
    with pytest.raises(atoll.ExecutionFailed) as caught:
        interp.exec(source)
    return caught.value.excinfo


class TestFields:
    def test_builtin(self, interp):
        info = info_of(interp, "raise ValueError('what')")
        assert info.type.__name__ == "ValueError"
        assert info.type.__qualname__ == "ValueError"
        assert info.type.__module__ == "builtins"
        assert info.msg == "what"
        assert info.formatted == "ValueError: what"
        assert info.errdisplay.startswith("Traceback (most recent call last):\n")
        assert info.errdisplay.rstrip().endswith("ValueError: what")

    def test_own_class(self, interp):
        info = info_of(
            interp,
            """
            def f():
                class Own(Exception):
                    pass
                raise Own('mine')
            f()
            """,
        )
        assert info.type.__name__ == "Own"
        assert info.type.__qualname__ == "f.<locals>.Own"
        assert info.type.__module__ == "__main__"
        assert info.msg == "mine"

    def test_no_message(self, interp):
        info = info_of(interp, "raise KeyError")
        assert info.type.__name__ == "KeyError"
        assert not info.msg
        assert info.formatted.rstrip(": ") == "KeyError"

    def test_message_is_str_of_the_exception(self, interp):
        assert info_of(interp, "{}['missing']").msg == "'missing'"
        assert (
            info_of(interp, "raise OSError(2, 'No such file', 'name')").msg
            == "[Errno 2] No such file: 'name'"
        )

    def test_base_exceptions(self, interp):
        for name in ("SystemExit", "KeyboardInterrupt", "GeneratorExit"):
            info = info_of(interp, f"raise {name}('out')")
            assert (info.type.__name__, info.msg) == (name, "out")

    def test_of_call(self, interp):
        with pytest.raises(atoll.ExecutionFailed) as caught:
            interp.call(fail, LookupError, "gone", 2)
        info = caught.value.excinfo
        assert info.type.__name__ == "LookupError"
        assert info.msg == "('gone', 2)"
        assert "raise kind(*args)" in info.errdisplay
        assert "helpers.py" in info.errdisplay

    def test_str(self, interp):
        with pytest.raises(atoll.ExecutionFailed) as caught:
            interp.exec("raise ValueError('what')")
        text = str(caught.value)
        assert text.startswith("ValueError: what\n\nUncaught in the interpreter:\n\nTraceback")
        assert text.endswith("ValueError: what")

    def test_wrong_call(self, interp):
        with pytest.raises(atoll.ExecutionFailed) as caught:
            interp.call(nothing, 1)
        assert caught.value.excinfo.type.__name__ == "TypeError"
        assert "nothing()" in caught.value.excinfo.msg

    def test_usable_afterwards(self, interp):
        info_of(interp, "x = 1; raise ValueError")
        assert interp.call(eval, "x") == 1
        interp.exec("import sys; assert sys.exception() is None")

    def test_nothing_is_kept_inside(self, interp):
        """The exception, its traceback and the variables of its frames are released with exec()'s end."""
        info_of(
            interp,
            """
            import weakref
            class Thing:
                pass
            def f():
                thing = Thing()
                global reference
                reference = weakref.ref(thing)
                raise ValueError(thing)
            f()
            """,
        )
        assert interp.call(eval, "reference() is None") is True

    def test_from_the_public_constructor(self):
        """CPython's own code makes one from any object with these attributes."""
        import types

        info = types.SimpleNamespace(
            type=types.SimpleNamespace(__name__="T", __qualname__="T", __module__="m"),
            msg="text",
            formatted="T: text",
            errdisplay="Traceback...",
        )
        error = atoll.ExecutionFailed(info)
        assert error.excinfo is info
        assert str(error) == "T: text\n\nUncaught in the interpreter:\n\nTraceback..."


class TestDisplay:
    @pytest.mark.parametrize("indent", ["", "    ", "\t"])
    @pytest.mark.parametrize("end", ["", "\n"])
    def test_lines_of_an_indented_script(self, interp, indent, end):
        lines = ["", "def inner(n):", "    return 1 // n", "", "inner(0)"]
        display = info_of(interp, "\n".join(line and indent + line for line in lines) + end).errdisplay
        assert '"<script>", line 5, in <module>\n    inner(0)\n' in display
        assert '"<script>", line 3, in inner\n    return 1 // n\n' in display
        if VERSION >= (3, 13):
            assert "    return 1 // n\n           ~~^^~~\n" in display

    def test_source_lines(self, interp, tmp_path):
        (tmp_path / "shown.py").write_text(
            "def outer():\n    inner()\n\ndef inner():\n    raise ValueError('shown')\n"
        )
        info = info_of(
            interp, f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport shown; shown.outer()"
        )
        lines = info.errdisplay.splitlines()
        assert "    inner()" in lines
        assert "    raise ValueError('shown')" in lines
        assert any(re.search(r'shown\.py", line 2, in outer', line) for line in lines)

    def test_as_the_traceback_module_prints(self, interp, tmp_path):
        """The same exception, formatted by the traceback module in the same interpreter."""
        (tmp_path / "twice.py").write_text(
            "import traceback\n"
            "def fail():\n"
            "    try:\n"
            "        {}['key']\n"
            "    except KeyError as error:\n"
            "        error.add_note('first note')\n"
            "        raise ExceptionGroup('several', [error, OSError(5, 'five')]) from TypeError('cause')\n"
            "def run():\n"
            "    fail()\n"
            "def formatted():\n"
            "    try:\n"
            "        run()\n"
            "    except ExceptionGroup as error:\n"
            "        error.__traceback__ = error.__traceback__.tb_next\n"
            "        return ''.join(traceback.format_exception(error))\n"
        )
        interp.exec(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport twice")
        expected = interp.call(eval, "twice.formatted()")
        info = info_of(interp, "twice.run()")

        def without_script(text):
            """Leave out the frame of the source given to exec(), which may or may not show its line."""
            return re.sub(
                r'(?m)^[ |+]*File "<.*>", line 1, in <module>\n(?:[ |]+twice\.run\(\)\n(?:[ |~^]+\n)?)?',
                "",
                text,
            )

        assert without_script(info.errdisplay).rstrip() == expected.rstrip()

    def test_cause(self, interp):
        text = info_of(
            interp,
            """
            try:
                1 / 0
            except ZeroDivisionError as error:
                raise RuntimeError('outer') from error
            """,
        ).errdisplay
        assert (
            text.index("ZeroDivisionError") < text.index("direct cause") < text.index("RuntimeError: outer")
        )

    def test_context(self, interp):
        text = info_of(
            interp,
            """
            try:
                1 / 0
            except ZeroDivisionError:
                undefined
            """,
        ).errdisplay
        assert text.index("ZeroDivisionError") < text.index("During handling") < text.index("NameError")

    def test_suppressed_context(self, interp):
        text = info_of(
            interp,
            """
            try:
                1 / 0
            except ZeroDivisionError:
                raise ValueError('alone') from None
            """,
        ).errdisplay
        assert "ZeroDivisionError" not in text

    def test_notes(self, interp):
        text = info_of(
            interp,
            """
            error = ValueError('noted')
            error.add_note('the first')
            error.add_note('the second')
            raise error
            """,
        ).errdisplay
        assert text.rstrip().endswith("ValueError: noted\nthe first\nthe second")

    def test_group(self, interp):
        text = info_of(
            interp,
            """
            raise ExceptionGroup('outer', [ValueError('one'), ExceptionGroup('inner', [TypeError('two')])])
            """,
        ).errdisplay
        for part in (
            "ExceptionGroup: outer (2 sub-exceptions)",
            "ValueError: one",
            "(1 sub-exception)",
            "TypeError: two",
        ):
            assert part in text

    def test_syntax_error_of_an_import(self, interp, tmp_path):
        (tmp_path / "broken.py").write_text("def f(:\n    pass\n")
        info = info_of(interp, f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport broken")
        assert info.type.__name__ == "SyntaxError"
        assert "broken.py" in info.errdisplay
        assert "def f(:" in info.errdisplay

    def test_cyclic_chain(self, interp):
        info = info_of(
            interp,
            """
            one, two = ValueError('one'), ValueError('two')
            one.__cause__, two.__cause__ = two, one
            raise one
            """,
        )
        assert info.msg == "one"

    def test_long_chain(self, interp):
        info = info_of(
            interp,
            """
            error = None
            for number in range(5_000):
                following = ValueError(number)
                following.__cause__ = error
                error = following
            raise error
            """,
        )
        assert (info.type.__name__, info.msg) == ("ValueError", "4999")

    def test_recursion(self, interp):
        info = info_of(interp, "def f(): f()\nf()")
        assert info.type.__name__ == "RecursionError"
        assert len(info.errdisplay) < 100_000


class TestUnhelpfulExceptions:
    def test_str_raises(self, interp):
        info = info_of(
            interp,
            """
            class Bad(Exception):
                def __str__(self):
                    raise RuntimeError('not telling')
            raise Bad
            """,
        )
        assert info.type.__name__ == "Bad"
        assert "Bad" in info.errdisplay
        assert "Bad" in info.formatted

    @pytest.mark.parametrize("what", ["SystemExit(3)", "KeyboardInterrupt", "GeneratorExit", "BaseException"])
    def test_str_raises_what_is_no_exception(self, interp, what):
        """As the traceback module takes it: the report loses nothing but the message."""
        info = info_of(
            interp,
            f"""
            class Bad(Exception):
                def __str__(self):
                    raise {what}
            def fail():
                raise Bad
            fail()
            """,
        )
        assert info.type.__name__ == "Bad"
        assert info.msg == "<exception str() failed>"
        assert "in fail\n" in info.errdisplay

    def test_str_recurses(self, interp):
        info = info_of(
            interp,
            """
            class Bad(Exception):
                def __str__(self):
                    return str(self)
            raise Bad
            """,
        )
        assert info.type.__name__ == "Bad"

    def test_str_returns_no_text(self, interp):
        info = info_of(
            interp,
            """
            class Bad(Exception):
                def __str__(self):
                    return 5
            raise Bad
            """,
        )
        assert info.type.__name__ == "Bad"

    @pytest.mark.parametrize("text", ["\\udc80", "nul\\0inside", "\\U0001f40d", "two\\nlines", ""])
    def test_odd_messages(self, interp, text):
        info = info_of(interp, f"raise ValueError('{text}')")
        assert info.type.__name__ == "ValueError"
        assert (info.msg or "") == text.encode().decode("unicode_escape")

    def test_long_message(self, interp):
        assert info_of(interp, "raise ValueError('x' * 1_000_000)").msg == "x" * 1_000_000

    @pytest.mark.parametrize("attribute", ["__qualname__", "__module__"])
    def test_odd_class_attributes(self, interp, attribute):
        info = info_of(
            interp, f"Odd = type('Odd', (Exception,), {{}})\nOdd.{attribute} = 'a\\udc80b'\nraise Odd('x')"
        )
        assert info.msg == "x"

    def test_module_is_no_text(self, interp):
        info = info_of(interp, "Odd = type('Odd', (Exception,), {'__module__': 5})\nraise Odd('x')")
        assert info.type.__name__ == "Odd"

    def test_hostile_attributes(self, interp):
        info = info_of(
            interp,
            """
            class Bad(Exception):
                def __getattribute__(self, name):
                    raise RuntimeError(name)
            raise Bad('x')
            """,
        )
        assert info.type.__name__ == "Bad"

    def test_broken_traceback_module(self, interp):
        info = info_of(interp, "import sys; sys.modules['traceback'] = None\nraise ValueError('still told')")
        assert (info.type.__name__, info.msg) == ("ValueError", "still told")

    def test_broken_builtins(self, interp):
        info = info_of(
            interp, "import builtins; builtins.str = None; builtins.len = None\nraise ValueError('told')"
        )
        assert (info.type.__name__, info.msg) == ("ValueError", "told")

    def test_long_chain(self, interp):
        """As long as one that code makes which fails, waits and tries again."""
        info = info_of(
            interp,
            """
            error = None
            for number in range(3000):
                another = ValueError(number)
                another.__context__ = error
                error = another
            raise error
            """,
        )
        assert info.formatted == "ValueError: 2999"
        assert info.errdisplay.endswith("\n    raise error\nValueError: 2999")
        assert "ValueError: 2990\n\nDuring handling" in info.errdisplay

    def test_arguments_that_have_no_text(self):
        class Silent:
            def __str__(self):
                raise LookupError("no text")

        failed = atoll.ExecutionFailed(types.SimpleNamespace(formatted="A: b"))
        failed.args = (Silent(),)
        with pytest.raises(LookupError, match="no text"):
            str(failed)
