"""`python -m atoll check`: packages that work, and packages that fail in every way that is known."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

import atoll
from cli_helpers import atoll_command, distribution, environment, write
from ext_build import SUFFIX
from helpers import PATIENCE, VERSION

pytest_plugins = ["ext_fixtures"]

INSIDE = "import atoll\ninside = atoll.get_current().id != 0\n"  # whether this is not the main interpreter
SEGFAULT = "import signal\n    signal.raise_signal(signal.SIGSEGV)\n"
WORDS = {
    "supports": "supports sub-interpreters itself",
    "isolated": "works through isolation",
    "pure": "pure Python",
    "fails": "fails",
    "unimportable": "cannot be imported here at all",
}


@pytest.fixture
def site(tmp_path):
    """A directory for packages, which only the child processes of this test find."""
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


def check(site, *arguments, **env):
    """Run `check` where the packages in `site` are installed; return how it ended."""
    path = os.pathsep.join([str(site), environment()["PYTHONPATH"]])
    return atoll_command("check", *arguments, cwd=site.parent, PYTHONPATH=path, **env)


def results(site, *arguments, status=0):
    """Run `check --json`; return the results by name."""
    done = check(site, "--json", *arguments)
    assert done.returncode == status, done
    return {one["name"]: one for one in json.loads(done.stdout)["packages"]}


def result(site, name, *arguments, status=0):
    """The same for one package."""
    return results(site, name, *arguments, status=status)[name]


def extensions(site, corpus, name, *modules):
    """Install a distribution `name` of a package and some of the corpus's extension modules."""
    package = name.replace("-", "_")
    distribution(
        site, name, {f"{package}/__init__.py": "", **{f"{module}{SUFFIX}": "" for module in modules}}
    )
    for module in modules:
        shutil.copyfile(corpus / f"{module}{SUFFIX}", site / f"{module}{SUFFIX}")


class TestVerdicts:
    def test_pure(self, site):
        distribution(site, "plain", {"plain/__init__.py": "from . import part", "plain/part.py": ""})
        one = result(site, "plain")
        assert (one["status"], one["works"], one["failure"], one["version"]) == ("pure", True, None, "1.0")
        assert (one["imports"], one["extensions"], one["cloned"]) == (["plain"], [], [])

    def test_supports(self, site, corpus):
        extensions(site, corpus, "declaring", "ext_declares")
        one = result(site, "declaring")
        assert (one["status"], one["extensions"], one["cloned"]) == (
            "supports",
            ["ext_declares"],
            ["ext_declares"],
        )

    def test_isolated(self, site, corpus):
        extensions(site, corpus, "isolating", "ext_single", "ext_declares")
        one = result(site, "isolating")
        assert (one["status"], one["extensions"]) == ("isolated", ["ext_declares", "ext_single"])
        assert (one["cloned"], one["cloned_of_others"]) == (["ext_declares", "ext_single"], [])
        assert one["cloned_bytes"] > 0
        assert "Py_mod_multiple_interpreters" in one["hints"][0]

    def test_isolated_in_another_package(self, site, corpus):
        extensions(site, corpus, "below", "ext_single")
        distribution(site, "above", {"above.py": "import ext_single"})
        one = result(site, "above")
        assert (one["status"], one["cloned"], one["cloned_of_others"]) == ("pure", [], ["ext_single"])

    def test_built_in(self, site):
        assert result(site, "_operator")["status"] == "supports"

    def test_skips_what_main_cannot_import(self, site):
        files = {"most/__init__.py": "", "part/__init__.py": "raise ImportError('not on this system')"}
        one = result(distribution(site, "most", files), "most")
        assert one["status"] == "pure"
        assert one["skipped"] == {"part": "ImportError: not on this system"}

    def test_extension_that_cannot_be_loaded(self, site, corpus):
        extensions(site, corpus, "partly", "ext_declares", "ext_missing")
        one = result(site, "partly")
        assert one["status"] == "supports"
        assert list(one["skipped"]) == ["ext_missing"]

    def test_test_modules_are_left_out(self, site):
        names = ["ext_tests", "tests/_deep", "_test_more"]
        files = {
            f"having/{name}{SUFFIX}": "PyInit_ext_tests PyInit__deep PyInit__test_more" for name in names
        }
        distribution(site, "having", {"having/__init__.py": "", **files})
        assert result(site, "having")["extensions"] == []

    def test_libraries_are_no_extensions(self, site):
        files = {
            "having/__init__.py": "",
            "having/libother.so": "no module",
            "having.libs/libx-1234.so": "PyInit_libx",
        }
        assert result(distribution(site, "having", files), "having")["extensions"] == []

    def test_nothing_to_import(self, site):
        distribution(site, "data-only", {"data/file.txt": ""})
        one = result(site, "data-only")
        assert (one["status"], one["notes"]) == ("pure", ["nothing to import"])


