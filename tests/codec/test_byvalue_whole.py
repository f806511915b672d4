"""A class is had whole or not at all, and definitions are those of now: each test is a script of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from helpers import run_python

# What fails where it arrives for the first time.
FLAKY = """
        class Flaky:
            def __reduce__(self): return make, ()
        def make():
            import sys
            if not hasattr(sys, "tried"):
                sys.tried = True
                raise OSError("not yet")
            return 42
"""

CLASSES = {
    "code is given lists and dicts that have what is in them": """
        import functools
        class Made:
            "By code, of a dict or the like that others have, too."
            def __init__(self, given):
                self.given = given
                self.seen = sorted(map(str, given))
            def __reduce__(self): return Made, (self.given,)
        class Stated(Made):
            def __init__(self, given): self.given = given
            def __reduce__(self): return object.__new__, (Stated,), {"given": self.given}
            def __setstate__(self, state):
                self.__dict__.update(state)
                self.seen = sorted(map(str, self.given))
        class Odd:
            def __reduce__(self): return Odd, ()
            def __str__(self): return "odd"
        def use(cls):
            given, value = cls.given, cls.value
            return value.seen, value.given is given, cls.last.given is given, cls.last.seen
        for make in (lambda *some: {key: key for key in some}, lambda *some: [*some], lambda *some: {*some}):
            for kind in Made, Stated:
                class C:
                    given = make("text", Odd(), functools.partial(print))
                    value = kind(given)
                    def method(self): return C
                class D:
                    def method(self): return registry
                D.given = registry = make(D, Odd())
                D.value = kind(registry)
                for cls in C, D:
                    cls.value.seen = sorted(map(str, cls.given))
                    cls.last = Made([1])
                    cls.last.given = cls.given
                    with atoll.create() as other:
                        got = other.call(use, cls)
                        expected = use(cls)
                        assert [len(got[0]), *got[1:3]] == [len(expected[0]), *expected[1:3]], (got, expected)
                        assert ["odd" in got[0], len(got[3])] == [True, len(expected[0])], got
    """,
    "what is given to code has that itself": """
        class Made:
            def __init__(self, given): self.given = given
            def __reduce__(self): return Made, (self.given,)
        class C:
            def method(self): return C
        C.given = {"text": 1}
        C.value = C.given["value"] = Made(C.given)
        def use(): return C.value.given is C.given, C.given["value"] is C.value, len(C.given)
        assert interp.call(use) == (True, True, 2)
    """,
    "a class that failed is made again": FLAKY
    + """
        class C:
            value = Flaky()
            def get(self): return self.value
        def use(c): return c.get()
        for attempt in range(3):
            try:
                assert interp.call(use, C()) == 42 and attempt
            except OSError:
                assert not attempt
            except atoll.ExecutionFailed as exc:
                assert "not yet" in str(exc) and not attempt
        interp.exec("assert C().get() == 42")  # what did not come to be has not taken the name either
    """,
    "one that came as a whole in an instance of a class that failed is made again, too": FLAKY
    + """
        class Held:
            def __init__(self, what): self.what = what
            def __reduce__(self): return hold, (self.what,)
        def hold(what):
            import sys
            sys.held = [*getattr(sys, "held", ()), what]  # the receiver's own code has it from then on
            return Held(what)
        class C:
            pass
        def derive():
            class D(C): pass
            class E(Exception):
                of = C
            return [D(), E, {"x": D}]
        C.parts = Held(derive())
        C.value = Flaky()
        def use(c):
            derived, error, table = type(c).parts.what
            return isinstance(derived, C), error.of is C, issubclass(table["x"], C), type(derived) is table["x"]
        for attempt in range(3):
            try:
                assert all(interp.call(use, C())), attempt
                assert attempt
            except (OSError, atoll.ExecutionFailed) as exc:
                assert "not yet" in str(exc) and not attempt, attempt
        assert type(interp.call(lambda c: c.parts.what[0], C())) is type(C.parts.what[0])
    """,
    "a thread that gets a class which another one is reading waits": """
        import os, threading
        from helpers import Pipe
        class Slow:
            def __reduce__(self): return make, ()
        def make():
            os.write(entered, b"!")
            os.read(go_on, 1)
            return 42
        class C:
            value = Slow()
            def get(self): return self.value
        def use(c): return c.get()
        with Pipe() as began, Pipe() as done:
            entered, go_on = began.writer, done.reader
            results = []
            def run(): results.append(interp.call(use, C()))
            threads = [threading.Thread(target=run) for _ in range(3)]
            threads[0].start()
            os.read(began.reader, 1)
            for thread in threads[1:]:
                thread.start()
            interp.call(sum, (1, 2))  # comes to its turn while the class is there in part
            os.write(done.writer, b"!")
            for thread in threads:
                thread.join()
        assert results == [42] * 3
    """,
    "who waits for a class that fails makes it": """
        import os, threading
        from helpers import Pipe
        class Slow:
            def __reduce__(self): return make, ()
        def make():
            import sys
            os.write(entered, b"!")
            os.read(go_on, 1)
            if not hasattr(sys, "tried"):
                sys.tried = True
                raise OSError("not yet")
            return 42
        class C:
            value = Slow()
            def get(self): return self.value
        def use(c): return c.get()
        with Pipe() as began, Pipe() as done:
            entered, go_on = began.writer, done.reader
            results = []
            def run():
                try: results.append(interp.call(use, C()))
                except Exception as exc: results.append("not yet" in str(exc))
            threads = [threading.Thread(target=run) for _ in range(2)]
            for thread in threads:
                thread.start()
            os.read(began.reader, 1)
            os.write(done.writer, b"!")
            os.read(began.reader, 1)
            os.write(done.writer, b"!")
            for thread in threads:
                thread.join()
        assert sorted(results) == [True, 42]
    """,
    "what is registered with copyreg comes first": """
        import collections, copyreg, enum, pickle
        class P(collections.namedtuple("P", "x")): __slots__ = ()
        class E(enum.Enum): A = 1
        class Meta(type): pass
        class C(metaclass=Meta): pass
        objects = [P(1), E.A, C]
        def reduce(obj): return str, ("reduced",)
        for known in (False, True):
            assert all(interp.call(identity, x) is x or interp.call(identity, x) == x for x in objects)
            for obj in objects:
                copyreg.pickle(type(obj), reduce)
            assert pickle.loads(pickle.dumps(objects)) == ["reduced"] * 3
            assert interp.call(identity, objects) == ["reduced"] * 3, known
            for obj in objects:
                del copyreg.dispatch_table[type(obj)]
    """,
    "a class that changes while it is looked at": """
        import types
        class Slots:
            def __iter__(self):
                C.__reduce__ = lambda self: (str, ("reduced",))
                return iter(())
        module = sys.modules["has_slots"] = types.ModuleType("has_slots")
        C = module.C = type("C", (), {"__module__": "has_slots"})
        C.__slots__ = Slots()
        queue = atoll.create_queue()
        queue.put(C())
        assert type(queue.get()) is C
        queue.put(C())
        assert queue.get() == "reduced"
    """,
    "names and documentation": """
        def f(): return f.__name__, f.__doc__
        def g(h): return h.__name__, h.__doc__
        def h(): "old"
        keep = atoll.create_queue()
        def hold(x): globals().setdefault("held", []).append(x)
        interp.call(hold, h)
        assert interp.call(f) == ("f", None) and interp.call(g, h) == ("h", "old")
        f.__name__, f.__doc__ = h.__name__, h.__doc__ = "other", "new"
        assert interp.call(f) == interp.call(g, h) == ("other", "new")
    """,
    "a function that is defined anew takes the place of the old": """
        import functools
        def make(n):
            def f(): return n
            return f
        def mark(n):
            def decorate(fn):
                @functools.wraps(fn)
                def run(*args): return n, fn(*args)
                return run
            return decorate
        def use(): return g()
        def use_tag(): return g.tag
        names = globals()
        g = make(1)
        assert interp.call(use) == 1
        g = make(2)
        assert interp.call(use) == 2
        for source in ("def g(x={}): return x", "def g(*, x={}): return x", "@mark({})\\ndef g(): return 5"):
            for n in (1, 2, 1):
                exec(source.format(n), names)
                assert interp.call(use) == g()
        for n in (1, 2):
            exec(f"def g(): return 1\\ng.tag = {n}", names)
            assert interp.call(use_tag) == n
        g = make(1)
        g.__closure__[0].cell_contents = 0
        assert interp.call(use) == 0
        def make_other(n):
            def f(): return n + 10
            return f
        g.__code__ = make_other(0).__code__
        assert interp.call(use) == 10
    """,
    "one that is not keeps what has become of it": """
        def counter():
            n = 0
            def count():
                nonlocal n
                n += 1
                return n
            return count
        count = counter()
        def fill(x=[]):
            x.append(1)
            return len(x)
        def use(): return count(), fill()
        assert [interp.call(use) for _ in range(3)] == [(1, 1), (2, 2), (3, 3)]
        assert (count(), fill()) == (1, 1)  # that was another's
        with atoll.create() as other:  # by way of another interpreter, too
            other.exec(f"import sys; sys.path.insert(0, {str(sys.path[-2])!r})")
            assert other.call(interp.call, use) == (2, 2)  # and has changed here since
    """,
    "a module's file may be a str of a subclass": """
        import types
        class Path(str): pass
        module = types.ModuleType("has_path")
        module.__file__ = Path("/nowhere/has_path.py")
        exec("class C: pass", vars(module))
        sys.modules["has_path"] = module
        module.C.__module__ = "has_path"
        queue = atoll.create_queue()
        queue.put(module.C)
        assert queue.get() is module.C
    """,
    "a message cannot make what C code made of tuple": """
        import types
        from collections import namedtuple
        from atoll import _atoll
        module = sys.modules["mm"] = types.ModuleType("mm")
        module.P = namedtuple("P", "x", module="mm")
        data = _atoll._encode(module.P(1))
        bad = data.replace(b"\\x02mm", b"\\x04time").replace(b"\\x01P", b"\\x0bstruct_time")
        assert bad != data and _atoll._decode(data) == module.P(1)
        try: _atoll._decode(bad)
        except ValueError as exc: assert "malformed" in str(exc)
        else: raise AssertionError
    """,
}

PRELUDE = """
import sys
import atoll
from helpers import identity
interp = atoll.create()
interp.exec(f"import sys; sys.path.insert(0, {str(sys.path[-1])!r})")
"""


@pytest.mark.parametrize("name", CLASSES)
def test_whole_or_not_at_all(name):
    ended = run_python(PRELUDE + textwrap.dedent(CLASSES[name]) + "\ninterp.close()\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


# The initializer's variable has no value at home, or has one there; it uses another global, or does not.
DECLARED = """
import functools
import json

