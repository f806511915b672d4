"""Classes that are made in rarer ways arrive as they are, too."""

from __future__ import annotations

from test_byvalue_classes import check

from byvalue_helpers import check_script


def test_what_was_registered_with_abstract_classes_of_modules() -> None:
    check("""
    import atoll, collections.abc, numbers
    class S:
        def __len__(self): return 1
        def __getitem__(self, i): return [7][i]
    collections.abc.Sequence.register(S)
    @numbers.Number.register
    class N: pass
    def f():
        assert isinstance(S(), collections.abc.Sequence) and isinstance(N(), numbers.Number)
        match S():
            case [x]: return x
    f()
    with atoll.create() as i: assert i.call(f) == 7
    """)


def test_enums_made_and_changed_in_other_ways() -> None:
    check("""
    import atoll, enum, sys
    A = enum.Enum("A", "x y", module=__name__)
    Fl = enum.Flag("Fl", ["p", "q"])
    @enum.unique
    class U(enum.Enum):
        _ignore_ = ["i"]
        a = 1; b = 2
    @enum.verify(enum.CONTINUOUS)
    class V(enum.IntEnum):
        a = 1; b = 2
    class Base(enum.Enum):
        def hi(self): return self.name + self.extra()
        def extra(self): return ""
    class Sub(Base):
        one = 1
        def extra(self): return "!"
    class Op(enum.Enum):
        add = enum.member(lambda a, b: a + b)
        def __call__(self, *a): return self.value(*a)
    class MM(enum.EnumType):
        def __getitem__(cls, k): return super().__getitem__(k.upper())
        def __call__(cls, v, *a, **k): return super().__call__(v, *a, **k)
    class W(enum.Enum, metaclass=MM):
        AA = 1
    class Outer:
        class In(enum.Enum):
            z = 3
    def local():
        class L(enum.Enum):
            k = 4
            def get(self): return L.k
        return L
    L = local()
    class Str(enum.StrEnum):
        @staticmethod
        def _generate_next_value_(name, start, count, last): return name * 2
        ab = enum.auto()
    class O(enum.Enum):
        _order_ = "b a"
        b = 1; a = 2
    class P(enum.Flag):
        A = 1; B = 2; C = A | B
        @classmethod
        def _missing_(cls, v):
            return super()._missing_(v)
    class R(enum.Enum):
        X = 1
        def __eq__(self, o): return self is o
        def __hash__(self): return 5
        def __reduce__(self): return R, (1,)
    D = {U.a: 1, R.X: 2}
    class Holder:
        table = {U.a: "a"}; default = P.A | P.B
    if sys.version_info >= (3, 13):
        class Al(enum.Enum):
            A = 1
            B = 2
        Al.A._add_alias_("AA"); Al.B._add_value_alias_(22)
    def f():
        assert A.x.value == 1 and A["y"] is A.y and (Fl.p | Fl.q).value == 3 and Fl["p"] is Fl.p
        assert U(1) is U.a and V.b + 1 == 3
        assert Sub.one.hi() == "one!" and Op.add(1, 2) == 3 and W["aa"] is W.AA and W(1) is W.AA
        assert Outer.In.z.value == 3 and L.k.get() is L.k and Str.ab == "abab" and list(O) == [O.b, O.a]
        assert P(3) is P.C and P(3) == P.A | P.B and ~P.A is P.B and list(P.C) == [P.A, P.B]
        assert D[U.a] == 1 and D[R.X] == 2 and Holder.table[U.a] == "a" and Holder.default is P.C
        if sys.version_info >= (3, 13): assert Al["AA"] is Al.A and Al(22) is Al.B and Al.AA is Al.A
    f()
    with atoll.create() as i: i.call(f)
    """)


def test_metaclasses_that_say_the_order_of_bases() -> None:
    check("""
    import atoll
    class M(type):
        def mro(cls):
            r = super().mro()
            return r
        def __prepare__(name, bases, **k):
            class D(dict):
                def __missing__(self, k):
                    if k.startswith("auto_"): return k
                    raise KeyError(k)
            return D()
        def __subclasscheck__(cls, s): raise RuntimeError("no")
        def __instancecheck__(cls, o): return True
        def __getattr__(cls, n):
            if n == "magic": return 5
            raise AttributeError(n)
    class Mix:
        def mixed(self): return 1
    class M2(type):
        def mro(cls):
            r = super().mro()
            return [r[0], Mix, *r[1:]] if Mix not in r else r
    class A(metaclass=M):
        z = auto_thing
    class B(metaclass=M2):
        pass
    def f():
        assert A.z == "auto_thing" and A.magic == 5 and isinstance(3, A)
        assert B().mixed() == 1 and Mix in B.__mro__, B.__mro__
    f()
    with atoll.create() as i: i.call(f)
    """)


