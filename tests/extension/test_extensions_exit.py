"""The end of interpreters with isolated extensions, and of the process: what runs when, and that nothing is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

import ext_use
from helpers import EMULATED, VERSION, check_ended, run_python

pytest_plugins = ["ext_fixtures"]
pytestmark = pytest.mark.usefixtures("corpus")

MODES = pytest.mark.parametrize("options", [(), ("-X", "dev")], ids=["plain", "dev"])
START = """
import atoll, ext_use, os, sys, time
"""


def run_script(source, *options, **details):
    """Run the source in a process of its own."""
    return run_python(START + source, *options, **details)


def check_warned(done, out=None):
    """Assert that the process ended well, and warned about an interpreter that was left open."""
    check_ended(done, 0, out)
    assert done.stderr.count("RuntimeWarning") == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


class TestExitFunctions:
    """Py_AtExit(), atexit() and destructors of a copy."""

    SOURCE = """
interp = ext_use.create()
interp.exec('''
import atexit, os, ext_exit
ext_exit.tell(1, {c_atexit})
ext_exit.bump()
atexit.register(os.write, 1, b"Python's atexit\\\\n")
''')
{rest}
"""
    PY_AT_EXIT = ["Python's atexit", "Py_AtExit third 1", "Py_AtExit second 1", "Py_AtExit first 1"]

    def check_order(self, lines, c_atexit=True):
        assert lines[:4] == self.PY_AT_EXIT
        assert lines.count("destructor 1") == 1
        assert lines.count("atexit 1") == (1 if c_atexit else 0)

    @MODES
    def test_close(self, options):
        """Those of Py_AtExit() after the interpreter's own, before the copy goes; each of them once."""
        rest = "interp.close(); os.write(1, b'closed\\n')"
        done = run_script(self.SOURCE.format(c_atexit=True, rest=rest), *options)
        check_ended(done, 0, clean=True)
        lines = done.stdout.splitlines()
        self.check_order(lines)
        assert lines.index("closed") >= 4
        assert len(lines) == 7

    def test_exit_without_close(self):
        done = run_script(self.SOURCE.format(c_atexit=True, rest="os.write(1, b'')"))
        check_warned(done)
        lines = done.stdout.splitlines()
        self.check_order(lines)
        assert len(lines) == 6

    def test_main_has_its_own(self):
        rest = """
import ext_exit
ext_exit.tell(1, False)
ext_exit.bump(), ext_exit.bump()
interp.close()
os.write(1, b"closed\\n")
"""
        done = run_script(self.SOURCE.format(c_atexit=False, rest=rest))
        check_ended(done, 0, clean=True)
        lines = done.stdout.splitlines()
        self.check_order(lines, c_atexit=False)
        closed = lines.index("closed")
        assert lines[closed:].index("Py_AtExit third 2") < lines[closed:].index("Py_AtExit first 2")
        assert not any("2" in line for line in lines[:closed])

    def test_each_interpreter_once(self):
        done = run_script("""
for number in range(3):
    interp = ext_use.create()
    interp.exec(f"import ext_exit; ext_exit.tell(1, False); [ext_exit.bump() for _ in range({number + 1})]")
    interp.close()
""")
        check_ended(done, 0, clean=True)
        told = [line for line in done.stdout.splitlines() if line.startswith("Py_AtExit first")]
        assert told == [f"Py_AtExit first {number}" for number in (1, 2, 3)]

    @pytest.mark.parametrize(
        "close",
        [
            "interp.close(wait=False)",
            "threading.Thread(target=interp.close, daemon=True).start()",
            "threading.Thread(target=atoll.create().call, args=(interp.close,), daemon=True).start()",
        ],
    )
    def test_process_ends_meanwhile(self, close):
        """The copy is destroyed once, by whoever is about it, and the process ends afterwards."""
        done = run_script(f"""
import threading
told, writer = os.pipe()
interp = ext_use.create()
interp.exec(f"import ext_exit; ext_exit.tell({{writer}}, False); ext_exit.last(400)")
{close}
lines = b""
while b"destructor begins" not in lines:
    lines += os.read(told, 1000)
os.set_blocking(told, False)
os.dup2(1, writer)
""")
        assert (done.returncode, done.stdout) == (0, "destructor 0\n"), done.stderr


