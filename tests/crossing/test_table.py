"""docs/crossing.md: each row of its tables has an example in table.txt, and each example a row."""

from __future__ import annotations

import re
from pathlib import Path

from crossing_scripts import sections

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "crossing.md"


def rows() -> list[str]:
    """The first cell of each row of the page's tables."""
    lines = re.findall(r"^\| (.*?) \|.*\|$", PAGE.read_text(), flags=re.M)
    return [line for line in lines if line not in ("what", "what is refused")]


def test_each_row_has_an_example_and_each_example_a_row():
    examples = [title for title, _ in sections("table.txt")]
    assert rows() == examples
    assert len(set(examples)) == len(examples) > 30


def test_each_row_says_how_and_at_what_price():
    for line in re.findall(r"^\| (?!-|what).*$", PAGE.read_text(), flags=re.M):
        assert all(cell.strip() for cell in line.strip("|").split("|")), line
