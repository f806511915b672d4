"""numpy with shared arrays: the same memory, no copy."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import atoll
from atoll import SharedArray, SharedBuffer, share

numpy: Any = pytest.importorskip("numpy", reason="numpy is not installed")

pytestmark = pytest.mark.usefixtures("no_memory_left")

DTYPES = "? i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8 c8 c16 >f8 >i4 S7".split()


class TestNumpy:
    """numpy.asarray() and share()."""

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_asarray_shows_the_same_memory(self, dtype: str) -> None:
        """And has the dtype that was asked for, whatever names it."""
        expected = numpy.dtype(dtype)
        names = [dtype, expected, expected.str]
        if expected.isnative and expected.kind != "S":
            names += [expected.name, expected.type]
        for asked in names:
            shared = SharedArray((3, 2), asked)
            seen = numpy.asarray(shared)
            assert (seen.dtype, seen.shape, seen.strides) == (expected, shared.shape, shared.strides)
            assert seen.flags.writeable
            assert numpy.dtype(shared.dtype) == expected
            seen[1, 1] = 1
            assert numpy.array_equal(numpy.asarray(shared[1]), seen[1])
            assert numpy.shares_memory(seen, numpy.asarray(shared.T))

    def test_share_keeps_dtype_and_shape(self) -> None:
        """Of arrays of any layout, records among them."""
        samples = [
            numpy.arange(12.0).reshape(3, 4),
            numpy.arange(12).reshape(3, 4).T,
            numpy.arange(10)[::-2],
            numpy.zeros((0, 3), "f4"),
            numpy.array(5.0),
            numpy.arange(4, dtype=">u2"),
            numpy.array([1 + 2j, 3]),
            numpy.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")]),
            numpy.array([b"ab", b"abc"]),
        ]
        for sample in samples:
            shared = share(sample)
            assert isinstance(shared, SharedArray)
            seen = numpy.asarray(shared)
            assert (seen.dtype, seen.shape) == (sample.dtype, sample.shape)
            assert numpy.array_equal(seen, sample)
            assert not numpy.shares_memory(seen, sample)
        assert SharedArray(2, samples[7].dtype).nbytes == 24
        for shape in (numpy.array([2, 3]), numpy.array([2]), numpy.array(2), numpy.int64(2)):
            assert SharedArray(shape).shape == numpy.zeros(shape).shape
        records = share(samples[7])
        with pytest.raises(NotImplementedError, match=r"numpy\.asarray"):
            records[0]
        with pytest.raises(NotImplementedError, match=r"numpy\.asarray"):
            records[0] = (1, 2.5)
        with pytest.raises(TypeError, match="pointers"):
            share(numpy.array([object()]))
        for dates in ("M8[D]", "m8[s]"):
            with pytest.raises(TypeError, match=r"cannot be shared: share its view\('int64'\)"):
                share(numpy.zeros(2, dates))
            with pytest.raises(TypeError, match="cannot be shared"):
                SharedArray(2, numpy.dtype([("a", dates)]))
        with pytest.raises(TypeError, match="pointers"):
            SharedArray(1, numpy.dtype([("a", object)]))
        for kind in ("U3", "M8[s]", "O", "V3"):
            with pytest.raises(TypeError, match="dtype"):
                SharedArray(1, numpy.dtype(kind))
        with pytest.raises(TypeError, match="give their shape to the array"):
            SharedArray(5, numpy.dtype(("i4", (3,))))

    def test_assignment_of_numpy_values(self) -> None:
        """Arrays, and scalars, which have buffers of their own."""
        shared = SharedArray((2, 3), "f8")
        shared[...] = numpy.arange(6.0).reshape(2, 3)
        shared[0, 0] = numpy.float32(7)
        shared[1] = numpy.float64(8)
        shared[0, 1:] = numpy.arange(2, dtype="i2")
        assert shared.tolist() == [[7, 0, 1], [8, 8, 8]]
        whole = SharedArray(2, "i4")
        whole[numpy.int64(1)] = numpy.int8(3)
        assert whole.tolist() == [0, 3]

    def test_a_received_view_keeps_the_memory(self) -> None:
        """After every other reference, and every other interpreter, is gone."""
        maker = atoll.create()
        user = atoll.create()
        shared = maker.call(make, (100, 100))
        user.prepare_main(shared=shared)
        user.exec("import numpy; seen = numpy.asarray(shared)[50]; del shared; seen[3] += 1")
        seen = numpy.asarray(shared)
        del shared
        gc.collect()
        maker.close()
        assert seen[50, 3] == 43
        user.exec("seen[3] += 1; copy = seen.tolist()")
        assert seen[50, 3] == 44
        del seen
        gc.collect()
        assert atoll._atoll._shared_memory()[0] == 1
        user.exec("assert seen[3] == 44 and seen.tolist() == [0, 0, 0, 44] + [0] * 96")
        user.close()

    def test_a_view_that_is_left_does_not_keep_its_interpreter(self) -> None:
        """What only a numpy array holds is freed at the end, and so is the rest of __main__."""
        memory = bytearray(100)
        for what in (SharedArray(100, "u1"), memoryview(memory)):
            user = atoll.create()
            user.prepare_main(what=what, told=memoryview(memory))
            user.exec(
                """
                import numpy
                class Last:
                    def __del__(self, seen=numpy.asarray(what), told=told):
                        told[int(seen[0])] = 1
                last = Last()
                """
            )
            memory[0] = 0
            user.close()
            assert memory[0] == 1
        del what
        gc.collect()
        memory.clear()  # nobody has a buffer of it

    def test_buffer_as_array(self) -> None:
        """numpy.frombuffer(), and views of other types."""
        buffer = SharedBuffer(64)
        numpy.frombuffer(buffer, "f8")[3] = 1.0
        assert bytes(buffer[24:32]) == numpy.float64(1).tobytes()


def make(shape: tuple[int, ...]) -> SharedArray:
    """Return an array with one element that is not 0."""
    import numpy

    shared = SharedArray(shape, "f8")
    numpy.asarray(shared)[50, 3] = 42
    return shared
