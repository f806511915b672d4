"""Lends what has functions of Python's, a stream that fails and a tensor; notes whether these could run."""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint64,
    c_void_p,
)
from typing import Any

import atoll

new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [c_void_p, c_char_p, c_void_p]
kept: list[Any] = []
noted: list[str] = []


def note(what: str) -> None:
    """Do this and that, which fails where an exception is set."""
    assert {number: [*map(str, range(number))] for number in range(3)}[1] == ["0"]
    assert getattr(noted, "nothing", None) is None
    noted.append(what)


class Stream(Structure):
    """As the Arrow C stream interface has it."""


Stream._fields_ = [
    ("get_schema", CFUNCTYPE(c_int, POINTER(Stream), c_void_p)),
    ("get_next", CFUNCTYPE(c_int, POINTER(Stream), c_void_p)),
    ("get_last_error", CFUNCTYPE(c_void_p, POINTER(Stream))),
    ("release", CFUNCTYPE(None, POINTER(Stream))),
    ("private_data", c_void_p),
]


class Managed(Structure):
    """As DLPack has it."""


Managed._fields_ = [
    ("data", c_void_p),
    ("device", c_int32 * 2),
    ("ndim", c_int32),
    ("code", c_uint8),
    ("bits", c_uint8),
    ("lanes", c_uint16),
    ("shape", POINTER(c_int64)),
    ("strides", POINTER(c_int64)),
    ("byte_offset", c_uint64),
    ("manager", c_void_p),
    ("deleter", CFUNCTYPE(None, POINTER(Managed))),
]

types = {name: kind for name, kind, *_ in Stream._fields_}


def release_stream(stream: Any) -> None:
    """Release it."""
    note("stream")
    stream[0].release = types["release"]()


class Torn:
    """Offers a stream that fails."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        """Return its capsule."""
        stream = Stream(
            types["get_schema"](lambda stream, out: 5),
            types["get_next"](lambda stream, out: 5),
            types["get_last_error"](lambda stream: 0),
            types["release"](release_stream),
        )
        kept.append(stream)
        return new_capsule(ctypes.addressof(stream), b"arrow_array_stream", None)


class Tensor:
    """Offers a tensor."""

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the processor's."""
        return (1, 0)

    def __dlpack__(self, **wishes: object) -> Any:
        """Return its capsule."""
        data, shape = (c_int64 * 4)(), (c_int64 * 1)(4)
        managed = Managed(ctypes.addressof(data), (c_int32 * 2)(1, 0), 1, 0, 64, 1, shape)
        managed.deleter = dict(Managed._fields_)["deleter"](lambda managed: note("tensor"))
        kept.append((data, shape, managed))
        return new_capsule(ctypes.addressof(managed), b"dltensor", None)


try:
    atoll.share(Torn())
except OSError as error:
    assert "has failed" in str(error)
assert noted == ["stream"], noted
try:
    (atoll.share(Tensor()), len(3))  # goes while the exception is under way
except TypeError as error:
    assert "has no len()" in str(error)
assert noted == ["stream", "tensor"], noted
print("right")
