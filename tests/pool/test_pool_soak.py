"""A short run of stress/soak_pool.py, which says what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers import VERSION

SOAK = Path(__file__).resolve().parents[2] / "stress" / "soak_pool.py"
# CPython 3.12 replaces its allocator for a moment when it makes an interpreter: what other threads allocate meanwhile
# looks damaged to debug hooks, which end the process.
OPTIONS = ["-X", "faulthandler"] if VERSION == (3, 12) else ["-X", "dev"]


# What is lost it finds out itself, from nothing happening any more; how long it all takes says nothing.
@pytest.mark.timeout(3600)
def test_soak():
    command = [sys.executable, *OPTIONS, str(SOAK), "--minutes", "0.02", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PROBLEM" not in done.stdout
