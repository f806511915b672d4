"""A short run of stress/fork.py, which says what it does."""

from __future__ import annotations

from helpers import run_stress


def test_fork_beside_everything():
    out = run_stress("fork.py", "--forks", "48", mode="faulthandler", timeout=280)
    assert out.endswith("48 forks, 0 errors\n")
