"""How the process ends: with interpreters alive, with threads inside them, by an error, by force.

Each case runs in a child process, which must end by itself with the right exit status, without a crash.
"""

from __future__ import annotations

import signal

import pytest

from helpers import VERSION, check_ended, run_python, skip_false_damage

MODES = pytest.mark.parametrize("options", [(), ("-X", "dev")], ids=["plain", "dev"])
WARNING = "Interpreter.close()"


def check_warned(done, status=0, out=None):
    """Assert that the process ended well, after the warning about interpreters left open."""
    check_ended(done, status, out)
    assert "RuntimeWarning" in done.stderr, done.stderr
    assert WARNING in done.stderr, done.stderr
    assert done.stderr.count("RuntimeWarning") == 1, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


class TestNothingLeft:
    @MODES
    @pytest.mark.parametrize(
        "source",
        [
            "import atoll",
            "import atoll; atoll.list_all()",
            "import atoll; atoll.create().close()",
            "import atoll; atoll.create()",
            "import atoll; i = atoll.create(); i.exec('x = 1'); i.close()",
            "import atoll; i = atoll.create(); i.call(len, 'x'); t = i.call_in_thread(len, 'x'); t.join(); i.close()",
            "import atoll; i = atoll.create(); i.exec('import atoll; j = atoll.create(); j.exec(\"1\")'); i.close()",
            "import atoll; i = atoll.create(); i.exec('import threading'); i.close(); del i",
            "import atoll; atoll.get_main().call(len, 'x')",
        ],
    )
    def test_clean(self, source, options):
        check_ended(run_python(source, *options), 0, "", clean=True)

    @MODES
    def test_status_is_kept(self, options):
        source = "import atoll, sys; i = atoll.create(); i.exec('x = 1'); i.close(); sys.exit(3)"
        check_ended(run_python(source, *options), 3, "", clean=True)

    def test_exit_inside_does_not_exit(self):
        source = """
            import atoll, sys
            i = atoll.create()
            try:
                i.exec("import sys; sys.exit(5)")
            except atoll.ExecutionFailed as error:
                print(error.excinfo.type.__name__, error.excinfo.msg)
            i.close()
            """
        check_ended(run_python(source), 0, "SystemExit 5\n", clean=True)

    @MODES
    @pytest.mark.parametrize(
        "source",
        [
            "raise KeyboardInterrupt",
            "def leave(): raise KeyboardInterrupt\nleave()",
            "class Stop(KeyboardInterrupt): pass\nraise Stop",
            "import code; code.InteractiveInterpreter().runsource('raise KeyboardInterrupt')",
            "import code; code.InteractiveInterpreter(globals()).runsource('raise KeyboardInterrupt')",
        ],
    )
    def test_ctrl_c_is_as_without_atoll(self, source, options):
        """What nothing has caught ends the process by the signal; what is like it, or was caught, does not."""
        done = run_python(f"import atoll\n{source}", *options)
        assert done.returncode == run_python(source, *options).returncode, done


