"""Locks and the like in a process that is interrupted, forked or ended."""

from __future__ import annotations

import pytest

from helpers import run_python
from signal_helpers import interrupted

MAKE = {
    "lock": "lock = atoll.Lock(); lock.acquire(); wait = lock.acquire",
    "rlock": """
lock = atoll.RLock()
threading.Thread(target=lock.acquire).start()
while not lock.locked(): pass
wait = lock.acquire
""",
    "condition": "condition = atoll.Condition(); condition.acquire(); wait = condition.wait",
    "event": "event = atoll.Event(); wait = event.wait",
    "semaphore": "semaphore = atoll.Semaphore(0); wait = semaphore.acquire",
    "barrier": "barrier = atoll.Barrier(2); wait = barrier.wait",
    "atomic": "number = atoll.AtomicInt(); wait = lambda: number.wait(0)",
}

INTERRUPTED = """
import atoll, threading
{make}
print("ready", flush=True)
try:
    wait()
except KeyboardInterrupt:
    {after}
    print("interrupted")
"""


@pytest.mark.parametrize("kind", MAKE)
def test_ctrl_c_reaches_who_waits(kind):
    after = {"condition": "condition.release()", "barrier": "assert barrier.broken"}.get(kind, "pass")
    process, out, err = interrupted(INTERRUPTED.format(make=MAKE[kind], after=after))
    assert (process.returncode, out, err) == (0, "interrupted\n", "")


@pytest.mark.parametrize("kind", MAKE)
def test_ctrl_c_reaches_who_waits_in_an_interpreter(kind):
    make = "\n".join(
        [
            "interp = atoll.create()",
            f"interp.exec({('import atoll, threading' + chr(10) + MAKE[kind])!r})",
            "wait = lambda: interp.exec('wait()')",
        ]
    )
    process, out, err = interrupted(INTERRUPTED.format(make=make, after="interp.close()"))
    assert (process.returncode, out, err) == (0, "interrupted\n", "")


HANDLED = """
import atoll, signal, threading
{make}
def handle(signum, frame):
    {done}
signal.signal(signal.SIGUSR1, handle)
print("ready", flush=True)
wait()
print("done")
"""


@pytest.mark.parametrize(
    ("kind", "done"),
    [
        ("lock", "lock.release()"),
        ("condition", "condition.acquire(); condition.notify(); condition.release()"),
        ("event", "event.set(); event.clear()"),
        ("semaphore", "semaphore.release()"),
        ("barrier", "threading.Thread(target=barrier.wait).start()"),
        ("atomic", "number.add()"),
    ],
)
def test_what_a_signal_handler_does_is_not_missed(kind, done):
    """The thread that waits is in no list while it runs the handler."""
    import signal

    process, out, err = interrupted(HANDLED.format(make=MAKE[kind], done=done), number=signal.SIGUSR1)
    assert (process.returncode, out, err) == (0, "done\n", "")


FORK = """
import atoll, os, threading, warnings
threading.excepthook = lambda _: None  # a thread whose barrier breaks may say so while the process ends
warnings.simplefilter("ignore")
mine, others, interps, shared = atoll.Lock(), atoll.Lock(), atoll.RLock(), atoll.Lock()
event, number, semaphore, barrier = atoll.Event(), atoll.AtomicInt(5), atoll.Semaphore(1), atoll.Barrier(2)
condition = atoll.Condition()
def wait(condition=condition):
    others.acquire()
    with condition:
        number.add()
        condition.wait()
interp = atoll.create()
interp.call(interps.acquire)
threading.Thread(target=wait, daemon=True).start()
threading.Thread(target=barrier.wait, daemon=True).start()
mine.acquire()
while number.load() != 6 or barrier.n_waiting != 1 or condition.locked():
    pass
child = os.fork()
if child == 0:
    assert mine.locked() and not mine.acquire(False)
    mine.release()
    for lock in (mine, others, interps, shared, condition):
        assert lock.acquire(timeout=5), lock
        lock.release()
    with condition:
        condition.notify()
        assert not condition.wait(0.001)
    assert barrier.n_waiting == 0
    thread = threading.Thread(target=barrier.wait)
    thread.start()
    barrier.wait(10)
    thread.join()
    event.set()
    assert event.wait(5) and number.add() == 7 and semaphore.acquire(timeout=5)
    with atoll.create() as new:
        new.call(others.acquire)
    try:
        others.acquire()
    except atoll.LockOwnerLost:
        os._exit(42)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
assert others.locked() and mine.locked() and barrier.n_waiting == 1
barrier.abort()
with condition:
    condition.notify()
print("done")
"""


