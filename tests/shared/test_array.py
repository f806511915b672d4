"""SharedArray and SharedBuffer as objects of one interpreter: elements, indices, sizes, dtypes."""

from __future__ import annotations

import array
import builtins
import ctypes
import gc
import inspect
import itertools
import math
import random
import struct
from typing import Any

import pytest

from atoll import SharedArray, SharedBuffer

pytestmark = pytest.mark.usefixtures("no_memory_left")


class TestBuffer:
    """SharedBuffer: bytes."""

    def test_is_zero_filled_writable_bytes(self) -> None:
        """Also from memory that was used before."""
        for size in (0, 1, 100, 65_536, 5_000_000):
            for _ in range(2):
                buffer = SharedBuffer(size)
                assert (len(buffer), buffer.nbytes, buffer.readonly, buffer.name) == (size, size, False, None)
                assert buffer == bytes(size)
                view = memoryview(buffer)
                assert (view.format, view.itemsize, view.ndim, view.readonly) == ("B", 1, 1, False)
                view[:] = b"\xff" * size
                assert bytes(buffer) == b"\xff" * size

    def test_large_memory_is_aligned_to_pages(self) -> None:
        """And very large memory to large pages."""
        for size, alignment in ((100, 64), (70_000, 4096), (4 << 20, 2 << 20), ((9 << 20) + 1, 2 << 20)):
            buffer = SharedBuffer(size)
            address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
            assert address % alignment == 0

    def test_bytes_and_slices(self) -> None:
        """An int is a byte, a slice another buffer of the same memory."""
        buffer = SharedBuffer.from_bytes(b"hello world")
        assert (buffer[0], buffer[-1]) == (ord("h"), ord("d"))
        part = buffer[6:]
        assert isinstance(part, SharedBuffer)
        part[0] = ord("W")
        part[1:3] = b"OR"
        assert bytes(buffer) == b"hello WORld" == buffer.tobytes()
        assert bytes(buffer[::-1]) == b"dlROW olleh"
        assert buffer[::2] == b"hloWRd"
        buffer[::2] = b"......"
        assert bytes(buffer) == b".e.l. .O.l."
        assert list(buffer[1:3]) == [ord("e"), ord(".")]
        assert ord("e") in buffer
        with pytest.raises(ValueError, match="has 2 items where dimension 0 has 3"):
            buffer[:3] = b"ab"

    def test_from_bytes(self) -> None:
        """Whatever has a buffer."""
        assert SharedBuffer.from_bytes(bytearray(b"ab")) == b"ab"
        assert SharedBuffer.from_bytes(memoryview(b"abcdef")[::2]) == b"ace"
        assert SharedBuffer.from_bytes(array.array("d", [1.0])) == struct.pack("d", 1.0)
        assert SharedBuffer.from_bytes(b"") == b""
        with pytest.raises(TypeError, match="data must be bytes or have a buffer, not str"):
            SharedBuffer.from_bytes("text")  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("size", "kind", "words"),
        [
            (-1, ValueError, "nbytes must not be negative: -1"),
            (2**70, ValueError, f"nbytes is out of range: {2**70}"),
            (2**62, MemoryError, f"{2**62} bytes of shared memory are not to be had"),
            (1.5, TypeError, "nbytes must be an int, not float"),
            (True, TypeError, "nbytes must be an int, not bool"),
            ("1", TypeError, "nbytes must be an int, not str"),
        ],
    )
    def test_sizes_that_cannot_be(self, size: Any, kind: type[Exception], words: str) -> None:
        """Each is named."""
        with pytest.raises(kind, match=words):
            SharedBuffer(size)

    def test_what_it_says(self) -> None:
        """Its repr, and arguments that are missing or too many."""
        assert repr(SharedBuffer(3)) == "SharedBuffer(3)"
        assert repr(SharedBuffer(3).toreadonly()) == "<SharedBuffer(3), read-only>"
        for arguments in ((), (1, 2)):
            with pytest.raises(TypeError):
                SharedBuffer(*arguments)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="create is for memory with a name"):
            SharedBuffer(1, create=True)
        with pytest.raises(TypeError):
            type("Sub", (SharedBuffer,), {})
        with pytest.raises(TypeError, match="unhashable"):
            hash(SharedBuffer(1))


