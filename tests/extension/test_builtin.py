"""Modules built into Python, in several interpreters and in main at once: no crash, and a reason for what cannot be."""

from __future__ import annotations

import ast
import functools
import os
import sys

import pytest

import builtin_host
from helpers import TESTS, VERSION, check_ended, run_python

# What an interpreter cannot have; of _ctypes it gets one that can be imported.
REFUSED = {"_curses", "_curses_panel", "_tkinter", "readline"}
if VERSION < (3, 13):
    REFUSED |= {"_decimal", "nis", "ossaudiodev"}


def run_built_in(modules: str, source: str, timeout: float = 300.0):
    """Run source in a Python with the modules built in, and, where it is all of them, without their files."""
    env = builtin_host.environment(modules)
    path = [str(TESTS / "builtin")] if modules == "all" else []
    env["PYTHONPATH"] = os.pathsep.join([*path, *filter(None, sys.path), str(TESTS)])
    return run_python(source, environment=env, timeout=timeout)


@functools.cache
def outcomes() -> dict[str, set[str]]:
    """Import every module in three interpreters at once, all being built in; what came out, by module."""
    done = run_built_in(
        "all",
        f"""
import sys, threading, atoll
names = {builtin_host.names()!r}
assert set(names) <= set(sys.builtin_module_names)
def import_all(names):
    import importlib
    results = {{}}
    for name in names:
        try:
            importlib.import_module(name)
            results[name] = "imported"
        except ImportError as error:
            results[name] = str(error)
    return results
found = []
interps = [atoll.create() for _ in range(3)]
threads = [threading.Thread(target=lambda i=i: found.append(i.call(import_all, names))) for i in interps]
for thread in threads: thread.start()
for thread in threads: thread.join()
for interp in interps: interp.close()
assert len(found) == 3
print({{name: {{one[name] for one in found}} for name in names}})
""",
    )
    check_ended(done, 0, clean=True)
    return ast.literal_eval(done.stdout)


@pytest.mark.parametrize("name", builtin_host.names())
def test_each(name):
    """A module is imported in each interpreter, or refused in each with a reason and what to do."""
    (outcome,) = outcomes()[name]
    if name in REFUSED:
        assert outcome.startswith(f"{name} is built into this Python") and "use" in outcome
    else:
        assert outcome == "imported"


@pytest.mark.parametrize("name", [name for name in builtin_host.files() if name in REFUSED])
def test_file(name):
    """Where there is a file of what is refused, it is cloned."""
    if name == "_curses_panel":
        pytest.skip("it needs the C API of _curses, which one that is built in has not given")
    done = run_built_in(
        name,
        f"""
import sys, atoll
assert {name!r} in sys.builtin_module_names
with atoll.create() as interp:
    interp.exec("import {name}; assert {name}.__file__")
""",
    )
    check_ended(done, 0, clean=True)


# Subclasses, pickles, ints that show constants to Python code, weak references, class methods.
USE_DATETIME = """
def use_datetime(rounds):
    import copy, datetime, pickle, sys, weakref
    d, t, z = datetime.datetime, datetime.timedelta, datetime.timezone
    class Int(int):
        def __mul__(self, other): return Int(int(self) * other)
        def __radd__(self, other): return Int(other + int(self))
        def __divmod__(self, other): return tuple(map(Int, divmod(int(self), other)))
    for n in range(rounds):
        class Zone(datetime.tzinfo):
            def utcoffset(self, when): return t(hours=n % 12)
        class Moment(d):
            pass
        class Later(Moment):
            pass
        units = {unit: Int(1) for unit in ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")}
        moment = Later(2020, 1, 1 + n % 20, tzinfo=Zone()) + t(**units)
        assert type(moment) is Later and moment.day == 1 + n % 20 + 8
        assert d.now(z(t(hours=2))).timestamp() > 0 and moment.timestamp() > 0 and d.now(z.utc).astimezone()
        shared = [datetime.date.min, t.max, z.utc, z.min, z.max, d.max, datetime.time.max, t.resolution]
        assert copy.deepcopy(shared) == pickle.loads(pickle.dumps(shared)) == shared
        assert len({hash(value) for value in shared}) == len(shared)
        assert d.strptime("2020-02-03", "%Y-%m-%d") == d(2020, 2, 3)
        assert Moment.strptime("2020-02-03", "%Y-%m-%d").__class__ is Moment
        assert datetime.date(2020, 1, 1).isocalendar().week == 1 and d.fromisoformat("2020-01-01T00Z").tzinfo is z.utc
        assert Zone in datetime.tzinfo.__subclasses__() and z in datetime.tzinfo.__subclasses__()
        assert d in datetime.date.__subclasses__() and Moment in d.__subclasses__()
        assert weakref.ref(d)() is d and weakref.getweakrefcount(d) >= 1
    assert datetime.datetime_CAPI and d.__module__ == "datetime"
    return id(d)
"""

