"""Dicts with the same keys, which are sent as their values, and numbers and texts as they are made over here."""

from __future__ import annotations

import gc
import itertools
import json
import math
import sys
import tracemalloc

import pytest

from atoll import NotShareableError, _atoll
from helpers import check_ended, run_python


def cross(obj):
    return _atoll._decode(_atoll._encode(obj))


def record(number):
    return {"id": number, "name": f"name {number}", "tags": ["a", "bc"], "place": {"x": 1.5, "y": None}}


class Plain:
    def __init__(self, value):
        self.value = value


class TestShapes:
    @pytest.mark.parametrize("count", [1, 3, 4, 5, 100])
    def test_records(self, count):
        records = [record(number) for number in range(count)]
        got = cross(records)
        assert got == records
        assert [list(one) for one in got] == [list(one) for one in records]
        assert len({id(one) for one in got}) == count

    def test_they_take_less(self):
        records = [record(number) for number in range(100)]
        assert len(_atoll._encode(records)) < 100 * len(_atoll._encode(records[0])) / 1.5

    def test_keys_are_the_same_objects(self):
        got = cross([record(number) for number in range(10)])
        for key in got[0]:
            assert all(any(other is key for other in one) for one in got)

    def test_tables_are_those_of_dicts_with_text_as_keys(self):
        keys = [f"key {number}" for number in range(8)]
        got = cross([dict.fromkeys(keys, number) for number in range(10)])
        made = {}
        for key in keys:
            made[key] = 0
        assert sys.getsizeof(got[5]) == sys.getsizeof(made)

    def test_they_are_dicts(self):
        got = cross([record(number) for number in range(6)])
        for one in got:
            one["new"] = 5
            del one["id"]
            one["name"] += "!"
            assert list(one) == ["name", "tags", "place", "new"]
            one.update({f"more {number}": number for number in range(100)})
            one.clear()
        assert cross([record(1)] * 5) == [record(1)] * 5

    @pytest.mark.parametrize("number", [0, 1, 2, 5, 6, 63, 64, 65, 300])
    def test_sizes(self, number):
        keys = [f"key {number}" for number in range(number)]
        records = [dict.fromkeys(keys, place) for place in range(6)]
        assert cross(records) == records

    def test_many_shapes(self):
        keys = [f"key {number}" for number in range(30)]
        records = [dict.fromkeys(some, 1) for some in itertools.combinations(keys, 2)]
        assert cross(records) == records
        assert [list(one) for one in cross(records)] == [list(one) for one in records]
        assert cross(records * 3) == records * 3

    def test_the_order_of_keys_is_part_of_it(self):
        one, other = {"first": 1, "second": 2}, {"second": 2, "first": 1}
        got = cross([one, other, dict(one), dict(other), dict(one)])
        assert [list(each) for each in got] == [list(one), list(other)] * 2 + [list(one)]

    def test_tables_with_holes(self):
        records = [record(number) for number in range(8)]
        for one in records:
            del one["name"]
            one["name"] = "again"
        assert [list(one) for one in cross(records)] == [["id", "tags", "place", "name"]] * 8
        for one in records:
            del one["id"]
        assert cross(records) == records

    def test_other_keys(self):
        class Text(str):
            pass

        records = [{"a key": 1, 2: 3}, {"a key": 1, None: 3}, {("a", 1): 2, "b": 4}] * 4
        assert cross(records) == records
        got = cross([{"key": 1, Text("other"): 2} for _ in range(6)])
        assert got == [{"key": 1, "other": 2}] * 6

    def test_keys_that_are_equal_and_not_the_same(self):
        records = [json.loads('{"longitude": 1, "latitude": 2}') for _ in range(10)]
        assert cross(records) == records

    def test_attributes(self):
        things = [Plain(number) for number in range(8)]
        assert cross([vars(thing) for thing in things]) == [{"value": number} for number in range(8)]

    def test_one_that_comes_twice_is_one(self):
        one = record(1)
        got = cross([record(0), one, record(2), one, [one, record(3)]])
        assert got[1] is got[3] is got[4][0]
        assert got[1] == one

    def test_trees(self):
        def tree(depth):
            return {"value": depth, "children": [tree(depth - 1) for _ in range(4)] if depth else []}

        assert cross([tree(3), tree(2), tree(1), tree(0)]) == [tree(3), tree(2), tree(1), tree(0)]

    def test_cycles(self):
        records = [record(number) for number in range(5)]
        for one in records:
            one["tags"] = records
        records[3]["place"] = records[3]
        got = cross(records)
        assert all(one["tags"] is got for one in got)
        assert got[3]["place"] is got[3]
        assert list(got[3]) == list(records[3])

    def test_values_that_run_code(self):
        records = [{"id": number, "thing": Plain(number), "later": [number]} for number in range(8)]
        for number, one in enumerate(cross(records)):
            assert (one["id"], one["thing"].value, one["later"]) == (number, number, [number])

    def test_one_that_is_changed_meanwhile(self):
        class Changes:
            def __init__(self, number):
                self.number = number

            def __reduce__(self):
                if self.number == 3:
                    change(records[3])
                return (int, ())

        def grow(one):
            one["more"] = 1

        def replace(one):
            one["id"] = one.pop("id")

        def value(one):
            one["later"] = "another"

        for change, raises in ((grow, True), (replace, True), (dict.clear, True), (value, False)):
            records = [{"id": number, "thing": Changes(number), "later": number} for number in range(5)]
            if raises:
                with pytest.raises(RuntimeError, match="changed"):
                    cross(records)
            else:
                assert [one["later"] for one in cross(records)] == [0, 1, 2, "another", 4]

    def test_an_error_names_the_place(self):
        import threading

        records = [{"id": number, "lock": None} for number in range(8)]
        records[5]["lock"] = threading.Lock()
        with pytest.raises(NotShareableError, match=r"\[5\]\['lock'\]"):
            _atoll._encode(records)
        records[5]["lock"] = None
        assert cross(records) == records

    def test_several_shapes_in_one_list(self):
        """Wherever their keys lie in memory: none takes the place of another."""
        sizes = set()
        for turn in range(200):
            a, b, c, d, e, f = (f"key {turn:03} {number}" for number in range(6))
            records = [{a: i, b: {c: i, d: {e: i, f: i}}} for i in range(40)]
            sizes.add(len(_atoll._encode(records)))
            assert cross(records) == records
        assert len(sizes) == 1

    def test_the_collector_knows_them(self):
        got = cross([{"self": [], "number": number} for number in range(8)])
        assert all(gc.is_tracked(one) for one in got)
        for one in got:
            one["self"].append(one)
        there = len(gc.get_objects())
        del got, one
        gc.collect()
        assert len(gc.get_objects()) < there

    def test_inside_of_tuples_and_dicts(self):
        records = tuple(record(number) for number in range(8))
        assert cross(records) == records
        assert cross({"all": list(records), "first": records[0]}) == {
            "all": list(records),
            "first": records[0],
        }

    def test_code_that_finds_one_before_it_is_whole(self):
        """By the garbage collector: it gives it another table, with the same keys."""
        source = """
            import gc
            from atoll import _atoll

            class Finds:
                def __reduce__(self):
                    return Finds, (), {}
                def __setstate__(self, state):
                    for one in gc.get_objects():
                        if type(one) is dict and len(one) == 5 and "number" in one and "last" in one:
                            for key in range(100): one[f"more {key}"] = key
                            for _ in range(100): one.popitem()

            things = [None, None, *(Finds() for _ in range(7))]
            records = [{"a": 1, "number": i, "b": 2.5, "thing": t, "last": str(i)} for i, t in enumerate(things)]
            got = _atoll._decode(_atoll._encode(records))
            print([(*one, one["number"], one["last"]) for one in got] ==
                  [(*one, one["number"], one["last"]) for one in records])
        """
        check_ended(run_python(source, environment={"PYTHONMALLOC": "debug"}), 0, "True\n")

    def test_broken_messages(self):
        message = _atoll._encode([{"first": number, "second": "text"} for number in range(6)])
        for at in range(len(message)):
            for byte in (0, 1, 2, 58, 59, 127, 128, 255):
                broken = message[:at] + bytes([byte]) + message[at + 1 :]
                try:
                    _atoll._decode(broken)
                except (ValueError, TypeError, MemoryError, UnicodeError, SystemError):
                    pass
            with pytest.raises(ValueError, match="malformed"):
                _atoll._decode(message[:at])

    def test_a_key_that_comes_twice(self):
        message = _atoll._encode([{"first": number, "other": "text"} for number in range(6)])
        assert message.count(b"other") == 1
        with pytest.raises(ValueError, match="twice"):
            _atoll._decode(message.replace(b"other", b"first"))


