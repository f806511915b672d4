"""Globals are as the sender has them when it calls, and what runs elsewhere keeps what it has assigned."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent


def run(program: str, seed: int, count: int) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / program), str(seed), str(count)],
        capture_output=True,
        text=True,
        timeout=170,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done 0\n", "")


@pytest.mark.parametrize("seed", range(2))
def test_edits_at_home_are_seen_by_the_next_call(seed):
    run("edits.py", seed, 500)


@pytest.mark.parametrize("seed", range(3))
def test_what_interpreters_assign_stays_until_the_sender_changes_it(seed):
    run("states.py", seed, 1000)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_one_object_at_home_is_one_there(seed):
    run("aliases.py", seed, 300)


@pytest.mark.parametrize("seed", range(3))
def test_what_has_a_name_is_that_wherever_it_occurs(seed):
    run("nested.py", seed, 150)


def test_a_new_object_that_is_equal_is_taken():
    """What an interpreter has put into the one before is not in it."""
    program = """
import atoll
found = []
class Log:
    lines = []
def append():
    found.append(1)
    Log.lines.append(1)
    return len(found), len(Log.lines)
with atoll.create() as interp:
    for _ in range(3):
        assert interp.call(append) == (1, 1)
        found, Log.lines = [], []
    assert [interp.call(append) for _ in range(2)] == [(1, 1), (2, 2)]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=170)
    assert (done.returncode, done.stderr) == (0, "")
