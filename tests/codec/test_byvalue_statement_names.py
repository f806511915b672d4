"""What the statement of a class names (test_byvalue_statements.py): what leads back to the class comes after it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from test_byvalue_statements import check

PRELUDE = """
import atoll, contextlib, dataclasses, enum, functools, threading, typing
from framework import Model
class Item(Model):
    def __init__(self, n=0): self.n = n
    def __repr__(self): return f"{type(self).__name__}({self.n})"
"""
# Each defines A and use().
LEADS_BACK = {
    "annotations": """
        class A(Item):
            def go(self): return more(self)
        def more(a: A) -> A: return A(a.n + 1)
    """,
    "annotations that have been computed": """
        class A(Item):
            def go(self): return more(self)
        def more(a: A) -> A: return A(a.n + 1)
        typing.get_type_hints(more)
    """,
    "a partial function": """
        class A(Item):
            def go(self): return make()
        make = functools.partial(A, 7)
    """,
    "a list of it, as a type": """
        class A(Item):
            def go(self): return typing.get_args(As)[0](7)
        As = list[A]
    """,
    "a union": """
        class A(Item):
            def go(self): return typing.get_args(Maybe)[0](7)
        Maybe = A | None
    """,
    "an alias": """
        class A(Item):
            def go(self): return Alias.__value__(7)
        type Alias = A
    """,
    "a type variable": """
        class A(Item):
            def go(self): return T.__bound__(7)
        T = typing.TypeVar("T", bound=A)
    """,
    "an instance with slots": """
        class Box:
            __slots__ = ("kind",)
        class A(Item):
            def go(self): return BOX.kind(7)
        BOX = Box()
        BOX.kind = A
    """,
    "a generic function": """
        class A(Item):
            def go(self): return show(self)
        @functools.singledispatch
        def show(thing): return "?"
        @show.register
        def _(thing: A): return "A"
    """,
    "a function around another": """
        def around(function):
            def inner(*args): return function(*args)
            return inner
        class A(Item):
            def go(self): return more(self)
        @around
        def more(a: A): return A(a.n + 1)
    """,
    "a context manager": """
        class A(Item):
            def go(self):
                with within(self) as a: return a
        @contextlib.contextmanager
        def within(a: A) -> typing.Iterator[A]: yield a
    """,
    "another class": """
        class A(Item):
            def go(self): return B(self)
        class B(Item):
            kind: A
            def back(self) -> A: return self.n
    """,
    "another class, in text": """
        class A(Item):
            other: "B | None"
            def go(self) -> "B": return B(self)
        class B(Item):
            other: A | None
            def back(self) -> A: return self.n
    """,
    "another class, by way of a function": """
        class A(Item):
            def go(self): return to_b(self)
        class B(Item):
            kind: A
        def to_b(a: A) -> B: return B(a)
    """,
    "a third class": """
        class A(Item):
            def go(self): return to_c(self)
        class B(Item):
            kind: A
        class C(Item):
            kind: B
            def go(self) -> A: return self.n.n
        def to_c(a) -> C: return C(B(a))
    """,
}
# Each uses a name that is no global there.
ITS_OWN = {
    "a field": """
        class A(Item):
            lock: int
            def go(self): return 1
    """,
    "an attribute": """
        class A(Item):
            lock = 5
            def go(self): return self.lock
    """,
    "a parameter": """
        class A(Item):
            def go(self, lock=3): return lock
    """,
    "a variable": """
        class A(Item):
            def go(self):
                lock = 3
                return [lock for _ in (1,)] + [(lambda: lock)()]
    """,
    "a variable of a comprehension": """
        class A(Item):
            def go(self): return [lock for lock in (1, 2)]
    """,
}
SENDS = """
        def use(): return repr(A(3).go())
        def same(thing): return thing
        for each in [kind for kind in list(globals().values()) if isinstance(kind, type) and issubclass(kind, Item)]:
            with atoll.create() as interp:  # whichever comes first
                assert interp.call(same, each) is each
                assert repr(interp.call(same, each(1))) == repr(each(1))
                assert interp.call(use) == use(), interp.call(use)
        with atoll.create() as interp:
            assert interp.call(use) == use(), interp.call(use)
            assert type(interp.call(same, A(1))) is A
        """


# Each has a class that is copied, and whose functions use A, which needs it as a whole.
COPIED = {
    "an enumeration": """
        class E(enum.Enum):
            X = 1
            def make(self): return A(self)
        class A(Item):
            first = E.X
            def go(self): return self.first.make()
    """,
    "a dataclass, by way of a function": """
        @dataclasses.dataclass
        class D:
            x: int
            def make(self): return to_a(self)
        def to_a(d): return A(d)
        class A(Item):
            names = [field.name for field in dataclasses.fields(D)]
            def go(self): return self.names, D(1).make()
    """,
    "one that has it in a list, and an instance": """
        class D:
            made = []
            def make(self): return KINDS[0](self.made), ONE
            def __repr__(self): return "D()"
        class A(Item):
            made = len(D.made)
            def go(self): return D().make(), self.made
        KINDS = [A]
        ONE = A(5)
    """,
}


@pytest.mark.parametrize("name", COPIED)
def test_is_needed_by_what_a_copied_class_uses(name: str, tmp_path: Path) -> None:
    first = (
        """
        kind = next(value for name, value in globals().items() if name in ("D", "E"))
        with atoll.create() as interp:
            assert interp.call(same, kind) is kind
            assert interp.call(use) == use(), interp.call(use)
        with atoll.create() as interp:
            assert repr(interp.call(lambda: kind(1).make())) == repr(kind(1).make())
        """
        if "list" not in name
        else """
        with atoll.create() as interp:
            assert repr(interp.call(lambda: D().make())) == repr(D().make())
        """
    )
    check(tmp_path, textwrap.dedent(COPIED[name]) + textwrap.dedent(SENDS) + textwrap.dedent(first), PRELUDE)


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"], ids=["", "text"])
@pytest.mark.parametrize("name", LEADS_BACK)
def test_leads_back(name: str, future: str, tmp_path: Path) -> None:
    check(tmp_path, textwrap.dedent(LEADS_BACK[name]) + textwrap.dedent(SENDS), future + PRELUDE)


@pytest.mark.parametrize("name", ITS_OWN)
def test_a_name_that_is_the_classs_own_is_no_global(name: str, tmp_path: Path) -> None:
    check(
        tmp_path,
        "lock = threading.Lock()\n" + textwrap.dedent(ITS_OWN[name]) + textwrap.dedent(SENDS),
        PRELUDE,
    )


def test_a_name_that_a_class_binds_from_a_global(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        count = 3
        class A(Item):
            count += 1
            def go(self): return self.count
        """
        + SENDS,
        PRELUDE,
    )
