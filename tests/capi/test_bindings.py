"""The C API in Cython and in C++ with pybind11: the same modules in the main interpreter and in others."""

from __future__ import annotations

import importlib
import os

import pytest

import atoll
import capi_build
from helpers import Thread

pytest_plugins = ["capi_fixtures"]

OPAQUE, BYTES, OBJECT = 1, 2, 4


def made(name, capi_folder, monkeypatch):
    """Import a module that needs a package to be compiled."""
    missing = capi_build.missing_for(name)
    if missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing} is not installed")
        pytest.skip(f"{missing} is not installed here")
    capi_build.build_one(name)
    monkeypatch.syspath_prepend(str(capi_folder))
    return importlib.import_module(name)


@pytest.fixture
def elsewhere(capi_folder):
    with atoll.create() as one, atoll.create() as two:
        for interp in (one, two):
            interp.exec(f"import sys; sys.path.insert(0, {str(capi_folder)!r})")
        yield one, two


class TestCython:
    @pytest.fixture
    def module(self, capi_folder, monkeypatch):
        return made("capi_cython", capi_folder, monkeypatch)

    def test_queues(self, module, elsewhere):
        queue = atoll.create_queue(2)
        assert module.put(queue, b"abc") == (0, "")
        kind, data, view = module.get(queue)
        assert (kind, data, bytes(view)) == (OPAQUE, b"abc", b"abc")

        def relay(queue):
            import capi_cython

            queue.put([1, 2])
            capi_cython.put(queue, b"from there")
            return capi_cython.put(queue, b"full", 0)

        for interp in elsewhere:
            assert interp.call(relay, queue) == (-5, f"queue {queue.id} is full")
            assert module.get(queue) == (OBJECT, b"", [1, 2])
            assert module.get(queue)[:2] == (OPAQUE, b"from there")
        with pytest.raises(TypeError, match="a Queue is needed"):
            module.put("queue", b"abc")
        with pytest.raises(TimeoutError, match="is empty"):
            module.get(queue, 0)

    def test_memory(self, module, elsewhere):
        buffer = atoll.SharedBuffer.from_bytes(bytes([1, 2, 3]))
        module.twice(buffer)

        def twice(buffer):
            import capi_cython

            capi_cython.twice(buffer)

        for interp in elsewhere:
            interp.call(twice, buffer)
        assert list(bytes(buffer)) == [8, 16, 24]
        with pytest.raises(ValueError, match="read-only"):
            module.twice(buffer.toreadonly())

    def test_runs_in_others(self, module, elsewhere):
        one, two = elsewhere
        module.run(one, b"x = 1")
        one.prepare_main(two=two)
        one.exec("import capi_cython; capi_cython.run(two, b'y = 2')")
        assert one.call(eval, "__import__('__main__').x") == 1
        assert two.call(eval, "__import__('__main__').y") == 2

    def test_type(self, module, elsewhere):
        def more(money):
            return type(money)(money.cents + 1)

        for interp in elsewhere:
            assert interp.call(more, module.Money(5)).cents == 6


class TestPybind11:
    @pytest.fixture
    def module(self, capi_folder, monkeypatch):
        return made("capi_pybind11", capi_folder, monkeypatch)

    def test_queues(self, module, elsewhere):
        queue = atoll.create_queue(10)

        def produce(queue):
            import capi_pybind11

            return capi_pybind11.produce(queue, 2, 100)

        threads = [Thread(interp.call, produce, queue) for interp in elsewhere]
        threads.append(Thread(module.produce, queue, 2, 100))
        assert module.consume(queue, 600) == 3 * 100 * 4 * (1 + 2)
        assert [thread.result() for thread in threads] == [200] * 3

    def test_python_gets_what_threads_have_put(self, module):
        queue = atoll.create_queue()
        module.produce(queue, 1, 1)
        assert queue.get().cast("d").tolist() == [1.0] * 4

    def test_runs_in_others(self, module, elsewhere):
        one, two = elsewhere
        one.exec("x = 'there'")
        assert module.evaluate(one, "x") == "there"
        assert module.evaluate(one, "1 / 0") == "?"
        assert module.evaluate(atoll.get_main(), "__name__") == "__main__"
        two.prepare_main(one=one)
        two.exec("import capi_pybind11; found = capi_pybind11.evaluate(one, 'x + x')")
        assert two.call(eval, "__import__('__main__').found") == "therethere"
