"""A process is forked while another thread imports: the child imports that itself."""

from __future__ import annotations

import pytest

from helpers import check_ended, run_python

PACKAGE = {
    "__init__.py": "from . import first\nfrom . import second\nnames = (first.__name__, second.name)\n",
    "first.py": "",
    "second.py": "import _json\nimport main_side\nmain_side.wait()\nname = 'second'\n",
}

SCRIPT = """
import os, signal, sys, threading, types, warnings
import atoll
warnings.simplefilter("ignore")
sys.path.insert(0, {where!r})
inside, end = threading.Event(), threading.Event()
side = types.ModuleType("main_side")
parent = os.getpid()
def wait():
    if os.getpid() == parent:
        inside.set()
        end.wait()
side.wait = wait
sys.modules["main_side"] = side

def go():
    thread = threading.Thread(target=__import__, args=("cut",))
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        import cut
        assert cut.names == ("cut.first", "second"), cut.names
        assert cut.first.__name__ == "cut.first"
        with atoll.create() as interp:
            assert interp.call(abs, -3) == 3
        with atoll.InterpreterPoolExecutor(1) as pool:
            assert pool.submit(abs, -3).result(30) == 3
        os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7, status
    end.set()
    thread.join()
    assert sys.modules["cut"].names == ("cut.first", "second")
"""


@pytest.fixture
def script(tmp_path):
    package = tmp_path / "cut"
    package.mkdir()
    for name, text in PACKAGE.items():
        (package / name).write_text(text)
    return SCRIPT.format(where=str(tmp_path))


def test_in_main(script):
    check_ended(run_python(script + "go()\nprint('ok')\n"), out="ok\n")


def test_in_an_interpreter(script):
    source = f"with atoll.create(fork=True) as interp:\n    interp.exec({script + 'go()'!r})\nprint('ok')\n"
    check_ended(run_python("import atoll\n" + source), out="ok\n")
