"""`python -m atoll info` and `bench`, and completion in the shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

import atoll
from atoll.cli import info
from atoll.cli.bench import measure_all
from atoll.cli.measure import QUICK
from cli_helpers import atoll_command, environment, python
from helpers import PATIENCE


class TestInfo:
    def test_json_and_text(self, tmp_path):
        done = atoll_command("info", "--json", cwd=tmp_path, ATOLL_CLONE_DIR=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, ""), done
        document = json.loads(done.stdout)
        assert document["atoll"]["version"] == atoll.__version__
        assert document["atoll"]["environment"]["ATOLL_CLONE_DIR"] == str(tmp_path)
        assert document["python"]["version"] == sys.version.split()[0]
        assert document["machine"]["cores of this process"] == len(os.sched_getaffinity(0))
        assert document["works"]["interpreters"] is True
        assert document["clones"]["ATOLL_CLONE_DIR"].startswith(f"{tmp_path}: used: ")
        assert list(tmp_path.iterdir()) == []

    def test_text(self, tmp_path):
        done = atoll_command("info", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert f"  version: {atoll.__version__}\n" in done.stdout
        assert "  interpreters: yes\n" in done.stdout
        assert not re.search(r"^\S.*\n(?=\S|\Z)", done.stdout, re.MULTILINE), "a heading of nothing"

    def test_interpreters_do_not_work(self, tmp_path):
        """One of the modules that are tried is broken."""
        (tmp_path / "sqlite3.py").write_text("raise ImportError('broken')")
        path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
        done = atoll_command("info", cwd=tmp_path, PYTHONPATH=path)
        assert done.returncode == 1, done
        assert "interpreters: ImportError: broken while importing sqlite3" in done.stdout, done

    def test_numbers(self):
        """Lengths of memory are sizes, and large numbers of other things are not."""
        assert info._text(3 << 20, "memory") == "3 MiB"
        assert info._text(1 << 20, "open files") == info._text(1 << 20, "mappings") == "1048576"

    def test_an_environment_that_cannot_be_written(self, tmp_path):
        path = os.pathsep.join([environment()["PYTHONPATH"], "/\u20ac"])
        done = atoll_command("info", cwd=tmp_path, PYTHONPATH=path, PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "/\\u20ac" in done.stdout, done

    def test_no_directory_for_temporary_files(self, tmp_path):
        source = (
            "import sys, tempfile, atoll.cli; tempfile.tempdir = '/none'; sys.exit(atoll.cli.main(['info']))"
        )
        done = python("-c", source, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "  interpreters: yes\n" in done.stdout

    def test_places_of_clones(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ATOLL_CLONE_DIR", str(tmp_path / "none"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc")
        monkeypatch.setenv("TMPDIR", "relative")
        places = dict(info.clone_places())
        assert places["ATOLL_CLONE_DIR"] == f"{tmp_path}/none: No such file or directory"
        assert places["XDG_RUNTIME_DIR"].startswith("/proc: ")
        assert "used" not in places["XDG_RUNTIME_DIR"]
        assert places["TMPDIR"] == "relative: not an absolute path"
        assert sum("used: " in state for state in places.values()) == 1

    def test_the_place_that_is_used(self, tmp_path, monkeypatch):
        """What info says is what a clone does."""
        monkeypatch.setenv("ATOLL_CLONE_DIR", str(tmp_path))
        [place] = [state.partition(":")[0] for _, state in info.clone_places() if "used: " in state]
        assert place == str(tmp_path)
        with atoll.create() as interp:
            interp.exec("import _ctypes")
            clones = [one.clone for one in interp.call(atoll.loaded_extensions) if one.how == "isolated"]
        assert clones
        assert all(clone.startswith(place) for clone in clones), clones

    @pytest.mark.parametrize(
        ("own", "files", "expected"),
        [
            ("0::/a/b\n", {}, (None, None)),
            (
                "0::/a/b\n",
                {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000", "a/b/memory.max": "1048576"},
                (1.5, 1048576),
            ),
            ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, (None, None)),
            (
                "4:memory:/c\n2:cpu,cpuacct:/c\n",
                {
                    "cpu,cpuacct/c/cpu.cfs_quota_us": "200000",
                    "cpu,cpuacct/c/cpu.cfs_period_us": "50000",
                    "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                    "memory/c/memory.limit_in_bytes": "9223372036854771712",
                },
                (4.0, None),
            ),
        ],
        ids=["none", "version 2", "no limits", "version 1"],
    )
    def test_control_groups(self, tmp_path, own, files, expected):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content + "\n")
        assert info.cgroup_limits(str(tmp_path), str(tmp_path / "own")) == expected


class TestBench:
    def test_all_questions(self):
        effort = type(QUICK)(batch=0.0, rounds=3, seconds=0.0, quick=True)
        results = {result.name: result for result in measure_all(effort)}
        assert set(results) == {"call", "queue", "start", "submit", "burst", "bytes", "cores"}
        for result in results.values():
            assert result.ratio is not None and result.ratio > 0, result

    def test_usage(self, tmp_path):
        done = atoll_command("bench", "--help", cwd=tmp_path)
        assert done.returncode == 0 and "examples:" in done.stdout, done


class TestCompletion:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("atoll ", ["run", "map", "check", "info", "bench"]),
            ("atoll map --pro", ["--progress"]),
            ("atoll run --extensions s", ["strict", "shared"]),
        ],
        ids=["commands", "options", "values"],
    )
    def test_in_a_shell(self, tmp_path, line, expected):
        """As argcomplete's shell function asks."""
        answer = tmp_path / "answer"
        env = environment(
            _ARGCOMPLETE="1",
            COMP_LINE=line,
            COMP_POINT=str(len(line)),
            _ARGCOMPLETE_STDOUT_FILENAME=str(answer),
            _ARGCOMPLETE_IFS="\n",
        )
        subprocess.run([sys.executable, "-m", "atoll"], env=env, cwd=tmp_path, timeout=PATIENCE, check=True)
        given = [word.strip() for word in answer.read_text().split("\n")]
        assert set(expected) <= set(given), given

    def test_marker(self):
        """Without it argcomplete does not ask."""
        with open(os.path.join(os.path.dirname(atoll.__file__), "__main__.py"), encoding="utf-8") as file:
            assert "PYTHON_ARGCOMPLETE_OK" in file.read(1024)
