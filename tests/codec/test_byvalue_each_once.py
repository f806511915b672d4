"""Classes that name each other: each is in a message once, and who has only some of them gets the others."""

from __future__ import annotations

import pytest

from byvalue_helpers import check_script

# COUNT classes, each of which names all the others in its functions, or only some; f() uses them all.
MADE = """
from atoll import _atoll
import gc
def names(i): return [f"C{j}" for j in range(COUNT) if j != i and (ALL or i - 3 < j < i)]
for i in range(COUNT):
    exec(f"class C{i}:\\n def others(self): return [{', '.join(names(i))}]\\n def number(self): return {i}")
all_of_them = [globals()[f"C{i}"] for i in range(COUNT)]
def f(x): return sorted(one().number() for one in x.others()), all(type(one()) is one for one in x.others())
def expected(i): return [j for j in range(COUNT) if f"C{j}" in names(i)], True
"""


@pytest.mark.parametrize("everything", [True, False], ids=["cycles", "earlier ones"])
def test_many_that_name_each_other_are_small(everything):
    check_script(
        f"""
COUNT, ALL = 40, {everything}
{MADE}
assert len(_atoll._encode(all_of_them[-1]())) < 4000 * COUNT
with atoll.create() as interp, atoll.create() as other:
    for i in (COUNT - 1, 0, COUNT // 2, COUNT - 1):
        assert interp.call(f, all_of_them[i]()) == expected(i), i
    C7.number = lambda self: -7  # all see it, whichever way they come
    for i in (COUNT - 1, 8, 9):
        assert (-7 in interp.call(f, all_of_them[i]())[0]) == (-7 in f(all_of_them[i]())[0]), i
    back = other.call(lambda *given: given, *[one() for one in all_of_them])
    assert [type(one) for one in back] == all_of_them
""",
    )


def test_what_many_lead_to_is_kept():
    """So that the second call with an instance does not take a thousand times what it takes with a small class."""
    check_script(
        f"""
COUNT, ALL = 60, True
{MADE}
from atoll._crossing import byvalue
described, before = [], []
describe = byvalue.describe_class
byvalue.describe_class = lambda cls: described.append(cls) or describe(cls)
assert len(_atoll._encode(C0())) > 100_000
for _ in range(3):
    _atoll._encode(C0())  # the first times all begins to be watched
before.append(len(described))
for _ in range(3):
    _atoll._encode(C0())
assert before == [len(described)], (before, len(described))
C5.number = lambda self: -5
_atoll._encode(C0())
assert len(described) > before[0]
""",
    )


def test_large_ones_that_are_sent_in_turns_are_kept():
    """Each with all the functions that it leads to, which are the same for all: some twelve million bytes together."""
    check_script(
        """
from atoll import _atoll
from atoll._crossing import byvalue
COUNT = 60
for i in range(COUNT):
    exec(f"def f{i}(): return f{(i + 1) % COUNT}, f{(i * 7 + 3) % COUNT}")
for i in range(COUNT // 2):
    exec(f"class C{i}:\\n def more(self): return f{i}, C{(i + 1) % (COUNT // 2)}")
instances = [globals()[f"C{i}"]() for i in range(COUNT // 2)]
described = []
describe = byvalue.describe_class
byvalue.describe_class = lambda cls: described.append(cls) or describe(cls)
counts = []
for _ in range(4):
    described.clear()
    sizes = [len(_atoll._encode(one)) for one in instances]
    counts.append(len(described))
assert sum(sizes) > 10_000_000, sizes
assert counts[0] > 0 == counts[-1], counts
f7.__defaults__ = ()
f7.__doc__ = "changed"
described.clear()
_atoll._encode(instances[0])
assert described
""",
    )


def test_a_receiver_that_has_only_what_goes_around_gets_the_rest():
    """What comes of Outer is skipped, as it is there: Inner is in it, and has to be had all the same."""
    check_script(
        """
class Inner:
    def outer(self): return Outer
class Outer:
    def inner(self): return Inner
class Third:
    def both(self): return Inner, Outer
def drop():
    import gc, sys
    global Inner
    Inner = vars(sys.modules["__main__"])["Inner"] = None
    gc.collect()
    return [one.__name__ for one in object.__subclasses__() if one.__name__ in ("Inner", "Outer", "Third")]
def names(*given): return [type(one).__name__ for one in given], type(given[1])().outer() is type(given[0])
def third(given): return [one.__name__ for one in given[1].both()]
with atoll.create() as interp:
    assert interp.call(names, Outer(), Inner()) == (["Outer", "Inner"], True)
    assert interp.call(drop) == ["Outer"]
    assert interp.call(names, Outer(), Inner()) == (["Outer", "Inner"], True)
with atoll.create() as interp:
    assert interp.call(names, Outer(), Inner()) == (["Outer", "Inner"], True)
    assert interp.call(lambda *given: len(given), "x" * 99, [Outer()], [Third(), Inner(), Outer()]) == 3
    assert interp.call(third, [Outer(), Third()]) == ["Inner", "Outer"]
""",
    )


def test_what_has_a_name_is_put_in_front_of():
    """That an object has a name is written before it, and moves its class, which others refer to."""
    check_script(
        """
class Stop:
    def node(self): return Node
class Node:
    def stop(self): return Stop
STOP = Stop()
def knows(): return STOP
def f(given): return given[0] is STOP, type(given[1]).__name__, type(given[0])().node() is type(given[1])
for order in range(2):
    with atoll.create() as interp, atoll.create() as other:
        interp.call(knows)
        for i in range(2):
            assert interp.call(f, [STOP, Node()]) == (True, "Node", True)
            kinds = other.call(lambda *given: [type(one).__name__ for one in given], "x" * i, STOP, Node(), Stop())
            assert kinds == ["str", "Stop", "Node", "Stop"], kinds
""",
    )


@pytest.mark.parametrize("both", [False, True])
def test_code_that_makes_instances_meanwhile_finds_whole_classes(both):
    """What X comes with is in what comes of B, if B has an instance, too; and is wanted before that."""
    check_script(
        f"""
class Holder:
    def __init__(self, held): self.held = held
    def __reduce__(self): return hold, (self.held,)
def hold(held): return Holder(held)
class A:
    def other(self): return B
class B:
    table = [Holder(1)]
    late = Holder(7)
    def other(self): return A
class X:
    def __getstate__(self): return 1
    def __setstate__(self, state): self.got = B.late.held
    def other(self): return B
A.data = Holder(X())
if {both}:
    B.data = Holder(X())
def use(given): return type(given).__name__, A.data.held.got, getattr(B, "data", A.data).held.got, len(B.table)
for given in A(), B(), [A(), B()][0], [B(), A()][0]:
    with atoll.create() as interp:
        for _ in range(2):
            assert interp.call(use, given) == (type(given).__name__, 7, 7, 1)
""",
    )
