"""The tool that runs the standard library's tests in interpreters: on quick files, and on made-up results."""

import re
import subprocess
import sys

import pytest

from helpers import VERSION
from tool_helpers import TOOLS, loaded_tool

TOOL = TOOLS / "check_stdlib.py"
QUICK = ["test_bool", "test_colorsys", "test_fork1", "test_heapq", "test_syslog", "test_textwrap"]


@pytest.fixture(scope="module")
def tool():
    with loaded_tool("check_stdlib") as module:
        yield module


@pytest.fixture(scope="module")
def files(tool):
    found = tool.find_files(sys.executable)
    if not found:
        pytest.skip("this Python comes without its own test suite")
    return found


def run(*arguments):
    command = [sys.executable, str(TOOL), "--py", sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)


# They take a while, and say nothing of a version that another does not say: tests of CPython's are `make stdlib`.
on_one_version = pytest.mark.skipif(VERSION != (3, 14), reason="the tool is the same on every version")


@on_one_version
def test_files_that_are_quick(files):
    done = run(*QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    counts = [int(number) for number in re.findall(r" (\d+) ", last.partition(":")[2])]
    same, listed, different, tests = counts[:4]
    assert (same, listed, different) == (4, 2, 0) and tests > 100, last


def test_a_file_that_is_not_there(files):
    done = run("test_nothing")
    assert (done.returncode, done.stderr) == (2, "check_stdlib.py: there is no test file 'test_nothing'\n")


@pytest.fixture
def check(tool, files):
    def make(*groups):
        return tool.Check(sys.executable, tool.Known((), groups), 100)

    return make


@on_one_version
def test_what_is_not_listed_is_told(check):
    verdict = check().check("test_fork1")
    assert "test_fork1.ForkTest.test_wait" in verdict.unknown, verdict
    assert "not supported for isolated subinterpreters" in verdict.unknown["test_fork1.ForkTest.test_wait"]
    assert not verdict.passing and not verdict.used


@on_one_version
def test_what_has_to_be_as_in_main_elsewhere(tool, check):
    group = tool.Group("Forking", "reason", outcome="not supported for isolated", again="fork")
    verdict = check(group).check("test_fork1")
    assert not verdict.unknown and verdict.used == {("Forking", "not supported for isolated")}


def test_what_does_not_differ_any_more(tool):
    group = tool.Group(
        "Title", "reason", tests=("test_bool.BoolTest.test_str",), outcome="fails: no such thing"
    )
    known = tool.Known((), (group,))
    stale = ["test_bool.BoolTest.test_str (Title)"]
    assert tool.find_stale(known, ["test_bool"], set(), whole=False) == stale
    assert tool.find_stale(known, ["test_bool"], set(), whole=True) == [
        *stale,
        "fails: no such thing (Title)",
    ]
    assert tool.find_stale(known, ["test_int"], set(), whole=False) == []
    used = {("Title", "test_bool.BoolTest.test_str"), ("Title", "fails: no such thing")}
    assert tool.find_stale(known, ["test_bool"], used, whole=True) == []


def make_run(tool, *events, status=0):
    made = tool.Run(status)
    tool.read_events("".join(f"{event}\n" for event in events), made)
    return made


def test_comparing(tool):
    """Tests that fail, are skipped or are missing in one of the two; a failure like that in main is none."""
    tests = '{"tests": ["t.A.a", "t.A.b", "t.A.c", "t.A.d"]}'
    end = '{"end": true}'
    there = make_run(
        tool,
        tests,
        *(f'{{"start": "t.A.{name}"}}' for name in "abcd"),
        '{"test": "t.A.a", "outcome": "fails: ValueError: here"}',
        '{"test": "t.A.b", "outcome": "fails: ValueError: one"}',
        '{"test": "t.A.c", "outcome": "skipped: no threads"}',
        end,
    )
    here = make_run(
        tool,
        '{"tests": ["t.A.a", "t.A.b", "t.A.c", "t.A.d", "t.A.e"]}',
        '{"test": "t.A.b", "outcome": "fails: ValueError: another"}',
        end,
    )
    assert tool.compare("t", there, here) == {
        "t.A.a": "fails: ValueError: here",
        "t.A.c": "skipped: no threads",
        "t.A.e": "is not there",
    }


def test_comparing_a_crash(tool):
    """It is told with the test that was running; nothing is said of those that come after it."""
    tests = '{"tests": ["t.A.a", "t.A.b"]}'
    there = make_run(tool, tests, '{"start": "t.A.a"}', status=-11)
    here = make_run(tool, tests, '{"start": "t.A.a"}', '{"start": "t.A.b"}', '{"end": true}')
    found = tool.compare("t", there, here)
    assert found == {"t": "fails: ends with -11 during t.A.a; in main: 0; "}


def test_the_list_makes_sense(tool, tmp_path):
    known = tool.read_list()
    assert known.differs and known.left_out
    for group in known.differs + known.left_out:
        assert set(group.versions) <= {"3.12", "3.13", "3.14", "3.15"}, group
        assert group.again in (None, "fork"), group
    bad = tmp_path / "bad.toml"
    for text in (
        'title = "A"\nreason = " "\ntests = ["t"]',
        'title = "A"\nreason = "b"',
        'title = "A"\nreason = "b"\ntests = ["t"]\nother = 1',
    ):
        bad.write_text(f"[[differs]]\n{text}\n")
        with pytest.raises(ValueError, match="bad.toml: A: "):
            tool.read_list(path=bad)


def test_files_that_are_listed_are_there(tool, files):
    """A test that is listed for this version is in a file that it has."""
    known = tool.read_list("{}.{}".format(*VERSION))
    for group in known.differs:
        for pattern in group.tests:
            assert any(pattern.partition(".")[0] == name.partition(".")[0] for name in files), pattern


def test_the_page_is_that_of_the_list(tool):
    assert tool.PAGE.read_text("utf-8") == tool.make_page(tool.read_list())
