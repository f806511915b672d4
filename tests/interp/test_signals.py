"""Ctrl-C while the main thread is inside an interpreter."""

from __future__ import annotations

import signal
import subprocess

import pytest

from helpers import VERSION, check_ended, start_python


def interrupted(source, *options, times=1, text=""):
    """Run source in a child process; send SIGINT each time it prints a line 'ready', then text; return how it ended."""
    with start_python(source, *options) as process:
        try:
            out = ""
            for _ in range(times):
                for line in process.stdout:
                    if line == "ready\n":
                        break
                    out += line
                process.send_signal(signal.SIGINT)
            rest, err = process.communicate(text, timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out + rest, err)


SPIN = "print('ready', flush=True)\nwhile True: pass"
SLEEP = "import time\nprint('ready', flush=True)\nwhile True: time.sleep(0.05)"


class TestDefaultHandler:
    @pytest.mark.parametrize("work", [SPIN, SLEEP], ids=["spinning", "sleeping"])
    @pytest.mark.parametrize("how", ["exec", "call"])
    def test_keyboard_interrupt(self, work, how):
        source = f"""
            import atoll
            interp = atoll.create()
            try:
                {"interp.exec" if how == "exec" else "interp.call"}({"" if how == "exec" else "exec, "}{work!r})
            except KeyboardInterrupt:
                print("interrupted")
            print(interp.call(eval, "1 + 1"), interp.is_running())
            interp.exec("x = 3")
            interp.close()
            """
        check_ended(interrupted(source), 0, "interrupted\n2 False\n", clean=True)

    def test_during_a_system_call(self):
        """CPython restarts system calls in an interpreter (PEP 475): at the latest it is interrupted once that ends."""
        source = """
            import atoll
            interp = atoll.create()
            try:
                interp.exec("import os; print('ready', flush=True); os.read(0, 1)\\nwhile True: pass")
            except KeyboardInterrupt:
                print("interrupted")
            interp.close()
            """
        check_ended(interrupted(source, text="x"), 0, "interrupted\n", clean=True)

    def test_unwinds_the_code_inside(self):
        source = """
            import atoll
            interp = atoll.create()
            try:
                interp.exec('''
                    try:
                        print("ready", flush=True)
                        while True:
                            pass
                    finally:
                        unwound = True
                    ''')
            except KeyboardInterrupt:
                print("interrupted")
            print(interp.call(eval, "unwound"))
            interp.close()
            """
        check_ended(interrupted(source), 0, "interrupted\nTrue\n", clean=True)

    def test_again(self):
        source = f"""
            import atoll
            interp = atoll.create()
            for _ in range(3):
                try:
                    interp.exec({SPIN!r})
                except KeyboardInterrupt:
                    print("interrupted")
            interp.close()
            """
        check_ended(interrupted(source, times=3), 0, "interrupted\n" * 3, clean=True)

    def test_nested(self):
        """Through two interpreters and main."""
        source = f"""
            import atoll
            outer, inner = atoll.create(), atoll.create()
            outer.prepare_main(inner=inner, source={SPIN!r})
            try:
                outer.exec("inner.exec(source)")
            except KeyboardInterrupt:
                print("interrupted")
            print(outer.call(eval, "1 + 1"), inner.call(eval, "2 + 2"))
            outer.close()
            inner.close()
            """
        check_ended(
            interrupted(source),
            0,
            "interrupted\n2 4\n",
            clean=True,
        )

    def test_uncaught(self):
        done = interrupted(f"import atoll; interp = atoll.create(); interp.exec({SPIN!r})")
        # CPython before 3.14 forgets about the interrupt, for its exit status, when an exit function calls eval().
        assert done.returncode in ((-signal.SIGINT,) if VERSION >= (3, 14) else (-signal.SIGINT, 1)), done
        assert "KeyboardInterrupt" in done.stderr
        assert "Fatal Python error" not in done.stderr

    def test_caught_inside(self):
        """Code that catches it has dealt with it, as in a single interpreter."""
        source = """
            import atoll
            interp = atoll.create()
            print(interp.call(eval, "1"), flush=True)
            interp.exec('''
                try:
                    print("ready", flush=True)
                    while True:
                        pass
                except KeyboardInterrupt:
                    print("caught inside", flush=True)
                ''')
            print("went on")
            interp.close()
            """
        check_ended(interrupted(source), 0, "1\ncaught inside\nwent on\n", clean=True)

    @pytest.mark.parametrize("how", ["str", "cause"])
    def test_while_an_exception_is_described(self, how):
        """What describes exceptions takes what __str__ raises for a failure of __str__."""
        source = f"""
            import atoll
            def fail():
                import time
                class Slow(Exception):
                    asked = False
                    def __str__(self):
                        if not Slow.asked:
                            Slow.asked = True
                            print("ready", flush=True)
                            end = time.monotonic() + 60
                            while time.monotonic() < end:
                                pass
                        return "slow"
                if {how!r} == "str":
                    raise Slow
                raise ValueError from Slow()
            interp = atoll.create()
            try:
                interp.call(fail)
            except KeyboardInterrupt:
                print("interrupted")
            print(interp.call(abs, -1))
            interp.close()
            """
        check_ended(interrupted(source), 0, "interrupted\n1\n", clean=True)

    def test_other_threads_are_left_alone(self):
        """Another thread's call in the same interpreter goes on."""
        source = f"""
            import atoll, os, threading
            interp = atoll.create()
            r, w = os.pipe()
            result = []
            def work():
                result.append(interp.call(eval, f"__import__('os').read({{r}}, 1)"))
            thread = threading.Thread(target=work)
            thread.start()
            while not interp.is_running():
                pass
            try:
                interp.call(exec, {SPIN!r})
            except KeyboardInterrupt:
                print("interrupted")
            os.write(w, b"!")
            thread.join()
            print(result)
            interp.close()
            """
        check_ended(interrupted(source), 0, "interrupted\n[b'!']\n", clean=True)

    def test_while_another_thread_calls(self):
        """The main thread is not inside: it gets its KeyboardInterrupt as usual, and the call goes on."""
        source = """
            import atoll, os, threading
            interp = atoll.create()
            r, w = os.pipe()
            thread = interp.call_in_thread(eval, f"__import__('os').read({r}, 1)")
            try:
                print("ready", flush=True)
                threading.Event().wait()
            except KeyboardInterrupt:
                print("interrupted")
            os.write(w, b"!")
            thread.join()
            interp.close()
            """
        check_ended(interrupted(source), 0, "interrupted\n", clean=True)


