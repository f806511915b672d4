"""Cancelling: futures, wait FIRST_COMPLETED, timeouts, task_timeout, shutdown(cancel_futures), interrupt, exceptions."""

import concurrent.futures as cf
import threading
import time
import traceback

import atoll


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


def nap(s):
    time.sleep(s)
    return s


def inner(x):
    return 1 / x


def outer(x):
    try:
        return inner(x)
    except ZeroDivisionError as error:
        error.add_note("while dividing by x")
        raise RuntimeError("outer failed") from error


with atoll.InterpreterPoolExecutor(1) as pool:
    a, b = pool.submit(spin, 0.5), pool.submit(spin, 0.5)
    print(b.cancel(), a.cancel(), b.cancelled(), repr(a), repr(b))
    try:
        b.result()
    except cf.CancelledError as e:
        print("cancelled", repr(e))
    done, rest = cf.wait([a, b], return_when=cf.FIRST_COMPLETED)
    print(len(done), len(rest))
    try:
        pool.submit(nap, 0.3).result(timeout=0.05)
    except TimeoutError as e:
        print("timeout", repr(e))
    f = pool.submit(spin, 30)
    while not f.running():
        time.sleep(0.01)
    time.sleep(0.2)
    print(f.interrupt())
    try:
        f.result(5)
    except BaseException as e:
        print("interrupted:", repr(e))
with atoll.InterpreterPoolExecutor(2, task_timeout=0.9) as pool:
    fs = [pool.submit(spin, s) for s in (0.01, 5, 0.02)]
    for f in fs:
        try:
            print(f.result())
        except Exception as e:
            print(type(e).__mro__[:2], e)
with atoll.InterpreterPoolExecutor(2) as pool:
    try:
        pool.submit(outer, 0).result()
    except RuntimeError as e:
        traceback.print_exception(e)
        print(type(e.__cause__))
    try:
        list(pool.map(outer, [1, 0, 2]))
    except RuntimeError as e:
        print("map:", repr(e), repr(e.__cause__)[:100])
pool = atoll.InterpreterPoolExecutor(1)
fs = [pool.submit(nap, 0.2) for _ in range(5)]
pool.shutdown(cancel_futures=True)
print([f.cancelled() for f in fs])
try:
    pool.submit(nap, 1)
except RuntimeError as e:
    print(repr(e))
