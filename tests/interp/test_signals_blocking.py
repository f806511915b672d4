"""One Ctrl-C ends a system call inside an interpreter that the main thread is in."""

from __future__ import annotations

import platform
import signal

import pytest

from signal_helpers import interrupted

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="elsewhere Ctrl-C takes effect when the system call ends"
)

CALLS = {
    "sleep": "import time; time.sleep(1000)",
    "read": "import os; os.read(os.pipe()[0], 1)",
    "readline": "import os; open(os.pipe()[0]).readline()",
    "input": "input()",
    "write": "import os; os.write(os.pipe()[1], bytes(10_000_000))",
    "recv": "import socket; a, b = socket.socketpair(); a.recv(1)",
    "recv with a timeout": "import socket; a, b = socket.socketpair(); a.settimeout(1000); a.recv(1)",
    "accept": "import socket; socket.create_server(('127.0.0.1', 0)).accept()",
    "lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "lock with a timeout": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=1000)",
    "with lock": "import threading; lock = threading.Lock(); lock.acquire()\nwith lock: pass",
    "join": "thread.join()",
    "queue": "import queue; queue.Queue().get()",
    "simple queue": "import queue; queue.SimpleQueue().get()",
    "condition": "import threading; c = threading.Condition(); c.acquire(); c.wait()",
    "future": "import concurrent.futures; concurrent.futures.Future().result()",
    "select": "import select; select.select([], [], [], 1000)",
    "poll": "import select; select.poll().poll()",
    "epoll": "import select; select.epoll().poll()",
    "child": "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
    "try: child.wait()\nfinally: child.communicate()",
    "asyncio": "import asyncio; asyncio.run(asyncio.sleep(1000))",
    "atoll queue": "import atoll; atoll.create_queue().get()",
    "semaphore": "import multiprocessing as m; m.get_context('spawn').Semaphore(0).acquire()",
    "pause": "import signal; signal.pause()",
    "import": "import sleepy",
}

# Before the signal may come: what is raised in an import may be caught there, and what is raised while a thread is
# being started leaves threading's lock free.
IMPORTS = (
    "import asyncio, concurrent.futures, multiprocessing.synchronize, queue, select, socket, subprocess\n"
)
BEFORE = {
    "join": "import threading, time; thread = threading.Thread(target=time.sleep, args=(3,)); thread.start()",
}


@pytest.mark.parametrize("call", CALLS)
def test_one_is_enough(call, tmp_path):
    (tmp_path / "sleepy.py").write_text("import time; time.sleep(1000)")
    source = f"""
        import atoll, sys
        sys.path.append({str(tmp_path)!r})
        def work(before, code):
            names = {{}}
            exec(before, names)
            print("ready", flush=True)
            # exec() of a str makes 3.12 end with SIGINT's status, whoever catches the KeyboardInterrupt.
            exec(compile(code, "<work>", "exec"), names)
        with atoll.create() as interp:
            try:
                interp.call(work, {IMPORTS + BEFORE.get(call, "")!r}, {CALLS[call]!r})
            except KeyboardInterrupt:
                print("interrupted")
            print(interp.call(abs, -1))
        """
    process, out, err = interrupted(source)
    assert (process.returncode, out) == (0, "interrupted\n1\n"), (process.returncode, out, err)
    assert "Fatal" not in err


# A write that a signal cuts short ends as any other; the handler is called once Python looks, perhaps after the code.
@pytest.mark.parametrize("call", [call for call in CALLS if call != "write"])
def test_handler_of_the_interpreter(call, tmp_path):
    """What the interpreter itself has set for a signal is called in the same way."""
    (tmp_path / "sleepy.py").write_text("import time; time.sleep(1000)")
    source = f"""
        import atoll, sys
        sys.path.append({str(tmp_path)!r})
        def work(before, code):
            import signal
            def handler(number, frame):
                raise ZeroDivisionError(number)
            signal.signal(signal.SIGUSR1, handler)
            names = {{}}
            exec(before, names)
            print("ready", flush=True)
            try:
                exec(compile(code, "<work>", "exec"), names)
            except ZeroDivisionError as error:
                return error.args[0]
        with atoll.create() as interp:
            print(interp.call(work, {IMPORTS + BEFORE.get(call, "")!r}, {CALLS[call]!r}) == {int(signal.SIGUSR1)})
        """
    process, out, err = interrupted(source, number=signal.SIGUSR1)
    assert (process.returncode, out) == (0, "True\n"), (process.returncode, out, err)
    assert "Fatal" not in err


