"""Greenlets that are switched inside calls between interpreters: refused where stacks would be mixed up, never a crash.

Most use what stands for the package, as far as Atoll asks it: whose turn it is.  The rest needs the package itself.
"""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import atoll


class Greenlet:
    def __init__(self, parent):
        self.parent = parent


@pytest.fixture
def stand_in(monkeypatch):
    """A module with the current greenlet as `now`; None: the thread's first one."""
    first = Greenlet(None)
    module = types.ModuleType("greenlet._greenlet")
    module.now = None
    module.getcurrent = lambda: module.now or first
    module.make = lambda: Greenlet(first)
    monkeypatch.setitem(sys.modules, "greenlet._greenlet", module)
    monkeypatch.setattr(sys, "_test_act", None, raising=False)
    return module


def come_back():
    import atoll

    return atoll.get_main().call(eval, "__import__('sys')._test_act()")


def nested(interp, act):
    """Call main from interp, called from main, and do what act says there."""
    sys._test_act = act
    return interp.call(come_back)


class TestWhoseTurn:
    def test_the_greenlet_that_is_inside_may_go_on(self, stand_in):
        with atoll.create() as interp, atoll.create() as other:
            stand_in.now = stand_in.make()
            assert nested(interp, lambda: other.call(abs, -1) + interp.call(abs, -2)) == 3

    @pytest.mark.parametrize("first", [True, False])
    def test_another_one_may_not(self, stand_in, first):
        inside, outside = stand_in.make(), None if first else stand_in.make()

        def act():
            stand_in.now = outside
            try:
                interp.call(abs, -1)
            except RuntimeError as error:
                message = str(error)
            try:
                other.call(abs, -1)
            except RuntimeError:
                return message
            finally:
                stand_in.now = inside

        with atoll.create() as interp, atoll.create() as other:
            stand_in.now = inside
            message = nested(interp, act)
            assert f"cannot enter interpreter {interp.id} from this greenlet" in message
            assert "came back to interpreter 0" in message
            stand_in.now = outside
            assert interp.call(abs, -3) == 3

    def test_the_package_comes_while_it_is_inside(self, stand_in):
        del sys.modules["greenlet._greenlet"]

        def act():
            sys.modules["greenlet._greenlet"] = stand_in
            results = [interp.call(abs, -1)]
            stand_in.now = stand_in.make()
            with pytest.raises(RuntimeError, match="from this greenlet"):
                interp.call(abs, -1)
            stand_in.now = None
            return results

        with atoll.create() as interp:
            assert nested(interp, act) == [1]

    def test_greenlets_that_do_not_come_back_take_turns_as_they_like(self, stand_in):
        with atoll.create() as interp:
            for _ in range(3):
                stand_in.now = stand_in.make()
                assert interp.call(abs, -1) == 1

    def test_calls_of_main_by_itself(self, stand_in):
        def act():
            stand_in.now = stand_in.make()
            with pytest.raises(RuntimeError, match="from this greenlet"):
                atoll.get_main().call(abs, -1)
            stand_in.now = None
            return 7

        sys._test_act = act
        assert atoll.get_main().call(eval, "__import__('sys')._test_act()") == 7


REAL = """
import atoll, greenlet, sys
interp = atoll.create()
def come_back(k):
    import atoll
    return atoll.get_main().call(eval, f"__import__('sys').modules['__main__'].visit({k})")
def visit(k):
    greenlet.getcurrent().parent.switch(k)
    return k + 100
def job(k):
    try:
        return interp.call(come_back, k)
    except RuntimeError as error:
        assert "from this greenlet" in str(error)
        return "refused"
one, two = greenlet.greenlet(job), greenlet.greenlet(job)
assert one.switch(1) == 1
assert two.switch(2) == "refused"
try:
    interp.call(abs, -1)
except RuntimeError as error:
    assert "from this greenlet" in str(error)
else:
    raise AssertionError("not refused")
end = sys.argv[1]
if end == "resume":
    assert one.switch() == 101
elif end == "kill":
    try:
        one.throw()
    except atoll.ExecutionFailed as error:
        assert error.excinfo.type.__name__ == "ExecutionFailed"
elif end == "del":
    del one
if end != "never":
    assert interp.call(abs, -1) == 1
    interp.close()
print("done")
"""


class TestReal:
    @pytest.mark.parametrize("end", ["resume", "kill", "del", "never"])
    def test_switched_out_inside(self, end):
        pytest.importorskip("greenlet", reason="the package greenlet is not installed")
        done = subprocess.run(
            [sys.executable, "-c", REAL, end], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "done\n"
