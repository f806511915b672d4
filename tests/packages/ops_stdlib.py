"""Operations of the standard library's extension modules: values, text, formats, hashes, compression."""

import sys

from cases import near, same, standard


@standard("every extension module", "importlib.machinery", "sysconfig", seconds=180)
def every_extension_module():
    """Import each that is a file, but for CPython's own test modules and what needs a display."""
    import importlib
    import importlib.machinery
    import os

    skipped = ("_test", "_xx", "xx", "_ctypes_test", "_tkinter", "_gdbm", "_dbm")
    directory = next(path for path in sys.path if path.endswith("lib-dynload"))
    names = {file.partition(".")[0] for file in os.listdir(directory) if file.endswith(".so")}
    for name in sorted(names):
        if not name.startswith(skipped) or name.startswith("_xxi"):
            module = importlib.import_module(name)
            same(module.__spec__.name, name)
            assert isinstance(module.__spec__.loader, importlib.machinery.ExtensionFileLoader), module


@standard("_datetime", "datetime", "_datetime")
def datetime():
    import _datetime
    import datetime as dt
    import pickle

    assert dt.datetime is _datetime.datetime
    moment = dt.datetime(2024, 2, 29, 23, 59, tzinfo=dt.timezone(dt.timedelta(hours=5)))
    same((moment + dt.timedelta(minutes=2)).isoformat(), "2024-03-01T00:01:00+05:00")
    same(moment.astimezone(dt.UTC).strftime("%d %b %H:%M"), "29 Feb 18:59")
    same(pickle.loads(pickle.dumps(moment)), moment)
    same(dt.date.fromisocalendar(2025, 1, 1), dt.date(2024, 12, 30))

    class Zone(dt.tzinfo):
        def utcoffset(self, moment):
            return dt.timedelta(hours=moment.hour)

    same(dt.datetime(2024, 1, 1, 3, tzinfo=Zone()).utcoffset(), dt.timedelta(hours=3))
    try:
        dt.date(2023, 2, 29)
        raise AssertionError("a day that was not")
    except ValueError:
        pass


@standard("_decimal", "decimal", "_decimal")
def decimal():
    import _decimal
    from decimal import Decimal, DivisionByZero, getcontext, localcontext

    assert Decimal is _decimal.Decimal
    with localcontext() as context:
        context.prec = 50
        same(str(Decimal(2).sqrt())[:20], "1.414213562373095048")
        same(len(str(Decimal(1) / 7)), 52)
    same((Decimal("1.10") + Decimal("2.205")).quantize(Decimal("0.01")), Decimal("3.30"))
    same(Decimal(0.5).as_integer_ratio(), (1, 2))
    try:
        Decimal(1) / 0
        raise AssertionError("a division by zero")
    except DivisionByZero:
        pass
    same(f"{Decimal('1234567.891'):,.2f}", "1,234,567.89")
    assert getcontext().prec == 28


@standard("_ctypes", "ctypes", "_ctypes", "ctypes.util")
def ctypes():
    import ctypes as ct

    libc = ct.CDLL(None, use_errno=True)
    kind = ct.CFUNCTYPE(ct.c_int, ct.POINTER(ct.c_int), ct.POINTER(ct.c_int))
    calls = []

    def compare(left, right):
        calls.append(1)
        return left[0] - right[0]

    numbers = (ct.c_int * 6)(5, 3, 9, 1, 7, 0)
    libc.qsort(numbers, len(numbers), ct.sizeof(ct.c_int), kind(compare))
    same((list(numbers), bool(calls)), ([0, 1, 3, 5, 7, 9], True))

    class Quotient(ct.Structure):
        _fields_ = [("quot", ct.c_int), ("rem", ct.c_int)]

    libc.div.restype = Quotient
    libc.div.argtypes = [ct.c_int, ct.c_int]
    parts = libc.div(17, 5)
    same((parts.quot, parts.rem), (3, 2))
    ct.set_errno(0)
    same((libc.close(-1), ct.get_errno()), (-1, 9))
    buffer = ct.create_string_buffer(b"atoll")
    same(ct.string_at(ct.addressof(buffer) + 1, 3), b"tol")
    same(ct.pythonapi.PyLong_AsLong(ct.py_object(77)), 77)
    same(ct.cast(ct.pointer(ct.c_double(1.0)), ct.POINTER(ct.c_uint64))[0], 0x3FF0000000000000)
    with_argument = ct.PYFUNCTYPE(ct.py_object, ct.py_object, ct.c_ssize_t)
    same(with_argument(("PySequence_GetItem", ct.pythonapi))(["a", "b"], 1), "b")


