"""The signal module in interpreters: the process's main thread may set handlers, which run where they were set."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import textwrap

import pytest

from helpers import check_ended, run_python, start_python

# What each script prints has to be the same under `python` and `python -m atoll run`.
SCRIPTS = {
    "questions": """
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        print([signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGPIPE)])
        """,
    "answers": """
        print([signal.signal(signal.SIGTERM, handler)])
        print(signal.signal(signal.SIGTERM, signal.SIG_IGN) is handler)
        os.kill(os.getpid(), signal.SIGTERM)
        print(signal.signal(signal.SIGTERM, handler) == signal.SIG_IGN)
        print(signal.getsignal(signal.SIGTERM) is handler)
        print(signal.signal(signal.SIGTERM, signal.SIG_DFL) is handler, [signal.getsignal(signal.SIGTERM)])
        """,
    "at once": """
        signal.signal(signal.SIGTERM, handler)
        os.kill(os.getpid(), signal.SIGTERM)
        print(got)
        signal.raise_signal(signal.SIGTERM)
        print(got)
        os.setpgid(0, 0)
        os.killpg(0, signal.SIGTERM)
        print(got)
        signal.pidfd_send_signal(os.pidfd_open(os.getpid()), signal.SIGTERM)
        print(got)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        os.kill(os.getpid(), signal.SIGTERM)
        print(got)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        print(got)
        """,
    "by another thread": """
        signal.signal(signal.SIGTERM, stop)
        for raising in (
            lambda: signal.raise_signal(signal.SIGTERM),
            lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM),
        ):
            thread, go = when_told(raising)
            try:
                go.release()
                thread.join()
            except Stop:
                print("stopped")
            thread.join()
        """,
    "interrupting main": """
        import _thread
        for interrupt in (_thread.interrupt_main, lambda: _thread.interrupt_main(signal.SIGINT)):
            try:
                interrupt()
            except KeyboardInterrupt:
                print("interrupted")
            thread, go = when_told(interrupt)
            try:
                go.release()
                thread.join()
            except KeyboardInterrupt:
                print("interrupted by a thread")
            thread.join()
        signal.signal(signal.SIGINT, handler)
        _thread.interrupt_main()
        print(got)
        try:
            _thread.interrupt_main(1000)
        except ValueError as error:
            print(error)
        """,
    "raising": """
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            time.sleep(1000)
        except Stop as error:
            print(repr(error))
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            while True:
                pass
        except Stop as error:
            print(repr(error))
        """,
    "pause": """
        signal.signal(signal.SIGUSR1, handler)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        signal.pause()
        print(got)
        """,
    "bad": """
        for number, what in [(0, handler), (1000, handler), (signal.SIGKILL, handler), (signal.SIGTERM, 7),
                             (signal.SIGTERM, "x"), (signal.SIGTERM, None), ("x", handler)]:
            try:
                signal.signal(number, what)
            except (OSError, TypeError, ValueError) as error:
                print(type(error).__name__, str(error) if number != "x" else "", getattr(error, "errno", None))
        print(signal.signal(signal.SIGTERM, handler), signal.getsignal(signal.SIGTERM) is handler)
        """,
    "another thread": """
        def set_it():
            for function, arguments in [(signal.signal, (signal.SIGTERM, handler)), (signal.set_wakeup_fd, (-1,))]:
                try:
                    function(*arguments)
                except ValueError as error:
                    print(error)
        thread = threading.Thread(target=set_it)
        thread.start()
        thread.join()
        """,
    "wakeup": """
        r, w = os.pipe()
        try:
            signal.set_wakeup_fd(w)
        except ValueError as error:
            print(str(error).replace(str(w), "w"))
        os.set_blocking(w, False)
        print(signal.set_wakeup_fd(w))
        signal.signal(signal.SIGUSR1, handler)
        os.kill(os.getpid(), signal.SIGUSR1)
        print(os.read(r, 1))
        print(signal.set_wakeup_fd(-1) == w)
        """,
    "SIGINT": """
        print(signal.signal(signal.SIGINT, handler) is signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGINT)
        print(got)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1000)
        except KeyboardInterrupt:
            print("interrupted")
        """,
    "asyncio": """
        import asyncio
        async def main():
            loop = asyncio.get_running_loop()
            event = asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, event.set)
            loop.call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)
            await event.wait()
            print(loop.remove_signal_handler(signal.SIGTERM))
            loop.call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                print("cancelled")
                raise
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    "default": """
        signal.signal(signal.SIGTERM, handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        print("end", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        """,
}

