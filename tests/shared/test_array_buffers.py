"""SharedArray and SharedBuffer beside other memory: the buffer protocol, comparison, copies, share()."""

from __future__ import annotations

import array
import copy
import ctypes
import gc
import inspect
import io
import os
import pickle
import weakref
from typing import Any

import pytest

from atoll import SharedArray, SharedBuffer, _atoll, share

pytestmark = pytest.mark.usefixtures("no_memory_left")


class TestBuffers:
    """The buffer protocol, comparison, copies."""

    def test_buffer_of_any_layout(self) -> None:
        """Shape and strides are those of the view."""
        one = SharedArray((4, 6), "h")
        one.reshape(24)[:] = range(24)
        for view in (
            one,
            one[1:3],
            one[:, ::2],
            one.T,
            one[::-1, ::-2],
            one[2],
            one[:, 0],
            one[1:1],
            one[..., None],
        ):
            seen = memoryview(view)
            assert (seen.shape, seen.strides, seen.format) == (view.shape, view.strides, "h")
            assert seen.tolist() == view.tolist()
            assert seen.tobytes() == view.tobytes() == bytes(view)
            assert seen == view
            assert view == seen
        with pytest.raises(BufferError, match="not contiguous"):
            one[:, ::2].__buffer__(inspect.BufferFlags.SIMPLE)
        assert io.BytesIO(b"\1\0" * 24).readinto(one) == 48
        assert set(one.reshape(24)) == {1}

    def test_comparison(self) -> None:
        """By value, with whatever has a buffer."""
        one = SharedArray(3, "i")
        one[:] = [1, 2, 3]
        assert one == array.array("i", [1, 2, 3]) == one
        assert one == array.array("d", [1, 2, 3])
        assert one != array.array("i", [1, 2, 4])
        assert one != [1, 2, 3]
        assert (one == "text") is False
        released = memoryview(b"abc")
        released.release()
        assert one != released

        class Unwilling:
            def __buffer__(self, flags: int) -> memoryview:
                raise BufferError

            def __eq__(self, other: object) -> Any:
                return "as it likes"

            __hash__ = None  # type: ignore[assignment]

        assert (one == Unwilling()) == (memoryview(one) == Unwilling()) == "as it likes"
        with pytest.raises(TypeError):
            one < one  # type: ignore[operator]  # noqa: B015

    def test_comparison_of_elements_that_memoryview_cannot_read(self) -> None:
        """Records and the like by their bytes; complex numbers as numbers, whatever they lie in."""

        class Point(ctypes.Structure):
            _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))

        class Other(ctypes.Structure):
            _fields_ = (("x", ctypes.c_int), ("z", ctypes.c_double))

        points = (Point * 2)(Point(1, 2.5), Point(3, 4.5))
        one = share(points)
        assert one.format.startswith("T{")
        assert one == one.copy() == points
        assert one != (Point * 2)(Point(1, 2.5), Point(3, 4))
        assert one != (Point * 1)(Point(1, 2.5))
        assert one != (Other * 2)(Other(1, 2.5), Other(3, 4.5))
        numbers = SharedArray((2, 2), "c16")
        numbers[...] = [[0, 1 + 2j], [3, -0.0]]
        narrow = SharedArray((2, 2), "c8")
        narrow[...] = numbers
        assert numbers == narrow == numbers.T.copy().T
        assert numbers != narrow.T
        assert numbers[1] == array.array("d", [3, 0])
        assert numbers[0] != array.array("d", [0, 1])
        for code in ("d", "c16"):
            lost = SharedArray(2, code)
            lost[0] = float("nan")
            assert lost != lost

    def test_copies(self) -> None:
        """copy(), the module copy, pickle: memory of their own."""
        one = SharedArray((2, 3), ">i2")
        one.reshape(6)[:] = range(6)
        others = [one.copy(), copy.copy(one), copy.deepcopy(one), one.T.copy().T]
        others += [pickle.loads(pickle.dumps(one, protocol)) for protocol in range(6)]
        buffers: list[pickle.PickleBuffer] = []
        outside = pickle.dumps(one, 5, buffer_callback=buffers.append)
        assert len(buffers) == 1
        others.append(pickle.loads(outside, buffers=buffers))
        one_more = one[0].copy()
        one[0, 0] = 100
        for other in others:
            assert isinstance(other, SharedArray)
            assert other.tolist() == [[0, 1, 2], [3, 4, 5]]
            assert other.format == ">h"
        assert one_more.tolist() == [0, 1, 2]
        assert pickle.loads(pickle.dumps(one.T)).tolist() == one.T.tolist()
        assert pickle.loads(pickle.dumps(one.toreadonly())).readonly
        content = SharedBuffer.from_bytes(b"abc")
        assert pickle.loads(pickle.dumps(content[1:])) == b"bc"
        for view in (content[None], content[1, ...], content[..., None]):
            for protocol in (2, 5):
                other = pickle.loads(pickle.dumps(view, protocol))
                assert isinstance(other, SharedBuffer)
                assert other == view

    def test_pickle_of_a_name_that_was_given_anew(self) -> None:
        """It is the memory that was pickled, or an error: never what somebody else has under that name."""
        name = f"atoll-test-anew-{os.getpid()}"
        one = SharedArray(3, name=name)
        one[:] = 1
        pickled = pickle.dumps(one)
        assert pickle.loads(pickled) == one
        one.unlink()
        for again in (pickled, pickle.dumps(one)):
            with pytest.raises(FileNotFoundError):
                pickle.loads(again)
        other = SharedArray(3, name=name, create=True)
        for again in (pickled, pickle.dumps(one[1:])):
            with pytest.raises(FileNotFoundError, match="other memory"):
                pickle.loads(again)
        assert pickle.loads(pickle.dumps(other)) == other
        del one, other

    def test_views_keep_the_memory(self) -> None:
        """Whatever they are, and in whichever order the others go."""
        one = SharedArray((100, 100), "d")
        one[5, 6] = 7
        views = [one[5], one.T[:, 5], memoryview(one)[5:6].cast("B").cast("d"), one.reshape(10_000)[500:600]]
        gone = weakref.ref(one)
        del one
        gc.collect()
        assert gone() is not None  # the memoryview has it
        assert [view[6] for view in views] == [7.0] * 4
        del views[2]
        assert gone() is None
        assert [view[6] for view in views] == [7.0] * 3


