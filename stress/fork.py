"""Forks a process again and again, beside a pool at work and threads that use every lock there is.

Each child has to be right: the parent's interpreters are gone, its queues are whole, and new interpreters, queues and
pools work.  Exit status 0 when all were; a child that hangs is killed by SIGALRM.
"""

import argparse
import itertools
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator

import atoll

HANGS = 120  # seconds


def busy(n: int) -> int:
    """What the pool works on."""
    return sum(i * i for i in range(n))


def users(
    pool: atoll.InterpreterPoolExecutor, queue: atoll.Queue, shared: atoll.Interpreter
) -> Iterator[Callable[[], None]]:
    """Yield functions, each for a thread that calls it over and over."""

    def map_items() -> None:
        assert len(list(pool.map(busy, [500] * 40))) == 40

    def submit() -> None:
        futures = [pool.submit(busy, 300) for _ in range(8)]
        for future in futures:
            future.add_done_callback(lambda _: None)
        for future in futures:
            future.result()

    def live() -> None:
        with atoll.create() as interp:
            interp.exec("import json, threading; block = bytearray(300000)")

    def put() -> None:
        queue.put([b"x" * 600, b"y" * 70000])

    def get() -> None:
        queue.get()
        queue.get()
        try:
            queue.put(memoryview(b"abc"), timeout=0)
        except atoll.QueueFull:
            pass

    def call() -> None:
        shared.call(busy, 50)
        shared.call(atoll.get_main().call, busy, 5)
        atoll.list_all()
        atoll.create_queue()

    def warm() -> None:
        atoll.prewarm(1)
        time.sleep(0.02)
        atoll.create().close()
        atoll.prewarm(0)

    yield from (map_items, submit, live, put, put, get, get, call, warm)


def check_child(number: int, queue: atoll.Queue, shared: atoll.Interpreter) -> None:
    """Use Atoll in a forked child; every child does the cheap part."""
    assert atoll.list_all() == [atoll.get_main()]
    try:
        shared.call(len, "")
    except atoll.InterpreterNotFoundError:
        pass
    else:
        raise AssertionError("an interpreter of the parent can be called")
    made = atoll.create_queue()
    made.put(queue)
    assert made.get() is queue
    try:
        while True:
            queue.get(timeout=0)
    except atoll.QueueEmpty:
        pass
    queue.put(number)
    assert queue.get() == number
    if number % 4 == 0:
        with atoll.create() as interp:
            assert interp.call(len, "ab") == 2
    if number % 16 == 1:
        with atoll.InterpreterPoolExecutor(2) as pool:
            assert list(pool.map(abs, [-1, -2])) == [1, 2]
    if number % 16 == 2:
        atoll.prewarm(1)
        atoll.create().close()


def main() -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forks", type=int, default=2000)
    forks: int = parser.parse_args().forks
    warnings.simplefilter("ignore", DeprecationWarning)
    stop = threading.Event()
    errors: list[BaseException] = []
    queue = atoll.create_queue(64)
    shared = atoll.create()
    pool = atoll.InterpreterPoolExecutor(2, task_timeout=HANGS)

    def repeat(use: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                use()
        except BaseException as error:
            if not stop.is_set():
                errors.append(error)

    for use in users(pool, queue, shared):
        threading.Thread(target=repeat, args=(use,), daemon=True).start()
    for number in itertools.count():
        if number == forks or errors:
            break
        pid = os.fork()
        if pid == 0:
            signal.alarm(HANGS)
            try:
                check_child(number, queue, shared)
            except BaseException:
                traceback.print_exc()
                os._exit(9)
            if number % 32 == 2:
                sys.exit(0)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != 0:
            errors.append(AssertionError(f"fork {number}: the child's exit status was {status}"))
    for error in errors:
        traceback.print_exception(error)
    print(f"{number} forks, {len(errors)} errors", flush=True)
    os._exit(bool(errors))  # threads are in the middle of things


if __name__ == "__main__":
    sys.exit(main())