DTYPES = [
    ("float64", "d", "float64"), ("<f8", "d", "float64"), ("d", "d", "float64"), ("f8", "d", "float64"),
    ("=d", "d", "float64"), ("@d", "d", "float64"), (float, "d", "float64"), ("double", "d", "float64"),
    ("float32", "f", "float32"), ("f", "f", "float32"), ("float16", "e", "float16"), ("e", "e", "float16"),
    ("int8", "b", "int8"), ("|i1", "b", "int8"), ("uint8", "B", "uint8"), ("B", "B", "uint8"),
    ("int16", "h", "int16"), ("<u2", "H", "uint16"), ("int32", "i", "int32"), ("<l", "i", "int32"),
    ("uint32", "I", "uint32"), ("int64", "l", "int64"), ("<i8", "l", "int64"), ("<q", "l", "int64"),
    ("q", "q", "int64"), ("n", "l", "int64"), (int, "l", "int64"), ("uint64", "L", "uint64"),
    ("?", "?", "bool"), ("bool", "?", "bool"), (bool, "?", "bool"), ("|b1", "?", "bool"),
    ("complex64", "Zf", "complex64"), ("c16", "Zd", "complex128"), (complex, "Zd", "complex128"),
    (">f8", ">d", ">f8"), (">i8", ">q", ">i8"), ("!h", ">h", ">i2"), (">u1", "B", "uint8"),
    ("S5", "5s", "S5"), ("5s", "5s", "S5"), ("c", "c", "c"), ("if", "if", "if"), ("<if", "<if", "<if"),
]  # fmt: skip


