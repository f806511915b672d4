"""The examples run, on little input, and say that their ways agree."""

from __future__ import annotations

import os

from cli_helpers import environment, python, skip_without
from helpers import TESTS

EXAMPLES = TESTS.parent / "examples"
AGREE = "serial = threads = processes = atoll: the same in every detail"


def run(name, tmp_path, *arguments):
    """Run an example; return what it printed."""
    done = python("-W", "error", EXAMPLES / name, "--jobs", "2", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_analyse_stdlib(tmp_path):
    assert AGREE in run("analyse_stdlib.py", tmp_path, "--files", "40")


def test_analyse_arrays(tmp_path):
    skip_without("pandas")
    assert AGREE in run("analyse_arrays.py", tmp_path, "--files", "2")


def test_join_events(tmp_path):
    assert AGREE in run("join_events.py", tmp_path, "--files", "2")


def test_service(tmp_path):
    done = python(
        "-W", "error", EXAMPLES / "service.py", "--seconds", "0.001", "--results", "20", cwd=tmp_path
    )
    assert done.returncode == 0, done
    assert "'3': 430}" in done.stdout
    assert "ERROR" not in done.stderr
    assert "child 'consumer': failed" in done.stderr
    assert "ValueError: job 7 is a bad one" in done.stderr
    stopped = [f"INFO child {name!r}: stopped" for name in ("scheduler", "consumer", "web")]
    assert done.stderr.splitlines()[-3:] == stopped


def test_analyse_arrays_without_pandas(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('there is none')")
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    done = python(EXAMPLES / "analyse_arrays.py", cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done
    assert "The second act, with numpy and pandas, is left out" in done.stdout
    assert "tools/requirements/examples.txt" in done.stdout
