"""Classes of the standard library's machinery arrive as they are: enums, named tuples, dataclasses, generics."""

from __future__ import annotations

from byvalue_helpers import check_script

PRELUDE = """
import sys
sys.modules["cloudpickle"] = None
"""


def check(script: str) -> None:
    """Run a script that asserts the same at home and in an interpreter."""
    check_script(script, PRELUDE)


def test_enums_of_every_kind() -> None:
    check("""
    import atoll, enum, datetime, decimal, dataclasses
    class A(enum.Enum):
        X = 1; Y = 2; Z = 1
        @property
        def double(self): return self.value * 2
        @classmethod
        def _missing_(cls, v): return cls.X if v == "x" else None
        Inner = enum.nonmember(type("Inner", (), {}))
        other = enum.nonmember(7)
    class B(str, enum.Enum):
        P = "p"; Q = "q"
    class C(enum.StrEnum):
        ONE = enum.auto(); TWO = enum.auto()
    class D(enum.IntFlag, boundary=enum.KEEP):
        R = 4; W = 2; RW = 6
    class E(datetime.date, enum.Enum):
        N = 2020, 1, 2
    class F(enum.Flag, boundary=enum.CONFORM):
        A = enum.auto(); B = enum.auto()
    F.A | F.B
    class G(tuple, enum.Enum):
        T = (1, 2)
    class H(enum.Enum):
        def _generate_next_value_(name, start, count, last): return name.lower()
        AB = enum.auto(); CD = enum.auto()
    class I(float, enum.Enum):
        PI = 3.25
    class J(enum.Enum):
        def __new__(cls, v, mass):
            o = object.__new__(cls); o._value_ = v; o.mass = mass; return o
        E1 = 1, 5.0
        E2 = 2, 6.0
    class K(enum.Enum):
        def __init__(self, m, r): self.m = m; self.r = r
        EARTH = (1.5, 2)
        @property
        def g(self): return self.m * self.r
    class L(enum.Enum):
        U = {"a": 1}
        V = [1, 2]
    class M(enum.IntEnum):
        X = 3
        name2 = "5"
    @dataclasses.dataclass(frozen=True)
    class Base:
        a: int
        b: str = "z"
    class N(Base, enum.Enum):
        ONE = 1, "q"
        TWO = 2
    class O(bytes, enum.Enum):
        B = b"abc"
    class Q(decimal.Decimal, enum.Enum):
        D = "1.5"
    class MyInt(int):
        def half(self): return self // 2
    class R(MyInt, enum.Enum):
        TEN = 10
    class S(enum.Enum):
        value_of: int
        def method(self) -> "S": return S.A
        A = 1
    class Tt(list, enum.Enum):
        L1 = [1, 2]
    class Named(enum.Enum):
        name = "n1"
        X = 2
    def f():
        assert A(1) is A.X
        assert A["Z"] is A.X
        assert A("x") is A.X
        assert A.X.double == 2
        assert A.other == 7
        assert list(A) == [A.X, A.Y]
        assert B("p") is B.P and B.P + "x" == "px" and isinstance(B.P, str)
        assert C.ONE == "one" and C("two") is C.TWO and f"{C.ONE}" == "one"
        assert D.R | D.W is not None and (D.R | D.W) == D.RW == 6 and D(8 | 4).value == 12, "D"
        assert E.N.year == 2020 and E.N.value == (2020, 1, 2) or E.N.value == datetime.date(2020, 1, 2), E.N.value
        assert F(7) == F.A | F.B and repr(F.A | F.B) == "<F.A|B: 3>" and (~F.A) is F.B
        assert G.T[1] == 2 and G.T == (1, 2)
        assert H.AB.value == "ab" and H("cd") is H.CD
        assert I.PI * 2 == 6.5 and I(3.25) is I.PI
        assert J(1) is J.E1 and J.E2.mass == 6.0
        assert K.EARTH.g == 3.0 and K((1.5, 2)) is K.EARTH
        assert L({"a": 1}) is L.U and L.V.value == [1, 2]
        assert M.X + 1 == 4 and M(5) is M.name2 and str(M.X) == "3"
        assert N.ONE.b == "q" and N.TWO.a == 2 and N.TWO.b == "z", N.TWO
        assert O.B[0] == 97
        assert Q.D + 1 == decimal.Decimal("2.5")
        assert R.TEN.half() == 5 and R(10) is R.TEN
        assert S.A.method() is S.A
        assert Tt.L1 == [1, 2], Tt.L1
        assert Named.name.value == "n1" and Named.X.name == "X"
        for c in (A, B, C, D, F, H, J, K):
            for m in c: assert type(m) is c
        try: A.X = 3
        except AttributeError: pass
        else: assert 0
        try: A(99)
        except ValueError as e: assert "99 is not a valid" in str(e)
        import pickle
        assert pickle.loads(pickle.dumps(A.X)) is A.X
    f()
    with atoll.create() as i: i.call(f)
    q = atoll.create_queue()
    with atoll.create() as i:
        for m in [A.Y, C.TWO, D.R | D.W, F.A, F.A | F.B, N.ONE, R.TEN]:
            q.put(m); r = i.call(lambda q: q.get(), q); assert r is m, (r, m)
    """)


