"""Memory runs out, once, at each place where Atoll asks for some: a clear error, and all works afterwards."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from atoll import _atoll
from helpers import check_ended, run_python

SOURCE = Path(__file__).with_name("failing.c")

# What CPython's allocators come through: memory that they ask for is CPython's business.
WRAPPERS = [
    f"{domain}_{function}"
    for domain in ("raw", "object_domain", "memory_domain")
    for function in ("malloc", "calloc", "realloc")
]

PRELUDE = """
import ctypes, faulthandler, threading
import atoll, atoll._pool.executor
faulthandler.enable()
failing = ctypes.CDLL(None)
for place, size in {places!r}:
    failing.failing_exclude(ctypes.c_size_t(place), ctypes.c_size_t(size))

def add_one(number):
    return number + 1

def each(operation, *expected):
    # Until there are no more places.
    operation()
    places = 0
    while True:
        failing.failing_arm(ctypes.c_long(places))
        try:
            operation()
        except (MemoryError, atoll.InterpreterError, RuntimeError) as error:
            assert isinstance(error, MemoryError) or any(text in str(error) for text in expected), error
        finally:
            hit = failing.failing_disarm()
        if not hit:
            break
        places += 1
        operation()
    assert places, "there were none"
    print("right")
"""

OPERATIONS = {
    "create": """
def create():
    with atoll.create() as interp:
        assert interp.call(abs, -3) == 3
each(create, "out of memory", "MemoryError")
""",
    "nested": """
# Each thread keeps the interpreters that it has been in, in a table that grows with the ninth.
interps = [atoll.create() for _ in range(10)]
def nested(rest, first):
    try:
        if rest:
            rest[0].call(nested, rest[1:], first)
    except Exception:
        pass
    return first.call(abs, -5)
def in_thread():
    outcome = []
    def run():
        try:
            outcome.append(nested(interps, interps[0]))
        except BaseException as error:
            outcome.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    assert outcome == [5]
each(in_thread, "MemoryError")
for interp in interps:
    interp.close()
""",
    "pool": """
import logging
logging.disable()
def pool():
    with atoll.InterpreterPoolExecutor(1, initializer=add_one, initargs=(1,)) as pool:
        assert list(pool.map(add_one, [1, 2, 3])) == [2, 3, 4]
        assert pool.submit(add_one, 4).result() == 5
each(pool, "can't start new thread", "could not be started", "initializer failed")
""",
    "submit": """
def submit():
    with atoll.create() as interp:
        assert interp.submit(add_one, 4).result() == 5
each(submit, "out of memory", "MemoryError", "can't start new thread", "is closed")
""",
    "queue": """
def queue():
    queue = atoll.create_queue()
    queue.put_many([1, b"x" * 1000, b"y" * 100_000, queue])
    assert atoll.select([queue], 1) == [queue]
    taken = []
    while len(taken) < 4:
        taken += queue.get_many(block=False)
    assert taken[3] is queue
each(queue)
""",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    output = tmp_path_factory.mktemp("failing") / "failing.so"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = ["-std=gnu17", "-O1", "-Wall", "-Wextra", "-fPIC", "-shared"]
    subprocess.run([*compiler, *flags, str(SOURCE), "-o", str(output)], check=True)
    return output


@pytest.fixture(scope="module")
def places():
    """Where the wrappers are in the library, and how long."""
    symbols = subprocess.run(["nm", "-S", _atoll.__file__], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in symbols.splitlines()]
    found = [
        (int(line[0], 16), int(line[1], 16))
        for line in lines
        if len(line) == 4 and line[3].split(".")[0] in WRAPPERS
    ]
    assert found
    return found


@pytest.mark.parametrize("name", OPERATIONS)
def test_once_at_each_place(name, library, places):
    source = PRELUDE.format(places=places) + OPERATIONS[name]
    done = run_python(source, environment={"LD_PRELOAD": str(library)})
    check_ended(done, 0, "right\n")


def test_address_space():
    """Also where it runs out in CPython, which is not always a match for that."""
    done = run_python("""
import pathlib, resource
import atoll
def limit(size):
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
said = set()
for room in range(0, 16 << 20, 256 << 10):
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit(pages * resource.getpagesize() + room)
    try:
        interp = atoll.create()
    except (MemoryError, atoll.InterpreterError) as error:
        said.add(str(error))
    else:
        interp.close()
    finally:
        limit(resource.RLIM_INFINITY)
assert said, "there was always enough"
with atoll.create() as interp:
    assert interp.call(len, "abc") == 3
assert atoll.list_all() == [atoll.get_main()]
print("right")
""")
    check_ended(done, 0, "right\n")


# A place in a queue becomes free, and who was told of it has no memory.
ROOM = """
import time
from atoll._stats.page import Page
def make():
    queue = atoll.create_queue(1)
    queue.put(b"0" * 500)
    return queue
