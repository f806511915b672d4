"""`python -m atoll map`: results in order, errors with their items, ends of all kinds."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from atoll.cli import main, map_there
from cli_helpers import atoll_command, environment, python, write
from helpers import PATIENCE
from terminal import Terminal

WORK = """
    import os, sys, time
    print("imported", file=sys.stderr)
    def upper(text): return text.upper()
    def lines(path): return len(open(path).read().splitlines())
    def no_b(text):
        if text == "nothing":
            return None
        if text == "b":
            raise ValueError("it is b\\nthat is why")
        return text
    def record(text): return {"text": text}
    def spin(text):
        print("ready", flush=True)
        while True: pass
    def kind(text): return type(text)
    class Shout:
        @staticmethod
        def loud(text): return text + "!"
    number = 3
    async def later(text): return text
    async def several(text): yield text
    def begun(text): return later(text)
    """


@pytest.fixture
def place(tmp_path):
    """A directory with a module of functions."""
    write(tmp_path / "work.py", WORK)
    return tmp_path


def run(place, *arguments, stdin=""):
    """Run the command on input; return how it ended, without what the module writes when it is imported."""
    done = python("-m", "atoll", "map", "-j", "2", *arguments, cwd=place, stdin=stdin)
    done.stderr = done.stderr.replace("imported\n", "")
    return done


def start(place, *arguments, **more):
    """Start it with pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "atoll", "map", "-j", "2", *arguments],
        cwd=place,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


class TestItems:
    def test_paths(self, place):
        write(place / "two", "1\n2\n")
        done = run(place, "work:lines", "two", "work.py", "two")
        assert (done.returncode, done.stderr) == (0, ""), done
        assert done.stdout == f"2\n{len((place / 'work.py').read_text().splitlines())}\n2\n"

    def test_lines_in_order(self, place):
        numbers = "".join(f"{number}\n" for number in range(5000))
        done = run(place, "work:upper", "-", stdin=numbers)
        assert (done.returncode, done.stdout, done.stderr) == (0, numbers, "")

    @pytest.mark.parametrize(
        ("stdin", "expected"),
        [("", ""), ("a\n\nb", "A\n\nB\n"), ("x" * 200_000 + "\ny", "X" * 200_000 + "\nY\n")],
        ids=["none", "empty line", "long"],
    )
    def test_ends_of_lines(self, place, stdin, expected):
        assert run(place, "work:upper", stdin=stdin).stdout == expected

    def test_null(self, place):
        assert run(place, "-0", "work:upper", stdin="a b\0c\nd\0").stdout == "A B\nC\nD\n"

    def test_names_that_are_not_text(self, place):
        command = [sys.executable, "-m", "atoll", "map", "work:upper", b"a\xff"]
        done = subprocess.run(
            command, cwd=place, env=environment(), input=b"", capture_output=True, timeout=PATIENCE
        )
        assert done.stdout == b"A\xff\n", done
        done = subprocess.run(
            command[:-1],
            cwd=place,
            env=environment(),
            input=b"b\xfe\n",
            capture_output=True,
            timeout=PATIENCE,
        )
        assert done.stdout == b"B\xfe\n", done

    def test_a_result_is_there_before_the_next_line(self, place):
        with start(place, "work:upper") as process:
            for line in ("a\n", "b\n"):
                process.stdin.write(line)
                process.stdin.flush()
                assert process.stdout.readline() == line.upper()
            process.stdin.close()
            assert process.wait(PATIENCE) == 0


class TestFunction:
    @pytest.mark.parametrize("name", ["work.py:upper", "./work.py:Shout.loud"])
    def test_names(self, place, name):
        assert run(place, name, "a").stdout in ("A\n", "a!\n")

    def test_file_with_the_name_of_a_module(self, place):
        write(place / "elsewhere" / "json.py", "import helper\ndef f(x): return helper.double(x)")
        write(place / "elsewhere" / "helper.py", "def double(x): return x * 2")
        done = run(place, "--jsonl", "elsewhere/json.py:f", "a")
        assert json.loads(done.stdout) == {"item": "a", "result": "aa"}, done

    def test_missing(self, place, monkeypatch, interp):
        monkeypatch.chdir(place)
        interp.call(map_there.prepare, [str(place), *sys.path])
        for name, said in (
            ("work:none", "work has no none"),
            ("none:f", "there is no module none"),
            ("work.none:f", "there is no module work.none"),
            ("none.py:f", "there is no file none.py"),
            ("work:number", "work:number is not callable: it is of type int"),
            ("work:later", "work:later is an async function: name one that calls asyncio.run() with it"),
            ("work:several", "work:several is an async function: name one that calls asyncio.run() with it"),
        ):
            assert interp.call(map_there.check, name) == said

    def test_missing_and_not_a_name(self, place):
        for name, said in (("work:none", "work has no none"), ("work", "'work' is not module:function")):
            done = run(place, name, "a")
            assert (done.returncode, done.stdout) == (2, ""), done
            assert said in done.stderr, done

    def test_module_that_fails(self, place, monkeypatch, interp):
        write(place / "broken.py", "import missing_one")
        interp.call(map_there.prepare, [str(place), *sys.path])
        said = interp.call(map_there.check, "broken:f")
        assert said.startswith("broken:f cannot be imported:\nTraceback")
        assert said.endswith("No module named 'missing_one'")
        assert said.count("  File") == 1, said

    def test_not_in_this_process_but_in_its_interpreters(self, place):
        done = atoll_command("map", "-j", "1", "work:upper", "a", cwd=place)
        assert (done.stdout, done.stderr) == ("A\n", "imported\n"), done


