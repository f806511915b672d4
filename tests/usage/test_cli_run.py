"""`python -m atoll run`: each case next to the same script run by `python`, which has to end in the same way."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import textwrap
import zipfile

import pytest

from atoll.cli.arguments import seconds, size
from cli_helpers import atoll_command, environment, python, without_numbers, write
from helpers import PATIENCE, VERSION

SURROUNDINGS = """
    import sys, threading
    main = sys.modules["__main__"]
    print({name: value for name, value in vars(main).items() if name.startswith("__") and name != "__builtins__"})
    print(main.__builtins__, __name__, __builtins__)
    print(sys.argv)
    print(sys.path)
    print(sys.flags, sys.warnoptions, sys._xoptions)
    print(threading.current_thread(), threading.main_thread())
    """


def both(*arguments, cwd, options=(), stdin="", **env):
    """Run a command line with `python` and with `python -m atoll run`; assert that both end alike; return the first."""
    plain = python(*options, *arguments, cwd=cwd, stdin=stdin, **env)
    ours = python(*options, "-m", "atoll", "run", *arguments, cwd=cwd, stdin=stdin, **env)
    assert without_numbers(ours.stdout) == without_numbers(plain.stdout)
    assert without_numbers(ours.stderr) == without_numbers(plain.stderr)
    assert ours.returncode == plain.returncode
    return plain


def run_source(source, tmp_path, *arguments, **more):
    """The same for a script of this source."""
    return both(write(tmp_path / "script.py", source).name, *arguments, cwd=tmp_path, **more)


class TestSurroundings:
    @pytest.mark.parametrize(
        "options", [(), ("-P",), ("-X", "dev", "-W", "error"), ("-O",)], ids=["plain", "-P", "dev", "-O"]
    )
    def test_script(self, tmp_path, options):
        write(tmp_path / "elsewhere" / "script.py", SURROUNDINGS)
        both("elsewhere/script.py", "one", "-m", "--", "--help", cwd=tmp_path, options=options)

    def test_symbolic_link(self, tmp_path):
        write(tmp_path / "real" / "script.py", SURROUNDINGS)
        (tmp_path / "link").symlink_to("real/script.py")
        both("link", cwd=tmp_path)

    @pytest.mark.parametrize("options", [(), ("-P",)], ids=["plain", "-P"])
    def test_module(self, tmp_path, options):
        write(tmp_path / "package" / "__init__.py", "")
        write(tmp_path / "package" / "module.py", SURROUNDINGS)
        env = {"PYTHONPATH": f"{environment()['PYTHONPATH']}:{tmp_path}"}
        both("-m", "package.module", "-m", "x", "--help", cwd=tmp_path, options=options, **env)

    def test_module_in_the_current_directory(self, tmp_path):
        write(tmp_path / "module.py", SURROUNDINGS)
        both("-m", "module", cwd=tmp_path)
        ours = atoll_command("run", "-mmodule", "x", cwd=tmp_path)
        assert f"{str(tmp_path / 'module.py')!r}, 'x'" in ours.stdout, ours

    def test_package(self, tmp_path):
        write(tmp_path / "package" / "__main__.py", SURROUNDINGS)
        both("-m", "package", cwd=tmp_path)

    @pytest.mark.parametrize("kind", ["directory", "zip"])
    def test_directory_and_zip_file(self, tmp_path, kind):
        write(tmp_path / "application" / "__main__.py", SURROUNDINGS)
        if kind == "zip":
            with zipfile.ZipFile(tmp_path / "application.zip", "w") as file:
                file.write(tmp_path / "application" / "__main__.py", "__main__.py")
        both("application" + (".zip" if kind == "zip" else ""), "x", cwd=tmp_path)

    def test_compiled(self, tmp_path):
        write(tmp_path / "script.py", SURROUNDINGS)
        source = "import py_compile; py_compile.compile('script.py', 'script.pyc')"
        python("-c", source, cwd=tmp_path)
        both("script.pyc", cwd=tmp_path)

    def test_standard_input(self, tmp_path):
        assert run_source("print(input() + input())", tmp_path, stdin="one\ntwo\n").stdout == "onetwo\n"

    @pytest.mark.parametrize("options", [(), ("-P",)], ids=["plain", "-P"])
    def test_script_from_standard_input(self, tmp_path, options):
        source = textwrap.dedent(SURROUNDINGS) + "print(sys.stdin.read())\n"
        both("-", "one", "-m", "--help", cwd=tmp_path, stdin=source, options=options)

    @pytest.mark.parametrize(
        "source",
        ["", "x = (", "if 1:\n    1 / 0\n", "raise SystemExit(3)"],
        ids=["", "syntax", "error", "exit"],
    )
    def test_end_of_a_script_from_standard_input(self, tmp_path, source):
        both("-", cwd=tmp_path, stdin=source)

    def test_standard_input_is_closed(self, tmp_path):
        done = python(
            "-c",
            "import os, sys; os.close(0); os.execv(sys.executable, [sys.executable, '-m', 'atoll', 'run', '-'])",
            cwd=tmp_path,
        )
        assert (done.returncode, done.stdout) == (2, ""), done
        assert done.stderr == "python -m atoll run: standard input is closed\n"

    def test_encoding_of_the_source(self, tmp_path):
        (tmp_path / "script.py").write_bytes("# coding: latin-1\nprint(ascii('é'))\n".encode("latin-1"))
        assert both("script.py", cwd=tmp_path).stdout == "'\\xe9'\n"

    def test_main_is_a_module(self, tmp_path):
        source = """
            import pickle, __main__
            class Thing: pass
            print(pickle.loads(pickle.dumps(Thing())).__class__ is Thing is __main__.Thing)
            """
        assert run_source(source, tmp_path).stdout == "True\n"

    def test_code(self, tmp_path):
        both("-c", textwrap.dedent(SURROUNDINGS), "-c", "x", "--help", cwd=tmp_path)

    def test_indented_code(self, tmp_path):
        both("-c", "    print(1)\n    print(2)", cwd=tmp_path)
        ours = atoll_command("run", "-cimport sys; print(sys.argv)", "x", cwd=tmp_path)
        assert ours.stdout == "['-c', 'x']\n", ours

    def test_another_interpreter(self, tmp_path):
        write(
            tmp_path / "script.py",
            "import atoll; print(atoll.get_current().id, atoll.get_current().is_running())",
        )
        assert atoll_command("run", "script.py", cwd=tmp_path).stdout == "1 True\n"


class TestEnd:
    @pytest.mark.parametrize(
        "code", ["", "None", "0", "7", "-1", "256", "True", "2**40", "'text'", "(1, 'x')", "2.0"]
    )
    def test_exit(self, tmp_path, code):
        run_source(f"import sys\nprint('before')\nsys.exit({code})", tmp_path)

    @pytest.mark.parametrize(
        "source",
        [
            "raise KeyboardInterrupt",
            "class Own(KeyboardInterrupt): pass\nraise Own",
            "import sys\nsys.excepthook = lambda *error: sys.exit(5)\nraise KeyboardInterrupt",
            "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nraise KeyboardInterrupt",
            "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\nraise KeyboardInterrupt",
        ],
        ids=["as it is", "a subclass", "a hook that exits", "SIGINT ignored", "SIGINT blocked"],
    )
    def test_keyboard_interrupt_ends_the_process_by_sigint(self, tmp_path, source):
        """A shell's loop ends with a program that has ended so, and goes on after any exit status."""
        run_source(source, tmp_path)

    def test_keyboard_interrupt_beside_a_thread_that_nothing_can_end(self, tmp_path):
        source = """
            import ctypes, threading
            semaphore = ctypes.create_string_buffer(32) # of whatever size sem_t is
            threading.Thread(target=ctypes.CDLL(None).sem_wait, args=(semaphore,), daemon=True).start()
            raise KeyboardInterrupt
            """
        run_source(source, tmp_path)

    @pytest.mark.parametrize("kind", ["ValueError", "SystemExit", "KeyboardInterrupt"])
    def test_exit_with_what_has_no_text(self, tmp_path, kind):
        source = f"""
            import sys
            class Code:
                def __str__(self): raise {kind}("no text")
            sys.exit(Code())
            """
        write(tmp_path / "script.py", source)
        for command in (["script.py"], ["-m", "atoll", "run", "script.py"]):
            done = python(*command, cwd=tmp_path)
            assert (done.returncode, done.stdout) == (1, ""), done

    def test_exit_with_an_error_output_that_is_another(self, tmp_path):
        """Also where there is none the text is no output of the script's."""
        run_source("import sys\nsys.stderr = None\nsys.exit('text')", tmp_path)

    def test_exit_with_a_member_of_an_enumeration(self, tmp_path):
        """Its class stays where it is: the main interpreter does not import what a script has imported."""
        write(
            tmp_path / "status.py", "print('imported')\nimport enum\nclass Status(enum.IntEnum):\n    BAD = 3"
        )
        done = run_source("import status, sys\nsys.exit(status.Status.BAD)", tmp_path)
        assert (done.returncode, done.stdout) == (3, "imported\n")

    @pytest.mark.parametrize(
        "source",
        [
            "def f(n):\n    return f(n - 1) if n else 1 / 0\nf(3)",
            "try:\n    1 / 0\nexcept Exception as error:\n    raise KeyError('x') from error",
            "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
            "error = ValueError('x')\nerror.add_note('a note')\nraise error",
            "class Own(Exception): pass\nraise Own",
            "x = (1,\n",
            "import missing_module",
            "raise SystemExit from ValueError('x')",
            "import sys\nsys.excepthook = lambda kind, value, trace: print(kind, value, trace.tb_lineno)\n1 / 0",
            "import sys\nsys.excepthook = lambda *details: sys.exit(9)\n1 / 0",
            "import sys\nsys.excepthook = lambda *details: [][0]\n1 / 0",
        ],
        ids=range(11),
    )
    def test_exception(self, tmp_path, source):
        run_source(source, tmp_path)

    def test_exception_in_a_module(self, tmp_path):
        write(tmp_path / "module.py", "1 / 0")
        both("-m", "module", cwd=tmp_path)

    @pytest.mark.parametrize(
        "source",
        ["def f():\n    return 1 / 0\nf()", "x = ("],
        ids=["exception", "syntax"],
    )
    def test_end_of_code(self, tmp_path, source):
        both("-c", source, cwd=tmp_path)

    def test_missing_module(self, tmp_path):
        both("-m", "no_such_module", cwd=tmp_path)

    def test_missing_script(self, tmp_path):
        plain = python("none.py", cwd=tmp_path)
        ours = atoll_command("run", "none.py", cwd=tmp_path)
        assert ours.returncode == plain.returncode == 2
        assert ours.stderr.partition(": ")[2] == plain.stderr.partition(": ")[2]

    @pytest.mark.parametrize("code", ["-1", "-x", "-x == 1; y", "--version", "-c", "-"])
    def test_code_that_looks_like_an_option(self, tmp_path, code):
        both("-c", code, "-x", cwd=tmp_path)

    def test_abbreviated_options(self, tmp_path):
        source = "import sys; print(sys.argv)"
        done = atoll_command("run", "--mem", "500M", "--cpu", "60", "-c", source, "--mem", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "['-c', '--mem']\n"), done

    @pytest.mark.parametrize(
        "arguments", [[], ["--extensions", "none", "x.py"], ["--nothing"], ["-m"], ["-c"]]
    )
    def test_usage(self, tmp_path, arguments):
        done = atoll_command("run", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert done.stderr.startswith("usage: python -m atoll run "), done
        assert "\npython -m atoll run: error: " in done.stderr, done

    def test_exit_functions_and_threads(self, tmp_path):
        source = """
            import atexit, sys, threading
            atexit.register(print, "at exit")
            event = threading.Event()
            def work():
                event.wait()
                print("thread")
            threading.Thread(target=work).start()
            threading.Timer(0.05, event.set).start()
            sys.stdout.write("unfinished ")
            """
        assert run_source(source, tmp_path).stdout == "unfinished thread\nat exit\n"

    def test_exit_at_once(self, tmp_path):
        run_source("import os\nos._exit(3)", tmp_path)

    def test_output_that_cannot_be_written(self, tmp_path):
        write(tmp_path / "script.py", "print('x')")
        for command in (["script.py"], ["-m", "atoll", "run", "script.py"]):
            with open("/dev/full", "w") as full:
                done = subprocess.run(
                    [sys.executable, *command],
                    cwd=tmp_path,
                    env=environment(),
                    stdout=full,
                    stderr=subprocess.PIPE,
                    text=True,
                    timeout=PATIENCE,
                )
            assert "No space left on device" in done.stderr, done
            assert done.returncode == 120, done

    @pytest.mark.parametrize(
        ("name", "flush"),
        [
            ("stdout", "raise RuntimeError('cannot')"),
            ("stderr", "raise RuntimeError('cannot')"),
            ("stdout", "sys.exit(3)"),
            ("stdout", None),
            ("stderr", None),
        ],
    )
    def test_output_of_another_kind(self, tmp_path, name, flush):
        """What cannot be flushed at the end is an error, whatever it is, but for what says that it is closed."""
        source = f"""
            import sys
            class Output:
                closed = False
                def write(self, text): pass
                {f"def flush(self): {flush}" if flush else ""}
            output = Output()
            output.closed = sys.argv[1] == "closed"
            sys.{name} = output
            """
        write(tmp_path / "script.py", source)
        for closed in ("open", "closed"):
            plain = python("script.py", closed, cwd=tmp_path)
            ours = atoll_command("run", "script.py", closed, cwd=tmp_path)
            assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout), (plain, ours)
            assert ours.returncode == (120 if closed == "open" else 0), ours
            assert ("cannot" in ours.stderr) == (
                closed == "open" and name == "stdout" and "cannot" in str(flush)
            )


