"""What is left of an interpreter's memory is taken back, unless somebody may know of it or may have freed it."""

from __future__ import annotations

import os

import pytest

from ext_build import KEEPER, LIBS
from helpers import VERSION, check_ended, run_python

pytest_plugins = ["ext_fixtures"]
pytestmark = pytest.mark.usefixtures("corpus")

START = f"""
import sys
import atoll, ext_use, os
LIBRARY = os.path.join(ext_use.CORPUS, {LIBS!r}, {KEEPER!r})
taken_back = lambda: atoll._atoll._blocks()[0]
doubt = lambda: atoll._atoll._blocks()[1]
def leave():
    "Leave small and large objects in the static variables of modules that are cloned."
    for name in ("ext_single", "ext_static_types"):
        ext_use.call(name, "keep", [dict.fromkeys(range(1000)), [object() for _ in range(3000)], "x" * 20_000])
"""


# Others take the memory that is there to be taken; what the library keeps is what it was given all the same.
LATER = """
for n in range(10):
    with ext_use.create() as interp:
        interp.call(leave)
        interp.exec("more = [{'other': [n]} for n in range(50_000)]")
import ctypes
library = ctypes.PyDLL(LIBRARY)
library.lib_keeper_last.restype = ctypes.c_void_p
words = (ctypes.c_size_t * 3).from_address(library.lib_keeper_last())
print(words[1] == id(dict), words[2])
"""


def copy_library(directory):
    """Return a line that puts a copy of the library where nothing is imported from."""
    return f"import shutil\nLIBRARY = shutil.copy(LIBRARY, {str(directory)!r})\n"


def run_script(source, *options, start=START, **details):
    """Run the source in a process of its own."""
    return run_python(start + source, *options, **details)


class TestDebugged:
    """ATOLL_DEBUG_BLOCKS fills what is freed and taken back, and ends the process at the slightest doubt."""

    @pytest.mark.parametrize("debug", ["1", "0"])
    def test_cycles(self, debug):
        done = run_script(
            """
def work():
    import asyncio, collections, datetime, decimal, json, sqlite3
    sys.keep = [json.dumps([{"a": [1, 2]}] * 300), [object() for _ in range(60_000)], dict.fromkeys(range(5000))]
    sys.keep[2].clear()
    for n in range(200):
        sys.keep[1] += [bytes(n * 50)]
for n in range(30):
    with ext_use.create() as interp:
        interp.call(work)
        interp.call(leave)
    mine = [bytes(n) for n in (700, 7_000, 131_039, 70_000, 262_111)]
    assert not any(map(any, mine))
print(doubt(), taken_back() > 0, atoll.kept_extensions())
""",
            environment={**os.environ, "ATOLL_DEBUG_BLOCKS": debug},
        )
        check_ended(done, 0, "None True []\n", clean=True)


class TestWhoKnows:
    @pytest.mark.skipif(
        VERSION != (3, 13), reason="dicts have no versions, or large blocks are not taken back"
    )
    def test_number_that_looks_like_an_address(self):
        """The count of changes of main's dicts, in a program whose heap lies low (Debian's Python)."""
        done = run_script("""
import ctypes
def leave():
    import ext_single
    kept = ["x" * 100_000 for _ in range(20)]
    ext_single.keep(kept)
    return max(map(id, kept))
def count(changed):
    changed["key"] = object()
    return ctypes.c_size_t.from_address(id(changed) + 24).value
interp = ext_use.create()
ballast = ["x" * 100_000]
while id(ballast[-1]) <= count({}) + (16 << 20): # what comes next lies where the count has not been
    ballast.append("x" * 100_000)
place = interp.call(leave)
if place >> 30:
    interp.close()
    print("heap is not low")
else:
    changed = {}
    first = count(changed)
    while count(changed) < place + 8_000:
        pass
    print(first < place)
    before = taken_back()
    interp.close()
    print(place < count(changed) < place + 100_000, taken_back() > before)
""")
        check_ended(done, 0, clean=True)
        if done.stdout == "heap is not low\n":
            pytest.skip("the heap lies where the count does not come")
        assert done.stdout == "True\nTrue True\n"

    def test_module_that_declares_support(self):
        """One that keeps objects where nobody sees them: it goes with its interpreter."""
        done = run_script("""
def meet(number):
    import ext_keeps
    return ext_keeps.meet(type(f"Type{number}", (), {}))
names = []
for n in range(20):
    with ext_use.create() as interp:
        names.append(interp.call(meet, n))
        interp.exec("more = [type(f'Other{n}', (), {}) for n in range(200)]")
assert names == [f"Type{n}" for n in range(20)], names
""")
        check_ended(done, 0, clean=True)

    @pytest.mark.parametrize("extensions", ["strict", "shared"])
    def test_module_that_is_not_cloned(self, extensions):
        """It knows the first interpreter's type for ever, so that interpreter's memory stays."""
        done = run_script(f"""
def meet(number):
    import ext_keeps
    sys.name = type(f"Type{{number}}", (), {{}})
    return ext_keeps.meet(sys.name)
for n in range(20):
    with ext_use.create(extensions={extensions!r}) as interp:
        if n == 0:
            interp.call(meet, n)
        interp.exec("more = [type(f'Other{{n}}', (), dict.fromkeys(map(str, range(90)))) for n in range(200)]")
import ext_keeps
print(ext_keeps.meet(int))
""")
        check_ended(done, 0, "Type0\n", clean=True)

    def test_library_that_was_given_an_object(self, tmp_path):
        """A plain one: it lies where nothing is imported from, or it would be cloned."""
        done = run_script(
            copy_library(tmp_path)
            + """
def give():
    import ctypes
    given = {"key": ["value"] * 500}
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(given))
    library = ctypes.PyDLL(LIBRARY)
    library.lib_keeper_keep.argtypes = [ctypes.py_object]
    library.lib_keeper_keep.restype = None
    library.lib_keeper_keep(given)
with ext_use.create() as interp:
    interp.exec(f"LIBRARY = {LIBRARY!r}")
    interp.call(give)
"""
            + LATER
        )
        check_ended(done, 0, "True 1\n", clean=True)

    def test_library_that_c_code_opened(self, tmp_path):
        """The same without ctypes: what a clone opens with dlopen() may be given anything, too."""
        done = run_script(
            copy_library(tmp_path)
            + """
def give(path):
    import ext_dl, os
    ext_dl.give(ext_dl.open(path, os.RTLD_NOW), {"key": ["value"] * 500})
with ext_use.create() as interp:
    interp.call(give, LIBRARY)
"""
            + LATER
        )
        check_ended(done, 0, "True 1\n", clean=True)


