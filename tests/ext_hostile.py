"""Damages shared objects and tries to import them in an interpreter: run in a process of its own by the tests.

Each damage is announced before it is tried, so that the last line of a process that crashed names it.
"""

from __future__ import annotations

import os
import random
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import ext_use

SUFFIX = ".so"
HUGE = [1 << 63, (1 << 64) - 8, 1 << 47, 1 << 32]
LOAD, DYNAMIC, NOTE, TLS = 1, 2, 4, 7
PROPERTY, RELRO = 0x6474E553, 0x6474E552
# Dynamic tags.
TAGS = {
    "NEEDED": 1,
    "PLTRELSZ": 2,
    "HASH": 4,
    "STRTAB": 5,
    "SYMTAB": 6,
    "RELA": 7,
    "RELASZ": 8,
    "RELAENT": 9,
    "STRSZ": 10,
    "SYMENT": 11,
    "INIT": 12,
    "FINI": 13,
    "SONAME": 14,
    "RPATH": 15,
    "PLTREL": 20,
    "JMPREL": 23,
    "INIT_ARRAY": 25,
    "FINI_ARRAY": 26,
    "INIT_ARRAYSZ": 27,
    "FINI_ARRAYSZ": 28,
    "RUNPATH": 29,
    "GNU_HASH": 0x6FFFFEF5,
    "VERSYM": 0x6FFFFFF0,
    "VERNEED": 0x6FFFFFFE,
    "VERNEEDNUM": 0x6FFFFFFF,
}
IMPORTED = "it was imported"
DEBUG = 21  # a tag that means nothing in a shared object
ADDRESSES = [
    "STRTAB",
    "SYMTAB",
    "RELA",
    "JMPREL",
    "INIT",
    "INIT_ARRAY",
    "GNU_HASH",
    "HASH",
    "VERSYM",
    "VERNEED",
]
STRINGS = ["NEEDED", "SONAME", "RUNPATH", "RPATH"]

# Offset and format in the ELF header and in a program header.
HEADER = {
    "type": (16, "H"),
    "machine": (18, "H"),
    "version": (20, "I"),
    "phoff": (32, "Q"),
    "phentsize": (54, "H"),
}
HEADER["phnum"] = (56, "H")
SEGMENT = {"type": (0, "I"), "offset": (8, "Q"), "vaddr": (16, "Q"), "filesz": (32, "Q"), "memsz": (40, "Q")}
SEGMENT["align"] = (48, "Q")

MAYBE = "perhaps harmless: "  # a damage to what a loader need not use

Damage = Callable[["Image"], None]


class Image:
    """A shared object to be damaged: 64-bit, little-endian, and right before."""

    def __init__(self, content: bytes) -> None:
        self.bytes = bytearray(content)
        self.segments = [
            self.get(32, "Q") + number * self.get(54, "H") for number in range(self.get(56, "H"))
        ]
        at = next(segment for segment in self.segments if self.get(segment, "I") == DYNAMIC)
        self.dynamic, self.dynamic_size = self.get(at + 8, "Q"), self.get(at + 32, "Q")

    def get(self, at: int, form: str) -> int:
        """Return the number at an offset of the file."""
        return struct.unpack_from("<" + form, self.bytes, at)[0]

    def put(self, at: int, form: str, value: int) -> None:
        """Write the number at an offset of the file."""
        struct.pack_into("<" + form, self.bytes, at, value)

    def of_type(self, kind: int) -> list[int]:
        """Return the offsets of the program headers of a type."""
        return [segment for segment in self.segments if self.get(segment, "I") == kind]

    def entries(self, tag: str | None = None) -> list[int]:
        """Return the offsets of the dynamic entries with this tag, or of all."""
        all_of_them = range(self.dynamic, self.dynamic + self.dynamic_size, 16)
        return [at for at in all_of_them if tag is None or self.get(at, "Q") == TAGS[tag]]

    def value(self, tag: str) -> int:
        """Return the value of the first dynamic entry with this tag."""
        return self.get(self.entries(tag)[0] + 8, "Q")

    def offset(self, address: int) -> int:
        """Return where in the file an address is."""
        for at in self.of_type(LOAD):
            start = self.get(at + 16, "Q")
            if start <= address < start + self.get(at + 32, "Q"):
                return address - start + self.get(at + 8, "Q")
        raise ValueError(f"{address:#x} is not in the file")

    def end(self) -> int:
        """Return the first address behind the image."""
        at = self.of_type(LOAD)[-1]
        return self.get(at + 16, "Q") + self.get(at + 40, "Q")


def writes(at: int, form: str, value: int) -> Damage:
    """A damage: a number at an offset of the file."""
    return lambda image: image.put(at, form, value)


def damages(original: bytes) -> Iterator[tuple[str, Damage]]:
    """Yield every damage to this file with its name."""
    image = Image(original)
    yield from cut_short(image)
    yield from headers()
    yield from segments(image)
    yield from dynamic_section(image)
    yield from tables(image)


