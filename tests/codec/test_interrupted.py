"""Ctrl-C, or no memory, at each step of Python code that makes, or describes, what crosses by value."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

COMMON = """
    import contextvars, itertools, sys, typing, atoll

    def interrupted(operation, step, files=("type_names.py", "variables.py"), error=KeyboardInterrupt):
        '''Raise an error at that instruction of the modules that are tried; whether there was one.'''
        left, monitoring = [step], sys.monitoring
        def count(code, offset):
            tried = code.co_filename.endswith(files)
            if tried and code.co_name != "_path":  # which looks at all names that there are
                left[0] -= 1
                if left[0] == -1:
                    raise error
        monitoring.use_tool_id(3, "interrupts")
        monitoring.register_callback(3, monitoring.events.INSTRUCTION, count)
        monitoring.set_events(3, monitoring.events.INSTRUCTION)
        raised = False
        try:
            operation()
        except error:
            raised = True
        finally:
            monitoring.set_events(3, 0)
            monitoring.register_callback(3, monitoring.events.INSTRUCTION, None)
            monitoring.free_tool_id(3)
        assert raised == (left[0] < 0), step
        return raised

    def variables(step):
        yield typing.TypeVar("T", bound=int), lambda it: it.__bound__
        yield typing.NewType("N", int), lambda it: it(3)
        type A = list[A] | int
        yield A, lambda it: it.__value__.__args__[1]
        yield contextvars.ContextVar(f"v{step}", default=[step]), lambda it: it.get()
        try:
            yield sentinel(f"S{step}"), lambda it: repr(it)
        except NameError:
            pass

    def same(it): return it
"""
LOOP = """
        for step in itertools.count():
            hit = False
            for it, look in variables(step):
                hit |= {interrupted}
                for _ in range(2):
                    assert interp.call(look, it) == look(it), (step, it)
                    assert interp.call(same, it) is it, (step, it)
            if not hit:
                break
    print("done", step > 20)
"""
HERE = f"""
    with atoll.create() as interp:
{LOOP.format(interrupted="interrupted(lambda: interp.call(same, it), step)")}
"""
THERE = f"""
    def tried(data, step):
        from atoll import _atoll
        return interrupted(lambda: _atoll._decode(data), step)

    with atoll.create() as interp:
        interp.call(same, list(variables(0)))
{LOOP.format(interrupted="interp.call(tried, atoll._atoll._encode(it), step)")}
"""

HEARD = """
    def interrupted_for(cls, step):
        files = "annotations.py", "statements.py"
        return interrupted(lambda: atoll._atoll._encode(cls), step, files, MemoryError)

    for step in itertools.count(0, 7):
        class Plain:
            def method(self): pass
            @property
            def size(self): return 5
        class Annotated(Plain):
            number: int = 5
            text: "Annotated"
        class Named(typing.NamedTuple):
            text: "Annotated" = None
        if not any([interrupted_for(one, step) for one in (Plain, Annotated, Named)]):
            break
    print("done", step > 20)
"""


@pytest.mark.parametrize("script", [HERE, THERE], ids=["where it is sent", "where it arrives"])
def test_what_is_one_object_stays_one(script: str) -> None:
    """It has its value, and is itself when it comes home, whichever step was the last of the first attempt."""
    run(script)


def test_no_memory_is_heard() -> None:
    """It does not count as what somebody's code raises, which is passed over."""
    run(HEARD)


def run(script: str) -> None:
    """Run it in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(COMMON) + textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "done True\n"), done.stderr