class TestFailures:
    def failure(self, site, source, *arguments):
        """Check a package of this source, which has to fail; return the result and its failure."""
        distribution(site, "failing", {"failing/__init__.py": source})
        one = result(site, "failing", *arguments, status=1)
        assert (one["status"], one["works"]) == ("fails", False)
        return one, one["failure"]

    def test_exception(self, site):
        source = "def f():\n    if inside: raise LookupError('told\\nmore')\nf()"
        one, failure = self.failure(site, INSIDE + source)
        assert (failure["kind"], failure["text"]) == ("exception", "LookupError: told")
        assert failure["stage"].startswith("while importing failing in interpreter ")
        assert failure["python_frame"] == f'File "{site}/failing/__init__.py", line 4 in f'
        assert "Traceback (most recent call last):" in failure["details"]
        assert one["hints"] == ["It fails in the same way in a single interpreter."]

    @pytest.mark.parametrize(
        "raised", ["SystemExit('leaves')", "type('Panic', (BaseException,), {})('leaves')"]
    )
    def test_exception_of_no_common_kind(self, site, raised):
        _, failure = self.failure(site, f"{INSIDE}if inside: raise {raised}")
        assert failure["text"].endswith(": leaves")

    def test_cause(self, site):
        """The cause is told, not the advice that a package makes of it."""
        source = """
            if inside:
                try:
                    1 / 0
                except Exception as error:
                    raise ImportError("\\n\\nADVICE") from error
            """
        _, failure = self.failure(site, INSIDE + textwrap.dedent(source))
        assert failure["text"] == "ZeroDivisionError: division by zero"
        assert "ADVICE" in failure["details"]

    def test_crash(self, site):
        one, failure = self.failure(site, f"{INSIDE}def f():\n    {SEGFAULT}if inside: f()")
        assert (failure["kind"], failure["text"], failure["module"]) == ("crash", "SIGSEGV", "failing")
        assert failure["python_frame"] == f'File "{site}/failing/__init__.py", line 5 in f'
        assert bool(failure["c_frames"]) == (VERSION >= (3, 14))
        assert one["hints"][-1].startswith("To look into it: ATOLL_DEBUG_CLONES=1 gdb ")

    def test_abort(self, site):
        source = "import os\nif inside:\n    os.write(2, b'free(): invalid pointer\\n')\n    os.abort()"
        _, failure = self.failure(site, INSIDE + source)
        assert failure["text"] == "SIGABRT (free(): invalid pointer)"

    def test_two_at_once(self, site):
        """The one that is imported second cannot bear the first, which lasts until it is closed."""
        source = """
            import os
            if inside:
                try:
                    os.mkdir("first")
                except FileExistsError:
                    raise RuntimeError("another one is here") from None
            """
        write(site / "failing_help.py", INSIDE + textwrap.dedent(source))
        one, failure = self.failure(
            site, "import failing_help, atexit, os\natexit.register(os.rmdir, 'first')"
        )
        assert failure["text"] == "RuntimeError: another one is here"
        assert one["hints"][0].startswith("One interpreter alone can use it")

    def test_alone_in_another_way(self, site):
        source = """
            import os
            if inside:
                if b"isolate\\0001\\0" in open("/proc/self/cmdline", "rb").read():  # how many interpreters
                    raise ValueError("alone")
                os.abort()
            """
        one, failure = self.failure(site, INSIDE + textwrap.dedent(source))
        assert failure["kind"] == "crash"
        assert failure["text"].startswith("SIGABRT")  # two that crash at once print through each other
        hint = "A single interpreter fails in another way: ValueError: alone, while importing failing in interpreter 1."
        assert one["hints"][0] == hint

    def test_timeout(self, site):
        source = f"{INSIDE}import time\nwhile inside: time.sleep(0.1)"
        one, failure = self.failure(site, source, "--timeout", "2")
        assert (failure["kind"], failure["text"]) == ("timeout", "not done after 2 s")
        assert failure["module"] == "failing"
        assert "--timeout" in one["hints"][0]

    def test_close(self, site):
        source = """
            if inside:
                import atexit, os
                atexit.register(os.abort)
            """
        _, failure = self.failure(site, INSIDE + textwrap.dedent(source))
        assert failure["text"].startswith("SIGABRT")
        assert failure["stage"].startswith("while the interpreter was closed")

    def test_exit_status(self, site):
        """What a process prints and how it ends, when everything before went well."""
        source = """
            import atexit, os, sys
            if "--events" in sys.argv and "SEEN" not in os.environ:  # in a child, in its main interpreter
                os.environ["SEEN"] = "1"
                atexit.register(lambda: print("no", flush=True) or os._exit(3))
            """
        write(site / "sitecustomize.py", source)
        one, failure = self.failure(site, "")
        assert (failure["kind"], failure["text"]) == ("status", "exit status 3: no")
        assert failure["stage"] == "at the process's exit"
        assert (
            one["hints"][0]
            == "In the main interpreter, without Atoll: exit status 3: no, at the process's exit."
        )

    def test_module_that_is_built_in(self, site):
        name = next(filter(self.is_refused, sorted(sys.builtin_module_names)), None)
        if name is None:
            pytest.skip("an interpreter can import every module that is built into this Python")
        one = result(site, name, status=1)
        assert one["status"] == "fails"
        assert one["hints"][0].startswith(f"{name} is built into this Python's executable")

    def is_refused(self, name):
        """Whether an interpreter cannot import a module that main can import."""
        with atoll.create() as interp:
            try:
                interp.exec(f"import {name}")
            except atoll.ExecutionFailed as failed:
                return "does not support loading in subinterpreters" in failed.excinfo.msg
        return False

    def test_children_of_a_package(self, site):
        """What a package has started ends with it: nothing waits for it."""
        source = "import subprocess\nsubprocess.Popen(['sleep', '1000'])"
        distribution(site, "starting", {"starting.py": source})
        assert result(site, "starting")["status"] == "pure"


