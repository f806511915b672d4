"""Interpreters that others made, and what others see of Atoll's."""

from __future__ import annotations

import pytest

import atoll
from helpers import VERSION, foreign, ids, nothing, private_module


def test_listed():
    with foreign() as number:
        found = atoll.Interpreter(number)
        assert found.id == number
        assert atoll.list_all() == [atoll.get_main(), found]
        assert atoll.Interpreter(number) is found
        del found
    assert number not in ids()


def test_listed_inside_an_interpreter(interp):
    with foreign() as number:
        assert interp.call(eval, "[i.id for i in __import__('atoll').list_all()]") == [0, interp.id, number]


def test_not_owned():
    """Dropping Atoll's object for it does not close it."""
    with foreign() as number:
        found = atoll.Interpreter(number)
        del found
        assert number in ids()


def test_whence():
    with foreign() as number:
        found = atoll.Interpreter(number)
        if VERSION == (3, 12):
            # CPython 3.12 does not record where an interpreter comes from.
            assert found.whence not in ("atoll", "runtime init")
        else:
            assert found.whence == "_interpreters module"


def test_is_running():
    with foreign() as number:
        assert atoll.Interpreter(number).is_running() is False


@pytest.mark.parametrize(
    "use",
    [
        lambda interp: interp.close(),
        lambda interp: interp.exec("pass"),
        lambda interp: interp.exec(nothing),
        lambda interp: interp.call(nothing),
        lambda interp: interp.prepare_main(x=1),
    ],
    ids=["close", "exec", "exec function", "call", "prepare_main"],
)
def test_refused(use):
    with foreign() as number:
        with pytest.raises(atoll.InterpreterError, match=rf"unrecognized.*\b{number}\b"):
            use(atoll.Interpreter(number))
        assert number in ids()


def test_refused_in_a_thread():
    with foreign() as number:
        caught = []
        import threading

        original, threading.excepthook = threading.excepthook, lambda args: caught.append(args.exc_type)
        try:
            atoll.Interpreter(number).call_in_thread(nothing).join()
        finally:
            threading.excepthook = original
        assert caught == [atoll.InterpreterError]


def test_destroyed_by_its_maker():
    module = private_module()
    made = module.create()
    number = int(made)
    found = atoll.Interpreter(number)
    module.destroy(made)
    assert number not in ids()
    for use in (found.is_running, found.close, lambda: found.exec("pass")):
        with pytest.raises(atoll.InterpreterNotFoundError, match=str(number)):
            use()


def test_usable_from_within():
    """Code in an interpreter that CPython made imports Atoll and uses Atoll's interpreters."""
    import sys

    module = private_module()
    source = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import atoll\n"
        "made = atoll.create()\n"
        "made.exec('x = 21')\n"
        "assert made.call(eval, 'x * 2') == 42\n"
        "assert atoll.get_current().whence != 'atoll'\n"
        "made.close()\n"
    )
    with foreign() as number:
        assert module.run_string(number, source) is None


def test_seen_by_the_private_module(interp):
    """Atoll marks its interpreters as running in the way that CPython's own module looks for."""
    from helpers import busy

    module = private_module()
    assert module.is_running(interp.id) is False
    with busy(interp):
        assert module.is_running(interp.id) is True
    assert module.is_running(interp.id) is False
