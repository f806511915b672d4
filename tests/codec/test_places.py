"""Where a program lives makes no difference: what a script, module, archive or file that runs defines crosses."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from helpers import OPTIONAL

# What is tried in each place.  `call` calls in an interpreter, which must not execute the place's own code.
TRIED = '''
from __future__ import annotations
import dataclasses, logging, os, pickle, sys, threading
import atoll
import xml.etree.ElementTree, logging.handlers
LIMIT = 3
@dataclasses.dataclass
class Job:
    """A job."""
    n: int
    def run(self, by: int = 2) -> int: return self.n * by + LIMIT
def plain(x): return x + LIMIT
def closure(k):
    def inner(x): return x * k + LIMIT
    return inner
def local():
    class Inner:
        def go(self, x): return x + LIMIT
    return Inner()
def names(): return __name__, logging.getLogger(__name__).name
def fails(x):
    return 1 / x  # by nought
def submodules(): return xml.etree.ElementTree.fromstring("<a/>").tag, logging.handlers.QueueHandler.__name__
def check(where, source_lines=True):
    with atoll.create() as interp, atoll.InterpreterPoolExecutor(1) as pool:
        for call in interp.call, lambda f, *args: pool.submit(f, *args).result():
            for _ in range(2):
                assert call(plain, 1) == 4
                assert call(closure(2), 3) == 9
                assert call(lambda x: x + LIMIT, 4) == 7
                assert call(local().go, 5) == 8
                assert call(Job(2).run) == 7
                assert call(lambda: Job(4).run(1)) == 7
                assert call(lambda j: j, Job(5)) == Job(5)
                assert call(names) == names(), (call(names), names())
                assert call(submodules) == submodules()
                assert call(Job.__annotations__.get, "n") == "int" == call(lambda: Job.__annotations__["n"])
        try:
            interp.call(fails, 0)
        except atoll.ExecutionFailed as error:
            shown = error.excinfo.errdisplay
            assert "by nought" in shown or not source_lines, shown
        try:
            interp.call(lambda file: 1, open(os.devnull))
        except atoll.NotShareableError as error:
            assert "TextIOWrapper" in str(error), error
        else:
            raise AssertionError("an open file was sent")
    print("checked in", where)
'''
ONCE = TRIED + "print('executed')\n"
CHECK = ONCE + "check({!r})\n"


def run(tmp_path: Path, *args: str, stdin: str | None = None, cloudpickle: bool = False) -> str:
    """What a program prints that has to end well, and in silence."""
    paths = [str(OPTIONAL)] if cloudpickle else []
    code = ["-X", "dev", "-W", "ignore::ResourceWarning"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": ":".join(paths)}
    ended = subprocess.run(
        [sys.executable, *code, *args],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        input=stdin,
        env=environment,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout


def written(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return name


NAMED = (
    TRIED
    + """
import enum, typing
class Color(enum.Enum):
    RED = 1
class Point(typing.NamedTuple):
    x: int
