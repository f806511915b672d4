"""Programs that are started with standard streams closed: nothing gets into what is opened under their numbers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cli_helpers import environment, write
from helpers import PATIENCE

# All that is told goes into a file, which is opened after Atoll, as the program's own files are.
PROGRAM = """
    import json, os, sys
    import atoll

    def missing():
        import sys
        names = ("stdin", "stdout", "stderr")
        return [name for name in names if getattr(sys, name) is None is getattr(sys, f"__{name}__")]

    def say():
        import sys
        for stream in filter(None, (sys.stdout, sys.stderr)):
            print("said", file=stream, flush=True)

    with open("file", "w") as file:
        found = {"main": missing()}
        with atoll.create() as interp:
            found["created"] = interp.call(missing)
            interp.call(say)
        with atoll.InterpreterPoolExecutor(1) as pool:
            found["worker"] = pool.submit(missing).result()
            pool.submit(say).result()
        found["interpreters"] = len(atoll.stats(os.getpid())["interpreters"])
        json.dump(found, file)
    """


def shell(command, cwd, **env):
    """Run a line of the shell in which "$PYTHON" is this Python; return how it ended."""
    return subprocess.run(
        ["sh", "-c", command],
        cwd=cwd,
        env=environment(PYTHON=sys.executable, **env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )


CLOSED = {
    "<&-": ["stdin"],
    ">&-": ["stdout"],
    "2>&-": ["stderr"],
    "<&- >&- 2>&-": ["stdin", "stdout", "stderr"],
}


@pytest.mark.parametrize("how", CLOSED)
def test_interpreters_have_the_streams_of_main(tmp_path, how):
    write(tmp_path / "program.py", PROGRAM)
    done = shell(f'"$PYTHON" program.py {how}', tmp_path)
    assert done.returncode == 0, done
    assert json.loads((tmp_path / "file").read_text()) == {
        "main": CLOSED[how],
        "created": CLOSED[how],
        "worker": CLOSED[how],
        "interpreters": 1,
    }


def test_one_that_main_has_opened_again(tmp_path):
    """A program that gives itself an output has it in its interpreters."""
    source = """
        import os, sys
        file = os.open("file", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, 1)
        sys.stdout = open(1, "w", closefd=False)
        import atoll
        with atoll.create() as interp:
            interp.exec("print('said', flush=True)")
        """
    write(tmp_path / "program.py", source)
    done = shell('"$PYTHON" program.py >&-', tmp_path)
    assert done.returncode == 0, done
    assert (tmp_path / "file").read_text() == "said\n"


class TestCommands:
    @pytest.mark.parametrize("how", CLOSED)
    def test_run(self, tmp_path, how):
        """A script finds what it would without Atoll."""
        source = """
            import sys
            open("file", "w").write(repr([stream is None for stream in (sys.stdin, sys.stdout, sys.stderr)]))
            sys.exit("the end")
            """
        write(tmp_path / "script.py", source)
        ended = []
        for command in ("script.py", "-m atoll run script.py"):
            done = shell(f'"$PYTHON" {command} {how}', tmp_path)
            ended.append((done.returncode, done.stdout, done.stderr, (tmp_path / "file").read_text()))
        assert ended[0] == ended[1]

    def test_run_cannot_say_what_is_wrong(self, tmp_path):
        done = shell('"$PYTHON" -m atoll run none.py 2>&-', tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), done

    def test_map(self, tmp_path):
        write(
            tmp_path / "work.py",
            "def upper(text): return text.upper()\ndef wrong(text): raise ValueError(text)",
        )
        done = shell('"$PYTHON" -m atoll map work:upper a <&-', tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "A\n", ""), done
        done = shell('"$PYTHON" -m atoll map work:upper <&-', tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert "standard input is closed: give a PATH" in done.stderr, done
        done = shell('"$PYTHON" -m atoll map work:upper a >&-', tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done
        done = shell('"$PYTHON" -m atoll map -k work:wrong a b 2>&-', tmp_path)
        assert (done.returncode, done.stdout) == (1, ""), done

    @pytest.mark.parametrize("how", ["", *CLOSED])
    def test_check(self, tmp_path, how):
        """What the child process tells arrives whatever is closed."""
        write(
            tmp_path / "site/refuses.py",
            "import atoll\nif atoll.get_current().id: raise ValueError('not here')",
        )
        write(tmp_path / "site/works.py", "")
        path = f"{tmp_path / 'site'}:{environment()['PYTHONPATH']}"
        done = shell(f'"$PYTHON" -m atoll check refuses {how}', tmp_path, PYTHONPATH=path)
        assert done.returncode == 1, done
        assert ("ValueError: not here" in done.stdout) == (">&-" not in how.split()), done
        done = shell(f'"$PYTHON" -m atoll check works {how}', tmp_path, PYTHONPATH=path)
        assert done.returncode == 0, done

    def test_info(self, tmp_path):
        done = shell('"$PYTHON" -m atoll info --json <&- 2>&-', tmp_path)
        assert done.returncode == 0, done
        assert json.loads(done.stdout)["works"]["extension modules"], done

    def test_top(self, tmp_path):
        done = shell('"$PYTHON" -m atoll top $$ <&-', tmp_path)
        assert done.returncode == 2, done
        assert "this is no terminal: use --once or --json" in done.stderr, done