import atoll
from atoll.futures import InterpreterPoolExecutor

{home}
def init():
    global conn
    conn = {value}

def logged(fn):
    @functools.wraps(fn)
    def run(*args):
        return fn(*args)
    return run

@logged
def set_other():
    global other
    other = json.loads("2")

class Service:
    def answer(self): return conn["a"], third
    @classmethod
    def start(cls):
        global third
        third = json.loads("3")

def use(): return conn["a"]
def use_more(): return conn["a"], json.__name__
def use_other(): return other
def use_method(): return Service().answer()
def through(): return use() + use_more()[0]
def change():
    conn["a"] += 1
    return conn["a"]

def main():
    with InterpreterPoolExecutor(1, initializer=init) as pool:
        pool.submit(set_other).result()
        pool.submit(Service.start).result()
        calls = (use, use_more, use_other, use_method, Service().answer, through, change, use, lambda: conn["a"])
        assert [pool.submit(f).result() for f in calls] == [
            1, (1, "json"), 2, (1, 3), (1, 3), 2, 2, 2, 2], calls
    with atoll.create() as interp:
        interp.prepare_main(elsewhere=5)
        assert interp.call(lambda: elsewhere) == 5  # nobody declares it
        interp.call(init)
        assert interp.call(use) == 1
    {check}
    print("right")

if __name__ == "__main__":
    main()
"""
UNBOUND = 'assert not {"conn", "other", "third"} & set(globals())'


@pytest.mark.parametrize("way", ["file", "-c", "stdin", "-m", "module"])
@pytest.mark.parametrize("value", ["json.loads('{\"a\": 1}')", '{"a": 1}'], ids=["imported", "alone"])
@pytest.mark.parametrize("home", ["", "conn = None"], ids=["unbound", "None"])
def test_variables_that_functions_declare(way, value, home, tmp_path: Path):
    source = DECLARED.replace("{home}", home).replace("{value}", value)
    source = source.replace("{check}", UNBOUND if not home else "assert conn is None")
    (tmp_path / "program.py").write_text(source)
    arguments = {
        "file": ["program.py"],
        "-c": ["-c", source],
        "stdin": ["-"],
        "-m": ["-m", "program"],
        "module": ["-c", "import program; program.main()"],
    }[way]
    ended = subprocess.run(
        [sys.executable, *arguments],
        input=source if way == "stdin" else None,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "right\n", "")
