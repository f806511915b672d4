"""Forked children: of a process that has interpreters, pools and queues, from wherever it is forked.

Each case runs in a process of its own, whose children are ended by SIGALRM when they hang.
"""

from __future__ import annotations

import pytest

import atoll
from helpers import TESTS, VERSION, check_ended, run_python, skip_false_damage

pytest_plugins = ["ext_fixtures"]

PREPARE = """
import atoll, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
import concurrent.futures
from atoll.futures import BrokenInterpreterPool

def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def fork():
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
    return pid

def use():
    '''Everything works.'''
    import atoll
    with atoll.create() as interp:
        assert interp.call(len, "ab") == 2
        interp.exec("import json")
    with atoll.InterpreterPoolExecutor(2) as pool:
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
        assert pool.submit(abs, -3).result() == 3
    queue = atoll.create_queue()
    queue.put((queue, b"x" * 70000))
    assert queue.get()[0] is queue

def leave(way):
    sys.stderr = open(os.devnull, "w")
    if way == "exit":
        sys.exit(7)
    if way == "text":
        sys.exit("text")
    if way == "raise":
        raise ValueError
    if way == "now":
        os._exit(5)
    if way == "exec":
        os.execv("/bin/true", ["true"])

WAYS = {"return": 0, "exit": 7, "text": 1, "raise": 1, "now": 5, "exec": 0}

def raises(exception, function, *args):
    try:
        function(*args)
    except exception as error:
        return error
    raise AssertionError(f"{function} did not raise")
"""


def run(source: str, *options: str):
    return run_python(PREPARE + source, *options)