class TestInterrupt:
    @pytest.mark.parametrize(
        "work",
        ["while True: pass", "import time\nwhile True: time.sleep(0.01)"],
        ids=["spinning", "sleeping"],
    )
    def test_uncaught(self, tmp_path, work):
        done = self.interrupt(f"print('ready', flush=True)\n{work}", tmp_path)
        assert done.returncode == -signal.SIGINT, done
        assert done.stderr.splitlines()[0] == "Traceback (most recent call last):", done
        assert done.stderr.splitlines()[1].startswith(f'  File "{tmp_path}/script.py", line '), done
        assert done.stderr.splitlines()[-1] == "KeyboardInterrupt", done

    def test_caught(self, tmp_path):
        source = """
            import sys
            try:
                print("ready", flush=True)
                while True:
                    pass
            except KeyboardInterrupt:
                sys.exit(5)
            """
        done = self.interrupt(source, tmp_path)
        assert (done.returncode, done.stderr) == (5, ""), done

    def interrupt(self, source, tmp_path):
        """Run a script of this source, send SIGINT when it says 'ready', and return how it ended."""
        write(tmp_path / "script.py", source)
        command = [sys.executable, "-m", "atoll", "run", "script.py"]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None and process.stdout.readline() == "ready\n"
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=PATIENCE)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)


