"""What an interpreter gets as ``_ctypes`` where that is built into CPython 3.12 and belongs to the main interpreter.

Many packages import ctypes and seldom use it. So ``import ctypes`` works, types can be named and derived from, and
libraries can be opened. What would touch memory or call a function raises a NotImplementedError that says why it cannot
be had.
"""

import struct
from types import ModuleType
from typing import Any, NoReturn

_reason = ""


def _refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise NotImplementedError(_reason)


class _DataType(type):
    """The type of all of ctypes' types."""

    def __mul__(cls, length: int) -> "_DataType":
        if not isinstance(length, int):
            raise TypeError(f"can't multiply a ctypes type by a non-int of type {type(length).__name__}")
        if length < 0:
            raise ValueError("Array length must be >= 0")
        name = f"{cls.__name__}_Array_{length}"
        return _ArrayType(name, (Array,), {"_type_": cls, "_length_": length})

    __rmul__ = __mul__

    from_param = from_address = from_buffer = from_buffer_copy = in_dll = _refuse


class _ArrayType(_DataType):
    """The type of arrays' types."""

    _type_: Any
    _length_: int


class _CData(metaclass=_DataType):
    """What all objects of ctypes are."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        _refuse()


class Structure(_CData):
    """Can be derived from."""


class Union(_CData):
    """Can be derived from."""


class Array(_CData, metaclass=_ArrayType):
    """Made by multiplying a type."""


class _Pointer(_CData):
    """Made by POINTER()."""


class _SimpleType(_DataType):
    """The type of simple types."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        if isinstance(namespace.get("_type_"), str):
            cls.__ctype_le__ = cls.__ctype_be__ = cls


class _SimpleCData(_CData, metaclass=_SimpleType):
    """Can be derived from."""


class CFuncPtr(_CData):
    """Can be made, and called in vain."""

    def __init__(self, *_args: Any) -> None:
        pass  # its argument types and so on can be set

    __call__ = _refuse


class ArgumentError(Exception):
    """As ctypes' own."""


_pointer_type_cache: dict[Any, Any] = {}


def POINTER(of: Any) -> Any:
    """Return the type of pointers to a type."""
    if of not in _pointer_type_cache:
        name = of if isinstance(of, str) else of.__name__
        members = {} if isinstance(of, str) else {"_type_": of}
        _pointer_type_cache[of] = _DataType(f"LP_{name}", (_Pointer,), members)
    return _pointer_type_cache[of]


def sizeof(what: Any) -> int:
    """Return the size of a simple type or of an array of those."""
    if isinstance(what, _ArrayType) and hasattr(what, "_length_"):
        return sizeof(what._type_) * what._length_
    code = getattr(what, "_type_", None)
    if not isinstance(code, str):
        if isinstance(what, type) and issubclass(what, (_Pointer, CFuncPtr)):
            return struct.calcsize("P")
        _refuse()
    if code == "g":
        return 2 * struct.calcsize("d")
    return struct.calcsize({"O": "P", "z": "P", "Z": "P", "u": "i", "v": "h"}.get(code, code))


def dlopen(name: Any, _flags: int = 0, /) -> int:
    """Return the handle of what is in the process already. What has a name the interpreter opens itself."""
    if name is not None:
        _refuse()
    return 0


_FUNCTIONS = (
    "addressof alignment buffer_info byref call_cdeclfunction call_function dlclose dlsym get_errno pointer resize"
    " set_errno PyObj_FromPtr Py_INCREF Py_DECREF _unpickle"
)
_NUMBERS = {
    "FUNCFLAG_CDECL": 1,
    "FUNCFLAG_PYTHONAPI": 4,
    "FUNCFLAG_USE_ERRNO": 8,
    "FUNCFLAG_USE_LASTERROR": 16,
    "RTLD_LOCAL": 0,
    "RTLD_GLOBAL": 256,
    "SIZEOF_TIME_T": 8,
    "_cast_addr": 0,
    "_memmove_addr": 0,
    "_memset_addr": 0,
    "_string_at_addr": 0,
    "_wstring_at_addr": 0,
}


def make(reason: str) -> ModuleType:
    """Return the module, which gives `reason` for what it cannot do."""
    global _reason
    _reason = reason
    module = ModuleType("_ctypes", reason)
    members: dict[str, Any] = dict.fromkeys(_FUNCTIONS.split(), _refuse)
    members |= _NUMBERS | {
        "_reason": reason,
        "__version__": "1.1.0",
        "_pointer_type_cache": _pointer_type_cache,
    }
    for one in (Structure, Union, Array, _Pointer, _SimpleCData, CFuncPtr, ArgumentError, _CData):
        one.__module__ = "_ctypes"
        members[one.__name__] = one
    for function in (POINTER, sizeof, dlopen):
        members[function.__name__] = function
    vars(module).update(members)
    return module
