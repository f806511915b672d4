"""Operations of packages for data: tables, formats, parsers, compressors, text."""

from cases import near, package, same


@package(
    "pyarrow", *"pyarrow pyarrow.compute pyarrow.dataset pyarrow.fs pyarrow.parquet".split(), seconds=240
)
def pyarrow():
    import io
    import tempfile

    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq
    from pyarrow import fs

    table = pa.table(
        {
            "key": ["a", "b", None] * 40,
            "n": pa.array(range(120)),
            "at": pa.array([0] * 120, pa.timestamp("ms")),
        }
    )
    same(pc.sum(table["n"]).as_py(), 7140)
    totals = table.group_by("key").aggregate([("n", "sum")]).sort_by("n_sum").to_pylist()
    same([row["n_sum"] for row in totals], [2340, 2380, 2420])
    memory = io.BytesIO()
    pq.write_table(table, memory, compression="zstd")
    read = pq.read_table(pa.BufferReader(memory.getvalue()), columns=["n", "key"])
    same(read["key"].to_pylist(), table["key"].to_pylist())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    same(pa.ipc.open_stream(sink.getvalue()).read_all().equals(table), True)
    same(pc.filter(table["n"], pc.greater(table["n"], 117)).to_pylist(), [118, 119])
    with tempfile.TemporaryDirectory() as directory:
        files = fs.SubTreeFileSystem(directory, fs.LocalFileSystem())
        ds.write_dataset(table, "parts", format="parquet", filesystem=files, partitioning=["key"])
        found = files.get_file_info(fs.FileSelector("parts"))
        same(len(found), 3)
        dataset = ds.dataset("parts", format="parquet", filesystem=files, partitioning=["key"])
        same(dataset.count_rows(filter=ds.field("n") >= 60), 60)
    try:
        pa.array([1, "x"])
        raise AssertionError("an array of two types was made")
    except pa.ArrowInvalid:
        pass


@package("polars", seconds=240)
def polars():
    import io

    import polars as pl

    frame = pl.DataFrame({"k": ["x", "y"] * 50, "v": range(100)})
    totals = frame.lazy().group_by("k").agg(pl.col("v").sum()).sort("k").collect()
    same(totals.rows(), [("x", 2450), ("y", 2500)])
    same(frame.filter(pl.col("v") % 10 == 3)["v"].to_list(), list(range(3, 100, 10)))
    memory = io.BytesIO()
    frame.write_csv(memory)
    same(pl.read_csv(memory.getvalue()).equals(frame), True)
    doubled = frame.select(pl.col("v").map_batches(lambda column: column * 2, return_dtype=pl.Int64))
    same(doubled["v"].sum(), 9900)
    same(frame.join(totals, on="k", how="inner", suffix="_sum").height, 100)


@package("duckdb", "duckdb", seconds=180)
def duckdb():
    import duckdb as db

    with db.connect(":memory:") as connection:
        connection.execute("create table t as select i, i % 3 as g, 'n' || i as s from range(300) r(i)")
        rows = connection.execute(
            "select g, count(*), sum(i)::bigint from t group by g order by g"
        ).fetchall()
        same(rows, [(0, 100, 14850), (1, 100, 14950), (2, 100, 15050)])
        connection.create_function("twice", lambda x: x * 2, ["BIGINT"], "BIGINT")
        same(connection.execute("select twice(max(i)) from t").fetchone(), (598,))
        try:
            connection.execute("select nothing from t")
            raise AssertionError("an unknown column was found")
        except db.BinderException:
            pass


@package("orjson")
def orjson():
    import dataclasses
    import datetime
    import uuid

    import orjson as oj

    @dataclasses.dataclass
    class Point:
        x: int
        y: float

    value = {
        "point": Point(1, 2.5),
        "when": datetime.datetime(2024, 5, 6),
        "id": uuid.UUID(int=5),
        "é": [None, True],
    }
    text = oj.dumps(value, option=oj.OPT_SORT_KEYS)
    same(oj.loads(text)["point"], {"x": 1, "y": 2.5})
    same(oj.loads(oj.dumps({1: {1, 2}}, default=sorted, option=oj.OPT_NON_STR_KEYS)), {"1": [1, 2]})
    try:
        oj.loads(b'{"a": ')
        raise AssertionError("half a document was read")
    except oj.JSONDecodeError as error:
        same(error.pos, 6)


@package("msgpack", "msgpack", "msgpack._cmsgpack")
def msgpack():
    import datetime

    import msgpack as mp

    value = {"list": [1, -5, 2**40, 1.5, None, True], "bytes": b"\x00\xff", "text": "déjà"}
    same(mp.unpackb(mp.packb(value)), value)
    when = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)
    same(mp.unpackb(mp.packb(when, datetime=True), timestamp=3), when)
    unpacker = mp.Unpacker(object_hook=lambda d: sorted(d))
    unpacker.feed(mp.packb({"b": 1, "a": 2}) + mp.packb(3))
    same(list(unpacker), [["a", "b"], 3])


