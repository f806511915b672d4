"""Frozen objects behave as ordinary ones of their types do, in the interpreter that froze them and in others.

The tests run with ATOLL_DEBUG_FROZEN=1 (conftest.py): frozen pages are read-only; who writes there ends the process.
"""

from __future__ import annotations

import copy
import gc
import json
import math
import pickle
import random
import struct
import subprocess
import sys
import types
import weakref
from typing import Any

import pytest

import atoll
from helpers import VERSION, new, together

MAPPING: type = __builtins__["frozendict"] if VERSION >= (3, 15) else types.MappingProxyType  # type: ignore[index]

TABLE = {
    "name": "Grace", "naïve": "日本語", "\U0001f600": "\ud800", "empty": ["", b"", (), [], {}, set(), frozenset()],
    "numbers": [0, 1, -5, 257, 2**30, 2**64, -(10**40), 0.5, -0.0, 0.0, math.inf, 1j, -0j, True, False, None, ...],
    "bytes": [b"\0", b"ab", bytes(range(256)), bytearray(b"xyz")],
    ("t", 1): {1, 2, "x", (3, 4), frozenset({5})}, 7: range(3, 10**20, 7), None: {"a": {"b": {"c": [1, [2, [3]]]}}},
}  # fmt: skip


def thawed(obj: Any) -> Any:
    """An ordinary copy of frozen data, with dicts for its mappings."""
    if type(obj) is MAPPING:
        return {thawed(key): thawed(value) for key, value in obj.items()}
    if type(obj) is tuple:
        return tuple(map(thawed, obj))
    return frozenset(map(thawed, obj)) if type(obj) is frozenset else obj


def frozen_by_hand(obj: Any) -> Any:
    """What freeze() makes of obj, with dicts for its mappings."""
    if isinstance(obj, dict):
        return {frozen_by_hand(key): frozen_by_hand(value) for key, value in obj.items()}
    if isinstance(obj, tuple | list):
        return tuple(map(frozen_by_hand, obj))
    if isinstance(obj, set | frozenset):
        return frozenset(map(frozen_by_hand, obj))
    return bytes(obj) if isinstance(obj, bytearray) else obj


def parts(obj: Any) -> list[Any]:
    """The object and all its parts."""
    if type(obj) is MAPPING:
        return [obj, *(part for pair in obj.items() for one in pair for part in parts(one))]
    return [obj, *(part for one in obj for part in parts(one))] if type(obj) in (tuple, frozenset) else [obj]


def shape(obj: Any) -> str:
    """Like repr(), but the order of sets does not count."""
    if type(obj) is dict:
        return "{" + ", ".join(f"{shape(key)}: {shape(value)}" for key, value in obj.items()) + "}"
    if type(obj) is tuple:
        return "(" + ", ".join(map(shape, obj)) + ")"
    return f"set {sorted(map(shape, obj))}" if type(obj) is frozenset else f"{type(obj).__name__} {obj!r}"


@pytest.fixture(scope="module")
def table() -> Any:
    return atoll.freeze(TABLE)


def test_values_and_types(table: Any) -> None:
    assert type(table) is MAPPING
    assert shape(thawed(table)) == shape(frozen_by_hand(TABLE))
    for part in parts(table):
        assert type(part) in (
            str,
            bytes,
            int,
            float,
            complex,
            bool,
            type(None),
            type(...),
            tuple,
            frozenset,
            range,
            MAPPING,
        )
        if type(part) is not frozenset or part:
            assert atoll.is_frozen(part) or isinstance(part, float | complex)


def test_what_is_frozen_is_returned(table: Any) -> None:
    for part in parts(table):
        assert atoll.freeze(part) is part
    for obj in (None, True, ..., NotImplemented, 5, -5, 256, "", "a", "é", b"", b"a", ()):
        assert atoll.freeze(obj) is obj
        assert atoll.is_frozen(obj)
    assert not any(map(atoll.is_frozen, ([], {}, {1}, 10**9, "no such text", (1, 2), object(), int, len)))
    memory = atoll.frozen_memory()
    assert atoll.freeze([table, table])[0] is table
    assert atoll.frozen_memory() - memory < 8192  # in tests each freezing takes a page at least


