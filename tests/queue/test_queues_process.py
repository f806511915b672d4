"""Waiting for a queue when Ctrl-C is pressed, and when the process ends, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess

import pytest

from helpers import VERSION, check_ended, run_python, start_python
from queue_helpers import wait_asleep

MODES = pytest.mark.parametrize("options", [(), ("-X", "dev")], ids=["plain", "dev"])
# How to wait for ever, given `queue` (empty) and `full`.
WAITS = {
    "get": "queue.get()",
    "get with timeout": "queue.get(timeout=3600)",
    "put": "full.put(1)",
    "get_many": "queue.get_many()",
    "put_many": "full.put_many([1, 2])",
    "iterate": "list(queue)",
    "select": "__import__('atoll').select([queue])",
}
EACH_WAIT = pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
QUEUES = """
import atoll, os, threading
queue, full = atoll.create_queue(), atoll.create_queue(1)
full.put("full")
interp = atoll.create()
interp.prepare_main(queue=queue, full=full)
"""


def interrupted(source, times=1):
    """Run source in a child process; send SIGINT when it sleeps after each line 'ready'; return how it ended."""
    with start_python(QUEUES + source) as process:
        try:
            out = ""
            for _ in range(times):
                for line in process.stdout:
                    if line == "ready\n":
                        break
                    out += line
                else:
                    break  # it ended too early: its status and output say why
                wait_asleep(process.pid, process=process.pid)
                process.send_signal(signal.SIGINT)
            rest, err = process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out + rest, err)


class TestInterrupt:
    @EACH_WAIT
    def test_in_the_main_thread(self, wait):
        done = interrupted(f"""
try:
    print("ready", flush=True)
    {wait}
except KeyboardInterrupt:
    print("interrupted")
queue.put("after")
print(queue.get(), full.qsize())
interp.close()
""")
        check_ended(done, 0, "interrupted\nafter 1\n", clean=True)

    @EACH_WAIT
    @pytest.mark.parametrize("how", ["exec", "call"])
    def test_in_an_interpreter(self, wait, how):
        work = f"print('ready', flush=True)\n{wait}"
        done = interrupted(f"""
try:
    {"interp.exec" if how == "exec" else "interp.call"}({"" if how == "exec" else "exec, "}{work!r})
except KeyboardInterrupt:
    print("interrupted")
print(interp.call(eval, "1 + 1"), interp.is_running())
queue.put("after")
print(interp.call(eval, "queue.get()"), full.qsize())
interp.close()
""")
        check_ended(done, 0, "interrupted\n2 False\nafter 1\n", clean=True)

    def test_caught_inside(self):
        done = interrupted("""
interp.exec('''
try:
    print("ready", flush=True)
    queue.get()
except KeyboardInterrupt:
    print("caught inside", flush=True)
    queue.put("from inside")
''')
print(queue.get())
interp.close()
""")
        check_ended(done, 0, "caught inside\nfrom inside\n", clean=True)

    def test_nested(self):
        done = interrupted("""
outer = atoll.create()
outer.prepare_main(inner=interp)
try:
    outer.exec('''inner.exec("print('ready', flush=True); queue.get()")''')
except KeyboardInterrupt:
    print("interrupted")
queue.put(1)
print(interp.call(eval, "queue.get()"), outer.call(eval, "1 + 1"))
outer.close()
interp.close()
""")
        check_ended(done, 0, "interrupted\n1 2\n", clean=True)

    def test_again(self):
        done = interrupted(
            """
for _ in range(3):
    try:
        interp.exec("print('ready', flush=True); queue.get()")
    except KeyboardInterrupt:
        print("interrupted")
interp.close()
""",
            times=3,
        )
        check_ended(done, 0, "interrupted\n" * 3, clean=True)

    def test_other_waiters_are_left_alone(self):
        """Threads that wait for the same queue, in main and in the interpreter, go on waiting."""
        done = interrupted("""
import queue_helpers
results = []
threads = [threading.Thread(target=lambda: results.append(interp.call(eval, "queue.get()"))) for _ in range(2)]
threads += [threading.Thread(target=lambda: results.append(queue.get())) for _ in range(2)]
for thread in threads:
    thread.daemon = True
    thread.start()
queue_helpers.wait_asleep(*(thread.native_id for thread in threads))
try:
    interp.call(exec, "print('ready', flush=True); queue.get()")
except KeyboardInterrupt:
    print("interrupted", results)