@package("ujson")
def ujson():
    import ujson as uj

    value = {"a": [1.25, "x/y", None, {"é": 2**60}]}
    same(uj.loads(uj.dumps(value)), value)
    same(uj.dumps([object], default=lambda o: o.__name__), '["object"]')
    try:
        uj.loads("[1,")
        raise AssertionError("half a document was read")
    except uj.JSONDecodeError:
        pass


@package("PyYAML", "yaml", "yaml._yaml")
def pyyaml():
    import yaml

    text = "base: &b {x: 1, y: [two, 3.0]}\ncopy: *b\nwhen: 2024-02-03\n"
    value = yaml.load(text, yaml.CSafeLoader)
    same((value["copy"]["y"], value["when"].day, value["base"] is value["copy"]), (["two", 3.0], 3, True))
    same(yaml.load(yaml.dump(value, Dumper=yaml.CSafeDumper), yaml.CSafeLoader), value)
    try:
        yaml.load("a: [1", yaml.CSafeLoader)
        raise AssertionError("half a document was read")
    except yaml.YAMLError as error:
        assert "line 1" in str(error), error


@package("protobuf", "google.protobuf", "google._upb._message")
def protobuf():
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, struct_pb2
    from google.protobuf.internal import api_implementation

    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    order = file.message_type.add(name="Order")
    order.field.add(name="id", number=1, type=5, label=1)
    order.field.add(name="lines", number=2, type=9, label=3)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))
    message = kind(id=7, lines=["a", "b"] * 20)
    same(kind.FromString(message.SerializeToString()), message)
    same(json_format.MessageToDict(kind(id=3, lines=["z"])), {"id": 3, "lines": ["z"]})
    box = struct_pb2.Struct()
    box.update({"x": [1.0, {"y": None}]})
    same(struct_pb2.Struct.FromString(box.SerializeToString())["x"][0], 1.0)
    same(api_implementation.Type(), "upb")


@package("lxml", "lxml.etree", "lxml.html", "lxml.objectify")
def lxml():
    from lxml import etree, html, objectify

    root = etree.fromstring(
        "<shop>" + "".join(f"<item n='{i}'>{i * i}</item>" for i in range(40)) + "</shop>"
    )
    same(root.xpath("string(//item[@n = 7])"), "49")
    same([item.get("n") for item in root.iter("item")][-1], "39")
    sheet = etree.XSLT(
        etree.XML(
            '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:template match="/">'
            '<sum><xsl:value-of select="sum(//item)"/></sum></xsl:template></xsl:stylesheet>'
        )
    )
    same(sheet(root).getroot().text, str(sum(i * i for i in range(40))))
    same(html.fromstring("<p>one<p>two<b>!").xpath("count(//p)"), 2.0)
    same(objectify.fromstring("<a><b>5</b></a>").b + 1, 6)
    space = etree.FunctionNamespace("urn:atoll")
    space["twice"] = lambda context, x: x * 2
    same(root.xpath("t:twice(21)", namespaces={"t": "urn:atoll"}), 42.0)
    try:
        etree.fromstring("<a><b></a>")
        raise AssertionError("a broken document was read")
    except etree.XMLSyntaxError as error:
        assert "mismatch" in str(error), error


@package("pydantic", "pydantic", "pydantic_core")
def pydantic():
    import datetime

    import pydantic as pyd

    class Item(pyd.BaseModel):
        name: str
        price: float = pyd.Field(gt=0)
        tags: list[str] = []

        @pyd.field_validator("name")
        @classmethod
        def trim(cls, value: str) -> str:
            return value.strip()

    order = pyd.create_model("Order", items=(list[Item], ...), day=(datetime.date, ...))
    made = order.model_validate({"items": [{"name": " tea ", "price": "2.5"}], "day": "2024-04-05"})
    same((made.items[0].name, made.items[0].price, made.day.month), ("tea", 2.5, 4))
    same(order.model_validate_json(made.model_dump_json()), made)
    try:
        Item(name="x", price=-1)
        raise AssertionError("a negative price was taken")
    except pyd.ValidationError as error:
        same(error.errors()[0]["type"], "greater_than")


@package("zstandard")
def zstandard():
    import zstandard as zs

    same(zs.backend, "cext")
    data = b"".join(b"row %d;" % i for i in range(2000))
    compressed = zs.ZstdCompressor(level=5).compress(data)
    assert len(compressed) < len(data) // 2
    same(zs.ZstdDecompressor().decompress(compressed), data)
    samples = [b"sample number %d of the same kind" % i * 4 for i in range(200)]
    book = zs.train_dictionary(1024, samples)
    small = zs.ZstdCompressor(dict_data=book).compress(samples[3])
    same(zs.ZstdDecompressor(dict_data=book).decompress(small), samples[3])


