"""What modules and files of a test runner define crosses as what a script defines, with cloudpickle and without."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import pytest

from atoll._crossing import places
from helpers import OPTIONAL

HAS_CLOUDPICKLE = (OPTIONAL / "cloudpickle").is_dir()

LIBRARY = """
    import contextlib, dataclasses, enum, functools, os

    scale = 2
    loaded = []
    loaded.append(__name__)

    def closure(n):
        def inner(x):
            return x + n + scale
        return inner

    def local_class(n):
        class Local:
            def get(self):
                return n, scale
            def up(self):
                return __class__.__name__
        class Sub(Local):
            def up(self):
                return ["Sub", super().up()]
        return Sub

    def local_enum():
        class Local(enum.Enum):
            A = 1
        return Local

    def local_dataclass():
        @dataclasses.dataclass
        class Local:
            a: int = 1
        return Local

    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args):
            return "wrapped", function(*args)
        return wrapper

    @decorate
    def decorated(x):
        return x

    double = lambda x: x * 2
    TABLE = {"plus": lambda x: x + 1}

    class Own:
        def __init__(self):
            self.callback = lambda: "called"
        def method(self):
            return type(self).__name__, self.callback()

    def holder_of_file():
        file = open(os.devnull)
        def inner():
            return file.name
        return inner
"""

CHECKS = """
    import atoll, library

    def check_all():
        with atoll.create() as i:
            assert i.call(library.closure(1), 2) == 5
            Local = library.local_class(3)
            assert i.call(Local().get) == (3, 2)
            assert i.call(lambda one: one.up(), Local()) == ["Sub", "Local"]
            assert i.call(lambda: Local().get()) == (3, 2)
            E = library.local_enum()
            assert i.call(lambda e: e is E.A, E.A)
            D = library.local_dataclass()
            assert i.call(lambda: D(5)) == D(5)
            assert i.call(library.decorated, 1) == ("wrapped", 1)
            assert i.call(library.double, 2) == 4
            assert i.call(library.TABLE["plus"], 2) == 3
            assert i.call(library.Own().method) == ("Own", "called")
            assert i.call(lambda: library.closure(1)(1)) == 4
            assert i.call(lambda: library.loaded) == ["library"]
            assert i.call(map, library.double, [1])
            try:
                i.call(library.holder_of_file())
            except atoll.NotShareableError as error:
                assert "TextIOWrapper" in str(error), error
            else:
                raise AssertionError("an open file has crossed")
"""

RUNNER = """
    import atoll, dataclasses, enum, pytest

    count = 1
    ran = []
    ran.append(1)
    assert len(ran) == 1

    def plus(x): return x + count

    class Shape:
        kinds = []
        def __init_subclass__(cls, *, kind): Shape.kinds.append(kind)
    class Circle(Shape, kind="round"):
        def area(self): return 3

    @dataclasses.dataclass
    class Item:
        n: int = 1
    class Color(enum.Enum):
        RED = 1

    @pytest.fixture
    def interp():
        with atoll.create() as interp:
            yield interp

    def test_function(interp):
        assert interp.call(plus, 1) == 2
        assert interp.call(lambda: plus(2)) == 3

    @pytest.mark.parametrize("k", [1, 2])
    def test_classes(interp, k):
        class Local(Circle, kind=f"local {k}"):
            def area(self): return super().area() + k
        assert interp.call(lambda: (Local().area(), Circle().area(), "round" in Shape.kinds)) == (3 + k, 3, True)
        assert interp.call(lambda i, c: (i.n, c is Color.RED), Item(k), Color.RED) == (k, True)
        assert interp.call(lambda: ran) == [1]

    class TestInClass:
        factor = 2
        def test_method(self, interp):
            assert interp.call(lambda: TestInClass.factor) == 2
            assert interp.call(self.helper, 3) == 6
        def helper(self, x): return x * self.factor

    def test_pool():
        with atoll.InterpreterPoolExecutor(2) as pool:
            assert list(pool.map(plus, range(3))) == [1, 2, 3]

    def test_changed(interp):
        global count
        assert interp.call(plus, 1) == 2
        count = 5
        assert interp.call(plus, 1) == 6
        assert interp.call(lambda: plus(2)) == 7
