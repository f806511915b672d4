"""What is made inside the functions of modules crosses by value; what a script knows of itself is known there, too."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

MODULE = """
import contextlib, dataclasses, enum, functools, math, typing
import atoll
SCALE = 3
made = lambda x: x * SCALE

def counted(f):
    n = 0
    @functools.wraps(f)
    def wrapper(*args):
        nonlocal n
        n += 1
        return n, f(*args)
    return wrapper

def jobs():
    offset = 1
    def local(x): return x * SCALE + offset
    def recursive(x): return 1 if x < 2 else x * recursive(x - 1)
    def defaults(x, *, k=SCALE): return x + k
    @contextlib.contextmanager
    def manager(x): yield x + SCALE
    def managed(x):
        with manager(x) as y:
            return y
    class Local:
        factor: int = 2
        def area(self, r): return math.floor(r * self.factor * SCALE)
        @property
        def p(self): return self.factor
        @staticmethod
        def s(x): return x + SCALE
        @classmethod
        def c(cls, x): return cls().area(x)
        class Nested:
            def m(self, x): return x - SCALE
    class Child(Local):
        def area(self, r): return super().area(r) + 1
    @dataclasses.dataclass
    class Data:
        a: int = 5
        def add(self, x): return self.a + x
    class Color(enum.Enum):
        RED = 1
        def plus(self, x): return self.value + x
    class Point(typing.NamedTuple):
        x: int
        def plus(self, y): return self.x + y
    return {
        "lambda": lambda x: x + 1,
        "lambda with a module": lambda x: math.sqrt(x),
        "lambda of the module": made,
        "closure": local,
        "recursion": recursive,
        "keyword default": defaults,
        "partial": functools.partial(lambda a, b: math.hypot(a, b), 3),
        "manager": managed,
        "method": Local().area,
        "static method": Local.s,
        "class method": Local.c,
        "super": Child().area,
        "nested class": Local.Nested().m,
        "dataclass": Data(7).add,
        "enum member": Color.RED.plus,
        "namedtuple": Point(6).plus,
        "type()": type("Made", (), {"m": lambda self, x: x + SCALE})().m,
        "decorated": counted(math.sqrt),
    }

def check(call):
    for name, job in jobs().items():
        here = job(4)
        there = call(job, 4)
        assert here == there or name == "decorated" and there == (2, 2.0), (name, here, there)
"""

RUNS = {
    "call": "with atoll.create() as interp: module.check(interp.call)",
    "call twice": "with atoll.create() as interp: module.check(interp.call); module.check(interp.call)",
    "pool": """
        with atoll.InterpreterPoolExecutor(2) as pool:
            module.check(lambda f, x: pool.submit(f, x).result())
            assert list(pool.map(lambda x: x * module.SCALE, range(50))) == [3 * x for x in range(50)]
    """,
    "queue": """
        queue = atoll.create_queue()
        for name, job in module.jobs().items():
            queue.put(job)
            assert queue.get()(4) == job(4) or name == "decorated", name
    """,
    "identity": """
        job = module.jobs()["lambda with a module"]
        with atoll.create() as interp:
            assert interp.call(lambda f: f, job) is job
            made = interp.call(module.jobs)["lambda with a module"]
            assert made(4) == 2 and made.__globals__ is vars(module)
            assert interp.call(lambda x, y: x is y, made, made)
    """,
    "globals are the module's own": """
        with atoll.create() as interp:
            interp.call(lambda: setattr(module, "SCALE", 10))
            assert interp.call(module.jobs()["closure"], 4) == 41 and module.SCALE == 3
    """,
    "globals of no module": """
        for unnamed in {"__name__": "nowhere"}, {}:
            exec("y = 1\\nf = lambda x: x + y", unnamed)
            with atoll.create() as interp:
                assert interp.call(unnamed["f"], 1) == 2
    """,
}


def run(tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", *args],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", RUNS)
def test_made_in_a_module(name, tmp_path):
    (tmp_path / "module.py").write_text(MODULE)
    (tmp_path / "script.py").write_text("import sys\nimport atoll, module\n" + textwrap.dedent(RUNS[name]))
    ended = run(tmp_path, "script.py")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_module_of_a_package_that_is_run(tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("WHO = 'package'\n")
    (package / "util.py").write_text("def g(): return __name__\n")
    (package / "app.py").write_text(
        textwrap.dedent(
            """
            import atoll
            from . import util
            def f():
                from . import WHO, util as u
                from .util import g
                return WHO, u.g(), g(), __package__, util.g()
            if __name__ == "__main__":
                with atoll.create() as interp:
                    print(interp.call(f))
                    print(interp.call(lambda: f()))
                with atoll.InterpreterPoolExecutor(1) as pool:
                    print(pool.submit(f).result())
            """
        )
    )
    ended = run(tmp_path, "-m", "pkg.app")
    assert ended.stdout.splitlines() == ["('package', 'pkg.util', 'pkg.util', 'pkg', 'pkg.util')"] * 3
    assert (ended.returncode, ended.stderr) == (0, "")


PRELUDE = """
{future}
import collections, copy, dataclasses, enum, inspect, pickle, sys, typing
import atoll
T = typing.TypeVar("T")
@dataclasses.dataclass
class Node:
    value: int
    next: "Node | None" = None