class TestMain:
    """Forked by the main interpreter."""

    @pytest.mark.parametrize("options", [(), ("-X", "dev")], ids=["plain", "dev"])
    def test_child(self, options):
        skip_false_damage(options)
        done = run(
            """
one = atoll.create()
one.exec("x = 1")
pool = atoll.InterpreterPoolExecutor(2)
assert pool.submit(abs, -1).result() == 1
for way, expected in WAYS.items():
    pid = fork()
    if pid == 0:
        assert atoll.list_all() == [atoll.get_main()] == [atoll.get_current()]
        use()
        leave(way)
        sys.exit(0)
    assert status(pid) == expected, way
    assert one.call(eval, "x") == 1
    assert list(pool.map(abs, [-1, -2])) == [1, 2]
use()
one.close()
pool.shutdown()
print("end")
""",
            *options,
        )
        check_ended(done, 0, "end\n", clean=True)

    def test_old_interpreters(self):
        done = run("""
one = atoll.create()
def view():
    import atoll
    block = bytearray(b"abc")
    queue = atoll.Queue(queue_id)
    queue.put(memoryview(block))
    queue.put(b"x" * 100000)
queue = atoll.create_queue()
one.prepare_main(queue_id=queue.id)
one.call(view)
view = queue.get()
pid = fork()
if pid == 0:
    for function in (
        lambda: one.call(len, "a"),
        lambda: one.exec("1"),
        lambda: one.prepare_main(a=1),
        lambda: one.close(),
        lambda: one.is_running(),
        lambda: one.submit(len, "a"),
        lambda: atoll.Interpreter(one.id),
    ):
        error = raises(atoll.InterpreterNotFoundError, function)
        assert str(one.id) in str(error), error
    assert bytes(view) == b"abc"
    assert queue.get() == b"x" * 100000
    del view, one
    use()
    sys.exit(4)
assert status(pid) == 4
print(bytes(view), len(queue.get()))
del view
one.close()
""")
        check_ended(done, 0, "b'abc' 100000\n")

    def test_nothing_was_created(self):
        check_ended(run("pid = fork()\nuse()\nif pid == 0: sys.exit(5)\nprint(status(pid))"), 0, "5\n")

    def test_after_all_are_closed(self):
        done = run("""
one = atoll.create()
one.exec("x = 1")
one.close()
pid = fork()
assert atoll.list_all() == [atoll.get_main()]
use()
if pid == 0:
    raise SystemExit(6)
print(status(pid))
""")
        check_ended(done, 0, "6\n", clean=True)

    def test_of_a_child(self):
        done = run("""
one = atoll.create()
pid = fork()
if pid == 0:
    two = atoll.create()
    pid = fork()
    if pid == 0:
        raises(atoll.InterpreterNotFoundError, two.exec, "1")
        use()
        os._exit(6)
    two.exec("1")
    os._exit(status(pid))
print(status(pid))
one.close()
""")
        check_ended(done, 0, "6\n", clean=True)

    def test_in_a_thread(self):
        done = run("""
def work():
    global pid
    pid = fork()
    if pid == 0:
        use()
one = atoll.create()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(status(pid))
one.close()
""")
        check_ended(done, 0, "0\n", clean=True)

    def test_terminal(self):
        done = run("""
one = atoll.create()
pid, terminal = os.forkpty()
if pid == 0:
    signal.alarm(60)
    use()
    os._exit(7)
print(status(pid))
one.close()
""")
        check_ended(done, 0, "7\n", clean=True)

    def test_subprocess_and_multiprocessing(self):
        done = run("""
import subprocess, multiprocessing
def double(x):
    return 2 * x
with atoll.InterpreterPoolExecutor(2) as pool:
    assert list(pool.map(double, [1, 2])) == [2, 4]
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", "print(1)"], preexec_fn=lambda: use(), capture_output=True, timeout=60)
        assert done.stdout == b"1\\n", done
    with multiprocessing.get_context("fork").Pool(2) as processes:
        assert processes.map_async(double, [1, 2, 3]).get(60) == [2, 4, 6]
    assert list(pool.map(double, [1, 2])) == [2, 4]
print("end")
""")
        check_ended(done, 0, "end\n", clean=True)

    def test_spares(self):
        done = run("""
atoll.prewarm(1)
while not atoll._atoll._spares_ready():
    time.sleep(0.01)
pid = fork()
if pid == 0:
    assert atoll._atoll._spares_ready() == 0
    atoll.prewarm(1)
    while not atoll._atoll._spares_ready():
        time.sleep(0.01)
    use()
    sys.exit(3)
print(status(pid))
use()
""")
        check_ended(done, 0, "3\n", clean=True)

    def test_ctrl_c_in_the_child(self):
        """Also while its main thread is in a call, which its own watcher has to see."""
        done = run("""
one = atoll.create()
one.exec("1")
pid = fork()
if pid == 0:
    two = atoll.create()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        two.exec("while True: pass")
    except KeyboardInterrupt:
        os._exit(8)
print(status(pid))
one.close()
""")
        check_ended(done, 0, "8\n", clean=True)


class TestCalledMain:
    """Forked by the main interpreter in a call from another one: the child has nowhere to return to."""

    def test_child(self):
        done = run("""
def inner(way):
    pid = fork()
    if pid == 0:
        use()
        print("child", end=" ")
        leave(way)
    return pid == 0 or status(pid)
def outer(function, way):
    import atoll
    return atoll.get_main().call(function, way)
with atoll.create() as one, atoll.InterpreterPoolExecutor(1) as pool:
    for way, expected in WAYS.items():
        assert one.call(outer, inner, way) == expected, way
        assert pool.submit(outer, inner, way).result() == expected, way
    assert one.call(len, "abc") == 3
print("end")
""")
        check_ended(done, 0, 8 * "child " + "end\n", clean=True)  # not of those that leave at once

    def test_exit_functions(self):
        """They run in a child that ends with its call, and what it has made is closed."""
        done = run("""
import atexit
def inner():
    pid = fork()
    if pid == 0:
        atexit.register(print, "atexit")
        atoll.create()
        threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    return pid == 0 or status(pid)
def outer(function):
    import atoll
    return atoll.get_main().call(function)
with atoll.create() as one:
    print(one.call(outer, inner))
""")
        check_ended(done, 0, "thread\natexit\n0\n", clean=True)