def cut_short(image: Image) -> Iterator[tuple[str, Damage]]:
    """The end is missing."""
    load = image.of_type(LOAD)[-1]
    within_data = image.get(load + 8, "Q") + image.get(load + 32, "Q") - 1
    for size in [
        0,
        1,
        4,
        16,
        63,
        64,
        64 + 56,
        within_data // 4,
        within_data // 2,
        image.dynamic,
        within_data,
    ]:

        def cut(image: Image, size: int = size) -> None:
            del image.bytes[size:]

        yield f"cut to {size} bytes", cut


def headers() -> Iterator[tuple[str, Damage]]:
    """The ELF header."""
    for name, at, value in [
        ("magic", 0, 0),
        ("magic", 3, 0x47),
        ("class 32", 4, 1),
        ("class 0", 4, 0),
        ("big-endian", 5, 2),
        ("byte order 0", 5, 0),
        ("version of the header", 6, 0),
        ("operating system", 7, 9),
    ]:
        yield name, writes(at, "B", value)
    for name, value in [
        *(("type", value) for value in [0, 1, 2, 4, 0xFFFF]),
        *(("machine", value) for value in [0, 3, 8, 0xFFFF]),
        *(("version", value) for value in [0, 2]),
        *(("phoff", value) for value in [*HUGE, 0, 1, 1 << 30]),
        *(("phentsize", value) for value in [0, 1, 55, 57, 0xFFFF]),
        *(("phnum", value) for value in [0, 0xFFFE, 0xFFFF]),
    ]:
        at, form = HEADER[name]
        yield f"{name} {value:#x}", writes(at, form, value)


def segments(image: Image) -> Iterator[tuple[str, Damage]]:
    """The program headers."""
    fields = {
        LOAD: ["offset", "vaddr", "filesz", "memsz", "align"],
        DYNAMIC: ["offset", "vaddr", "filesz"],
        TLS: ["vaddr", "filesz", "memsz"],
        NOTE: ["vaddr", "memsz"],
        PROPERTY: ["vaddr", "memsz"],
        RELRO: ["vaddr", "memsz"],
    }
    for kind, names in fields.items():
        for at in image.of_type(kind):
            for name in names:
                offset, form = SEGMENT[name]
                values = [3, (1 << 63) + 1] if name == "align" else HUGE
                for value in values:
                    unused = kind == NOTE or (kind, name) == (DYNAMIC, "offset")
                    large = (kind, name, value) == (LOAD, "memsz", 1 << 32)
                    may = MAYBE if unused or large else ""
                    yield (
                        f"{may}{name} of segment {kind:#x} at {at} {value:#x}",
                        writes(at + offset, form, value),
                    )
    for kind in [LOAD, DYNAMIC]:

        def remove(image: Image, kind: int = kind) -> None:
            for at in image.of_type(kind):
                image.put(at, "I", 0)

        yield f"no segment of type {kind}", remove
    first, second = image.of_type(LOAD)[:2]

    def swap(image: Image) -> None:
        one, other = image.bytes[first : first + 56], image.bytes[second : second + 56]
        image.bytes[first : first + 56], image.bytes[second : second + 56] = other, one

    yield "segments in the wrong order", swap
    yield "segments that overlap", writes(second + 16, "Q", image.get(first + 16, "Q"))
    yield "file and address that do not fit", writes(second + 16, "Q", image.get(second + 16, "Q") + 8)
    yield "more in the file than in memory", writes(first + 40, "Q", 8)


def dynamic_section(image: Image) -> Iterator[tuple[str, Damage]]:
    """The dynamic section's entries."""
    end = image.end()
    for name in ADDRESSES:
        for at in image.entries(name):
            for value in [*HUGE, end, end + 4096]:
                yield f"{name} {value:#x}", writes(at + 8, "Q", value)
    for name in STRINGS:
        for at in image.entries(name):
            for value in [*HUGE, image.value("STRSZ")]:
                yield f"{name} {value:#x}", writes(at + 8, "Q", value)
    sizes = {
        "STRSZ": [0, *HUGE],
        "SYMENT": [0, 7, 1 << 32],
        "RELAENT": [0, 7, 1 << 32],
        "VERNEEDNUM": [1 << 40],
    }
    sizes |= dict.fromkeys(["RELASZ", "PLTRELSZ", "INIT_ARRAYSZ"], HUGE)
    for name, values in sizes.items():
        for at in image.entries(name):
            for value in values:
                yield f"{name} {value:#x}", writes(at + 8, "Q", value)
    for name in ["STRTAB", "SYMTAB", "STRSZ"]:
        yield f"no {name}", writes(image.entries(name)[0], "Q", DEBUG)

    def endless(image: Image) -> None:
        for at in image.entries():
            if image.get(at, "Q") == 0:
                image.put(at, "Q", DEBUG)

    yield "no end of the dynamic section", endless