def test_a_forked_child_has_its_locks_for_itself():
    result = run_python(FORK)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr


EXIT = """
import atoll, threading
lock, condition = atoll.Lock(), atoll.Condition()
lock.acquire()
def wait():
    with condition:
        condition.wait()
interps = [atoll.create() for _ in range(3)]
for interp in interps:
    interp.prepare_main(lock=lock, condition=condition)
    interp.exec("import threading; threading.Thread(target=lock.acquire, daemon=True).start()")
    interp.exec("def wait():\\n with condition: condition.wait()")
    interp.exec("threading.Thread(target=wait, daemon=True).start()")
threading.Thread(target=wait, daemon=True).start()
print("done")
"""


def test_process_ends_although_threads_wait_everywhere():
    result = run_python(EXIT)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    assert "Fatal" not in result.stderr


ORDER = """
import atoll, itertools
for order in itertools.permutations(range(3)):
    interps = [atoll.create() for _ in range(3)]
    things = [atoll.Lock(), atoll.RLock(), atoll.Condition(atoll.Lock()), atoll.Event(), atoll.Semaphore(2),
              atoll.BoundedSemaphore(1), atoll.Barrier(2, print), atoll.AtomicInt(1)]
    queue = atoll.create_queue()
    for interp in interps:
        interp.prepare_main(things=tuple(things))
        interp.exec("things[0].acquire(False)")
    queue.put(things)
    del things
    for i in order:
        interps[i].close()
    got = queue.get()
    try:
        got[0].acquire()
    except atoll.LockOwnerLost as error:
        assert f"interpreter {interps[0].id} " in str(error)
    else:
        raise AssertionError
print("done")
"""


def test_interpreters_are_closed_in_every_order():
    result = run_python(ORDER)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


LATE = """
import atoll, time
lock, number = atoll.Lock(), atoll.AtomicInt()
with atoll.create() as interp:
    interp.prepare_main(lock=lock, number=number)
    interp.exec('''
import ctypes, threading
def hold():
    with lock:
        number.store(1)
        ctypes.CDLL(None).sleep(2)
threading.Thread(target=hold, daemon=True).start()
''')
    number.wait(0)
try:
    lock.acquire()
except atoll.LockOwnerLost:
    assert lock.acquire(False)
time.sleep(2)
assert lock.locked()
print("done")
"""


def test_a_thread_that_does_not_end_gives_back_nothing_that_others_hold():
    """Its interpreter is closed, and its lock lost, before it comes back from C."""
    result = run_python(LATE)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_fork_of_who_waits_at_a_barrier():
    """In the child nobody is at the barrier, which is as good as new: for who forked it is broken."""
    done = run_python("""
        import atoll, os, signal, threading, warnings
        warnings.simplefilter("ignore")
        barrier = atoll.Barrier(2)
        children = []
        def fork(*_):
            if barrier.n_waiting == 0:  # not yet
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                return
            children.append(os.fork())
            if children[0]:
                threading.Thread(target=barrier.wait).start()
        signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            barrier.wait()
        except threading.BrokenBarrierError:
            assert children[0] == 0
            assert (barrier.broken, barrier.n_waiting) == (False, 0)
            thread = threading.Thread(target=barrier.wait)
            thread.start()
            barrier.wait()
            thread.join()
            print("child", flush=True)
        else:
            assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
            print("parent", flush=True)
        """)
    assert (done.returncode, done.stdout) == (0, "child\nparent\n"), done