queue.put_many([1, 2, 3, 4])
for thread in threads:
    thread.join()
print(sorted(results))
interp.close()
""")
        check_ended(done, 0, "interrupted []\n[1, 2, 3, 4]\n", clean=True)

    def test_uncaught(self):
        done = interrupted("interp.close(); print('ready', flush=True); queue.get()")
        assert done.returncode in ((-signal.SIGINT,) if VERSION >= (3, 14) else (-signal.SIGINT, 1)), done
        assert "KeyboardInterrupt" in done.stderr
        assert "Fatal Python error" not in done.stderr

    def test_own_handler(self):
        """A handler that returns: the wait goes on; it runs in the main interpreter and may put what is waited for."""
        done = interrupted("""
import signal
def handler(number, frame):
    assert atoll.get_current().id == 0
    queue.put("from the handler")
signal.signal(signal.SIGINT, handler)
print(interp.call(eval, "(print('ready', flush=True), queue.get())[1]"))
interp.close()
""")
        check_ended(done, 0, "from the handler\n", clean=True)

    def test_asyncio(self):
        done = interrupted("""
import asyncio
async def work():
    print("ready", flush=True)
    try:
        await queue.get_async()
    except asyncio.CancelledError:
        print("cancelled")
        raise
try:
    asyncio.run(work())
except KeyboardInterrupt:
    print("interrupted")
queue.put("after")
print(queue.get())
interp.close()
""")
        check_ended(done, 0, "cancelled\ninterrupted\nafter\n", clean=True)


class TestExit:
    @MODES
    @EACH_WAIT
    def test_daemon_threads_of_main(self, wait, options):
        """Some in the main interpreter, some inside another one."""
        done = run_python(
            QUEUES
            + f"""
