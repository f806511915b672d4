"""Memory stays flat.  Bounds are generous: a leak per round would exceed them many times over."""

from __future__ import annotations

import pytest

from helpers import check_ended, run_python

MEASURE = """
import gc, os
PAGE = os.sysconf("SC_PAGE_SIZE")
def memory():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE
def growth(work, warm_up, rounds):
    for _ in range(warm_up):
        work()
    before = memory()
    for _ in range(rounds):
        work()
    return (memory() - before) // 1024
"""


def check_growth(source, limit):
    """Run source, which prints by how many KiB the process has grown; assert that it is at most `limit`."""
    done = run_python(MEASURE + source)
    check_ended(done, 0)
    assert int(done.stdout) <= limit, f"grew by {done.stdout.strip()} KiB"


class TestCycles:
    """Creating and closing: 80 rounds, in which losing 100 KiB a round would show."""

    def test_create_exec_close(self):
        check_growth(
            """
import atoll
def work():
    interp = atoll.create()
    interp.exec("import json; x = [1] * 1000")
    interp.close()
print(growth(work, 30, 80))
""",
            8_000,
        )

    def test_create_call_drop(self):
        check_growth(
            """
import atoll, threading
def work():
    interp = atoll.create()
    interp.call(len, [1, 2, 3])
    thread = interp.call_in_thread(len, "x")
    thread.join()
    del interp
print(growth(work, 30, 80))
""",
            8_000,
        )


class TestCalls:
    """60,000 of each, in which losing 64 bytes a call would show."""

    @pytest.mark.parametrize(
        "call",
        [
            "call(len, 'x')",
            "call(eval, '1')",
            "call(dict, a=1, b=[2, 'three'])",
            "call(lambda x: x, {'key': [1, 2.5, 'text', None]})",
            "exec('pass')",
            "prepare_main(x=1, y='two')",
            "is_running()",
        ],
    )
    def test_flat(self, call):
        check_growth(
            f"""
import atoll
interp = atoll.create()
print(growth(lambda: interp.{call}, 10_000, 60_000))
interp.close()
""",
            3_500,
        )

    @pytest.mark.parametrize(
        ("call", "error"),
        [
            ("call(len, 1)", "ExecutionFailed"),
            ("exec('1 / 0')", "ExecutionFailed"),
            ("exec('x = = 1')", "SyntaxError"),
            ("call(len, lock)", "NotShareableError"),
            ("prepare_main(x=1, y=[])", "NotShareableError"),
        ],
    )
    def test_failures(self, call, error):
        check_growth(
            f"""
import atoll, threading
from atoll import ExecutionFailed, NotShareableError
lock = threading.Lock()
interp = atoll.create()
def work():
    try:
        interp.{call}
    except {error}:
        pass
    else:
        raise AssertionError("no error")
print(growth(work, 2_000, 6_000))
interp.close()
""",
            3_000,
        )

    def test_views(self):
        check_growth(
            """
import atoll
interp = atoll.create()
data = bytearray(100_000)
def work():
    assert interp.call(len, memoryview(data)) == 100_000
print(growth(work, 2_000, 20_000))
interp.close()
""",
            5_000,
        )

    def test_new_functions(self):
        """The receiver's memory of functions does not grow without bound."""
        check_growth(
            """
import atoll
interp = atoll.create()
number = 0
def work():
    global number
    number += 1
    space = {}
    exec(f"def f(): return {number}", space)
    assert interp.call(space["f"]) == number
print(growth(work, 3_000, 6_000))
interp.close()
""",
            6_000,
        )

    def test_threads(self):
        """Threads that come, call and go."""
        check_growth(
            """
import atoll, threading
interp = atoll.create()
def work():
    thread = interp.call_in_thread(len, "x")
    thread.join()
print(growth(work, 300, 2_000))
interp.close()
""",
            6_000,
        )


def test_arenas_are_kept():
    """A large list that comes and goes costs no new pages, whatever else was given back before.

    Here that is a thread's stack of frames, which comes from the same allocator. The ints are on 1,563 pages.
    """
    done = run_python("""
import resource, threading
import atoll
thread = threading.Thread(target=int)
thread.start()
thread.join()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    list(range(200_000))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(5)))
""")
    check_ended(done, 0)
    assert int(done.stdout) < 1000, f"{done.stdout.strip()} pages"
