"""Code of the program's that runs in the midst of the codec's own work: keys that are compared, values that go."""

from __future__ import annotations

import textwrap

import pytest

import atoll
from atoll import _atoll
from helpers import check_ended, run_python

# A key that is found where `name` is looked for, and runs meanwhile() once, when it is compared for the count-th time.
KEY = """
import atoll, sys, types, weakref
count = [-1]
def key_like(name, meanwhile):
    class Key(str):
        def __hash__(self): return hash(name)
        def __eq__(self, other):
            count[0] -= 1
            if count[0] == 0:
                meanwhile()
            return False
    return Key("")
def fill_free_lists():  # what goes next is given back to the allocator, which overwrites it
    [{} for _ in range(200)], [[n] for n in range(200)], [(n + 10**9, n, n, n, n) for n in range(3000)]
"""


def run(source: str) -> None:
    done = run_python(KEY + textwrap.dedent(source), environment={"PYTHONMALLOC": "debug"})
    check_ended(done, 0, "done\n")


@pytest.mark.parametrize("count", range(1, 4))
def test_globals_that_go_while_they_are_compared(count):
    run(f"""
    def meanwhile():
        fill_free_lists()
        X.clear()
    space = {{"__name__": "__main__", key_like("data", meanwhile): 1, "data": [1]}}
    exec("def g(): return data", space)
    X = [space.pop("g")]
    del space
    def f(): return len(X) and X[0]()
    with atoll.create() as interp:
        assert interp.call(f) == interp.call(f) == [1]
        count[0] = {count}
        assert interp.call(f) in (0, [1])
    print("done")
    """)


@pytest.mark.parametrize("count", range(1, 8))
def test_names_that_are_forgotten_while_they_are_looked_for(count):
    run(f"""
    class Thing:
        def __init__(self): self.n = 0
    def meanwhile():
        fill_free_lists()
        other.call(use_many)
        fill_free_lists()
    many = {{"__name__": "__main__", "Thing": Thing}}
    exec("class Many:\\n" + "".join(f"  a{{n}} = Thing()\\n" for n in range(4200)), many)
    exec("def use_many(): return 1 if Many else 0", many)
    use_many = many["use_many"]
    thing = Thing()
    space = {{"__name__": "__main__", key_like("THING", meanwhile): 1, "THING": thing}}
    exec("def f(x): return x is THING", space)
    with atoll.create() as interp, atoll.create() as other:
        assert interp.call(space["f"], thing)
        count[0] = {count}
        assert interp.call(space["f"], thing) in (True, False)
        count[0] = -1
        assert interp.call(space["f"], thing)
    print("done")
    """)


def test_function_that_gets_other_code_while_it_is_numbered():
    run("""
    class Name(str):
        armed = False
        def __del__(self):
            if Name.armed:
                Name.armed = False
                last.__code__ = (lambda: 2).__code__
                copies.clear()
    def make(name):
        made = types.FunctionType(code[0], globals(), "f")
        made.__qualname__ = name
        return made
    def use(function):
        return interp.call(function)
    code = [compile("def f(): return 1", "f", "exec").co_consts[0]]
    copies = [make(Name(n)) for n in range(8)]
    with atoll.create() as interp:
        for n in range(8):
            assert use(copies[n]) == 1
        for n in range(8):
            copies[n].__qualname__ = "other"
        last = make("last")
        code.clear()
        Name.armed = True
        assert use(last) in (1, 2) and not Name.armed
    print("done")
    """)


SCRIPT = """
import collections
class Odd:
    def __reduce__(self): return Odd, ()
class Holder:
    odd = Odd()
    queue = collections.deque([Odd()])
def use(): return Holder
"""


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
class TestErrorsThatMustNotBeLost:
    def test_where_it_is_asked_what_can_wait(self, error, monkeypatch):
        from atoll._crossing import byvalue

        def shell_of(obj):
            raise error

        space = {"__name__": "__main__"}
        exec(SCRIPT, space)
        monkeypatch.setattr(byvalue, "shell_of", shell_of)
        with pytest.raises(error):
            _atoll._encode(space["use"])
        with pytest.raises(error):
            _atoll._encode(space["Holder"])

    def test_where_what_waited_is_looked_after(self, error):
        """What was received is there all the same."""
        source = f"""
        from atoll._crossing import byvalue
        fill, failed = byvalue.fill_shell, []
        def fill_shell(shell, contents):
            if len(shell) == len(contents) and not failed:
                failed.append(1)
            elif len(failed) == 1:
                failed.append(2)
                raise {error.__name__}
            return fill(shell, contents)
        byvalue.fill_shell = fill_shell
        """
        space = {"__name__": "__main__"}
        exec(SCRIPT, space)
        with atoll.create() as interp:
            interp.exec(textwrap.dedent(source))
            with pytest.raises(
                (error, atoll.ExecutionFailed), match=error.__name__ if error is not SystemExit else None
            ):
                interp.call(space["use"])
            assert len(interp.call(space["use"]).queue) == 1

    def test_where_what_a_function_reaches_is_compared(self, error):
        """In an interpreter that has received an object with a name, whose identity is another's."""
        run(f"""
        class Odd:
            fails = False
            def __reduce__(self):
                if Odd.fails:
                    Odd.fails = False
                    raise {error.__name__}
                return Odd, ()
        odds = [Odd()]
        def f(): return len(odds)
        with atoll.create() as interp, atoll.create() as other:
            other.exec("class Thing: pass")
            other.exec("THING = Thing()")
            other.exec("def give(): return THING")
            other.exec("def put(q): q.put(give())")
            q = atoll.create_queue()
            other.prepare_main(q=q)
            other.exec("import atoll; atoll.create().call(give); put(q)")
            q.get()
            assert interp.call(f) == interp.call(f) == 1
            Odd.fails = True
            try:
                interp.call(f)
                print("lost")
            except {error.__name__}:
                print("done")
            for one in atoll.list_all()[1:]:
                one.close()
        """)
