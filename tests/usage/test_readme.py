"""What the documents say is so: examples run as they stand, and links, commands and paths lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli_helpers import skip_without
from helpers import OPTIONAL, check_ended, run_python

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PRINTED = re.compile(r"^\s*print\(.*\)  # (.*)$|check=True\)  # (.*)$", re.MULTILINE)
# What its lines print depends on the release of numpy: test_extensions_page() looks at it.
BY_THEMSELVES = {"extensions.md"}
# It shows what a failure looks like, in the log.
LOGS = "supervising.md"
# Not needed by Atoll, and not everywhere: their examples run where they are.
PACKAGES = ("numpy", "prometheus_client", "pyarrow")
EXAMPLES = [
    pytest.param(example, id=f"{document.name}-{number}")
    for document in DOCUMENTS
    if document.name not in BY_THEMSELVES
    for number, example in enumerate(PYTHON.findall(document.read_text()))
]


def test_found():
    assert len(EXAMPLES) >= 40


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(example, tmp_path, monkeypatch, request):
    """Each is a program of its own, and each of its prints says what it prints."""
    for name in PACKAGES:
        if re.search(rf"\bimport {name}\b", example):
            if name == "pyarrow":
                monkeypatch.syspath_prepend(OPTIONAL)
            skip_without(name)
    monkeypatch.chdir(tmp_path)  # where it may leave files
    script = tmp_path / "example.py"
    script.write_text(example)
    expected = [first or second for first, second in PRINTED.findall(example)]
    assert expected
    done = run_python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
    check_ended(
        done, 0, "".join(f"{line}\n" for line in expected), clean=LOGS not in request.node.callspec.id
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_python_says_so(document):
    """A program that is only indented would be run by nobody."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert (
        re.findall(
            r"^    (?:import \w|from \w+ import|def \w+\(|with atoll\.|.*= atoll\.)", text, re.MULTILINE
        )
        == []
    )


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
        targets = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
        named = re.findall(r"(?:`|^(?: {4})?)make ([a-z0-9-]+)", document.read_text(), re.MULTILINE)
        assert set(named) <= targets

    def test_paths(self, document):
        """A path may be that of a file, or, in the tables of ARCHITECTURE.md, of part of one."""
        named = re.findall(
            r"`((?:src|python|tests|tools|stress|bench|docs|examples|fuzz)/[\w./*-]*)", document.read_text()
        )
        for name in named:
            assert any(ROOT.glob(name.rstrip("/"))) or any(ROOT.glob(f"{name}*")), name


def test_extensions_page():
    """Those of a page are one program."""
    skip_without("numpy")
    page = (ROOT / "docs" / "extensions.md").read_text()
    program = "".join(PYTHON.findall(page))
    assert program.count("atoll.create()") >= 3
    done = run_python(program)
    check_ended(done, 0, clean=True)
    assert done.stdout.startswith("2.0 5.0\n") and "numpy" in done.stdout
