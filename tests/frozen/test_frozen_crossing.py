"""Frozen objects, and their parts, are the very same ones wherever they are sent."""

from __future__ import annotations

import asyncio
import copy
import types
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest

import atoll
from atoll import _atoll
from helpers import VERSION, identity, new

LARGE = {f"key {number}": [float(number), str(number) * 3, {number, "x"}] for number in range(3000)}


@pytest.fixture(scope="module")
def table() -> Any:
    return atoll.freeze(LARGE)


@pytest.fixture
def parts(table: Any) -> Iterator[list[Any]]:
    """A frozen mapping and parts of it of each kind."""
    first = table["key 300"]
    yield [table, first, first[0], first[1], first[2], next(key for key in table if key == "key 300")]


def test_a_message_has_a_pointer(table: Any, parts: list[Any]) -> None:
    for part in parts:
        assert len(_atoll._encode(part)) < 40
        assert _atoll._decode(_atoll._encode(part)) is part
    assert len(_atoll._encode([table] * 5)) < 150


def test_call(interp: atoll.Interpreter, table: Any, parts: list[Any]) -> None:
    for part in parts:
        assert interp.call(identity, part) is part
        assert interp.call(identity, [part, {part[0] if isinstance(part, str) else "k": part}])[0] is part
        found = interp.call(lambda *args, **kwargs: (args, kwargs), part, key=part)
        assert found[0][0] is part is found[1]["key"]
    assert interp.call(lambda data: data["key 7"][1], table) is table["key 7"][1]
    assert interp.call(lambda data: list(data.values()), table)[7] is table["key 7"]
    assert interp.call(lambda **names: list(names)[0], **{parts[-1]: 1}) is parts[-1]


def test_lists_of_frozen_numbers(interp: atoll.Interpreter) -> None:
    numbers = list(atoll.freeze([1.5, 2.5, 3.5, 4.5]))
    assert all(one is other for one, other in zip(interp.call(identity, numbers), numbers, strict=True))
    mixed = [0.25, 1.25, numbers[0], 2.25]
    assert interp.call(identity, mixed)[2] is numbers[0]
    large = list(atoll.freeze([10**6, 10**7, 10**8]))
    assert all(one is other for one, other in zip(interp.call(identity, tuple(large)), large, strict=True))


def test_keys_and_members(interp: atoll.Interpreter, parts: list[Any]) -> None:
    hashable = [part for part in parts[1:]]
    there = interp.call(identity, {part: part for part in hashable})
    assert all(any(key is part for key in there) and there[part] is part for part in hashable)
    members = interp.call(identity, (set(hashable), frozenset(hashable)))
    assert all(any(member is part for member in members[0]) for part in hashable)


def test_queue_pool_and_main(table: Any, parts: list[Any]) -> None:
    queue = atoll.create_queue()
    for part in parts:
        queue.put(part)
        queue.put([part])
        assert queue.get() is part
        assert queue.get()[0] is part
    with atoll.InterpreterPoolExecutor(2) as pool:
        assert pool.submit(identity, table).result() is table
        assert all(one is other for one, other in zip(pool.map(identity, parts), parts, strict=True))
        assert [*pool.map(lambda key: table[key][0], ["key 1", "key 2"])] == [1.0, 2.0]
    with new() as interp:
        interp.prepare_main(table=table, part=parts[1])
        interp.exec("assert table['key 300'] is part, part; import atoll; assert atoll.is_frozen(part)")
        assert interp.call(identity, interp.call(eval, "part")) is parts[1]

    async def through() -> Any:
        await queue.put_async(parts[1])
        return await queue.get_async()

    assert asyncio.run(through()) is parts[1]


def test_from_interpreter_to_interpreter(table: Any) -> None:
    queue = atoll.create_queue()
    with new() as first, new() as second:
        first.call(lambda queue, data: queue.put(data["key 5"]), queue, table)
        second.call(lambda queue: queue.put([queue.get()]), queue)
        assert queue.get()[0] is table["key 5"]


def test_what_functions_have(interp: atoll.Interpreter, table: Any) -> None:
    part = table["key 9"]

    def with_default(key: str, data: Any = table) -> Any:
        return data[key]

    def with_variable(key: str) -> Any:
        return table[key], part

    assert interp.call(with_default, "key 9") is part
    assert interp.call(with_variable, "key 9") == (part, part)
    assert interp.call(with_variable, "key 9")[1] is part

    class Holder:
        data = table

        def __init__(self) -> None:
            self.part = part

    there = interp.call(identity, Holder())
    assert there.part is part and there.data is table
    space: dict[str, Any] = {"DATA": table, "__name__": "__main__"}
    exec("def read(key): return DATA[key]", space)
    assert interp.call(space["read"], "key 9") is part
    space["DATA"] = atoll.freeze({"key 9": "other"})
    assert interp.call(space["read"], "key 9") == "other"


def test_it_is_shareable(table: Any, parts: list[Any]) -> None:
    assert all(map(atoll.is_shareable, parts))
    assert atoll.is_shareable((table, 1)) and not atoll.is_shareable({"a": 1})


def test_nobody_is_led_astray(table: Any) -> None:
    """Bytes say where an object lies; whatever else they say, nothing is there."""
    data = _atoll._encode(table)
    for at in range(1, len(data)):
        for bit in range(8):
            wrong = bytearray(data)
            wrong[at] ^= 1 << bit
            with pytest.raises(ValueError, match="malformed message: a frozen object that is not there"):
                _atoll._decode(bytes(wrong))
        with pytest.raises(ValueError, match="malformed message: it ends too early"):
            _atoll._decode(data[:at])


def test_other_interpreters_freeze(table: Any) -> None:
    def freeze_there(data: Any) -> Any:
        import atoll

        made = atoll.freeze({"here": [1.5, "text of there"], "there": data})
        assert made["there"] is data
        return made, made["here"]

    with new() as interp:
        made, part = interp.call(freeze_there, table)
        assert made["here"] is part and made["there"] is table
        assert atoll.is_frozen(made) and interp.call(identity, part) is part
    assert made["here"] == (1.5, "text of there")


def test_other_mapping_proxies(interp: atoll.Interpreter, table: Any) -> None:
    """Those of the program's own still show what their mapping has, where frozen objects are known."""

    def change(own: Any, proxy: Any, ordered: Any) -> Any:
        own["b"] = 2
        return dict(proxy), repr(ordered)

    own = {"a": 1}
    proxy = types.MappingProxyType(own)
    ordered = types.MappingProxyType(OrderedDict(a=1))
    assert interp.call(len, table) == len(LARGE)
    assert interp.call(change, own, proxy, ordered) == ({"a": 1, "b": 2}, repr(ordered))
    assert _atoll._decode(_atoll._encode(table)) is table
    if VERSION < (3, 15):  # there the copy module refuses them, as frozen dicts need nothing of it
        shallow = copy.copy(proxy)
        own["c"] = 3
        assert dict(shallow) == {"a": 1, "c": 3}
