"""What the process has to give an interpreter that has become the main one, in a child that it has forked."""

from __future__ import annotations

import pytest

from helpers import check_ended, run_python


@pytest.mark.parametrize("how", ["call", "submit"])
def test_signals_that_come_to_it(how):
    """Also while its code runs, not only in the next system call."""
    done = run_python(f"""
import atoll
def task():
    import os, signal, time
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGUSR1, lambda *args: os._exit(8))
        os.write(writer, b"x")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            pass
        os._exit(1)
    os.close(writer)
    os.read(reader, 1)
    os.kill(pid, signal.SIGUSR1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
with atoll.create(fork=True) as one:
    print(one.{how}(task){".result()" if how == "submit" else ""})
""")
    check_ended(done, 0, "8\n")


def test_modules_that_it_imports():
    """Also those that are built into Python or are for the whole process."""
    done = run_python("""
import atoll, faulthandler
def task(before):
    import os
    if before:
        import faulthandler, signal, tracemalloc
    pid = os.fork()
    if pid == 0:
        import faulthandler, signal, sys, tracemalloc, zlib
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        for name in sys.builtin_module_names:
            if name != "xxsubtype":
                __import__(name)
        faulthandler.enable()
        print(faulthandler.is_enabled(), flush=True)
        try:
            faulthandler.disable()
        except RuntimeError:
            print("stays", flush=True)
        print(faulthandler.is_enabled(), flush=True)
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0)
        os._exit(8 + os.waitpid(grandchild, 0)[1])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
for before in (False, True):
    faulthandler.enable() if before else faulthandler.disable()
    with atoll.create(fork=True) as one:
        print(one.call(task, before), flush=True)
""")
    check_ended(done, 0, "True\nFalse\n8\nTrue\nstays\nTrue\n8\n")


def test_what_another_thread_was_receiving():
    """Nobody goes on receiving it: it is received anew, and at once."""
    done = run_python(
        """
import atoll, builtins, os, threading
source = '''
class C:
    def __getstate__(self): return {"x": 1}
    def __setstate__(self, state):
        import builtins
        if hasattr(builtins, "stop"):
            builtins.stop()
        self.__dict__.update(state)
C.one = C()
def put(q):
    for _ in range(3): q.put(C)
'''
inside, go_on = threading.Event(), threading.Event()
def stop():
    inside.set()
    go_on.wait()
def deep(n):
    return deep(n - 1) if n else [0] * 50
q = atoll.create_queue()
with atoll.create() as interp:
    interp.exec(source)
    interp.prepare_main(q=q)
    interp.exec("put(q)")
    builtins.stop = stop
    other = threading.Thread(target=q.get)
    other.start()
    inside.wait()
    pid = os.fork()
    if pid == 0:
        del builtins.stop
        threads = [threading.Thread(target=deep, args=(500,)) for _ in range(4)]  # on the stack of one that is gone
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        # whoever waits for it waits at least as long as a thread that makes a class may take
        import atoll._atoll
        waits = []
        import signal
        signal.signal(signal.SIGALRM, lambda *args: os._exit(9))
        signal.alarm(8)
        first, second = q.get(), q.get()
        print(first is second, first.one.x, flush=True)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    go_on.set()
    other.join()
    print(status)
""",
        "-W",
        "ignore",
    )
    check_ended(done, 0, "True 1\n0\n")


@pytest.mark.parametrize("when", ["exit function", "finalizer"])
@pytest.mark.parametrize(
    "end", ["interp.close()", "interp.close(timeout=60)", "del interp", "close_in_thread()"]
)
def test_forked_while_it_is_closed(end, when):
    """The child ends with what has forked it."""
    done = run_python(f"""
import atoll, threading
def close_in_thread():
    thread = threading.Thread(target=interp.close)
    thread.start()
    thread.join()
interp = atoll.create(fork=True)
interp.exec('''if True:
    import atexit, os, warnings
    warnings.simplefilter("ignore")  # of threads
    def fork():
        pid = os.fork()
        if pid:
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        else:
            print("child", flush=True)
    class Thing:
        def __del__(self):
            fork()
    if "{when}" == "exit function":
        atexit.register(fork)
    else: # in a cycle: it is collected before CPython ends the interpreter, which has a file open
        kept = open(os.devnull)
        thing = Thing()
        thing.itself = thing
        del thing
''')
{end}
print("closed", flush=True)
""")
    check_ended(done, 0, "child\n0\nclosed\n", clean=True)