def test_equal_parts_are_there_once() -> None:
    big = 10**30
    frozen = atoll.freeze(
        [
            ["one", "two"],
            ("on" + "e", "two"),
            {"k": [big]},
            {"k": [big + 0]},
            {1.5, big},
            {big, 1.5},
            [0.0],
            [-0.0],
            [1],
            [True],
        ]
    )
    assert frozen[0] is frozen[1]
    assert frozen[2] is frozen[3]
    assert frozen[4] is frozen[5]
    assert [repr(part) for part in frozen[6:]] == ["(0.0,)", "(-0.0,)", "(1,)", "(True,)"]


def test_what_is_not_equal_stays_apart() -> None:
    nan, other = float("nan"), float("nan")
    frozen = atoll.freeze(
        {nan: [nan, other, complex(nan, 0)], other: 2, "set": {nan, other}, "once more": nan}
    )
    first, second = [key for key in frozen if type(key) is float]
    assert frozen[first][0] is first is frozen["once more"]
    assert frozen[first][1] is second
    assert frozen[second] == 2
    assert set(map(id, frozen["set"])) == {id(first), id(second)}
    assert list(atoll.freeze({"a": 1, "b": 2})) != list(atoll.freeze({"b": 2, "a": 1}))


def test_operations(table: Any) -> None:
    assert table == frozen_by_hand(TABLE) | {}
    assert "name" in table and "nobody" not in table and table.get("nobody", 3) == 3
    assert f"{table['name']:>8}|{table['numbers'][7]:.2f}|{table['numbers'][3]:x}" == "   Grace|0.50|101"
    assert (
        table["empty"][1:3] == (b"", ())
        and table["bytes"][2][3:5] == b"\3\4"
        and table["naïve"][1:] == "本語"
    )
    assert struct.pack("<qd", table["numbers"][3], table["numbers"][7]) == struct.pack("<qd", 257, 0.5)
    assert (table["numbers"][5] + 1) * 2 == 2**65 + 2 and table["numbers"][4] - 1 == 2**30 - 1
    assert json.loads(json.dumps(table["empty"][:1] + table["numbers"][:5])) == ["", 0, 1, -5, 257, 2**30]
    assert {**table}["name"] == dict(table)["name"] == (table | {"name": 1} if False else table)["name"]
    assert sorted(atoll.freeze({"b": 1, "a": 2})) == ["a", "b"] and list(table)[:2] == ["name", "naïve"]
    assert list(reversed(atoll.freeze({"b": 1, "a": 2}).items())) == [("a", 2), ("b", 1)]
    assert dict.fromkeys(table["numbers"][:3], 0) == {0: 0, 1: 0, -5: 0}
    assert bytearray(table["bytes"][1]) + memoryview(table["bytes"][1])[:1] == b"aba"
    assert table[7][2] == 17 and 17 in table[7] and len(atoll.freeze(range(10))) == 10
    match table[None]:
        case {"a": {"b": {"c": (1, (2, (deepest,)))}}}:
            assert deepest == 3
        case _:
            pytest.fail("no match")
    with pytest.raises(TypeError):
        table["name"] = 1
    with pytest.raises(UnicodeEncodeError):
        table["\U0001f600"].encode()
    text = table["naïve"]
    assert text.encode() == "日本語".encode() and text.encode("utf-16-le") == "日本語".encode("utf-16-le")
    assert (text + "!", text * 2, text.upper(), text.isidentifier()) == (
        "日本語!",
        "日本語" * 2,
        "日本語",
        True,
    )