class TestDtypes:
    """What elements are."""

    @pytest.mark.parametrize(("dtype", "letters", "name"), DTYPES)
    def test_what_a_dtype_means(self, dtype: Any, letters: str, name: str) -> None:
        """numpy's names and codes, formats of struct, Python's types."""
        one = SharedArray(2, dtype)
        assert (one.format, one.dtype, memoryview(one).format) == (letters, name, letters)
        size = struct.calcsize(letters) if letters[0] != "Z" else 8 if letters == "Zf" else 16
        assert (one.itemsize, one.nbytes, one.size) == (size, 2 * size, 2)
        assert one.tolist() == [one[0], one[1]]
        assert SharedArray(1, one.dtype).format == ("l" if letters == "q" else letters)

    @pytest.mark.parametrize(
        ("dtype", "words"),
        [
            ("O", "dtype 'O' is for pointers to Python objects"),
            ("U3", "dtype 'U3' is for text"),
            ("<U3", "dtype '<U3' is for text"),
            ("M8[ns]", "is for dates"),
            ("foo", "dtype 'foo' is not understood"),
            ("", "dtype '' is not understood"),
            ("d\0", "is not understood"),
            ("\ud800", "is not understood"),
            ("P", "dtype 'P' is not understood"),
            ("iO", "is not understood"),
            ("S", "is not understood"),
            ("S-1", "is not understood"),
            ("V8", "is not understood"),
            ("0s", "has elements of no bytes"),
            ("4x", "dtype '4x' is of nothing but padding"),
            ("<x2x", "is of nothing but padding"),
            (">c16", "is complex in the other byte order"),
            (3, "dtype 3 is not understood"),
            (None, "dtype None is not understood"),
            (object, "is for pointers to Python objects"),
            (b"d", "is not understood"),
        ],
    )
    def test_dtypes_that_are_refused(self, dtype: Any, words: str) -> None:
        """Each is named, with the reason."""
        with pytest.raises(TypeError) as caught:
            SharedArray(1, dtype)
        assert words in str(caught.value)

    @pytest.mark.parametrize("code", list("bBhHiIlLqQ"))
    def test_ints(self, code: str) -> None:
        """Their limits, and what lies beyond."""
        bits = struct.calcsize(code) * 8
        low, high = (0, 2**bits - 1) if code.isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        one = SharedArray(3, code)
        one[0], one[1], one[2] = low, high, 1
        assert one.tolist() == [low, high, 1] == list(memoryview(one))
        for beyond in (low - 1, high + 1, 2**200, -(2**200)):
            with pytest.raises(OverflowError, match=f"{beyond} does not fit in an element of {one.dtype}"):
                one[0] = beyond
        for other in (1.5, "1", None, b"1", 1j):
            with pytest.raises(TypeError):
                one[0] = other
        assert one.tolist() == [low, high, 1]

    def test_floats_and_the_rest(self) -> None:
        """What goes in comes out."""
        for code in "efd":
            one = SharedArray(4, code)
            one[:] = [1.5, -math.inf, 3, True]
            assert one.tolist() == [1.5, -math.inf, 3.0, 1.0]
            one[0] = math.nan
            assert math.isnan(one[0])
            with pytest.raises(TypeError):
                one[0] = "1.5"
        flags = SharedArray(3, "?")
        flags[:] = [1, [], "x"]
        assert flags.tolist() == [True, False, True]
        for code in ("c8", "c16"):
            numbers = SharedArray(2, code)
            numbers[0] = 1 + 2j
            numbers[1] = 3
            assert numbers.tolist() == [1 + 2j, 3 + 0j]
            assert numbers == numbers.copy()
            assert numbers != SharedArray(2, code)
            assert numbers != SharedArray(3, code)
        swapped = SharedArray(2, ">i4")
        swapped[:] = [1, -2]
        for value in (2**31, -(2**31) - 1):
            for code in ("i4", ">i4"):
                with pytest.raises(OverflowError, match="does not fit in an element of"):
                    SharedArray(2, code)[0] = value
        assert swapped.tobytes() == struct.pack(">ii", 1, -2)
        assert swapped.tolist() == [1, -2]
        letters = SharedArray(3, "c")
        letters[:] = [b"a", b"b", b"c"]
        assert letters.tobytes() == b"abc"
        with pytest.raises(TypeError, match="bytes object of length 1"):
            letters[0] = b"ab"
        words = SharedArray(2, "S4")
        words[0] = b"word"
        words[1] = b"to"
        assert words.tolist() == [b"word", b"to\0\0"]
        records = SharedArray(2, "if")
        records[1] = (7, 2.5)
        assert records.tolist() == [(0, 0.0), (7, 2.5)]
        with pytest.raises(TypeError, match="is no value for an element of format 'if'"):
            records[0] = (1, 2, 3)