def pickled(x): return type(pickle.loads(pickle.dumps(x))) is type(x)
def all_pickled(): return [pickled(x) for x in (Job(1), Color.RED, Point(2))]
def module_name(): return sys.modules[__name__].__name__, sys.modules[__name__].LIMIT
"""
)


def test_names_lead_to_stand_ins(tmp_path):
    """What is executed and cannot be imported is found under its name in interpreters, as it is at home."""
    written(tmp_path, "away/plug.py", NAMED)
    program = """
        import importlib.util, pickle, sys, typing, atoll
        spec = importlib.util.spec_from_file_location("plug", "away/plug.py")
        plug = sys.modules["plug"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(plug)
        with atoll.create() as interp:
            assert interp.call(plug.pickled, plug.Point(1)) and interp.call(plug.pickled, plug.Job(2))
            assert interp.call(plug.all_pickled) == [True] * 3
            assert interp.call(plug.module_name) == ("plug", 3)
            assert interp.call(lambda m: m, plug) is plug
            assert interp.call(lambda f: sys.modules["plug"], plug.plain) is plug
        with atoll.create() as interp:  # a class comes first
            assert interp.call(lambda x: type(pickle.loads(pickle.dumps(x))) is type(x), plug.Job(1))
            assert interp.call(plug.all_pickled) == [True] * 3
            assert interp.call(plug.module_name) == ("plug", 3)
            interp.exec("import types; sys = __import__('sys'); sys.modules['plug'] = mine = types.ModuleType('plug')")
            interp.call(lambda x: None, plug.Color.RED)
            interp.exec("assert sys.modules['plug'] is mine and not hasattr(mine, 'Color')")
    """
    assert run(tmp_path, written(tmp_path, "program.py", program)) == ""


def test_module_that_is_imported_at_last(tmp_path):
    """While it is being imported, what it defines crosses by value; then by its name, to everybody."""
    early = """
        import atoll
        LIMIT = 1
        class C:
            def m(self): return LIMIT, later()
        def g(): return LIMIT
        if atoll.get_current().id == 0:
            import program_state
            assert program_state.interp.call(g) == 1
            assert program_state.interp.call(lambda: C().__class__.__name__) == "C"
        def later(): return 5
    """
    written(tmp_path, "folder/early.py", early)
    written(tmp_path, "program_state.py", "interp = None\n")
    program = """
        import sys, atoll, program_state
        interp = program_state.interp = atoll.create()
        sys.path.insert(0, "folder")
        import early
        assert interp.call(early.later) == 5 and interp.call(early.C().m) == (1, 5) and interp.call(early.g) == 1
        interp.close()
    """
    assert run(tmp_path, written(tmp_path, "program.py", program)) == ""


def test_an_import_leaves_the_path_as_it_is(tmp_path):
    """Where a module was found, and misses another; and where one has changed the path itself."""
    written(
        tmp_path,
        "misses.py",
        "import tried\ntried.times += 1\nimport away_from_here\ndef f(): return tried.times\n",
    )
    written(tmp_path, "tried.py", "times = 0\n")
    written(tmp_path, "libraries/away_from_here.py", "")
    own = """
        import os, sys
        here = os.path.dirname(os.path.abspath(__file__))
        sys.path.insert(0, here)
        def first(): return sys.path[0] == here, sys.path.count(here)
    """
    written(tmp_path, "other/puts_itself_first.py", own)
    program = """
        import atoll, sys
        with atoll.create() as interp:
            def path(): import sys; return sys.path
            def tried(): import tried; return tried.times
            before = interp.call(path)
            sys.path.append("libraries")
            import misses
            try:
                interp.call(misses.f)
            except (ImportError, atoll.ExecutionFailed) as error:
                assert "away_from_here" in str(error)
            else:
                raise AssertionError("it was found")
            assert interp.call(path) == before and interp.call(tried) == 1
            sys.path.append("other")
            import puts_itself_first
            assert interp.call(puts_itself_first.first) == (True, 1)
            assert interp.call(path)[1:] == before
    """
    assert run(tmp_path, written(tmp_path, "program.py", program)) == ""


EXECUTED = {
    "runpy.run_path": """
        import runpy
        runpy.run_path("plug.py")
    """,
    "runpy.run_path under its own name": """
        import runpy
        runpy.run_path("plug.py", run_name="plug")
    """,
    "runpy.run_path, used afterwards": """
        import runpy
        found = runpy.run_path("plug.py")
        found["check"]("the program")
    """,
    "the recipe": """
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("plug", "plug.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["plug"] = module
        spec.loader.exec_module(module)
    """,
    "the recipe under another name": """
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("other.name", "plug.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["other.name"] = module
        spec.loader.exec_module(module)
        module.check("the program")
    """,
    "the recipe, not in sys.modules": """
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("secret", "plug.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["secret"] = module  # dataclasses look there
        spec.loader.exec_module(module)
        del sys.modules["secret"]
        module.check("the program")
        import atoll
        with atoll.create() as interp:
            assert interp.call(lambda: module.plain(1) + module.LIMIT) == 7
            assert interp.call(lambda m: m, module) is module
    """,
    "exec": """
        import sys, types
        module = sys.modules["made"] = types.ModuleType("made")
        exec(compile(open("plug.py").read(), "plug.py", "exec"), vars(module))
        module.check("the program")
    """,
    "import": """
        import plug
        plug.check("the program")
    """,
    "import from a directory that is not on the path any more": """
        import os, sys
        os.mkdir("away")
        os.rename("plug.py", "away/plug.py")
        sys.path.insert(0, "away")
        import plug
        del sys.path[0]
        plug.check("the program")
    """,
}


@pytest.mark.parametrize("name", EXECUTED)
def test_file_that_is_executed(name, tmp_path):
    """Nothing is executed a second time for what comes from it, but an import that names it."""
    written(tmp_path, "plug.py", CHECK.format("the file") + "assert LIMIT == 3\n")
    program = written(tmp_path, "program.py", EXECUTED[name])
    out = run(tmp_path, program).splitlines()
    imported = 2 if name == "import" else 0  # an interpreter and a worker, once it is there
    assert out[:2] == ["executed", "checked in the file"]
    assert out.count("checked in the program") == EXECUTED[name].count('"the program"')
    assert out.count("executed") in (1, 1 + imported)


@pytest.mark.parametrize("cloudpickle", [False, True])
@pytest.mark.parametrize("where", ["script", "-c", "stdin", "module", "package", "archive"])
def test_program(where, cloudpickle, tmp_path):
    if cloudpickle and not (OPTIONAL / "cloudpickle").is_dir():
        pytest.skip("cloudpickle is not beside this environment: see tools/env")
    source = CHECK.format(where)
    if where in ("-c", "stdin"):
        source = source.replace(
            "source_lines=True", "source_lines=False"
        )  # CPython's own tracebacks have none
    if where == "script":
        out = run(tmp_path, written(tmp_path, "program.py", source), cloudpickle=cloudpickle)
    elif where == "-c":
        out = run(tmp_path, "-c", source, cloudpickle=cloudpickle)
    elif where == "stdin":
        out = run(tmp_path, "-", stdin=source, cloudpickle=cloudpickle)
    elif where == "module":
        written(tmp_path, "tried.py", ONCE.replace("print('executed')", ""))
        program = written(tmp_path, "program.py", "print('executed')\nimport tried\ntried.check('module')\n")
        out = run(tmp_path, program, cloudpickle=cloudpickle)
    elif where == "package":
        written(tmp_path, "pkg/__init__.py", "")
        written(tmp_path, "pkg/sibling.py", "def twice(x): return 2 * x\n")
        more = """
            from . import sibling
            def relative(x):
                from . import sibling as again
                from .sibling import twice
                return again.twice(x), sibling.twice(x), twice(x), __package__, __spec__.name, __loader__.name
            with atoll.create() as interp:
                assert interp.call(relative, 3) == relative(3) == (6, 6, 6, "pkg", "pkg.app", "pkg.app")
        """
        written(tmp_path, "pkg/app.py", source + textwrap.dedent(more))
        out = run(tmp_path, "-m", "pkg.app", cloudpickle=cloudpickle)
    else:
        with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
            archive.writestr("sibling.py", "def twice(x): return 2 * x\n")
            more = "import sibling\nwith atoll.create() as i: assert i.call(lambda x: sibling.twice(x), 3) == 6\n"
            archive.writestr("__main__.py", source + more)
        out = run(tmp_path, "app.pyz", cloudpickle=cloudpickle)
    assert out == f"executed\nchecked in {where}\n"


TESTS = """
import dataclasses, logging, pickle
import atoll, pytest
LIMIT = 3
@dataclasses.dataclass
class Job:
    n: int
    def run(self): return self.n + LIMIT
def helper(x): return x * LIMIT

def test_everything():
    class Local:
        def go(self): return helper(2)
    k = 4
    def inner(x):
        assert x, "it is rewritten"
        return x + k + LIMIT
    with atoll.create() as interp, atoll.InterpreterPoolExecutor(1) as pool:
        for call in interp.call, lambda f, *args: pool.submit(f, *args).result():
            assert call(inner, 1) == 8
            assert call(Local().go) == 6
            assert call(lambda: helper(3)) == 9
            assert call(Job(1).run) == 4 == call(lambda: Job(1).run())
            assert call(lambda job: type(pickle.loads(pickle.dumps(job))) is type(job), Job(1))
            assert call(lambda: __name__) == __name__ == logging.getLogger(__name__).name
            with pytest.raises(Exception, match="it is rewritten"):
                call(inner, 0)
"""


@pytest.mark.parametrize("mode", ["prepend", "append", "importlib"])
def test_in_a_file_of_pytest(mode, tmp_path):
    written(tmp_path, "folder/test_it.py", TESTS)
    out = run(tmp_path, "-m", "pytest", "-q", f"--import-mode={mode}", "-p", "no:cacheprovider", "folder")
    assert "1 passed" in out


@pytest.mark.parametrize(
    "how",
    [
        "atoll.create().exec('import endless')",
        "atoll.create().call(importlib.import_module, 'endless')",
        "atoll.InterpreterPoolExecutor(1, initializer=importlib.import_module, initargs=('endless',))"
        ".submit(len, '').result()",
        "atoll.prewarm(1); atoll.create().exec('import endless')",
    ],
)
def test_recursion_ends(how, tmp_path):
    """A module that makes an interpreter and has itself imported there."""
    written(tmp_path, "endless.py", f"import atoll, importlib\nprint(atoll.get_current().id)\n{how}\n")
    written(tmp_path, "program.py", "import atoll, endless\n")
    ended = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 1
    assert "interpreters make each other without end" in ended.stderr
    assert '`if __name__ == "__main__":`' in ended.stderr
    assert len(ended.stdout.split()) == 3


def test_depth_alone_is_no_recursion(interp):
    def nest(depth):
        import atoll

        if depth == 0:
            return 0
        with atoll.create() as inner:
            return 1 + inner.call(nest, depth - 1)

    assert interp.call(nest, 4) == 4
