"""The order in which the native code of an interpreter ends: that of a process which did the same and ends.

Two modules have registered something by every means there is, and each calls the other in each step.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ext_build import KEEPER, LIBS
from helpers import check_ended, run_python

pytest_plugins = ["ext_fixtures"]
pytestmark = pytest.mark.usefixtures("corpus")

USE = """
import ext_use, ext_end_one as one, ext_end_two as two
one.take(two.give())
two.take(one.give())
one.start(1)
two.start(1)
"""
STEPS = [
    "Py_AtExit",
    "thread_local object",
    "on_exit",
    "atexit",
    "static object made at the end",
    "static object of a function",
    "static object",
    "destructor",
]
# The C library calls the destructors of libraries that do not need each other in an order of its own.
UNORDERED = re.compile(r"^(?:one|two) destructor.*\n", re.MULTILINE)


def steps(text: str) -> tuple[str, list[str]]:
    """What was told in order, and the rest."""
    return UNORDERED.sub("", text), sorted(UNORDERED.findall(text))


@pytest.fixture(scope="module")
def model(corpus) -> str:
    """What is told at the end of a process that has used both in the main interpreter."""
    done = run_python(f"import atoll\n{USE}")
    check_ended(done, 0)
    assert "GONE" not in done.stdout
    assert {(m[1], m[2]) for m in re.finditer(r"^(one|two) ([^,]*),", done.stdout, re.MULTILINE)} == {
        (name, step) for name in ("one", "two") for step in STEPS
    }
    return done.stdout


@pytest.mark.parametrize(
    "script",
    [
        f"interp = atoll.create(); interp.exec({USE!r}); interp.close(); os.write(1, b'closed\\n')",
        f"interp = atoll.create(); interp.exec({USE!r})",
        f"with atoll.InterpreterPoolExecutor(1) as pool: pool.submit(exec, {USE!r}).result()\n"
        "os.write(1, b'closed\\n')",
    ],
    ids=["close", "exit", "worker"],
)
@pytest.mark.parametrize("debug", ["0", "1"], ids=["sparse", "whole"])
def test_order_is_that_of_a_process(model, script, debug):
    done = run_python(
        f"import atoll, ext_use, os\n{script}", "-W", "ignore", environment={"ATOLL_DEBUG_CLONES": debug}
    )
    check_ended(done, 0)
    told, end, after = done.stdout.partition("closed\n")
    assert steps(told) == steps(model)
    assert after == ""
    assert bool(end) == ("closed" in script)


def test_another_thread_s_objects_stay(model):
    """As at the end of a process: only the thread that ends it destroys its own."""
    script = f"""
import atoll, threading, os
interp = atoll.create()
held = threading.Event()
def run():
    interp.exec({USE!r})
    os.write(1, b"used\\n")
    used.set()
    held.wait()
used = threading.Event()
thread = threading.Thread(target=run)
thread.start()
used.wait()
interp.close()
held.set()
thread.join()
os.write(1, b"joined\\n")
"""
    done = run_python(script)
    check_ended(done, 0)
    used, told, joined = re.split(r"(?<=used)\n|(?=joined)", done.stdout)
    assert (used, joined) == ("used", "joined\n")
    mine = re.sub(r"^(?:one|two) thread_local.*\n", "", model, flags=re.MULTILINE)
    # The value is the other thread's.
    assert steps(told) == steps(
        mine.replace("value there", "value GONE").replace("other's there", "other's GONE")
    )


def test_what_the_c_library_keeps(corpus, tmp_path):
    """The environment, and what a stream is to write at the end, are good when the interpreter is gone."""
    text = tmp_path / "text"
    done = run_python(
        f"""
import atoll, ctypes, ext_use
for _ in range(3):
    interp = atoll.create()
    interp.exec("import ext_use, ext_clib; ext_clib.give({str(text)!r})")
    assert interp.call(ext_use.call, "ext_clib", "thread") == (2, 40)
    interp.close()
    assert not atoll.kept_extensions()
getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
print(getenv(b"EXT_CLIB"))
"""
    )
    check_ended(done, 0, "b'literal'\n", clean=True)
    assert text.read_text() == "text"


KNOWN = "a library that stays has an address in one of them"
LENT = {  # what is done with it later, and whether the clone stays for that
    "log": ("libc.syslog(6, b'%d', 1)", False),
    "random numbers": ("libc.random()", False),
    "signal stack": ("os.kill(os.getpid(), signal.SIGUSR1)", False),
    "environment": ("libc.getenv(b'ABSENT')", True),
    "variable": ("print(libc.getenv(b'EXT_LENDS'))", True),
    "program name": ("libc.error(0, 0, b'said')", True),
    "frozen modules": ("import ext_lends_frozen", True),
    "cookie stream": ("pass", True),
    "memory stream": ("pass", True),
}
LEND = """
import atoll, ctypes, ext_use, os, signal
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
signal.signal(signal.SIGUSR1, lambda *args: print("heard"))
interp = atoll.create()
for what in {lent!r}:
    interp.call(ext_use.call, {module!r}, "lend", what)
