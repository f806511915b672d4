"""`python -m atoll top` and `stacks`: what another process is doing, in a terminal and for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

import atoll
from atoll._interp import remote
from atoll.cli import main, top, top_table
from cli_helpers import atoll_command, environment, write
from helpers import PATIENCE, Thread, new
from terminal import Terminal

WORK = """
    import atoll, sys, threading

    def spin_\u00e9(word):
        word = word + "!"
        print("ready", flush=True)
        while True:
            pass  # here

    def wait(queue):
        print("ready", flush=True)
        return queue.get()  # waits

    def outer(queue):
        return wait(queue)

    queue = atoll.create_queue(5)
    queue.put(1)
    queue.get()
    one, two = atoll.create(), atoll.create()
    spinning = one.call_in_thread(spin_\u00e9, "x")
    waiting = two.call_in_thread(outer, queue)
    sys.stdin.read()
    import os
    os._exit(0)
    """


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A process with two interpreters: one computes, one waits for a queue."""
    script = write(tmp_path_factory.mktemp("target") / "busy.py", WORK)
    with subprocess.Popen(
        [sys.executable, str(script)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
        yield process
        process.stdin.close()


def needs_memory(target):
    """Skip where processes may not read each other's memory."""
    try:
        remote.Process(target.pid).close()
    except remote.UnreadableError as error:
        if "rights of a debugger" not in str(error) or os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def line_of(text):
    """Return the number of the line of WORK that has this text."""
    return next(number for number, line in enumerate(WORK.splitlines(), 1) if text in line)


class TestStacks:
    def test_text(self, target, tmp_path):
        needs_memory(target)
        done = atoll_command("stacks", str(target.pid), cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done
        blocks = dict((block.split(",")[0], block) for block in done.stdout.split("\ninterpreter "))
        here, waits = line_of("# here"), line_of("# waits")
        assert (
            f'busy.py", line {here}, in spin_\u00e9' in blocks["1"] or f"line {here - 1}, in" in blocks["1"]
        ), done
        outer, inner = blocks["2"].splitlines()[1:3]
        assert outer.endswith(f'busy.py", line {line_of("return wait(queue)")}, in outer'), done
        assert inner.endswith(f'busy.py", line {waits}, in wait'), done
        assert f"line {line_of('sys.stdin.read')}, in <module>" in done.stdout, done

    def test_json(self, target, tmp_path):
        needs_memory(target)
        done = atoll_command("stacks", "--json", str(target.pid), cwd=tmp_path)
        threads = json.loads(done.stdout)
        [waiting] = [thread for thread in threads if thread["interpreter"] == 2]
        assert [frame["function"] for frame in waiting["frames"]] == ["wait", "outer"]

    def test_this_process(self):
        """The lines are those that Python itself says."""
        with remote.Process(os.getpid()) as process:
            threads, line = process.threads(), sys._getframe().f_lineno
        [own] = [thread for thread in threads if thread.thread == threading.get_native_id()]
        functions = [frame.function for frame in own.frames]
        place = functions.index("TestStacks.test_this_process")
        assert functions[place - 1] == "Process.threads"
        assert own.frames[place] == ("TestStacks.test_this_process", __file__, line)

    def test_lines(self):
        """Those of all instructions of functions, as CPython has them."""
        for function in (
            remote.Process._frames,
            top_table.lines,
            subprocess.Popen.__init__,
            write,
            json.dumps,
        ):
            code = function.__code__
            for place, (line, *_) in enumerate(code.co_positions()):
                assert remote.find_line(code.co_linetable, code.co_firstlineno, place) == line, (code, place)

    def test_a_file_whose_name_is_no_text(self):
        event = atoll.Event()
        with new() as interp:
            interp.prepare_main(event=event)
            thread = Thread(interp.exec, compile("event.wait()", "/tmp/\udcff\u20ac.py", "exec"))
            while interp.stats()["state"] != "blocked":
                pass
            with remote.Process(os.getpid()) as process:
                threads = process.threads()
            event.set()
            thread.result()
        [found] = [thread.frames for thread in threads if thread.interpreter == interp.id]
        assert found[0].file == "/tmp/\ufffd\u20ac.py"

    def test_no_such_process(self, tmp_path):
        done = atoll_command("stacks", "999999999", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (
            1,
            "python -m atoll stacks: there is no process 999999999\n",
        )

    def test_not_python(self, tmp_path):
        with subprocess.Popen(["sleep", "1000"]) as process:
            try:
                with pytest.raises(remote.UnreadableError):
                    remote.Process(process.pid)
            finally:
                process.kill()


class TestTop:
    def test_once(self, target, tmp_path):
        done = atoll_command("top", str(target.pid), "--once", "--interval", "0.3", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done
        lines = done.stdout.splitlines()
        assert f"pid {target.pid}" in lines[0], done
        rows = {line.split()[0]: line for line in lines if line[:4].strip().isdecimal()}
        assert {"0", "1", "2"} <= set(rows), done
        assert "running" in rows["1"], done
        assert "blocked" in rows["2"], done

    def test_json(self, target, tmp_path):
        needs_memory(target)
        done = atoll_command("top", str(target.pid), "--json", "--interval", "0.3", cwd=tmp_path)
        document = json.loads(done.stdout)
        by_id = {row["id"]: row for row in document["interpreters"]}
        assert by_id[1]["frame"]["function"] == "spin_\u00e9"
        assert by_id[1]["cpu"] > 0
        assert by_id[2]["frame"]["function"] == "wait"
        assert by_id[2]["frame"]["line"] == line_of("# waits")
        assert by_id[2]["blocked_on"].startswith("an item of queue")
        [queue] = document["queues"]
        assert (queue["length"], queue["maxsize"]) == (0, 5)

    def test_in_a_terminal(self, target, tmp_path):
        arguments = ("-m", "atoll", "top", str(target.pid), "--interval", "0.05")
        with Terminal(*arguments, cwd=tmp_path) as terminal:
            shown = terminal.wait_for("q quit")
            assert "ID NAME" in shown and "now by cpu" in shown, shown
            terminal.press("m")
            terminal.wait_for("now by memory")
            terminal.resize(60, 8)
            terminal.wait_for("now by mem")
            assert len(terminal.text.splitlines()) == 8
            terminal.resize(120, 30)
            terminal.wait_for("now by memory")
            assert "QUEUE" in terminal.wait_for("QUEUE")
            terminal.press("q")
            assert terminal.wait() == 0

    def test_the_process_ends(self, tmp_path):
        source = "import atoll, sys; print(1, flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", source],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout.readline() == "1\n"
            arguments = ("-m", "atoll", "top", str(process.pid), "--interval", "0.05")
            with Terminal(*arguments, cwd=tmp_path) as terminal:
                terminal.wait_for("q quit")
                process.stdin.close()
                process.wait(PATIENCE)
                assert terminal.wait() == 0
                assert f"process {process.pid} has ended" in terminal.text

    def test_a_process_that_opens_and_closes_files_is_found(self, target, monkeypatch):
        read, missing = os.readlink, []

        def read_some(path):
            if path.startswith(f"/proc/{target.pid}/") and not missing:
                missing.append(path)
                raise FileNotFoundError(path)
            return read(path)

        monkeypatch.setattr(os, "readlink", read_some)
        assert target.pid in top.find_processes()
        assert missing

    def test_names_cannot_write_to_the_terminal(self):
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix="a\nb\x1b[2J") as pool:
            pool.submit(abs, -1).result()
            now = top_table.look(os.getpid())
            text = [
                "".join(piece for piece, _ in line) for line in top_table.lines(top_table.rates(now, now))
            ]
        assert all(line.isprintable() for line in text)
        assert sum("a\ufffdb\ufffd[2J" in line for line in text) == 2

    @pytest.mark.parametrize("columns", [80, 100, 140])
    def test_lines_are_as_long_as_there_are_columns(self, columns):
        """Functions are seen in the narrowest, too."""
        queue = atoll.create_queue(5)
        with (
            atoll.create(name="a name that is rather long") as interp,
            atoll.InterpreterPoolExecutor(1, thread_name_prefix="a pool whose name is long") as pool,
        ):
            pool.submit(abs, -1).result()
            queue.put(None)
            now = top_table.look(os.getpid())
            data = {**top_table.rates(now, now), "note": "words " * 30}
        [row] = [row for row in data["interpreters"] if row["id"] == interp.id]
        row["frame"] = {"function": "work", "file": "/a/file.py", "line": 123}
        row["blocked_on"] = "an item of queue 1"
        text = ["".join(piece for piece, _ in line) for line in top_table.lines(data, "i", columns)]
        assert max(map(len, text)) <= columns, text
        assert any("a na" in line and "work file.py:123"[: columns - 66] in line for line in text), text
        whole = ["".join(piece for piece, _ in line) for line in top_table.lines(data, "i")]
        assert any("work file.py:123 (an item of queue 1)" in line for line in whole), whole

    def test_once_in_a_terminal(self, target, tmp_path):
        arguments = ("-m", "atoll", "top", str(target.pid), "--once", "--interval", "0.05")
        with Terminal(*arguments, cwd=tmp_path, columns=80, lines=40) as terminal:
            assert terminal.wait() == 0
            lines = terminal.text.splitlines()
        [head] = [number for number, line in enumerate(lines) if line.startswith("  ID NAME")]
        assert lines[head].rstrip().endswith("FUNCTION"), lines
        assert {line.split()[0] for line in lines[head + 1 : head + 4]} == {"0", "1", "2"}, lines

    def test_mean_of_waits(self):
        """Those of every eighth task are timed."""
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix="means") as pool:
            for _ in range(9):
                pool.submit(abs, -1).result()
            now = top_table.look(os.getpid())
        [row] = [row for row in top_table.rates(now, now)["pools"] if row["name"] == "means"]
        [stats] = [row for row in now.stats["pools"] if row["name"] == "means"]
        assert row["mean_wait"] == stats["wait"] / 2 > 0

    def test_errors(self, tmp_path, target):
        done = atoll_command("top", "999999999", "--once", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert "there is no process 999999999" in done.stderr
        done = atoll_command("top", str(target.pid), cwd=tmp_path)
        assert done.returncode == 2, done
        assert "this is no terminal: use --once or --json" in done.stderr
        done = atoll_command("top", str(target.pid), "--once", "--interval", "1e300", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert "argument --interval: must be at most 9223372036, not 1e300" in done.stderr

    def test_a_terminal_that_is_not_known(self, target, tmp_path):
        with Terminal("-m", "atoll", "top", str(target.pid), cwd=tmp_path, kind="nonsense") as terminal:
            assert terminal.wait() == 2
            assert "could not find terminal: set TERM, or use --once or --json" in terminal.text
            assert "Traceback" not in terminal.text

    def test_a_long_interval(self, target, tmp_path):
        arguments = ("-m", "atoll", "top", str(target.pid), "--interval", "9e9")
        with Terminal(*arguments, cwd=tmp_path) as terminal:
            terminal.wait_for("q quit")
            terminal.press("q")
            assert terminal.wait() == 0

    def test_a_process_that_may_not_be_looked_at(self, monkeypatch, capsys):
        def listdir(folder):
            raise PermissionError(13, "Permission denied", folder)

        monkeypatch.setattr(os, "listdir", listdir)
        assert main(["top", "1", "--once"]) == 1
        message = "top: process 1 may not be looked at: it is another user's, or protected\n"
        assert capsys.readouterr().err.endswith(message)

    @pytest.mark.parametrize(
        ("function", "number", "text"),
        [
            (top_table.size, None, "-"),
            (top_table.size, 999, "999B"),
            (top_table.size, 1536, "1.5K"),
            (top_table.size, 5 << 30, "5.0G"),
            (top_table.rate, 0, "-"),
            (top_table.rate, 12345, "12k"),
            (top_table.rate, 0.25, "0.2"),
            (top_table.duration, 0, "-"),
            (top_table.duration, 0.0123, "12.3ms"),
            (top_table.duration, 2e-6, "2us"),
        ],
    )
    def test_numbers(self, function, number, text):
        assert function(number) == text