class TestWhoFreed:
    def test_allocators_put_back(self):
        """Whoever puts back the allocators from before Atoll takes its wrappers out: nothing is taken back any more."""
        done = run_script(
            """
one, two = ext_use.create(), ext_use.create()
one.call(leave)
one.exec("keep = [bytes(5000) for _ in range(3000)]")
ext_allocators.restore()
one.exec("del keep")
two.exec("more = [bytes(5000 + n) for n in range(3000)]")
one.close()
two.exec("assert not any(map(any, more))")
with ext_use.create() as three:
    three.call(leave)
two.close()
print(doubt() or "no doubt")
""",
            start="import ext_use, ext_allocators\next_allocators.save()\n" + START,
        )
        found = (
            "no doubt" if VERSION == (3, 12) else "the wrappers of CPython's allocators have been taken out"
        )
        check_ended(done, 0, f"{found}\n", clean=True)

    def test_doubt_is_fatal_when_debugging(self):
        source = "atoll.create().close(); ext_allocators.restore(); atoll.create().close(); print('end')"
        done = run_script(
            source,
            start="import ext_use, ext_allocators\next_allocators.save()\n" + START,
            environment={**os.environ, "ATOLL_DEBUG_BLOCKS": "1"},
        )
        if VERSION == (3, 12):
            check_ended(done, 0, "end\n", clean=True)
        else:
            assert done.returncode == -6
            assert "ATOLL_DEBUG_BLOCKS: the wrappers" in done.stderr

    @pytest.mark.parametrize("where", ["main", "interpreter"])
    def test_blocks_of_the_size_of_a_node(self, where):
        """Such a block, allocated after the interpreter took arenas, is no node of its map of arenas."""
        done = run_script(f"""
size, kept = 131_072 - 33, []
for n in range(30):
    with ext_use.create() as interp:
        interp.exec("x = [object() for _ in range(200_000)]")
        if {where!r} == "main":
            kept.append(bytes(size))
        else:
            interp.exec(f"b = bytes({{size}}); del b; b = bytes(2 * {{size}} + 33); del b")
        interp.exec("del x")
    assert all(len(block) == size and not any(block) for block in kept)
print(doubt())
""")
        check_ended(done, 0, "None\n", clean=True)


@pytest.mark.skipif(
    VERSION >= (3, 15), reason="since CPython 3.15 tracemalloc can trace several interpreters"
)
class TestTracemalloc:
    """Before CPython 3.15 it damages its tables when there are several interpreters: either, or."""

    TRACING = "InterpreterError no interpreter can be created while tracemalloc is tracing"
    WORK = """
def attempt(function, *args):
    try:
        print(type(function(*args)).__name__)
    except (atoll.InterpreterError, RuntimeError) as error:
        print(type(error).__name__, str(error).split(":")[0])
"""

    @pytest.mark.parametrize("options", [("-X", "tracemalloc"), ()], ids=["option", "start"])
    def test_create_is_refused(self, options):
        done = run_script(
            self.WORK
            + """
import tracemalloc
tracemalloc.start()
attempt(atoll.create)
attempt(atoll.InterpreterPoolExecutor, 1)
attempt(atoll.prewarm, 1)
tracemalloc.stop()
attempt(atoll.create)
""",
            *options,
        )
        check_ended(done, 0, f"{self.TRACING}\n" * 3 + "Interpreter\n")

    @pytest.mark.parametrize("first", ["tracemalloc", "atoll"])
    def test_start_is_refused(self, first):
        done = run_script(
            self.WORK
            + """
interp = atoll.create()
attempt(tracemalloc.start)
interp.close()
attempt(tracemalloc.start, 3)
print(tracemalloc.get_traceback_limit())
""",
            start=f"import {first}\nimport tracemalloc\n" + START,
        )
        refused = "RuntimeError tracemalloc cannot be started while there are interpreters"
        check_ended(done, 0, f"{refused}\nNoneType\n3\n")


