"""Classes over whose making code of a package, or of C, ran: their statement is run once more in each interpreter."""

from __future__ import annotations

import textwrap
from pathlib import Path

from cli_helpers import python

# A package as frameworks are: a metaclass and a base that note each class, and what they see of it.
FRAMEWORK = """
classes = {}
seen = []
def note(cls, how):
    seen.append((how, cls.__qualname__, cls.__module__, hasattr(cls, "run")))
    classes.setdefault(cls.__name__, []).append(cls)
class Meta(type):
    def __new__(meta, name, bases, namespace, *, kind=None):
        cls = super().__new__(meta, name, bases, dict(namespace))
        cls.kind = kind
        cls.fields = [n for n, v in namespace.items() if isinstance(v, int) and n[0] != '_']
        return cls
    def __init__(cls, name, bases, namespace, *, kind=None):
        super().__init__(name, bases, namespace)
        note(cls, "meta")
    def __setattr__(cls, name, value):
        assert not name.startswith("set_"), name
        super().__setattr__(name, value)
class Model(metaclass=Meta):
    pass
class Plugin:
    def __init_subclass__(cls, /, **given):
        cls.given = given
        note(cls, "plugin")
def checked(value):
    def decorate(function):
        function.value = value
        return function
    return decorate
"""

PRELUDE = """
import sys
sys.modules["cloudpickle"] = None
import atoll, framework
from framework import Meta, Model, Plugin, checked
def note(): return [one[1:] for one in framework.seen if one[1] not in ("Model",)]
"""