class TestLeftOpen:
    @MODES
    @pytest.mark.parametrize("count", [1, 3])
    def test_idle(self, options, count):
        done = run_python(
            f"import atoll; kept = [atoll.create() for _ in range({count})]; print('end')", *options
        )
        check_warned(done, 0, "end\n")

    @MODES
    def test_used(self, options):
        source = """
            import atoll, threading
            kept = [atoll.create() for _ in range(2)]
            for interp in kept:
                interp.exec("import json, threading, atexit; atexit.register(print, 'atexit inside', flush=True)")
                thread = interp.call_in_thread(len, "x")
                thread.join()
            print("end", flush=True)
            """
        check_warned(run_python(source, *options), 0, "end\natexit inside\natexit inside\n")

    def test_warning_is_an_error(self):
        """-W error makes a warning an exception, which at exit can only be printed."""
        check_ended(run_python("import atoll; kept = atoll.create()", "-W", "error"), 0)

    def test_warning_can_be_silenced(self):
        check_ended(run_python("import atoll; kept = atoll.create()", "-W", "ignore"), 0, "", clean=True)

    @MODES
    def test_status_is_kept(self, options):
        check_warned(run_python("import atoll, sys; kept = atoll.create(); sys.exit(3)", *options), 3)

    @MODES
    def test_uncaught_exception(self, options):
        done = run_python(
            "import atoll; kept = atoll.create(); kept.exec('x = 1'); raise LookupError('told')", *options
        )
        check_ended(done, 1)
        assert "LookupError: told" in done.stderr
        assert WARNING in done.stderr

    @MODES
    def test_uncaught_failure_of_a_call(self, options):
        done = run_python("import atoll; kept = atoll.create(); kept.exec('1 / 0')", *options)
        check_ended(done, 1)
        assert "ZeroDivisionError" in done.stderr
        assert "Uncaught in the interpreter" in done.stderr

    @MODES
    def test_nested(self, options):
        source = """
            import atoll
            outer = atoll.create()
            outer.exec("import atoll; inner = atoll.create(); inner.exec('import atoll; innermost = atoll.create()')")
            print(len(atoll.list_all()))
            """
        check_warned(run_python(source, *options), 0, "4\n")

    def test_referring_to_each_other(self):
        source = """
            import atoll
            one, two = atoll.create(), atoll.create()
            one.prepare_main(other=two)
            two.prepare_main(other=one, main=atoll.get_main(), view=memoryview(b"view"))
            del one, two
            """
        check_warned(run_python(source))

    def test_in_the_repl(self):
        import subprocess

        from helpers import start_python

        with start_python("import atoll; kept = atoll.create()", "-i") as process:
            try:
                out, err = process.communicate("kept.exec('print(6 * 7, flush=True)')\nexit(4)\n", timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == 4, err
        assert "42" in out
        assert WARNING in err
        assert "Traceback" not in err

    def test_exit_from_a_call(self):
        """os._exit inside an interpreter ends the process at once."""
        check_ended(
            run_python("import atoll; i = atoll.create(); i.exec('import os; os._exit(7)')"),
            7,
            "",
            clean=True,
        )

    def test_killed(self):
        source = "import atoll, os, signal; i = atoll.create(); i.exec('import os; os.kill(os.getpid(), 15)')"
        check_ended(run_python(source), -signal.SIGTERM)

    def test_exit_in_a_thread_with_a_call_running(self):
        """main ends while a non-daemon thread of it is inside an interpreter: the exit waits for that thread."""
        source = """
            import atoll, os, threading
            i = atoll.create()
            r, w = os.pipe()
            i.call_in_thread(exec, f"import os; os.read({r}, 1); os.write(1, b'called' + bytes([10]))")
            threading._register_atexit(os.write, w, b"!")
            print("end", flush=True)
            """
        done = run_python(source)
        check_warned(done, 0, "end\ncalled\n")


class TestThreadsInside:
    @MODES
    def test_thread_that_ends(self, options):
        """A non-daemon thread of an interpreter is waited for at the exit."""
        source = """
            import atexit, atoll, os
            interp = atoll.create()
            r, w = os.pipe()
            interp.prepare_main(r=r)
            interp.exec('''
                import os, threading
                def work():
                    os.read(r, 1)
                    [list(range(1000)) for _ in range(1000)]
                    os.write(1, b"worked" + bytes([10]))
                threading.Thread(target=work).start()
                ''')
            atexit.register(os.write, w, b"!")
            print("end", flush=True)
            """
        check_warned(run_python(source, *options), 0, "end\nworked\n")

    @MODES
    @pytest.mark.parametrize(
        "work",
        [
            "while True: pass",
            "time.sleep(60)",
            "threading.Event().wait()",
            "os.read(os.pipe()[0], 1)",
            "while True: time.sleep(0)",
            "[list(range(1000)) for _ in iter(int, 1)]",
        ],
    )
    def test_daemon_thread(self, options, work):
        source = f"""
            import atoll, os
            interp = atoll.create()
            r, w = os.pipe()
            interp.prepare_main(w=w)
            interp.exec('''
                import helpers, os, threading, time
                def work():
                    os.write(w, b"!")
                    {work}
                helpers.start_unjoined(work)
                ''')
            os.read(r, 1)
            print("end", flush=True)
            """
        check_warned(run_python(source, *options), 0, "end\n")

    @MODES
    def test_daemon_thread_and_a_status(self, options):
        """sys.exit(3) with a thread stuck inside: the process ends all the same, without a crash."""
        source = """
            import atoll, os, sys
            interp = atoll.create()
            r, w = os.pipe()
            interp.prepare_main(w=w)
            interp.exec('''
                import helpers, os, threading, time
                def work():
                    os.write(w, b"!")
                    time.sleep(60)
                helpers.start_unjoined(work)
                ''')
            os.read(r, 1)
            sys.exit(3)
            """
        done = run_python(source, *options)
        assert done.returncode in (0, 3), (done.returncode, done.stderr)
        assert WARNING in done.stderr

    @MODES
    @pytest.mark.parametrize("work", ["while True: pass", "__import__('time').sleep(60)"])
    def test_daemon_thread_of_main_inside_a_call(self, options, work):
        """A daemon thread of the main interpreter is inside another interpreter when the process ends."""
        source = f"""
            import atoll, os, threading
            interp = atoll.create()
            r, w = os.pipe()
            code = "import os; os.write({{}}, b'!'); {work}" if {work!r}[0] == "_" else \\
                "import os; os.write({{}}, b'!')\\nwhile True: pass"
            threading.Thread(target=interp.exec, args=(code.format(w),), daemon=True).start()
            os.read(r, 1)
            print("end", flush=True)
            """
        check_warned(run_python(source, *options), 0, "end\n")

    @MODES
    def test_daemon_threads_calling_all_the_time(self, options):
        """Daemon threads of main that go in and out of an interpreter while the process ends."""
        source = """
            import atoll, threading
            interp = atoll.create()
            called = threading.Semaphore(0)
            def work():
                while True:
                    interp.call(len, "x")
                    called.release()
            for _ in range(3):
                threading.Thread(target=work, daemon=True).start()
            for _ in range(100):
                called.acquire()
            print("end", flush=True)
            """
        done = run_python(source, *options)
        check_ended(done, 0, "end\n")
        assert WARNING in done.stderr

    @MODES
    def test_daemon_threads_calling_main(self, options):
        """Daemon threads inside an interpreter that call main while the process ends."""
        source = """
            import atoll, os
            interp = atoll.create()
            r, w = os.pipe()
            interp.prepare_main(w=w)
            interp.exec('''
                import atoll, helpers, os, threading
                main = atoll.get_main()
                def work():
                    while True:
                        main.call(len, "x")
                        os.write(w, b"!")
                for _ in range(2):
                    helpers.start_unjoined(work)
                ''')
            for _ in range(100):
                os.read(r, 1)
            os.set_blocking(w, False)
            print("end", flush=True)
            """
        done = run_python(source, *options)
        check_ended(done, 0, "end\n")
        assert WARNING in done.stderr

    def test_raw_thread_at_close(self):
        """_thread.start_new_thread makes threads that nobody can join: close() leaves one in a system call."""
        source = """
            import atoll, os
            interp, other = atoll.create(), atoll.create()
            r, w = os.pipe()
            leave_r, leave_w = os.pipe()
            interp.prepare_main(w=w, r=leave_r)
            interp.exec('''
                import _thread, os
                def work():
                    try:
                        os.write(w, b"!")
                        os.read(r, 1)
                    finally:
                        os.write(w, b"?")
                _thread.start_new_thread(work, ())
                ''')
            os.read(r, 1)
            interp.close()
            print(other.call(eval, "1 + 1"))
            print(interp.id in [found.id for found in atoll.list_all()])
            os.write(leave_w, b"!")
            os.read(r, 1)
            other.close()
            """
        done = run_python(source)
        check_ended(done, 0, "2\nFalse\n")

    @MODES
    def test_daemon_thread_at_close(self, options):
        """close() with a daemon thread inside: closed or refused, and no crash now or later."""
        source = """
            import atoll, os
            other = atoll.create()
            for work in ("while True: pass", "time.sleep(60)", "os.read(os.pipe()[0], 1)"):
                interp = atoll.create()
                r, w = os.pipe()
                interp.prepare_main(w=w, code=work)
                interp.exec('''
                    import helpers, os, threading, time
                    def work():
                        os.write(w, b"!")
                        exec(code)
                    helpers.start_unjoined(work)
                    ''')
                os.read(r, 1)
                try:
                    interp.close()
                except atoll.InterpreterError as error:
                    assert interp.id in [found.id for found in atoll.list_all()]
                    assert "thread" in str(error), error
                else:
                    assert interp.id not in [found.id for found in atoll.list_all()]
                assert other.call(eval, "1 + 1") == 2
            other.close()
            print("end", flush=True)
            """
        check_ended(run_python(source, *options), 0, "end\n")


class TestAtExit:
    @MODES
    def test_creating(self, options):
        source = """
            import atexit, atoll
            def leave():
                interp = atoll.create()
                interp.exec("print('inside', flush=True)")
                interp.close()
            atexit.register(leave)
            """
        check_ended(run_python(source, *options), 0, "inside\n", clean=True)

    @MODES
    def test_creating_before_atoll_is_imported(self, options):
        source = """
            import atexit
            def leave():
                import atoll
                interp = atoll.create()
                interp.exec("print('inside', flush=True)")
                interp.close()
            atexit.register(leave)
            """
        check_ended(run_python(source, *options), 0, "inside\n", clean=True)

    @MODES
    def test_creating_and_leaving_open(self, options):
        source = """
            import atexit, atoll
            kept = []
            def leave():
                kept.append(atoll.create())
                kept[0].exec("print('inside', flush=True)")
            atexit.register(leave)
            """
        done = run_python(source, *options)
        check_ended(done, 0, "inside\n")

    @MODES
    @pytest.mark.parametrize("first", ["import atexit, atoll", "import atoll, atexit"])
    def test_using_what_is_open(self, options, first):
        source = f"""
            {first}
            kept = atoll.create()
            atexit.register(lambda: kept.exec("print('inside', flush=True)"))
            """
        check_warned(run_python(source, *options), 0, "inside\n")

    @MODES
    def test_finalizers_during_shutdown(self, options):
        """Objects that use interpreters when they are destroyed, however late that is."""
        source = """
            import atoll
            class Late:
                def __init__(self):
                    self.interp = atoll.create()
                def __del__(self):
                    try:
                        self.interp.exec("x = 1")
                        self.interp.close()
                    except atoll.InterpreterError:
                        pass
            late = Late()
            import builtins
            builtins.later = Late()
            """
        check_ended(run_python(source, *options), 0)


class TestOthersInterpreters:
    SUBMIT = """
        import atoll, time
        def submit():
            import atoll
            atoll.get_current().submit(abs, 1)
        for _ in range(10):
            atoll.create().call(submit)
        """

    @MODES
    def test_calls_that_were_submitted(self, options):
        """Interpreters that have submitted calls to themselves: those whose workers have not ended by then are left."""
        skip_false_damage(options)
        done = run_python(self.SUBMIT, *options)
        if done.stderr:
            check_warned(done, 0, "")
        else:
            check_ended(done, 0, "", clean=True)

    @MODES
    def test_calls_that_were_submitted_and_waited_for(self, options):
        """Their workers end, and the interpreters with them."""
        skip_false_damage(options)
        source = f"""{self.SUBMIT}
        end = time.monotonic() + 60
        while len(atoll.list_all()) > 1 and time.monotonic() < end:
            time.sleep(0.01)
        print(len(atoll.list_all()))
        """
        check_ended(run_python(source, *options), 0, "1\n", clean=True)

    @MODES
    def test_left_open_by_the_private_module(self, options):
        """What CPython does with its own leftovers at exit is its business; Atoll adds no crash to it."""
        module = "_xxsubinterpreters" if VERSION == (3, 12) else "_interpreters"
        source = f"""
            import atoll, {module} as private
            number = private.create()
            print(len(atoll.list_all()))
            private.destroy(number)
            """
        check_ended(run_python(source, *options), 0, "2\n", clean=True)

    def test_atoll_imported_only_there(self):
        """Atoll loaded in an interpreter of somebody else's, never in main."""
        module = "_xxsubinterpreters" if VERSION == (3, 12) else "_interpreters"
        source = f"""
            import sys, {module} as private
            number = private.create()
            assert not private.run_string(number, f'''
            import sys; sys.path[:] = {{sys.path!r}}
            import atoll
            made = atoll.create()
            assert made.call(eval, "6 * 7") == 42
            made.close()
            print("inside", flush=True)
            ''')
            private.destroy(number)
            print("end")
            """
        check_ended(run_python(source), 0, "inside\nend\n", clean=True)
