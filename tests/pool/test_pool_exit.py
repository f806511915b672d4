"""The end of a process that has pools, and Ctrl-C.

Each case runs in a child process, which must end by itself with the right exit status, without a crash.
"""

from __future__ import annotations

import os
import signal
import sys

import pytest

from helpers import check_ended, run_python, skip_false_damage, start_python

MODES = pytest.mark.parametrize("options", [(), ("-X", "dev")], ids=["plain", "dev"])

PREPARE = """
import os, sys, time, threading
import atoll

def spin(seconds):
    import time
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return seconds

"""


class TestExit:
    @MODES
    @pytest.mark.parametrize(
        "source",
        [
            "atoll.InterpreterPoolExecutor(2)",
            "pool = atoll.InterpreterPoolExecutor(2)",
            "pool = atoll.InterpreterPoolExecutor(2); pool.submit(pow, 2, 3).result()",
            "pool = atoll.InterpreterPoolExecutor(2); pool.submit(pow, 2, 3)",
            "pool = atoll.InterpreterPoolExecutor(2); pool.submit(spin, 0.1); pool.shutdown(wait=False)",
            "pool = atoll.InterpreterPoolExecutor(2); f = pool.submit(spin, 0.1); f.add_done_callback(id)",
            "atoll.InterpreterPoolExecutor(2).submit(spin, 0.1)",
            "atoll.InterpreterPoolExecutor(2).map(spin, [0.01] * 20)",
            "pool = atoll.InterpreterPoolExecutor(2); it = pool.map(spin, [0.01] * 20); next(it)",
            "import atoll.futures",
            "atoll.prewarm(2)",
            "atoll.prewarm(2); pool = atoll.InterpreterPoolExecutor(1); pool.submit(pow, 2, 3).result()",
            "atoll.prewarm(1); time.sleep(0.2); atoll.prewarm(0)",
            "pool = atoll.InterpreterPoolExecutor(1, task_timeout=5); pool.submit(spin, 0.1)",
            "interp = atoll.create(); interp.submit(pow, 2, 3).result(); interp.close()",
            "interp = atoll.create(); f = interp.submit(spin, 0.05); del interp; f.result()",
            "atoll.create().exec('import atoll; atoll.InterpreterPoolExecutor(1).submit(pow, 2, 3)')",
            "with atoll.create() as i: i.exec('import atoll; p = atoll.InterpreterPoolExecutor(1)\\n"
            "for _ in range(3): p.submit(pow, 2, 3)')",
        ],
    )
    def test_clean(self, source, options):
        skip_false_damage(options)
        check_ended(run_python(PREPARE + source, *options), 0, "", clean=True)

    @MODES
    def test_what_was_submitted_is_done(self, options):
        source = """
pool = atoll.InterpreterPoolExecutor(1)
def tell(number):
    import os, time
    time.sleep(0.01)
    os.write(1, b"%d " % number)
for number in range(5):
    pool.submit(tell, number)
"""
        check_ended(run_python(PREPARE + source, *options), 0, "0 1 2 3 4 ", clean=True)

    @pytest.mark.parametrize(
        "source",
        [
            "with atoll.InterpreterPoolExecutor(1) as pool: print(pool.submit(log).result())",
            "i = atoll.create(); print(i.submit(log).result()); i.close()",
            "with atoll.create() as i: thread = i.call_in_thread(log); thread.join(); print(True)",
        ],
    )
    def test_a_worker_that_threading_has_seen(self, source):
        prepare = "def log():\n    import threading\n    return threading.current_thread().is_alive()\n"
        check_ended(run_python(PREPARE + prepare + source), 0, "True\n", clean=True)

    @MODES
    def test_status_is_kept(self, options):
        source = "pool = atoll.InterpreterPoolExecutor(1); pool.submit(spin, 0.05); sys.exit(3)"
        check_ended(run_python(PREPARE + source, *options), 3, "", clean=True)

    def test_uncaught_exception(self):
        source = "pool = atoll.InterpreterPoolExecutor(1); pool.submit(spin, 0.05); raise ValueError('no')"
        done = run_python(PREPARE + source)
        check_ended(done, 1, "")
        assert "ValueError: no" in done.stderr

    def test_submit_at_exit(self):
        source = """
import atexit
pool = atoll.InterpreterPoolExecutor(1)
def late():
    try:
        pool.submit(pow, 2, 3)
    except RuntimeError as error:
        print("refused", flush=True)
atexit.register(late)
pool.submit(pow, 2, 3).result()
"""
        check_ended(run_python(PREPARE + source), 0, "refused\n", clean=True)

    @MODES
    @pytest.mark.parametrize("watched", [False, True])
    def test_waiting_after_the_end_of_pools(self, watched, options):
        """What an exit function has submitted, others wait for that were registered before Atoll was imported."""
        if watched and sys.version_info < (3, 13):
            pytest.skip("CPython 3.12 starts no thread in an exit function")
        source = f"""
import atexit
def late():
    for future in futures:
        try:
            future.result()
        except BaseException as error: # the first may have heard that the process ends
            print(type(error).__name__ in ("SystemExit", "InterpreterError"))
    executor.shutdown()
    print("shut", flush=True)
atexit.register(late)
{PREPARE}
def stubborn():
    import time
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass
def early():
    global executor, futures
    executor = atoll.InterpreterPoolExecutor(1)
    executor.submit(pow, 2, 3).result()
    futures = [executor.submit(stubborn), executor.submit(pow, 2, 3)]
    while not futures[0].running():
        time.sleep(0.001)
    if {watched}:
        for future in futures:
            future.add_done_callback(id)
atexit.register(early)
import atoll.futures # later than that: it waits for pools before
"""
        check_ended(run_python(source, *options), 0, "True\nTrue\nshut\n")

    @pytest.mark.parametrize("start", ["threading.Thread(target=late).start()", "atexit.register(late)"])
    @pytest.mark.parametrize("make", ["atoll.InterpreterPoolExecutor(1)", "interp"])
    def test_what_is_submitted_later_is_done(self, make, start):
        """By a thread that goes on after the main one, and by an exit function."""
        source = f"""
import atexit
import atoll.futures
interp = atoll.create()
def late():
    while threading.main_thread().is_alive() and {"Thread" in start}:
        time.sleep(0.001)
    what = {make}
    for number in range(3):
        what.submit(say, number)
def say(number):
    import time
    time.sleep(0.05)
    print(number, flush=True)
{start}
"""
        check_ended(run_python(PREPARE + source), 0, "0\n1\n2\n")

    @MODES
    def test_stuck_worker(self, options):
        """An abandoned worker that stays in a system call: no finalization, and no crash."""
        source = """
pool = atoll.InterpreterPoolExecutor(1, task_timeout=0.05)
future = pool.submit(time.sleep, 30)
print(type(future.exception()).__name__, flush=True)
"""
        check_ended(run_python(PREPARE + source, *options), 0, "TimeoutError\n")


