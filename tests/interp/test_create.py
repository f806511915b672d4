"""What create() is told: the name, whether site and daemon threads are there; and spares, which have both."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import atoll
from helpers import PATIENCE, fail, identity, together, wait_for_spares


def comm() -> str:
    """Return the system's name of this thread."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().removesuffix("\n")


def names_here() -> tuple[str | None, str]:
    """Return the interpreter's name, and the thread's for the system."""
    import atoll

    return atoll.get_current().name, comm()


def run(source: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", source],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class TestName:
    def test_everywhere(self):
        with atoll.create(name="io") as interp, atoll.create() as other:
            assert interp.name == "io"
            assert repr(interp) == f"Interpreter({interp.id}, name='io')"
            assert other.name is None
            assert repr(other) == f"Interpreter({other.id})"
            assert other.call(lambda one: (one.name, repr(one)), interp) == ("io", repr(interp))
            assert interp.call(lambda: __import__("atoll").get_current().name) == "io"
            assert next(one for one in atoll.list_all() if one == interp).name == "io"
            assert pickle.loads(pickle.dumps(interp)) is interp
            with pytest.raises(AttributeError):
                interp.name = "another"
        assert interp.name == "io"  # after its end, too
        assert atoll.get_main().name is None
        with atoll.create(name=None) as interp:
            assert interp.name is None

    def test_need_not_be_unique(self):
        with atoll.create(name="twin") as one, atoll.create(name="twin") as two:
            assert one != two
            assert one.name == two.name == "twin"

    @pytest.mark.parametrize("name", ["a", "é" * 31 + "x", "x" * 63, 'it\'s "quoted" {%s} %d', "日本語"])
    def test_good(self, name):
        with atoll.create(name=name) as interp:
            assert interp.name == name
            assert repr(interp) == f"Interpreter({interp.id}, name={name!r})"
            assert interp.stats()["name"] == name
            assert interp.call(comm) != name  # the thread is the caller's

    @pytest.mark.parametrize(
        "name, error, text",
        [
            ("", ValueError, "name must not be empty"),
            ("x" * 64, ValueError, "at most 63 bytes in UTF-8, not 64"),
            ("é" * 32, ValueError, "at most 63 bytes in UTF-8, not 64"),
            ("a\0b", ValueError, "printable"),
            ("a\nb", ValueError, "printable"),
            ("\x1b[2J", ValueError, "printable"),
            ("\ud800", ValueError, "printable"),
            (b"io", TypeError, "must be a str or None, not bytes"),
            (3, TypeError, "must be a str or None, not int"),
        ],
    )
    def test_bad(self, name, error, text):
        before = atoll.stats()["process"]["created"]
        with pytest.raises(error, match=text):
            atoll.create(name=name)
        assert atoll.stats()["process"]["created"] == before

    def test_errors(self):
        with atoll.create(name="io") as interp:
            label = re.escape(f"interpreter {interp.id} ('io')")
            with pytest.raises(TimeoutError, match=f"in {label}"):
                interp.exec("while True: pass", timeout=0.02)
            with pytest.raises(
                atoll.ExecutionFailed, match=f"cannot close {label}: interpreter already running"
            ):
                interp.call(lambda: __import__("atoll").get_main().call(close, interp))
            with pytest.raises(atoll.ExecutionFailed) as caught:
                interp.call(fail, ValueError, "what")
            assert caught.value.excinfo.interpreter == "io"
            assert "\n\nUncaught in the interpreter: 'io'\n\nTraceback" in str(caught.value)
            with pytest.raises(ValueError, match="what") as caught:
                interp.submit(fail, ValueError, "what").result(PATIENCE)
            assert "Uncaught in the interpreter: 'io'" in str(caught.value.__cause__)

    def test_errors_of_an_unnamed_one(self, interp):
        with pytest.raises(atoll.ExecutionFailed) as caught:
            interp.call(fail, ValueError, "what")
        assert not hasattr(caught.value.excinfo, "interpreter")
        assert "\n\nUncaught in the interpreter:\n\n" in str(caught.value)

    def test_threads(self):
        with atoll.create(name="io") as interp:
            assert interp.submit(names_here).result(PATIENCE) == ("io", "io_0")
            assert interp.submit(lambda: threading.current_thread().name).result(PATIENCE) == "io_0"
        with atoll.create(name="ä" * 20) as interp:
            assert interp.submit(names_here).result(PATIENCE) == ("ä" * 20, "ä" * 7)

    def test_pools(self):
        with atoll.InterpreterPoolExecutor(2, thread_name_prefix="w") as pool:
            found = {pool.submit(names_here).result(PATIENCE) for _ in range(8)}
            assert found <= {("w_0", "w_0"), ("w_1", "w_1")}
            with pytest.raises(ValueError, match="what") as caught:
                pool.submit(fail, ValueError, "what").result(PATIENCE)
            assert re.search(r"Uncaught in the interpreter: 'w_[01]'", str(caught.value.__cause__))
        prefix = "é" * 40
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix=prefix) as pool:
            assert pool.submit(names_here).result(PATIENCE) == ("é" * 30 + "_0", "é" * 7)

    def test_supervisor(self):
        queue = atoll.create_queue()
        with atoll.Supervisor() as supervisor:
            supervisor.add("scheduler", tell_name, (queue,), restart="never")
            assert queue.get(timeout=PATIENCE) == "scheduler_0"

    def test_statistics(self):
        with atoll.create(name="io") as interp:
            assert interp.stats()["name"] == "io"
            assert (interp.id, "io") in [(one["id"], one["name"]) for one in atoll.stats()["interpreters"]]
            assert f'atoll_interpreter_calls_total{{interpreter="{interp.id}",name="io"}}' in atoll.metrics()

    def test_left_open(self):
        done = run("import atoll; one, two = atoll.create(), atoll.create(name='io')")
        assert "remaining interpreters at exit: [1, 2 ('io')]; close them" in done.stderr
        assert done.returncode == 0