"""


def run(folder: Path, *arguments: str, cloudpickle: bool) -> subprocess.CompletedProcess[str]:
    paths = [*([str(OPTIONAL)] if cloudpickle else []), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(params=[False, True], ids=["without cloudpickle", "with cloudpickle"])
def cloudpickle(request):
    if request.param and not HAS_CLOUDPICKLE:
        pytest.skip("cloudpickle is not beside this environment: see tools/env")
    return request.param


@pytest.mark.parametrize("inside", [False, True], ids=["from a script", "from a module"])
def test_a_module(tmp_path, cloudpickle, inside):
    (tmp_path / "library.py").write_text(textwrap.dedent(LIBRARY))
    checks = textwrap.dedent(CHECKS)
    if inside:
        (tmp_path / "checks.py").write_text(checks)
        checks = "from checks import check_all\n"
    (tmp_path / "program.py").write_text(checks + "check_all()\nprint('done')\n")
    done = run(tmp_path, "program.py", cloudpickle=cloudpickle)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_file_of_a_test_runner(tmp_path, cloudpickle):
    # pytest imports it by its name: a module like any other
    (tmp_path / "test_user.py").write_text(textwrap.dedent(RUNNER))
    options = ["-q", "-p", "no:cacheprovider", "-k", "not changed"]
    done = run(tmp_path, "-m", "pytest", *options, "test_user.py", cloudpickle=cloudpickle)
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout


def test_a_file_that_a_test_runner_executes(tmp_path, cloudpickle):
    # No name finds it: its functions go by value, with their globals as they are.
    (tmp_path / "test_user.py").write_text(textwrap.dedent(RUNNER))
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    done = run(tmp_path, "-P", "-m", "pytest", *options, "test_user.py", cloudpickle=cloudpickle)
    assert done.returncode == 0 and "6 passed" in done.stdout, done.stdout


WITHOUT_GLOBALS = """
    def plus(a, b):
        return a + b
    names = {plus: "plus"}
    def name_of(function):
        return names[function]
    def look_up(name):
        return globals()[name]
    class Tools:
        @staticmethod
        def minus(a, b):
            return a - b
    names[Tools.minus] = "minus"
"""


def test_a_module_s_function_that_uses_no_global_is_the_module_s_own(tmp_path: Path) -> None:
    """It is looked for by identity there, and may ask for its globals as a whole."""
    (tmp_path / "library.py").write_text(textwrap.dedent(WITHOUT_GLOBALS))
    program = """
    import atoll, library
    def same(function):
        import library
        return function is library.plus
    with atoll.create() as interp, atoll.InterpreterPoolExecutor(1) as pool:
        assert interp.call(library.name_of, library.plus) == "plus"
        assert interp.call(library.name_of, library.Tools.minus) == "minus"
        assert interp.call(same, library.plus)
        assert interp.call(library.plus, 1, 2) == 3
        assert interp.call(library.look_up, "names") == library.names
        assert pool.submit(library.look_up, "names").result() == library.names
        assert interp.call(lambda f: f, library.plus) is library.plus
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    done = run(tmp_path, "program.py", cloudpickle=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_an_interpreter_has_put_in_the_place_of_a_module_s_function_is_called(tmp_path: Path) -> None:
    """Whether a call came before that or not: a reload, a replacement for a test, another import."""
    (tmp_path / "library.py").write_text(
        "ONE = 1\nclass Tools:\n    def made(): return ONE\n\ndef work(): return ONE\n"
    )
    program = """
    import atoll, library
    def both(interp):
        return interp.call(library.work), interp.call(library.Tools.made), interp.call(library.Tools.made)
    with atoll.create() as interp, atoll.create() as fresh:
        assert both(interp) == (1, 1, 1)
        for one in (interp, fresh):
            one.exec("import library; library.work = lambda: 2; library.Tools.made = lambda: 2")
            assert both(one) == (2, 2, 2), both(one)
            one.exec("del library.work; library.work = len; library.Tools = type('Tools', (), {'made': str})")
            assert one.call(library.work, "abc") == 3 and both.__name__ == "both"
            assert one.call(library.Tools.made, 5) == "5"
            one.exec("import importlib; importlib.reload(library)")
            assert both(one) == (1, 1, 1), both(one)
            one.exec("import sys; del sys.modules['library']; import library; library.work = lambda: 3")
            assert both(one) == (3, 1, 1), both(one)
        assert interp.call(len, "abc") == 3
        interp.exec("import builtins; builtins.len = lambda x: 7")
        assert interp.call(len, "abc") == 7
        interp.exec("import builtins; builtins.len = [].__class__.__len__")
        assert interp.call(len, [1]) == 1
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    done = run(tmp_path, "program.py", cloudpickle=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_looking_for_a_module_that_is_being_executed_keeps_nothing_of_who_asks() -> None:
    """A frame that has itself as a local variable would keep its callers', too, until the next garbage collection."""

    class Local:
        pass

    def ask() -> weakref.ref[Local]:
        local = Local()
        assert not places.is_executing("json")
        return weakref.ref(local)

    collects = gc.isenabled()
    gc.disable()
    try:
        assert ask()() is None
    finally:
        if collects:
            gc.enable()