class TestUnimportable:
    def unimportable(self, site, source):
        """Check a package that cannot be imported at all; return the result."""
        distribution(site, "broken", {"broken/__init__.py": source})
        one = result(site, "broken", "--timeout", "5", status=1)
        assert (one["status"], one["works"]) == ("unimportable", False)
        return one

    def test_missing_dependency(self, site):
        one = self.unimportable(site, "import no_such_module.part")
        assert one["failure"]["text"] == "ModuleNotFoundError: No module named 'no_such_module'"
        assert one["hints"] == ["It needs the module no_such_module, which is not installed."]

    def test_exception(self, site):
        one = self.unimportable(site, "raise OSError('no display')")
        assert one["failure"]["text"] == "OSError: no display"

    def test_crash(self, site):
        one = self.unimportable(site, f"if True:\n    {SEGFAULT}")
        assert one["failure"]["text"] == "SIGSEGV"

    def test_hang(self, site):
        one = self.unimportable(site, "import time\ntime.sleep(1000)")
        assert one["failure"]["kind"] == "timeout"


class TestNames:
    def imports(self, site, *names, status=0):
        """Return what is imported for each name."""
        return {name: one["imports"] for name, one in results(site, *names, status=status).items()}

    def test_distribution_and_module(self, site):
        distribution(site, "Py-Own.Thing", {"own/__init__.py": "", "_own/__init__.py": "", "single.py": ""})
        for name in ("Py-Own.Thing", "py_own_thing", "own", "single"):
            assert self.imports(site, name) == {"Py-Own.Thing": ["_own", "own", "single"]}
        assert len(self.imports(site, "own", "single", "py-own-thing")) == 1

    def test_namespace_package(self, site):
        distribution(site, "ns-one", {"ns/one/__init__.py": "", "ns/one/deep/__init__.py": ""})
        distribution(site, "ns-two", {"ns/two/__init__.py": ""})
        distribution(site, "ns-three", {"ns/three.py": ""})
        expected = {"ns-one": ["ns.one"], "ns-two": ["ns.two"], "ns-three": ["ns.three"]}
        assert self.imports(site, "ns-one", "ns-two", "ns-three") == expected
        assert self.imports(site, "ns") == expected

    def test_top_level_names(self, site):
        files = {
            "named/__init__.py": "",
            "tests/__init__.py": "raise RuntimeError",
            "setup.py": "raise SystemExit",
        }
        distribution(site, "named", files, top="named\n")
        assert self.imports(site, "named") == {"named": ["named"]}

    def test_files_for_developers(self, site):
        distribution(
            site, "messy", {"messy/__init__.py": "", "tests/__init__.py": "", "docs/conf.py": "1 / 0"}
        )
        assert self.imports(site, "messy") == {"messy": ["messy"]}

    def test_editable(self, site, corpus):
        """An installation whose list of files does not name its modules."""
        distribution(site, "editable-thing", {"editable.pth": "x = 1\n"})
        write(site / "editable_thing" / "__init__.py", "")
        shutil.copyfile(corpus / f"ext_declares{SUFFIX}", site / "editable_thing" / f"ext_declares{SUFFIX}")
        one = result(site, "editable-thing")
        assert (one["imports"], one["status"]) == (["editable_thing"], "supports")
        assert one["extensions"] == ["editable_thing.ext_declares"]

    def test_module_of_no_distribution(self, site):
        write(site / "loose" / "part" / "__init__.py", "")
        write(site / "loose" / "__init__.py", "")
        assert self.imports(site, "loose", "loose.part", "json") == {
            "loose": ["loose"],
            "loose.part": ["loose.part"],
            "json": ["json"],
        }

    def test_current_directory(self, site):
        write(site.parent / "here.py", "")
        assert self.imports(site, "here") == {"here": ["here"]}

    def test_unicode(self, site, corpus):
        module = next(path for path in corpus.glob(f"ext_*{SUFFIX}") if not path.name.isascii())
        name = module.name.removesuffix(SUFFIX)
        shutil.copyfile(module, site / module.name)
        distribution(site, "foreign", {})
        (site / "foreign-1.0.dist-info" / "RECORD").write_text(f"{module.name},,\n")
        assert result(site, "foreign")["extensions"] == [name]

    @pytest.mark.parametrize("name", ["", ".", "./", "/"])
    def test_file_without_a_name(self, site, name):
        write(site / "foreign_thing.py", "")
        distribution(site, "foreign", {})
        (site / "foreign-1.0.dist-info" / "RECORD").write_text(f"{name},,\nforeign_thing.py,,\n")
        assert self.imports(site, "foreign") == {"foreign": ["foreign_thing"]}

    @pytest.mark.parametrize("name", ["no_such_thing", "not a name", "os.path.nothing", "", "..", "a/b"])
    def test_unknown(self, site, name):
        done = check(site, "json", name)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert done.stderr.startswith(
            "python -m atoll check: no installed distribution and no module is called"
        ), done

    def test_similar(self, site):
        assert "similar: json" in check(site, "jsonn").stderr

    @pytest.mark.parametrize(
        "arguments", [["--jobs", "0"], ["--timeout", "-1"], ["--timeout", "nan"], ["--all", "x"], ["--none"]]
    )
    def test_usage(self, site, arguments):
        done = check(site, *arguments)
        assert (done.returncode, done.stdout) == (2, ""), done


