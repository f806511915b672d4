"""DLPack: shared memory for libraries that hand tensors to one another."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import pytest

from atoll import SharedArray, SharedBuffer, _atoll

pytestmark = pytest.mark.usefixtures("no_memory_left")


class Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p), ("device", ctypes.c_int32 * 2), ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
    )  # fmt: skip


class Managed(ctypes.Structure):
    """DLManagedTensor."""

    _fields_ = (
        ("tensor", Tensor),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )


class Versioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("version", ctypes.c_uint32 * 2), ("manager", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)), ("flags", ctypes.c_uint64), ("tensor", Tensor),
    )  # fmt: skip


_api = ctypes.pythonapi
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]


def consume(capsule: Any, kind: type[Any], name: bytes) -> Any:
    """What a consumer does: takes the struct, and renames the capsule so that nobody else does."""
    pointer = _api.PyCapsule_GetPointer(capsule, name)
    _api.PyCapsule_SetName(capsule, USED)
    return kind.from_address(pointer)


USED = b"used_dltensor"


class TestShared:
    """SharedArray and SharedBuffer as producers."""

    @pytest.mark.parametrize(
        ("dtype", "code", "bits"),
        [
            ("i1", 0, 8),
            ("i8", 0, 64),
            ("u2", 1, 16),
            ("f2", 2, 16),
            ("f8", 2, 64),
            ("c8", 5, 64),
            ("?", 6, 8),
        ],
    )
    def test_what_is_in_the_capsule(self, dtype: str, code: int, bits: int) -> None:
        """Of both versions; the memory lives until the deleter has been called."""
        array = SharedArray((3, 4), dtype)
        view = array.T[1:, ::2]
        for limit in (None, (0, 8), (1, 0), (1, 3), (2, 0)):
            new = limit is not None and limit >= (1, 0)
            capsule = view.__dlpack__(max_version=limit)
            dl = (
                consume(capsule, Versioned, b"dltensor_versioned")
                if new
                else consume(capsule, Managed, b"dltensor")
            )
            tensor = dl.tensor
            assert (tensor.code, tensor.bits, tensor.lanes, tensor.ndim, tensor.byte_offset) == (
                code,
                bits,
                1,
                2,
                0,
            )
            assert list(tensor.device) == [1, 0] == list(view.__dlpack_device__())
            assert (tensor.shape[:2], tensor.strides[:2]) == ([3, 2], [1, 8])
            assert not new or (list(dl.version), dl.flags) == ([1, 0], 0)
            dl.deleter(ctypes.addressof(dl))
        capsule = array.__dlpack__()
        dl = consume(capsule, Managed, b"dltensor")
        del array, view, capsule
        gc.collect()
        assert _atoll._shared_memory()[0] == 1
        ctypes.memset(dl.tensor.data, 1, 12 * bits // 8)
        dl.deleter(ctypes.addressof(dl))
        assert _atoll._shared_memory()[0] == 0

    def test_a_capsule_that_nobody_takes(self) -> None:
        """Gives its memory back."""
        capsules = [SharedBuffer(10).__dlpack__(), SharedArray(3).__dlpack__(max_version=(1, 0))]
        assert _atoll._shared_memory()[0] == 2
        del capsules
        assert _atoll._shared_memory()[0] == 0

    def test_read_only_and_copies(self) -> None:
        """Flags say which it is."""
        fixed = SharedArray(3, "i").toreadonly()
        with pytest.raises(BufferError, match="read-only"):
            fixed.__dlpack__()
        dl = consume(fixed.__dlpack__(max_version=(1, 0)), Versioned, b"dltensor_versioned")
        assert dl.flags == 1
        dl.deleter(ctypes.addressof(dl))
        for limit in ((1, 0), None):
            capsule = fixed.__dlpack__(max_version=limit, copy=True)
            if limit:
                dl = consume(capsule, Versioned, b"dltensor_versioned")
                assert dl.flags == 2
            else:
                dl = consume(capsule, Managed, b"dltensor")
            assert _atoll._shared_memory()[0] == 2
            dl.deleter(ctypes.addressof(dl))

    def test_what_it_refuses(self) -> None:
        """With BufferError, as the protocol has it."""
        for array in (SharedArray(2, ">f8"), SharedArray(2, "if"), SharedArray(2, "S3")):
            with pytest.raises(BufferError, match="DLPack has no elements of format"):
                array.__dlpack__()
        array = SharedArray(2)
        with pytest.raises(BufferError, match="stream"):
            array.__dlpack__(stream=1)
        with pytest.raises(BufferError, match=r"on device \(1, 0\), not \(2, 0\)"):
            array.__dlpack__(dl_device=(2, 0))
        for wrong in ({"max_version": 1}, {"dl_device": "cpu"}, {"max_version": (1,)}):
            with pytest.raises(TypeError):
                array.__dlpack__(**wrong)  # type: ignore[arg-type]

    def test_numpy_takes_it(self) -> None:
        """The same memory."""
        numpy = pytest.importorskip("numpy", reason="numpy is not installed")
        array = SharedArray((2, 3), "i4")
        seen = numpy.from_dlpack(array.T)
        array[1, 2] = 5
        assert (seen.shape, seen.dtype, seen[2, 1]) == ((3, 2), "int32", 5)
        del array
        assert seen[2, 1] == 5