interp.close()
print(*{{clone.reason for clone in atoll.kept_extensions()}} if {stays} else atoll.kept_extensions(), flush=True)
{later}
"""


@pytest.mark.parametrize("what", LENT)
def test_what_the_c_library_goes_on_using(corpus, what):
    """It is its own, or the clone stays as long as it may be used."""
    later, stays = LENT[what]
    done = run_python(LEND.format(lent=[what], module="ext_lends", stays=stays, later=later))
    said = {"variable": "b'literal'\n", "frozen modules": "frozen\n", "signal stack": "heard\n"}.get(what, "")
    why, _, out = done.stdout.partition("\n")
    check_ended(done, 0)
    # A variable of the C library's may lie in the program.
    leads = KNOWN if what == "frozen modules" else "leads into one of them"
    assert (leads in why or (stays and why == KNOWN)) if stays else why == ""
    assert out == said
    assert done.stderr == {"program name": "ext_lends: said\n", "cookie stream": "text"}.get(what, "")


@pytest.mark.parametrize("what", ["cookie stream", "memory stream"])
def test_a_stream_that_was_closed(corpus, what):
    lent = [what, "closed stream"]
    done = run_python(LEND.format(lent=lent, module="ext_lends", stays=False, later=""))
    check_ended(done, 0, "\n")
    assert done.stderr == ("text" if what == "cookie stream" else "")


def test_what_others_have_for_good(corpus):
    """What the C library or CPython calls later, and keys that it compares, are in code and memory that stay."""
    source = """
import atoll, ctypes, ext_use, os, sys
interp = atoll.create()
interp.call(ext_use.call, "ext_lends_hooks", "lend", "table of keys")
if sys.version_info >= (3, 13):
    interp.call(ext_use.call, "ext_lends_hooks", "lend", "tracer of references")
writer = interp.call(ext_use.call, "ext_lends_hooks", "await")
count = ctypes.c_long.from_address(interp.call(ext_use.call, "ext_lends_hooks", "address"))
interp.close()
os.write(writer, b"x")
ext_use.wait_until(lambda: count.value != 0)
class Entry(ctypes.Structure):
    _fields_ = [("key", ctypes.c_char_p), ("data", ctypes.c_void_p)]
search = ctypes.CDLL(None).hsearch
search.argtypes = [Entry, ctypes.c_int]
print(search(Entry(b"ext_lends", None), 0) != 0)
"""
    check_ended(run_python(source), 0, "True\n", clean=True)


def test_what_the_cpp_library_keeps(corpus):
    """Functions for when memory is short, or nobody catches an exception, end with their interpreter."""
    source = """
import atoll, ext_use
for _ in range(2):
    interp = atoll.create()
    assert interp.call(ext_use.call, "ext_handlers", "set") is False
    assert interp.call(ext_use.call, "ext_handlers", "own") is True
    interp.close()
    assert not atoll.kept_extensions()
import ext_handlers
print(ext_handlers.set(), ext_handlers.own())
"""
    check_ended(run_python(source), 0, "False True\n", clean=True)


@pytest.mark.parametrize(
    ("where", "out", "err"),
    [
        ("object", "", "said\n"),
        ("class", "", "said\n"),
        ("error", "said\n", ""),
        ("back", "said\n", "said\n"),
    ],
)
def test_what_the_cpp_library_writes_to(corpus, where, out, err):
    source = f"""
import atoll, ext_use
interp = atoll.create()
interp.call(ext_use.call, "ext_handlers", "redirect", {where!r})
interp.close()
print(*{{clone.reason for clone in atoll.kept_extensions()}}, flush=True)
with atoll.create() as other:
    other.call(ext_use.call, "ext_handlers", "say", "said")
"""
    done = run_python(source)
    check_ended(
        done, 0, ("a stream is open that leads into one of them\n" if where != "back" else "\n") + out
    )
    assert done.stderr == err


@pytest.mark.parametrize(
    ("way", "number"),
    [("tie", 12), ("tied buffer", 12), ("facet", "#"), ("callback", 12), ("led back", 12)],
)
def test_what_the_streams_of_cpp_lead_to(corpus, way, number):
    """What they flush, what writes their numbers, whom they tell: of a library that is gone, it would be the end."""
    source = f"""
