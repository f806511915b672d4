"""A short run of stress/fork.py, which says what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

STRESS = Path(__file__).resolve().parents[2] / "stress" / "fork.py"


def test_fork_beside_everything():
    command = [sys.executable, "-X", "faulthandler", str(STRESS), "--forks", "48"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("48 forks, 0 errors\n")