@standard("_elementtree", "xml.etree.ElementTree", "_elementtree")
def elementtree():
    import _elementtree
    from xml.etree import ElementTree as ET

    assert ET.Element is _elementtree.Element
    root = ET.fromstring("<a>" + "".join(f"<b n='{i}'>{i}</b>" for i in range(30)) + "</a>")
    same(sum(int(b.text) for b in root.iter("b")), 435)
    same(root.find("b[@n='7']").text, "7")
    same(ET.fromstring(ET.tostring(root)).attrib, {})
    parser = ET.XMLPullParser(["start", "end"])
    parser.feed("<x><y>")
    same([(event, element.tag) for event, element in parser.read_events()], [("start", "x"), ("start", "y")])
    try:
        ET.fromstring("<a><b></a>")
        raise AssertionError("a broken document was read")
    except ET.ParseError as error:
        same(error.position, (1, 8))


@standard("pyexpat", "pyexpat", "xml.parsers.expat")
def pyexpat():
    from xml.parsers import expat

    seen = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda name, attributes: seen.append((name, attributes))
    parser.CharacterDataHandler = lambda text: seen.append(text)
    parser.Parse('<a xmlns="urn:x" k="1">text', False)
    parser.Parse("</a>", True)
    same(seen, [("urn:x a", {"k": "1"}), "text"])
    try:
        expat.ParserCreate().Parse("<a", True)
        raise AssertionError("half a document was read")
    except expat.ExpatError as error:
        same(error.code, expat.errors.codes[expat.errors.XML_ERROR_UNCLOSED_TOKEN])


@standard("_json", "json", "_json")
def json():
    import _json
    import json as js

    assert js.encoder.c_make_encoder is _json.make_encoder
    value = {"a": [1, 2.5, None, True, "é\n"], "b": {"c": 2**70}}
    same(js.loads(js.dumps(value)), value)
    same(js.loads("[1.5]", parse_float=str), ["1.5"])
    same(js.dumps({1: {2}}, default=sorted), '{"1": [2]}')
    try:
        js.loads('{"a": }')
        raise AssertionError("half a document was read")
    except js.JSONDecodeError as error:
        same(error.pos, 6)


@standard("_csv", "csv", "_csv")
def csv():
    import csv as cs
    import io

    text = io.StringIO()
    writer = cs.writer(text, delimiter=";", quoting=cs.QUOTE_NONNUMERIC)
    rows = [["a;b", 1.0], ['say "x"', -2.5]]
    writer.writerows(rows)
    text.seek(0)
    same(list(cs.reader(text, delimiter=";", quoting=cs.QUOTE_NONNUMERIC)), rows)
    same(cs.Sniffer().sniff("a|b\nc|d\n", delimiters="|").delimiter, "|")
    same(list(cs.DictReader(["x,y", "1,2"])), [{"x": "1", "y": "2"}])


@standard("_pickle, _struct, array", "pickle", "struct", "array", "copyreg")
def serial_formats():
    import _pickle
    import array
    import copyreg
    import pickle
    import struct

    assert pickle.Pickler is _pickle.Pickler
    numbers = array.array("d", [1.5, -2.0])
    numbers.extend([3.25])
    numbers.byteswap()
    numbers.byteswap()
    shared = [numbers]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps((shared, shared, {"k": {1, 2}}), protocol))
        same((again[0] is again[1], again[0][0], again[2]), (True, numbers, {"k": {1, 2}}))
    buffers = []
    data = pickle.dumps(pickle.PickleBuffer(b"x" * 50), 5, buffer_callback=buffers.append)
    same((bytes(pickle.loads(data, buffers=buffers)), len(buffers)), (b"x" * 50, 1))
    same(struct.unpack("<hId3s", struct.pack("<hId3s", -5, 7, 2.5, b"abc")), (-5, 7, 2.5, b"abc"))
    same(memoryview(array.array("H", range(4))).cast("B").nbytes, 8)
    same(copyreg.__newobj__(int), 0)


