"""Classes arrive as they are: what their definition ran is not run a second time."""

from __future__ import annotations

from byvalue_helpers import check_script

PRELUDE = """
import sys
sys.modules["cloudpickle"] = None
"""


def check(script: str) -> None:
    """Run a script that asserts the same at home and in an interpreter."""
    check_script(script, PRELUDE)


def test_a_base_that_makes_its_subclass() -> None:
    check("""
    import atoll
    class A:
        def make(self): return B()
    class B(A): pass
    with atoll.create() as i: assert i.call(lambda: type(B().make()).__name__) == "B"
    """)


def test_a_metaclass_that_makes_its_class() -> None:
    check("""
    import atoll
    class M(type):
        def make(cls): return Base()
    class Base(metaclass=M): pass
    with atoll.create() as i: assert i.call(lambda: type(Base.make()).__name__) == "Base"
    """)


def test_a_base_that_keeps_its_subclasses() -> None:
    check("""
    import atoll
    class A:
        registry = []
        def __init_subclass__(cls): A.registry.append(cls)
    class B(A): pass
    with atoll.create() as i: assert i.call(lambda: [c.__name__ for c in B.registry]) == ["B"]
    with atoll.create() as i: assert i.call(lambda: B.registry[0] is B)
    """)


def test_a_base_that_keeps_an_instance_of_its_subclass() -> None:
    check("""
    import atoll
    class A: pass
    class B(A): pass
    A.default = B()
    with atoll.create() as i: assert i.call(lambda: type(B.default) is B)
    """)


def test_a_base_that_looks_its_subclasses_up() -> None:
    check("""
    import atoll
    table = {}
    class A:
        @staticmethod
        def get(k): return table[k]()
    class B(A): pass
    table["b"] = B
    with atoll.create() as i: assert i.call(lambda: type(B.get("b")) is B)
    """)


def test_what_functools_makes() -> None:
    check("""
    import atoll, functools
    class C:
        def set(self, x, y): return x, y
        on = functools.partialmethod(set, True)
        kw = functools.partialmethod(set, y=3)
        @functools.cached_property
        def slow(self): self.n = getattr(self, "n", 0) + 1; return self.n
        @functools.singledispatchmethod
        def show(self, x): return "object"
        @show.register
        def _(self, x: int): return "int"
        @show.register(str)
        def _s(self, x): return "str"
        @functools.singledispatchmethod
        @classmethod
        def cshow(cls, x): return cls.__name__
        @functools.lru_cache
        def cached(self, n): return n + 1
        @staticmethod
        @functools.cache
        def sc(n): return n * 2
        @functools.wraps(set)
        def wrapped(self): return 1
    @functools.total_ordering
    class O:
        def __init__(self, k): self.k = k
        def __eq__(self, o): return self.k == o.k
        def __lt__(self, o): return self.k < o.k
        __hash__ = None
    def f():
        c = C()
        assert c.on(2) == (True, 2) and c.kw(1) == (1, 3)
        assert c.slow == c.slow == 1 and C.slow.attrname == "slow"
        assert (c.show(1), c.show("a"), c.show(1.0)) == ("int", "str", "object"), c.show(1)
        assert c.cshow(1) == "C"
        assert c.cached(1) == 2 and C.cached.cache_info().misses == 1 and C.sc(4) == 8
        assert c.wrapped.__name__ == "set" and C.wrapped.__wrapped__ is C.set
        assert O(2) >= O(1) and O(1) <= O(1)
    f.__call__
    f()
    with atoll.create() as i: i.call(f)
    """)


def test_metaclasses() -> None:
    check("""
    import atoll, collections
    class Meta(type):
        made = []
        kind = "m"
        @classmethod
        def __prepare__(m, name, bases, **kw): return collections.OrderedDict(prep=1)
        def __new__(m, n, b, ns, *, flag=None, **kw):
            c = super().__new__(m, n, b, dict(ns), **kw); c.flag = flag; m.made.append(n); return c
        def __init__(c, n, b, ns, *, flag=None, **kw): super().__init__(n, b, ns); c.order = list(ns)
        def __call__(c, *a): o = super().__call__(*a); o.called = True; return o
        def __getitem__(c, k): return c.__name__ + str(k)
        def __setattr__(c, n, v):
            if n == "locked": raise AttributeError("locked")
            super().__setattr__(n, v)
        @property
        def title(c): return c.__name__.upper()
        def __len__(c): return 5
        def __bool__(c): return False
        def __eq__(c, o): return c is o
        def __hash__(c): return 7
    class A(metaclass=Meta, flag=3):
        def __init__(self, x=0): self.x = x
    class B(A, flag=4): pass
    class Guard(type):
        def __setattr__(c, n, v): raise TypeError("no")
        def __delattr__(c, n): raise TypeError("no")
        def __instancecheck__(c, o): return o == 1
    class G(metaclass=Guard):
        x = 1
        locked = 2
    class Single(type):
        insts = {}
        def __call__(c, *a):
            if c not in c.insts: c.insts[c] = super().__call__(*a)
            return c.insts[c]
    class S1(metaclass=Single): pass
    S1()
    def f():
        assert A(2).x == 2
        assert A().called
        assert A.flag == 3
        assert B.flag == 4
        assert B["k"] == "Bk"
        assert A.title == "A"
        assert len(B) == 5
        assert not A
        assert Meta.made == ["A", "B"], Meta.made
        assert A.order[0] == "prep" and A.prep == 1
        assert type(B) is Meta and Meta.kind == "m"
        assert isinstance(1, G) and G.x == 1
        try: G.x = 3
        except TypeError: pass
        else: assert 0
        assert S1() is S1()
    f()
    with atoll.create() as i: i.call(f)
    """)