class TestOutput:
    def test_jsonl(self, place):
        done = run(place, "--jsonl", "-k", "work:no_b", "a", "b")
        first, second = map(json.loads, done.stdout.splitlines())
        assert first == {"item": "a", "result": "a"}
        assert second == {"item": "b", "error": "ValueError: it is b\nthat is why"}

    def test_not_json(self, place):
        done = run(place, "--jsonl", "work:kind", "a")
        assert done.returncode == 1, done
        assert "'a': TypeError: what it returned is not JSON: Object of type type" in done.stderr, done

    def test_progress(self, place):
        done = run(place, "--progress", "work:upper", "a", "b")
        assert done.stdout == "A\nB\n", done
        assert "2/2" in done.stderr, done

    def test_in_a_terminal(self, place):
        with Terminal("-m", "atoll", "map", "--progress", "work:upper", "a", "b", cwd=place) as terminal:
            assert terminal.wait() == 0
            lines = terminal.text.splitlines()
        assert [line for line in lines if line in ("A", "B")] == ["A", "B"], lines
        assert "2/2" in lines[-1], lines


class TestErrors:
    def test_the_first_ends_it(self, place):
        done = run(place, "work:no_b", stdin="a\nb\nc\n")
        assert (done.returncode, done.stdout) == (1, "a\n"), done
        assert done.stderr.startswith("python -m atoll map: 'b': ValueError: it is b\nTraceback"), done
        assert "map_there" not in done.stderr, done

    def test_keep_going(self, place):
        done = run(place, "--keep-going", "work:no_b", stdin="a\nb\nnothing\nc\nb\n")
        assert (done.returncode, done.stdout) == (1, "a\nc\n"), done
        assert done.stderr.count("'b': ValueError: it is b\n") == 2, done
        assert done.stderr.count("Traceback") == 1, done

    def test_input_that_cannot_be_read(self, place):
        written = os.open(os.devnull, os.O_WRONLY)
        command = [sys.executable, "-m", "atoll", "map", "work:upper"]
        done = subprocess.run(
            command,
            cwd=place,
            env=environment(),
            stdin=written,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        os.close(written)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert "python -m atoll map: OSError: [Errno 9] Bad file descriptor\n" in done.stderr, done

    def test_result_that_cannot_be_written(self, place):
        """The item fails, and others do not."""
        write(place / "signs.py", "def sign(text): return {'a': '\u20ac', 'b': '\\ud800'}.get(text, text)")
        done = python(
            "-m", "atoll", "map", "-k", "signs:sign", "a", "b", "c", cwd=place, PYTHONIOENCODING="ascii"
        )
        assert (done.returncode, done.stdout) == (1, "c\n"), done
        for item in "ab":
            message = f"map: '{item}': UnicodeEncodeError: what it returned cannot be written: 'ascii' codec"
            assert message in done.stderr, done
        assert "Traceback" not in done.stderr, done

    def test_timeout(self, place):
        done = run(place, "--timeout", "0.1", "work:spin", "a")
        assert done.returncode == 1, done
        told, first, *frames, last = done.stderr.splitlines()
        assert told.startswith("python -m atoll map: 'a': TimeoutError: the task took longer than"), done
        assert first == "Traceback (most recent call last):", done
        assert [line for line in frames if line.startswith("  File ")] == frames[:1], done
        assert frames[0].endswith(", in spin"), done
        assert told.endswith(last) and last.startswith("TimeoutError: "), done

    def test_coroutine(self, place):
        done = run(place, "work:begun", "a")
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.startswith("python -m atoll map: 'a': TypeError: it returned a coroutine"), done
        assert "never awaited" not in done.stderr, done

    def test_usage(self, capsys):
        jobs = (["work:upper", "-j", number] for number in ("0", "10001", "9" * 30))
        times = (["work:upper", "--timeout", number] for number in ("x", "nan", "inf", "1e300"))
        for arguments in ([], *jobs, *times, ["work:upper", "--none"]):
            with pytest.raises(SystemExit, match="2"):
                main(["map", *arguments])
            assert capsys.readouterr().err.startswith("usage: python -m atoll map")


class TestEnd:
    def test_ctrl_c_in_a_terminal(self, place):
        with Terminal("-m", "atoll", "map", "-j", "2", "work:spin", "a", "b", "c", cwd=place) as terminal:
            terminal.wait_for("ready")
            terminal.press("\x03")
            assert terminal.wait() == -signal.SIGINT, terminal.text
            written = terminal.text.replace("^C", " ")  # the other worker may begin after it
            assert set(written.split()) <= {"imported", "ready"}, terminal.text

    def test_ctrl_c_while_it_waits_for_input(self, place):
        with start(place, "work:upper") as process:
            process.stdin.write("a\n")
            process.stdin.flush()
            assert process.stdout.readline() == "A\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == -signal.SIGINT
            assert process.stderr.read().replace("imported\n", "") == ""

    def test_whoever_reads_has_enough(self, place):
        """Input without an end, and an output that is closed."""
        process = start(place, "work:upper")
        with contextlib.suppress(BrokenPipeError), process:
            process.stdin.write("a\n")
            process.stdin.flush()
            assert process.stdout.readline() == "A\n"
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                for _ in range(100_000):
                    process.stdin.write("b\n" * 1000)
            assert process.wait(PATIENCE) == 128 + signal.SIGPIPE
            assert process.stderr.read().replace("imported\n", "") == ""