class TestShapes:
    """Sizes and views."""

    def test_attributes(self) -> None:
        """As numpy has them."""
        one = SharedArray((2, 3, 4), "f4")
        assert (one.shape, one.strides, one.ndim, one.size) == ((2, 3, 4), (48, 16, 4), 3, 24)
        assert (one.nbytes, one.itemsize, len(one), one.readonly) == (96, 4, 2, False)
        assert one.T.shape == (4, 3, 2)
        assert one.T.strides == (4, 16, 48)
        assert repr(one) == "SharedArray((2, 3, 4), 'float32')"
        assert repr(one.toreadonly()) == "<SharedArray((2, 3, 4), 'float32'), read-only>"
        assert SharedArray(5).dtype == "float64"
        assert SharedArray([2, 2], dtype=int).shape == (2, 2)
        assert SharedArray(range(3)).shape == (0, 1, 2)

    def test_without_dimensions(self) -> None:
        """One element."""
        one = SharedArray((), "d")
        one[()] = 3.5
        assert one[()] == one.tolist() == 3.5
        assert one[...].shape == ()
        one[...] = 4.5
        assert memoryview(one).tolist() == 4.5
        with pytest.raises(TypeError, match="no length"):
            len(one)
        with pytest.raises(IndexError):
            one[0]

    @pytest.mark.parametrize(
        ("shape", "kind", "words"),
        [
            (-1, ValueError, "shape must not be negative: -1"),
            ((2, -3), ValueError, "shape[1] must not be negative: -3"),
            ((2**40, 2**40), ValueError, "is too large"),
            ((2**62,), ValueError, "is too large"),
            ((0, 2**62), ValueError, "is too large"),
            ((2**45,), MemoryError, "bytes of shared memory are not to be had"),
            (2**70, ValueError, "shape is out of range"),
            ((1,) * 65, ValueError, "65 dimensions"),
            (1.5, TypeError, "not float"),
            ("ab", TypeError, "not str"),
            ([1, 2.5], TypeError, "shape[1] must be an int, not float"),
            (None, TypeError, "not NoneType"),
        ],
    )
    def test_shapes_that_cannot_be(self, shape: Any, kind: type[Exception], words: str) -> None:
        """Each is named."""
        with pytest.raises(kind) as caught:
            SharedArray(shape, "d")
        assert words in str(caught.value)

    def test_reshape(self) -> None:
        """The same memory."""
        one = SharedArray(12, "i")
        one[:] = range(12)
        table = one.reshape(3, 4)
        table[1, 1] = 50
        assert one[5] == 50
        assert table.reshape((2, -1)).shape == (2, 6)
        assert table.reshape(-1).shape == (12,)
        assert table.reshape(1, 12, 1).T.reshape(12).shape == (12,)
        assert SharedArray((0, 3)).reshape(3, 0).shape == (3, 0)
        assert SharedArray(1).reshape().shape == ()
        for sizes in ((5,), (-1, -1), (-2, 6), (5, -1), (0, -1), (2**40, 2**40)):
            with pytest.raises(ValueError, match="an array of 12 elements has no shape"):
                one.reshape(*sizes)
        with pytest.raises(ValueError, match="do not lie one after the other"):
            table.T.reshape(12)
        assert table.T.copy().reshape(12)[1] == 4

    def test_readonly(self) -> None:
        """A view that cannot change what others can."""
        one = SharedArray((2, 2), "d")
        fixed = one.toreadonly()
        for view in (fixed, fixed[0], fixed.T, fixed.reshape(4)):
            assert view.readonly
            assert memoryview(view).readonly
            with pytest.raises(TypeError, match="read-only"):
                view[0] = 1
        with pytest.raises(BufferError, match="read-only"):
            fixed.__buffer__(inspect.BufferFlags.WRITABLE)
        one[0, 0] = 5
        assert fixed[0, 0] == 5
        assert not fixed.copy().readonly


