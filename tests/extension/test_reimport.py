"""atoll's modules are taken out of sys.modules and imported again, as test runners and reloaders do."""

from __future__ import annotations

import pytest

from helpers import check_ended, run_python

REMOVE = "for name in [name for name in sys.modules if name.split('.')[0] == 'atoll']: del sys.modules[name]"

TWICE = (
    """
import gc, sys, atoll
first = atoll
held = atoll.create()
queue = atoll.create_queue()
REMOVE
import atoll
assert atoll is not first
assert atoll.Interpreter is first.Interpreter
with atoll.create() as interp:
    assert (interp.call(len, "abc"), held.call(len, "abcd")) == (3, 4)
    again = atoll.create_queue()
    for one in queue, again:
        one.put(memoryview(b"abc" * 100))
        one.put(interp)
        assert bytes(one.get()) == b"abc" * 100
        assert one.get() is interp
        try:
            one.get(block=False)
        except atoll.QueueEmpty:
            pass
with atoll.InterpreterPoolExecutor(1) as pool:
    assert pool.submit(len, "abc").result() == 3
REMOVE
del atoll, pool, again, one
held.close()
gc.collect()
import atoll
atoll.create().close()
"""
).replace("REMOVE", REMOVE)


@pytest.mark.parametrize("where", ["main", "interpreter"])
def test_twice(where):
    source = "import atoll\nwith atoll.create() as inside: inside.exec(CODE)"
    done = run_python(TWICE if where == "main" else f"CODE = {TWICE!r}\n{source}")
    check_ended(done, 0, "", clean=True)


@pytest.mark.parametrize(
    "code",
    [
        "sys.modules.clear()",
        REMOVE,
        f"import atoll\n{REMOVE}\ndel atoll",
        "sys.modules['atoll._atoll'] = None",
    ],
)
def test_gone_inside(code):
    """Calls need none of them."""
    source = f"""
        import atoll
        interp = atoll.create()
        interp.exec({"import gc, sys" + chr(10) + code!r})
        for _ in range(3):
            assert interp.call(len, "abc") == 3
            interp.exec("gc.collect()")
            try:
                interp.exec("1 / 0")
            except atoll.ExecutionFailed as error:
                assert "ZeroDivisionError" in str(error)
            try:
                interp.call(int, "x")
            except Exception as error:
                assert "invalid literal" in str(error)
        interp.close()
        print("right")
        """
    check_ended(run_python(source), 0, "right\n", clean=True)