@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    value: "Node | None" = None
class Plain:
    a: int
    b: "str" = "x"
class Child(Plain):
    c: float
class Bare: pass
class Generic(typing.Generic[T]):
    item: "T"
class Color(enum.Enum):
    RED = 1
class Point(typing.NamedTuple):
    x: int
    y: "float" = 1.5
Pair = collections.namedtuple("Pair", "a b")
class Error(Exception): pass
class Outer:
    class Inner:
        z: int
    def method(self, k: int) -> "Node": ...
CLASSES = Node, Frozen, Plain, Child, Bare, Generic, Color, Point, Pair, Error, Outer, Outer.Inner
def annotations(): return [sorted(inspect.get_annotations(c)) for c in CLASSES]
def hints():
    return [sorted((k, str(v)) for k, v in typing.get_type_hints(c).items()) for c in CLASSES if c is not Generic]
def method_hints(): return sorted((k, str(v)) for k, v in inspect.get_annotations(Outer.method).items())
def pickled():
    things = [Node(1, Node(2)), Frozen(Node(3)), Plain(), Bare(), Color.RED, Point(1), Pair(1, 2), Error(1)]
    things.append(Outer.Inner())
    again = pickle.loads(pickle.dumps(things))
    classes = pickle.loads(pickle.dumps(CLASSES))
    return [type(x) is type(y) for x, y in zip(things, again)], classes == CLASSES, copy.deepcopy(things[0]).next.value
def fields(): return [str(f.type) for f in dataclasses.fields(Node)]
def signatures(): return [str(inspect.signature(c)) for c in (Node, Frozen, Point, Pair)]
ALL = annotations, hints, method_hints, pickled, fields, signatures
"""

KNOWN = {
    "each of them": """
        with atoll.create() as interp:
            for f in ALL:
                assert interp.call(f) == f(), (f.__name__, interp.call(f), f())
    """,
    "instances alone": """
        def pickled_instance(x): return pickle.loads(pickle.dumps(x)) == x
        with atoll.InterpreterPoolExecutor(1) as pool:
            assert list(pool.map(pickled_instance, [Node(1), Frozen(), Color.RED, Point(2), Pair(1, 2)])) == [True] * 5
            assert pool.submit(lambda data: pickle.loads(data).value, pickle.dumps(Node(9))).exception() is None
    """,
    "what a class is called now": """
        old = Node(1)
        def pickled_instance(x): return type(pickle.loads(pickle.dumps(x))) is type(x)
        with atoll.create() as interp:
            assert interp.call(pickled_instance, old)
            @dataclasses.dataclass
            class Node:
                value: int
                more: int = 2
            assert interp.call(pickled_instance, Node(1))  # the newer one has the name now
            interp.exec("class Bare: mine = True")
            interp.call(lambda x: None, Bare())
            interp.exec("assert Bare.mine")  # what its own code has bound stays
    """,
    "only what has the name here": """
        def make():
            class Local: pass
            return Local
        names = interp_names = lambda: sorted(vars(sys.modules["__main__"]))
        with atoll.create() as interp:
            before = interp.call(names)
            data = dataclasses.make_dataclass("D", [("a", int)])
            interp.call(lambda *x: None, make()(), type("Made", (), {})(), data(1))
            assert interp.call(names) == before
            interp.exec("class Theirs: pass")
            theirs = interp.call(eval, "Theirs()")
            assert type(theirs).__name__ == "Theirs" and not hasattr(sys.modules["__main__"], "Theirs")
    """,
}


@pytest.mark.parametrize("future", [False, True])
@pytest.mark.parametrize("name", KNOWN)
def test_what_a_script_knows_of_its_classes(name, future, tmp_path):
    prelude = PRELUDE.replace("{future}", "from __future__ import annotations" if future else "")
    (tmp_path / "script.py").write_text(prelude + textwrap.dedent(KNOWN[name]))
    ended = run(tmp_path, "script.py")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