@package("lz4", "lz4.block", "lz4.frame")
def lz4():
    import lz4.block
    import lz4.frame

    data = b"atoll " * 3000
    same(lz4.frame.decompress(lz4.frame.compress(data, content_checksum=True)), data)
    same(lz4.block.decompress(lz4.block.compress(data, mode="high_compression")), data)
    try:
        lz4.frame.decompress(b"nonsense")
        raise AssertionError("nonsense was decompressed")
    except RuntimeError:
        pass


@package("regex")
def regex():
    import regex as rx

    same(rx.findall(r"\p{Lu}\p{Ll}+", "Élan vital, Ñandú"), ["Élan", "Ñandú"])
    same(rx.fullmatch(r"(?:(\w)(?=.*\1))*.+", "abcabc").captures(1), ["a", "b", "c"])
    assert rx.search(r"(?:colour){e<=1}", "my color here"), "no fuzzy match"
    same(rx.sub(r"(?<n>\d+)", lambda m: str(int(m["n"]) * 2), "3 and 21"), "6 and 42")
    same(rx.match(r"\((?:[^()]|(?R))*\)", "(a(b)c)d").group(), "(a(b)c)")


@package("rapidfuzz", "rapidfuzz.fuzz_cpp", "rapidfuzz.process_cpp", "rapidfuzz.distance.metrics_cpp")
def rapidfuzz():
    from rapidfuzz import distance, fuzz, process

    same(distance.Levenshtein.distance("kitten", "sitting"), 3)
    same(process.extractOne("appel", ["pear", "apple", "fig"], scorer=fuzz.WRatio)[0], "apple")
    same([op.tag for op in distance.Levenshtein.editops("ab", "axb")], ["insert"])
    near(distance.JaroWinkler.similarity("martha", "marhta"), 0.9611, 1e-3)


@package("tokenizers", "tokenizers", "tokenizers.models", "tokenizers.pre_tokenizers", "tokenizers.trainers")
def tokenizers():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[?]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["[?]"], show_progress=False)
    tokenizer.train_from_iterator(["low lower lowest", "new newer newest"] * 8, trainer)
    batch = tokenizer.encode_batch(["lower newest", "low new"])
    same([encoding.tokens for encoding in batch][1], ["low", "new"])
    same(Tokenizer.from_str(tokenizer.to_str()).encode("lower").ids, tokenizer.encode("lower").ids)


@package("rpds-py", "rpds")
def rpds():
    from rpds import HashTrieMap, HashTrieSet, List

    first = HashTrieMap({"a": 1, "b": 2})
    second = first.insert("c", 3).remove("a")
    same((sorted(first), sorted(second.items())), (["a", "b"], [("b", 2), ("c", 3)]))
    same(list(List([1, 2]).push_front(0)), [0, 1, 2])
    same(HashTrieSet([1, 2]).union(HashTrieSet([2, 3])), HashTrieSet([1, 2, 3]))
    try:
        first.remove("z")
        raise AssertionError("what is not there was removed")
    except KeyError:
        pass


@package("wrapt", "wrapt", "wrapt._wrappers")
def wrapt():
    import wrapt as w

    @w.decorator
    def shout(wrapped, instance, args, kwargs):
        return wrapped(*args, **kwargs).upper() + ("!" if instance is None else "?")

    class Speaker:
        @shout
        def say(self, text):
            return text

    same((shout(str)("hi"), Speaker().say(text="so")), ("HI!", "SO?"))
    proxy = w.ObjectProxy([3, 1])
    proxy.append(2)
    same((sorted(proxy), isinstance(proxy, list), len(proxy.__wrapped__)), ([1, 2, 3], True, 3))
    assert w.PartialCallableObjectProxy(pow, 2)(5) == 32


@package("cytoolz", "cytoolz", "cytoolz.curried")
def cytoolz():
    """Compiled with Cython."""
    import cytoolz as cz
    from cytoolz import curried

    same(cz.groupby(len, ["a", "bb", "c"]), {1: ["a", "c"], 2: ["bb"]})
    same(cz.pipe(range(10), curried.filter(lambda n: n % 2), curried.map(lambda n: n * n), sum), 165)
    same(list(cz.sliding_window(2, [1, 2, 3])), [(1, 2), (2, 3)])
    same(cz.merge_with(sum, {"a": 1}, {"a": 2, "b": 5}), {"a": 3, "b": 5})
    same(cz.get_in(["x", 0, "y"], {"x": [{"y": 9}]}), 9)


@package("tables", "tables", "numpy")
def tables():
    import numpy as np
    import tables as tb

    with tb.open_file("memory.h5", "w", driver="H5FD_CORE", driver_core_backing_store=0) as file:
        array = file.create_carray("/", "squares", obj=np.arange(1000) ** 2, filters=tb.Filters(5, "blosc"))
        same(int(array[31]), 961)
        table = file.create_table("/", "rows", {"key": tb.Int32Col(pos=0), "value": tb.Float64Col(pos=1)})
        table.append([(n, n / 2) for n in range(100)])
        table.flush()
        same([row["key"] for row in table.where("value > 48")], [97, 98, 99])
