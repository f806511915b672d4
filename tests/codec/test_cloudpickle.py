"""What crosses, and how, does not depend on cloudpickle: it is not even asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers import OPTIONAL

LIBRARY = """
def closure_over(value):
    def inner(more):
        return value + more
    return inner

def make_class():
    class Inner:
        def answer(self):
            return 42
    return Inner
"""

PROGRAM = """
import os, sys, threading
sys.path[:0] = {paths!r}
import atoll, library
def generate(): yield 1
with atoll.create() as interp:
    print(interp.call(library.closure_over(5), 6))
    print(interp.call(library.closure_over, 7)(8))
    print(interp.call(library.make_class().answer, None))
    print(interp.call(list, {{1: 2}}.keys()))
    with open(os.__file__) as file:
        for held in (file, [file], {{file: 1}}.keys(), {{1: file}}.values(), library.closure_over(file),
                     generate(), threading.Lock(), memoryview):
            try:
                print("crossed:", interp.call(repr, held))
            except atoll.NotShareableError as error:
                print(error)
print("cloudpickle" in sys.modules)
"""


def test_makes_no_difference(tmp_path: Path) -> None:
    if not (OPTIONAL / "cloudpickle").is_dir():
        pytest.skip("cloudpickle is not beside this environment: see tools/env")
    (tmp_path / "library.py").write_text(LIBRARY)
    printed = []
    for paths in [str(tmp_path)], [str(tmp_path), str(OPTIONAL)]:
        program = PROGRAM.format(paths=paths)
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        printed.append(done.stdout)
    assert printed[0] == printed[1]
    assert printed[0].startswith("11\n15\n42\n[1]\n")
    assert printed[0].count("is not shareable") == 7
    assert printed[0].endswith("crossed: <class 'memoryview'>\nFalse\n")