class TestInside:
    """Forked by another interpreter."""

    def test_refused(self):
        done = run("""
def refused():
    import os
    for function, *args in ((os.fork,), (os.forkpty,), (os.execv, "/bin/true", ["true"])):
        try:
            function(*args)
        except RuntimeError as error:
            assert "not supported for" in str(error), error
        else:
            raise AssertionError(function)
    return True
with atoll.create() as one, atoll.InterpreterPoolExecutor(1) as pool:
    assert one.call(refused) and pool.submit(refused).result() and one.submit(refused).result()
print("end")
""")
        check_ended(done, 0, "end\n", clean=True)

    @pytest.mark.parametrize("how", ["call", "submit", "thread"])
    def test_child(self, how):
        done = run(f"""
def task(way):
    import atoll, os, signal, sys, warnings
    warnings.simplefilter("ignore")  # a script's own code is warned of forks beside threads
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        assert atoll.list_all() == [atoll.get_main()] == [atoll.get_current()]
        use()
        leave(way)
    return pid == 0 or os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def in_thread(task, way):
    import threading
    got = []
    thread = threading.Thread(target=lambda: got.append(task(way)))
    thread.start()
    thread.join()
    return got[0]
with atoll.create(fork=True) as one:
    for way, expected in WAYS.items():
        if "{how}" == "call":
            got = one.call(task, way)
        elif "{how}" == "submit":
            got = one.submit(task, way).result()
        else:
            got = one.call(in_thread, task, way)
            expected = 0 if way in ("exit", "text", "raise") else expected  # as any thread
        assert got == expected, (way, got)
    assert one.call(len, "abc") == 3
print("end")
""")
        check_ended(done, 0, "end\n", clean=True)

    def test_script(self):
        done = run("""
script = '''
import os, sys
pid = os.fork()
if pid == 0:
    import atoll
    atoll.create().close()
    sys.exit(4)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
'''
with atoll.create(fork=True) as one:
    one.exec(script)
""")
        check_ended(done, 0, "4\n")

    def test_signals_in_the_child(self):
        done = run("""
def task():
    import os, signal, sys, time
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        except KeyboardInterrupt:
            signal.signal(signal.SIGUSR1, lambda *args: os._exit(8))
            os.kill(os.getpid(), signal.SIGUSR1)
            while True:
                pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
signal.signal(signal.SIGUSR1, lambda *args: os._exit(1))
with atoll.create(fork=True) as one:
    print(one.call(task))
""")
        check_ended(done, 0, "8\n")

    def test_hooks_and_multiprocessing(self):
        """The interpreter's own functions for a fork run, not main's."""
        done = run("""
def task():
    import multiprocessing, os
    seen = []
    os.register_at_fork(before=lambda: seen.append("b"), after_in_child=lambda: seen.append("c"))
    pid = os.fork()
    if pid == 0:
        os._exit(seen == ["b", "c"])
    right = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with multiprocessing.get_context("fork").Pool(2) as processes:
        return right, processes.map_async(abs, [-1, -2]).get(60)
os.register_at_fork(before=lambda: print("main's"))
with atoll.create(fork=True) as one:
    print(one.call(task))
""")
        check_ended(done, 0, "(1, [1, 2])\n")

    def test_while_main_is_busy(self):
        """Nothing in the child waits for the GIL of the main interpreter, which nobody gives back there."""
        done = run("""
def task():
    import os, signal
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        use()
        os._exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.setswitchinterval(100)
with atoll.create(fork=True) as one:
    future = one.submit(task)
    while not future.done():
        pass
    print(future.result())
""")
        check_ended(done, 0, "4\n")

    def test_extensions(self, corpus):
        """Clones of before and new ones in the child."""
        done = run(f"""
def task():
    import os, sys
    sys.path.insert(0, {str(corpus)!r})
    import ext_single
    pid = os.fork()
    if pid == 0:
        import ext_static_types, ext_pool
        import atoll
        with atoll.create() as two:
            two.exec("import ext_single")
        os._exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
with atoll.create(fork=True) as one:
    print(one.call(task))
""")
        check_ended(done, 0, "4\n")