def test_hashes(table: Any) -> None:
    for part in parts(table):
        try:
            expected = hash(thawed(part))
        except TypeError:
            continue
        if type(part) is not MAPPING and not any(type(one) is MAPPING for one in parts(part)):
            assert hash(part) == expected
    own = {"name": 1, (3, 4): 2, 2**64: 3, b"ab": 4, frozenset({5}): 5, range(3, 10**20, 7): 6, -(10**40): 7}
    for part in parts(table):
        if not any(type(one) is MAPPING for one in parts(part)) and part in own:
            assert own[part] in range(1, 8)
    assert own[next(part for part in parts(table) if part == b"ab")] == 4


def test_copy_and_pickle(table: Any) -> None:
    for again in (
        copy.copy(table),
        copy.deepcopy(table),
        *(pickle.loads(pickle.dumps(table, p)) for p in range(2, 6)),
    ):
        assert type(again) is MAPPING
        assert shape(thawed(again)) == shape(thawed(table))
    assert copy.copy(table["numbers"]) is table["numbers"]
    assert pickle.loads(pickle._dumps(table["empty"])) == table["empty"]  # type: ignore[attr-defined]


def test_names(table: Any, interp: atoll.Interpreter) -> None:
    """Frozen text as names of attributes, keywords and globals, also of those that CPython knows."""
    names = [
        "__init__",
        "__add__",
        "__len__",
        "__class_getitem__",
        "value",
        "größe",
        "self",
        "x" * 300,
        "__eq__",
        "ordinary_name",
    ]
    frozen = atoll.freeze({name: number for number, name in enumerate(names)})

    def use(frozen: Any) -> list[Any]:
        import builtins
        import sys

        class Thing:
            pass

        thing = Thing()
        for name, number in frozen.items():
            if not name.startswith("__"):
                setattr(thing, name, number)
                assert getattr(thing, name) == thing.__dict__[name] == number
            assert sys.intern(name) == name
        twelve = "__a" + "dd__"
        name = next(one for one in frozen if one == twelve)
        setattr(Thing, name, lambda self, other: "added")
        setattr(Thing, next(one for one in frozen if one == "__len__"), lambda self: 12)
        made = builtins.type(next(iter(frozen)), (), dict(frozen))

        def keywords(value: int = 0, **others: int) -> Any:
            return value, others

        value, others = keywords(**{name: number for name, number in frozen.items() if name != "self"})
        space: dict[str, Any] = {}
        exec(compile("ordinary_name = 5", "<text>", "exec"), {}, space)
        code = compile("some_name", "<text>", "eval").replace(
            co_names=tuple(n for n in frozen if n == "ordinary_name")
        )
        found = eval(code, {next(n for n in frozen if n == "ordinary_name"): 77})
        return [
            thing + 1,
            len(thing),
            made.value,
            value,
            len(others),
            space["ordinary_name"],
            found,
            Thing.__name__,
        ]

    expected = ["added", 12, 4, 4, 8, 5, 77, "Thing"]
    assert use(frozen) == expected
    assert interp.call(use, frozen) == expected


def test_the_garbage_collector_takes_no_notice(table: Any) -> None:
    holder = [table, {"k": table["empty"]}]
    for _ in range(3):
        gc.collect()
    assert not any(gc.is_tracked(part) for part in parts(table))
    assert all(sys.getrefcount(part) > 2**29 for part in parts(table) if atoll.is_frozen(part))
    assert all(sys.getsizeof(part) > 0 for part in parts(table))
    gc.freeze()
    gc.collect()
    gc.unfreeze()
    assert holder[0] in gc.get_referrers(table) or gc.get_referrers(table) is not None


def test_there_are_no_weak_references() -> None:
    frozen = atoll.freeze({1, 2, 3})
    with pytest.raises(TypeError, match="cannot create weak reference to frozen 'frozenset' object"):
        weakref.ref(frozen)
    with pytest.raises(TypeError, match="cannot create weak reference to frozen 'frozenset' object"):
        weakref.proxy(frozen, print)
    with pytest.raises(TypeError, match="cannot create weak reference"):
        weakref.WeakValueDictionary(a=frozen)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="cannot create weak reference"):
        weakref.WeakSet([frozen])
    own = frozenset({1, 2})
    assert weakref.ref(own)() is own and weakref.proxy(own) == own
    with (
        new() as interp,
        pytest.raises(atoll.ExecutionFailed, match="cannot create weak reference to frozen"),
    ):
        interp.call(weakref.WeakSet, [frozen])


