"""Random classes behave in an interpreter as they do at home: scripts of crossing_generator, a process each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from crossing_generator import Generator

SEEDS = 20
CLASSES = 14  # of each script
# What does not arrive as it is, yet.
WITHOUT = frozenset({"exception", "text annotation"})


def run(folder: Path, source: str) -> tuple[bool, str]:
    """Run a script; return whether it was right, and what it printed."""
    (folder / "program.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "program.py"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode == 0 and done.stdout == "done 0\n", done.stdout + done.stderr


def smallest(folder: Path, generator: Generator, output: str) -> tuple[str, str]:
    """The smallest script that is still wrong: of one class that the output names, and of those that it needs."""
    names = [unit.name for unit in generator.units]
    named = [name for name in dict.fromkeys(re.findall(r"[A-Z]\w+", output)) if name in names]
    found = (generator.script(), output)
    for name in (named or names)[:20]:
        source = generator.script({name})
        right, text = run(folder, source)
        if not right and len(source) < len(found[0]):
            found = source, text
    return found


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_classes(tmp_path, seed):
    generator = Generator(seed, sys.version_info[:2], WITHOUT)
    generator.build(CLASSES)
    right, output = run(tmp_path, generator.script())
    if not right:
        source, text = smallest(tmp_path, generator, output)
        pytest.fail(f"seed {seed}:\n{source}\n\n{text[:5000]}")