def test_what_it_leaves_behind():
    """The code inside is unwound, locks are released, and it can be done again."""
    source = """
        import atoll
        def work():
            import sys, threading, time
            lock = sys.__dict__.setdefault("lock", threading.Lock())
            with lock:
                print("ready", flush=True)
                time.sleep(1000)
        count = 0
        with atoll.create() as interp:
            for _ in range(5):
                try:
                    interp.call(work)
                except KeyboardInterrupt:
                    count += 1
        print(count)
        """
    process, out, err = interrupted(source, times=5)
    assert (process.returncode, out, err) == (0, "5\n", "")


def test_nested():
    """Through two interpreters and main."""
    source = """
        import atoll
        def sleep():
            import time
            print("ready", flush=True)
            time.sleep(1000)
        def home(interp, function):
            interp.call(function)
        def away(interp, function, home):
            import atoll
            atoll.get_main().call(home, interp, function)
        outer, inner = atoll.create(), atoll.create()
        try:
            outer.call(away, inner, sleep, home)
        except KeyboardInterrupt:
            print("interrupted")
        print(outer.call(abs, -1), inner.call(abs, -2))
        outer.close()
        inner.close()
        """
    process, out, err = interrupted(source)
    assert (process.returncode, out) == (0, "interrupted\n1 2\n"), err


def test_a_handler_that_returns():
    """It runs at once, and the system call goes on."""
    source = """
        import atoll, os, signal
        r, w = os.pipe()
        signal.signal(signal.SIGINT, lambda number, frame: os.write(w, b"!"))
        def work(r):
            import os
            print("ready", flush=True)
            return os.read(r, 1)
        with atoll.create() as interp:
            print(interp.call(work, r))
        """
    process, out, err = interrupted(source)
    assert (process.returncode, out, err) == (0, "b'!'\n", "")


def test_a_handler_that_raises():
    source = """
        import atoll, signal
        class Stop(Exception):
            pass
        def handler(number, frame):
            raise Stop
        signal.signal(signal.SIGTERM, handler)
        def work():
            import time
            print("ready", flush=True)
            time.sleep(1000)
        with atoll.create() as interp:
            try:
                interp.call(work)
            except Stop:
                print("stopped")
        """
    process, out, err = interrupted(source, number=signal.SIGTERM)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_where_others_handle_the_signal():
    """Their SIGURG stays theirs: then Ctrl-C takes effect when the system call ends."""
    source = """
        import atoll, os, signal, threading
        r, w = os.pipe()
        signal.signal(signal.SIGURG, lambda number, frame: print("SIGURG"))
        def work(r):
            import os
            print("ready", flush=True)
            os.read(r, 1)
            while True:
                pass
        threading.Timer(1.5, os.write, (w, b"!")).start()
        with atoll.create() as interp:
            try:
                interp.call(work, r)
            except KeyboardInterrupt:
                print("interrupted")
        """
    process, out, err = interrupted(source)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")


def test_traps_of_others():
    """A handler of SIGTRAP stays the user's."""
    source = """
        import atoll, os, signal
        signal.signal(signal.SIGTRAP, lambda number, frame: print("SIGTRAP"))
        def work():
            import time
            print("ready", flush=True)
            time.sleep(1000)
        with atoll.create() as interp:
            try:
                interp.call(work)
            except KeyboardInterrupt:
                print("interrupted")
        os.kill(os.getpid(), signal.SIGTRAP)
        """
    process, out, err = interrupted(source)
    assert (process.returncode, out, err) == (0, "interrupted\nSIGTRAP\n", "")


def test_uncaught():
    """The process ends as any that Ctrl-C ends."""
    process, _, err = interrupted(
        """
        import atoll
        interp = atoll.create()
        interp.exec("import time; print('ready', flush=True); time.sleep(1000)")
        """
    )
    assert process.returncode in (1, -signal.SIGINT)
    assert "KeyboardInterrupt" in err
    assert "Fatal" not in err