class TestExit:
    @MODES
    def test_without_close(self, options):
        """Every module of the corpus in two interpreters and in main, none of them closed."""
        done = run_script(
            f"""
interps = [ext_use.create() for _ in range(2)]
for module in {ext_use.ISOLATED}:
    for interp in interps:
        interp.call(ext_use.use_fresh, module)
    ext_use.use_fresh(module)
print("end")
""",
            *options,
        )
        check_warned(done, "end\n")

    @pytest.mark.parametrize("close", [True, False], ids=["closed", "open"])
    def test_foreign_threads_call(self, close):
        done = run_script(f"""
interps = [ext_use.create() for _ in range(2)]
for interp in interps:
    interp.call(ext_use.start_forever, 3)
if {close}:
    for interp in interps:
        interp.close()
    later = ext_use.create()
    assert later.call(ext_use.foreign_run, 10, 2)[0] == (20, 0)
    later.close()
print("end")
""")
        if close:
            check_ended(done, 0, "end\n", clean=True)
        else:
            check_ended(done, 0, "end\n")
            assert "Fatal" not in done.stderr

    def test_foreign_threads_of_main(self):
        """They may call while interpreters come and go."""
        done = run_script("""
ext_use.start_forever(2)
for _ in range(5):
    interp = ext_use.create()
    interp.call(ext_use.foreign_run, 10, 2)
    interp.close()
ext_use.stop_forever()
print("end")
""")
        check_ended(done, 0, "end\n", clean=True)

    @pytest.mark.parametrize("close", [True, False], ids=["closed", "open"])
    def test_thread_without_python(self, close):
        """A native thread that is running in the copy's code when the interpreter, and later the process, ends."""
        done = run_script(f"""
r, w = os.pipe()
interp = ext_use.create()
interp.call(ext_use.call, "ext_worker", "start", w)
os.read(r, 1)
if {close}:
    interp.close()
time.sleep(0.01)
print("end")
""")
        check_ended(done, 0, "end\n")
        assert ("RuntimeWarning" in done.stderr) is not close

    @pytest.mark.parametrize("foreign", [True, False])
    def test_pending_call_that_never_ran(self, foreign):
        done = run_script(f"""
interp = ext_use.create()
interp.call(ext_use.add_pending, {foreign}, 1)
interp.close()
print("end")
""")
        check_ended(done, 0, clean=True)
        assert "end\n" in done.stdout

    def test_thread_outlives_its_interpreter(self):
        """A thread that has used thread-local objects and pthread keys of copies ends after their interpreters."""
        done = run_script("""
import threading
used, go = threading.Event(), threading.Event()
def work():
    for _ in range(3):
        interp = ext_use.create()
        interp.call(ext_use.call, "ext_thread_local", "touch")
        interp.call(ext_use.call, "ext_keys", "set", 1)
        interp.close()
    used.set()
    go.wait()
threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
used.wait()
go.set()
[thread.join() for thread in threads]
work_in_main = ext_use.create()
work_in_main.call(ext_use.call, "ext_thread_local", "touch")
work_in_main.call(ext_use.call, "ext_keys", "set", 1)
work_in_main.close()
print("end")
""")
        check_ended(done, 0, "end\n", clean=True)

    def test_uncaught_exception(self):
        done = run_script("""
interp = ext_use.create()
interp.call(ext_use.use_fresh, "ext_static_types")
raise LookupError("told")
""")
        check_ended(done, 1)
        assert "LookupError: told" in done.stderr

    def test_subprocess(self):
        """A process started from an interpreter with extensions."""
        done = run_script("""
interp = ext_use.create()
interp.call(ext_use.use_fresh, "ext_single")
interp.exec("import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', 'print(6 * 7)']))")
interp.close()
""")
        check_ended(done, 0, "b'42\\n'\n", clean=True)


