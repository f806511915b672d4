"""The threads of pools, as threading and logging see them in the workers' interpreters."""

from __future__ import annotations

import pytest

import atoll
from helpers import PATIENCE, Pipe, run_python


def describe():
    """Return what threading says of the thread that calls this."""
    import threading

    thread = threading.current_thread()
    return (
        type(thread) is threading.Thread,
        thread.name,
        thread.daemon,
        thread.is_alive(),
        thread.ident == threading.get_ident(),
        thread.native_id == threading.get_native_id(),
        thread in threading.enumerate(),
        threading.main_thread().name,
    )


def expected(name):
    return (True, name, False, True, True, True, True, "MainThread")


def logged():
    """Return a line that logging has written, with the thread's name."""
    import io
    import logging

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(threadName)s: %(message)s"))
    logging.getLogger("job").addHandler(handler)
    logging.getLogger("job").warning("done")
    return stream.getvalue()


def identity_of_thread():
    import threading

    return id(threading.current_thread())


def names():
    import threading

    return [thread.name for thread in threading.enumerate()]


def note():
    import __main__

    __main__.noted = describe()


def noted():
    import __main__

    return __main__.noted


def import_it():
    import _thread

    lock = _thread.allocate_lock()

    def run():
        import threading

        found.append(threading.current_thread().name)
        lock.release()

    found = []
    lock.acquire()
    _thread.start_new_thread(run, ())
    lock.acquire()
    return found


def start_waiting(queue):
    import threading

    worker = threading.current_thread()

    def wait():
        worker.join()
        queue.put((threading.current_thread().daemon, worker.is_alive()))

    threading.Thread(target=wait).start()


def submit_to(other):
    return other.submit(describe).result(60)


def call_there(other):
    return other.call(describe)[1]


def name_and_wait(inside, leave):
    import os
    import threading

    os.write(inside, b"!")
    os.read(leave, 1)
    return threading.current_thread().name


class TestWorkers:
    def test_threading(self):
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix="maple") as pool:
            assert pool.submit(describe).result(PATIENCE) == expected("maple_0")
            assert pool.submit(describe).result(PATIENCE) == expected("maple_0")
            assert len({pool.submit(identity_of_thread).result(PATIENCE) for _ in range(3)}) == 1

    def test_logging(self):
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix="maple") as pool:
            assert pool.submit(logged).result(PATIENCE) == "maple_0: done\n"

    def test_number(self):
        with atoll.InterpreterPoolExecutor(3, "maple") as pool, Pipe() as inside, Pipe() as leave:
            futures = [pool.submit(name_and_wait, inside.writer, leave.reader) for _ in range(3)]
            for _ in futures:
                inside.wait()
            for _ in futures:
                leave.signal()
            assert {future.result(PATIENCE) for future in futures} == {"maple_0", "maple_1", "maple_2"}

    @pytest.mark.parametrize(
        "prefix", ["a long prefix " * 20, "Ahorn-Bäume-Äste-Blätter-Früchte-Wurzeln-Rinde", "%s %d"]
    )
    def test_any_prefix(self, prefix):
        with atoll.InterpreterPoolExecutor(1, prefix) as pool:
            assert pool.submit(describe).result(PATIENCE)[1] == f"{prefix}_0"

    def test_prefix_that_the_system_cannot_show(self):
        """A ThreadPoolExecutor takes any str, such as the name of a file."""
        with atoll.InterpreterPoolExecutor(1, "a\0b\udc80") as pool:
            assert pool.submit(describe).result(PATIENCE)[1] == "a?b?_0"

    def test_default(self):
        with atoll.InterpreterPoolExecutor(1) as pool:
            name = pool.submit(describe).result(PATIENCE)[1]
        assert name == f"{pool._thread_name_prefix}_0"
        assert name.startswith("InterpreterPoolExecutor-")

    def test_initializer(self):
        with atoll.InterpreterPoolExecutor(1, "maple", note) as pool:
            assert pool.submit(noted).result(PATIENCE) == expected("maple_0")

    def test_next_interpreter(self):
        with atoll.InterpreterPoolExecutor(1, "maple", max_tasks_per_child=1) as pool:
            for _ in range(3):
                assert pool.submit(describe).result(PATIENCE) == expected("maple_0")

    def test_another_thread_imports_threading(self):
        with atoll.InterpreterPoolExecutor(1, "maple") as pool:
            pool.submit(import_it).result(PATIENCE)
            assert pool.submit(describe).result(PATIENCE) == expected("maple_0")

    def test_threads_that_a_task_starts(self):
        """They are no daemons, and the interpreter waits for them, also where they wait for the worker."""

        queue = atoll.create_queue(unbounditems=atoll.UNBOUND)
        with atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(start_waiting, queue).result(PATIENCE)
        assert queue.qsize() == 1

    def test_nothing_is_said_at_the_end(self):
        done = run_python(
            "import atoll, asyncio, logging, threading\n"
            "def task():\n"
            "    logging.getLogger('job').warning('done')\n"
            "    threading.current_thread(), asyncio.run(asyncio.sleep(0))\n"
            "with atoll.InterpreterPoolExecutor(1, max_tasks_per_child=1) as pool:\n"
            "    [pool.submit(task).result() for _ in range(2)]\n"
            "with atoll.create() as interp:\n"
            "    interp.submit(task).result()\n"
        )
        assert done.returncode == 0
        assert done.stderr == "done\n" * 3


class TestGuests:
    def test_threading(self, interp):
        name = f"atoll-{interp.id}_0"
        assert interp.submit(describe).result(PATIENCE) == expected(name)
        assert interp.submit(logged).result(PATIENCE) == f"{name}: done\n"
        assert interp.call(names) == ["MainThread", name]

    def test_imported_before(self, interp):
        interp.exec("import threading")
        name = f"atoll-{interp.id}_0"
        assert interp.submit(describe).result(PATIENCE) == expected(name)

    def test_imported_in_between(self, interp):
        interp.submit(abs, 1).result(PATIENCE)
        interp.exec("import threading")
        name = f"atoll-{interp.id}_0"
        assert interp.submit(describe).result(PATIENCE) == expected(name)

    def test_is_forgotten(self, interp):
        """When the one that has submitted goes, and the interpreter stays."""

        with atoll.create() as submitter:
            assert submitter.call(submit_to, interp) == expected(f"atoll-{interp.id}_0")
        assert interp.call(names) == ["MainThread"]

    def test_calls_into_other_interpreters(self):
        """The thread is known where it works, not where a task of its calls."""

        with atoll.create() as other, atoll.InterpreterPoolExecutor(1, "maple") as pool:
            assert pool.submit(call_there, other).result(PATIENCE).startswith("Dummy-")
            assert pool.submit(describe).result(PATIENCE) == expected("maple_0")