def test_classes_of_weak_references_that_were_there_before() -> None:
    """In each interpreter, not just in the one that freezes first."""
    process = subprocess.run(
        [sys.executable, "-c", OLDER_CLASSES], capture_output=True, text=True, timeout=60
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "refused\nrefused\n", "")


OLDER_CLASSES = """
import atoll

define = '''
from weakref import ref

class Reference(ref):
    pass

def refer(frozen):
    try:
        Reference(frozen)
    except TypeError:
        print("refused", flush=True)
'''
exec(define)
there = atoll.create()
there.exec(define)
frozen = atoll.freeze({"a", "b"})
refer(frozen)
there.prepare_main(frozen=frozen)
there.exec("refer(frozen)")
there.close()
"""


def test_deep_data() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    frozen = atoll.freeze(deep)
    steps = 0
    while frozen:
        (frozen,) = frozen
        steps += 1
    assert steps == 100_000
    while deep:
        (deep,) = deep  # or its end would recurse


def test_shared_parts_are_walked_once() -> None:
    node: Any = [1]
    for _ in range(100):
        node = [node, node]
    frozen = atoll.freeze(node)
    while len(frozen) == 2:
        assert frozen[0] is frozen[1]
        frozen = frozen[0]


class _Text(str):
    pass


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (object(), "obj: a object cannot be frozen: only str, bytes"),
        ([1, {"k": ({2: print},)}], r"obj\[1\]\['k'\]\[0\]\[2\]: a builtin_function_or_method cannot"),
        ({"k": [_Text("x")]}, r"obj\['k'\]\[0\]: a _Text, a subclass of str, cannot be frozen, .* freeze str\(it\)"),
        ({_Text("x"): 1}, "obj{…}: a _Text, a subclass of str"),
        ([{1, (2, type)}], r"obj\[0\]{…}\[1\]: a type cannot be frozen"),
        ({"x" * 90: memoryview(b"")}, r"obj\['x{36}\.\.\.\]: a memoryview cannot be frozen: freeze bytes\(it\)"),
        (types.MappingProxyType({"a": {"b": object()}}), r"obj\['a'\]\['b'\]: a object"),
        ([weakref.WeakValueDictionary()], r"obj\[0\]: a WeakValueDictionary cannot"),
    ],
)  # fmt: skip
def test_what_is_refused(obj: Any, message: str) -> None:
    memory = atoll.frozen_memory()
    with pytest.raises(atoll.NotShareableError, match=message):
        atoll.freeze(["some", "thing", 10**20, obj][-1])
    with pytest.raises(atoll.NotShareableError, match="cannot be frozen"):
        atoll.freeze([list(range(10**6, 10**6 + 200_000)), obj])
    assert atoll.frozen_memory() == memory
    assert atoll.freeze([10**6, "after it"]) == (10**6, "after it")


def test_named_tuples_and_enums_are_refused() -> None:
    import collections
    import datetime
    import decimal
    import enum

    point = collections.namedtuple("point", "x y")(1, 2)
    colour = enum.IntEnum("Colour", "RED").RED  # type: ignore[attr-defined]
    for obj in (
        point,
        colour,
        datetime.date(2020, 1, 1),
        decimal.Decimal(1),
        collections.OrderedDict(a=1),
        collections.Counter(),
    ):
        with pytest.raises(
            atoll.NotShareableError, match=rf"obj\['it'\]: a .*{type(obj).__name__}.* cannot be frozen"
        ):
            atoll.freeze({"it": obj})


def test_what_contains_itself_is_refused() -> None:
    items: list[Any] = [1]
    items.append({"me": (items,)})
    mapping: dict[str, Any] = {}
    mapping["list"] = [mapping]
    for obj, message in (
        (items, r"obj\[1\]\['me'\]\[0\]: a list that"),
        (mapping, r"obj\['list'\]\[0\]: a dict that"),
    ):
        with pytest.raises(atoll.NotShareableError, match=f"{message} contains itself"):
            atoll.freeze(obj)


