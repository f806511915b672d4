"""Arrays in what is frozen: read-only, in memory that all interpreters see, with frozen objects around them."""

from __future__ import annotations

import array
import copy
import gc
import io
import pickle
import random
import types
from typing import Any

import pytest

import atoll
from atoll import _atoll
from helpers import VERSION, identity, new, together

MAPPING: type = __builtins__["frozendict"] if VERSION >= (3, 15) else types.MappingProxyType  # type: ignore[index]

TABLE = {f"key {number}": (number, str(number)) for number in range(1000)}


def numbers(count: int = 6) -> Any:
    """A new array of floats."""
    return array.array("d", range(count))


@pytest.fixture
def frozen() -> Any:
    """A structure with one array in several places."""
    weights = numbers()
    return atoll.freeze(
        {
            "weights": weights,
            "table": TABLE,
            "more": [weights, {"same": weights, "n": 10**20}],
            "text": "x" * 50,
        }
    )


def check(frozen: Any) -> Any:
    """Looks at what the fixture has made, in any interpreter, and returns it."""
    weights = frozen["weights"]
    assert type(weights) is atoll.SharedArray
    assert weights.readonly and weights.tolist() == [0, 1, 2, 3, 4, 5] and weights.dtype == "float64"
    assert frozen["more"][0] is weights is frozen["more"][1]["same"]
    for part in (frozen, *frozen.values(), *frozen["more"], weights[2:], weights.T, weights.reshape(2, 3)):
        assert atoll.is_frozen(part)
        assert atoll.freeze(part) is part
    assert atoll.freeze([frozen, frozen])[1] is frozen
    assert type(frozen) is type(frozen["table"]) is type(frozen["more"][1])
    return frozen


def test_structure(frozen: Any) -> None:
    assert type(frozen) is MAPPING
    assert type(frozen["more"]) is tuple
    check(frozen)
    assert list(frozen) == ["weights", "table", "more", "text"]
    assert frozen["table"] == TABLE
    assert (
        {**frozen}["more"] == frozen["more"] and len(frozen) == 4 and "table" in frozen and "no" not in frozen
    )
    assert "SharedArray((6,), 'float64'), read-only>" in repr(frozen)
    with pytest.raises(TypeError):
        hash(frozen)


def test_only_what_leads_to_arrays_crosses(interp: atoll.Interpreter, frozen: Any) -> None:
    queue = atoll.create_queue()
    there = interp.call(check, frozen)
    queue.put(there)
    for received in (there, check(queue.get()), *interp.call(lambda *args: args, frozen, frozen)):
        assert atoll.is_frozen(check(received))
        assert received["table"] is frozen["table"] and received["text"] is frozen["text"]
        assert received["more"][1]["n"] is frozen["more"][1]["n"]
    interp.prepare_main(data=frozen)
    assert (
        interp.exec("import atoll; assert atoll.is_frozen(data) and data['more'][0] is data['weights']")
        is None
    )
    with atoll.InterpreterPoolExecutor(2) as pool:
        assert all(map(atoll.is_frozen, pool.map(check, [frozen] * 5)))
        assert pool.submit(lambda: frozen["weights"][3]).result() == 3.0
    assert atoll.is_shareable(frozen)


def test_memory_is_the_same(interp: atoll.Interpreter, frozen: Any) -> None:
    def address(data: Any) -> int:
        import ctypes

        class Struct(ctypes.Structure):
            _fields_ = [("buf", ctypes.c_void_p), ("rest", ctypes.c_char * 200)]

        view = Struct()
        get = ctypes.pythonapi.PyObject_GetBuffer
        get.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
        assert get(data["weights"], ctypes.addressof(view), 0) == 0
        address = int(view.buf)
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))
        return address

    assert interp.call(address, frozen) == address(frozen)


def test_nobody_writes(frozen: Any) -> None:
    weights = frozen["weights"]
    for write in (
        lambda: weights.__setitem__(0, 1.0),
        lambda: memoryview(weights).__setitem__(0, 1.0),
        lambda: memoryview(weights[1:]).cast("B").__setitem__(0, 1),
        lambda: frozen.__setitem__("weights", 1),
        lambda: io.BytesIO(b"12345678").readinto(weights),
    ):  # fmt: skip
        with pytest.raises((TypeError, AttributeError, BufferError)):
            write()
    assert weights.tolist() == [0, 1, 2, 3, 4, 5]