import atoll, ext_use
interp = atoll.create()
interp.call(ext_use.call, "ext_handlers", "redirect", {way!r})
interp.close()
print(*{{clone.reason for clone in atoll.kept_extensions()}}, flush=True)
with atoll.create() as other:
    other.call(ext_use.call, "ext_handlers", "use")
"""
    why = "" if way == "led back" else "a stream is open that leads into one of them"
    check_ended(run_python(source), 0, f"{why}\n{number}\n", clean=True)


STAYS = f"""
import atoll, ctypes, ext_use, os, shutil
LIBRARY = shutil.copy(os.path.join(ext_use.CORPUS, {LIBS!r}, {KEEPER!r}), {{folder!r}})
def give(path, taken):
    import ctypes, ext_lends
    handle = ctypes.CDLL(path).lib_keeper_handle
    handle(ctypes.c_void_p(ext_lends.function()))
    if taken:
        handle(None)
"""


@pytest.mark.parametrize("taken", [False, True])
def test_what_a_library_that_stays_was_given(corpus, tmp_path, taken):
    """A function that it calls from then on, whoever uses it.

    It lies where nothing is imported from, or it would be cloned.
    """
    source = (
        STAYS.format(folder=str(tmp_path))
        + f"""
interp = ext_use.create()
interp.call(give, LIBRARY, {taken})
interp.close()
print({{clone.reason for clone in atoll.kept_extensions()}})
print(ctypes.CDLL(LIBRARY).lib_keeper_call(21))
"""
    )
    check_ended(run_python(source), 0, "set()\n-1\n" if taken else f"{{{KNOWN!r}}}\n42\n", clean=True)


@pytest.mark.parametrize("here", [True, False])
def test_what_a_library_that_stays_was_given_for_a_thread(corpus, tmp_path, here):
    """In a variable that is thread_local: of the thread that closes the interpreter, or of one that is gone."""
    source = (
        STAYS.format(folder=str(tmp_path))
        + f"""
import threading
def give_here(path):
    import ctypes, ext_lends
    ctypes.CDLL(path).lib_keeper_handle_here(ctypes.c_void_p(ext_lends.function()))
interp = ext_use.create()
if {here}:
    interp.call(give_here, LIBRARY)
else:
    thread = threading.Thread(target=interp.call, args=(give_here, LIBRARY))
    thread.start()
    thread.join()
interp.close()
print({{clone.reason for clone in atoll.kept_extensions()}})
print(ctypes.CDLL(LIBRARY).lib_keeper_call_here(21))
"""
    )
    check_ended(run_python(source), 0, f"{{{KNOWN!r}}}\n42\n" if here else "set()\n-1\n", clean=True)


def test_a_library_with_pages_that_nobody_may_touch(corpus, tmp_path):
    """Among its variables: those around them are looked at."""
    source = (
        STAYS.format(folder=str(tmp_path))
        + """
print(ctypes.CDLL(LIBRARY).lib_keeper_guard())
for taken in (True, False):
    interp = ext_use.create()
    interp.call(give, LIBRARY, taken)
    interp.close()
    print({clone.reason for clone in atoll.kept_extensions()})
"""
    )
    check_ended(run_python(source), 0, f"0\nset()\n{{{KNOWN!r}}}\n", clean=True)


CALLS_BACK = "a library that they use may call back"


def registers(corpus: Path, folder: Path, source: str, out: str, library: str | None = None) -> None:
    """Run a program that uses ext_registers, or ext_replaces, and their library: the package's, or this one."""
    path = library or str(corpus / LIBS / KEEPER)
    start = f"""
import atoll, ctypes, ext_use
def use(function):
    import importlib
    module = "ext_registers" if function == "keep" else "ext_replaces"
    return getattr(importlib.import_module(module), function)()
def close(interp):
    interp.close()
    print({{clone.reason for clone in atoll.kept_extensions()}}, flush=True)
library = ctypes.CDLL({path!r})
"""
    environment = {"LD_LIBRARY_PATH": str(folder)} if library else {}
    check_ended(run_python(start + source, environment=environment), 0, out, clean=True)


@pytest.fixture
def apart(corpus, tmp_path) -> str:
    """The library where nothing is imported from: it is not cloned."""
    return shutil.copy(corpus / LIBS / KEEPER, tmp_path)


@pytest.mark.parametrize("plain", [False, True])
def test_what_a_library_keeps_where_nobody_looks(corpus, tmp_path, apart, plain):
    """In memory from malloc(): known by the name of the function.  A clone of the library ends with the others."""
    source = """
interp = ext_use.create()
interp.call(use, "keep")
close(interp)
print(library.lib_keeper_run())
"""
    out = f"{{{CALLS_BACK!r}}}\n1\n" if plain else "set()\n0\n"
    registers(corpus, tmp_path, source, out, apart if plain else None)


