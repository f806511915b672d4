"""Constants of imported modules are there once for all interpreters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from test_frozen_life import run

import atoll
from atoll import _atoll
from helpers import new, together

SOURCE = '''
"""A module with a long documentation string, of which there is one for all interpreters."""

TEXT = "some text that is no name"
NAME = "a_name_of_something_long"
BYTES = b"some bytes, as well"
PAIR = ("one of two, a text as well", "other_of_two")

class Thing:
    """What a thing is, at some length: größer."""

    def method(self, first_parameter, *, second_parameter=1):
        """What the method does, at some length."""
        try:
            return [first_parameter / second_parameter for _ in range(3)]
        except ZeroDivisionError as error:
            raise ValueError("there is nothing to divide by") from error
'''


@pytest.fixture
def module(tmp_path: Path) -> str:
    """The directory of a module that was compiled."""
    (tmp_path / "of_constants.py").write_text(SOURCE, encoding="utf-8")
    import py_compile

    py_compile.compile(str(tmp_path / "of_constants.py"))
    return str(tmp_path)


def describe(path: str) -> dict[str, Any]:
    """Import it here: where its constants are, and what they say."""
    import sys
    import traceback

    import atoll

    sys.path.insert(0, path)
    import of_constants as module  # type: ignore[import-not-found]

    sys.path.remove(path)
    thing = module.Thing
    code = thing.method.__code__
    constants = [module.__doc__, module.TEXT, module.BYTES, thing.__doc__, thing.method.__doc__]
    constants += [code.co_linetable, code.co_exceptiontable]
    names = [module.NAME, *code.co_names, *code.co_varnames, thing.__name__, thing.method.__name__]
    try:
        thing().method(1, second_parameter=0)
    except ValueError as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)][1:]
    return {
        "places": [id(one) for one in constants], "values": [*map(str, constants)], "names": names,
        "frozen": [atoll.is_frozen(one) for one in constants], "positions": [*code.co_positions()],
        "lines": lines, "result": thing().method(6, second_parameter=2),
        "names are frozen": [name for name in names if atoll.is_frozen(name) and len(name) > 12],
    }  # fmt: skip


def test_they_are_the_same_objects(module: str) -> None:
    with new() as first, new() as second:
        one, other = first.call(describe, module), second.call(describe, module)
        memory = _atoll._constants_memory()
        with new() as third:
            assert third.call(describe, module)["places"] == one["places"]
        assert _atoll._constants_memory() == memory
    assert one == other
    assert all(one["frozen"]) and one["names are frozen"] == []
    assert one["result"] == [3.0] * 3 and one["lines"] == [17]
    there = describe(module)
    del sys.modules["of_constants"]
    for what in ("values", "names", "positions", "result", "lines"):
        assert there[what] == one[what]
    with new() as later:
        assert later.call(describe, module)["places"] == one["places"]


def test_what_users_freeze_is_counted_apart(module: str) -> None:
    before = atoll.frozen_memory()
    with new() as interp:
        interp.call(describe, module)
    assert atoll.frozen_memory() == before


def test_the_switch(module: str) -> None:
    code = f"""
        import sys, atoll
        sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]!r}
        from test_frozen_constants import describe
        with atoll.create() as interp:
            interp.exec("import sys; sys.path[:0] = " + repr(sys.path[:2]))
            print(set(interp.call(describe, {module!r})["frozen"]), atoll._atoll._constants_memory() > 0)
        """
    assert run(code, ATOLL_SHARE_CONSTANTS="0").stdout == "{False} False\n"
    assert run(code, ATOLL_SHARE_CONSTANTS="1").stdout == "{True} True\n"


def test_many_imports_at_once() -> None:
    """Under read-only pages: nobody writes to what they share."""
    names = "argparse ast asyncio csv decimal difflib email.message http.client inspect json logging pdb unittest.mock"

    def load(names: str) -> int:
        import importlib
        import inspect
        import sys

        for name in names.split():
            importlib.import_module(name)
        count = 0
        for module in list(sys.modules.values()):
            for value in list(vars(module).values()):
                if inspect.isfunction(value) and value.__doc__:
                    count += len(inspect.cleandoc(value.__doc__)) > 0
                    value.__doc__.encode(), hash(value.__doc__), sys.intern(value.__doc__)
                    assert value.__code__.co_positions() and [*value.__code__.co_lines()]
        return count

    def one(number: int) -> int:
        with new() as interp:
            return interp.call(load, names)

    counts = together(3, one)
    assert counts[0] == counts[1] == counts[2] > 300


def test_functions_look_as_before(interp: atoll.Interpreter) -> None:
    def look() -> list[Any]:
        import _imp

        return [str(one) for function in (_imp._fix_co_filename, _imp.get_frozen_object) for one in (
            function.__name__, function.__doc__, function.__module__, type(function))]  # fmt: skip

    assert interp.call(look) == look()
    with pytest.raises(atoll.ExecutionFailed, match="TypeError"):
        interp.exec("import _imp; _imp._fix_co_filename(1)")