class TestOwnHandler:
    def test_that_returns(self):
        """The handler runs, in the main interpreter, and the call goes on to its end."""
        source = """
            import atoll, os, signal
            interp = atoll.create()
            r, w = os.pipe()
            def handler(number, frame):
                assert atoll.get_current().id == 0
                os.write(w, b"!")
            signal.signal(signal.SIGINT, handler)
            interp.prepare_main(r=r)
            interp.exec('''
                import os
                os.set_blocking(r, False)
                print("ready", flush=True)
                while True:
                    try:
                        os.read(r, 1)
                        break
                    except BlockingIOError:
                        pass
                print("went on", flush=True)
                ''')
            print("end")
            interp.close()
            """
        check_ended(interrupted(source), 0, "went on\nend\n", clean=True)

    def test_that_raises(self):
        source = f"""
            import atoll, signal
            interp = atoll.create()
            class Stop(Exception):
                pass
            def handler(number, frame):
                raise Stop("from the handler")
            signal.signal(signal.SIGINT, handler)
            try:
                interp.exec({SPIN!r})
            except Stop as error:
                print(error)
            print(interp.call(eval, "1 + 1"))
            interp.close()
            """
        check_ended(interrupted(source), 0, "from the handler\n2\n", clean=True)

    def test_that_calls_the_interpreter(self):
        source = """
            import atoll, os, signal
            interp = atoll.create()
            def handler(number, frame):
                interp.call(exec, "stop = True")
            signal.signal(signal.SIGINT, handler)
            interp.exec('''
                stop = False
                print("ready", flush=True)
                while not stop:
                    pass
                ''')
            print("end")
            interp.close()
            """
        check_ended(interrupted(source), 0, "end\n", clean=True)

    def test_ignored(self):
        source = """
            import atoll, signal, threading, os
            interp = atoll.create()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            interp.exec('''
                import os
                print("ready", flush=True)
                for _ in range(3_000_000):
                    pass
                ''')
            print("end")
            interp.close()
            """
        check_ended(interrupted(source), 0, "end\n", clean=True)
