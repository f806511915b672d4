"""A program that PyInstaller has made: interpreters find the modules that main finds."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig

import pytest

from cli_helpers import environment, write
from helpers import PATIENCE, check_ended

LIBRARY = os.path.join(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))

pytestmark = pytest.mark.skipif(
    not os.path.exists(LIBRARY), reason=f"PyInstaller needs Python's shared library, {LIBRARY}"
)

HELPER = """
import csv
import _decimal # an extension module, of which each interpreter has a clone

def total(line):
    return sum(_decimal.Decimal(cell) for cell in next(csv.reader([line])))
"""

PROGRAM = """
import dataclasses

import atoll


@dataclasses.dataclass
class Line:
    text: str


def work(line):
    import helper

    return Line(str(helper.total(line.text)))


if __name__ == "__main__":
    with atoll.create() as interp:
        print(interp.call(work, Line("1.5,2")))
        interp.exec("import atoll; assert atoll.get_current() != atoll.get_main()")
    with atoll.InterpreterPoolExecutor(2) as pool:
        print(*pool.map(work, [Line("1,2"), Line("3,4")]))
"""


def test_program(tmp_path):
    write(tmp_path / "helper.py", HELPER)
    write(tmp_path / "program.py", PROGRAM)
    command = [sys.executable, "-m", "PyInstaller", "--onefile", "--log-level", "ERROR", "program.py"]
    env = environment(PYINSTALLER_CONFIG_DIR=str(tmp_path / "cache"))
    made = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=10 * PATIENCE
    )
    assert made.returncode == 0, made.stderr
    (tmp_path / "helper.py").unlink()
    program = str(tmp_path / "dist" / "program")
    done = subprocess.run([program], cwd="/", capture_output=True, text=True, timeout=PATIENCE)
    check_ended(done, 0, "Line(text='3.5')\nLine(text='3') Line(text='7')\n", clean=True)