COUNTS = """
def descriptors():
    return len(os.listdir("/proc/self/fd"))
def mappings():
    with open("/proc/self/maps") as file:
        return sum("ext" in line for line in file)
def cycle(modules):
    interp = ext_use.create()
    for module in modules:
        interp.call(ext_use.use_fresh, module)
    interp.close()
"""


class TestNothingLeft:
    MODULES = ["ext_single", "ext_static_types", "ext_multi", "extpkg._runpath", "ext_foreign", "ext_unique"]

    def test_fifty_cycles(self, tmp_path):
        """Descriptors, mappings and files after many interpreters are as many as after a few."""
        done = run_script(
            f"""{COUNTS}
modules = {self.MODULES}
for _ in range(5):
    cycle(modules)
before = descriptors(), mappings()
for _ in range(50):
    cycle(modules)
after = descriptors(), mappings()
print(after[0] - before[0], after[1] <= before[1] or (before, after))
""",
            environment={"ATOLL_CLONE_DIR": str(tmp_path)},
        )
        check_ended(done, 0, "0 True\n", clean=True)
        assert os.listdir(tmp_path) == []

    def test_keys_are_given_back(self):
        """A process has 1,024 pthread keys; those of a copy end with its interpreter."""
        done = run_script("""
for _ in range(30):
    interp = ext_use.create()
    interp.call(ext_use.call, "ext_keys", "more", 60)
    interp.close()
print("end")
""")
        check_ended(done, 0, "end\n", clean=True)

    def test_initial_exec_is_given_back_or_reused(self):
        """60 copies one after the other need more of the process's room than there is: 32 bytes of 1.7 KB each."""
        done = run_script("""
for _ in range(60):
    interp = ext_use.create()
    interp.call(ext_use.use_fresh, "ext_tls_initial")
    interp.close()
print("end")
""")
        check_ended(done, 0, "end\n", clean=True)

    @pytest.mark.parametrize("end", ["pass", "os._exit(0)", "os.kill(os.getpid(), 9)", "os.abort()"])
    def test_no_file_whatever_the_end(self, tmp_path, end):
        done = run_script(
            f"""
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
interps = [ext_use.create() for _ in range(2)]
for interp in interps:
    for module in {self.MODULES}:
        interp.call(ext_use.use_fresh, module)
{end}
""",
            environment={"ATOLL_CLONE_DIR": str(tmp_path)},
        )
        assert done.returncode == {"os.kill(os.getpid(), 9)": -9, "os.abort()": -6}.get(end, 0), done.stderr
        assert os.listdir(tmp_path) == []

    def test_no_file_after_failed_imports(self, tmp_path, corpus):
        from ext_build import SUFFIX

        done = run_script(
            f"""{COUNTS}
interp = ext_use.create()
interp.call(ext_use.failure, "init_raises", {str(corpus / f"ext_wrong{SUFFIX}")!r})
before = descriptors()
for _ in range(20):
    for name in ("ext_missing", "ext_undefined"):
        assert interp.call(ext_use.failure, name, None)[0] == "ImportError"
    for name in ("init_raises", "exec_raises", "no_such_function"):
        assert interp.call(ext_use.failure, name, {str(corpus / f"ext_wrong{SUFFIX}")!r})[0] != "imported"
print(descriptors() - before)
interp.close()
""",
            environment={"ATOLL_CLONE_DIR": str(tmp_path)},
        )
        check_ended(done, 0, "0\n", clean=True)
        assert os.listdir(tmp_path) == []


