"""Reads what the threads of another process are executing, out of its memory.

Nothing runs in that process for it, and nobody is stopped: what changes meanwhile is read again, or left out. So
everything that is read is doubted: addresses may lead nowhere, and what should be a code object has to have that type.

Since 3.13 CPython says at the beginning of _PyRuntime where its structures have what a debugger needs; for 3.12, whose
structures will not change any more, it is written down here. Where _PyRuntime is, the table of symbols of
the executable or of libpython says. Reading another's memory needs the rights that a debugger needs.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

MOST_FRAMES = 500
MOST_THREADS = 10_000
_TRIES = 5


class Frame(NamedTuple):
    """A function that is being executed, and where."""

    function: str
    file: str
    line: int | None


@dataclass
class Thread:
    """A thread of an interpreter: the system's number and name of it, and its frames, innermost first."""

    interpreter: int
    thread: int
    name: str | None
    frames: list[Frame]

    def text(self, of: str = "") -> str:
        """Return what it executes as tracebacks show it, below a line that says which thread it is, and whose."""
        lines = [f"{of}thread {self.thread} ({self.name or 'ended'}):"]
        lines += [
            f'  File "{frame.file}", line {frame.line}, in {frame.function}'
            for frame in reversed(self.frames)
        ]
        return "\n".join(lines)


class UnreadableError(Exception):
    """A process's memory cannot be read, or is not as it should be."""


# What _Py_DebugOffsets has, in the order of its words, each group with its size first.
_RUNTIME = "size finalizing interpreters_head"
_INTERP_13 = (
    "size id next threads_head gc imports_modules sysdict builtins ceval_gil gil_runtime_state gil_enabled gil_locked"
    " gil_holder"
)
_INTERP_14 = (
    "size id next threads_head threads_main gc imports_modules sysdict builtins ceval_gil gil_runtime_state"
    " gil_enabled gil_locked gil_holder code_object_generation tlbc_generation"
)
_THREAD_13 = "size prev next interp current_frame thread_id native_thread_id datastack_chunk status"
_THREAD_15 = (
    "size prev next interp current_frame base_frame last_profiled_frame last_profiled_frame_seq thread_id"
    " native_thread_id datastack_chunk status holds_gil gil_requested current_exception exc_state"
)
_FRAME_13 = "size previous executable instr_ptr localsplus owner"
_FRAME_14 = "size previous executable instr_ptr localsplus owner stackpointer tlbc_index"
_CODE = "size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds co_code_adaptive"
_LAYOUTS = {
    (3, 13): {
        "runtime": _RUNTIME,
        "interp": _INTERP_13,
        "thread": _THREAD_13,
        "frame": _FRAME_13,
        "code": _CODE,
    },
    (3, 14): {
        "runtime": _RUNTIME,
        "interp": _INTERP_14,
        "thread": _THREAD_13,
        "frame": _FRAME_14,
        "code": _CODE,
    },
    (3, 15): {
        "runtime": _RUNTIME,
        "interp": _INTERP_14,
        "thread": _THREAD_15,
        "err_stackitem": "exc_value",
        "frame": _FRAME_14,
        "code": _CODE,
    },
}
_OFFSETS_12 = {
    "runtime.interpreters_head": 40,
    "interp.id": 8,
    "interp.next": 0,
    "interp.threads_head": 72,
    "thread.next": 8,
    "thread.native_thread_id": 144,
    "thread.current_frame": 56,  # of a structure that begins with the frame
    "frame.executable": 0,
    "frame.previous": 8,
    "frame.instr_ptr": 56,
    "frame.owner": 70,
    "code.filename": 112,
    "code.qualname": 128,
    "code.firstlineno": 68,
    "code.linetable": 136,
    "code.co_code_adaptive": 192,
}
_OWNED_BY_C = 3  # and above: a frame that is no function's
_TYPE, _BYTES_SIZE, _BYTES, _LENGTH, _STATE, _ASCII, _COMPACT = 8, 16, 32, 16, 32, 40, 56