def tables(image: Image) -> Iterator[tuple[str, Damage]]:
    """What the dynamic section leads to: hash tables, symbols, versions."""
    if image.entries("GNU_HASH"):
        at = image.offset(image.value("GNU_HASH"))
        for name, offset, values in [
            ("buckets", 0, [1 << 31, 0xFFFFFFFF]),
            ("first symbol", 4, [1 << 31, 0xFFFFFFFF]),
            ("words of the filter", 8, [1 << 31, 0xFFFFFFFF, 0, 3]),
        ]:
            for value in values:
                yield f"hash table: {name} {value:#x}", writes(at + offset, "I", value)
        bucket = at + 16 + 8 * image.get(at + 8, "I")
        yield "hash table: symbol of a bucket", writes(bucket, "I", 0x7FFFFFFF)
    if image.entries("HASH"):
        at = image.offset(image.value("HASH"))
        for name, offset in [("buckets", 0), ("chains", 4)]:
            for value in [1 << 31, 0xFFFFFFFF]:
                yield f"old hash table: {name} {value:#x}", writes(at + offset, "I", value)
    symbols = image.offset(image.value("SYMTAB"))
    yield "name of a symbol", writes(symbols + 24, "I", 0x7FFFFFFF)
    if image.entries("VERNEED"):
        at = image.offset(image.value("VERNEED"))
        for name, offset, form, value in [
            ("version", 0, "H", 9),
            ("count", 2, "H", 0xFFFF),
            ("file", 4, "I", 0x7FFFFFFF),
            ("first name", 8, "I", 0x7FFFFFF0),
            ("next", 12, "I", 0x7FFFFFF0),
        ]:
            yield f"versions: {name}", writes(at + offset, form, value)
        first = at + image.get(at + 8, "I")
        yield "versions: name", writes(first + 8, "I", 0x7FFFFFFF)
    strings = image.offset(image.value("STRTAB"))
    size = image.value("STRSZ")

    def unterminated(image: Image) -> None:
        image.bytes[strings + size - 1] = ord("x")

    yield "a string table without an end", unterminated


def announce(name: str) -> None:
    """Print at once."""
    print(name, flush=True)


def attempt(interp: object, module: str, path: str) -> str:
    """Import the module from the file in the interpreter; "" or what is wrong about how it failed."""
    kind, *details = interp.call(ext_use.failure, module, path)  # type: ignore[attr-defined]
    if kind == "imported":
        return IMPORTED
    text, name, found = details[:3]
    if kind != "ImportError" or name != module or found != path:
        return f"{kind}: {text} (name {name}, path {found})"
    return (
        ""
        if path in text or "dynamic module does not define" in text
        else f"the error does not name the file: {text}"
    )


def try_all(original: str, folder: str) -> str:
    """Try every damage to the file in one interpreter, then the file as it is; return the result in words."""
    content = Path(original).read_bytes()
    module = os.path.basename(original).partition(".")[0]
    interp = ext_use.create()
    wrong = []
    for number, (name, damage) in enumerate(damages(content)):
        announce(name)
        image = Image(content)
        damage(image)
        path = os.path.join(folder, f"ext_{number}{SUFFIX}")
        Path(path).write_bytes(image.bytes)
        why = attempt(interp, module, path)
        if why and not (name.startswith(MAYBE) and why == IMPORTED):
            wrong.append(f"{name}: {why}")
        os.unlink(path)
    path = os.path.join(folder, f"ext_right{SUFFIX}")
    Path(path).write_bytes(content)
    assert interp.call(ext_use.failure, module, path) == ("imported",)
    interp.close()
    return "\n".join(["", *wrong, f"{len(wrong)} of {number + 1} not refused" if wrong else "all refused"])


def try_random(original: str, folder: str, seed: int, count: int) -> str:
    """Write large random numbers to random fields of the headers, `count` times; return "survived"."""
    content = Path(original).read_bytes()
    module = os.path.basename(original).partition(".")[0]
    chooser = random.Random(seed)
    interp = ext_use.create()
    for number in range(count):
        image = Image(content)
        for _ in range(chooser.randint(1, 3)):
            if chooser.random() < 0.2:
                at, form = chooser.choice(list(HEADER.values()))
            else:
                at, form = SEGMENT[chooser.choice(["offset", "vaddr", "filesz", "memsz", "align"])]
                at += chooser.choice(image.of_type(LOAD) + image.of_type(DYNAMIC))
            value = chooser.getrandbits(8 * struct.calcsize(form)) | len(content)
            announce(f"{number}: {at} {value:#x}")
            image.put(at, form, value)
        path = os.path.join(folder, f"ext_{number}{SUFFIX}")
        Path(path).write_bytes(image.bytes)
        kind = interp.call(ext_use.failure, module, path)[0]
        assert kind in ("ImportError", "imported"), kind
        os.unlink(path)
    interp.close()
    return "survived"


if __name__ == "__main__":
    print(try_all(*sys.argv[1:3]))
