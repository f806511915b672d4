"""Classes of __main__ that metaclasses have made, what names types there, and what pickle refuses."""

from __future__ import annotations

import pytest

from byvalue_helpers import check_script

SCRIPTS = {
    "what a metaclass has made of a definition is there, its code does not run again": """
        class Model(type):
            made = []
            def __new__(meta, name, bases, namespace):
                cls = super().__new__(meta, name, bases, namespace)
                fields = [*getattr(cls, "fields", ()), *namespace.get("names", ())]
                # As pydantic does: what is complete is not made again.
                if not getattr(cls, "complete", False):
                    cls.fields, cls.complete = fields, bool(fields)
                cls.check = [cls.__dict__[name] for name in namespace if name.startswith("check_")]
                Model.made.append(name)
                return cls
        class Base(metaclass=Model):
            def dump(self): return {name: getattr(self, name) for name in type(self).fields}
        class Point(Base):
            names = ["x", "y"]
            def __init__(self, x, y): self.x, self.y = x, y
            def check_x(self): return self.x
        assert call(lambda point: point.dump(), Point(1, 2)) == {"x": 1, "y": 2}
        assert call(lambda: (Point(3, 4).dump(), Point.check[0](Point(5, 6)))) == ({"x": 3, "y": 4}, 5)
        assert call(lambda: Model.made) == ["Base", "Point"]
        assert back(Point) is Point
    """,
    "a metaclass that wants what the definition gave it": """
        class Meta(type):
            def __new__(meta, name, bases, namespace, *, table):
                cls = super().__new__(meta, name, bases, namespace)
                cls.table = table
                return cls
            def __init__(cls, name, bases, namespace, *, table): super().__init__(name, bases, namespace)
        class User(metaclass=Meta, table="users"): pass
        assert call(lambda: User.table) == "users"
    """,
    "bases whose __init_subclass__ wants what the definition gave it": """
        class Plugin:
            def __init_subclass__(cls, /, name, **kwargs):
                super().__init_subclass__(**kwargs)
                cls.plugin = name
        class Slotted(Plugin, name="slotted"): __slots__ = ("a",)
        class One(Plugin, name="one"): pass
        class Two(One, name="two"): x = 2
        class Bare:
            __slots__ = ()
            def __init_subclass__(cls, /, name): cls.plugin = name
        class Bared(Bare, name="bared"): __slots__ = ("b",)
        class Pair(tuple):
            def __init_subclass__(cls, /, name): cls.plugin = name
        class Named(Pair, name="named"): pass
        def look(cls): return cls.plugin, [base.__name__ for base in cls.__mro__]
        for cls in (Slotted, One, Two, Bared, Named):
            assert call(look, cls) == (cls.plugin, [base.__name__ for base in cls.__mro__]), cls
    """,
    "a class attribute that is bound to the class": """
        class Model:
            @classmethod
            def check(cls, value): return cls.__name__, value
            validators = []
        Model.validators.append(Model.check)
        Model.first = Model.check
        assert call(lambda: (Model.validators[0](1), Model.first(2))) == (("Model", 1), ("Model", 2))
        assert call(lambda check: check(3), Model.check) == ("Model", 3)
    """,
    "abstract classes": """
        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...
        class Square(Shape):
            def area(self): return isinstance(self, Shape), isinstance(1, Shape), isinstance("", Shape)
        @Shape.register
        class Other: pass
        Shape.register(int)
        assert call(Square().area) == (True, True, False)
        assert call(lambda: issubclass(Other, Shape))
        try:
            call(lambda: Shape())
        except atoll.ExecutionFailed as error:
            assert "abstract" in str(error)
        else:
            raise AssertionError("made")
    """,
    "protocols": """
        @typing.runtime_checkable
        class Sized(typing.Protocol):
            def size(self) -> int: ...
        class Box:
            def size(self): return 1
        assert call(lambda: (isinstance(Box(), Sized), isinstance(1, Sized))) == (True, False)
    """,
    "TypedDict": """
        class Options(typing.TypedDict):
            a: int
        class More(Options, total=False):
            b: str
        class Of[T](typing.TypedDict):
            item: T
        assert call(lambda: More(a=1, b="x")) == {"a": 1, "b": "x"}
        assert call(lambda: Of[int](item=1)) == {"item": 1}
        assert call(lambda: (More.__total__, sorted(More.__required_keys__))) == (False, ["a"])
        assert call(lambda: typing.get_type_hints(More)) == {"a": int, "b": str}
    """,
    "NewType": """
        UserId = typing.NewType("UserId", int)
        class Person: pass
        Owner = typing.NewType("Owner", Person)
        assert call(lambda: UserId(3)) == 3
        assert call(lambda: (repr(UserId), UserId.__supertype__)) == (repr(UserId), int)
        assert call(lambda: Owner.__supertype__ is Person)
        assert back(UserId) is UserId and back([Owner, Owner]) == [Owner, Owner]
        keep = lambda x: sys.modules.setdefault("kept", x)
        assert call(keep, UserId) is call(keep, UserId) is UserId  # the same there each time
    """,
    "type variables": """
        T = typing.TypeVar("T")
        Number = typing.TypeVar("Number", int, float)
        Bound = typing.TypeVar("Bound", bound=int, covariant=True)
        P = typing.ParamSpec("P")
        Ts = typing.TypeVarTuple("Ts")
        class Box(typing.Generic[T]): pass
        class Call(typing.Generic[P]): pass
        class Many(typing.Generic[typing.Unpack[Ts]]): pass
        class New[K: int, *Rest, **Q]:
            def get[V](self, value: V) -> V: return value
        assert call(lambda: (Number.__constraints__, Bound.__bound__, Bound.__covariant__)) == ((int, float), int, True)
        assert call(lambda: Box.__parameters__ == (T,))
        assert call(lambda: (repr(Box[int]), repr(Call[[int]]), repr(Many[int, str]))) == (
            repr(Box[int]), repr(Call[[int]]), repr(Many[int, str]))
        assert call(lambda: [p.__name__ for p in New.__type_params__]) == ["K", "Rest", "Q"]
        assert call(lambda: New.__type_params__[0].__bound__) is int
        assert call(lambda: New.__type_params__[0].__infer_variance__)
        assert call(lambda: New().get(5)) == 5
        for one in (T, Number, P, Ts): assert back(one) is one
        if sys.version_info >= (3, 13):
            D = typing.TypeVar("D", default=int)
            assert call(lambda: (D.has_default(), D.__default__, T.has_default())) == (True, int, False)
    """,
    "type aliases": """
        class Person: pass
        type Number = int | float
        type Pair[T] = tuple[T, T]
        type People = list[Person]
        assert call(lambda: (Number.__name__, Number.__value__)) == ("Number", int | float)
        assert call(lambda: Number.__module__) == "__main__"
        assert call(lambda: repr(Pair[int])) == repr(Pair[int])
        assert call(lambda: Pair.__value__.__args__ == (Pair.__type_params__[0],) * 2)
        assert call(lambda: People.__value__.__args__[0] is Person)
    """,
    "the standard streams as defaults": """
        def say(text, file=sys.stdout, log=sys.stderr): return file is sys.stdout, log is sys.stderr
        assert call(say, "x") == (True, True)
        assert call(lambda file: file is sys.__stdin__, sys.stdin)
        try:
            call(identity, open(os.devnull))
        except NotShareableError as error:
            assert "TextIOWrapper" in str(error)
        else:
            raise AssertionError("sent")
    """,
    "a stream that stands for one": """
        with open(os.devnull, "w") as file, contextlib.redirect_stdout(file):
            try:
                call(identity, sys.stdout)
            except NotShareableError:
                pass
            else:
                raise AssertionError("sent: what is written there would not come to the file")
    """,
    "singledispatch": """
        class Own: pass
        @functools.singledispatch
        def kind(x): return "any"
        @kind.register
        def _(x: int): return "int"
        @kind.register
        def _(x: Own): return "own"
        class Shows:
            @functools.singledispatchmethod
            def show(self, x): return "any"
            @show.register
            def _(self, x: str): return "str"
        assert kind(1) == "int"
        assert call(lambda: (kind(1), kind(Own()), kind(""))) == ("int", "own", "any")
        assert call(lambda: (Shows().show(""), Shows().show(1))) == ("str", "any")
    """,
    "mapping proxies, weak containers, structs": """
        import struct
        table = {1: 2}
        view = types.MappingProxyType(table)
        class Key: pass
        keys, values, members = weakref.WeakKeyDictionary(), weakref.WeakValueDictionary(), weakref.WeakSet()
        keys[Key], values["key"] = 1, Key
        members.add(Key)
        record = struct.Struct("<id")
        def look():
            table[3] = 4
            return view[1], view[3], keys[Key], values["key"] is Key, Key in members, record.pack(1, 2.0)
        assert call(look) == (2, 4, 1, True, True, record.pack(1, 2.0))
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name):
    check_script(SCRIPTS[name])