def check_ends_by_one(source):
    """One Ctrl-C, when it waits, ends a program that does not catch it."""
    with start_python(PREPARE + source) as child:
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode in {-signal.SIGINT, 130}, err
    assert "KeyboardInterrupt" in err


class TestCtrlC:
    def test_result(self):
        """A wait for a result is interrupted; the pool goes on."""
        source = """
pool = atoll.InterpreterPoolExecutor(1)
pool.submit(pow, 2, 3).result()
future = pool.submit(time.sleep, 0.5)
try:
    print("waiting", flush=True)
    future.result()
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(pool.submit(pow, 2, 3).result(), flush=True)
pool.shutdown()
"""
        with start_python(PREPARE + source) as child:
            assert child.stdout.readline() == "waiting\n"
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
        assert (out, child.returncode) == ("interrupted\n8\n", 0), err

    def test_uncaught(self):
        source = """
pool = atoll.InterpreterPoolExecutor(1)
futures = [pool.submit(spin, 0.05) for _ in range(4)]
print("waiting", flush=True)
time.sleep(60)
"""
        check_ends_by_one(source)

    @pytest.mark.parametrize("use", ["atoll.InterpreterPoolExecutor(1)", "atoll.create()"])
    def test_uncaught_while_a_task_runs(self, use, tmp_path):
        """One is enough, also without a ``with``: what runs is interrupted, and what has not begun does not begin."""
        begun, never = tmp_path / "begun", tmp_path / "never"
        source = f"""
def begin(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    spin(600)
one = {use}
futures = [one.submit(begin, {str(begun)!r}), one.submit(begin, {str(never)!r})]
while not os.path.exists({str(begun)!r}):
    time.sleep(0.01)
print("waiting", flush=True)
time.sleep(600)
"""
        check_ends_by_one(source)
        assert os.listdir(tmp_path) == ["begun"]

    def test_caught_by_a_console(self, tmp_path):
        """A console in a program shows it and goes on, and so does the program."""
        made = tmp_path / "made"
        source = f"""
import code
def make(path):
    spin(0.1)
    open(path, "w").close()
code.InteractiveInterpreter().runsource("raise KeyboardInterrupt")
pool = atoll.InterpreterPoolExecutor(1)
pool.submit(spin, 0.1)
pool.submit(make, {str(made)!r})
print("on", flush=True)
"""
        check_ended(run_python(PREPARE + source), 0, "on\n")
        assert made.exists()

    def test_at_exit_too(self):
        """The second Ctrl-C does not wait for what runs."""
        source = """
pool = atoll.InterpreterPoolExecutor(1)
pool.submit(spin, 600)
print("waiting", flush=True)
"""
        with start_python(PREPARE + source) as child:
            assert child.stdout.readline() == "waiting\n"
            for _ in range(40):
                child.send_signal(signal.SIGINT)
                try:
                    child.wait(0.5)
                    break
                except Exception:
                    continue
            child.communicate(timeout=60)
        assert child.returncode is not None
        assert child.returncode >= 0 or child.returncode == -signal.SIGINT