def test_random_data() -> None:
    rng = random.Random(2)
    texts = ["a", "", "key", "größe", "日本", "\U0001f600x", "\ud800", "x" * 300]

    def make(depth: int, hashable: bool) -> Any:
        kind = rng.randrange(4 if depth == 0 else 8 if hashable else 12)
        many = range(rng.choice([0, 1, 3, 6, 40]))
        if kind < 4:
            numbers = [
                rng.randrange(-300, 300),
                rng.randrange(2**70),
                -rng.randrange(2**33),
                rng.random(),
                1.0,
                True,
                None,
                ...,
                2j,
            ]
            return rng.choice(
                [
                    *numbers,
                    *texts,
                    rng.choice(texts) + str(rng.randrange(50)),
                    rng.randbytes(rng.randrange(9)),
                ]
            )
        if kind < 6:
            return tuple(make(depth - 1, hashable) for _ in many)
        if kind < 8:
            return frozenset(make(depth - 1, True) for _ in many)
        if kind < 10:
            return {make(depth - 1, True): make(depth - 1, False) for _ in many}
        return (
            [make(depth - 1, hashable) for _ in many] if kind == 10 else {make(depth - 1, True) for _ in many}
        )

    for _ in range(40):
        obj = make(4, False)
        frozen = atoll.freeze(obj)
        assert shape(thawed(frozen)) == shape(frozen_by_hand(obj))
        for part in parts(frozen):
            if type(part) is MAPPING:
                assert all(part[key] is value for key, value in part.items())
                assert object() not in part and part.get(10**50) is None
                again = dict(part)
                again[object()] = again["more"] = 1
                assert len(again) in (len(part) + 1, len(part) + 2)
            elif type(part) is frozenset:
                assert all(one in part for one in part) and object() not in part and part | {1} == {1, *part}


def test_many_sizes() -> None:
    for count in (*range(25), 84, 85, 86, 170, 171, 5000, 50_000):
        keys = [f"key {number}" for number in range(count)]
        frozen = atoll.freeze([dict.fromkeys(keys, 1), {hash(key): key for key in keys}, set(keys)])
        assert all(key in frozen[0] and frozen[1][hash(key)] == key and key in frozen[2] for key in keys)
        assert len(frozen[0]) == len(frozen[1]) == len(frozen[2]) == count
        assert "absent" not in frozen[0] and "absent" not in frozen[2] and -7 not in frozen[1]


def test_four_interpreters_read_at_once(table: Any) -> None:
    data = atoll.freeze([{f"key {number}": [number, str(number)] for number in range(500)}, table])

    def read(data: Any) -> int:
        import gc

        total = 0
        for _ in range(2):
            for key, value in data[0].items():
                assert data[0]["".join(key)] is value and hash(value) == hash(tuple(value))
                total += value[0]
            gc.collect()
        return total

    def one(number: int) -> int:
        with new() as interp:
            return interp.call(read, data)

    assert together(4, one) == [2 * sum(range(500))] * 4


def test_interning(interp: atoll.Interpreter) -> None:
    """sys.intern() gives one object for equal text, whoever has it."""
    frozen = atoll.freeze(["some text to be interned", "größer", "short"])

    def look(texts: Any) -> bool:
        import marshal
        import sys

        class Thing:
            pass

        for text in texts:
            own = sys.intern(text[:3] + text[3:])
            setattr(Thing, text, 1)
            if not sys.intern(text) is own is sys.intern(own) or marshal.loads(marshal.dumps(own)) is not own:
                return False
        return sys.intern.__name__ == "intern" and "Intern" in (sys.intern.__doc__ or "")

    assert look(frozen) and interp.call(look, frozen)
    with pytest.raises(TypeError):
        sys.intern(1)  # type: ignore[arg-type]