@pytest.mark.skipif(VERSION < (3, 15), reason="before CPython 3.15 it is one or the other")
def test_tracemalloc_stopped():
    """Started before Atoll, it puts back the allocators from before Atoll."""
    done = run_script(
        """
one, two = ext_use.create(), ext_use.create()
one.exec("keep = [bytes(5000) for _ in range(3000)]")
one.call(leave)
tracemalloc.stop()
one.exec("del keep")
two.exec("more = [bytes(5000 + n) for n in range(3000)]")
one.close()
two.exec("assert not any(map(any, more))")
two.close()
""",
        start="import tracemalloc; tracemalloc.start()\n" + START,
    )
    check_ended(done, 0, clean=True)


class TestLimitsHold:
    """Where allocators from before Atoll are put back, memory that is taken from then on is counted all the same."""

    LIMITED = """
interp = ext_use.create(memory_limit=60_000_000)
interp.exec("kept = bytearray(20_000_000)")
def check(one):
    try:
        one.exec("more = bytearray(100_000_000)")
    except atoll.ExecutionFailed as error:
        assert error.excinfo.type.__name__ == "MemoryError"
    else:
        print("not refused")
    before = one.stats()["allocated"]
    one.exec("more = bytearray(5_000_000)")
    between = one.stats()["allocated"]
    one.exec("del more")
    print(4_900_000 < between - before < 5_300_000, one.stats()["allocated"] - before < 300_000)
"""

    @pytest.mark.skipif(VERSION == (3, 12), reason="3.12 puts another one in the place itself for a moment")
    def test_the_next_create_sees_to_it(self):
        done = run_script(
            self.LIMITED
            + """
ext_allocators.restore()
with ext_use.create(memory_limit=60_000_000) as other:
    check(other)
    check(interp)
interp.close()
""",
            start="import ext_use, ext_allocators\next_allocators.save()\n" + START,
        )
        check_ended(done, 0, "True True\n" * 2, clean=True)

    @pytest.mark.skipif(VERSION < (3, 15), reason="before CPython 3.15 it is one or the other")
    @pytest.mark.parametrize("options", [(), ("-X", "dev")], ids=["plain", "dev"])
    def test_tracemalloc_stopped(self, options):
        """At once."""
        done = run_script(
            self.LIMITED
            + """
tracemalloc.stop()
check(interp)
interp.exec("del kept")
print(interp.stats()["allocated"] < 20_000_000)
interp.close()
""",
            *options,
            start="import tracemalloc; tracemalloc.start()\n" + START,
        )
        check_ended(done, 0, "True True\nTrue\n", clean=True)


class TestImportedAgain:
    """Atoll's own library is one for the process, also when its modules are removed from sys.modules."""

    @pytest.mark.parametrize("where", ["interpreter", "main"])
    def test_in(self, where):
        done = run_script(f"""
def again():
    import sys, atoll
    other = atoll.create()
    for name in [name for name in sys.modules if name.startswith("atoll")]:
        del sys.modules[name]
    import atoll
    with open("/proc/self/maps") as file:
        files = {{line.split()[-1] for line in file if "_atoll" in line}}
    with atoll.create() as one:
        print(one.call(len, "abc"), other.call(len, "ab"), len(files))
    other.close()
if {where!r} == "main":
    again()
else:
    with ext_use.create() as interp:
        interp.call(again)
x = [bytes(100_000) for _ in range(100)], [[k] for k in range(200_000)]
""")
        check_ended(done, 0, "3 2 1\n", clean=True)


def test_ctypes_callback_on_a_thread_of_c():
    """It runs in the interpreter that it belongs to, not in the main one."""
    done = run_script("""
def work():
    import atoll, ctypes
    libc = ctypes.CDLL(None)
    seen = set()
    def run(arg):
        for k in range(2000):
            seen.add((atoll.get_current().id, str(k)))
        return 0
    callback = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(run)
    for _ in range(5):
        threads = [ctypes.c_ulong() for _ in range(4)]
        for thread in threads:
            assert libc.pthread_create(ctypes.byref(thread), None, callback, None) == 0
        for thread in threads:
            libc.pthread_join(thread, None)
    return {here for here, _ in seen} == {atoll.get_current().id}
for _ in range(3):
    with ext_use.create() as interp:
        assert interp.call(work)
""")
    check_ended(done, 0, clean=True)
