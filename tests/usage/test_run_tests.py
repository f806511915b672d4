"""tools/run_tests.py, which adds up what suites say and names what failed: its last lines are all that some see."""

import re
import sys

import pytest

from tool_helpers import TOOLS, loaded_tool


@pytest.fixture(scope="module")
def tool():
    with loaded_tool("run_tests") as module:
        yield module


def run(tool, output, status=0):
    """A row for a suite that prints this and ends with this status."""
    return tool.run_suite("suite", [sys.executable, "-c", f"print({output!r}); raise SystemExit({status})"])


def summary(tool, capsys, *rows):
    """The exit status of the summary, and the lines from the table on."""
    capsys.readouterr()
    status = tool.print_summary(list(rows))
    return status, capsys.readouterr().out.splitlines()


PYTEST = """\
F.E
ERROR    root:what a test has logged
=========================== short test summary info ============================
SKIPPED [1] tests/unit/test_a.py:3: no reason
FAILED tests/unit/test_a.py::test_one[x y] - assert 1 == 2
ERROR tests/unit/test_b.py::test_two - RuntimeError: it did
1 failed, 1 passed, 1 skipped, 1 error in 0.12s
"""


def test_the_tests_that_failed_are_named_between_the_table_and_the_totals(tool, capsys):
    row = run(tool, PYTEST, 1)
    assert (row.passed, row.failed, row.skipped) == (1, 2, 1)
    status, lines = summary(tool, capsys, row, run(tool, "2 passed, 0 failed"))
    assert status == 1
    assert lines[-5:] == [
        "",
        "suite:",
        "  FAILED tests/unit/test_a.py::test_one[x y] - assert 1 == 2",
        "  ERROR tests/unit/test_b.py::test_two - RuntimeError: it did",
        "3 passed, 2 failed, 1 skipped",
    ]


def test_pytest_prints_what_is_looked_for(tool, tmp_path):
    (tmp_path / "pyproject.toml").write_text((TOOLS.parent / "pyproject.toml").read_text())
    (tmp_path / "test_it.py").write_text(
        "import logging, pytest\n"
        "def test_fails():\n    logging.error('said')\n    assert not 'a'\n"
        "@pytest.fixture\ndef broken():\n    raise RuntimeError('it did')\n"
        "def test_errs(broken):\n    pass\n"
        "def test_passes():\n    pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    row = tool.run_suite("pytest", [*command, "--rootdir", str(tmp_path)])
    named = [re.fullmatch(r"(\w+) \S*::(\w+)( - .*)?", line).group(1, 2) for line in row.failures]
    assert sorted(named) == [("ERROR", "test_errs"), ("FAILED", "test_fails")]


@pytest.mark.parametrize(
    "output, failures",
    [
        ("ok      layers\nFAILED  ruff check\n    x.py:1\n1 passed, 1 failed", ["FAILED  ruff check"]),
        (
            "passed  test_api.A.b  (0.1 s)\nfailed  test_api.A.c  (0.1 s)\n        failed  x\n1 passed, 1 failed",
            ["failed  test_api.A.c  (0.1 s)"],
        ),
        (
            "queue_a ... ok\nqueue_b ... tests/c/test_q.c:9: failed: n is 1, expected 2\nFAILED\n1 passed, 1 failed",
            ["queue_b ... tests/c/test_q.c:9: failed: n is 1, expected 2"],
        ),
        ("queue_b ... FAILED\n1 passed, 1 failed", ["queue_b ... FAILED"]),
    ],
)
def test_each_suites_own_way_to_name_them_is_known(tool, output, failures):
    assert run(tool, output, 1).failures == failures


def test_a_suite_that_does_not_come_to_its_end_shows_how_its_output_ended(tool, capsys):
    row = run(tool, "\n".join(["1 passed, 0 failed", *map(str, range(100)), "Segmentation fault"]), 3)
    assert (row.passed, row.failed) == (0, 1)
    status, lines = summary(tool, capsys, row)
    assert status == 1
    assert "no closing line, exit status 3" in lines[2]
    assert lines[-3:] == ["  99", "  Segmentation fault", "0 passed, 1 failed, 0 skipped"]


def test_nothing_more_is_said_when_nothing_failed(tool, capsys):
    status, lines = summary(tool, capsys, run(tool, "FAILED in what a test prints\n3 passed in 0.1s"))
    assert status == 0
    assert len(lines) == 4 and lines[-1] == "3 passed, 0 failed, 0 skipped"


def test_very_much_is_cut(tool, capsys):
    output = "\n".join(f"FAILED test_a.py::test_{i} - {'x' * 1000}" for i in range(60))
    _, lines = summary(tool, capsys, run(tool, f"{output}\n60 failed in 0.1s", 1))
    assert lines[-2:] == ["  and 20 more", "0 passed, 60 failed, 0 skipped"]
    assert max(map(len, lines)) < 400


def test_each_suite_is_run_where_it_can_be_and_the_rows_come_in_the_order_of_the_suites(tool, monkeypatch):
    begun = []

    def run_suite(name, command, mark=""):
        begun.append(name)
        return tool.Row(name, passed=1)

    monkeypatch.setattr(tool, "run_suite", run_suite)
    monkeypatch.setattr(
        tool, "make_environment", lambda version: "cannot be had" if version == "3.15" else None
    )
    monkeypatch.setattr(tool, "has_test_suite", lambda python: True)
    monkeypatch.setattr(tool, "jobs_at_once", lambda: 1)
    rows = tool.run_suites(["conformance", "pytest", "lint", "c"], ["3.12", "3.14", "3.15"], False, [])
    names = ["lint", "c", "pytest 3.12", "pytest 3.14", "pytest 3.15", "conformance 3.14", "conformance 3.15"]
    assert [row.name for row in rows] == names
    assert begun == ["pytest 3.12", "pytest 3.14", "lint", "c", "conformance 3.14"]
    assert [row.note for row in rows if row.note] == ["Python 3.15 cannot be had"] * 2
    assert tool.run_suites(["conformance"], ["3.12"], False, [])[0].note == "not run on 3.12"


def test_of_two_builds_of_a_version_one_is_tested_whole(tool, monkeypatch):
    commands = {}

    def run_suite(name, command, mark=""):
        commands[name] = command
        return tool.Row(name, passed=1)

    monkeypatch.setattr(tool, "run_suite", run_suite)
    monkeypatch.setattr(tool, "make_environment", lambda version: None)
    version, variant = "3.13", "3.13-debian"
    assert variant in tool.VARIANTS
    tool.run_suites(["pytest"], [version, variant], False, [])
    assert commands[f"pytest {version}"][4:] == tool.INSIDES_TESTS
    assert commands[f"pytest {variant}"][4:] == []
    tool.run_suites(["pytest"], [version], False, [])
    assert commands[f"pytest {version}"][4:] == []
    tool.run_suites(["pytest"], [version, variant], False, ["-x"])
    assert commands[f"pytest {version}"][4:] == commands[f"pytest {variant}"][4:] == ["-x"]