def check(tmp_path: Path, script: str, prelude: str = PRELUDE) -> None:
    """Run a script in a file beside the package."""
    (tmp_path / "framework").mkdir()
    (tmp_path / "framework" / "__init__.py").write_text(FRAMEWORK)
    file = tmp_path / "program.py"
    file.write_text(prelude + textwrap.dedent(script))
    ended = python("-X", "dev", file, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_class_of_a_package_is_made_by_its_statement_once_in_each_interpreter(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        LIMIT = 4
        def double(x): return 2 * x
        class A(Model, kind="big"):
            "What it is."
            size = LIMIT + 1
            @checked(double(3))
            def run(self): return double(self.size), A.__name__
        class B(A):
            def run(self): return super().run(), A().size, B.kind
        def f():
            assert B().run() == ((10, "A"), 5, None), B().run()
            assert A.kind == "big" and A.fields == ["size"] and A.run.value == 6 and A.__doc__ == "What it is."
            assert type(A) is Meta and B.__mro__[1] is A and A.run.__qualname__ == "A.run"
            assert [c.__name__ for c in framework.classes["A"]] == ["A"] and framework.classes["A"][0] is A
            return note()
        assert f() == [("A", "__main__", True), ("B", "__main__", True)]
        for _ in range(2):
            with atoll.create() as i:
                assert [i.call(f) for _ in range(3)] == [f()] * 3
                assert i.call(lambda a: (a.x, type(a) is A), setattr(a := A(), "x", 3) or a) == (3, True)
        """,
    )


def test_a_base_of_a_package_sees_the_class_whole_and_its_keywords(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        class A(Plugin, name="a", limit=3):
            def run(self): return 1
        def make(k, base):
            class Local(base):
                "doc"
                y = 2
                def run(self): return k + Local.y, __class__ is Local
            return Local
        L = make(5, A)
        class Outer:
            class Inner(Plugin):
                def run(self): return self.__class__.__qualname__
        def f():
            assert A.given == {"name": "a", "limit": 3} and A().run() == 1
            assert L().run() == (7, True) and L.run.__qualname__ == "make.<locals>.Local.run" and L.__doc__ == "doc"
            assert Outer.Inner().run() == "Outer.Inner" and Outer.Inner.run.__qualname__ == "Outer.Inner.run"
            return sorted(note())
        with atoll.create() as i: assert i.call(f) == f() and len(f()) == 3, (i.call(f), f())
        """,
    )


def test_classes_that_name_each_other_and_what_was_set_later(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        import json
        class A(Model):
            def other(self) -> "B": return B()
            def text(self): return json.dumps(table)
        class B(A):
            rate = 1
            def other(self): return A()
        table = {"n": 1}
        B.rate = 5
        B.config = ("x", 2.5)
        def f(): return type(A().other()) is B, type(B().other()) is A, B.rate, B.config, B().text()
        with atoll.create() as i: assert i.call(f) == (True, True, 5, ("x", 2.5), '{"n": 1}') == f()
        with atoll.create() as i: assert i.call(lambda b: type(b.other().other()) is B, B())
        """,
    )


def test_a_class_of_a_cell_and_its_lines(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        import linecache, traceback
        cell = "from __future__ import annotations\\n\\nclass Cell(Model):\\n    x: Unknown = 3\\n    def run(self):\\n"
        cell += "        raise KeyError(self.x)\\nclass Empty(Plugin): pass\\n"
        linecache.cache["<cell 7>"] = (len(cell), None, cell.splitlines(True), "<cell 7>")
        exec(compile(cell, "<cell 7>", "exec", dont_inherit=True))
        def f():
            try: Cell().run()
            except KeyError as error: at = traceback.extract_tb(error.__traceback__)[-1]
            return at.filename, at.lineno, Cell.fields, len(framework.classes["Cell"]), Empty.given
        with atoll.create() as i: assert i.call(f) == f() == ("<cell 7>", 6, ["x"], 1, {}), i.call(f)
        """,
    )


def test_what_has_no_statement_is_copied(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        Made = Meta("Made", (Model,), {"x": 1, "run": lambda self: 2})
        exec(compile("class Gone(Plugin):\\n    def run(self): return 3\\n", "nowhere", "exec"))
        def local():
            k = 3
            class Bound(Plugin):
                x = k
            return Bound
        Bound = local()
        def f(): return Made().run(), Made.fields, Gone().run(), Bound.x, Bound.given, note()
        with atoll.create() as i: assert i.call(f) == (2, ["x"], 3, 3, {}, []), i.call(f)
        """,
    )


CTYPES = """
import sys
sys.modules["cloudpickle"] = None
import atoll, ctypes
"""


def test_ctypes(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        class S(ctypes.Structure):
            _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_double * 2)]
            def both(self): return self.a, list(self.b)
        class U(ctypes.Union): _fields_ = [("i", ctypes.c_int), ("s", S)]
        class Node(ctypes.Structure): pass
        Node._fields_ = [("v", ctypes.c_int), ("next", ctypes.POINTER(Node))]
        class Sub(S): _fields_ = [("c", ctypes.c_char)]
        class MyInt(ctypes.c_int):
            def plus(self): return self.value + 1
        Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
        Triple = S * 3
        def f():
            assert S(7, (1, 2)).both() == (7, [1.0, 2.0]) and ctypes.sizeof(U) == ctypes.sizeof(S) == 24
            node = Node(1, ctypes.pointer(Node(2)))
            assert node.next.contents.v == 2 and type(node.next) is ctypes.POINTER(Node)
            assert Callback(lambda x: x + 1)(3) == 4 and Callback is ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
            assert len(Triple()) == 3 and Triple._type_ is S and Sub(1).a == 1 and MyInt(3).plus() == 4
        registry = {}
        def registered(cls):
            registry[cls.__name__] = cls
            cls.note = "seen"
            return cls
        @registered
        class R(ctypes.Structure): _fields_ = [("r", ctypes.c_int)]
        def g(): return registry["R"] is R, R(3).r, R.note
        f()
        with atoll.create() as i: assert i.call(g) == (True, 3, "seen")
        with atoll.create() as i:
            i.call(f)
            assert i.call(lambda s: s.both(), S(9, (1, 2))) == (9, [1.0, 2.0])
        exec("class Lost(ctypes.Structure): _fields_ = []")
        with atoll.create() as i:
            try: i.call(lambda: Lost)
            except atoll.NotShareableError as error: assert "Lost" in str(error) and "module" in str(error), error
            else: raise SystemExit("how was it made?")
        """,
        CTYPES,
    )


def test_decorators_with_registries_and_redefined_classes(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        registry = {}
        def registered(cls):
            registry[cls.__name__] = cls
            return cls
        @registered
        class A(Model):
            x = 1
            def run(self): return self.x
        def f(): return registry["A"] is A, A().run()
        with atoll.create() as i:
            assert i.call(f) == (True, 1)
            @registered
            class A(Model):
                x = 2
                def run(self): return -self.x
            assert i.call(f) == (True, -2)
        """,
    )


def test_two_threads_that_make_the_same_class_at_once_have_one(tmp_path):
    """Who makes a class that leads to it does not wait for the other, and has made it first."""
    (tmp_path / "hooking.py").write_text(
        textwrap.dedent("""
            import threading
            began, other = threading.Event(), threading.Event()
            class Base:
                def __init_subclass__(cls, **given):
                    if began.is_set(): other.set()
                    else: began.set(); other.wait(30)
        """)
    )
    check(
        tmp_path,
        """
        import threading, hooking
        hooking.began.set()
        class Model(hooking.Base):
            def other(self): return User
        class User:
            def other(self): return Model
        class Third:  # nothing that Model needs
            def other(self): return Model
        def first(given):
            import sys
            sys.first = type(given)
        def second(given):
            import sys
            sys.second = given.other()
        def begun(): return hooking.began.wait(30)
        def kept():
            import sys
            one = sys.first
            return one is sys.second, one.__name__, one().other()().other() is one
        with atoll.create() as interp:
            thread = threading.Thread(target=interp.call, args=(first, Model()))
            thread.start()
            assert interp.call(begun)
            interp.call(second, Third())
            thread.join()
            assert interp.call(kept) == (True, "Model", True), interp.call(kept)
            assert interp.call(lambda model, user: type(model) is user.other(), Model(), User())
        """,
    )


def test_what_hooks_find_in_main_is_nothing_to_other_threads(tmp_path):
    """Names that are shown while a statement runs go again, but not from functions that others receive meanwhile."""
    (tmp_path / "hooking.py").write_text(
        textwrap.dedent("""
            import sys, threading
            began, go = [{name: threading.Event() for name in ("One", "Two")} for _ in range(2)]
            found = []
            class Base:
                def __init_subclass__(cls):
                    began[cls.__name__].set()
                    go[cls.__name__].wait(60)
                    found.append(sys.modules["__main__"].helper(1))
        """)
    )
    check(
        tmp_path,
        """
        import threading, hooking
        for event in hooking.go.values():
            event.set()
        def helper(n): return n + 1
        class One(hooking.Base):
            def use(self): return helper(1)
        class Two(hooking.Base):
            def use(self): return helper(2)
        def use(given): return helper(given.use())
        def plain(n): return helper(n)
        def begun(name): return hooking.began[name].wait(60)
        def go(name): hooking.go[name].set()
        def found(): return hooking.found
        with atoll.create() as interp:
            results = {}
            def run(given): results[type(given).__name__] = interp.call(use, given)
            threads = []
            for given in One(), Two():
                name = type(given).__name__
                threads.append((name, threading.Thread(target=run, args=[given])))
                threads[-1][1].start()
                assert interp.call(begun, name)
                assert interp.call(plain, 5) == 6
            for name, thread in threads:
                interp.call(go, name)
                thread.join()
                assert interp.call(plain, 5) == 6
            assert results == {"One": 3, "Two": 4}, results
            assert interp.call(found) == [2, 2]
            interp.exec("assert 'helper' not in globals()")
        """,
    )
