"""Programs as users write them (tests/programs) run, on every version; `make lint` checks their types."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest

from helpers import PATIENCE, TESTS

PROGRAMS = TESTS / "programs"

# What each prints, among others: regular expressions of whole lines, in this order.
OUTPUT = {
    "actor": [
        r"ValueError amount must be positive, not -5",
        r"\{'user0': 200, 'user1': 200, 'user2': 200, 'user3': 200\}",
        r"bound method keeps state\? \[1, 1, 1\] 0",
        r"\[2, 4, 6\]",
    ],
    "cancel": [
        r".*state=cancelled.*",
        r"cancelled CancelledError\(\)",
        r"timeout TimeoutError\(\)",
        r"True",
        r"interrupted: KeyboardInterrupt\(\)",
        r"0\.01",
        r".*TimeoutError.* the task took longer than its time limit of 900 ms",
        r"0\.02",
        r"<class 'atoll\.ExecutionFailed'>",
        r"map: RuntimeError\('outer failed'\) ExecutionFailed\('RuntimeError: outer failed'\)",
        r"\[.*True\]",
        r"RuntimeError\('cannot schedule new futures after shutdown'\)",
    ],
    "crawler": [
        r"60 page 5",
        r"\['page 0', 'page 1', 'page 2', 'page 3', 'page 4'\]",
        r"\('page 1', \{.*\}\)",
        r"timed out",
        r"32",
    ],
    "images": [
        r"\[.*9-thumb\.jpg.*\]",
        r"\(10, 10\) <class 'PIL\.Image\.Image'>",
        r".*UnidentifiedImageError.*",
    ],
    "infinite": [
        r"A 7919 taken \d+",
        r"B 10 taken (39|40)",  # at most ten more than were given out
        r"C False",
        r"C True",
        r"C LookupError.*",
        r"D fine \d+",
    ],
    "logs": [r"caught line 1: 'nonsense' 1", r"Counter\(\{200: 42857, 404: 7143\}\) 17 1249975000"],
    "montecarlo": [r"3\.14.*", r"\[0 1 -- 3\] 4", r"1\.73.*0\.84.*", r"LinAlgError Singular matrix"],
    "nested": [
        r"124750",
        r"\(500,\)",
        r"\[285, 2470, 8555\]",
        r"\[0, 1, 4, 9, 16\] 49",
        r"NotShareableError .*",
        r"<class 'atoll\.futures\.BrokenInterpreterPool'> A thread initializer failed, .*",
    ],
    "pipeline": [
        r"ShutDown: QueueShutDown\('queue \d+ is shut down'\) .*",
        r"Empty: QueueEmpty\(.*\)",
        r"Full: QueueFull\(.*\)",
        r"QueueFull\(.*\)",
        r"ValueError\('timeout must be non-negative, got -1'\)",
    ],
    "stdlib_switch": [
        r"12",
        r"ZeroDivisionError division by zero",
        r"\[0, 1, 2, 3, 4\]",
        r"InterpreterNotFoundError.*",
        r"True <atoll\.InterpreterPoolExecutor object at .*>",
        r"2 \[0, 1, 4, 9\] \[4, 6\]",
        r"cb 25",
    ],
}
NEEDS = {"images": "PIL", "montecarlo": "numpy"}


def test_there_are_no_others():
    assert {path.stem for path in PROGRAMS.glob("*.py")} == set(OUTPUT)


@pytest.mark.parametrize("name", OUTPUT)
def test_program(name):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / f"{name}.py")], capture_output=True, text=True, timeout=4 * PATIENCE
    )
    assert done.returncode == 0, done.stderr
    lines = iter(done.stdout.splitlines())
    for expected in OUTPUT[name]:
        assert any(re.fullmatch(expected, line) for line in lines), (expected, done.stdout)