make().get()
queue = make() # it has no memory for a second item
outcomes = []
def put():
    try:
        outcomes.append(queue.put(b"1" * 500))
    except MemoryError:
        outcomes.append("no memory")
threads = [threading.Thread(target=put) for _ in range(2)]
for thread in threads:
    thread.start()
while [words["blocked"] for _, words, _ in Page().interpreters()] != [2]:
    time.sleep(0.001)
time.sleep(0.05) # so that both sleep
failing.failing_arm(ctypes.c_long(0))
queue.get() # asks for none
for thread in threads:
    thread.join()
assert failing.failing_disarm()
assert sorted(outcomes, key=str) == [None, "no memory"], outcomes
assert queue.qsize() == 1
print("right")
"""


def test_room_that_is_not_taken_goes_to_the_next(library, places):
    done = run_python(PRELUDE.format(places=places) + ROOM, environment={"LD_PRELOAD": str(library)})
    check_ended(done, 0, "right\n")


SUBMIT = """
calls = atoll.AtomicInt()
with atoll.InterpreterPoolExecutor(1) as pool:
    pool.submit(calls.add).result()
    failing.failing_objects()
    made = 1
    place = 0
    while True:
        future = None
        try:
            failing.failing_arm_objects(ctypes.c_long(place))
            future = pool.submit(calls.add)
        except MemoryError:
            pass
        hit = failing.failing_disarm_objects()
        if future is not None:
            future.exception()
            made += 1
        pool.submit(abs, -1).result() # whatever was submitted has ended
        assert calls.load() == made, place
        place += 1
        if not hit:
            break
print("right")
"""


def test_submit_that_fails_has_not_submitted(library, places):
    done = run_python(PRELUDE.format(places=places) + SUBMIT, environment={"LD_PRELOAD": str(library)})
    check_ended(done, 0, "right\n")


CALLS = """
def back(number):
    import atoll
    return atoll.get_main().call(abs, number)
def call(interp):
    assert (interp.call(add_one, 1), interp.call(len, "text" * 1000)) == (2, 4000)
def asks(interp):
    failing.failing_arm(ctypes.c_long(0))
    try:
        call(interp)
    except (MemoryError, atoll.InterpreterError): # of CPython's: it may have wanted another arena just then
        pass
    return failing.failing_disarm()
with atoll.create() as interp:
    for nested in False, True, False:
        if nested:
            assert interp.call(back, -1) == 1
        for _ in range(5):
            call(interp)
        assert not all(asks(interp) for _ in range(10)), nested
print("right")
"""


def test_calls_ask_for_none(library, places):
    """From the second on, also after calls that were nested: a session keeps its messages' storage."""
    done = run_python(PRELUDE.format(places=places) + CALLS, environment={"LD_PRELOAD": str(library)})
    check_ended(done, 0, "right\n")


def test_a_limit_without_the_thread_that_sees_to_it():
    """It would be none: it is refused."""
    done = run_python("""
import atoll, contextlib, pathlib, resource, threading, time
def names():
    for one in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError): # it has just ended
            yield (one / "comm").read_text().strip()
def within(seconds):
    with atoll.timeout(interp, seconds):
        return interp.call(sum, range(10))
interp = atoll.create()
assert within(None) == 45
interp.exec("1")
# The stack of the thread that has made it could be used again: another one has it now.
while "atoll_create" in names():
    time.sleep(0.001)
over = threading.Event()
waiting = threading.Thread(target=over.wait)
waiting.start()
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
room = pages * resource.getpagesize() - (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
said = []
try:
    for limited in [
        lambda: within(60),
        lambda: interp.exec("1", timeout=60),
        lambda: atoll.create(cpu_limit=60),
    ]:
        try:
            limited()
        except RuntimeError as error:
            said.append(str(error))
finally:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    over.set()
    waiting.join()
assert said == ["can't start new thread"] * 3, said
assert within(60) == 45
interp.close()
print("right")
""")
    check_ended(done, 0, "right\n", clean=True)


def test_no_more_files():
    """As soon as there are enough descriptors it works again."""
    done = run_python("""
import os, resource
import atoll
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard))
taken = []
try:
    while True: taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
made = 0
while taken:
    try:
        with atoll.create() as interp:
            interp.exec("import json, decimal, datetime, ctypes")
            made += 1
    except (OSError, atoll.InterpreterError, atoll.ExecutionFailed):
        made = 0
    os.close(taken.pop())
assert made > 10, made
assert atoll.list_all() == [atoll.get_main()]
print("right")
""")
    check_ended(done, 0, "right\n")
