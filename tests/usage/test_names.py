"""Names, signatures and messages: what dir(), help() and tracebacks show, beside the standard library's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import inspect
import pickle
import re
import threading
import warnings
from pathlib import Path

import pytest

import atoll
import atoll.futures
import atoll.interpreters
from helpers import PATIENCE, fail, identity

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"atoll": atoll, "atoll.futures": atoll.futures, "atoll.interpreters": atoll.interpreters}
PUBLIC = [(where, name) for where, module in MODULES.items() for name in module.__all__]


class TestNames:
    def test_where_it_is(self):
        assert atoll.futures.InterpreterPoolExecutor is atoll.InterpreterPoolExecutor
        assert "InterpreterPoolExecutor" in atoll.__all__

    def test_unknown_name(self):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = atoll.nothing

    def test_dir(self):
        public = {name for name in dir(atoll) if not name.startswith("_")}
        assert public == {*atoll.__all__, "futures", "interpreters"}
        assert {"__version__", "__doc__", "__all__"} < set(dir(atoll))
        for module in (atoll.futures, atoll.interpreters):
            assert {name for name in dir(module) if not name.startswith("_")} == set(module.__all__)

    def test_of_an_interpreter(self, interp):
        def names():
            import atoll

            return dir(atoll), [hasattr(atoll, name) for name in dir(atoll)]

        found, there = interp.call(names)
        assert found == dir(atoll)
        assert all(there)

    def test_public_names_of_results_of_map(self):
        with atoll.InterpreterPoolExecutor(1) as pool:
            assert [name for name in dir(pool.map(len, ["a"])) if not name.startswith("_")] == ["close"]

    @pytest.mark.parametrize("where, name", PUBLIC)
    def test_module(self, where, name):
        thing = getattr(MODULES[where], name)
        assert thing.__module__ in ("atoll", "atoll.futures")
        if name.startswith("UNBOUND"):
            assert repr(thing) == f"atoll.{name}"
        else:
            assert getattr(importlib.import_module(thing.__module__), thing.__qualname__) is thing
        assert pickle.loads(pickle.dumps(thing)) is thing

    @pytest.mark.parametrize("where, name", PUBLIC)
    def test_crosses(self, where, name, interp):
        thing = getattr(MODULES[where], name)
        assert interp.call(identity, thing) is thing

    def test_tracebacks(self, interp):
        with pytest.raises(atoll.ExecutionFailed, match=r"(?m)^atoll\.QueueEmpty: "):
            interp.exec("import atoll; atoll.create_queue().get_nowait()")

    def test_version(self):
        meson = (ROOT / "meson.build").read_text()
        assert re.search(r"^  version: '(.+)',$", meson, re.MULTILINE)[1] == atoll.__version__


class TestSignatures:
    @pytest.mark.parametrize("where, name", PUBLIC)
    def test_can_be_had(self, where, name):
        thing = getattr(MODULES[where], name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            return  # the builtin ones have none either
        if not name.startswith("UNBOUND"):
            assert inspect.signature(thing) is not None

    @pytest.mark.parametrize(
        "kind", [atoll.Interpreter, atoll.Queue, atoll.InterpreterPoolExecutor, atoll.futures.Future]
    )
    def test_of_methods(self, kind):
        for name, method in inspect.getmembers(kind, callable):
            if not name.startswith("_") and not isinstance(method, type):
                assert list(inspect.signature(method).parameters)[:1] in (["self"], ["initializer"]), name

    def test_are_the_standard_librarys(self):
        standard = pytest.importorskip("concurrent.interpreters", reason="of CPython 3.14 and later")
        for kind in (standard, standard.Interpreter, standard.Queue):
            ours = atoll if kind is standard else getattr(atoll, kind.__name__)
            for name, thing in inspect.getmembers(kind, callable):
                if name.startswith("_") or isinstance(thing, type) or name == "is_shareable":
                    continue  # that has none there
                theirs = inspect.signature(thing).parameters
                own = inspect.signature(getattr(ours, name)).parameters
                wanted = [parameter for parameter in theirs if not parameter.startswith("_")]
                assert [parameter for parameter in own if parameter in theirs] == wanted, name

    def test_unbounditems_none(self):
        queue = atoll.create_queue(3, unbounditems=None)
        assert (queue.maxsize, queue.unbounditems) == (3, atoll.create_queue().unbounditems)


async def coroutine():
    return 1


class TestMessages:
    def test_main(self):
        main = atoll.get_main()
        for call in (
            lambda: main.exec("1"),
            lambda: main.submit(int),
            main.close,
            lambda: main.prepare_main(a=1),
        ):
            with pytest.raises(
                atoll.InterpreterError,
                match=r"interpreter 0, the main one: only call\(\) and call_in_thread\(\)",
            ):
                call()

    def test_prepare_main(self, interp):
        with pytest.raises(atoll.NotShareableError, match=r"a\[1\]: list is not shareable .* call\(\)"):
            interp.prepare_main(a=(1, [2]))

    def test_coroutine_functions(self, interp):
        with warnings.catch_warnings(), atoll.InterpreterPoolExecutor(1) as pool:
            warnings.simplefilter("error")
            for call in (
                lambda: interp.call(coroutine),
                lambda: interp.submit(coroutine).result(PATIENCE),
                lambda: asyncio.run(interp.call_async(coroutine)),
                lambda: pool.submit(coroutine).result(PATIENCE),
            ):
                with pytest.raises(atoll.NotShareableError, match=r"coroutine .*asyncio\.run\(\)"):
                    call()

    def test_coroutine_functions_do_not_warn(self, interp, capfd):
        with pytest.raises(atoll.NotShareableError):
            interp.call(coroutine)
        with pytest.raises(atoll.NotShareableError):
            interp.submit(coroutine).result(PATIENCE)
        assert capfd.readouterr().err == ""


class TestBrokenPools:
    """What BrokenInterpreterPool says, and why."""

    def broken(self, **options):
        with atoll.InterpreterPoolExecutor(1, **options) as pool:
            future = pool.submit(identity, 1)
            with pytest.raises(atoll.futures.BrokenInterpreterPool) as caught:
                future.result(PATIENCE)
            with pytest.raises(atoll.futures.BrokenInterpreterPool) as at_once:
                pool.submit(identity, 2)
            assert str(at_once.value) == str(caught.value)
            assert str(at_once.value.__cause__) == str(caught.value.__cause__)
        assert isinstance(caught.value, concurrent.futures.BrokenExecutor)
        return caught.value

    def test_initializer_that_raises(self):
        error = self.broken(initializer=fail, initargs=(ValueError, "spam"))
        assert "A thread initializer failed" in str(error)
        assert type(error.__cause__) is atoll.ExecutionFailed
        assert error.__cause__.excinfo.msg == "spam"

    def test_import_that_fails(self):
        error = self.broken(imports=["json", "no_such_module"], initializer=fail)
        assert str(error).startswith("imports: 'no_such_module' cannot be imported: ModuleNotFoundError")
        assert type(error.__cause__) is atoll.ExecutionFailed

    @pytest.mark.parametrize("imports", [(), ("json",)], ids=["alone", "after imports"])
    def test_what_cannot_be_sent_is_named(self, imports):
        error = self.broken(imports=imports, initializer=identity, initargs=(1, [threading.Lock()]))
        assert str(error.__cause__).startswith("initargs[1][0]: _thread.lock is not shareable"), (
            error.__cause__
        )
        lock = threading.Lock()
        error = self.broken(imports=imports, initializer=lambda: lock)
        assert str(error.__cause__).startswith("initializer.__closure__['lock']: _thread.lock"), (
            error.__cause__
        )

    def test_initializer_that_cannot_be_sent(self):
        error = self.broken(initializer=identity, initargs=(threading.Lock(),))
        assert "cannot be sent" in str(error)
        assert type(error.__cause__) is atoll.NotShareableError
        assert "lock" in str(error.__cause__)
