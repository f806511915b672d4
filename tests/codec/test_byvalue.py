"""Functions and classes of __main__, which cross by value: each test is a script of its own."""

from __future__ import annotations

import sys

import pytest

from byvalue_helpers import check_script

SCRIPTS = {
    "a metaclass that forbids changes": """
        class Meta(type):
            def __setattr__(cls, name, value): raise AttributeError("frozen")
        class Frozen(metaclass=Meta):
            number = 1
            def get(self): return self.number
        assert call(Frozen().get) == 1
        assert back(Frozen) is Frozen
        """,
    "a package that came later": """
        import importlib, tempfile
        with tempfile.TemporaryDirectory() as folder:
            sys.path.append(folder)
            before = None
            for name in ("byvalue_first", "byvalue_second"):
                os.mkdir(os.path.join(folder, name))
                for file, text in ("__init__", "WHO = __name__"), ("part", "def get(): from . import WHO; return WHO"):
                    with open(os.path.join(folder, name, file + ".py"), "w") as opened: opened.write(text)
                before = before or os.stat(folder)
                os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))  # what importlib goes by
                importlib.invalidate_caches()
                part = importlib.import_module(name + ".part")
                assert call(part.get) == name
                assert call(lambda: name in sys.modules), "not imported as its package's"
        """,
    "variables that only the interpreter's __main__ has": """
        K = 1
        def read(): return total
        def add(n):
            global total
            total += n * K
            return total
        for bind in (lambda: interp.exec("total = 5"), lambda: interp.prepare_main(total=5)):
            with atoll.create() as interp:
                bind()
                assert [interp.call(read), interp.call(add, 2), interp.call(add, 3)] == [5, 7, 10]
                assert interp.call(read) == 10
        with atoll.create() as interp:
            interp.exec("K, len = 7, None")
            assert interp.call(lambda: (K, len("ab"))) == (7, 2)  # its own stays; builtins are builtins
            K = 2
            assert interp.call(lambda: K) == 2  # until it changes here
            interp.prepare_main(K=9)
            assert interp.call(lambda: K) == 9
            K = 1
            assert interp.call(lambda: K) == 1
        assert "total" not in globals()
    """,
    "recursion": """
        def fact(n): return 1 if n < 2 else n * fact(n - 1)
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        def make():
            def inner(k): return 0 if k == 0 else 1 + inner(k - 1)
            return inner
        assert call(fact, 5) == 120
        assert call(even, 10) and not call(even, 7)
        assert call(make(), 6) == 6
    """,
    "a function that comes back is itself": """
        K = 1
        def f(): return K
        square = lambda x: x * x
        assert back(f) is f and back(square) is square
        assert back([f, f, square])[0] is f
    """,
    "the same function sent twice is one": """
        def keep(f):
            import builtins
            seen = builtins.__dict__.setdefault("seen", [])
            seen.append(f)
            return all(g is f for g in seen)
        K = 1
        def f(): return K
        def g(): return f
        assert call(keep, f) and call(keep, f) and call(keep, f)
        assert call(lambda h: h(), g) is f
    """,
    "state stays between calls": """
        count = 0
        def inc(by=1):
            global count
            count += by
        def get(): return count
        call(inc); call(inc, 3)
        assert call(get) == 4 and count == 0
        other = atoll.create()
        assert other.call(get) == 0
        other.close()
    """,
    "what is defined anew wins": """
        def helper(): return 1
        def f(): return helper()
        class C:
            def m(self): return 1
        def g(): return C().m()
        assert call(f) == 1 and call(g) == 1
        def helper(): return 2
        class C:
            def m(self): return 2
        assert call(f) == 2 and call(g) == 2
        assert call(lambda c: c.m(), C()) == 2
        def with_default(x=1): return x
        def uses(): return with_default()
        assert call(uses) == 1
        def with_default(x=2): return x
        assert call(uses) == 2
    """,
    "names that appear later": """
        def f(): return later
        try:
            call(f)
        except atoll.ExecutionFailed as exc:
            assert exc.excinfo.type.__name__ == "NameError"
        else:
            raise AssertionError
        later = 5
        assert call(f) == 5
    """,
    "one code object, many functions": """
        fs = []
        for i in range(20):
            namespace = {"__name__": "__main__", "n": i}
            exec(compile("def f(): return n", "<f>", "exec"), namespace)
            fs.append(namespace["f"])
        assert [call(f) for f in fs] == list(range(20))  # each has a namespace of its own, here and there
        def make(default):
            def f(x=default): return x
            return f
        assert [call(make(i)) for i in range(50)] == list(range(50))
        def closures(n):
            def f(): return n
            return f
        assert [call(closures(i)) for i in range(50)] == list(range(50))
        f = make(1)
        assert call(f) == 1
        f.__defaults__ = (2,)
        assert call(f) == 2
        f.__code__ = (lambda x: x * 10).__code__
        assert call(f, 3) == 30
    """,
    "what a function has": """
        K = 2
        def f(a: int, b: "str" = "x", *, c=3) -> list:
            "doc"
            return [a, b, c, K]
        f.extra = [1]
        def look(f):
            return (f.__name__, f.__qualname__, f.__module__, f.__doc__, f.__defaults__, f.__kwdefaults__,
                    f.extra, f.__annotations__, f(1))
        assert call(look, f) == look(f)
    """,
    "closures, decorators, generators": """
        K = 10
        def deco(fn):
            @functools.wraps(fn)
            def wrapper(*args): return fn(*args) + 1
            return wrapper
        @deco
        def decorated(x): return x + K
        @functools.lru_cache
        def cached(n): return n + K
        @contextlib.contextmanager
        def manager(): yield K
        def use():
            with manager() as value: return value
        def gen(n):
            for i in range(n): yield i + K
        assert call(decorated, 1) == 12 and call(cached, 1) == 11 and call(use) == 10
        assert call(lambda g: list(g(2)), gen) == [10, 11]
        empty = (lambda: never_set)
        def cells():
            def inner(): return unset
            if False: unset = 1
            return inner
        try:
            call(cells())
        except atoll.ExecutionFailed as exc:
            assert exc.excinfo.type.__name__ == "NameError"
    """,
    "a global that cannot cross": """
        LOCK = threading.Lock()
        def f(): return LOCK
        try:
            call(f)
        except NotShareableError as exc:
            assert str(exc).startswith("callable.__globals__['LOCK']: _thread.lock is not shareable: "), exc
        else:
            raise AssertionError
    """,
    "classes": """
        class A:
            "doc"
            def __init__(self, v): self.v = v
            def me(self): return __class__
            @staticmethod
            def static(): return "s"
            @classmethod
            def klass(cls): return cls
            @property
            def p(self): return self.v
            def other(self): return A(1)
        class B(A):
            __slots__ = ("q", "__r")
            def __init__(self, v):
                super().__init__(v)
                self.q, self.__r = 1, 2
            def r(self): return self.__r
        def look(b):
            return (b.v, b.q, b.r(), b.p, b.static(), b.klass() is type(b), type(b).__mro__[1].__doc__,
                    b.me() is type(b).__mro__[1], type(b.other()) is b.me(), type(b).__qualname__)
        b = B(7)
        assert call(look, b) == look(b)
        returned = back(b)
        assert type(returned) is B and returned.v == 7 and back(B) is B
        assert call(lambda x, y: type(x) is type(y), b, B(1))
    """,
    "dataclasses": """
        @dataclasses.dataclass
        class D:
            x: int
            y: list = dataclasses.field(default_factory=list)
            z: "D | None" = None
        @dataclasses.dataclass(frozen=True, slots=True, order=True)
        class F:
            a: int = 1
            c: typing.ClassVar[int] = 3
        def look(d):
            cls = type(d)
            return (repr(cls(3)), cls(3) == cls(3), dataclasses.asdict(cls(3)), cls(3).y is not cls(3).y,
                    dataclasses.replace(cls(3), x=4).x, [f.name for f in dataclasses.fields(cls)])
        d = D(1)
        d.z = d
        assert call(look, d) == look(d)
        assert back(d).z.x == 1 and type(back(d)) is D
        assert back(F(2)) == F(2) and call(lambda f: (hash(f), f > type(f)(1)), F(2)) == (hash(F(2)), True)
    """,
    "enums": """
        class E(enum.Enum):
            R = 1
            G = (1, 2)
            ALIAS = 1
            def nice(self): return self.name.lower()
        class Flag(enum.Flag):
            X = 1
            Y = 2
        class Planet(enum.Enum):
            EARTH = (1, 2)
            def __init__(self, mass, radius): self.mass = mass
        assert back(E.R) is E.R and back([E.G])[0] is E.G and back(Flag.X | Flag.Y) is Flag.X | Flag.Y
        facts = call(lambda e: (e.nice(), type(e)(1) is e, type(e).ALIAS is e, len(type(e))), E.R)
        assert facts == ("r", True, True, 2)
        assert call(lambda p: p.mass, Planet.EARTH) == 1
    """,
    "namedtuples": """
        P = collections.namedtuple("P", "a b", defaults=[5])
        class N(typing.NamedTuple):
            a: int
            b: str = "q"
            def more(self): return self.a + 1
        assert back(P(1)) == (1, 5) and type(back(P(1))) is P
        assert call(lambda p: (p.a, p._replace(b=2).b, type(p)(3)), P(1))[:2] == (1, 2)
        assert call(lambda n: (n.more(), n.b, n._asdict()), N(1)) == (2, "q", {"a": 1, "b": "q"})
    """,
    "abstract, generic, metaclass": """
        T = typing.TypeVar("T")
        class Base(abc.ABC):
            @abc.abstractmethod
            def f(self): ...
        class Impl(Base):
            def f(self): return 1
        class G(typing.Generic[T]):
            def g(self): return 5
        class Meta(type):
            def hi(cls): return cls.__name__
        class M(metaclass=Meta): pass
        def abstract(cls):
            try:
                cls()
            except TypeError:
                return True
        assert call(lambda x: x.f(), Impl()) == 1 and call(abstract, Base)
        assert call(lambda x: x.g(), G[int]()) == 5 and call(Meta.hi, M) == "M"
    """,
    "a class that changed is not sent from memory": """
        K = 1
        class Other:
            w = 1
        class A:
            attr = 1
            shared = []
            def g(self): return K
            def o(self): return Other.w
        def look(a): return a.attr, a.g(), a.o(), a.shared
        assert call(look, A()) == (1, 1, 1, [])
        def fresh():
            other = atoll.create()
            try:
                return other.call(look, A())
            finally:
                other.close()
        assert fresh() == (1, 1, 1, [])
        A.attr = 2
        assert fresh() == (2, 1, 1, [])
        K = 2
        assert fresh() == (2, 2, 1, [])
        Other.w = 2
        assert fresh() == (2, 2, 2, [])
        A.shared.append(1)
        assert fresh() == (2, 2, 2, [1])
        assert call(look, A()) == (2, 2, 2, [1])
        del A.attr
        assert call(lambda a: hasattr(a, "attr"), A()) is False
    """,
    "classes that name each other": """
        class A:
            def b(self): return B()
        class B:
            def a(self): return A()
        assert call(lambda a: type(a.b().a()) is type(a), A())
        other = atoll.create()
        assert other.call(lambda b: type(b.a().b()) is type(b), B())
        other.close()
    """,
    "where it runs": """
        def main_name():
            import __main__
            return __main__.__name__, "main_name" in vars(__main__)
        def own_name(): return __name__
        assert call(own_name) == "__main__" and call(main_name) == ("__main__", False)
        def set_it(name, value): globals()[name] = value
        call(set_it, "spam", 42)
        interp.exec("assert spam == 42")
        interp.prepare_main(ham=1)
        assert call(lambda: ham) == 1
    """,
    "to main and between others": """
        K = 3
        def f(): return K
        def there(f): return atoll.get_main().call(f)
        def through(number, f): return atoll.Interpreter(number).call(f)
        other = atoll.create()
        assert call(there, f) == 3 and call(through, other.id, f) == 3
        K = 4
        assert call(there, f) == 4
        other.close()
    """,
    "many functions": """
        for i in range(3000):
            assert call(eval(f"lambda: {i}")) == i
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name):
    check_script(SCRIPTS[name])


def test_script_in_a_file(tmp_path):
    """A script's __file__ is its functions', and the script itself runs once."""
    import subprocess

    path = tmp_path / "script.py"
    path.write_text(
        "import atoll\n"
        "print('ran')\n"
        "def f(): return __file__, __name__\n"
        "interp = atoll.create()\n"
        "print(interp.call(f) == (__file__, '__main__'))\n"
        "interp.close()\n"
    )
    env = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": ""}
    out = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env=env, timeout=60)
    assert out.stdout == "ran\nTrue\n", out.stderr


def test_module_from_its_file(tmp_path, interp):
    """A module that the other interpreter cannot find by name is loaded from where it came from."""
    (tmp_path / "atoll_test_alone.py").write_text("K = 5\ndef f(): return K\nclass C:\n    x = 1\n")
    package = tmp_path / "atoll_test_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("from . import sibling\ndef f(): return sibling.K\n")
    (package / "sibling.py").write_text("K = 6\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import atoll_test_alone
        from atoll_test_package import inner

        assert interp.call(atoll_test_alone.f) == 5
        assert interp.call(getattr, atoll_test_alone.C(), "x") == 1
        assert interp.call(inner.f) == 6
        assert interp.call(eval, f"{str(tmp_path)!r} in __import__('sys').path") is False
    finally:
        sys.path.remove(str(tmp_path))
