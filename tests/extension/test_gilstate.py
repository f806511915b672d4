"""C code that asks for "its" thread state (PyGILState_Ensure) while thread states of other threads are deleted.

sqlite3 does so to release what create_function() was given.  Asking must lead to the interpreter that the thread is in,
or the objects are released by the main interpreter, which has another allocator.
"""

from __future__ import annotations

import pytest

from helpers import check_ended, run_python

MODES = pytest.mark.parametrize("options", [(), ("-X", "dev", "-W", "ignore")], ids=["plain", "dev"])

START = """
import atoll
def keep(n=50):
    import sqlite3, threading, sys
    sys.kept = threading.local()
    sys.kept.connections = c = [sqlite3.connect(":memory:") for _ in range(n)]
    for each in c:
        each.create_function("f", 1, lambda x, big=list(range(100)): x)
        each.create_collation("c", lambda a, b: 0)
def let_go(n=50):
    keep(n)
    import sys
    del sys.kept
interp = atoll.create()
"""


def check(source, options):
    check_ended(run_python(START + source, *options), 0, "done\n", clean=True)


@MODES
def test_the_end_deletes_a_workers(options):
    """What a worker has in a threading.local goes with its thread state, which the closing thread deletes."""
    check("interp.submit(keep).result(); interp.close(); print('done')", options)


@MODES
def test_a_session_deletes_those_of_threads_that_are_gone(options):
    source = """
import os, threading, time
for _ in range(3):
    threads = len(os.listdir("/proc/self/task"))
    thread = threading.Thread(target=interp.call, args=(keep,))
    thread.start()
    thread.join()            # it leaves its thread state
    while len(os.listdir("/proc/self/task")) > threads:
        time.sleep(0.001)
    interp.call(let_go)      # deletes that, then asks
interp.close()
print("done")
"""
    check(source, options)


@MODES
def test_a_pools_worker(options):
    source = """
with atoll.InterpreterPoolExecutor(2, max_tasks_per_child=3) as pool:
    for f in [pool.submit(keep, 5) for _ in range(12)]:
        f.result()
interp.close()
print("done")
"""
    check(source, options)