class Process:
    """Another process that runs CPython 3.12 to 3.15."""

    def __init__(self, pid: int) -> None:
        """Find what is needed of it.  Raises UnreadableError, ProcessLookupError."""
        self.pid = pid
        try:
            self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ProcessLookupError(f"there is no process {pid}") from None
        except PermissionError:
            raise UnreadableError(
                f"the memory of process {pid} may not be read: that needs the rights of a debugger (root, or the same"
                " user where /proc/sys/kernel/yama/ptrace_scope is 0)"
            ) from None
        try:
            symbols = _find_symbols(pid)
            self._runtime = symbols["_PyRuntime"]
            self._code_type = symbols["PyCode_Type"]
            self._version = self._find_version(symbols["Py_Version"])
            self._at = self._find_offsets()
        except BaseException:
            os.close(self._memory)
            raise

    def close(self) -> None:
        """Let go of it."""
        os.close(self._memory)

    def __enter__(self) -> "Process":
        """Return it."""
        return self

    def __exit__(self, *details: object) -> None:
        """Let go of it."""
        self.close()

    # ---- reading ----

    def _read(self, address: int, size: int) -> bytes:
        try:
            data = os.pread(self._memory, size, address)
        except (OSError, OverflowError, ValueError) as error:
            raise UnreadableError(f"{address:#x}: {error}") from None
        if len(data) != size:
            raise UnreadableError(f"{address:#x}: the process has ended")
        return data

    def _word(self, address: int) -> int:
        return int.from_bytes(self._read(address, 8), "little")

    def _field(self, address: int, name: str) -> int:
        return self._word(address + self._at[name])

    def _find_version(self, address: int) -> tuple[int, int]:
        number = self._word(address)
        version = number >> 24 & 0xFF, number >> 16 & 0xFF
        if version != (3, 12) and version not in _LAYOUTS:
            raise UnreadableError(f"process {self.pid} runs Python {version[0]}.{version[1]}")
        return version

    def _find_offsets(self) -> dict[str, int]:
        if self._version == (3, 12):
            return _OFFSETS_12
        names = [
            f"{group}.{name}" for group, words in _LAYOUTS[self._version].items() for name in words.split()
        ]
        words = struct.unpack(f"<{3 + len(names)}Q", self._read(self._runtime, 8 * (3 + len(names))))
        if self._read(self._runtime, 8) != b"xdebugpy":
            raise UnreadableError(f"process {self.pid} does not say where its structures have what")
        return dict(zip(names, words[3:], strict=True))

    # ---- what is there ----

    def threads(self, most: int = MOST_FRAMES) -> list[Thread]:
        """Return the threads that execute something, each with its innermost frames, `most` of them."""
        found = []
        for interp in self._chain(self._field(self._runtime, "runtime.interpreters_head"), "interp.next"):
            number = self._field(interp, "interp.id")
            for state in self._chain(self._field(interp, "interp.threads_head"), "thread.next"):
                frames = self._stable_frames(state, most)
                if frames:
                    thread = self._field(state, "thread.native_thread_id")
                    found.append(Thread(number, thread, _thread_name(self.pid, thread), frames))
        found.sort(key=lambda one: (one.interpreter, one.thread))
        return found

    def _chain(self, address: int, following: str) -> Iterator[int]:
        """Yield the addresses of a list, as far as they can be read."""
        for _ in range(MOST_THREADS):
            if address == 0:
                return
            yield address
            try:
                address = self._field(address, following)
            except UnreadableError:
                return

    def _stable_frames(self, state: int, most: int) -> list[Frame]:
        """Return a thread's frames, read again when they have changed meanwhile."""
        for _ in range(_TRIES):
            try:
                return self._frames(state, most)
            except (UnreadableError, UnicodeDecodeError, struct.error):
                continue
        return []

    def _frames(self, state: int, most: int) -> list[Frame]:
        at = self._field(state, "thread.current_frame")
        if at != 0 and self._version == (3, 12):
            at = self._word(at)
        frames: list[Frame] = []
        for _ in range(2 * MOST_FRAMES):
            if at == 0 or len(frames) >= most:
                break
            if self._read(at + self._at["frame.owner"], 1)[0] < _OWNED_BY_C:
                code = self._field(at, "frame.executable") & ~7
                frames.append(self._frame(code, self._field(at, "frame.instr_ptr")))
            at = self._field(at, "frame.previous")
        return frames

    def _frame(self, code: int, instruction: int) -> Frame:
        if self._word(code + _TYPE) != self._code_type:
            raise UnreadableError("no code object")
        first = struct.unpack("<i", self._read(code + self._at["code.firstlineno"], 4))[0]
        table = self._bytes(self._field(code, "code.linetable"))
        offset = (instruction - code - self._at["code.co_code_adaptive"]) // 2
        return Frame(
            self._text(self._field(code, "code.qualname")),
            self._text(self._field(code, "code.filename")),
            find_line(table, first, offset),
        )

    def _bytes(self, address: int) -> bytes:
        size = self._word(address + _BYTES_SIZE)
        if size > 1 << 22:
            raise UnreadableError("too long")
        return self._read(address + _BYTES, size)

    def _text(self, address: int) -> str:
        length = self._word(address + _LENGTH)
        if length > 1 << 16:
            raise UnreadableError("too long")
        state = int.from_bytes(self._read(address + _STATE, 4), "little")
        kind, is_ascii = state >> 2 & 7, state >> 6 & 1
        data = self._read(address + (_ASCII if is_ascii else _COMPACT), length * kind)
        # Names of files may have halves of characters, for bytes that are no text.
        return data.decode({1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}.get(kind, "ascii"), "replace")


