"""Traces of whole processes: ATOLL_TRACE, however a process ends, and forks."""

from __future__ import annotations

import json

import pytest

from helpers import check_ended, run_python
from trace_helpers import read, tally

TRACE_SOME = """
import atoll, sys
with atoll.create() as interp:
    for _ in range(5):
        interp.call(abs, -1)
"""


class TestEnvironment:
    def environment(self, tmp_path, name="trace.json"):
        return {"ATOLL_TRACE": str(tmp_path / name)}

    def test_to_the_end_of_the_process(self, tmp_path):
        done = run_python(TRACE_SOME, environment=self.environment(tmp_path))
        check_ended(done, clean=True)
        counts = tally(tmp_path / "trace.json")
        assert counts["call", "abs"] == 5
        assert counts["interpreter", "create"] == counts["interpreter", "close"] == 1

    @pytest.mark.parametrize(
        ("end", "status"),
        [
            ("sys.exit(3)", 3),
            ("raise ValueError", 1),
            (
                "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
                "os.kill(os.getpid(), signal.SIGINT)\nwhile True: pass",
                -2,
            ),
            ("atoll.create(); import atexit; atexit.register(print, 1)", 0),
        ],
    )
    def test_however_it_ends(self, tmp_path, end, status):
        done = run_python(TRACE_SOME + end, environment=self.environment(tmp_path))
        check_ended(done, status)
        assert tally(tmp_path / "trace.json")["call", "abs"] == 5

    def test_a_process_that_ends_with_a_thread_stuck(self, tmp_path):
        done = run_python(
            TRACE_SOME
            + """
import os, threading
reader, writer = os.pipe()
stuck = atoll.create()
threading.Thread(target=stuck.exec, args=(f"import os; os.read({reader}, 1)",), daemon=True).start()
while not stuck.is_running():
    pass
""",
            environment=self.environment(tmp_path),
        )
        check_ended(done, 0)
        assert tally(tmp_path / "trace.json")["call", "abs"] == 5

    def test_one_that_is_killed_leaves_an_empty_trace(self, tmp_path):
        done = run_python(TRACE_SOME + "import os; os._exit(0)", environment=self.environment(tmp_path))
        check_ended(done)
        assert json.loads((tmp_path / "trace.json").read_text()) == {"traceEvents": []}

    def test_the_process_number_in_the_name(self, tmp_path):
        source = TRACE_SOME + "import os; print(os.getpid())"
        done = run_python(source, environment=self.environment(tmp_path, "a%p-%p%%.json"))
        check_ended(done)
        number = done.stdout.strip()
        assert [path.name for path in tmp_path.iterdir()] == [f"a{number}-{number}%%.json"]

    def test_what_cannot_be_written_is_said_before_anything_else(self, tmp_path):
        done = run_python("import atoll", environment=self.environment(tmp_path, "none/trace.json"))
        assert done.returncode == 1
        assert "FileNotFoundError: [Errno 2] ATOLL_TRACE: No such file or directory" in done.stderr

    def test_a_child_process_does_not_write_it(self, tmp_path):
        done = run_python(
            TRACE_SOME
            + """
import subprocess
subprocess.run([sys.executable, "-c", "import atoll; print('child')"], check=True)
""",
            environment=self.environment(tmp_path),
        )
        check_ended(done, 0, "child\n")
        assert "RuntimeWarning: ATOLL_TRACE: another process is writing a trace" in done.stderr
        assert tally(tmp_path / "trace.json")["call", "abs"] == 5

    def test_a_second_trace_beside_it(self, tmp_path):
        done = run_python(
            f"import atoll\nwith atoll.trace({str(tmp_path / 'other.json')!r}): pass",
            environment=self.environment(tmp_path),
        )
        assert done.returncode == 1
        assert "RuntimeError: the trace" in done.stderr
        read(tmp_path / "trace.json")


def test_what_has_the_number_of_its_descriptor_is_left_alone(tmp_path):
    """A program that closes all files, as one does that becomes a daemon, and then opens others."""
    done = run_python(
        f"""
        import atoll, errno, os
        os.chdir({str(tmp_path)!r})
        trace = atoll.trace("trace.json")
        trace.__enter__()
        os.closerange(3, 300)
        files = [open(str(n), "w+") for n in range(50)]
        for file in files:
            print("kept", file=file, flush=True)
        atoll.create().close()
        try:
            trace.__exit__(None, None, None)
        except OSError as error:
            assert error.errno == errno.EBADF, error
        else:
            raise AssertionError("it was written")
        for file in files:
            file.seek(0)
            assert file.read() == "kept\\n"
        """
    )
    check_ended(done)
    assert read(tmp_path / "trace.json") == []


class TestFork:
    def test_the_child_does_not_write_the_parents_file(self, tmp_path):
        path = tmp_path / "trace.json"
        done = run_python(
            f"""
            import atoll, os, warnings
            warnings.simplefilter("ignore")
            interp = atoll.create()
            with atoll.trace({str(path)!r}) as trace:
                interp.call(abs, -1)
                pid = os.fork()
                if pid == 0:
                    with atoll.create() as own:
                        own.call(pow, 2, 2)
                        with atoll.trace({str(tmp_path / "child.json")!r}):
                            own.call(len, "abc")
                else:
                    assert os.waitpid(pid, 0)[1] == 0
                    interp.call(abs, -1)
            if pid == 0:
                assert trace.events == 0
            else:
                interp.close()
            """
        )
        check_ended(done)
        counts = tally(path)
        assert counts["call", "abs"] == 2
        assert ("call", "pow") not in counts
        assert ("call", "len") not in counts
        assert tally(tmp_path / "child.json")["call", "len"] == 1

    def test_the_environments_trace(self, tmp_path):
        done = run_python(
            TRACE_SOME
            + """
import os
pid = os.fork()
if pid == 0:
    with atoll.create() as interp:
        interp.call(pow, 2, 2)
else:
    assert os.waitpid(pid, 0)[1] == 0
""",
            "-W",
            "ignore",
            environment={"ATOLL_TRACE": str(tmp_path / "%p.json")},
        )
        check_ended(done)
        (path,) = tmp_path.iterdir()
        counts = tally(path)
        assert counts["call", "abs"] == 5
        assert ("call", "pow") not in counts

    def test_while_others_note_and_write(self, tmp_path):
        done = run_python(
            f"""
            import atoll, os, threading, warnings
            warnings.simplefilter("ignore")
            over = threading.Event()
            def work():
                with atoll.create() as interp:
                    while not over.is_set():
                        interp.call(abs, -1)
            def trace():
                while not over.is_set():
                    with atoll.trace({str(tmp_path / "trace.json")!r}, max_events=5000):
                        pass
            import gc  # CPython's lock of a module that another thread imports at a fork stays taken in the child
            threads = [threading.Thread(target=work), threading.Thread(target=trace)]
            for thread in threads:
                thread.start()
            for _ in range(30):
                pid = os.fork()
                if pid == 0:
                    with atoll.trace({str(tmp_path / "child.json")!r}), atoll.create() as own:
                        own.call(abs, -1)
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            over.set()
            for thread in threads:
                thread.join()
            """
        )
        check_ended(done)
        assert tally(tmp_path / "child.json")["call", "abs"] == 1
        read(tmp_path / "trace.json")
