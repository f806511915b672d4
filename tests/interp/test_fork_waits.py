"""Children that a signal's handler forks while its thread waits, and that come back from it as the parent does."""

from __future__ import annotations

import pytest
from test_fork import PREPARE

from helpers import check_ended, run_python

WAIT = """
reader, writer = os.pipe()
pid = None
forked = threading.Event()

def handler(*_):
    global pid
    pid = fork()
    if pid:
        forked.set()

signal.signal(signal.SIGUSR1, handler)

def later():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGUSR1)
    forked.wait()
    print(status(pid), flush=True)
    os.write(writer, b"!")

def block(descriptor):
    import os
    return len(os.read(descriptor, 1))

def tried(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error).__name__

interp = atoll.create()
pool = atoll.InterpreterPoolExecutor(1)
{begin}
threading.Thread(target=later).start()
outcome = tried({wait})
print("child" if pid == 0 else "parent", outcome, flush=True)
if pid == 0:
    for use_it in (interp.is_running, interp.close, lambda: interp.call(abs, 1), lambda: interp.close(timeout=60)):
        assert tried(use_it) == "InterpreterNotFoundError", use_it
    assert tried(pool.submit, abs, 1) == "BrokenInterpreterPool"
    use()
    os._exit(7)
pool.shutdown()
interp.close() if interp in atoll.list_all() else None
"""


def check(begin, wait, in_child, in_parent):
    done = run_python(PREPARE + WAIT.format(begin=begin, wait=wait))
    check_ended(done, 0, f"child {in_child}\n7\nparent {in_parent}\n", clean=True)


@pytest.mark.parametrize(
    ("submit", "wait", "in_child", "in_parent"),
    [
        ("pool.submit", "future.result", "BrokenInterpreterPool", 1),
        ("interp.submit", "future.result", "BrokenInterpreterPool", 1),
        ("pool.submit", "lambda: type(future.exception()).__name__", "BrokenInterpreterPool", "NoneType"),
        ("pool.submit", "lambda: list(pool.map(abs, [-2]))", "BrokenInterpreterPool", [2]),
        ("pool.submit", "pool.shutdown", None, None),
        ("interp.submit", "interp.close", "InterpreterNotFoundError", None),
    ],
)
def test_for_a_pool(submit, wait, in_child, in_parent):
    check(f"future = {submit}(block, reader)", wait, in_child, in_parent)


@pytest.mark.parametrize("where", ["inside", "thread"])
def test_for_an_interpreter(where):
    """That is closed within a time: it is not there."""
    begin = {
        "inside": "threading.Thread(target=interp.call, args=(block, reader)).start()",
        "thread": 'interp.exec(f"import os, threading; threading.Thread(target=os.read, args=({reader}, 1)).start()")',
    }
    check(begin[where], "lambda: interp.close(timeout=600)", "InterpreterNotFoundError", None)
