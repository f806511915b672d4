"""Remote tracebacks of code that is in no file: notebooks, doctests, the interactive interpreter, -c, archives."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

import atoll
from helpers import VERSION, run_python


def run_right(source):
    done = run_python(source)
    assert done.returncode == 0, done.stdout + done.stderr


CELL = """
def inner(n):
    return 1 / n  # the inner line

def outer(n):
    # a comment
    return inner(n)  # the outer line

def grouped():
    try:
        inner(0)
    except ZeroDivisionError as error:
        raise ExceptionGroup("several", [error])  # the group's line
"""

# As IPython, doctest and lazy loaders leave it.
RUN_CELL = f"""
import linecache
import atoll

class Loader:
    def get_source(self, name):
        return CELL

CELL = {CELL!r}

def run(filename, lazily):
    if lazily:
        linecache.lazycache(filename, {{"__name__": "cell", "__loader__": Loader()}})
    else:
        linecache.cache[filename] = (len(CELL), None, CELL.splitlines(True), filename)
    names = {{"__name__": "__main__"}}
    exec(compile(CELL, filename, "exec"), names)
    return names

def display(call, *args):
    try:
        call(*args)
    except atoll.ExecutionFailed as error:
        return error.excinfo.errdisplay
    except BaseException as error:
        return error.__cause__.excinfo.errdisplay
"""

EXPECT = """
def check(text, filename):
    lines = text.split("\\n")
    expected = (7, "outer", "return inner(n)  # the outer line"), (3, "inner", "return 1 / n  # the inner line")
    for number, name, source in expected:
        at = lines.index(f'  File "{filename}", line {number}, in {name}')
        assert lines[at + 1] == f"    {source}", text
"""


@pytest.mark.parametrize(
    "filename, lazily",
    [("/tmp/ipykernel_1/23.py", False), ("/tmp/ipykernel_1/23.py", True), ("<ipython-input-1-abc>", False)],
)
def test_cells(filename, lazily):
    run_right(
        RUN_CELL
        + EXPECT
        + f"""
filename = {filename!r}
names = run(filename, {lazily})
with atoll.create() as interp:
    check(display(interp.call, names["outer"], 0), filename)
    check(display(interp.submit(names["outer"], 0).result), filename)
    text = display(interp.call, names["grouped"])
    assert "raise ExceptionGroup(" in text and "return 1 / n  # the inner line" in text, text
with atoll.InterpreterPoolExecutor(1) as pool:
    check(display(pool.submit(names["outer"], 0).result), filename)
    check(display(list, pool.map(names["outer"], [1, 0])), filename)
"""
    )


def test_cells_that_are_forgotten():
    """Then there are no lines; nothing else is lost."""
    run_right(
        RUN_CELL
        + """
names = run("<cell>", False)
linecache.clearcache()
with atoll.create() as interp:
    text = display(interp.call, names["outer"], 0)
assert 'File "<cell>", line 3, in inner' in text and "ZeroDivisionError" in text, text
"""
    )


def test_doctest():
    run_right('''
def f():
    """
    >>> def fails(): return {}["the key"]
    >>> import atoll
    >>> with atoll.create() as interp:
    ...     try: interp.call(fails)
    ...     except atoll.ExecutionFailed as error: print("fails(): return" in error.excinfo.errdisplay)
    True
    """

import doctest
assert doctest.testmod().failed == 0
''')


@pytest.mark.skipif(VERSION < (3, 14), reason="before 3.14, CPython does not know which <string> -c gave")
def test_option_c():
    source = "import atoll, dataclasses\n"
    source += "def fails():\n    raise ValueError('x')  # the line\n"
    source += "with atoll.create() as i: i.call(fails)\n"
    plain = subprocess.run(
        [sys.executable, "-c", "def f():\n    return 1/0  # line\nf()"], capture_output=True, text=True
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    known = "return 1/0  # line" in plain.stderr
    assert ("raise ValueError('x')  # the line" in done.stderr) == known, done.stderr


def test_generated_code_is_not_mistaken():
    """What a library has made with exec() has the file name that -c has."""
    source = "import atoll\n" + "# text\n" * 10
    source += "def fails():\n    exec(compile('\\ndef f():\\n    1/0\\nf()', '<string>', 'exec'), {})\n"
    source += "with atoll.create() as i: i.call(fails)\n"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "# text" not in done.stderr


def test_module_of_an_archive(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("zipped_fails.py", "def fails():\n    return {}['key']  # zipped\n")
    monkeypatch.syspath_prepend(str(tmp_path / "archive.zip"))
    import zipped_fails

    with atoll.create() as interp:
        with pytest.raises(atoll.ExecutionFailed) as caught:
            interp.call(zipped_fails.fails)
    assert "return {}['key']  # zipped" in caught.value.excinfo.errdisplay