def test_what_is_an_array() -> None:
    shared = atoll.SharedArray((2, 3), "int32")
    shared[:] = 7
    buffer = atoll.SharedBuffer.from_bytes(b"abcdef")
    frozen = atoll.freeze(
        [shared, shared.T, shared.toreadonly(), buffer, buffer[::2], array.array("h", [1, 2])]
    )
    shared[0, 0] = 1
    buffer[0] = 0
    assert [type(part) for part in frozen] == [atoll.SharedArray] * 3 + [atoll.SharedBuffer] * 2 + [
        atoll.SharedArray
    ]
    assert all(part.readonly for part in frozen)
    assert (
        frozen[0].tolist() == [[7] * 3] * 2
        and frozen[1].shape == (3, 2)
        and frozen[2].tolist() == [[7] * 3] * 2
    )
    assert bytes(frozen[3]) == b"abcdef" and bytes(frozen[4]) == b"ace" and frozen[5].tolist() == [1, 2]
    assert atoll.is_frozen(atoll.freeze(numbers())) and not atoll.is_frozen(shared.toreadonly())


def test_arrays_of_numpy(interp: atoll.Interpreter) -> None:
    numpy = pytest.importorskip("numpy")
    arrays = [
        numpy.arange(24.0).reshape(2, 3, 4),
        numpy.arange(24).reshape(4, 6)[::2, ::-3],
        numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
        numpy.broadcast_to(numpy.arange(3), (4, 3)),
        numpy.array(2.5),
        numpy.zeros((0, 3)),
        numpy.array([1, 2], ">i4"),
        numpy.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]),
        numpy.array(["one", "three"]),
        numpy.array([b"one", b"three"]),
        numpy.array([True, False]),
        numpy.array([1 + 2j]),
        numpy.arange(100_000),
    ]
    read_only = numpy.arange(5)
    read_only.flags.writeable = False
    arrays.append(read_only)

    def read(frozen: Any) -> Any:
        import numpy

        return [(numpy.asarray(part).dtype.str, numpy.asarray(part).tolist()) for part in frozen]

    frozen = atoll.freeze(arrays)
    assert interp.call(read, frozen) == [(part.dtype.str, part.tolist()) for part in arrays]
    for part, original in zip(frozen, arrays, strict=True):
        shown = numpy.asarray(part)
        assert shown.shape == original.shape and not shown.flags.writeable
        with pytest.raises(ValueError, match="read-only|WRITEABLE"):
            shown[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            shown.flags.writeable = True


def test_what_is_refused() -> None:
    numpy = pytest.importorskip("numpy")
    gc.collect()  # what earlier tests have left
    memory, shared = atoll.frozen_memory(), _atoll._shared_memory()
    matrix = type("Mine", (numpy.ndarray,), {})
    for obj, message in (
        (
            numpy.array([1, "x"], object),
            r"a numpy.ndarray of Python objects cannot be frozen: freeze its tolist\(\)",
        ),
        (
            numpy.array([1], "M8[ns]"),
            r"a numpy.ndarray of datetime64\[ns\] cannot be frozen: freeze its view",
        ),
        (numpy.array([1], "m8[s]"), r"a numpy.ndarray of timedelta64\[s\] cannot be frozen: freeze its view"),
        (numpy.zeros(2, "V8"), r"a numpy.ndarray of \|V8 cannot be frozen: .* raw bytes"),
        (numpy.zeros(2, []), r"a numpy.ndarray of \[\] cannot be frozen: the elements .* have no bytes"),
        (
            numpy.zeros(2).view(matrix),
            r"a Mine, a subclass of numpy.ndarray, cannot be frozen: freeze numpy.asarray",
        ),
        (numpy.ma.masked_array([1], [0]), r"a MaskedArray, a subclass of numpy.ndarray"),
        (numpy.int64(3), r"a numpy.int64 cannot be frozen: freeze it.item\(\)"),
        (numpy.float64(3), r"a numpy.float64 cannot be frozen: freeze it.item\(\)"),
        (memoryview(b"abc"), r"a memoryview cannot be frozen: freeze bytes\(it\)"),
        (type("Sub", (array.array,), {})("i", [1]), r"a Sub, a subclass of array.array, cannot be frozen"),
    ):
        with pytest.raises(atoll.NotShareableError, match=rf"^obj\['k'\]\[1\]: {message}"):
            atoll.freeze({"one": numbers(), "k": [numpy.arange(5), obj], "table": TABLE})
    assert (atoll.frozen_memory(), _atoll._shared_memory()) == (memory, shared)


def test_copy_and_pickle(interp: atoll.Interpreter, frozen: Any) -> None:
    weights = frozen["weights"]
    assert copy.copy(weights) is weights is copy.deepcopy(weights)
    assert copy.deepcopy(frozen["more"]) == frozen["more"]
    flat = atoll.freeze([weights, (1, [weights])])
    assert copy.copy(flat) is flat is copy.deepcopy(flat)
    changed = weights.copy()
    changed[0] = 5
    assert changed.tolist()[0] == 5 and not atoll.is_frozen(changed)

    def use(frozen: Any) -> Any:
        import copy
        import pickle

        copied = copy.deepcopy(frozen)
        assert copied["more"][0] is copied["weights"]
        back = pickle.loads(pickle.dumps(frozen))
        assert type(back) is type(frozen) and back["weights"].readonly and back["more"][0] is back["weights"]
        return back["weights"].tolist()

    assert use(frozen) == interp.call(use, frozen) == [0, 1, 2, 3, 4, 5]
    assert pickle.loads(pickle.dumps(flat)) == flat


def test_what_is_frozen() -> None:
    weights = atoll.freeze(numbers())
    assert atoll.is_frozen((weights, 1, ("x", weights)))
    assert not any(
        map(atoll.is_frozen, ((weights, []), (weights, object()), [weights], {"k": weights}, (1, 2)))
    )
    assert not atoll.is_frozen(types.MappingProxyType({"k": weights}))
    nested: Any = (weights,)
    for _ in range(100):
        nested = (nested, nested)  # 2**100 paths
    assert atoll.is_frozen(nested) and atoll.freeze(nested) is nested
    deep: Any = (weights,)
    for _ in range(100_000):
        deep = (deep,)
    assert atoll.is_frozen(deep)
    assert atoll.freeze([deep])[0] is deep


def test_parts_of_another_area_are_copied_only_where_they_must(frozen: Any) -> None:
    with atoll.freezing():
        both = atoll.freeze([frozen, {"text": frozen["text"]}])
    assert both[0] is frozen and both[1]["text"] == frozen["text"]


@pytest.mark.usefixtures("no_memory_left")
def test_memory_goes_with_the_last_that_has_it() -> None:
    interp = new()
    frozen = atoll.freeze({"weights": numbers(100_000), "n": 1})
    there = interp.call(identity, frozen)
    del frozen
    assert there["weights"][99_999] == 99_999
    queue = atoll.create_queue()
    queue.put(there)
    interp.close()
    del there
    assert queue.get()["weights"][5] == 5
    for collected in (False, True):
        frozen = atoll.freeze([numbers(), {"k": numbers()}])
        holder: list[Any] = [frozen]
        if collected:
            holder.append(holder)
        del frozen, holder
    gc.collect()


@pytest.mark.usefixtures("no_memory_left")
def test_the_end_of_the_interpreter_that_froze_it() -> None:
    def make(block: bool) -> Any:
        import array

        import atoll

        data = {"weights": array.array("d", range(1000)), "table": {"k": [1, 10**30]}}
        if block:
            with atoll.freezing():
                return atoll.freeze(data)
        return atoll.freeze(data)

    for block in (False, True):
        with new() as maker:
            received = maker.call(make, block)
        assert atoll.is_frozen(received)
        assert received["weights"][999] == 999 and received["table"]["k"] == (1, 10**30)


def test_four_interpreters_at_once(frozen: Any) -> None:
    interps = [new() for _ in range(4)]

    def use(number: int) -> bool:
        for _ in range(50):
            there = interps[number].call(check, frozen)
            if check(there)["table"] is not frozen["table"]:
                return False
        return True

    assert together(4, use) == [True] * 4
    for interp in interps:
        interp.close()


def test_random_structures(interp: atoll.Interpreter) -> None:
    """Each array, and each container, is in the copy where it is in the original."""
    rng = random.Random(20)
    for _ in range(60):
        made: list[Any] = [numbers(rng.randrange(4)) for _ in range(3)]
        for _ in range(rng.randrange(1, 25)):
            parts = [
                rng.choice([rng.choice(made), rng.randrange(10**9), "text", 0.5])
                for _ in range(rng.randrange(5))
            ]
            made.append(
                rng.choice([list, tuple, lambda some: {f"k{n}": part for n, part in enumerate(some)}])(parts)
            )
        frozen = atoll.freeze(made)
        there = interp.call(check_same_shape, frozen)
        for one in (frozen, there):
            assert atoll.is_frozen(one)
            seen: dict[int, Any] = {}
            compare(made, one, seen)


def check_same_shape(frozen: Any) -> Any:
    """In another interpreter."""
    assert atoll.is_frozen(frozen) and atoll.freeze(frozen) is frozen
    return frozen


def compare(original: Any, frozen: Any, seen: dict[int, Any]) -> None:
    if id(original) in seen:
        assert seen[id(original)] is frozen
        return
    if isinstance(original, array.array | list | dict):
        seen[id(original)] = frozen
    if isinstance(original, array.array):
        assert frozen.tolist() == original.tolist()
    elif isinstance(original, dict):
        assert list(original) == list(frozen) and type(frozen) is MAPPING
        for key in original:
            compare(original[key], frozen[key], seen)
    elif isinstance(original, list | tuple):
        assert len(original) == len(frozen) and type(frozen) is tuple
        for one, other in zip(original, frozen, strict=True):
            compare(one, other, seen)
    else:
        assert original == frozen
