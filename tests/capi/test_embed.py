"""A program in C that embeds CPython and serves requests from a pool of interpreters (tests/embed/serve.c)."""

from __future__ import annotations

import pytest

pytest_plugins = ["capi_fixtures"]

SERVE = """
import json, threading
local = threading.local()

def serve(number):
    local.count = getattr(local, 'count', 0) + 1
    return json.loads(json.dumps({'answer': number + 1}))['answer']
"""


@pytest.fixture
def run(embed, tmp_path):
    script = tmp_path / "server.py"
    script.write_text(SERVE)

    def run_host(what, interpreters=2, threads=4, requests=400, **environment):
        done = embed("serve.c", what, script, interpreters, threads, requests, **environment)
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run_host


def test_serves(run):
    status, lines, errors = run("serve", 4, 8, 2000)
    assert lines == ["served 2000", "failed 0", "finalize 0", "host goes on"], errors
    assert (status, errors) == (0, "")


def test_errors_of_the_script_are_told(run, tmp_path, embed):
    script = tmp_path / "bad.py"
    script.write_text("def serve(number):\n    return number + 1 if number % 2 else 1 / 0\n")
    done = embed("serve.c", "serve", script, 2, 2, 10)
    lines = done.stdout.splitlines()
    assert lines[:5] == ["leave: ZeroDivisionError: division by zero"] * 5
    assert lines[5:] == ["served 5", "failed 5", "finalize 0", "host goes on"], done.stderr


def test_python_ends_while_a_thread_is_inside(run):
    status, lines, errors = run("end while inside", 1, 1, 0)
    assert lines == [
        "finalize 0",
        "enter -9",
        "leave -9",
        "create -9",
        "close -9",
        "find -9",
        "current -1",
        "host goes on",
    ], errors
    assert status == 0
    assert "a thread is still inside an interpreter at exit" in errors


def test_python_begins_again(run):
    status, lines, errors = run("begin again")
    assert lines == [
        "finalize 0",
        "enter -3",
        "same id 1",
        "served 800",
        "failed 0",
        "finalize 0",
        "host goes on",
    ], errors
    assert (status, errors) == (0, "")


def test_fork_inside(run):
    status, lines, errors = run("fork inside", 3, 1, 0)
    assert lines[:4] == ["child: leave -9", "child: leave -9", "child: enter -3", "child 0"], errors
    assert lines[4:] == ["leave 0", "leave 0", "finalize 0", "host goes on"], errors
    assert status == 0


def test_exit_inside(run):
    status, lines, errors = run("exit inside", 1, 1, 0)
    assert (status, lines) == (0, ["exit 0"]), errors


def test_threads_enter_while_it_is_closed(run):
    status, lines, errors = run("close meanwhile", 1, 4, 0)
    assert lines == ["closed 4", "failed 0", "finalize 0", "host goes on"], errors
    assert (status, errors) == (0, "")


def test_queues_go_on_when_python_has_ended(run):
    status, lines, errors = run("queues after end", 1, 1, 0)
    # bytes, an object, opaque messages, shared memory
    assert lines == [
        "finalize 0",
        f"kinds {2 + 4 + 1 + 1 + 3}",
        "object 0",
        "given back 30",
        "failed 0",
        "host goes on",
    ], errors
    assert (status, errors) == (0, "")