def find_line(table: bytes, first: int, offset: int) -> int | None:
    """Return the line of an instruction, by a code object's table of locations (PEP 626); None: it has none."""
    line, at, place = first, 0, 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = table[place]
            place += 1
            value |= (byte & 63) << shift
            if not byte & 64:
                return value
            shift += 6

    try:
        while place < len(table):
            kind, length = table[place] >> 3 & 15, (table[place] & 7) + 1
            place += 1
            if kind in (13, 14):
                delta = varint()
                line += -(delta >> 1) if delta & 1 else delta >> 1
                for _ in range(3 if kind == 14 else 0):
                    varint()
            elif kind < 13:
                line += max(kind - 10, 0)
                place += 1 if kind < 10 else 2
            at += length
            if offset < at:
                return None if kind == 15 else line
    except IndexError:
        pass
    return None


def _thread_name(pid: int, thread: int) -> str | None:
    try:
        with open(f"/proc/{pid}/task/{thread}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None


# ------------------------------------------------------------------------------------------------
# Symbols
# ------------------------------------------------------------------------------------------------

_WANTED = ("_PyRuntime", "PyCode_Type", "Py_Version")


def _find_symbols(pid: int) -> dict[str, int]:
    """Return the addresses of what is wanted, in the executable or libpython."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
        executable = os.readlink(f"/proc/{pid}/exe")
    except PermissionError:
        raise UnreadableError(f"process {pid} is another user's") from None
    except OSError:
        raise ProcessLookupError(f"there is no process {pid}") from None
    bases: dict[str, int] = {}
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[2] == "00000000":
            bases.setdefault(fields[5], int(fields[0].partition("-")[0], 16))
    for path, base in bases.items():
        if path == executable or os.path.basename(path).startswith("libpython3"):
            file_of = f"/proc/{pid}/exe" if path == executable else f"/proc/{pid}/root{path}"
            try:
                with open(file_of, "rb") as library:
                    found = read_symbols(library.read(), base)
            except (OSError, struct.error, IndexError):
                continue
            if len(found) == len(_WANTED):
                return found
    raise UnreadableError(f"process {pid} does not run CPython")


def read_symbols(data: bytes, base: int) -> dict[str, int]:
    """Return the addresses of what is wanted among an ELF file's dynamic symbols, when it is mapped at base."""
    if data[:6] != b"\x7fELF\x02\x01":
        return {}
    kind = struct.unpack_from("<H", data, 16)[0]
    sections, entry, count = (*struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HH", data, 58))
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, sections + i * entry) for i in range(count)]
    found: dict[str, int] = {}
    for header in headers:
        if header[1] != 11:  # SHT_DYNSYM
            continue
        names = headers[header[6]][4]
        wanted = {_find_name(data, names, headers[header[6]][5], name): name for name in _WANTED}
        for at in range(header[4], header[4] + header[5], 24):
            name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, at)
            if name in wanted and section != 0:
                found[wanted[name]] = value + (base if kind == 3 else 0)  # 3: it may be mapped anywhere
    return found


def _find_name(data: bytes, start: int, size: int, name: str) -> Any:
    """Return where a table of strings has a name; None when it has not."""
    at = data.find(b"\0" + name.encode() + b"\0", start, start + size)
    return at + 1 - start if at >= 0 else None