def test_slots_and_descriptors() -> None:
    check("""
    import atoll, weakref
    class Field:
        def __set_name__(self, owner, name): self.name = name; self.owner = owner; self.n = getattr(self, "n", 0) + 1
        def __get__(self, o, c): return self if o is None else o.__dict__[self.name]
        def __set__(self, o, v): o.__dict__[self.name] = v
    class Model:
        a = Field(); b = Field()
    class S0:
        __slots__ = ()
    class S1(S0):
        __slots__ = ("a", "__priv")
        def __init__(self): self.a = 1; self.__priv = 2
        def p(self): return self.__priv
    class S2(S1):
        __slots__ = {"c": "doc of c"}
    class S3(S2): pass
    class S4:
        __slots__ = ("x", "__weakref__")
    class S5:
        __slots__ = ("x", "__dict__")
    class S6(S1):
        __slots__ = "single"
    class H0:
        __slots__ = ("q",)
        def __init_subclass__(cls): cls.seen = getattr(cls, "seen", 0) + 1
    class H1(H0):
        __slots__ = ("r",)
    class H2(H1): pass
    class H3:
        __slots__ = ("__dict__",)
        def __init_subclass__(cls, k=0): cls.seen = k
    class H4(H3, k=5): pass
    class H5(int):
        def __init_subclass__(cls, k=0): cls.seen = k
    class H6(H5, k=5): pass
    class H7(Exception):
        def __init_subclass__(cls, k=0): cls.seen = k
    class H8(H7, k=5): pass
    class H9(H8, H3): pass
    def nodict(o): return not hasattr(o, "__dict__")
    def f():
        m = Model(); m.a = 3
        assert m.a == 3 and Model.a.name == "a" and Model.b.owner is Model and Model.a.n == 1
        s = S1(); assert nodict(s) and s.a == 1 and s.p() == 2
        s = S2(); s.c = 3; assert nodict(s) and s.p() == 2 and S2.__slots__ == {"c": "doc of c"}
        S3().zz = 1
        weakref.ref(S4())
        try: weakref.ref(S1())
        except TypeError: pass
        else: assert 0
        x = S5(); x.q = 1; x.x = 2
        assert x.__dict__ == {"q": 1} and S6.__slots__ == "single"
        h = H1(); assert nodict(h) and H1.seen == 1 and H2.seen == 2, (H1.seen, H2.seen)
        h.q = 1; h.r = 2
        H2().zz = 1
        assert H4.seen == 5 and H6(3) + 1 == 4 and H6.seen == 5 and H8("x").args == ("x",) and H8.seen == 5
        h = H4(); h.x = 1
        assert H9.__mro__[1:3] == (H8, H7)
    f()
    with atoll.create() as i:
        i.call(f)
        s = S1(); s.a = 9; assert i.call(lambda s: (s.a, s.p()), s) == (9, 2)
        s = S5(); s.x = 1; s.y = 2; assert i.call(lambda s: (s.x, s.y), s) == (1, 2)
    """)


def test_local_classes() -> None:
    check("""
    import atoll
    def make(k):
        class Base:
            def v(self): return k
            @classmethod
            def c(cls): return cls.__name__
        class Derived(Base):
            class Inner:
                z: "Derived"
                def up(self): return Derived
            def v(self): return super().v() + 1
            def me(self): return __class__
            def other(self) -> "Base": return Base()
        return Derived
    D = make(4)
    def f():
        d = D()
        assert d.v() == 5 and d.me() is D and D.c() == "Derived" and D.Inner().up() is D
        assert D.__qualname__ == "make.<locals>.Derived"
        assert type(d.other()) is D.__mro__[1]
    f()
    with atoll.create() as i: i.call(f); assert i.call(lambda d: d.v(), D()) == 5
    """)


