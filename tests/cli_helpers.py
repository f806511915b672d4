"""What the tests of the command line share: running it, and packages made for it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from helpers import PATIENCE, TESTS


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a child process that imports what this process imports."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ATOLL"))}
    env.pop("NO_COLOR", None)
    env["PYTHONPATH"] = os.pathsep.join([*filter(None, sys.path), str(TESTS)])
    env.update(more)
    return env


def python(
    *arguments: str | Path, cwd: Path, stdin: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in a directory; return how it ended."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(**env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )


def atoll_command(*arguments: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m atoll` with these arguments in a directory; return how it ended."""
    return python("-m", "atoll", *arguments, cwd=cwd, **env)


def without_numbers(text: str) -> str:
    """Return text without what differs from process to process: addresses and thread ids."""
    return re.sub(r"0x[0-9a-f]+|started \d+", "#", text)


def skip_without(module: str) -> None:
    """Skip the test where the examples' packages are not installed; CI must have them."""
    if importlib.util.find_spec(module) is None and not os.environ.get("CI"):
        pytest.skip(
            f"{module} is not installed here; `make test` and `make run` install it where it can be had"
        )


def write(path: Path, source: str) -> Path:
    """Write a file of (dedented) source, with the directories that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return path


def distribution(
    site: Path, name: str, files: dict[str, str], *, version: str = "1.0", top: str = ""
) -> Path:
    """Install a distribution of these files into the directory `site`, as an installer does; return `site`."""
    for file, source in files.items():
        write(site / file, source)
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    write(info / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if top:
        write(info / "top_level.txt", top)
    write(info / "RECORD", "".join(f"{file},,\n" for file in [*files, f"{info.name}/METADATA"]))
    return site