TOGETHER = """
import sys, threading, atoll
def run_together(function, *args):
    results = []
    interps = [atoll.create() for _ in range(4)]
    threads = [threading.Thread(target=lambda i=i: results.append(i.call(function, *args))) for i in interps]
    for thread in threads: thread.start()
    function(*args)
    for thread in threads: thread.join()
    for interp in interps: interp.close()
    assert len(results) == 4
    return results
"""


class TestDatetime:
    """The one that has Python objects in static variables, in four interpreters and in main at once."""

    @pytest.mark.parametrize("modules", ["_datetime", "_datetime,_zoneinfo", "_zoneinfo"])
    def test_together(self, modules):
        done = run_built_in(
            modules,
            USE_DATETIME
            + TOGETHER
            + """
def use(rounds):
    import zoneinfo, datetime
    zone = zoneinfo.ZoneInfo("UTC")
    for _ in range(rounds): assert datetime.datetime.now(zone).utcoffset() == datetime.timedelta(0)
    return use_datetime(rounds)
for _ in range(3): run_together(use, 60)
use(3)
print("done")
""",
        )
        check_ended(done, 0, "done\n", clean=True)

    def test_constants(self):
        """No reference is counted on what interpreters share."""
        done = run_built_in(
            "_datetime",
            USE_DATETIME
            + TOGETHER
            + """
import datetime
assert "_datetime" in sys.builtin_module_names and not hasattr(sys.modules["_datetime"], "__file__")
atoll.create().close()
d, t, z = datetime.datetime, datetime.timedelta, datetime.timezone
shared = [d, t, z, z.utc, z.utc.utcoffset(None), datetime.date.min, d.max, t.resolution, z.min, d.__mro__, z.__bases__]
before = [sys.getrefcount(value) for value in shared]
ids = set(run_together(use_datetime, 60))
if ids == {id(d)}:
    assert [sys.getrefcount(value) for value in shared] == before, (before, shared)
print("done")
""",
        )
        check_ended(done, 0, "done\n", clean=True)

    def test_main_has_not_imported_it(self):
        """Nor does main notice that it has."""
        done = run_built_in(
            "_datetime",
            """
import sys, atoll
assert "datetime" not in sys.modules
def today():
    import datetime
    return datetime.date(2020, 1, 1) + datetime.timedelta(1)
one, two = atoll.create(), atoll.create()
assert str(one.call(today)) == str(two.call(today)) == "2020-01-02"
one.close(); two.close()
with atoll.InterpreterPoolExecutor(4) as pool:
    assert len({str(future.result()) for future in [pool.submit(today) for _ in range(16)]}) == 1
""",
        )
        check_ended(done, 0, "", clean=True)

    def test_main_cannot_have_it(self):
        """Then an interpreter uses _pydatetime, and importing _datetime itself says why not."""
        done = run_built_in(
            "_datetime",
            """
import sys, atoll
sys.modules["_datetime"] = None
with atoll.create() as interp:
    interp.exec('''
import datetime
assert str(datetime.date(2020, 1, 1) + datetime.timedelta(1)) == "2020-01-02"
''')
""",
        )
        check_ended(done, 0, "", clean=True)

    def test_interrupted(self):
        """Ctrl-C while main imports it for the first interpreter is heard, and the next one has it."""
        done = run_built_in(
            "_datetime",
            """
import sys, atoll
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "_datetime" and not looked:
            looked.append(name)
            raise KeyboardInterrupt
looked = []
sys.modules.pop("_datetime", None)
sys.meta_path.insert(0, Finder())
raised = False
try:
    atoll.create().close()
except KeyboardInterrupt:
    raised = True
assert raised == bool(looked)
with atoll.create() as interp:
    interp.exec("import datetime, sys; assert '_datetime' in sys.modules")
""",
        )
        check_ended(done, 0, "", clean=True)

    @pytest.mark.skipif(VERSION >= (3, 13), reason="CPython shares the types itself from 3.13 on")
    def test_other_interpreters(self):
        """Interpreters with main's GIL, which Atoll has not made, go on using the types."""
        done = run_built_in(
            "_datetime",
            USE_DATETIME
            + """
import atoll, datetime, inspect, _xxsubinterpreters as subs
source = inspect.cleandoc(USE)
before = subs.create(isolated=False)
subs.run_string(before, source + "\\nuse_datetime(3)")
with atoll.create() as interp: interp.call(use_datetime, 3)
subs.run_string(before, source + "\\nuse_datetime(3)")
after = subs.create(isolated=False)
subs.run_string(after, source + "\\nuse_datetime(3)")
use_datetime(3)
subs.destroy(before); subs.destroy(after)
print("done")
""".replace("USE)", repr(USE_DATETIME) + ")"),
        )
        check_ended(done, 0, "done\n", clean=True)


