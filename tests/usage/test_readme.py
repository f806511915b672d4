"""What the documents say is so: examples run as they stand, and links, commands and paths lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli_helpers import skip_without
from helpers import check_ended, run_python

README = Path(__file__).resolve().parents[2] / "README.md"
CONTROL = README.parent / "docs" / "control.md"
EXAMPLES = [
    example
    for document in (README, CONTROL)
    for example in re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)
]
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


ROOT = README.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
class TestDocument:
    def test_links(self, document):
        text = document.read_text()
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in link:
                continue
            name, _, place = link.partition("#")
            target = document.parent / name if name else document
            assert target.exists(), link
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if place else []
            places = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert not place or place in places, link

    def test_make_targets(self, document):
        targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
        named = re.findall(r"(?:`|^(?: {4})?)make ([a-z-]+)", document.read_text(), re.MULTILINE)
        assert set(named) <= targets

    def test_paths(self, document):
        """A path may be that of a file, or, in the tables of ARCHITECTURE.md, of part of one."""
        named = re.findall(
            r"`((?:src|python|tests|tools|stress|bench|docs|examples|fuzz)/[\w./*-]*)", document.read_text()
        )
        for name in named:
            assert any(ROOT.glob(name.rstrip("/"))) or any(ROOT.glob(f"{name}*")), name


def test_examples_of_the_docs():
    """Those of a page are one program."""
    skip_without("numpy")
    page = (ROOT / "docs" / "extensions.md").read_text()
    program = "".join(re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
    assert program.count("atoll.create()") >= 3
    done = run_python(program)
    check_ended(done, 0, clean=True)
    assert done.stdout.startswith("2.0 5.0\n") and "numpy" in done.stdout