class TestExtensions:
    REFUSED = "readline" if VERSION >= (3, 13) else "_decimal"

    @pytest.mark.parametrize("how", ["option", "environment"])
    def test_strict(self, tmp_path, how):
        write(tmp_path / "script.py", f"import {self.REFUSED}")
        if how == "option":
            done = atoll_command("run", "--extensions", "strict", "script.py", cwd=tmp_path)
        else:
            done = atoll_command("run", "script.py", cwd=tmp_path, ATOLL_EXTENSIONS="strict")
        assert done.returncode == 1, done
        assert "does not support loading in subinterpreters" in done.stderr, done


class TestLimits:
    """--memory-limit and --cpu-limit."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, tmp_path):
        self.cwd = tmp_path

    def run(self, *arguments):
        return python("-m", "atoll", "run", *arguments, cwd=self.cwd)

    def test_memory(self):
        done = self.run("--memory-limit", "64M", "-c", "x = bytearray(100 << 20)")
        assert done.returncode == 1
        assert done.stderr.rstrip().endswith("MemoryError")
        done = self.run("--memory-limit=64M", "-c", "x = bytearray(10 << 20); print(len(x))")
        assert (done.returncode, done.stdout) == (0, "10485760\n")

    def test_traceback(self):
        """It is whole, though a limit has been reached."""
        script = self.cwd / "script.py"
        for option, line, name in (
            ("--memory-limit=50M", "while True: x.append(object())", "MemoryError"),
            ("--cpu-limit=200ms", "while True: len(x)", "KeyboardInterrupt"),
        ):
            script.write_text(f"x = []\ndef grow():\n    {line}\ngrow()\n")
            done = self.run(option, str(script))
            lines = done.stderr.splitlines()
            end = lines.index(name)
            # Behind it there may be another one: what is done at the end of a script is interrupted, too.
            assert lines[:end].count("Traceback (most recent call last):") == 1, done.stderr
            assert {"    grow()", f"    {line}"} <= set(lines[:end]), done.stderr

    def test_cpu(self):
        done = self.run("--cpu-limit", "200ms", "-c", "while True: pass")
        assert done.returncode == 152
        assert "KeyboardInterrupt" in done.stderr
        assert done.stderr.rstrip().endswith("cpu_limit is 0.2 seconds")

    def test_too_small(self):
        done = self.run("--memory-limit", "10k", "-c", "pass")
        assert done.returncode == 2
        assert "memory_limit of 10240 bytes is too small" in done.stderr

    @pytest.mark.parametrize(
        ("text", "number"), [("1", 1), ("500M", 500 << 20), ("2g", 2 << 30), ("1.5K", 1536), ("3T", 3 << 40)]
    )
    def test_size(self, text, number):
        assert size(text) == number

    @pytest.mark.parametrize(
        ("text", "number"), [("10", 10), ("0.5", 0.5), ("500ms", 0.5), ("2s", 2), ("5m", 300), ("1h", 3600)]
    )
    def test_seconds(self, text, number):
        assert seconds(text) == number

    @pytest.mark.parametrize("convert", [size, seconds])
    @pytest.mark.parametrize("text", ["", "M", "0", "-1", "nan", "inf", "1X", "1MM", "ten", "1 2", "1e400"])
    def test_wrong(self, convert, text):
        with pytest.raises(argparse.ArgumentTypeError, match="must be"):
            convert(text)

    @pytest.mark.parametrize("option", ["--memory-limit", "--cpu-limit"])
    def test_wrong_option(self, option):
        done = self.run(option, "nothing", "-c", "pass")
        assert done.returncode == 2
        assert f"argument {option}: must be a number of" in done.stderr
