"""`python -m atoll top` and `stacks`: what another process is doing, in a terminal and for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from atoll._interp import remote
from atoll.cli import top_table
from cli_helpers import atoll_command, environment, write
from helpers import PATIENCE
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

    def test_errors(self, tmp_path, target):
        done = atoll_command("top", "999999999", "--once", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert "there is no process 999999999" in done.stderr
        done = atoll_command("top", str(target.pid), cwd=tmp_path)
        assert done.returncode == 2, done
        assert "this is no terminal: use --once or --json" in done.stderr

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