BEGINNING = """
import os, signal, threading, time
got = []
def handler(number, frame):
    got.append((number, frame.f_code.co_name))
class Stop(Exception):
    pass
def stop(number, frame):
    raise Stop(frame.f_code.co_name)
# An exception that a handler raises inside Thread.start() can become a KeyError of threading's own.
def when_told(function):
    go = threading.Lock()
    go.acquire()
    thread = threading.Thread(target=lambda: (go.acquire(), function()))
    thread.start()
    return thread, go
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_as_python_has_it(script, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(BEGINNING + textwrap.dedent(SCRIPTS[script]))
    ends = [
        subprocess.run(
            [sys.executable, *options, str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        for options in ([], ["-m", "atoll", "run"])
    ]
    assert ends[0].stdout != ""
    assert ends[1].stdout == ends[0].stdout, ends[1].stderr
    assert ends[1].returncode == ends[0].returncode
    assert ends[1].stderr == ends[0].stderr


def test_in_a_call():
    """What is set stays set; it is called in its interpreter also when the thread is not there."""
    source = """
        import atoll, os, signal
        def set_it():
            import signal, sys
            def handler(number, frame):
                import atoll
                sys.got.append((number, atoll.get_current().id))
            sys.got = []
            signal.signal(signal.SIGTERM, handler)
        def get():
            import sys
            return list(sys.got)
        interp = atoll.create()
        interp.call(set_it)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interp.call(get) == [(signal.SIGTERM, interp.id)]
        def again():
            import os, signal
            os.kill(os.getpid(), signal.SIGTERM)
            return get()
        assert len(interp.call(again)) == 2
        interp.close()
        print("closed", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100):
            pass
        print("not reached")
        """
    done = run_python(source)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "closed\n", "")


def test_of_main():
    """A handler of main's is never seen as an object; it can be called, and put back."""
    source = """
        import atoll, os, signal
        got = []
        def handler(number, frame):
            got.append(number)
        signal.signal(signal.SIGTERM, handler)
        def use():
            import os, signal
            mine = []
            before = signal.signal(signal.SIGTERM, lambda number, frame: mine.append(number))
            os.kill(os.getpid(), signal.SIGTERM)
            before(signal.SIGTERM, None)
            signal.signal(signal.SIGTERM, before)
            os.kill(os.getpid(), signal.SIGTERM)
            return mine, signal.getsignal(signal.SIGTERM) is before
        with atoll.create() as interp:
            assert interp.call(use) == ([signal.SIGTERM], True)
        assert got == [signal.SIGTERM] * 2, got
        assert signal.getsignal(signal.SIGTERM) is handler
        """
    check_ended(run_python(source), 0, "", clean=True)


def test_further_out():
    """It is set in one interpreter, from which another one is called: that is unwound first."""
    source = """
        import atoll, os, signal
        def spin():
            import os, signal, sys
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                while True:
                    pass
            finally:
                print("unwound", flush=True)
        def outer(inner, spin):
            import signal
            class Stop(Exception):
                pass
            def handler(number, frame):
                raise Stop
            signal.signal(signal.SIGTERM, handler)
            try:
                inner.call(spin)
            except Stop:
                return "stopped"
        with atoll.create() as one, atoll.create() as two:
            print(one.call(outer, two, spin))
            print(one.call(abs, -1), two.call(abs, -2))
        """
    check_ended(run_python(source), 0, "unwound\nstopped\n1 2\n", clean=True)


def test_asyncio_in_a_call():
    """Its own handler of Ctrl-C ends in a KeyboardInterrupt, for the caller as well."""
    source = """
        import atoll, asyncio
        def work():
            import asyncio
            async def main():
                print("ready", flush=True)
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    print("cancelled", flush=True)
                    raise
            asyncio.run(main())
        with atoll.create() as interp:
            try:
                interp.call(work)
            except KeyboardInterrupt:
                print("interrupted")
        """
    with start_python(source) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "cancelled\ninterrupted\n", "")


def test_main_thread():
    """What only the main thread may do is only done there: threading tells which one it is."""
    source = """
        import atoll, threading
        def guard():
            import signal, threading
            if threading.current_thread() is not threading.main_thread():
                assert not isinstance(threading.current_thread(), threading._MainThread)
                return "no"
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            return "main"
        def elsewhere(call, *args):
            results = []
            thread = threading.Thread(target=lambda: results.append(call(*args)))
            thread.start()
            thread.join()
            return results[0]
        with atoll.create() as one, atoll.create() as two:
            print(one.call(guard), elsewhere(one.call, guard), one.call(guard))
            print(elsewhere(two.call, guard), two.call(guard), elsewhere(two.call, guard))
            print(two.submit(guard).result())
            two.exec("import threading; assert threading.current_thread() is threading.main_thread()")
        with atoll.InterpreterPoolExecutor(1) as pool:
            print(pool.submit(guard).result())
        """
    check_ended(run_python(source), 0, "main no main\nno main no\nno\nno\n", clean=True)


def test_a_handler_that_was_there_before_python(tmp_path):
    """What C has set, as a program that embeds Python may, cannot be put back when the interpreter is gone."""
    source = tmp_path / "before.c"
    source.write_text("""
        #include <signal.h>
        static void nothing(int number) { (void)number; }
        __attribute__((constructor)) static void set(void) { signal(SIGUSR1, nothing); }
        """)
    library = source.with_suffix(".so")
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, "-fPIC", "-shared", str(source), "-o", str(library)], check=True)
    script = """
        import atoll, os, signal
        assert signal.getsignal(signal.SIGUSR1) is None
        with atoll.create() as interp:
            interp.exec("import os, signal; signal.signal(signal.SIGUSR1, lambda *_: print('here'))")
            interp.exec("os.kill(os.getpid(), signal.SIGUSR1)")
        os.kill(os.getpid(), signal.SIGUSR1)
        print("there")
        """
    done = run_python(script, environment={"LD_PRELOAD": str(library)})
    check_ended(done, 0, "here\nthere\n", clean=True)
