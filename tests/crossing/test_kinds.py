"""What scripts define works in interpreters as it does at home: the texts of this folder, each a script of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from crossing_scripts import FOLDER, script
from helpers import OPTIONAL

TESTS = Path(__file__).resolve().parent.parent
PYTHONPATH = os.pathsep.join([*filter(None, sys.path), str(TESTS)])


def as_script(folder: Path, source: str) -> list[str]:
    (folder / "program.py").write_text(source)
    return ["program.py"]


def as_command(folder: Path, source: str) -> list[str]:
    return ["-c", source]


def as_module(folder: Path, source: str) -> list[str]:
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "app.py").write_text(source)
    return ["-m", "package.app"]


def as_archive(folder: Path, source: str) -> list[str]:
    with zipfile.ZipFile(folder / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", source)
    return ["app.pyz"]


def as_run_path(folder: Path, source: str) -> list[str]:
    (folder / "program.py").write_text(source)
    return ["-c", "import runpy; runpy.run_path('program.py', run_name='__main__')"]


def as_loaded_file(folder: Path, source: str) -> list[str]:
    (folder / "program.py").write_text(source)
    return [
        "-c",
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('loaded', 'program.py')\n"
        "sys.modules['loaded'] = module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n",
    ]


def as_exec(folder: Path, source: str) -> list[str]:
    (folder / "program.py").write_text(source)
    return ["-c", "exec(compile(open('program.py').read(), 'program.py', 'exec'))"]


def run(folder: Path, place: Callable[[Path, str], list[str]], source: str, *paths: str) -> None:
    """Run the source in a process of its own, and check that nothing in it was wrong."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, PYTHONPATH])}
    command = [sys.executable, "-W", "ignore", *place(folder, source)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout) == (0, "done 0\n"), f"{done.stdout}\n{done.stderr}"


TEXTS = sorted(path.name for path in FOLDER.glob("*.txt"))


@pytest.mark.parametrize("text", TEXTS)
def test_script(tmp_path, text):
    run(tmp_path, as_script, script(text))


PLACES = [as_command, as_module, as_archive, as_run_path, as_loaded_file, as_exec]


@pytest.mark.parametrize("place", PLACES)
def test_place(tmp_path, place):
    run(tmp_path, place, script("dataclasses.txt"))


@pytest.mark.skipif(
    not (OPTIONAL / "cloudpickle").is_dir(),
    reason="cloudpickle is not beside this environment: see tools/env",
)
@pytest.mark.parametrize("text", ["classes.txt", "functions.txt"])
def test_with_cloudpickle(tmp_path, text):
    run(tmp_path, as_script, script(text), str(OPTIONAL))
