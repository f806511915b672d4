"""The codec: objects to messages and back."""

from __future__ import annotations

import collections
import datetime
import functools
import itertools
import operator
import sys
import threading

import pytest

import atoll
from atoll import _atoll
from codec_samples import (
    VALUES,
    Colour,
    MyList,
    Plain,
    Point,
    Raises,
    Record,
    Slotted,
    WithArguments,
    WithSetter,
    WithState,
    function,
    there_and_back,
)


class TestValues:
    @pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
    def test_round_trip(self, value):
        result = there_and_back(value)
        assert type(result) is type(value)
        assert result == value

    @pytest.mark.parametrize(
        "value", [None, True, ..., NotImplemented, int, len, Colour.RED, function, sys, ()]
    )
    def test_what_there_is_one_of_stays_itself(self, value):
        assert there_and_back([value])[0] is value

    def test_nan(self):
        assert there_and_back(float("nan")) != 0.0
        assert str(there_and_back([float("nan"), 1.0, 2.0])) == "[nan, 1.0, 2.0]"

    def test_negative_zero(self):
        assert str(there_and_back([-0.0, 1.0, -0.0, -0.0])) == "[-0.0, 1.0, -0.0, -0.0]"

    @pytest.mark.parametrize("size", [2, 3, 10, 300, 70_000])
    @pytest.mark.parametrize(
        "numbers",
        [
            [1, -1, 127],
            [-128, 127],
            [128, -129],
            [32767, -32768],
            [2**20],
            [2**30 - 1, -(2**30)],
            [2**40, 1],
            [2**63 - 1, -(2**63)],
            [2**64, 1],
            [1.5, -2.25],
            [1, 1.5],
            [True, 1],
            [1, True],
            [1, None],
        ],
    )
    def test_runs_of_numbers(self, numbers, size):
        values = list(itertools.islice(itertools.cycle(numbers), size))
        for container in (list, tuple):
            result = there_and_back(container(values))
            assert result == container(values)
            assert [type(x) for x in result] == [type(x) for x in values]

    def test_set_order_does_not_matter(self):
        assert there_and_back([{i, str(i)} for i in range(100)]) == [{i, str(i)} for i in range(100)]

    def test_slots_and_dict(self):
        obj = Slotted(1, 2)
        obj.c = 3
        result = there_and_back(obj)
        assert (result.a, result.b(), result.c) == (1, 2, 3)

    def test_unset_slot(self):
        obj = Slotted.__new__(Slotted)
        assert not hasattr(there_and_back(obj), "a")

    def test_state_hooks(self):
        assert there_and_back(WithState()).state == 6
        assert there_and_back(WithArguments(1, b=2)).given == (1, 2)
        assert there_and_back(WithSetter()).state == ("set", 7)

    def test_attributes_of_subclasses(self):
        obj = MyList([1])
        obj.extra = "e"
        result = there_and_back(obj)
        assert result == [1] and result.extra == "e"

    def test_exceptions(self):
        result = there_and_back(KeyError("a", 1))
        assert type(result) is KeyError and result.args == ("a", 1)
        exc = OSError(2, "no", "file")
        assert str(there_and_back(exc)) == str(exc)

    def test_partial_and_method(self):
        assert there_and_back(functools.partial(int, base=2))("101") == 5
        assert there_and_back(Point(1, 2)._asdict)() == {"x": 1, "y": 2}

    def test_code(self):
        code = compile("x = 41 + 1", "<test>", "exec")
        namespace = {}
        exec(there_and_back(code), namespace)
        assert namespace["x"] == 42


class TestShape:
    def test_shared_objects(self):
        for shared in (
            [1],
            {"a": 1},
            {1},
            bytearray(b"x"),
            Plain(a=1),
            (1, [2]),
            "a string",
            b"bytes",
            2**70 + 0.5,
        ):
            a, b = there_and_back([shared, shared])
            assert a is b or isinstance(shared, float)

    def test_list_in_itself(self):
        items = [1]
        items.append(items)
        result = there_and_back(items)
        assert result[1] is result

    def test_dict_in_itself(self):
        items = {}
        items["self"] = items
        result = there_and_back(items)
        assert result["self"] is result

    def test_instance_in_itself(self):
        obj = Plain(items=[])
        obj.items.append({"me": obj})
        result = there_and_back(obj)
        assert result.items[0]["me"] is result

    def test_tuple_in_itself(self):
        def make():
            items = []
            outer = (items, items)
            items.append(outer)
            return outer

        result = there_and_back(make())
        assert result[0] is result[1] and result[0][0] is result

    def test_frozenset_through_an_instance(self):
        obj = Plain()
        obj.members = frozenset([obj])
        result = there_and_back(obj.members)
        (member,) = result
        assert member.members is result

    def test_reduction_through_its_arguments(self):
        exc = ValueError()
        exc.args = ([exc],)
        result = there_and_back(exc)
        assert result.args[0][0] is result

    def test_container_subclass_in_itself(self):
        items = MyList()
        items.append(items)
        result = there_and_back(items)
        assert result[0] is result and type(result) is MyList

    def test_new_strings_of_static_types_are_not_mixed_up(self):
        types_ = [
            int,
            float,
            dict,
            list,
            set,
            tuple,
            str,
            bytes,
            zip,
            map,
            filter,
            reversed,
            KeyError,
            IndexError,
        ]
        assert there_and_back(types_ * 2) == types_ * 2

    def test_module_and_class_of_one_name(self):
        value = [datetime.datetime(2020, 1, 1), "datetime", datetime.datetime, datetime]
        assert there_and_back(value) == value

    def test_arguments_share_one_memo(self, interp):
        shared = [1]
        assert interp.call(operator.is_, shared, shared)
        assert interp.call(operator.is_not, [1], shared)