class TestPool:
    """Pools and futures of before the fork."""

    def test_futures(self):
        done = run("""
def nap():
    import time
    time.sleep(1)
    return 4
pool = atoll.InterpreterPoolExecutor(2)
done = pool.submit(abs, -3)
assert done.result() == 3
unread = pool.submit(abs, -4)
while not unread.done():
    time.sleep(0.01)
light = [pool.submit(nap) for _ in range(3)]
heavy = [pool.submit(nap) for _ in range(3)]
called = []
for future in heavy:
    future.add_done_callback(called.append)
results = pool.map(abs, [-1, -2, -3])
pid = fork()
if pid == 0:
    assert done.result() == 3 and unread.result() == 4
    for future in light + heavy:
        assert future.done() and not future.running() and not future.cancelled()
        assert not future.cancel() and not future.interrupt()
        assert type(future.exception()) is BrokenInterpreterPool
        error = raises(BrokenInterpreterPool, future.result)
        assert "fork" in str(error), error
    assert not concurrent.futures.wait(light + heavy).not_done
    assert len(list(concurrent.futures.as_completed(light + heavy + [done]))) == 7
    assert called == []
    heavy[0].add_done_callback(called.append)
    assert called == heavy[:1]
    raises(BrokenInterpreterPool, pool.submit, abs, 1)
    raises(BrokenInterpreterPool, lambda: list(pool.map(abs, [1])))
    pool.shutdown()
    with pool:
        pass
    use()
    another = atoll.InterpreterPoolExecutor(1)
    assert another.submit(abs, -1).result() == 1
    sys.exit(9)
print(status(pid), [future.result() for future in light + heavy], list(results))
pool.shutdown()
assert len(called) == 3
""")
        check_ended(done, 0, "9 [4, 4, 4, 4, 4, 4] [1, 2, 3]\n", clean=True)

    def test_in_a_callback(self):
        """The child ends with it: of the pool it has nothing, nor of other callbacks."""
        done = run("""
got = []

def called(future):
    pid = fork()
    if pid == 0:
        use()
    else:
        got.append(status(pid))

with atoll.InterpreterPoolExecutor(1) as pool:
    for number in range(2):
        future = pool.submit(time.sleep, 0.2)
        future.add_done_callback(called)
        future.add_done_callback(lambda future: print("the parent's", flush=True))
print(got)
""")
        check_ended(done, 0, "the parent's\nthe parent's\n[0, 0]\n", clean=True)

    def test_inside_of_a_with(self):
        done = run("""
pid = None
with atoll.InterpreterPoolExecutor(1) as pool:
    results = pool.map(abs, range(100000))
    pid = fork()
    if pid == 0:
        sys.exit(3)
print(status(pid), sum(results))
""")
        check_ended(done, 0, "3 4999950000\n", clean=True)


class TestList:
    """The place of CPython's list of interpreters."""

    def test_place(self):
        atoll.create().close()
        place, published = atoll._atoll._list_place()
        assert place > 0
        assert published == (0 if VERSION == (3, 12) else place)

    def test_interpreters_of_others(self):
        """Where only others have made interpreters, the list is found in the child."""
        done = run(f"""
sys.path.insert(0, {str(TESTS)!r})
from helpers import foreign
with foreign():
    pid = fork()
    if pid == 0:
        use()
        os._exit(3)
    print(status(pid))
""")
        check_ended(done, 0, "3\n")

    def test_not_found(self):
        """A build where the list is not found: the child says so, the parent goes on."""
        done = run("""
atoll._atoll._list_hide()
pid = fork()
if pid == 0:
    os._exit(0)
assert status(pid) == 0
with atoll.create() as one:
    pid = fork()
    if pid == 0:
        os._exit(0)
    print(status(pid), one.call(len, "abc"))
use()
""")
        check_ended(done, 0, "1 3\n")
        assert "cannot be forked beside interpreters" in done.stderr
