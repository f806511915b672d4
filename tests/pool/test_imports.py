"""What interpreters import before they are used: imports= of pools and of prewarm()."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import atoll
from helpers import check_ended, run_python, wait_for_spares

BAD = [
    ("json", TypeError, r"not a str: \('json',\)\?"),
    (3, TypeError, "not int"),
    (["json", 3], TypeError, r"imports\[1\] must be the name of a module, a str, not int"),
    (["a b"], ValueError, r"imports\[0\]: 'a b'"),
    (["json", ""], ValueError, r"imports\[1\]: ''"),
    (["json."], ValueError, r"imports\[0\]: 'json\.'"),
]


def loaded(*names):
    return [name in sys.modules for name in names]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where modules can be written."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(place: Path, name: str, source: str) -> None:
    (place / f"{name}.py").write_text(source)


class TestPool:
    def test_each_worker_has_them(self):
        with atoll.InterpreterPoolExecutor(2, imports=iter(["colorsys", "xml.dom.minidom"])) as pool:
            answers = list(pool.map(loaded, ["colorsys"] * 20, ["xml.dom.minidom"] * 20, chunksize=1))
        assert answers == [[True, True]] * 20

    def test_before_the_initializer(self, place):
        write(place, "counted", "times = 0\ndef begin(more):\n    global times\n    times += more\n")

        def times():
            return sys.modules["counted"].times

        def begin(more):
            sys.modules["counted"].begin(more)

        with atoll.InterpreterPoolExecutor(1, initializer=begin, initargs=(5,), imports=["counted"]) as pool:
            assert pool.submit(times).result() == 5

    def test_again_in_a_new_interpreter(self):
        with atoll.InterpreterPoolExecutor(1, imports=["colorsys"], max_tasks_per_child=1) as pool:
            assert [pool.submit(loaded, "colorsys").result() for _ in range(3)] == [[True]] * 3

    def test_one_that_is_not_there(self, capfd):
        with atoll.InterpreterPoolExecutor(1, imports=["json", "not_there.at_all"]) as pool:
            future = pool.submit(loaded)
            with pytest.raises(atoll.futures.BrokenInterpreterPool) as caught:
                future.result()
        assert "ImportError: imports: 'not_there.at_all' cannot be imported" in str(caught.value.__cause__)

    def test_one_that_raises(self, place):
        write(place, "raises", "1 / 0")
        with atoll.InterpreterPoolExecutor(1, imports=["raises"]) as pool:
            with pytest.raises(atoll.futures.BrokenInterpreterPool) as caught:
                pool.submit(loaded).result()
        assert "'raises' cannot be imported: ZeroDivisionError: division by zero" in str(
            caught.value.__cause__
        )

    def test_the_collector_rests_meanwhile(self, place):
        write(place, "asks", "import gc\nenabled = gc.isenabled()")

        def states():
            import gc

            return sys.modules["asks"].enabled, gc.isenabled()

        with atoll.InterpreterPoolExecutor(1, imports=["asks"]) as pool:
            assert pool.submit(states).result() == (False, True)

    @pytest.mark.parametrize(("imports", "error", "text"), BAD)
    def test_bad(self, imports, error, text):
        with pytest.raises(error, match=text):
            atoll.InterpreterPoolExecutor(1, imports=imports)


class TestPrewarm:
    @pytest.fixture(autouse=True)
    def none_left(self):
        yield
        atoll.prewarm(0)
        wait_for_spares(0)

    def test_spares_have_them(self):
        atoll.prewarm(2, ["colorsys"])
        wait_for_spares(2)
        with atoll.create() as interp, atoll.InterpreterPoolExecutor(1) as pool:
            assert interp.call(loaded, "colorsys") == [True]
            assert pool.submit(loaded, "colorsys").result() == [True]

    def test_others_are_replaced(self):
        atoll.prewarm(1)
        wait_for_spares(1)
        atoll.prewarm(1, imports=["colorsys"])
        wait_for_spares(1)
        with atoll.create() as interp:
            assert interp.call(loaded, "colorsys") == [True]
        atoll.prewarm(1)
        wait_for_spares(1)
        with atoll.create() as interp:
            assert interp.call(loaded, "colorsys") == [False]

    def test_one_that_is_not_there(self, capfd):
        atoll.prewarm(2, ["not_there", "colorsys"])
        wait_for_spares(2)
        with atoll.create() as interp:
            assert interp.call(loaded, "colorsys") == [False]
            wait_for_spares(2)
        told = capfd.readouterr().err
        assert told.count("atoll: prewarm: ImportError: imports: 'not_there' cannot be imported") == 1

    def test_the_process_ends_meanwhile(self, tmp_path):
        write(tmp_path, "slow", "open('begun', 'w').close()\nwhile True: pass")
        done = run_python(
            f"""
            import atoll, os, time
            os.chdir({str(tmp_path)!r})
            atoll.prewarm(1, ["slow"])
            while not os.path.exists("begun"):
                time.sleep(0.001)
            print("end")
            """
        )
        check_ended(done, 0, "end\n", clean=True)

    @pytest.mark.parametrize(("imports", "error", "text"), BAD)
    def test_bad(self, imports, error, text):
        with pytest.raises(error, match=text):
            atoll.prewarm(1, imports)