def test_abstract_classes() -> None:
    check("""
    import abc, atoll, collections.abc
    class A(abc.ABC):
        @property
        @abc.abstractmethod
        def x(self) -> int: ...
        @classmethod
        def __subclasshook__(cls, c): return True if any("quack" in vars(b) for b in c.__mro__) else NotImplemented
    class B(A): pass
    class C(B):
        x = 3
    class D:
        def quack(self): pass
    class E: pass
    A.register(E)
    class Seq(collections.abc.Sequence):
        def __getitem__(self, i): return [1, 2][i]
        def __len__(self): return 2
    class M2(abc.ABCMeta):
        def __setattr__(c, n, v):
            if not n.startswith("_abc") and n != "__abstractmethods__": raise TypeError("no")
            super().__setattr__(n, v)
    class Z(metaclass=M2):
        y = 1
    @collections.abc.Mapping.register
    class NotMap: pass
    def f():
        for c in (A, B):
            try: c()
            except TypeError as e: assert "abstract" in str(e)
            else: assert 0
        assert C().x == 3
        assert isinstance(D(), A)
        assert isinstance(E(), A)
        assert not isinstance(3, A)
        assert issubclass(E, A)
        assert not issubclass(E, C)
        assert A.__abstractmethods__ == {"x"} and C.__abstractmethods__ == frozenset()
        assert list(Seq()) == [1, 2] and 2 in Seq() and isinstance(Seq(), collections.abc.Iterable)
        match Seq():
            case [1, 2]: pass
            case _: assert 0
        assert Z.y == 1
        class F: pass
        A.register(F); assert isinstance(F(), A)
    f()
    with atoll.create() as i: i.call(f)
    """)


def test_exceptions() -> None:
    check("""
    import atoll
    class Bad(Exception):
        def __init__(self, code, *, why): super().__init__(f"{code} {why}"); self.code, self.why = code, why
    class Grp(ExceptionGroup):
        def derive(self, e): return Grp(self.message, e)
    class Sl(Exception):
        __slots__ = ("q",)
        def __init__(self, a, b): self.q = a + b
    class Os(OSError):
        def __init__(self, path, n): super().__init__(n, "msg", path); self.extra = path
    def f():
        e = Bad(3, why="x"); e.add_note("note")
        try: raise KeyError("inner")
        except KeyError as k: raise Grp("all", [e, Sl(1, 2), Os("/p", 5)]) from k
    with atoll.InterpreterPoolExecutor(1) as pool:
        try: pool.submit(f).result()
        except Grp as g:
            a, b, c = g.exceptions
            assert (type(a), a.code, a.why, str(a), a.__notes__) == (Bad, 3, "x", "3 x", ["note"])
            assert type(b) is Sl
            assert b.q == 3
            assert type(c) is Os
            assert c.filename == "/p"
            assert c.errno == 5
            assert c.extra == "/p"
            assert type(g.__cause__) is KeyError or "KeyError" in str(g.__cause__), g.__cause__
        else: assert 0
    """)


def test_other_classes() -> None:
    check("""
    import atoll, contextlib, re, types, logging, asyncio
    class R:
        def __class_getitem__(cls, k): return (cls, k)
        def __init_subclass__(cls, /, **kw): super().__init_subclass__(); cls.kw = kw
        def __eq__(self, o): return True
        @staticmethod
        def s(): return R
        @property
        def p(self): return 1
        @p.setter
        def p(self, v): self.v = v
        async def co(self): return 3
        def gen(self): yield 1; yield 2
        @contextlib.contextmanager
        def cm(self): yield 5
        pat = re.compile("a+")
        ns = types.SimpleNamespace(a=1)
        log = logging.getLogger("x.y")
    class R2(R, a=1, b=2): pass
    class N:
        __name__ = "odd"
        __mro__ = 3
        __module__ = "elsewhere"
    Dyn = type("Dyn", (R,), {"x": 1})
    Dyn2 = types.new_class("Dyn2", (R,), {"z": 3}, lambda ns: ns.update(y=2))
    def f():
        assert R["a"] == (R, "a")
        assert R2.kw == {"a": 1, "b": 2}
        assert R2.s() is R
        assert R().p == 1
        assert R.__hash__ is None
        r = R(); r.p = 3; assert r.v == 3
        assert asyncio.run(R().co()) == 3 and list(R().gen()) == [1, 2]
        with R().cm() as x: assert x == 5
        assert R.pat.match("aa") and R.ns.a == 1 and R.log.name == "x.y"
        assert N.__name__ == "N"
        assert N().__name__ == "odd"
        assert N().__mro__ == 3
        assert N.__module__ == "elsewhere"
        assert Dyn.x == 1 and Dyn2.y == 2 and Dyn2.kw == {"z": 3}
        class Late(R, c=1): pass
        assert Late.kw == {"c": 1}
    f()
    with atoll.create() as i: i.call(f)
    """)


def test_annotations_that_name_what_the_class_has() -> None:
    check("""
    import atoll
    class C:
        Kind = int
        class Part:
            def g(self) -> "C": ...
        def f(self, x: Kind, y: Part) -> Kind: return x
        z: Kind
        w: Part
    def f():
        assert C.f.__annotations__ == {"x": int, "y": C.Part, "return": int}, C.f.__annotations__
        assert C.__annotations__ == {"z": int, "w": C.Part}
    f()
    with atoll.create() as i: i.call(f); assert i.call(C().f, 3, 4) == 3 and i.call(C.f, None, 4, 5) == 4
    """)
