"""Modules of CPython's that keep one state for the process, used in an interpreter: what they do there, and to main."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys

import pytest

from helpers import PATIENCE, TESTS, VERSION, check_ended, run_python


class TestFaulthandler:
    """It acts for the process, whoever asks, and goes on when that interpreter is closed."""

    def test_enabled_and_disabled(self):
        done = run_python("""
import atoll, faulthandler
def enabled():
    import faulthandler
    return faulthandler.is_enabled()
def enable(*args, **kwargs):
    import faulthandler
    return faulthandler.enable(*args, **kwargs)
def disable():
    import faulthandler
    return faulthandler.disable()
faulthandler.disable()
one, other = atoll.create(), atoll.create()
print([interp.call(enabled) for interp in (one, other)], faulthandler.is_enabled())
one.call(enable)
print([interp.call(enabled) for interp in (one, other)], faulthandler.is_enabled())
one.close()
print(other.call(enabled), faulthandler.is_enabled())
print(other.call(disable), faulthandler.is_enabled())
other.call(enable, 2, all_threads=False)
other.close()
print(faulthandler.is_enabled())
""")
        expected = "[False, False] False\n[True, True] True\nTrue True\nTrue False\nTrue\n"
        check_ended(done, 0, expected, clean=True)

    @pytest.mark.parametrize("where", ["open", "closed"])
    def test_crash(self, tmp_path, where):
        """A crash is told to the file that an interpreter gave, also when that interpreter is gone."""
        report = tmp_path / "report"
        done = run_python(f"""
import atoll, os, resource, signal
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
interp = atoll.create()
descriptor = os.open({str(report)!r}, os.O_WRONLY | os.O_CREAT)
interp.exec(f"import faulthandler; faulthandler.enable(open({{descriptor}}, 'w', closefd=False), True)")
if {where == "closed"}:
    interp.close()