class TestCtypes:
    """The one of 3.12, which belongs to main: it can be imported, and says what cannot be had."""

    pytestmark = pytest.mark.skipif(VERSION >= (3, 13), reason="_ctypes declares support from 3.13 on")

    def test_importers(self):
        done = run_built_in(
            "all",
            """
import atoll
with atoll.create() as interp:
    interp.exec('''
import ctypes, ctypes.util, ctypes.wintypes, multiprocessing.sharedctypes, uuid
class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("next", ctypes.POINTER(ctypes.c_char * 3))]
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
def callback(pointer): return 0
assert ctypes.sizeof(ctypes.c_double * 4) == 32
ctypes.pythonapi.PyErr_Clear.restype = None
def refused(error, function, *args):
    try: function(*args)
    except error as raised: assert "_ctypes is built into this Python" in str(raised), raised
    else: raise AssertionError(function)
refused(NotImplementedError, ctypes.CDLL("libm.so.6").cos)
try: ctypes.CDLL("libmissing.so.6")
except OSError as raised: assert "libmissing.so.6" in str(raised), raised
else: raise AssertionError("a library that is not there")
refused(NotImplementedError, Point)
refused(NotImplementedError, ctypes.c_int, 3)
refused(NotImplementedError, ctypes.pythonapi.PyErr_Clear)
refused(NotImplementedError, ctypes.create_string_buffer, 3)
refused(NotImplementedError, ctypes.addressof, None)
''')
""",
        )
        check_ended(done, 0, "", clean=True)


@pytest.mark.parametrize("name", ["ctypes", "curses"])
def test_check(name):
    """`atoll check` says what cannot be had, and why."""
    done = run_built_in(
        "all",
        f"""
import runpy, sys
sys.argv = ["atoll", "check", "--json", {name!r}]
runpy.run_module("atoll", run_name="__main__")
""",
    )
    if name == "curses":
        check_ended(done, 1, clean=True)
        assert "_curses is built into this Python" in done.stdout and "in the main interpreter" in done.stdout
    else:
        check_ended(done, 0, clean=True)
        assert ("_ctypes is built into this Python" in done.stdout) == (VERSION < (3, 13))


def test_decimal():
    """Where its C version is refused, its Python version does."""
    done = run_built_in(
        "all",
        TOGETHER
        + """
def third():
    import decimal
    return str(decimal.Decimal(1) / 3)
assert set(run_together(third)) == {third()}
print("done")
""",
    )
    check_ended(done, 0, "done\n", clean=True)


@pytest.mark.parametrize("mode", ["shared", "strict"])
def test_other_modes(mode):
    """In these, too, what cannot be had is refused, and nothing crashes."""
    done = run_built_in(
        "_datetime,_decimal",
        f"""
import atoll
def use():
    import datetime
    return str(datetime.date(2020, 1, 1) + datetime.timedelta(1))
interps = [atoll.create(extensions={mode!r}) for _ in range(3)]
assert {{interp.call(use) for interp in interps}} == {{use()}}
for interp in interps: interp.close()
""",
    )
    check_ended(done, 0, "", clean=True)