@standard("math, cmath, _statistics", "math", "cmath", "statistics")
def mathematics():
    import cmath
    import math
    import statistics

    near(math.fsum([0.1] * 10), 1.0, 0)
    same((math.comb(40, 20), math.isqrt(10**20), math.lcm(4, 6)), (137846528820, 10**10, 12))
    near(abs(cmath.exp(1j * cmath.pi) + 1), 0)
    near(statistics.NormalDist(0, 1).inv_cdf(0.975), 1.959964)
    near(statistics.fmean([1, 2, 4]), 7 / 3)


@standard("_random, _bisect, _heapq", "random", "bisect", "heapq", "secrets")
def small_algorithms():
    import bisect
    import heapq
    import random
    import secrets

    rng = random.Random(11)
    numbers = [rng.randrange(1000) for _ in range(200)]
    same(heapq.nsmallest(3, numbers), sorted(numbers)[:3])
    ordered: list[int] = []
    for number in numbers:
        bisect.insort(ordered, number, key=lambda n: n)
    same(ordered, sorted(numbers))
    same(list(heapq.merge([1, 4], [2, 3])), [1, 2, 3, 4])
    again = random.Random(11)
    same([again.random() for _ in range(3)], [r.random() for r in [random.Random(11)] for _ in range(3)])
    assert secrets.token_bytes(8) != secrets.token_bytes(8)


@standard("zlib, binascii", "zlib", "gzip", "binascii", "base64")
def zlib():
    import base64
    import binascii
    import gzip
    import zlib as zl

    data = bytes(range(256)) * 40
    same(zl.decompress(zl.compress(data, 9)), data)
    same(gzip.decompress(gzip.compress(data)), data)
    packer = zl.compressobj(wbits=-15)
    packed = packer.compress(data) + packer.copy().flush()
    same(zl.decompressobj(wbits=-15).decompress(packed), data)
    same(
        (zl.crc32(b"atoll"), binascii.crc32(b"atoll") == zl.crc32(b"atoll")),
        (zl.crc32(b"ll", zl.crc32(b"ato")), True),
    )
    same(base64.b85decode(base64.b85encode(data)), data)
    same(binascii.unhexlify(binascii.hexlify(data, ":").replace(b":", b"")), data)
    try:
        zl.decompress(b"nonsense")
        raise AssertionError("nonsense was decompressed")
    except zl.error:
        pass


@standard("_bz2, _lzma", "bz2", "lzma")
def other_compressors():
    import bz2
    import lzma

    data = b"atoll and lagoon " * 300
    same(bz2.decompress(bz2.compress(data)), data)
    same(lzma.decompress(lzma.compress(data, preset=1)), data)
    filters = [{"id": lzma.FILTER_DELTA, "dist": 2}, {"id": lzma.FILTER_LZMA2, "preset": 0}]
    raw = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
    same(lzma.decompress(raw, lzma.FORMAT_RAW, filters=filters), data)
    for broken in (bz2.BZ2Decompressor, lzma.LZMADecompressor):
        try:
            broken().decompress(b"nonsense nonsense nonsense")
            raise AssertionError("nonsense was decompressed")
        except (OSError, lzma.LZMAError):
            pass


@standard("_zstd", "compression.zstd", "_zstd", since=(3, 14))
def zstd():
    from compression import zstd as zs

    data = b"atoll and lagoon " * 300
    same(zs.decompress(zs.compress(data, level=7)), data)
    book = zs.train_dict([b"sample %d of a kind" % n * 5 for n in range(200)], 1024)
    same(zs.decompress(zs.compress(data, zstd_dict=book), zstd_dict=book), data)
    try:
        zs.decompress(b"nonsense nonsense")
        raise AssertionError("nonsense was decompressed")
    except zs.ZstdError:
        pass


