"""create() that fails: why is said, nothing is left, and the next one works."""

from __future__ import annotations

import os
import sys

import pytest

from helpers import check_ended, run_python

# In an interpreter only, when the variable is set.
CUSTOM = """
import os, sys, threading, time
what = os.environ.get("FAIL", "")
if "daemon" in what:
    threading.Thread(target=time.sleep, args=(3,), daemon=True).start()
if "thread" in what:
    threading.Thread(target=time.sleep, args=(0.2,)).start()
if "exit" in what:
    raise SystemExit(3)
if "interrupt" in what:
    raise KeyboardInterrupt("there")
"""

USE = """
import atoll, os, threading
os.environ["FAIL"] = {what!r}
for _ in range(3):
    try:
        atoll.create()
    except atoll.InterpreterError as error:
        assert {expected!r} in str(error), error
    else:
        raise SystemExit("no error")
    with atoll.InterpreterPoolExecutor(1) as pool:
        error = pool.submit(int).exception()
        assert type(error).__name__ == "BrokenInterpreterPool", repr(error)
        assert "could not be started" in str(error), error
        assert {expected!r} in str(error.__cause__), repr(error.__cause__)
del os.environ["FAIL"]
with atoll.create() as interp:
    assert interp.call(len, "abc") == 3
assert [i.id for i in atoll.list_all()] == [0], atoll.list_all()
print("right")
"""


def test_no_file_can_be_opened():
    """It says so, and CPython prints nothing."""
    done = run_python(
        """
        import os, resource
        import atoll
        import concurrent.futures

        atoll.create().close()
        pool = atoll.InterpreterPoolExecutor(1)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.close(least := os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, limits[1]))
        errors = []
        for make in atoll.create, lambda: pool.submit(int).exception().__cause__:
            try:
                errors.append(make())
            except atoll.InterpreterError as error:
                errors.append(error)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        print(*errors, sep=os.linesep)
        with atoll.create() as interp, atoll.InterpreterPoolExecutor(1) as pool:
            assert interp.call(len, "abc") == pool.submit(len, "abc").result() == 3
        """
    )
    expected = "interpreter creation failed: Too many open files\nToo many open files\n"
    check_ended(done, 0, expected)
    assert "getpath" not in done.stderr


@pytest.mark.parametrize(
    "what, expected",
    [
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt: there"),
        ("thread exit", "SystemExit: 3"),
        ("daemon exit", "SystemExit: 3"),
    ],
)
def test_sitecustomize_that_raises(tmp_path, what, expected):
    (tmp_path / "sitecustomize.py").write_text(CUSTOM)
    source = USE.format(what=what, expected=expected)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = run_python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + source, environment=environment
    )
    check_ended(done, 0, "right\n")
    assert "Fatal" not in done.stderr


def test_an_audit_hook_that_refuses():
    done = run_python("""
import sys, atoll
refusing = True
def hook(event, args):
    if refusing and event == "cpython.PyInterpreterState_New":
        raise RuntimeError("no interpreters, please")
sys.addaudithook(hook)
for _ in range(3):
    try:
        atoll.create()
    except atoll.InterpreterError as error:
        assert "no interpreters, please" in str(error)
        assert type(error.__cause__) is RuntimeError
    else:
        raise SystemExit("no error")
refusing = False
with atoll.create() as interp:
    assert interp.call(len, "abc") == 3
print("right")
""")
    check_ended(done, 0, "right\n", clean=True)