os.kill(os.getpid(), signal.SIGSEGV)
""")
        assert done.returncode == -11, done.stderr
        assert "Segmentation fault" in report.read_text()
        assert done.stderr == ""

    @pytest.mark.parametrize("where", ["open", "closed"])
    @pytest.mark.parametrize(
        "how", ["enable(open({!r}, 'w'))", "enable(all_threads=False, file=open({!r}, 'w'))"]
    )
    def test_file_that_nobody_else_keeps(self, tmp_path, where, how):
        """It stays open, so that nobody else's file is written to, and is closed when it is replaced."""
        report, data = tmp_path / "report", tmp_path / "data"
        done = run_python(
            f"""
import atoll, os, resource, signal
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
def count():
    return len(os.listdir("/proc/self/fd"))
interp = atoll.create()
interp.exec("import faulthandler; faulthandler.enable()")
before = count()
for _ in range(3):
    interp.exec("faulthandler." + {how!r}.format({str(report)!r}))
print(count() - before)
with open({str(data)!r}, "wb", buffering=0) as file:
    if {where == "closed"}:
        interp.close()
    file.write(b"mine")
    if os.fork() == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    os.wait()
if {where == "open"}:
    interp.exec("faulthandler.enable()")
    print(count() - before)
    interp.close()
""",
            "-W",
            "ignore",
        )
        check_ended(done, 0, "1\n0\n" if where == "open" else "1\n", clean=True)
        assert "Segmentation fault" in report.read_text()
        assert data.read_bytes() == b"mine"

    def test_registered_signal(self):
        done = run_python("""
import atoll, os, signal, time
reader, writer = os.pipe()
interp = atoll.create()
interp.exec(f"import faulthandler, signal; faulthandler.register(signal.SIGUSR1, {writer}, all_threads=False)")
for _ in range(2):
    os.kill(os.getpid(), signal.SIGUSR1)
    print("most recent call first" in os.read(reader, 10_000).decode())
    if _ == 0:
        interp.close()
later = atoll.create()
later.exec("import faulthandler, signal; print(faulthandler.unregister(signal.SIGUSR1), flush=True)")
later.close()
""")
        check_ended(done, 0, "True\nTrue\nTrue\n", clean=True)

    def test_dump_later(self):
        """Set in an interpreter that is closed before it is due."""
        done = run_python("""
import atoll, os
reader, writer = os.pipe()
interp = atoll.create()
interp.exec(f"import faulthandler; faulthandler.dump_traceback_later(0.3, file={writer})")
interp.close()
print("Timeout" in os.read(reader, 10_000).decode())
later = atoll.create()
later.exec(f"import faulthandler; faulthandler.dump_traceback_later(1000, False, {writer}, exit=True)")
later.exec("import faulthandler; faulthandler.cancel_dump_traceback_later()")
later.close()
""")
        check_ended(done, 0, "True\n", clean=True)

    def test_traceback_of_the_caller(self):
        """What concerns the calling thread is done where it is."""
        done = run_python("""
import atoll, os
reader, writer = os.pipe()
def inner(descriptor):
    import faulthandler
    faulthandler.dump_traceback(descriptor)
interp = atoll.create()
interp.call(inner, writer)
print("in inner" in os.read(reader, 10_000).decode())
interp.close()
""")
        check_ended(done, 0, "True\n", clean=True)

    def test_wrong_arguments(self):
        """The errors are those that main gets."""
        done = run_python("""
import atoll, faulthandler, os, sys
def errors():
    import faulthandler, os, sys
    def attempt(name, *args, **kwargs):
        try:
            return getattr(faulthandler, name)(*args, **kwargs)
        except Exception as error:
            return type(error).__name__, str(error), getattr(error, "errno", None)
    closed = os.dup(1)
    os.close(closed)
    found = [
        attempt("enable", -5), attempt("enable", "name"), attempt("enable", nothing=1), attempt("enable", 2, 3, 4, 5),
        attempt("register", 1000), attempt("register", 10, object()), attempt("dump_traceback_later", -1),
        attempt("unregister"), attempt("register", 9, 2), attempt("enable", os.fdopen(os.dup(1), closefd=True).close()),
    ]
    before, sys.stderr = sys.stderr, None
    found.append(attempt("enable"))
    sys.stderr = before
    return found
interp = atoll.create()
expected, found = errors(), interp.call(errors)
print(len(expected) == len(found), [pair for pair in zip(expected, found) if pair[0] != pair[1]])
print(sum(isinstance(one, tuple) for one in expected) >= 8)
interp.close()
""")
        check_ended(done, 0, "True []\nTrue\n", clean=True)


class TestLists:
    """Of users and groups: the C library has one of each that it goes through."""

    def test_at_once(self):
        """In main and two interpreters; with the types and the look that they have there."""
        done = run_python("""
import atoll, grp, inspect, pwd, threading
def look(rounds):
    import grp, pwd
    users, groups = pwd.getpwall(), grp.getgrall()
    assert type(users[0]) is pwd.struct_passwd and pwd.getpwall.__name__ == "getpwall"
    return all(pwd.getpwall() == users and grp.getgrall() == groups for _ in range(rounds)), users, groups
with atoll.create() as one, atoll.create() as other:
    found = []
    threads = [threading.Thread(target=lambda i=i: found.append(i.call(look, 300))) for i in (one, other)]
    for thread in threads:
        thread.start()
    found.append(look(300))
    for thread in threads:
        thread.join()
    print(found == [(True, pwd.getpwall(), grp.getgrall())] * 3)
""")
        check_ended(done, 0, "True\n", clean=True)


