"""Daemon threads in interpreters that are closed, or left open, at whatever the threads are: the close returns, nothing
crashes, and the process ends as it would without them."""

from __future__ import annotations

import pytest

from helpers import check_ended, run_python

# What a daemon thread does in its interpreter; it calls begun() once it does it.
COMPUTES = """
def work():
    begun()
    while True:
        sum(range(100))
"""
SLEEPS_AGAIN_AND_AGAIN = """
import time
def work():
    begun()
    while True:
        time.sleep(0.001)
"""
TAKES_A_LOCK = """
lock = threading.Lock()
def work():
    begun()
    while True:
        # With a timeout: what interrupts the other one just when it has the lock lets it keep that (CPython's race).
        if lock.acquire(timeout=0.01):
            lock.release()
"""
GETS_FROM_A_QUEUE = """
def work():
    begun()
    queue.get()
"""
PUTS_INTO_A_QUEUE = """
full = atoll.create_queue(1)
full.put(0)
def work():
    begun()
    full.put(1)
"""
SWALLOWS = """
def work():
    begun()
    for _ in range(4):
        try:
            while True:
                sum(range(100))
        except SystemExit:
            pass
"""
SWALLOWS_IN_A_QUEUE = """
def work():
    begun()
    for _ in range(3):
        try:
            queue.get()
        except SystemExit:
            pass
"""
STARTS_THREADS = """
def work():
    begun()
    while True:
        threads = [threading.Thread(target=len, args=("",), daemon=True) for _ in range(3)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
"""
IMPORTS = """
import sys
def work():
    begun()
    while True:
        for name in ("colorsys", "json", "decimal"):
            sys.modules.pop(name, None)
            __import__(name)
"""
CALLS_ANOTHER = """
other = atoll.Interpreter({other})
def work():
    begun()
    while True:
        other.call(len, "x")
"""
# They do not look whether they are interrupted before they are done, if ever.
IN_A_SYSTEM_CALL = """
def work():
    begun()
    os.read({silent}, 1)
"""
SLEEPS_LONG = """
import time
def work():
    begun()
    time.sleep(1000)
"""
WAITS_FOR_EVENT = """
def work():
    begun()
    threading.Event().wait()
"""
IN_A_CALL = """
other = atoll.Interpreter({other})
def stay():
    begun()
    os.read({silent}, 1)
def work():
    other.call(stay)
"""

END = [
    "COMPUTES",
    "SLEEPS_AGAIN_AND_AGAIN",
    "TAKES_A_LOCK",
    "GETS_FROM_A_QUEUE",
    "PUTS_INTO_A_QUEUE",
    "SWALLOWS",
    "SWALLOWS_IN_A_QUEUE",
    "STARTS_THREADS",
]
# An import that is interrupted may leave a lock behind for which another one waits; the exception of a call imports.
STAY = ["IN_A_SYSTEM_CALL", "SLEEPS_LONG", "WAITS_FOR_EVENT", "IMPORTS", "CALLS_ANOTHER"]

START = """
import atoll, os, sys, time
from helpers import has_two_threads
def only_two_threads():
    while not has_two_threads():
        time.sleep(0.001)
queue = atoll.create_queue()
silent, began = os.pipe(), os.pipe()
other = atoll.create()
interp = atoll.create()
interp.prepare_main(queue=queue)
def start(work, threads=2):
    numbers = {{"silent": silent[0], "other": other.id}}
    for name, number in numbers.items():
        work = work.replace("{{" + name + "}}", str(number))
    interp.exec("import atoll, os, threading\\ndef begun(): os.write(" + str(began[1]) + ", b'!')\\n" + work
        + f"\\nfor _ in range({{threads}}): threading.Thread(target=work, daemon=True).start()")
    while threads:
        threads -= len(os.read(began[0], 1))
start({work!r})
"""

MODES = pytest.mark.parametrize("options", [(), ("-X", "dev")], ids=["plain", "dev"])


def run_with_daemons(name, rest, *options):
    """Start daemon threads that do this in a process's interpreter `interp`, then run the rest there."""
    return run_python(START.format(work=globals()[name]) + rest, *options)


@MODES
@pytest.mark.parametrize("name", END)
def test_ends(name, options):
    """What can be interrupted: the interpreter is gone with its threads."""
    rest = """
interp.close()
assert interp.id not in [one.id for one in atoll.list_all()]
only_two_threads()
later = atoll.create()
assert later.call(len, "abc") == 3
later.close()
other.close()
print("end")
"""
    done = run_with_daemons(name, rest, *options)
    check_ended(done, 0, "end\n", clean=not options)
    assert "Traceback" not in done.stderr, done.stderr  # a file that an import had open may be warned about


@MODES
@pytest.mark.parametrize("name", STAY)
def test_stays(name, options):
    """What cannot be interrupted: the interpreter is closed for everybody, and the process goes on and ends."""
    rest = """
interp.close()
try:
    interp.call(len, "")
except atoll.InterpreterNotFoundError:
    print("closed")
assert interp.id not in [one.id for one in atoll.list_all() if one.whence == "atoll" and one.is_running()]
for _ in range(3):
    later = atoll.create()
    assert later.call(len, "abc") == 3
    later.close()
other.close()
print("end", flush=True)
"""
    check_ended(run_with_daemons(name, rest, *options), 0, "closed\nend\n")