class TestShare:
    """atoll.share()."""

    def test_what_it_makes(self) -> None:
        """Bytes become a SharedBuffer, arrays a SharedArray, what is shared stays as it is."""
        for data in (b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"aXbXc")[::2]):
            shared = share(data)
            assert isinstance(shared, SharedBuffer)
            assert shared == b"abc"
            assert share(shared) is shared
        numbers = share(array.array("i", [1, 2, 3]))
        assert isinstance(numbers, SharedArray)
        assert (numbers.dtype, numbers.tolist()) == ("int32", [1, 2, 3])
        assert share(numbers) is numbers
        table = share(memoryview(array.array("d", range(6))).cast("B").cast("d", (2, 3)))
        assert table.tolist() == [[0, 1, 2], [3, 4, 5]]

    def test_formats_of_ctypes(self) -> None:
        """Which writes '<l' for what the machine calls 'l'."""
        numbers = (ctypes.c_long * 3)(1, -2, 3)
        shared = share(numbers)
        assert (shared.dtype, shared.tolist()) == ("int64", [1, -2, 3])
        shared[...] = (ctypes.c_long * 3)(4, 5, 6)
        assert shared.tolist() == [4, 5, 6]
        assert share((ctypes.c_double * 1)(2.5)).tolist() == [2.5]

    def test_pickles_that_lie(self) -> None:
        """About the size of elements, or where they are, are refused."""
        whole, strides = bytes(16), None
        for changed in (("d", 1), ("d", 0), ("O", 8), ("T{O:a:}", 8), ("d", -8)):
            with pytest.raises(ValueError, match="not what pickle has"):
                _atoll._shared_restore(SharedArray, whole, (2,), strides, *changed, 0, False, None)
        with pytest.raises(ValueError, match="24 bytes is to have a content of 16"):
            _atoll._shared_restore(SharedArray, whole, (3,), strides, "d", 8, 0, False, None)
        with pytest.raises(ValueError, match="not what pickle has"):
            _atoll._shared_restore(SharedBuffer, whole, (2,), strides, "d", 8, 0, False, None)
        name = f"atoll-test-lie-{os.getpid()}"
        named = SharedBuffer(64, name=name)
        id_of_memory: Any = named.__reduce_ex__(5)[1][-1]
        for shape, steps, offset in (
            ((9,), (8,), 0),
            ((8,), (8,), 8),
            ((8,), (-8,), 0),
            ((2,), (2**62,), 0),
            ((2**61, 8), (8, 8), 0),
        ):
            with pytest.raises(ValueError, match="does not lie in them"):
                _atoll._shared_restore(SharedArray, name, shape, steps, "d", 8, offset, False, id_of_memory)
        other: Any = _atoll._shared_restore(SharedArray, name, (8,), (-8,), "d", 8, 56, False, id_of_memory)
        assert other.tolist() == [0.0] * 8
        del named

    def test_is_a_copy(self) -> None:
        """What changes afterwards does not change with it."""
        source = array.array("i", [1])
        shared = share(source)
        source[0] = 2
        assert shared[0] == 1

    def test_what_it_refuses(self) -> None:
        """Each with its reason."""
        for obj in ("text", 1, [1, 2], None):
            with pytest.raises(
                TypeError, match=f"obj must have memory .* not be of type {type(obj).__name__}"
            ):
                share(obj)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="holds pointers to Python objects"):
            share((ctypes.py_object * 2)())