class TestTracemalloc:
    SOURCE = """
import atoll, tracemalloc
def start(*args):
    import tracemalloc
    tracemalloc.start(*args)
def look():
    import tracemalloc
    return tracemalloc.is_tracing(), tracemalloc.get_traceback_limit()
interp = atoll.create()
"""

    def test_cannot_be_started(self):
        done = run_python(f"""{self.SOURCE}
for args in ((), (5,)):
    try:
        interp.call(start, *args)
    except atoll.ExecutionFailed as error:
        print(error.excinfo.type.__name__, "main interpreter" in error.excinfo.msg, tracemalloc.is_tracing())
interp.close()
""")
        check_ended(done, 0, "RuntimeError True False\n" * 2, clean=True)

    @pytest.mark.skipif(VERSION < (3, 15), reason="before 3.15 tracing and interpreters exclude each other")
    def test_works_in_main(self):
        """Before and after an interpreter has looked at it."""
        done = run_python(f"""{self.SOURCE}
print(interp.call(look))
tracemalloc.start(3)
print(interp.call(look), tracemalloc.is_tracing())
before = tracemalloc.take_snapshot()
kept = [bytes(1000) for _ in range(100)]
grown = tracemalloc.take_snapshot().compare_to(before, "lineno")
print(sum(one.size_diff for one in grown) > 100_000)
tracemalloc.stop()
print(interp.call(look))
interp.close()
""")
        check_ended(done, 0, "(False, 1)\n(True, 3) True\nTrue\n(False, 3)\n", clean=True)


@pytest.mark.skipif(
    "readline" in sys.builtin_module_names, reason="one that is built in cannot be had: see test_builtin.py"
)
class TestReadline:
    """One line of input belongs to main, whoever else has imported readline."""

    TALK = """
import os, sys
os.environ["TERM"] = "dumb"
{before}
import atoll
interp = atoll.create()
interp.exec('''
import readline
readline.parse_and_bind("tab: complete")
readline.set_completer(lambda text, state: "of the interpreter")
readline.set_startup_hook(lambda: print("hook of the interpreter", flush=True))
readline.add_history("of the interpreter")
''')
{between}
print("=" + input("main> ") + "=", flush=True)
print("=" + input("main> ") + "=", flush=True)
{after}
interp.close()
print("=" + input("main> ") + "=", flush=True)
"""

    def talk(self, **parts):
        """Have main ask for three lines on a terminal; return all that it wrote."""
        source = self.TALK.format(**{"before": "", "between": "", "after": "", **parts})
        ours, theirs = pty.openpty()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ATOLL"))
        }
        environment["PYTHONPATH"] = os.pathsep.join([*filter(None, sys.path), str(TESTS)])
        with subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", source],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            seen, told = b"", 0
            try:
                while True:
                    if not select.select([ours], [], [], PATIENCE)[0]:
                        raise TimeoutError(f"nothing more comes after {seen!r}")
                    try:
                        seen += os.read(ours, 10_000)
                    except OSError:  # the other end is closed
                        break
                    while told < 3 and seen.count(b"main> ") > told:
                        told += 1
                        os.write(ours, b"line %d\n" % told)
            finally:
                os.close(ours)
                if process.poll() is None and told < 3:
                    process.kill()
            assert process.wait(PATIENCE) == 0, seen
        return seen.decode().replace("\r", "")

    def needs_readline(self):
        """Skip the test where Python has no readline."""
        pytest.importorskip("readline")

    def test_input_is_as_before(self):
        self.needs_readline()
        seen = self.talk()
        assert [f"=line {number}=" in seen for number in (1, 2, 3)] == [True] * 3, seen
        assert "of the interpreter" not in seen

    def test_main_has_it_too(self):
        """Each has settings and a history of its own."""
        self.needs_readline()
        before = "import readline; readline.add_history('of main')"
        after = """
print([readline.get_history_item(number) for number in range(1, readline.get_current_history_length() + 1)])
"""
        seen = self.talk(before=before, after=after)
        assert [f"=line {number}=" in seen for number in (1, 2, 3)] == [True] * 3, seen
        assert "['of main', 'line 1', 'line 2']" in seen
        assert "of the interpreter" not in seen
