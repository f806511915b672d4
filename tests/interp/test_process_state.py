"""What interpreters take from the process: environment and time zone, also when they were made before; stacks."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import textwrap

import pytest


def run(source, *, limit=None, timeout=100):
    command = [sys.executable, "-c", textwrap.dedent(source)]
    if limit is not None:
        before = f"import os, resource, sys; limits = ({limit}, resource.RLIM_INFINITY); "
        before += "resource.setrlimit(resource.RLIMIT_STACK, limits); "
        command = [sys.executable, "-c", before + "os.execv(sys.argv[1], sys.argv[1:])", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


ENVIRONMENT = """
    import atoll, os, time
    from atoll import _atoll

    def wait():
        deadline = time.monotonic() + 60
        while _atoll._spares_ready() < 2 and time.monotonic() < deadline:
            time.sleep(0.01)

    def look():
        import os, posix, time
        shown = os.popen("echo $LATER$CHANGED$GONE").read().strip()
        return (os.environ.get("LATER"), os.environ["CHANGED"], "GONE" in os.environ, os.environb[b"CHANGED"],
                posix.environ is os.environ._data, time.tzname, time.timezone, time.localtime(0).tm_hour, shown)

    os.environ.update(GONE="g", CHANGED="old", TZ="UTC")
    time.tzset()
    atoll.prewarm(2)
    wait()
    os.environ.update(LATER="l", CHANGED="new", TZ="Asia/Tokyo")
    del os.environ["GONE"]
    time.tzset()
    expected = ("l", "new", False, b"new", True, ("JST", "JST"), -9 * 3600, 9, "lnew")
    with atoll.create() as interp:
        assert interp.call(look) == expected, interp.call(look)
        # What is changed there stays there, as in one that has just been made.
        interp.exec("import os; os.environ['CHANGED'] = 'there'")
        assert os.environ["CHANGED"] == "new"
        os.environ["CHANGED"] = "new"
    with atoll.InterpreterPoolExecutor(1) as pool:
        assert pool.submit(look).result() == expected
    wait()
    os.environ["EMPTY"] = ""
    with atoll.create() as interp:
        interp.exec("import os; assert os.environ['EMPTY'] == '' and os.environ['CHANGED'] == 'new'")
    print("right")
"""


def test_environment_of_prewarmed_interpreters():
    assert run(ENVIRONMENT) == "right\n"


STACKS = """
    import atoll, threading
    NEEDED = 8 * 2**20

    def stack():
        import ctypes
        library = ctypes.CDLL(None)
        attributes = ctypes.create_string_buffer(256)
        library.pthread_self.restype = ctypes.c_void_p
        assert library.pthread_getattr_np(ctypes.c_void_p(library.pthread_self()), attributes) == 0
        size = ctypes.c_size_t()
        library.pthread_attr_getstacksize(attributes, ctypes.byref(size))
        return size.value

    def in_thread():
        import threading
        sizes = []
        thread = threading.Thread(target=lambda: sizes.append(stack()))
        thread.start()
        thread.join()
        return sizes[0]

    def into(queue):
        queue.put(stack())

    before = threading.stack_size()
    with atoll.InterpreterPoolExecutor(1) as pool:
        assert pool.submit(stack).result() >= NEEDED
        assert pool.submit(in_thread).result() >= NEEDED
    atoll.prewarm(1)
    with atoll.create() as interp, atoll.create() as other:
        for one in interp, other:
            assert one.submit(stack).result() >= NEEDED
            assert one.call(in_thread) >= NEEDED
            queue = atoll.create_queue()
            one.call_in_thread(into, queue).join()
            assert queue.get() >= NEEDED
    assert threading.stack_size() == before
    threading.stack_size(256 * 1024)
    with atoll.create() as interp:
        interp.call_in_thread(into, queue).join()
        assert queue.get() >= NEEDED
    assert threading.stack_size() == 256 * 1024
    threading.stack_size(3 * NEEDED)
    with atoll.InterpreterPoolExecutor(1) as pool:
        assert pool.submit(stack).result() > 2 * NEEDED
    print("right")
"""


@pytest.mark.parametrize("limit", ["resource.RLIM_INFINITY", "1 << 20", "16 << 20"])
def test_stacks(limit):
    if resource.getrlimit(resource.RLIMIT_STACK)[1] != resource.RLIM_INFINITY:
        pytest.skip("the hard limit of the stack's size is set here, so that the test cannot choose one")
    assert run(STACKS, limit=limit) == "right\n"


def test_a_stack_that_is_not_to_be_had():
    """A worker gets what there is rather than none at all."""
    source = """
        import atoll, threading
        threading.stack_size(1 << 47)
        pool = atoll.InterpreterPoolExecutor(1)
        threading.stack_size(0)
        with pool:
            assert pool.submit(len, "abc").result() == 3
        print("right")
    """
    assert run(source) == "right\n"


def test_signals_that_are_blocked():
    """In the threads of pools those of the thread that made the pool; and so in processes that tasks start."""
    output = run("""
import atoll, signal, threading, time
def blocked():
    import os, signal, subprocess
    process = subprocess.Popen(["sleep", "60"])
    process.terminate()
    return process.wait(), [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
def in_a_thread():
    import threading
    found = []
    thread = threading.Thread(target=lambda: found.append(blocked()))
    thread.start()
    thread.join()
    return found[0]
def stuck():
    import time
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            time.sleep(0.1)
        except KeyboardInterrupt:
            pass
def use():
    with atoll.InterpreterPoolExecutor(1, max_tasks_per_child=1) as pool, atoll.create() as interp:
        print(pool.submit(blocked).result(), pool.submit(in_a_thread).result(), interp.submit(blocked).result())
    with atoll.InterpreterPoolExecutor(1, task_timeout=2) as pool:
        late = pool.submit(stuck)
        print(pool.submit(blocked).result(), type(late.exception()).__name__)
use()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
use()
""")
    free, usr1 = ((-15, []), (-15, [int(signal.SIGUSR1)]))
    expected = "".join(f"{each} {each} {each}\n{each} TimeoutError\n" for each in (free, usr1))
    assert output == expected