@pytest.mark.parametrize("name", [*END, *STAY, "IN_A_CALL"])
def test_left_open(name):
    """The process ends without a close."""
    done = run_with_daemons(name, "print('end', flush=True)")
    check_ended(done, 0, "end\n")
    assert "RuntimeWarning: remaining interpreters at exit" in done.stderr


@pytest.mark.parametrize("name", STAY)
def test_closed_without_a_name(name):
    """The last reference goes, and nobody calls close()."""
    check_ended(run_with_daemons(name, "del interp\nother.close()\nprint('end', flush=True)"), 0, "end\n")


def test_goes_on_after_the_close():
    """A thread that comes back from its system call finds all that it left, and ends then."""
    rest = """
interp.close()
os.write(silent[1], b"!!")
only_two_threads()
# Whoever closes another interpreter may end this one now, too.
later = atoll.create()
later.close()
other.close()
print("end", flush=True)
"""
    check_ended(run_with_daemons("IN_A_SYSTEM_CALL", rest), 0, "end\n")


def test_is_in_another_interpreter():
    """A thread of one interpreter that is inside another one when its own is closed."""
    rest = """
interp.close()
try:
    other.close()
except atoll.InterpreterError as error:
    print("running" in str(error))
os.write(silent[1], b"!!")
print("end", flush=True)
"""
    done = run_with_daemons("IN_A_CALL", rest)
    check_ended(done, 0, "True\nend\n")


@pytest.mark.parametrize("daemon", [True, False])
def test_begin_and_end_while_it_closes(daemon):
    """Threads that are about to begin, or to end, are threading's all the same: no close is refused for them."""
    done = run_python(f"""
import atoll
for number in range(60):
    interp = atoll.create()
    interp.exec('''
import threading
def quick():
    for _ in range({{}}): pass
def spawn():
    for _ in range(3):
        threading.Thread(target=quick, daemon=True).start()
for _ in range(6):
    threading.Thread(target=spawn, daemon={daemon}).start()
'''.format(number % 50 * 20))
    interp.close()
print("end")
""")
    check_ended(done, 0, "end\n")
    assert "Error" not in done.stderr, done.stderr


# Threads that threading does not know, as the end of a process takes them: for daemons.
UNKNOWN = """
import atoll, os, time
from helpers import has_two_threads
reader, writer = os.pipe()
def loop():
    import time
    while True:
        time.sleep(0.001)
def start(function, *args):
    import _thread
    _thread.start_new_thread(function, args)
"""


def test_not_known_to_threading():
    """One of _thread's is interrupted; one that does not hear of it keeps nothing but the interpreter's memory."""
    done = run_python(
        UNKNOWN
        + """
for function, *args in [(loop,), (os.read, reader, 1)]:
    interp = atoll.create()
    interp.call(start, function, *args)
    interp.close()
    assert atoll.list_all() == [atoll.get_main()]
os.write(writer, b"!")
while not has_two_threads():
    time.sleep(0.001)
atoll.create().close()
print("end")
"""
    )
    check_ended(done, 0, "end\n", clean=True)


def test_not_known_to_threading_in_a_worker():
    """A worker that is replaced, or whose pool is shut down, takes such threads with it."""
    done = run_python(
        UNKNOWN
        + """
with atoll.InterpreterPoolExecutor(1, max_tasks_per_child=1) as pool:
    for _ in range(3):
        pool.submit(start, loop).result()
while atoll.list_all() != [atoll.get_main()]:
    time.sleep(0.001)
print("end")
"""
    )
    check_ended(done, 0, "end\n", clean=True)


def test_not_known_to_threading_at_exit():
    """An interpreter that is left open with such a thread does not keep the process."""
    done = run_python(UNKNOWN + 'interp = atoll.create()\ninterp.call(start, loop)\nprint("end")')
    check_ended(done, 0, "end\n")
    assert "still inside" not in done.stderr


def test_hidden_threads():
    """A debugger takes its own daemon threads out of threading.enumerate(): they are known all the same."""
    source = """
        import atoll
        interp = atoll.create()
        interp.exec('''
        import atoll, threading
        queue = atoll.create_queue()
        threading.Thread(target=queue.get, daemon=True).start()
        threading.enumerate = lambda: [threading.current_thread()]
        ''')
        interp.close()
        print("closed")
        """
    check_ended(run_python(source), 0, "closed\n", clean=True)


def test_waits_for_the_main_thread():
    """A thread that is no daemon and ends when the main thread has: a debugger has one."""
    source = """
        import atoll
        interp = atoll.create()
        interp.exec('''
        import threading, time
        def wait():
            while threading.main_thread().is_alive():
                time.sleep(0.01)
        threading.Thread(target=wait).start()
        ''')
        interp.close()
        print("closed")
        """
    check_ended(run_python(source), 0, "closed\n", clean=True)