class TestIndices:
    """What an index shows and what assignment does, compared with nested lists."""

    def test_against_lists(self) -> None:
        """Indices at random."""
        seed = random.randrange(2**32)
        rng = random.Random(seed)
        one = SharedArray((4, 5, 3), "i")
        one.reshape(-1)[:] = range(60)
        lists = one.tolist()

        def pick(value: Any, parts: list[Any]) -> Any:
            if not parts:
                return value
            first, rest = parts[0], parts[1:]
            if isinstance(first, slice):
                return [pick(item, rest) for item in value[first]]
            return pick(value[first], rest)

        for _ in range(2000):
            parts: list[Any] = []
            for size in (4, 5, 3)[: rng.randrange(4)]:
                bounds = [rng.choice([None, *range(-size - 2, size + 3)]) for _ in range(2)]
                step = rng.choice([None, -3, -2, -1, 1, 2, 3])
                parts.append(rng.randrange(-size, size) if rng.random() < 0.4 else slice(*bounds, step))
            key = tuple(parts) if len(parts) != 1 or rng.random() < 0.5 else parts[0]
            got = one[key]
            got = got.tolist() if isinstance(got, SharedArray) else got
            assert got == pick(lists, parts), (seed, key)

    def test_ellipsis_and_none(self) -> None:
        """As numpy has them."""
        one = SharedArray((2, 3, 4), "i")
        one.reshape(24)[:] = range(24)
        assert one[..., 0].tolist() == [[row[0] for row in block] for block in one.tolist()]
        assert one[1, ..., 2].tolist() == [14, 18, 22]
        assert one[None].shape == (1, 2, 3, 4)
        assert one[:, None, 0].shape == (2, 1, 4)
        assert one[0, 0, 0, ...].shape == ()
        assert one[...].shape == one.shape
        assert one[0, 1, 2, None].tolist() == [6]

    @pytest.mark.parametrize(
        ("key", "kind", "words"),
        [
            (2, IndexError, "index 2 is out of range for dimension 0, which has 2"),
            ((0, -4), IndexError, "index -4 is out of range for dimension 1, which has 3"),
            ((0, 0, 0), IndexError, "the index is for 3 dimensions"),
            ((..., ...), IndexError, "at most one Ellipsis"),
            (2**80, IndexError, ""),
            ("a", TypeError, "not str"),
            (1.0, TypeError, "not float"),
            ([0, 1], TypeError, "not list"),
            (True, TypeError, "not bool"),
            ((None,) * 64, IndexError, "at most 64 dimensions"),
            (slice("a"), TypeError, ""),
            (slice(0, 1, 0), ValueError, ""),
        ],
    )
    def test_indices_that_cannot_be(self, key: Any, kind: type[Exception], words: str) -> None:
        """To read, and to write."""
        one = SharedArray((2, 3), "i")
        for use in (lambda: one[key], lambda: one.__setitem__(key, 1)):
            with pytest.raises(kind) as caught:
                use()
            assert words in str(caught.value)
        with pytest.raises(TypeError, match="cannot be deleted"):
            del one[0]  # type: ignore[attr-defined]

    def test_assignment(self) -> None:
        """An element for all, sequences, buffers of the same format and of others."""
        one = SharedArray((3, 4), "d")
        one[...] = 1.5
        assert one.tolist() == [[1.5] * 4] * 3
        one[1] = 2
        one[:, 0] = [7, 8, 9]
        one[2, 1:] = array.array("d", [1, 2, 3])
        one[0, 1:] = array.array("b", [4, 5, 6])
        assert one.tolist() == [[7, 4, 5, 6], [8, 2, 2, 2], [9, 1, 2, 3]]
        one[:2] = [[1, 2, 3, 4], (5, 6, 7, 8)]
        one[2:] = [range(4)]
        assert one.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [0, 1, 2, 3]]
        for large in (
            SharedArray(1_000_003, "h"),
            SharedArray((1001, 999), "h"),
            SharedArray((70, 2, 70), "B")[:, 0],
        ):
            large[...] = 7
            assert set(large.tobytes()[:: large.itemsize]) == {7}
        for value, words in (
            ([1, 2], "has 2 items where dimension 0 has 3"),
            ([[1] * 3] * 3, "has 3 items where dimension 1 has 4"),
            (array.array("d", [1] * 12), "has 1 dimensions, not 2"),
        ):
            with pytest.raises(ValueError, match=words):
                one[...] = value
        for value in ("text", None, [["a"] * 4] * 3, [1, 2, 3]):
            with pytest.raises(TypeError):
                one[...] = value

    def test_assignment_of_what_does_not_fit_writes_nothing(self) -> None:
        """Whichever element it is: as numpy and bytearray have it."""
        one = SharedArray((2, 3), "h")
        one[...] = 9
        columns = SharedArray((3, 2), "h").T
        columns[...] = 9
        wide = SharedArray((2, 3), "q")
        wide[...] = [[1, 2, 3], [4, 5, 1 << 16]]
        for value in (
            [[1, 2, 3], [4, 5, "x"]],
            [[1, 2, 3], [4, 5]],
            [[1, 2, 3], [4, 5, 1 << 16]],
            [[1, 2, 3], None],
            wide,
        ):
            for to in (one, columns):
                with pytest.raises((TypeError, ValueError, OverflowError)):
                    to[...] = value
                assert to.tolist() == [[9] * 3] * 2
        content = SharedBuffer.from_bytes(b"abc")
        with pytest.raises(OverflowError):
            content[:] = [1, 2, 256]
        assert bytes(content) == b"abc"
        columns[...] = [[1, 2, 3], [4, 5, 6]]
        assert columns.tolist() == [[1, 2, 3], [4, 5, 6]]

    @pytest.mark.parametrize(
        ("to", "source"),
        [
            ("c16", "c8"),
            ("c8", "c16"),
            ("f8", ">f8"),
            ("f8", ">i2"),
            (">i4", "i4"),
            ("c16", "f4"),
            ("S4", "S2"),
        ],
    )
    def test_assignment_of_elements_of_another_kind(self, to: str, source: str) -> None:
        """Also of one that memoryview does not read: complex numbers, the other byte order, text of another length."""
        one, other = SharedArray((2, 2), to), SharedArray((2, 2), source)
        values: list[Any] = [b"a", b"bc"] if source == "S2" else [1, -2]
        expected = [b"a\0\0\0", b"bc\0\0"] if source == "S2" else [1, -2]
        other[0] = other[1] = values
        one[...] = other
        assert one.tolist() == [expected] * 2
        one[:, 0] = other[:, 1]
        assert one.tolist() == [[expected[1]] * 2] * 2

    def test_assignment_of_what_has_no_dimensions(self) -> None:
        """It is one element, as an array or as a number of ctypes."""
        for code, number in (("d", ctypes.c_float(2)), ("i", ctypes.c_short(2)), (">i4", ctypes.c_int(2))):
            single = SharedArray((), code)
            one = SharedArray(3, code)
            for value in (single, single.toreadonly(), number):
                single[...] = number
                one[...] = 0
                one[0] = value
                assert one.tolist() == [2, 0, 0]
                one[:] = value
                assert one.tolist() == [2, 2, 2]
                one[:] = [0, value, 1]
                assert one.tolist() == [0, 2, 1]
        for wrong in (SharedArray((), "d"), ctypes.c_double(2), SharedArray(1, "i"), b"a"):
            with pytest.raises(TypeError):
                SharedArray(3, "i")[0] = wrong

    def test_overlapping_assignment(self) -> None:
        """As if it had been copied before."""
        shapes = [
            (slice(None, -1), slice(1, None)),
            (slice(1, None), slice(None, -1)),
            (slice(None), slice(None, None, -1)),
        ]
        for to, source in shapes:
            one = SharedArray(10, "i")
            one[:] = range(10)
            right = list(range(10))
            right[to] = right[source]
            one[to] = one[source]
            assert one.tolist() == right
        square = SharedArray((5, 5), "i")
        square.reshape(25)[:] = range(25)
        right_square = [list(row) for row in zip(*square.tolist(), strict=True)]
        square[...] = square.T
        assert square.tolist() == right_square

    def test_is_iterable(self) -> None:
        """As a sequence."""
        one = SharedArray((2, 2), "i")
        one.reshape(4)[:] = range(4)
        assert [row.tolist() for row in one] == [[0, 1], [2, 3]]
        assert list(itertools.chain.from_iterable(one)) == [0, 1, 2, 3]
        assert list(reversed(one[1])) == [3, 2]
        first, second = one[0]
        assert (first, second) == (0, 1)

    def test_without_dimensions_is_not_iterable(self) -> None:
        """As numpy and memoryview have it; it is no empty array."""
        one = SharedArray((), "i")
        for use in (iter, list, lambda array: 0 in array):
            with pytest.raises(TypeError):
                use(one)

    def test_list_is_not_seen_before_it_is_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Elements that the module struct reads run code, which may look at all objects that there are."""
        one = SharedArray((2, 3), "3s")
        holes = []
        really_import = builtins.__import__

        def look(name: str, *args: Any) -> Any:
            short = [found for found in gc.get_objects() if type(found) is list and len(found) < 4]
            holes.extend(found for found in short if "<NULL>" in repr(found))
            looked.append(name)
            return really_import(name, *args)

        looked: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "__import__", look)
            result = one.tolist()
        assert "struct" in looked
        assert not holes
        assert result == [[bytes(3)] * 3] * 2
        assert all(gc.is_tracked(part) for part in (result, *result))