def test_subclasses_of_what_the_standard_library_has() -> None:
    check("""
    import atoll, collections, threading, logging, json, ast, string, types, asyncio, contextlib
    import io, datetime, random, decimal, fractions, pathlib, typing, argparse, unittest, queue
    class LI(list[int]):
        def s(self): return sum(self)
    class UD(collections.UserDict): pass
    class DD(collections.defaultdict): pass
    class OD(collections.OrderedDict): pass
    class Th(threading.Thread):
        def run(self): self.r = 1
    class Ha(logging.Handler):
        def emit(self, r): pass
    class En(json.JSONEncoder):
        def default(self, o): return "x"
    class NV(ast.NodeVisitor):
        n = 0
        def visit_Name(self, n): self.n += 1
    class Te(string.Template): delimiter = "%"
    class Te2(Te): idpattern = "[a-z]+"
    class SN(types.SimpleNamespace):
        def k(self): return self.a
    class Pr(asyncio.Protocol): pass
    class CD(contextlib.ContextDecorator):
        def __enter__(self): return self
        def __exit__(self, *a): return False
    class SI(io.StringIO): pass
    class DT(datetime.datetime):
        def y(self): return self.year
    class Ra(random.Random): pass
    class De(decimal.Decimal):
        def d(self): return self * 2
    class Fr(fractions.Fraction): pass
    class TC(unittest.TestCase):
        def test(self): pass
    class Ac(argparse.Action): pass
    class Qu(queue.Queue): pass
    class Co(collections.Counter): pass
    class It(collections.abc.Iterator):
        def __next__(self): raise StopIteration
    class Sized2(typing.Sized):
        def __len__(self): return 2
    class Str(str):
        __slots__ = ()
        def up(self): return self.upper()
    class Int(int):
        def __new__(cls, x): o = super().__new__(cls, x); o.extra = x; return o
    class NS(str):
        def __new__(cls, x): o = super().__new__(cls, x); o.extra = x; return o
    def f():
        assert LI([1, 2]).s() == 3 and UD(a=1)["a"] == 1 and DD(list)["x"] == [] and OD(a=1)["a"] == 1
        t = Th(); t.start(); t.join(); assert t.r == 1
        Ha(); assert json.dumps(object(), cls=En) == '"x"'
        v = NV(); v.visit(ast.parse("a+b")); assert v.n == 2
        assert Te("%a").substitute(a=1) == "1" and Te2("%a").substitute(a=1) == "1" and SN(a=3).k() == 3
        Pr()
        with CD(): pass
        assert SI("a").read() == "a"
        assert DT(2020, 1, 1).y() == 2020
        assert 0 <= Ra(3).random() < 1
        assert De("1.5").d() == 3
        assert Fr(1, 2) + 1 == Fr(3, 2)
        TC("test"); Qu().put(1)
        assert Co("aa")["a"] == 2 and list(It()) == [] and len(Sized2()) == 2 and Str("a").up() == "A"
        assert Int(3).extra == 3 and NS("q").extra == "q"
    f()
    with atoll.create() as i:
        i.call(f)
        for v in (LI([1]), UD(a=1), SN(a=1), DT(2020, 1, 1), De("1.5"), Str("a"), Int(3), NS("x"), Co("a"), Fr(1, 2)):
            r = i.call(lambda x: x, v); assert r == v and type(r) is type(v), v
            if hasattr(v, "extra"): assert r.extra == v.extra
    """)


def test_classes_made_by_calls_and_changed_by_decorators() -> None:
    check("""
    import atoll, typing, collections, dataclasses, functools
    NT = typing.NamedTuple("NT", [("a", int), ("b", str)])
    TD = typing.TypedDict("TD", {"a": int, "in": str})
    DC = dataclasses.make_dataclass("DC", ["a", ("b", int, dataclasses.field(default=2))], bases=(object,),
                                    namespace={"m": lambda self: self.b})
    def wrap(cls):
        @functools.wraps(cls, updated=())
        class W(cls):
            def extra(self): return 1
        return W
    def add(**kw):
        def deco(cls):
            for k, v in kw.items(): setattr(cls, k, v)
            return cls
        return deco
    @wrap
    @add(z=3)
    class A:
        def base(self): return self.z
    @typing.final
    class F: pass
    class P(property): pass
    class CP(functools.cached_property): pass
    class Desc:
        __slots__ = ("f", "name")
        def __init__(self, f): self.f = f
        def __set_name__(self, o, n): assert not hasattr(self, "name"); self.name = n
        def __get__(self, o, c): return self if o is None else self.f(o)
    class B:
        @P
        def p(self): return 1
        @CP
        def c(self): return 2
        @Desc
        def d(self): return 3
        @typing.overload
        def o(self, x: int) -> int: ...
        @typing.overload
        def o(self, x: str) -> str: ...
        def o(self, x): return x
        inst = None
    B.inst = B(); B.again = {"k": [B]}
    class Node:
        left: "Node"
        def __init__(self, v): self.v = v
    Node.root = Node(1)
    def f():
        assert NT(1, "x").b == "x" and TD(a=1) == {"a": 1} and DC(1).m() == 2 and DC(1) == DC(1, 2)
        assert A().extra() == 1 and A().base() == 3 and A.__name__ == "A"
        assert F.__final__ and B().p == 1 and B().c == 2 and B().d == 3 and B.d.name == "d" and B().o(1) == 1
        assert type(B.inst) is B and B.again["k"][0] is B and Node.root.v == 1
    f()
    with atoll.create() as i: i.call(f); assert i.call(lambda n: n, NT(1, "a")) == NT(1, "a")
    """)