def close(interp: atoll.Interpreter) -> None:
    interp.close()


def tell_name(queue: atoll.Queue) -> None:
    import atoll

    queue.put(atoll.get_current().name)


class TestSite:
    def test_without(self):
        def look():
            import builtins
            import sys

            return (
                "site" in sys.modules,
                sys.flags.no_site,
                hasattr(builtins, "exit"),
                sys.path,
            )

        with atoll.create(site=False) as interp:
            assert interp.call(look) == (False, 1, False, sys.path)
            assert interp.submit(identity, 3).result(PATIENCE) == 3
            interp.exec("import site; site.main(); exit")  # whoever wants it has it all the same
        with atoll.create(site=True) as interp:
            assert interp.call(look)[:3] == (True, 0, True)

    def test_is_not_handed_on(self):
        with atoll.create(site=False) as interp:
            assert interp.call(create_and_ask) == (True, 0)

    def test_beside_others(self):
        """Who has site and who has not is told apart while they are made at the same time."""

        def look(number):
            site = number % 2 == 0
            with atoll.create(site=site) as interp:
                assert interp.call(has_site) == (site, not site)

        together(4, look)

    @pytest.mark.parametrize("allocator", ["malloc", "debug", "pymalloc"])
    def test_allocators(self, allocator):
        done = subprocess.run(
            [sys.executable, "-c", WITH_ALLOCATOR],
            env={"PYTHONMALLOC": allocator},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout in ("without\n", "refused\n")
        if allocator == "pymalloc":
            assert done.stdout == "without\n"

    def test_process_without(self):
        path = [entry for entry in sys.path if entry]
        source = f"import sys; sys.path[:] = {path!r}\nimport atoll\n" + (
            "for site in True, False:\n"
            "    with atoll.create(site=site) as interp:\n"
            "        interp.exec('import sys; print(sys.flags.no_site, \"site\" in sys.modules)')"
        )
        assert run(source, "-S").stdout == "1 False\n" * 2


WITH_ALLOCATOR = """
import atoll
try:
    with atoll.create(site=False) as interp:
        interp.exec("import sys; print('without' if sys.flags.no_site and 'site' not in sys.modules else 'with')")
except atoll.InterpreterError as error:
    assert "site was imported before it could be left out" in str(error), error
    print("refused")
"""


def create_and_ask() -> tuple[bool, int]:
    import atoll

    with atoll.create() as interp:
        return interp.call(has_site)


def has_site() -> tuple[bool, int]:
    import sys

    return "site" in sys.modules, sys.flags.no_site


class TestDaemonThreads:
    def test_refused(self):
        def start(daemon):
            import threading

            thread = threading.Thread(target=done.append, args=(1,), daemon=daemon)
            thread.start()
            thread.join()
            return done, thread.daemon

        done: list[int] = []
        with atoll.create(daemon_threads=False) as interp:
            with pytest.raises(atoll.ExecutionFailed, match="daemon threads are disabled") as caught:
                interp.call(start, True)
            assert caught.value.excinfo.type.__name__ == "RuntimeError"
            assert interp.call(start, None) == ([1], False)
            assert interp.submit(start, False).result(PATIENCE)[1] is False
            assert interp.submit(lambda: threading.current_thread().daemon).result(PATIENCE) is False
        with atoll.create(daemon_threads=True) as interp:
            assert interp.call(start, True) == ([1], True)

    def test_not_of_others(self):
        """One that cannot start them may make one that can."""

        def nested():
            import atoll

            with atoll.create() as inner:
                inner.exec("import threading; threading.Thread(target=int, daemon=True).start()")
            return True

        with atoll.create(daemon_threads=False) as interp:
            assert interp.call(nested)

    def test_pool_inside(self):
        """What Atoll itself starts there is no daemon."""

        def use_pool():
            import atoll

            with atoll.InterpreterPoolExecutor(1) as pool:
                future = pool.submit(abs, -1)
                told = []
                future.add_done_callback(told.append)
                return future.result(), len(list(pool.map(abs, range(10))))

        with atoll.create(daemon_threads=False) as interp:
            assert interp.call(use_pool) == (1, 10)


class TestSpares:
    @pytest.fixture(autouse=True)
    def one(self):
        atoll.prewarm(1)
        wait_for_spares(1)
        yield
        atoll.prewarm(0)
        wait_for_spares(0)

    def test_a_name_will_do(self):
        spare = next(one["id"] for one in atoll.stats()["interpreters"] if one["state"] == "spare")
        with atoll.create(name="io") as interp:
            assert (interp.id, interp.name, interp.stats()["name"]) == (spare, "io", "io")
            assert interp.call(lambda: __import__("atoll").get_current().name) == "io"
            wait_for_spares(1)
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix="w") as pool:
            assert pool.submit(names_here).result(PATIENCE) == ("w_0", "w_0")

    @pytest.mark.parametrize("choice", [{"site": False}, {"daemon_threads": False}, {"fork": True}])
    def test_others_will_not(self, choice):
        spare = next(one["id"] for one in atoll.stats()["interpreters"] if one["state"] == "spare")
        with atoll.create(**choice) as interp:
            assert interp.id != spare
            assert interp.call(has_site)[0] is choice.get("site", True)
        wait_for_spares(1)


def test_arguments():
    with pytest.raises(TypeError):
        atoll.create("io")
    with pytest.raises(TypeError, match="nome"):
        atoll.create(nome="io")
    atoll.create(name="io", extensions="strict", site=True, daemon_threads=True, fork=False).close()
