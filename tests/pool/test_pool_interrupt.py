"""One Ctrl-C ends a pool, whatever its tasks do."""

from __future__ import annotations

import signal

import pytest

from atoll._pool import executor
from helpers import check_ended, run_python, start_python

BEGINNING = """
    import asyncio, atoll, os, threading, time

    def spin():
        while True:
            pass

    def swallow():
        while True:
            try:
                spin()
            except KeyboardInterrupt:
                pass

    def sleep():
        import time
        time.sleep(1000)

    def spin_after(x):
        while x > 5:
            pass
        return x

    started = atoll.create_queue()

    def begin(function, *args):
        started.put(None)
        return function(*args)

    def ready():
        started.get()
        print("ready", flush=True)

    threading.Thread(target=ready).start()
    def Pool(workers):
        return atoll.InterpreterPoolExecutor(workers)
    """

RESULT = """
    with Pool(1) as pool:
        future, other = pool.submit(begin, {work}), pool.submit(spin)
        future.result()
    """

WAITING_AT_THE_END = """
    with Pool(2) as pool:
        futures = [pool.submit(begin, {work}) for _ in range(9)]
    """

MAP = """
    with Pool(2) as pool:
        for _ in pool.map(lambda x: begin(spin_after, x), range(100)):
            pass
    """

IN_A_COROUTINE = """
    async def main():
        with Pool(2) as pool:
            loop = asyncio.get_running_loop()
            await asyncio.gather(*[loop.run_in_executor(pool, begin, {work}) for _ in range(5)])
    asyncio.run(main())
    """

AROUND_A_COROUTINE = """
    with Pool(2) as pool:
        async def main():
            loop = asyncio.get_running_loop()
            await asyncio.gather(*[loop.run_in_executor(pool, begin, {work}) for _ in range(5)])
        asyncio.run(main())
    """

DEFAULT_EXECUTOR = """
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(Pool(2))
        await asyncio.gather(*[loop.run_in_executor(None, begin, {work}) for _ in range(5)])
    asyncio.run(main())
    """

GUEST = """
    with atoll.create() as interp:
        interp.submit(begin, {work}).result()
    """


def interrupted(source):
    """Run source in a child process, send SIGINT once when a task has begun; return how it ended."""
    with start_python(source) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return process, out, err


def indented(source):
    return source.replace("\n    ", "\n        ")


USES = {
    "result": RESULT,
    "end": WAITING_AT_THE_END,
    "map": MAP,
    "coroutine": IN_A_COROUTINE,
    "around": AROUND_A_COROUTINE,
    "default": DEFAULT_EXECUTOR,
    "guest": GUEST,
}


@pytest.mark.parametrize(
    ("use", "work"),
    # asyncio waits for its default executor whatever Ctrl-C, so a task that catches it goes on there.
    [(use, work) for use in USES for work in ("spin", "swallow") if (use, work) != ("default", "swallow")],
)
def test_one_is_enough(use, work):
    source = f"""{BEGINNING}
    try:
        {indented(USES[use].format(work=work))}
    except KeyboardInterrupt:
        print("interrupted")
    """
    process, out, err = interrupted(source)
    assert out == "interrupted\n", (process.returncode, out, err)
    assert process.returncode == 0, (process.returncode, out, err)
    assert "Fatal" not in err


def test_futures_afterwards():
    source = f"""{BEGINNING}
    try:
        with Pool(1) as pool:
            running, waiting = pool.submit(begin, spin), pool.submit(spin)
    except KeyboardInterrupt:
        print(type(running.exception()).__name__, waiting.cancelled())
    """
    process, out, err = interrupted(source)
    assert (process.returncode, out, err) == (0, "KeyboardInterrupt True\n", "")


def test_an_error_waits_for_what_runs():
    """Only Ctrl-C interrupts: another exception leaves the tasks to their end, as with a ThreadPoolExecutor."""
    source = """
        import atoll
        queue = atoll.create_queue()
        try:
            with atoll.InterpreterPoolExecutor(1) as pool:
                future = pool.submit(queue.get)
                queue.put("an item")
                raise ValueError
        except ValueError:
            print(future.result())
        """
    check_ended(run_python(source), 0, "an item\n", clean=True)


def test_at_exit():
    """While the interpreter waits for its pools."""
    source = f"""{BEGINNING}
    pool = Pool(2)
    futures = [pool.submit(begin, spin) for _ in range(5)]
    """
    process, _, err = interrupted(source)
    assert process.returncode in (0, 1, -signal.SIGINT), (process.returncode, err)
    assert "KeyboardInterrupt" in err
    assert "Fatal" not in err


def test_an_interrupt_on_the_way_into_a_wait():
    """It is not lost when the task has not gone to sleep yet."""
    source = """
        import atoll, time
        def wait(queue, flag):
            queues = [queue] * 1_000_000
            flag.put(1)
            atoll.select(queues)  # long on its way
        queue, flag = atoll.create_queue(), atoll.create_queue()
        with atoll.InterpreterPoolExecutor(1) as pool:
            for _ in range(5):
                future = pool.submit(wait, queue, flag)
                flag.get()
                assert future.interrupt()
                assert isinstance(future.exception(timeout=50), KeyboardInterrupt)
        print("ended")
        """
    check_ended(run_python(source), 0, "ended\n", clean=True)


def test_each_pool_is_interrupted_as_often():
    """Whatever becomes of the others."""

    class Stuck:
        def __init__(self):
            self.did = []

        def __getattr__(self, name):
            return lambda *_: self.did.append(name)

    pools = [Stuck(), Stuck(), Stuck()]
    executor._interrupt(*pools)
    assert [pool.did.count("interrupt") for pool in pools] == [executor.MOST_INTERRUPTS] * 3
    assert [pool.did[-1] for pool in pools] == ["abandon"] * 3