EDGES = [0, 1, 255, 256, 257, 1023, 1024, 1025, 2**15, 2**30 - 1, 2**30, 2**31, 2**60, 2**63 - 1, 2**63]


class TestValues:
    def test_ints(self):
        numbers = [sign * (number + more) for number in EDGES for sign in (1, -1) for more in (-1, 0, 1)]
        for items in (numbers, [*numbers, None], [number for number in numbers if abs(number) < 2**29]):
            got = cross(items)
            assert got == items
            assert [repr(number) for number in got] == [repr(number) for number in items]
            assert [number and number + 1 - 1 for number in got] == items
            assert [hash(number) for number in got] == [hash(number) for number in items]

    def test_small_ints_are_those_that_there_are(self):
        assert all(one is other for one, other in zip(cross([*range(257), None]), range(257), strict=False))
        assert all(one is other for one, other in zip(cross(list(range(257))), range(257), strict=True))

    def test_floats(self):
        numbers = [0.0, -0.0, 1.5, -math.inf, math.inf, 5e-324, 1e308]
        for items in (numbers, [*numbers, "text"]):
            assert [repr(number) for number in cross(items)] == [repr(number) for number in items]
        assert math.isnan(cross([math.nan, None])[0])

    @pytest.mark.parametrize("letter", ["a", "é", "€", "😀"])
    def test_texts(self, letter):
        texts = [letter * length for length in range(140)] + ["a" * length + letter for length in range(20)]
        got = cross(texts)
        assert got == texts
        assert [hash(text) for text in got] == [hash(text) for text in texts]
        assert [sys.getsizeof(text) for text in got[:140:20]] == [
            sys.getsizeof("".join([letter] * length)) for length in range(0, 140, 20)
        ]
        for text in got:
            longer = text + "more"
            assert longer.encode() == text.encode() + b"more"
        assert dict.fromkeys(got, 1) == dict.fromkeys(texts, 1)

    def test_a_text_that_grows(self):
        (text, _) = cross(["some text", None])
        for _ in range(100):
            text += "more"
        assert text == "some text" + "more" * 100

    def test_allocations_are_traced(self):
        message = _atoll._encode([*range(10_000, 30_000), None])
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            got = _atoll._decode(message)
            assert tracemalloc.get_traced_memory()[0] - before > 20_000 * 28
            del got
            assert tracemalloc.get_traced_memory()[0] - before < 100_000
        finally:
            tracemalloc.stop()

    def test_references_are_counted(self):
        got = cross([123456, 1.5, "some text", None])
        known = [int("123456"), float("1.5"), "".join(["some", " text"]), None]
        assert [sys.getrefcount(one) for one in got[:3]] == [sys.getrefcount(one) for one in known[:3]]
