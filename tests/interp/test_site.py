"""What an interpreter does when it starts: site, sitecustomize, usercustomize and .pth files."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from helpers import VERSION, check_ended

pytest_plugins = ["ext_fixtures"]
pytestmark = pytest.mark.usefixtures("corpus")

# A module that has to be isolated: each interpreter counts for itself.
COUNT = "import ext_static_types, ext_single\n"

LOOK = """
import atoll, sys
def where():
    import atoll, sys
    return [loaded.how for loaded in atoll.loaded_extensions() if loaded.module in ("ext_static_types", "ext_single")]
def use():
    import ext_static_types, ext_single
    return True
one, two = atoll.create(), atoll.create()
for interp in one, two:
    assert interp.call(where) == ["isolated"] * 2, interp.call(where)
    assert interp.call(use)
one.close()
two.close()
with atoll.InterpreterPoolExecutor(1) as pool:
    assert pool.submit(where).result() == ["isolated"] * 2
print("right")
"""


def run(tmp_path, source, *options, paths=(), **environment):
    path = os.pathsep.join([*map(str, paths), os.environ["EXT_CORPUS"], *filter(None, sys.path)])
    command = [sys.executable, *options, "-c", textwrap.dedent(source)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize"])
def test_extensions_are_isolated(tmp_path, name):
    (tmp_path / f"{name}.py").write_text(COUNT)
    # usercustomize is only looked for where user site-packages are enabled, which they are not in a venv.
    if name == "usercustomize":
        (tmp_path / "sitecustomize.py").write_text("import site; site.ENABLE_USER_SITE = True\n")
    done = run(tmp_path, LOOK, paths=[tmp_path])
    check_ended(done, 0, "right\n", clean=True)


def test_extensions_of_pth_files(tmp_path):
    (tmp_path / "count.pth").write_text("import ext_static_types, ext_single\n")
    (tmp_path / "sitecustomize.py").write_text(f"import site; site.addsitedir({str(tmp_path)!r})\n")
    check_ended(run(tmp_path, LOOK, paths=[tmp_path]), 0, "right\n", clean=True)


def test_the_same_as_python_does(tmp_path):
    """Flags, names and paths are those that CPython leaves."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.customized = __name__\n")
    source = """
        import atoll
        def look():
            import builtins, site, sys
            names = [name for name in ("exit", "quit", "copyright", "help") if hasattr(builtins, name)]
            return (tuple(sys.flags), repr(sys.flags), names, site.PREFIXES, site.ENABLE_USER_SITE,
                    sys.customized, sys.modules["site"].__spec__.origin)
        with atoll.create() as interp:
            assert interp.call(look) == look(), (interp.call(look), look())
        print("right")
        """
    check_ended(run(tmp_path, source, paths=[tmp_path]), 0, "right\n", clean=True)
    for options in (["-s"], ["-X", "dev"], ["-B"], ["-W", "error"], ["-O"]):
        check_ended(run(tmp_path, source, *options, paths=[tmp_path]), 0, "right\n", clean=True)


@pytest.mark.parametrize("options", [["-S"], ["-S", "-B"]])
def test_without_site(tmp_path, options):
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit(3)\n")
    source = """
        import atoll, sys
        assert "site" not in sys.modules
        def look():
            import sys
            return "site" in sys.modules, sys.flags.no_site
        with atoll.create() as interp:
            assert interp.call(look) == (False, 1)
        print("right")
        """
    check_ended(run(tmp_path, source, *options, paths=[tmp_path]), 0, "right\n", clean=True)


def test_an_error_in_sitecustomize(tmp_path):
    """It is reported as Python does, and the interpreter is there all the same."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif hasattr(sys, 'x'): pass\nraise ValueError('what')\n"
    )
    done = run(tmp_path, "import atoll\nwith atoll.create() as i: i.exec('print(1)')", paths=[tmp_path])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"
    assert (
        done.stderr.count("Error in sitecustomize; set PYTHONVERBOSE for traceback:\nValueError: what\n") == 2
    )


def test_site_that_cannot_be_imported(tmp_path):
    """create() fails, and says why; the process goes on."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif os.environ.get('BREAK'): raise KeyboardInterrupt('broken here')\n"
    )
    source = """
        import atoll, os
        os.environ["BREAK"] = "1"
        for _ in range(3):
            try:
                atoll.create()
            except atoll.InterpreterError as error:
                assert "broken here" in str(error), error
            else:
                raise SystemExit("no error")
        del os.environ["BREAK"]
        with atoll.create() as interp:
            interp.exec("x = 1")
        assert len(atoll.list_all()) == 1
        print("right")
        """
    check_ended(run(tmp_path, source, paths=[tmp_path]), 0, "right\n", clean=True)


def test_sitecustomize_that_uses_atoll(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import atoll, sys\natoll.install()\nsys.mine = atoll.get_current().id\nsys.n = len(atoll.list_all())\n"
    )
    source = """
        import atoll, sys
        def look():
            import sys
            return sys.mine
        interps = [atoll.create() for _ in range(3)]
        assert [i.call(look) for i in interps] == [i.id for i in interps]
        for interp in interps:
            interp.close()
        print("right")
        """
    check_ended(run(tmp_path, source, paths=[tmp_path]), 0, "right\n", clean=True)


def test_sitecustomize_that_creates(tmp_path):
    """The code of one that is being made may make another."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.pop('DEPTH', None):\n"
        "    import atoll\n"
        "    atoll.create().close()\n"
        "    import ext_single\n"
    )
    source = """
        import atoll, os
        os.environ["DEPTH"] = "1"
        with atoll.create() as interp:
            interp.exec("import ext_single, sys; assert sys.flags.no_site == 0")
        print("right")
        """
    check_ended(run(tmp_path, source, paths=[tmp_path]), 0, "right\n", clean=True)


@pytest.mark.skipif(VERSION < (3, 15), reason="3.15 has lazy imports")
def test_lazy_imports(tmp_path):
    source = """
        import atoll, sys
        with atoll.create() as interp:
            interp.exec("import sys, site; assert sys.get_lazy_imports() == 'all', sys.get_lazy_imports(); assert exit")
        print("right")
        """
    check_ended(run(tmp_path, source, "-X", "lazy_imports=all", paths=[tmp_path]), 0, "right\n", clean=True)


def test_interpreters_that_others_make(tmp_path):
    """Nothing changes for those of the standard library, at the same time."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.customized = True\n")
    source = """
        import atoll, threading
        from helpers import private_module
        module = private_module()
        code = "import sys; assert sys.customized and not sys.flags.no_site"
        problems = []
        def run():
            for _ in range(10):
                made = module.create()
                try:
                    problems.append((getattr(module, "exec", None) or module.run_string)(made, code))
                except BaseException as error:
                    problems.append(error)
                module.destroy(made)
        thread = threading.Thread(target=run)
        thread.start()
        for _ in range(10):
            atoll.create().close()
        thread.join()
        assert problems == [None] * 10, problems
        print("right")
        """
    done = run(tmp_path, source, paths=[tmp_path])
    check_ended(done, 0, "right\n", clean=True)
