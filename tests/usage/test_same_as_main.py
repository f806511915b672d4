"""What an interpreter has is what the main interpreter has: types, modules, functions."""

from __future__ import annotations

import os
import subprocess
import sys

from helpers import check_ended, run_python

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def test_survey():
    """All classes and modules of the standard library, with their attributes."""
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, "survey.py")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not done.stderr, done.stderr
    assert done.stdout.splitlines() == [""]
    assert done.returncode == 0


FORMATS = """
import enum
class Flag(enum.IntFlag):
    X = 1
class Color(int, enum.Enum):
    A = 1
class Text(str, enum.Enum):
    T = "t"
def show():
    shown = [f"{one}|{one:3}|{one!r}|{one!s}" for one in (Flag.X, Color.A, Text.T)]
    return shown, Flag.__str__ is int.__repr__, str.__str__ is object.__str__
"""


def test_types_of_every_interpreter():
    """The first interpreter, which is compared with main, later ones, spares, and those of pools."""
    done = run_python(
        FORMATS
        + """
import atoll
with atoll.create() as first, atoll.create() as second:
    assert first.call(show) == second.call(show) == show(), (first.call(show), show())
atoll.prewarm(1)
with atoll.create() as spare, atoll.InterpreterPoolExecutor(1) as pool:
    assert spare.call(show) == pool.submit(show).result() == show()
print("same")
"""
    )
    check_ended(done, 0, "same\n", clean=True)


def test_token_missing():
    """A constant that CPython enters in main only before 3.14."""
    source = """
import atoll, contextvars, pickle
def look():
    import contextvars
    var = contextvars.ContextVar("var")
    token = var.set(1)
    return token.old_value is contextvars.Token.MISSING, repr(contextvars.Token.MISSING)
for _ in range(3):
    with atoll.create() as interp:
        assert interp.call(look) == look() == (True, repr(contextvars.Token.MISSING))
print("same")
"""
    check_ended(run_python(source), 0, "same\n", clean=True)


def test_made_by_another_interpreter():
    """Who creates the first interpreter need not be main: main's types are looked at all the same."""
    source = """
import atoll
def child():
    import atoll
    with atoll.create() as other:
        return other.call(show)
with atoll.create() as interp:
    assert interp.call(child) == show()
print("same")
"""
    check_ended(run_python(FORMATS + source), 0, "same\n", clean=True)


def test_main_is_not_changed():
    """What is added or removed elsewhere stays as it was in main."""
    source = """
import atoll
def look():
    return {(cls.__name__, name) for cls in (int, str, OSError, ValueError, list) for name in vars(cls)}
before = look()
for _ in range(2):
    with atoll.create() as interp:
        assert interp.call(look) == before
assert look() == before
assert ValueError.__new__.__self__ is ValueError
print("same")
"""
    check_ended(run_python(source), 0, "same\n", clean=True)


REPLACED = """
import ctypes, faulthandler, importlib, inspect, os, pickle, signal, sys, tracemalloc, types
import _ctypes, _imp, _signal, _thread, _tracemalloc, posix
names = {
    _ctypes: "dlclose dlopen",
    _imp: "create_builtin create_dynamic",
    _signal: "getsignal pause pthread_kill raise_signal set_wakeup_fd signal",
    _thread: "interrupt_main",
    _tracemalloc: "start stop",
    faulthandler: "cancel_dump_traceback_later disable dump_traceback_later enable is_enabled register unregister",
    posix: "kill register_at_fork",
    sys: "_current_exceptions _current_frames",
}
for module, several in names.items():
    for name in several.split():
        function = getattr(module, name)
        assert type(function) is types.BuiltinFunctionType, function
        assert function.__self__ is module, function
        assert (function.__module__, function.__name__, function.__qualname__) == (module.__name__, name, name)
        assert repr(function) == f"<built-in function {name}>"
        assert pickle.loads(pickle.dumps(function)) is function
assert os.kill is posix.kill and signal.pause is _signal.pause
with open(os.devnull, "w") as file:
    faulthandler.enable(file)
    faulthandler.dump_traceback_later(1000, file=file, exit=False)
    assert faulthandler.is_enabled()
    faulthandler.cancel_dump_traceback_later()
    faulthandler.disable()
try:
    faulthandler.dump_traceback_later(nonsense=1)
except TypeError:
    print("refused")
"""
AGAIN = """
import sys
for name in ("_signal", "faulthandler", "signal"):
    del sys.modules[name]
"""


def test_replaced_functions():
    """They are functions of C of their module, also once the module is imported again."""
    source = f"""
import atoll
source = {REPLACED!r}
again = {AGAIN!r}
with atoll.create() as interp:
    interp.exec("import os; os.dup2(2, 1)")
    interp.exec(source)
    interp.exec(again + source)
"""
    done = run_python(source)
    assert (done.returncode, done.stderr) == (0, "refused\nrefused\n")


def test_sent():
    """One of main's that is sent means the interpreter's own."""
    source = """
import atoll, faulthandler, os, signal
with atoll.create() as interp:
    for function in (os.kill, faulthandler.enable, signal.raise_signal):
        assert interp.call(repr, function) == repr(function)
    interp.call(os.kill, os.getpid(), 0)
print("sent")
"""
    check_ended(run_python(source), 0, "sent\n", clean=True)


def test_the_first_two_at_once():
    """Each may be the one that finds out what differs, and the other must not see half of that."""
    source = """
import atoll, enum, threading

class Flags(enum.IntFlag):
    ONE = 1

def format_it():
    return f"{Flags.ONE:3}"

def create():
    barrier.wait()
    with atoll.create() as interp:
        results.append(interp.call(format_it))

barrier = threading.Barrier(3)
results = []
threads = [threading.Thread(target=create) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert results == [format_it()] * 3, results
"""
    for _ in range(10):
        check_ended(run_python(source), 0, clean=True)