class TestOutput:
    @pytest.fixture
    def three(self, site):
        """Three packages: one that works, one that fails, one that cannot be imported."""
        distribution(site, "alpha", {"alpha.py": ""})
        distribution(site, "beta", {"beta.py": INSIDE + "if inside: raise ValueError('told')"})
        return distribution(site, "gamma", {"gamma.py": "import no_such_module"})

    def test_plain(self, three):
        done = check(three, "alpha", "beta", "gamma", "--jobs", "3")
        assert done.returncode == 1, done
        lines = done.stdout.splitlines()
        assert lines[0] == "alpha 1.0: pure Python"
        assert lines[1].startswith("beta 1.0: fails: while importing beta in interpreter ")
        assert lines[1].endswith(": ValueError: told")
        assert lines[2] == f'    Python: File "{three}/beta.py", line 3 in <module>'
        assert lines[4].startswith(
            "gamma 1.0: cannot be imported here at all: while importing gamma: ModuleNotFound"
        )
        assert lines[-1].startswith("3 packages: 1 is pure Python, 1 fails, 1 cannot be imported (")
        assert done.stderr == ""
        assert "\033" not in done.stdout

    def test_json(self, three):
        done = check(three, "alpha", "beta", "gamma", "--json")
        assert (done.returncode, done.stderr) == (1, ""), done
        document = json.loads(done.stdout)
        assert document["summary"] == {"supports": 0, "isolated": 0, "pure": 1, "fails": 1, "unimportable": 1}
        assert document["python"]["version"].startswith(f"{VERSION[0]}.{VERSION[1]}.")
        assert document["python"]["executable"] == sys.executable
        assert {"atoll", "platform", "timeout", "seconds"} < document.keys()
        assert [one["name"] for one in document["packages"]] == ["alpha", "beta", "gamma"]

    @pytest.mark.skipif(VERSION != (3, 14), reason="it takes a while, and is the same on every version")
    def test_all(self, three):
        """Everything that is installed, once and by name; the packages of the test environment among it."""
        done = check(three, "--jobs", "2", "--json")
        assert done.returncode == 1, done
        names = [one["name"] for one in json.loads(done.stdout)["packages"]]
        assert {"alpha", "beta", "gamma", "pytest"} <= set(names)
        assert len(set(names)) == len(names)
        assert sorted(names, key=lambda name: name.lower().replace("_", "-")) == names

    def on_terminal(self, site, *arguments, **env):
        """Run `check` on a terminal; return its exit status and what it shows."""
        path = os.pathsep.join([str(site), environment()["PYTHONPATH"]])
        reader, writer = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "atoll", "check", *arguments],
            cwd=site.parent,
            env=environment(PYTHONPATH=path, **{"TERM": "xterm", "COLUMNS": "100", **env}),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
        ) as process:
            os.close(writer)
            shown = b""
            try:
                while part := os.read(reader, 10_000):
                    shown += part
            except OSError:  # nobody has the other end any more
                pass
            os.close(reader)
            return process.wait(PATIENCE), shown.decode()

    def test_terminal(self, three):
        status, shown = self.on_terminal(three, "alpha", "beta", "gamma")
        assert status == 1, shown
        for part in [
            "PACKAGE",
            "VERSION",
            "RESULT",
            "\033[1;31mfails",
            "\033[33mcannot be",
            "[0/3] alpha",
            "\033[K",
        ]:
            assert part in shown

    @pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
    def test_terminal_without_colours(self, three, env):
        _, shown = self.on_terminal(three, "alpha", "beta", **env)
        assert "fails" in shown
        assert "\033[1" not in shown
        assert "\033[3" not in shown

    def test_interrupt(self, site):
        """Ctrl-C ends the children and says what is known."""
        distribution(site, "alpha", {"alpha.py": ""})
        source = "import os, time\nopen('running', 'a').write(f'{os.getpid()}\\n')\ntime.sleep(1000)"
        distribution(site, "beta", {"beta.py": source})
        os.mkfifo(site.parent / "running")
        path = os.pathsep.join([str(site), environment()["PYTHONPATH"]])
        with subprocess.Popen(
            [sys.executable, "-m", "atoll", "check", "alpha", "beta", "--jobs", "1"],
            cwd=site.parent,
            env=environment(PYTHONPATH=path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            with open(site.parent / "running") as running:
                child = int(running.readline())
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (-signal.SIGINT, ""), (out, err)
        assert out.startswith("alpha 1.0: pure Python\n"), out
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