def test_functions_of_the_c_library_that_are_handed_on(corpus, tmp_path, apart):
    """The shim's, in truth."""
    source = """
interp = ext_use.create()
interp.call(use, "hand_on")
close(interp)
print(library.lib_keeper_close())
"""
    registers(corpus, tmp_path, source, f"{{{KNOWN!r}}}\n0\n", apart)


def test_what_another_clone_has_to_put_back(corpus, tmp_path, apart):
    """A function of one that ends is known to the one that has put another in its place."""
    source = """
one, other = ext_use.create(), ext_use.create()
print(one.call(use, "replace"), other.call(use, "replace"))
close(one)
print(library.lib_keeper_call(1))
other.call(use, "put_back")
print(library.lib_keeper_call(1))
other.close()
"""
    registers(corpus, tmp_path, source, f"False True\n{{{KNOWN!r}}}\n4\n2\n", apart)


def test_an_allocator_that_another_clone_has(corpus):
    source = """
import atoll, ext_use
def use(*functions):
    import ext_allocators
    for function in functions:
        getattr(ext_allocators, function)()
one, other = ext_use.create(), ext_use.create()
for interp in (one, other):
    interp.call(use, "save", "wrap")
one.close()
print({clone.reason for clone in atoll.kept_extensions()})
print(len(bytes(100_000)))
other.call(use, "restore")
print(len(bytes(100_000)))
"""
    check_ended(run_python(source + "other.close()"), 0, f"{{{KNOWN!r}}}\n100000\n100000\n", clean=True)


def test_handlers_of_cpp_that_another_clone_has(corpus):
    source = f"""
import atoll, ext_use
one, other = atoll.create(), atoll.create()
for interp in (one, other):
    interp.call(ext_use.call, "ext_handlers", "replace")
one.close()
print({{clone.reason for clone in atoll.kept_extensions()}} == {{{KNOWN!r}}})
other.call(ext_use.call, "ext_handlers", "put_back")
other.close()
"""
    check_ended(run_python(source), 0, "True\n", clean=True)


@pytest.mark.parametrize("taken", [False, True])
def test_an_allocator_that_stays(corpus, taken):
    """CPython's, for raw memory, which all interpreters use."""
    source = f"""
import atoll, ext_use
def wrap(taken):
    import ext_allocators
    ext_allocators.save()
    ext_allocators.wrap()
    if taken:
        ext_allocators.restore()
interp = ext_use.create()
interp.call(wrap, {taken})
interp.close()
print({{clone.reason for clone in atoll.kept_extensions()}})
with ext_use.create() as other:
    print(other.call(len, [bytes(100_000)]))
"""
    check_ended(run_python(source), 0, f"{{{KNOWN!r}}}\n1\n" if not taken else "set()\n1\n", clean=True)


def test_what_cpython_has_of_static_types_keeps_nothing():
    """3.13 goes on having the addresses of those of datetime, of which each interpreter has a clone."""
    source = """
import datetime, decimal, json, threading
import atoll
for _ in range(3):
    with atoll.create() as a, atoll.create() as b:
        for interp in (a, b):
            interp.exec("import datetime, decimal, json, threading; datetime.datetime.now().strftime('%Y')")
print(atoll.kept_extensions())
"""
    check_ended(run_python(source), 0, "[]\n", clean=True)


def test_where_cpp_gets_memory(corpus):
    source = """
import atoll, ext_use
interp = atoll.create()
interp.call(ext_use.call, "ext_supplies", "supply")
interp.close()
print({clone.reason for clone in atoll.kept_extensions()})
with atoll.create() as other:
    print(other.call(ext_use.call, "ext_supplies", "fill"))
"""
    check_ended(run_python(source), 0, "{'a library that they use may call back'}\n1000\n", clean=True)


@pytest.mark.parametrize("begin", ["begin", "begin_python"])
def test_a_thread_of_c_is_ended(corpus, begin):
    """Also one that CPython has started for it."""
    source = f"""
import atoll, ext_use
from helpers import has_two_threads
interp = atoll.create()
interp.exec("import ext_use, ext_clib; ext_clib.{begin}()")
interp.close()
ext_use.wait_until(has_two_threads)
print(atoll.kept_extensions())
"""
    check_ended(run_python(source), 0, "[]\n", clean=True)


def test_a_library_knows_where_its_original_is(corpus):
    source = """
import atoll, ext_use
interp = atoll.create()
interp.exec("import ext_use, ext_clib; assert ext_clib.path() == ext_clib.__file__, ext_clib.path()")
interp.close()
"""
    check_ended(run_python(source), 0, clean=True)
