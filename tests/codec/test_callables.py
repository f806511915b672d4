"""What is called need not be a Python function: builtins, methods of builtin types, classes, what extensions make."""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import functools
import math
import operator
import os
import re
import sys
import textwrap
import types

import pytest

import atoll

PATTERN = re.compile("a(b*)")
WORDS = ", "
CALLS = {
    "len": (len, "four"),
    "math.sqrt": (math.sqrt, 4.0),
    "math.dist": (math.dist, (0, 0), (3, 4)),
    "int": (int, "12"),
    "dict": (dict, ((1, 2),)),
    "type": (type, 3),
    "ValueError": (ValueError, "x"),
    "str.upper": (str.upper, "a"),
    "int.__add__": (int.__add__, 1, 2),
    "dict.fromkeys": (dict.fromkeys, "ab"),
    "datetime.date": (datetime.date, 2020, 1, 2),
    "datetime.date.fromisoformat": (datetime.date.fromisoformat, "2020-01-02"),
    "collections.Counter": (collections.Counter, "aab"),
    "collections.OrderedDict.fromkeys": (collections.OrderedDict.fromkeys, "ab"),
    "decimal.Decimal": (decimal.Decimal, "1.5"),
    "operator.add": (operator.add, 1, 2),
    "operator.itemgetter": (operator.itemgetter(1), "abc"),
    "os.path.join": (os.path.join, "a", "b"),
    "functools.reduce": (functools.reduce, operator.add, [1, 2, 3]),
    "functools.partial": (functools.partial(math.pow, 2), 3),
    "a str's method": (WORDS.join, ["a", "b"]),
    "a pattern's method": (PATTERN.findall, "abbab"),
    "a dict's method": ({"a": 1}.get, "a"),
    "a list's method": ([1, 2, 1].count, 1),
    "a long str's method": (("x" * 5000).count, "x"),
    "a class method": (int.from_bytes, b"\1\2", "big"),
    "eval": (eval, "1 + 2"),
    "dir": (dir,),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_time(name, interp):
    function, *args = CALLS[name]
    wanted = function(*args) if name != "dir" else interp.call(dir)
    for _ in range(4):
        result = interp.call(function, *args)
        assert str(result) == str(wanted)
        assert type(result) is type(wanted)
    with atoll.create() as other:
        assert str(other.call(function, *args)) == str(wanted) or name == "dir"


def test_in_a_pool():
    with atoll.InterpreterPoolExecutor(2) as pool:
        for function, *args in CALLS.values():
            futures = [pool.submit(function, *args) for _ in range(4)]
            if function is not dir:
                assert {str(future.result()) for future in futures} == {str(function(*args))}
        assert list(pool.map(math.sqrt, [1, 4, 9])) == [1, 2, 3]
        assert list(pool.map(WORDS.join, ["ab", "cd"])) == ["a, b", "c, d"]


def test_many_methods_of_values(interp):
    for word in [str(number) for number in range(300)] * 2:
        assert interp.call(word.zfill, 5) == word.zfill(5)


def test_what_a_value_was(interp):
    """Objects that are gone may have had the address of others."""
    for number in range(200):
        kind = type(
            "Kind", (), {"__module__": "nowhere", "number": number, "m": classmethod(lambda cls: cls.number)}
        )
        assert interp.call(kind.m) == number
        assert interp.call(bytearray(str(number), "ascii").decode) == str(number)


@pytest.fixture
def module(monkeypatch, tmp_path):
    """A module that this interpreter and others can import."""
    (tmp_path / "callables_module.py").write_text(
        textwrap.dedent(
            """
            class First:
                which = 1
            class Second:
                which = 2
            class Client:
                def __init__(self, place): self.place = place
                def fetch(self, what): return self.place, what
            def connect(place):
                global fetch
                fetch = Client(place).fetch
            class Labelled:
                def __init__(self, x=0): self.x = x
                def again(self): return super().__init__() or self.x
            Labelled.__module__ = "callables_module.lazily"
            from math import sqrt, floor
            import functools
            @functools.lru_cache
            def cached(): return "cached"
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import callables_module

    yield callables_module
    del sys.modules["callables_module"]


def test_what_the_name_stands_for_now(module, interp):
    first = module.First
    for _ in range(3):
        assert interp.call(module.First).which == 1
    module.First = module.Second
    for _ in range(3):
        assert interp.call(module.Second).which == 2
    del module.First
    # It has no path any more.
    copy = interp.call(first)
    assert copy.which == 1


def test_what_is_no_definition_is_what_its_name_stands_for_there(module, interp):
    for _ in range(3):
        assert interp.call(module.cached) == "cached"
    interp.exec(
        """
        import callables_module, functools
        @functools.lru_cache
        def another(): return "another"
        callables_module.cached = another
        """
    )
    for _ in range(3):
        assert interp.call(module.cached) == "another"


def test_what_has_come_to_the_address_of_what_had_a_name(module, interp):
    for _ in range(3):
        assert interp.call(module.cached) == "cached"
    address = id(module.cached)
    module.cached = None
    kept = []
    for n in range(1000):
        kept.append(functools.lru_cache(lambda n=n: n))
        if id(kept[-1]) == address:
            assert interp.call(kept[-1]) == n
            break


def test_method_that_the_program_has_put_into_a_module(module, interp):
    module.connect("here")
    assert interp.call(module.fetch, 1) == ("here", 1)
    assert interp.call(lambda fetch: fetch(2), module.fetch) == ("here", 2)


def test_class_that_says_it_is_of_a_module_that_is_not_imported(module, interp):
    def is_own(x, cls):
        import callables_module

        return type(x) is cls is callables_module.Labelled, x.again()

    assert interp.call(is_own, module.Labelled(3), module.Labelled) == (True, 3)
    assert type(interp.call(module.Labelled, 2)) is module.Labelled


def test_builtin_that_has_lost_its_name(interp, monkeypatch):
    for _ in range(3):
        assert interp.call(math.sqrt, 4) == 2
    sqrt = math.sqrt
    monkeypatch.setattr(math, "sqrt", math.floor)
    with pytest.raises(atoll.NotShareableError, match="callable.*builtin_function"):
        interp.call(sqrt, 4)
    assert interp.call(math.sqrt, 4.5) == 4
    monkeypatch.undo()
    assert interp.call(sqrt, 4) == 2


def test_new_definitions_cost_no_more_than_a_look(module, interp):
    for number in range(5):
        assert interp.call(module.First).which == 1
        setattr(module, f"more_{number}", lambda: None)
        setattr(builtins, f"callables_{number}", len)
    for number in range(5):
        delattr(builtins, f"callables_{number}")


def count_lookups(name):
    class Counting(types.ModuleType):
        lookups = 0

        def __getattr__(self, attribute):
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            Counting.lookups += 1
            return {"First": str}[attribute]

    sys.modules[name] = Counting(name)


def lookups():
    return sys.modules["callables_module"].lookups


def test_sent_by_number(module, interp):
    interp.call(count_lookups, "callables_module")
    for _ in range(6):
        assert interp.call(module.First, 3) == "3"
    assert interp.call(lookups) in (1, 2)