class TestPlaces:
    """Where the copies' files are while they are needed."""

    SOURCE = f"""{COUNTS}
interps = [ext_use.create() for _ in range(2)]
for module in {TestNothingLeft.MODULES}:
    for interp in interps:
        interp.call(ext_use.use_fresh, module)
before = descriptors()
print(sorted({{one.how for one in interps[0].call(ext_use.extensions)}}))
for _ in range(5):
    cycle({TestNothingLeft.MODULES})
assert descriptors() == before, (descriptors(), before)
for interp in interps:
    interp.close()
print("end")
"""

    @pytest.mark.parametrize("folder", ["/nonexistent", "/proc", "/dev/null", ""])
    def test_useless_folder(self, folder):
        done = run_script(self.SOURCE, environment={"ATOLL_CLONE_DIR": folder})
        check_ended(done, 0, "['isolated']\nend\n", clean=True)

    def test_memory(self, tmp_path):
        done = run_script(self.SOURCE, environment={"ATOLL_CLONE_DIR": "memory"})
        check_ended(done, 0, "['isolated']\nend\n", clean=True)
        assert os.listdir(tmp_path) == []

    def test_given_folder(self, tmp_path):
        done = run_script(self.SOURCE, environment={"ATOLL_CLONE_DIR": str(tmp_path)})
        check_ended(done, 0, "['isolated']\nend\n", clean=True)
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("option", ["noexec", "ro"])
    def test_unusable_file_system(self, tmp_path, option):
        """A folder from which nothing may be executed, or to which nothing can be written."""
        if shutil.which("unshare") is None:
            pytest.skip("needs unshare")
        mount = f"mount -t tmpfs -o {option} none {tmp_path}"
        prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
        if subprocess.run([*prefix, mount], capture_output=True).returncode != 0:
            pytest.skip("no file system may be mounted here, not even in a name space of its own")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ATOLL"))
        }
        environment["PYTHONPATH"] = os.pathsep.join([*filter(None, sys.path), str(ext_use.TESTS)])
        environment["ATOLL_CLONE_DIR"] = str(tmp_path)
        done = subprocess.run(
            [
                *prefix,
                f'{mount} && exec "$@"',
                "sh",
                sys.executable,
                "-X",
                "faulthandler",
                "-c",
                START + self.SOURCE,
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        check_ended(done, 0, "['isolated']\nend\n", clean=True)

    def test_whole_copies_for_debuggers(self, tmp_path):
        """ATOLL_DEBUG_CLONES=1: files with all sections, under readable names, that are there until the end."""
        done = run_script(
            """
interp = ext_use.create()
interp.call(ext_use.use_fresh, "ext_single")
[one] = interp.call(ext_use.extensions)
print(os.path.basename(one.clone) == f"ext_single.atoll{interp.id}.so", os.path.isfile(one.clone))
print(os.path.getsize(one.clone) >= os.path.getsize(one.file))
with open("/proc/self/maps") as file:
    print(one.clone in file.read())
interp.call(ext_use.use, "ext_single")
interp.close()
""",
            environment={"ATOLL_CLONE_DIR": str(tmp_path), "ATOLL_DEBUG_CLONES": "1"},
        )
        check_ended(done, 0, "True True\nTrue\nTrue\n", clean=True)
        assert os.listdir(tmp_path) == []


@pytest.mark.skipif(
    VERSION == (3, 12), reason="large blocks of objects cannot be told from others in CPython 3.12, and stay"
)
class TestMemory:
    @pytest.mark.skipif(EMULATED, reason="an emulator's translations of code are memory of the process")
    def test_flat(self):
        """60 cycles, in which losing 100 KiB a cycle would show."""
        done = run_script(f"""{COUNTS}
def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
modules = {TestNothingLeft.MODULES}
for _ in range(20):
    cycle(modules)
before = memory()
for _ in range(60):
    cycle(modules)
print(memory() - before)
""")
        check_ended(done, 0, clean=True)
        assert int(done.stdout) < 6_000, f"grew by {done.stdout.strip()} KiB"
