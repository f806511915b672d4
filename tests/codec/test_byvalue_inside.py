"""A message that is received while another is, on the same thread: neither changes what the other brings."""

from __future__ import annotations

from byvalue_helpers import check_script

# An instance that has another message received when it comes, once, and may fail then; `received` is what came.
MADE = """
queue = atoll.create_queue()
class Asking:
    def __getstate__(self): return {"there": True}
    def __setstate__(self, state):
        import sys
        if not queue.empty():
            sys.received, fails = queue.get()
            if fails:
                raise ConnectionError("not today")
        self.__dict__.update(state)
def ask():
    try:
        interp.call(f)
    except atoll.ExecutionFailed as error:
        assert error.excinfo.type.__name__ == "ConnectionError"
    else:
        raise AssertionError("it should have failed")
"""


def test_object_that_is_not_bound_yet_stays_one():
    check_script(
        f"""
{MADE}
class Made:
    def __reduce__(self): return make, (self.parts,)
def make(parts):
    made = object.__new__(Made)
    made.parts = parts
    return made
items = [Asking()]
def local():
    class Local: pass
    return Local
hidden = Made()
hidden.parts = (Asking(), local())
hidden.parts[1].items = items
def f(): return items is hidden.parts[1].items, len(items)
queue.put((1, False))
with atoll.create() as interp:
    assert interp.call(f) == (True, 1)
    items.append(2)
    assert interp.call(f) == (True, 2)
""",
    )


def test_class_that_came_stays_when_the_one_around_it_fails():
    check_script(
        f"""
{MADE}
class Item: pass
asking = Asking()
def f(): return asking.there
def is_same(item): import sys; return type(item) is type(sys.received)
queue.put((Item(), True))
with atoll.create() as interp:
    ask()
    assert interp.call(is_same, Item())
    assert interp.call(f)
""",
    )


def test_class_that_leans_on_one_that_fails_is_made_again():
    check_script(
        f"""
{MADE}
class Base: pass
class Derived(Base): pass
Base.asking = Asking()
def f(): return Base.asking.there
def is_one(item, base): return isinstance(item, base) and isinstance(item, Base)
queue.put((Derived(), True))
with atoll.create() as interp:
    ask()
    assert interp.call(is_one, Derived(), Base)
    assert interp.call(f)
""",
    )


def test_list_that_came_keeps_what_is_put_into_it():
    check_script(
        f"""
{MADE}
class Made:
    def __reduce__(self): return Made, ()
kept = [Made()]
def add(item):
    kept.append(item)
    return len(kept)
class Adding(Asking):
    def __setstate__(self, state):
        import sys
        super().__setstate__(state)
        sys.received("one"), sys.received("two")
adding = Adding()
def f():
    import sys
    return adding.there and sys.received("three")
queue.put((add, False))
with atoll.create() as interp:
    assert interp.call(f) == 4
""",
    )


def test_what_it_changes_is_as_it_is_at_home_in_the_next_call():
    check_script(
        f"""
{MADE}
class Config: rate = 1
levels = [1]
def look(): return Config.rate, levels[0]
asking = Asking()
def f(): return asking.there, Config.rate, levels[0]
class Uses:
    asking = asking
    def look(self): return Config.rate, levels[0]
def g(uses): return uses.look()
for called in ((f,), (g, Uses())):
    with atoll.create() as interp:
        Config.rate, levels[0] = 1, 1
        queue.put((look, False))
        Config.rate, levels[0] = 2, 2
        interp.call(*called)
        assert interp.call(*called)[-2:] == (2, 2)
""",
    )