def test_named_tuples() -> None:
    check("""
    import atoll, typing, collections
    T = typing.TypeVar("T")
    P0 = collections.namedtuple("P0", "a b", defaults=[5])
    class P(typing.NamedTuple):
        'Doc.'
        a: int
        b: str = "x"
        def both(self) -> str: return f"{self.a}{self.b}"
        @property
        def c(self): return self.a + 1
        def __repr__(self): return "mine"
    class G(typing.NamedTuple, typing.Generic[T]):
        a: T
    class S(P):
        __slots__ = ()
        def more(self): return self._replace(a=9)
    class W(collections.namedtuple("WB", "x y")):
        def __new__(cls, x): return super().__new__(cls, x, x)
    def f():
        assert P0(1) == (1, 5)
        assert P0(1).b == 5
        assert P0._make([1, 2])._asdict() == {"a": 1, "b": 2}
        assert repr(P0(1)) == "P0(a=1, b=5)"
        assert P(1).both() == "1x"
        assert P(1).c == 2
        assert repr(P(1)) == "mine"
        assert P.__doc__ == "Doc."
        assert P._field_defaults == {"b": "x"}
        assert P.__annotations__ == {"a": int, "b": str}, P.__annotations__
        assert P.__new__.__annotations__ == {"a": int, "b": str}, P.__new__.__annotations__
        assert G(1).a == 1
        assert G[int](2).a == 2
        assert G.__parameters__ == (T,)
        assert G.__orig_bases__[1] == typing.Generic[T]
        assert S(1).more() == (9, "x") and type(S(1)) is S and not hasattr(S(1), "__dict__")
        assert W(3) == (3, 3) and W(3).y == 3
        assert P.a.__doc__ == "Alias for field number 0"
        return P(3), G(2), S(5), P0(8)
    r = f()
    with atoll.create() as i: assert i.call(f) == r; assert [type(x) for x in i.call(f)] == [type(x) for x in r]
    """)


def test_typed_dicts_protocols_generics() -> None:
    check("""
    import atoll, typing, sys
    T = typing.TypeVar("T", bound=int)
    Ts = typing.TypeVarTuple("Ts")
    PS = typing.ParamSpec("PS")
    class R(typing.TypedDict, total=False):
        a: typing.Required[int]
        b: str
    class R2(R):
        c: "R2"
    class R3(typing.TypedDict, typing.Generic[T]):
        a: T
    @typing.runtime_checkable
    class Sized(typing.Protocol[T]):
        name: str
        def size(self) -> int: ...
    class Mine:
        name = "x"
        def size(self): return 1
    class Explicit(Sized[int]):
        name = "q"
    class Box(typing.Generic[T]):
        def __init__(self, x: T): self.x = x
        def get(self) -> T: return self.x
    class IntBox(Box[int]): pass
    class Var(typing.Generic[typing.Unpack[Ts]]): pass
    class Fn(typing.Generic[PS, T]): pass
    Id = typing.NewType("Id", int)
    Id2 = typing.NewType("Id2", Id)
    def f():
        assert R(a=1) == {"a": 1}
        assert R.__required_keys__ == {"a"}
        assert R.__optional_keys__ == {"b"}
        assert R.__total__ is False
        assert typing.is_typeddict(R2) and R2.__required_keys__ == {"a", "c"} or 1
        assert set(R2.__annotations__) == {"a", "b", "c"}
        assert typing.get_type_hints(R)["b"] is str
        assert R3[int](a=2) == {"a": 2} and R3.__parameters__ == (T,)
        assert isinstance(Mine(), Sized) and not isinstance(3, Sized)
        try: Sized()
        except TypeError: pass
        else: assert 0
        assert Explicit().name == "q" and isinstance(Explicit(), Sized) and Explicit.__mro__[1] is Sized
        assert Box[int](3).get() == 3
        assert IntBox(4).get() == 4
        assert IntBox.__orig_bases__ == (Box[int],)
        assert Box.__parameters__ == (T,)
        assert Var[int, str] and Fn[[int], int]
        assert Id(3) == 3 and Id2.__supertype__ is Id and Id.__module__ == "__main__"
        assert T.__bound__ is int
        assert typing.get_type_hints(Box.get)["return"] is T
        try:
            class Plain(typing.Generic): pass
        except TypeError: pass
        else: assert 0
    f()
    with atoll.create() as i: i.call(f)
    """)