class TestSizes:
    def test_a_million_items(self):
        for values in (list(range(1_000_000)), ["x"] * 1_000_000, [None, 1] * 500_000):
            assert there_and_back(values) == values

    def test_a_hundred_megabytes(self):
        text = "x" * 100_000_000
        assert there_and_back(text) == text

    def test_depth(self):
        items = []
        for _ in range(500):
            items = [items]
        assert there_and_back(items) == items

    @pytest.mark.parametrize(
        "wrap", [lambda x: [x], lambda x: (x,), lambda x: {"a": x}, lambda x: Plain(a=x)]
    )
    def test_too_deep(self, wrap):
        items = None
        for _ in range(200_000):
            items = wrap(items)
        with pytest.raises(RecursionError):
            _atoll._encode(items)
        while items is not None:  # taken apart without recursion
            items = next(iter(items.__dict__.values() if isinstance(items, Plain) else
                              items.values() if isinstance(items, dict) else items))  # fmt: skip

    def test_too_deep_to_receive(self):
        data = b"\x13\x01" * 1_000_000 + b"\x00"
        assert _atoll._encode([[None]]) == b"\x93\x01\x13\x01\x00"  # a list of one, remembered; a list of one
        with pytest.raises(RecursionError):
            _atoll._decode(data)


class TestRefusals:
    @staticmethod
    def refused(obj):
        """What the codec says of obj."""
        with pytest.raises(atoll.NotShareableError) as caught:
            _atoll._encode(obj)
        return caught.value

    @pytest.mark.parametrize(
        ("make", "path"),
        [
            (lambda lock: lock, "obj"),
            (lambda lock: [1, lock], "obj[1]"),
            (lambda lock: (lock,), "obj[0]"),
            (lambda lock: {"a": [lock]}, "obj['a'][0]"),
            (lambda lock: {1: {2: lock}}, "obj[1][2]"),
            (lambda lock: {"k" * 100: lock}, "obj['" + "k" * 36 + "...]"),
            (lambda lock: {lock}, "obj{…}"),
            (lambda lock: {lock: 1}, "obj{…}"),
            (lambda lock: Plain(lock=lock), "obj.lock"),
            (lambda lock: [Plain(a=Plain(b={"c": lock}))], "obj[0].a.b['c']"),
            (lambda lock: Slotted(lock, 1), "obj.a"),
            (lambda lock: Record("a", [lock]), "obj.parts[0]"),
            (lambda lock: Point(1, lock), "obj[1]"),
            (lambda lock: ValueError("a", lock), "obj.args[1]"),
            (lambda lock: collections.deque([lock]), "obj[0]"),
            (lambda lock: collections.OrderedDict(a=lock), "obj['a']"),
            (lambda lock: slice(None, lock), "obj.stop"),
        ],
    )
    def test_path(self, make, path):
        exc = self.refused(make(threading.Lock()))
        assert str(exc).startswith(f"{path}: _thread.lock is not shareable: ")
        assert isinstance(exc.__cause__, TypeError)

    def test_path_in_a_call(self, interp):
        lock = threading.Lock()
        for call, path in [
            (lambda: interp.call(print, 1, {"model": Plain(lock=lock)}), "args[1]['model'].lock"),
            (lambda: interp.call(print, sep=[lock]), "kwargs['sep'][0]"),
            (lambda: interp.call(functools.partial(print, lock)), "callable"),
        ]:
            with pytest.raises(atoll.NotShareableError) as caught:
                call()
            assert str(caught.value).startswith(path)
            assert ": _thread.lock is not shareable: " in str(caught.value)

    def test_exception_of_a_hook(self):
        exc = self.refused([Raises(ZeroDivisionError("z"))])
        assert str(exc) == f"obj[0]: {Raises.__module__}.Raises is not shareable"
        assert isinstance(exc.__cause__, ZeroDivisionError)

    @pytest.mark.parametrize("kind", [MemoryError, RecursionError, KeyboardInterrupt, SystemExit])
    def test_exceptions_that_pass(self, kind):
        with pytest.raises(kind):
            _atoll._encode([Raises(kind())])

    @pytest.mark.parametrize("value", [5, (), (int,), (int, 5), (5, ()), (int, (), 0, 0, 0, 0, 0)])
    def test_wrong_reductions(self, value):
        class Wrong:
            def __reduce__(self):
                return value

        assert "__reduce__" in str(self.refused(Wrong()))

    def test_generator_file_and_frame(self):
        for obj in ((i for i in ()), sys.stdout, sys._getframe(), vars(Plain)):
            self.refused(obj)