import queue_helpers
threads = [threading.Thread(target=interp.call, args=(eval, {wait!r}), daemon=True) for _ in range(3)]
threads += [threading.Thread(target=eval, args=({wait!r}, globals()), daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
queue_helpers.wait_asleep(*(thread.native_id for thread in threads))
print("end", flush=True)
""",
            *options,
        )
        check_ended(done, 0, "end\n")

    @MODES
    @EACH_WAIT
    def test_threads_of_an_interpreter(self, wait, options):
        done = run_python(
            QUEUES
            + f"""
import queue_helpers
interp.exec('''
import helpers, os, threading
def start():
    reader, writer = os.pipe()
    def work():
        os.write(writer, threading.get_native_id().to_bytes(8))
        {wait}
    helpers.start_unjoined(work)
    return int.from_bytes(os.read(reader, 8))
''')
queue_helpers.wait_asleep(*(interp.call(eval, "start()") for _ in range(3)))
print("end", flush=True)
""",
            *options,
        )
        check_ended(done, 0, "end\n")

    @MODES
    def test_busy_daemon_threads(self, options):
        """Items fly between daemon threads of main, in several interpreters, while the process ends."""
        done = run_python(
            QUEUES
            + """
others = [atoll.create() for _ in range(2)]
source = '''
def put():
    while True:
        full.put(b"x" * 100)
def get():
    while True:
        full.get()
'''
for one in (interp, *others):
    one.prepare_main(full=full)
    one.exec(source)
    for name in ("put()", "get()"):
        threading.Thread(target=one.call, args=(eval, name), daemon=True).start()
done = atoll.create_queue()
exec(source)
threading.Thread(target=put, daemon=True).start()
for _ in range(1_000):
    full.get()
print("end", flush=True)
""",
            *options,
        )
        check_ended(done, 0, "end\n")

    @MODES
    def test_items_left(self, options):
        """Queues with items of every kind are there when the process ends."""
        done = run_python(
            QUEUES
            + """
queue.put_many([1, b"x" * 5_000, memoryview(bytearray(5)), full, queue, interp])
interp.exec("queue.put_many([1, b'x' * 5_000, memoryview(bytearray(5)), full, queue])")
queue.fileno()
interp.close()
print(queue.qsize(), flush=True)
""",
            *options,
        )
        check_ended(done, 0, "11\n", clean=True)

    @MODES
    def test_while_an_interpreter_is_left_open(self, options):
        done = run_python(
            QUEUES
            + """
interp.exec("queue.put([queue, full]); import atoll; own = atoll.create_queue(); own.put(memoryview(b'abc'))")
print("end", flush=True)
""",
            *options,
        )
        check_ended(done, 0, "end\n")
        assert "Traceback" not in done.stderr

    @MODES
    def test_put_and_get_at_exit(self, options):
        done = run_python(
            QUEUES
            + """
import atexit
def leave():
    queue.put("at exit")
    print(queue.get(), flush=True)
    interp.exec("queue.put('inside')")
    print(queue.get(), flush=True)
    interp.close()
atexit.register(leave)
interp.exec("import atexit; atexit.register(queue.put, 'from the interpreter')")
""",
            *options,
        )
        check_ended(done, 0, "at exit\ninside\n", clean=True)

    def test_non_daemon_thread_is_waited_for(self):
        done = run_python(
            QUEUES
            + """
thread = threading.Thread(target=lambda: print(interp.call(eval, "queue.get()"), flush=True))
thread.start()
threading._register_atexit(queue.put, "let go")
print("end", flush=True)
"""
        )
        check_ended(done, 0, "end\nlet go\n")

    def test_system_exit(self):
        done = run_python(
            QUEUES
            + """
import queue_helpers, sys
threads = [threading.Thread(target=interp.call, args=(eval, "queue.get()"), daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
queue_helpers.wait_asleep(*(thread.native_id for thread in threads))
sys.exit(3)
"""
        )
        check_ended(done, 3)
        assert "still inside" not in done.stderr

    def test_fork(self):
        """Whatever other threads do with a queue at that moment, the child can use it."""
        done = run_python(
            """
import os, threading, atoll
queue = atoll.create_queue()
stop = threading.Event()
def work():
    while not stop.is_set():
        queue.put(b"x" * 600)
        queue.get()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        queue.put("child")
        made = atoll.create_queue()
        made.put(queue)
        found = None
        while found != "child":
            found = queue.get(timeout=5)
        os._exit(0 if made.get() is queue else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
print("end")
""",
            "-W",
            "ignore",
        )
        check_ended(done, 0, "end\n", clean=True)

    def test_fork_with_a_descriptor(self):
        """What a child puts does not make its parent's descriptor readable, and its own says what is so there."""
        done = run_python("""
import atoll, os, select
queue = atoll.create_queue()
def readable():
    return bool(select.select([queue], [], [], 0)[0])
queue.fileno()
child = os.fork()
if child == 0:
    before = readable()
    queue.put(1)
    os._exit(10 * before + readable())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), readable())
""")
        check_ended(done, 0, "1 False\n")


def test_what_has_the_number_of_an_event_is_left_alone(tmp_path):
    """A program that closes all files, as one does that becomes a daemon, and then opens others."""
    done = run_python(
        f"""
        import asyncio, atoll, os, warnings
        warnings.simplefilter("ignore")
        os.chdir({str(tmp_path)!r})
        queue = atoll.create_queue(maxsize=1)

        async def wait():
            task = asyncio.create_task(queue.get_async())
            await asyncio.sleep(0)
            queue.put(1)
            assert await task == 1

        asyncio.run(wait())
        event = queue._watch(False)
        os.closerange(3, 300)
        files = [open(str(n), "wb+", buffering=0) for n in range(300)]
        assert event in [file.fileno() for file in files]
        for _ in range(3):
            queue.put(1)
            queue.get()
        child = os.fork()
        if child != 0:
            assert os.waitpid(child, 0)[1] == 0
            queue._unwatch(False)
            del queue
        for file in files:
            assert file.write(b"kept") == 4
        if child != 0:
            for file in files:
                file.seek(0)
                assert file.read() == b"keptkept"
        """
    )
    check_ended(done)


@pytest.mark.parametrize("other", ["os.fdopen(os.eventfd(0))", "select.epoll()"])
def test_an_event_of_the_programs_own_with_the_same_number_is_left_alone(other):
    """A loop that is started in a daemon, after all files have been closed."""
    done = run_python(
        f"""
        import atoll, os, select
        queue = atoll.create_queue(maxsize=1)
        assert not select.select([queue.fileno()], [], [], 0)[0]
        number = queue.fileno()
        os.close(number)
        own = {other}
        assert own.fileno() == number
        for _ in range(3):
            queue.put(1)
            queue.get()
        queue.put(1)
        child = os.fork()
        if child != 0:
            assert os.waitpid(child, 0)[1] == 0
        assert not select.select([number], [], [], 0)[0]
        del queue
        os.fstat(number)
        """
    )
    check_ended(done)