def test_type_parameters() -> None:
    check("""
    import atoll, typing
    class Stack[T: (int, str), *Ts, **P]:
        items: list[T]
        type Alias = list[T]
        def __init__(self): self.items = []
        def push(self, x: T) -> None: self.items.append(x)
        def top[U](self, d: U) -> T | U: return self.items[-1] if self.items else d
    class Sub[K](dict[K, int]): pass
    type Pair[A] = tuple[A, A]
    type Rec = list[Rec] | int
    def ident[T: int](x: T) -> T: return x
    def f():
        s = Stack(); s.push(1); assert s.top(None) == 1
        assert Stack.__type_params__[0].__constraints__ == (int, str)
        assert Stack.__parameters__ == Stack.__type_params__
        assert Stack.__type_params__[0].__name__ == "T"
        assert typing.get_type_hints(Stack)["items"] == list[Stack.__type_params__[0]]
        assert Stack.push.__annotations__["x"] is Stack.__type_params__[0]
        assert Sub[str, ](a=1) == {"a": 1} and isinstance(Sub(), dict)
        assert Pair[int].__value__ is not None and Pair.__value__.__origin__ is tuple
        assert ident(3) == 3
        assert ident.__type_params__[0].__bound__ is int
        assert ident.__annotations__["x"] is ident.__type_params__[0]
        assert Stack.Alias.__value__.__args__[0] is Stack.__type_params__[0]
    f()
    with atoll.create() as i: i.call(f)
    """)


def test_dataclasses() -> None:
    check("""
    import atoll, dataclasses, typing
    @dataclasses.dataclass(slots=True, kw_only=True, order=True)
    class S:
        a: int
        b: list = dataclasses.field(default_factory=list)
        c: typing.ClassVar[int] = 5
        def f(self, x: int) -> "S": return S(a=x)
    @dataclasses.dataclass(frozen=True)
    class F:
        a: int
        d: dataclasses.InitVar[int] = 3
        def __post_init__(self, d): object.__setattr__(self, "e", d)
    @dataclasses.dataclass
    class I(F.__mro__[1] if 0 else object):
        x: "I | None" = None
        y: int = dataclasses.field(default=1, metadata={"k": 1}, repr=False)
    @dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True)
    class W:
        a: int
        def m(self): return repr(self)
    @dataclasses.dataclass
    class J(I):
        z: int = 3
    K = dataclasses.make_dataclass("K", [("a", int), ("b", int, 2)])
    def f():
        assert S(a=1) < S(a=2)
        assert S(a=1).b == []
        assert S.c == 5
        assert S(a=1).f(3) == S(a=3)
        assert not hasattr(S(a=1), "__dict__")
        assert repr(S(a=1)) == "S(a=1, b=[])"
        assert F(1).e == 3 and hash(F(1)) == hash(F(1)) and [x.name for x in dataclasses.fields(F)] == ["a"]
        try: F(1).a = 3
        except dataclasses.FrozenInstanceError: pass
        else: assert 0
        assert I().y == 1
        assert dataclasses.fields(I)[1].metadata["k"] == 1
        assert repr(J(x=I())) == "J(x=I(x=None), z=3)"
        assert dataclasses.replace(J(), z=9).z == 9 and dataclasses.asdict(J()) == {"x": None, "y": 1, "z": 3}
        assert "W" in W(1).m() and W.__slots__
        assert K(1) == K(1, 2)
        assert set(S.__annotations__) == {"a", "b", "c"}
        match J(1, 2, 3):
            case J(a, b, c): assert (a, b, c) == (1, 2, 3)
        @dataclasses.dataclass
        class New(J): q: int = 9
        assert New().q == 9 and New().z == 3
    f()
    with atoll.create() as i: i.call(f)
    """)
