"""A short run of stress/soak_pool.py, which says what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers import VERSION

SOAK = Path(__file__).resolve().parents[2] / "stress" / "soak_pool.py"


@pytest.mark.skipif(
    VERSION == (3, 12),
    reason="CPython 3.12 corrupts its memory when interpreters come, import and go on several threads at once;"
    " its own module does so, too",
)
def test_soak():
    command = [sys.executable, "-X", "dev", str(SOAK), "--minutes", "0.1", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PROBLEM" not in done.stdout
