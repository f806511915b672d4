"""The tool that checks packages, on samples that need no package."""

import json
import sys
from pathlib import Path

import pytest

from tool_helpers import loaded_tool

HERE = Path(__file__).resolve().parent
PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def tool():
    with loaded_tool("check_packages") as module:
        yield module
    sys.path.remove(str(HERE))


def child(tool, monkeypatch, name, *, main=False, baseline=False):
    """Run the sample's child; the result."""
    monkeypatch.setenv("ATOLL_CHECK_SAMPLES", "1")
    from samples import SAMPLES

    result = tool.Result("3.14", name, main)
    tool.run_child(PYTHON, SAMPLES[name], result, 0.05, baseline)
    return result


@pytest.mark.parametrize("main", [False, True])
def test_a_case_that_works(tool, monkeypatch, main):
    result = child(tool, monkeypatch, "works", main=main)
    assert (result.outcome, result.stage, result.status, result.error) == ("passed", "", 0, "")
    assert len(result.operations) == 2 and min(result.operations) >= 1


def test_the_baseline_needs_no_interpreter(tool, monkeypatch):
    result = child(tool, monkeypatch, "works", baseline=True)
    assert (result.outcome, len(result.operations)) == ("passed", 2)


@pytest.mark.parametrize(
    ("name", "stage", "text"),
    [
        ("does not import", "import 1", "no_such_module"),
        ("is wrong", "operate 1", "2 is not 3"),
        ("hangs", "operate 1", "no end after 6 s"),
        ("leaves a file", "files", "left behind"),
    ],
)
def test_a_failure_names_stage_and_reason(tool, monkeypatch, name, stage, text):
    result = child(tool, monkeypatch, name)
    assert (result.outcome, result.stage) == ("failed", stage)
    assert text in result.error
    assert text in result.line() or name == "does not import"


@pytest.mark.parametrize(("main", "stage"), [(False, "operate 1"), (True, "main: operate")])
def test_a_crash_is_seen_with_its_signal_and_stack(tool, monkeypatch, main, stage):
    result = child(tool, monkeypatch, "dies", main=main)
    assert (result.outcome, result.stage, result.signal) == ("failed", stage, "SIGABRT")
    assert "in dies" in result.output  # faulthandler's


def known(tool, **more):
    return [tool.Known("numpy", "import .*", "a mechanism", **more)]


def failed(tool, stage="import 2", **more):
    return tool.Result("3.14", more.pop("case", "numpy"), more.pop("main", False), stage=stage, **more)


@pytest.mark.parametrize(
    ("entry", "result", "outcome"),
    [
        ({}, {}, "known"),
        ({}, {"stage": "close 1"}, "failed"),
        ({}, {"case": "pandas"}, "failed"),
        ({"versions": ["3.12"]}, {}, "failed"),
        ({"main": True}, {}, "failed"),
        ({"main": True}, {"main": True}, "known"),
        ({}, {"outcome": "passed", "stage": ""}, "failed"),
        ({"sometimes": True}, {"outcome": "passed", "stage": ""}, "passed"),
    ],
)
def test_known_failures(tool, entry, result, outcome):
    made = failed(tool, **result)
    tool.judge(made, known(tool, **entry))
    assert made.outcome == outcome


def test_the_table(tool):
    results = [
        tool.Result("3.14", "numpy", False, "2.0", "passed", extensions={"isolated": 20, "usual": 3}),
        tool.Result("3.14", "numpy", True, "2.0", "passed", extensions={"isolated": 20}),
        tool.Result("3.15", "numpy", False, "2.0", "failed"),
        tool.Result("3.14", "_json", False, "", "passed", extensions={"usual": 2}),
        tool.Result("3.15", "_json", False, "", "no wheel"),
    ]
    assert tool.table(results) == [
        ["", "release", "3.14", "3.15"],
        ["numpy", "2.0", "yes", "**no**"],
        ["_json", "", "itself", "no wheel"],
    ]


def test_the_table_goes_between_its_marks(tool, monkeypatch, tmp_path):
    document = tmp_path / "extensions.md"
    document.write_text(f"before\n{tool.MARKS[0]}\nold\n{tool.MARKS[1]}\nafter\n")
    monkeypatch.setattr(tool, "DOCUMENT", document)
    result = tool.Result("3.14", "uvloop", False, "1", "known", mechanism="signals belong to main")
    tool.write_table([result])
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith(f"{tool.MARKS[1]}\nafter\n") and "old" not in text
    assert "| uvloop | 1 | no |" in text and "* uvloop: signals belong to main" in text


@pytest.mark.parametrize(
    ("arguments", "stage", "reason"),
    [
        ([], "", ""),
        ([], "environment", "without 3.15"),
        (["--py", "3.13", "3.14"], "", "without 3.12, 3.15"),
        (["--only", "numpy"], "", "some cases only"),
        (["--no-large"], "", "some cases only"),
        (["--main", "yes"], "", "only with --main yes"),
        (["--baseline"], "", "without Atoll"),
    ],
)
def test_the_table_is_written_when_everything_was_run(
    tool, monkeypatch, tmp_path, capsys, arguments, stage, reason
):
    document = tmp_path / "extensions.md"
    before = f"{tool.MARKS[0]}\nold\n{tool.MARKS[1]}\n"
    document.write_text(before)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "DOCUMENT", document)
    results = [tool.Result("3.15", "numpy", False, "2.0", "passed", stage=stage)]
    monkeypatch.setattr(tool, "check", lambda options: results)
    monkeypatch.setattr(sys, "argv", ["check_packages.py", "--table", *arguments])
    assert tool.main() == 0
    assert (document.read_text() == before) == bool(reason)
    said = f"unchanged, {reason}" if reason else "written"
    lines = capsys.readouterr().out.splitlines()
    assert f"extensions.md: {said}" in lines
    assert lines[-1] == "1 passed, 0 failed, 0 skipped"


def test_every_case_has_an_operation_that_can_be_found_again(tool):
    every = tool.cases.load()
    assert len({case.name for case in every.values()}) == len(every) > 80
    for case in every.values():
        module = sys.modules[case.home]
        assert any(value is case.operation for value in vars(module).values()), case.name
        json.dumps(case.name)


def test_pins_and_cases_agree(tool):
    """Each distribution is pinned for each version, or said to have no wheel there."""
    for version in tool.VERSIONS:
        lines = [
            line
            for file in tool.environments.pin_files(version, True)
            for line in file.read_text().splitlines()
        ]
        pinned = {tool.environments.normal(line.partition("==")[0]) for line in lines if "==" in line}
        pinned |= tool.environments.without_wheel(version)
        for case in tool.cases.load().values():
            for name in case.distributions:
                assert tool.environments.normal(name) in pinned, (version, name)


def test_known_failures_are_about_cases(tool):
    every = tool.cases.load()
    for entry in tool.read_known():
        assert entry.case in every
        assert entry.mechanism.strip()