@standard("_hashlib, _md5, _sha1, _sha2, _sha3, _blake2", "hashlib", "hmac", "_hashlib", "_blake2", "_sha3")
def hashes():
    import _blake2
    import _sha3
    import hashlib
    import hmac

    same(hashlib.sha256(b"abc").hexdigest()[:16], "ba7816bf8f01cfea")
    same(_sha3.sha3_256(b"abc").hexdigest(), hashlib.sha3_256(b"abc").hexdigest())
    same(_blake2.blake2b(b"abc", key=b"k").digest(), hashlib.blake2b(b"abc", key=b"k").digest())
    same(len(hashlib.scrypt(b"p", salt=b"s", n=16, r=1, p=1)), 64)
    same(hashlib.pbkdf2_hmac("sha1", b"password", b"salt", 2).hex()[:8], "ea6c014d")
    long = hashlib.new("sha512")
    for _ in range(4):
        long.update(b"x" * 5000)
    same(long.copy().digest(), hashlib.sha512(b"x" * 20000).digest())
    same(
        hmac.compare_digest(hmac.digest(b"k", b"m", "sha256"), hmac.new(b"k", b"m", "sha256").digest()), True
    )
    for name in sorted(hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}):
        assert hashlib.new(name, b"x", usedforsecurity=False).digest()


@standard("unicodedata, _codecs_*", "unicodedata", "_multibytecodec", "encodings.idna")
def text():
    import unicodedata

    same(unicodedata.normalize("NFD", "é"), "e\u0301")
    same(
        (unicodedata.name("☃"), unicodedata.lookup("SNOWMAN"), unicodedata.category("a")),
        ("SNOWMAN", "☃", "Ll"),
    )
    same(unicodedata.ucd_3_2_0.unidata_version, "3.2.0")
    for codec in "shift_jis gb18030 big5 euc_kr iso2022_jp euc_jis_2004 big5hkscs".split():
        word = {"euc_kr": "한국", "big5": "中文", "big5hkscs": "中文"}.get(codec, "日本")
        same(word.encode(codec).decode(codec), word)
    import codecs

    decoder = codecs.getincrementaldecoder("shift_jis")()
    same("".join(decoder.decode(bytes([byte])) for byte in "日本".encode("shift_jis")), "日本")
    same("bücher.example".encode("idna"), b"xn--bcher-kva.example")
    same("\N{GREEK SMALL LETTER ALPHA}", "α")


@standard("_zoneinfo", "zoneinfo", "_zoneinfo")
def zoneinfo():
    import datetime as dt
    import struct
    import zoneinfo as zi
    from io import BytesIO

    # A zone of its own: whether the system has any is not what is checked.
    kinds = struct.pack(">lBB", 3600, 0, 0) + struct.pack(">lBB", 7200, 1, 4)
    counts = struct.pack(">6l", 2, 2, 0, 2, 2, 8)

    def block(size):
        return (
            struct.pack(f">2{size}", 1_000_000, 2_000_000) + bytes([1, 0]) + kinds + b"WIN\0SUM\0" + bytes(4)
        )

    file = (
        b"TZif2" + bytes(15) + counts + block("l") + b"TZif2" + bytes(15) + counts + block("q") + b"\nWIN-1\n"
    )
    zone = zi.ZoneInfo.from_file(BytesIO(file), key="Test/Lagoon")
    summer = dt.datetime.fromtimestamp(1_500_000, zone)
    same((summer.tzname(), summer.utcoffset()), ("SUM", dt.timedelta(hours=2)))
    same(dt.datetime(2024, 7, 1, tzinfo=zone).tzname(), "WIN")
    same(dt.datetime(2024, 7, 1, tzinfo=dt.UTC).astimezone(zone).hour, 1)