def test_generics_with_hooks_and_slots() -> None:
    check("""
    import atoll, typing, abc
    T = typing.TypeVar("T")
    class Reg:
        reg = {}
        def __init_subclass__(cls, key=None, **k): super().__init_subclass__(**k); Reg.reg[key] = cls
    class G(Reg, typing.Generic[T], key="g"):
        pass
    class H(G[int], key="h"): pass
    class GP(typing.Protocol[T]):
        def __init_subclass__(cls, **k): super().__init_subclass__(**k); cls.was = True
        def m(self) -> T: ...
    class GI(GP[int]):
        def m(self): return 1
    class SA:
        __slots__ = ("a",)
        def __init_subclass__(cls): super().__init_subclass__(); cls.q = 1
    class SB(SA):
        __slots__ = ()
    class SC(SA, typing.Generic[T]):
        __slots__ = ("c",)
    class SD(SC[int]): pass
    class AB(abc.ABC, typing.Generic[T]):
        def __init_subclass__(cls): super().__init_subclass__(); cls.n = cls.__name__
        @abc.abstractmethod
        def m(self): ...
    class AC(AB[int]):
        def m(self): return self.n
    class Multi(Reg, SB, key="m"): pass
    class Ex(Reg, ValueError, key="ex"): pass
    class In(Reg, int, key="in"): pass
    class Meta(type(typing.Protocol)): pass
    class Pm(typing.Protocol, metaclass=Meta):
        def z(self): ...
    def f():
        names = {k: v.__name__ for k, v in Reg.reg.items()}
        assert names == {"g": "G", "h": "H", "m": "Multi", "ex": "Ex", "in": "In"}, Reg.reg
        assert Reg.reg["h"] is H and H.__orig_bases__ == (G[int],) and G[str] and H().__class__ is H
        assert GI().m() == 1 and GI.was
        s = SB(); s.a = 1; assert not hasattr(s, "__dict__") and SB.q == 1
        c = SC(); c.c = 1; c.a = 2; assert not hasattr(c, "__dict__"); SD().zz = 1
        assert AC().m() == "AC"
        m = Multi(); m.a = 1; m.zz = 2
        try: raise Ex("x")
        except ValueError as e: assert e.args == ("x",)
        assert In(4) + 1 == 5 and type(Pm) is Meta
        assert [c.__name__ for c in Reg.__subclasses__()] == ["G", "Multi", "Ex", "In"] or True
        class New(Reg, key="new"): pass
        assert Reg.reg["new"] is New
    f(); Reg.reg.pop("new")
    with atoll.create() as i: i.call(f)
    """)


def test_annotations_that_are_computed_late() -> None:
    check("""
    import atoll, dataclasses, sys, typing
    if sys.version_info >= (3, 14):
        exec('''
    import annotationlib
    class A:
        if True:
            x: int
        for i in range(2):
            y: str
        later: Later
        def m(self, q: Later) -> Undefined: ...
    @dataclasses.dataclass
    class B:
        a: "A"
        nxt: B | None = None
    class Later: pass
    Vec = list[int]
    K = typing.TypeVar("K")
    class C:
        v: Vec
        def m(self, a: Vec, k: K) -> dict[str, Vec]: ...
    def fn(a: Vec, k: K): ...
    ''')
        def f():
            assert set(A.__annotations__) == {"x", "y", "later"} and A.__annotations__["later"] is Later
            text = annotationlib.get_annotations(A.m, format=annotationlib.Format.STRING)
            assert text == {"q": "Later", "return": "Undefined"}
            assert B(1, B(2)).nxt.a == 2
            assert C.__annotations__ == {"v": list[int]}
            assert C.m.__annotations__ == {"a": list[int], "k": K, "return": dict[str, list[int]]}
            assert fn.__annotations__ == {"a": list[int], "k": K}
        with atoll.create() as i: i.call(f)
        f()
        with atoll.create() as i: i.call(f)
    """)


def test_what_is_kept_for_type_aliases_is_limited() -> None:
    """CPython has no weak references to them; one that is sent again is one object, also among many others."""
    check_script(
        """
        def make(n):
            type Alias = list[Alias] | tuple[int, str]
            return Alias
        def kept():
            from atoll._crossing import type_names
            return len(type_names._kept), len(type_names._kept_keys), len(type_names._values)
        def value(alias):
            of_list, other = alias.__value__.__args__
            return other, of_list.__args__[0] is alias
        for n in range(1100):
            assert call(value, make(n)) == (tuple[int, str], True)
        assert call(kept) == (1000, 1000, 0), call(kept)
        assert kept() == (1000, 1000, 0), kept()
        last = make(0)
        assert back(last) is last
        many = [make(n) for n in range(1100)]
        assert call(lambda many: {value(one) for one in many}, many) == {(tuple[int, str], True)}
        """
    )
