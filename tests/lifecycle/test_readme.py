"""The examples of README.md run as they stand, each in a process of its own, and print what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli_helpers import skip_without
from helpers import check_ended, run_python

README = Path(__file__).resolve().parents[2] / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
PRINTED = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)


def test_found():
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number, tmp_path):
    if "import numpy" in EXAMPLES[number]:
        skip_without("numpy")
    script = tmp_path / "example.py"
    script.write_text(EXAMPLES[number])
    expected = PRINTED.findall(EXAMPLES[number])
    assert expected
    done = run_python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
    check_ended(done, 0, "".join(f"{line}\n" for line in expected), clean=True)