@standard("_sqlite3", "sqlite3", "_sqlite3")
def sqlite3():
    import sqlite3 as sq

    class Longest:
        def __init__(self):
            self.found = ""

        def step(self, word):
            self.found = max(self.found, word, key=len)

        def finalize(self):
            return self.found

    connection = sq.connect(":memory:", detect_types=sq.PARSE_DECLTYPES)
    connection.row_factory = sq.Row
    connection.create_function("twice", 1, lambda x: x * 2, deterministic=True)
    connection.create_aggregate("longest", 1, Longest)
    connection.create_collation("backwards", lambda a, b: (a < b) - (a > b))
    with connection:
        connection.execute("create table words (n integer primary key, word text)")
        connection.executemany("insert into words (word) values (?)", [("fig",), ("apple",), ("pear",)])
    row = connection.execute("select twice(max(n)) as m, longest(word) as w from words").fetchone()
    same((row["m"], row["w"]), (6, "apple"))
    words = [w for (w,) in connection.execute("select word from words order by word collate backwards")]
    same(words, ["pear", "fig", "apple"])
    copy = sq.connect(":memory:")
    connection.backup(copy)
    same(copy.execute("select count(*) from words").fetchone(), (3,))
    try:
        connection.execute("insert into words values (1, 'twice')")
        raise AssertionError("a key was stored twice")
    except sq.IntegrityError:
        pass
    copy.close()
    connection.close()


@standard("_ast, _symtable, _tokenize, _opcode", "ast", "symtable", "tokenize", "dis")
def compiler_modules():
    import ast
    import dis
    import io
    import symtable
    import tokenize

    source = "def f(x):\n    return x + y\n"
    tree = ast.parse(source)
    same(ast.unparse(tree).strip(), source.strip())
    namespace = {"y": 5}
    exec(compile(tree, "<tree>", "exec"), namespace)
    same(namespace["f"](4), 9)
    same(symtable.symtable(source, "<source>", "exec").lookup("f").is_namespace(), True)
    same([t.string for t in tokenize.generate_tokens(io.StringIO("a+1").readline)][:3], ["a", "+", "1"])
    assert any(i.opname.startswith("RETURN") for i in dis.get_instructions(namespace["f"]))
    same(dis.stack_effect(dis.opmap["NOP"]), 0)


@standard("_sre, _collections, _functools, _operator", "re", "collections", "functools", "operator")
def builtin_helpers():
    import collections
    import functools
    import itertools
    import operator
    import re

    same(re.sub(r"(\w)(\d+)", lambda m: m[2] + m[1], "a12 b3"), "12a 3b")
    same(re.compile(r"(?P<y>\d{4})-(\d\d)").match("2024-05").groupdict(), {"y": "2024"})
    ring = collections.deque(range(5), maxlen=3)
    ring.rotate(1)
    same(list(ring), [4, 2, 3])
    same(collections.Counter("banana").most_common(1), [("a", 3)])

    @functools.lru_cache(maxsize=8)
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    same(fibonacci(30), 832040)
    same(sorted("bca", key=functools.cmp_to_key(lambda a, b: (a > b) - (a < b))), ["a", "b", "c"])
    same(list(itertools.accumulate(range(5), operator.mul, initial=1)), [1, 0, 0, 0, 0, 0])
    same(operator.methodcaller("upper")("x") + operator.itemgetter(1)("ab"), "Xb")
    point = collections.namedtuple("Point", "x y")(1, 2)
    same(point._replace(x=5), (5, 2))


@standard("_contextvars, _weakref, gc", "contextvars", "weakref", "gc", "types")
def object_helpers():
    import contextvars
    import gc
    import time
    import weakref

    variable = contextvars.ContextVar("variable", default=0)
    context = contextvars.copy_context()
    context.run(variable.set, 7)
    same((variable.get(), context[variable]), (0, 7))

    class Node:
        pass

    node = Node()
    node.self = node
    gone = []
    weakref.finalize(node, gone.append, 1).atexit = False
    reference = weakref.ref(node)
    del node
    for _ in range(100):
        gc.collect()  # does nothing while another thread collects
        if gone:
            break
        time.sleep(0.001)
    same((reference(), gone), (None, [1]))
