"""A process is forked while another thread has a lock of Atoll's Python code: the child has new ones."""

from __future__ import annotations

import pytest

from helpers import check_ended, run_python

# What a thread may be inside of, and what the child does that needs the same lock.
CASES = {
    "_crossing.variables._lock": """
import contextvars
variable = contextvars.ContextVar("variable", default=5)
def use(interp):
    assert interp.call(lambda v: v.get(), variable) == 5
""",
    "_crossing.type_names._lock": """
import typing
Name = typing.NewType("Name", str)
def use(interp):
    assert interp.call(lambda t: t.__name__, Name) == "Name"
""",
    "_pool.executor._guests_lock": """
def use(interp):
    assert interp.submit(abs, -3).result() == 3
""",
    "_pool.executor._starting": """
def use(interp):
    with atoll.InterpreterPoolExecutor(1) as pool:
        concurrent.futures.wait([pool.submit(abs, -3)])
""",
}

SCRIPT = """
import concurrent.futures, os, signal, threading, warnings
import atoll, atoll._pool.executor, atoll._crossing.type_names, atoll._crossing.variables
warnings.simplefilter("ignore")
{case}
has_it, end = threading.Event(), threading.Event()
def hold():
    with atoll.{lock}:
        has_it.set()
        end.wait()
thread = threading.Thread(target=hold)
thread.start()
has_it.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)
    with atoll.create() as interp:
        use(interp)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
end.set()
thread.join()
"""


@pytest.mark.parametrize("lock", CASES)
def test_child(lock):
    check_ended(run_python(SCRIPT.format(case=CASES[lock], lock=lock)), 0, "7\n")
