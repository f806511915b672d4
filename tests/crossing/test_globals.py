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
