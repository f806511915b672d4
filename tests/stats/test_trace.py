"""Traces: which events are in the file, and that the file is whole whatever happens meanwhile."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import atoll
from helpers import Thread, check_ended, new, run_python, together
from trace_helpers import read, rows_of, spans, tally

pytest_plugins = ["ext_fixtures"]


def double(value):
    return value * 2


def get_from(queue):
    return queue.get()


def spin_until(event):
    while not event.is_set():
        pass


def collect():
    import gc

    gc.collect()


def prepare():
    import colorsys  # noqa: F401


class TestEvents:
    def test_calls(self, tmp_path):
        path = tmp_path / "trace.json"
        with new() as interp:
            for function, argument in ((double, 1), (math.floor, 1.5), (int, "1")):
                interp.call(function, argument)  # it knows them from here on
            with atoll.trace(path) as trace:
                for _ in range(10):
                    interp.call(double, 1)
                interp.exec("pass")
                interp.call(math.floor, 1.5)
                interp.call(int, "1")
            counts = tally(path)
            calls = [e for e in spans(path) if e["cat"] == "call"]
            assert {e["args"]["from"] for e in calls} == {0}
            assert {e["args"]["to"] for e in spans(path) if e["cat"] == "calling"} == {interp.id}
        assert trace.events == sum(counts.values())
        assert trace.dropped == 0
        for name, times in {"double": 10, "exec": 1, "floor": 1, "int": 1}.items():
            assert counts["call", name] == counts["calling", name] == times
        rows = {(e["pid"], e["tid"]) for e in spans(path) if e["cat"] in {"call", "calling"}}
        here = Counter(e["name"] for e in spans(path) if (e["pid"], e["tid"]) in rows)
        # Arguments and results; and a function once more, where something has changed meanwhile that it could see, or
        # another one has taken its place in a table.
        assert here["decode"] >= here["encode"] >= 2 * 12

    def test_what_is_encoded_is_sent(self, tmp_path):
        """Whether a builtin has a path is found out by encoding it, which is nothing that is sent."""
        path = tmp_path / "trace.json"
        functions = [
            getattr(math, name) for name in ("floor", "ceil", "sqrt", "exp", "sin", "cos", "tan", "log")
        ]
        with new() as interp:
            with atoll.trace(path):
                for function in functions:
                    interp.call(function, 0.5)
        counts = tally(path)
        assert counts["codec", "encode"] == counts["codec", "decode"] == 3 * len(functions)

    def test_calls_that_raise(self, tmp_path):
        path = tmp_path / "trace.json"
        with new() as interp, atoll.trace(path):
            with pytest.raises(atoll.ExecutionFailed):
                interp.call(double, None)
            with pytest.raises(atoll.NotShareableError):
                interp.call(double, threading.Lock())
        counts = tally(path)
        assert counts["call", "double"] == counts["calling", "double"] == 1

    def test_what_is_open_at_either_end_is_left_out(self, tmp_path):
        path = tmp_path / "trace.json"
        queue = atoll.create_queue()
        with new() as interp:
            thread = Thread(interp.call, get_from, queue)
            while interp.stats()["state"] != "blocked":
                pass
            with atoll.trace(path):
                queue.put(1)
                assert thread.result() == 1
                thread = Thread(interp.call, get_from, queue)
                while interp.stats()["state"] != "blocked":
                    pass
            queue.put(2)
            assert thread.result() == 2
            assert ("call", "get_from") not in tally(path)

    def test_waits(self, tmp_path):
        path = tmp_path / "trace.json"
        queue = atoll.create_queue(1)
        event = atoll.Event()
        with new() as interp, atoll.trace(path):
            for _ in range(3):
                thread = Thread(interp.call, get_from, queue)
                while interp.stats()["state"] != "blocked":
                    pass
                queue.put(1)
                assert thread.result() == 1
            queue.put(1)
            with pytest.raises(atoll.QueueFull):
                queue.put(2, timeout=0.001)
            assert not event.wait(0.001)
            assert not atoll.Semaphore(0).acquire(timeout=0.001)
            assert not atoll.AtomicInt().wait(0, 0.001)
        counts = tally(path)
        assert counts["wait", "queue get"] == 3
        assert counts["wait", "queue put"] == counts["wait", "event"] == 1
        assert counts["wait", "semaphore"] == counts["wait", "atomic"] == 1
        ids = {e["args"]["id"] for e in spans(path) if e["name"] in {"queue get", "queue put"}}
        assert ids == {queue.id}

    def test_waits_for_a_gil(self, tmp_path):
        path = tmp_path / "trace.json"
        event = atoll.Event()
        with new() as interp, atoll.trace(path):
            thread = Thread(interp.call, spin_until, event)
            while interp.stats()["inside"] == 0:
                pass
            assert interp.call(double, 2) == 4
            event.set()
            thread.result()
        assert tally(path)["gil", "GIL"] >= 1

    def test_tasks_and_arrows(self, tmp_path):
        path = tmp_path / "trace.json"
        with atoll.trace(path):
            with atoll.InterpreterPoolExecutor(2, thread_name_prefix="work", initializer=collect) as pool:
                assert [future.result() for future in [pool.submit(double, n) for n in range(8)]]
                assert list(pool.map(double, range(4), chunksize=2)) == [0, 2, 4, 6]
            with new() as interp:
                assert interp.submit(double, 2).result() == 4
        counts = tally(path)
        assert counts["task", "double"] == 8 + 2 + 1
        assert counts["submit", "double"] == 8 + 1
        assert counts["submit", "submit"] == 2
        assert 1 <= counts["task", "initializer"] <= 2
        events = read(path)
        ends = {phase: [e for e in events if e["ph"] == phase] for phase in "sf"}
        assert len(ends["s"]) == len(ends["f"]) == 11
        begins = {e["id"]: e for e in ends["s"]}
        tasks = {(e["pid"], e["tid"], e["ts"]) for e in events if e.get("cat") == "task"}
        for end in ends["f"]:
            assert end["ts"] >= begins[end["id"]]["ts"]
            assert end["pid"] != begins[end["id"]]["pid"]
            assert (end["pid"], end["tid"], end["ts"]) in tasks
        names = [e["args"]["name"] for e in events if e["name"] == "thread_name"]
        assert any(name.startswith("work_0") for name in names)

    def test_imports_and_collections_everywhere(self, tmp_path):
        path = tmp_path / "trace.json"
        with new() as interp:
            with atoll.trace(path):
                interp.exec("import colorsys, gc\ngc.collect()")
                collect()
                sys.modules.pop("colorsys", None)
                prepare()
                with new() as later:
                    later.exec("import colorsys")
                    ids = {0, interp.id, later.id}
            rows = {e["pid"] for e in spans(path) if (e["cat"], e["name"]) == ("import", "colorsys")}
            processes = rows_of(path, of="process_name")
            assert {processes[pid].split(":")[0] for pid in rows} == {f"interpreter {n}" for n in ids}
            assert {e["args"]["generation"] for e in spans(path) if e["cat"] == "gc"} <= {0, 1, 2}
            assert {e["pid"] for e in spans(path) if e["cat"] == "gc"} >= {min(rows)}
            counts = tally(path)
            assert counts["interpreter", "create"] == counts["interpreter", "close"] == 1
            # Afterwards everything is as it was.
            for where in (atoll.get_main(), interp):
                assert where.call(hooks) == (0, "function")

    def test_imports_where_others_have_replaced_the_function(self, tmp_path):
        """What is there already stays in it, and an import is one event."""
        path = tmp_path / "trace.json"
        with new() as interp:
            with atoll.trace(path):
                interp.exec(
                    "import _frozen_importlib\n"
                    "traced = _frozen_importlib._find_and_load\n"
                    "_frozen_importlib._find_and_load = lambda *args: traced(*args)"
                )
            with atoll.trace(path):
                interp.exec("import colorsys")
            assert tally(path)["import", "colorsys"] == 1

    def test_clones(self, tmp_path, corpus):
        path = tmp_path / "trace.json"
        with new() as interp:
            interp.exec(f"import sys; sys.path.append({str(corpus)!r})")
            with atoll.trace(path):
                for _ in range(2):
                    interp.exec("import ext_single, ext_multi, colorsys")
            made = [e["name"] for e in spans(path) if e["cat"] == "clone"]
            clones = Counter(name for name in made if name.startswith("ext_"))
            assert clones == {"ext_single": 1, "ext_multi": 1}
            assert set(made) <= interp.call(loaded_names)
            assert all(e["args"]["bytes"] > 0 for e in spans(path) if e["cat"] == "clone")
            assert tally(path)["import", "ext_single"] == 1

    def test_names(self, tmp_path):
        path = tmp_path / "trace.json"

        def odd():
            return None

        odd.__qualname__ = 'a "b"\n\ud800' + "c" * 1000
        with new() as interp, atoll.trace(path):
            interp.call(odd)
            odd.__qualname__ = "größe" * 100
            interp.call(odd)
        names = {e["name"] for e in spans(path) if e["cat"] == "calling"}
        assert len(names) == 2
        assert any(name.startswith("größegröße") and len(name.encode()) <= 200 for name in names)


def loaded_names():
    return {extension.module for extension in atoll.loaded_extensions() if extension.how == "isolated"}


def hooks():
    import _frozen_importlib
    import gc

    traced = [callback for callback in gc.callbacks if getattr(callback, "__name__", "") == "collects"]
    return len(traced), type(_frozen_importlib._find_and_load).__name__


class TestOff:
    def test_no_file_and_no_hooks(self, tmp_path):
        done = run_python(
            """
            import atoll, gc, importlib, os
            with atoll.create() as interp:
                interp.call(abs, -1)
            assert gc.callbacks == []
            assert type(importlib._bootstrap._find_and_load).__name__ == "function"
            print(os.listdir())
            """,
            environment={"PWD": str(tmp_path), "ATOLL_TRACE": ""},
        )
        check_ended(done, clean=True)
        assert "trace" not in done.stdout

    def test_an_object_that_is_not_entered_does_nothing(self, tmp_path):
        atoll.trace(tmp_path / "trace.json")
        assert list(tmp_path.iterdir()) == []


class TestArguments:
    def test_what_it_takes(self, tmp_path):
        path = tmp_path / "trace.json"
        for one in (path, str(path), os.fsencode(path)):
            with atoll.trace(one):
                assert json.loads(path.read_text()) == {"traceEvents": []}
            assert read(path) == []
        for wrong in (None, 1, b"a\0b"):
            with pytest.raises((TypeError, ValueError)):
                atoll.trace(wrong)
        with pytest.raises(ValueError, match="at least 1, not 0"):
            atoll.trace(path, max_events=0)
        with pytest.raises(TypeError):
            atoll.trace(path, 5)

    def test_what_cannot_be_written(self, tmp_path):
        ran = False
        for path, error in {
            tmp_path: IsADirectoryError,
            tmp_path / "none" / "trace.json": FileNotFoundError,
            Path("/dev/null"): OSError,
        }.items():
            with pytest.raises(error) as caught, atoll.trace(path):
                ran = True
            assert caught.value.filename == str(path)
        assert not ran
        with atoll.trace(tmp_path / "trace.json"):  # nothing was begun
            pass

    def test_one_at_a_time(self, tmp_path):
        path = tmp_path / "trace.json"
        with atoll.trace(path) as trace:
            with (
                pytest.raises(RuntimeError, match="other.json' cannot be begun: one"),
                atoll.trace(tmp_path / "other.json"),
            ):
                pass
            with new() as interp, pytest.raises(atoll.ExecutionFailed, match="RuntimeError"):
                interp.exec(f"import atoll; atoll.trace({str(path)!r}).__enter__()")
            with pytest.raises(RuntimeError, match="used already"):
                trace.__enter__()
        assert not (tmp_path / "other.json").exists()
        with pytest.raises(RuntimeError, match="used already"):
            trace.__enter__()
        trace.__exit__(None, None, None)
        assert len(spans(path)) == trace.events

    def test_a_file_that_another_process_writes(self, tmp_path):
        path = tmp_path / "trace.json"
        with atoll.trace(path):
            done = run_python(
                f"""
                import atoll
                try:
                    with atoll.trace({str(path)!r}):
                        pass
                except BlockingIOError as error:
                    print(error.strerror, error.filename == {str(path)!r})
                """
            )
        check_ended(done, 0, "another trace is being written to it True\n")
        read(path)

    def test_what_does_not_fit_is_dropped(self, tmp_path):
        path = tmp_path / "trace.json"
        with new() as interp, pytest.warns(RuntimeWarning, match=r"first 100 events; \d+ were dropped"):
            interp.call(double, 1)
            with atoll.trace(path, max_events=100) as trace:
                for _ in range(100):
                    interp.call(double, 1)
        assert trace.events == 100
        assert trace.dropped >= 500
        document = json.loads(path.read_text())
        assert document["otherData"]["dropped"] == trace.dropped
        assert len(spans(path)) == 100

    def test_a_full_disk(self, tmp_path):
        path = tmp_path / "trace.json"
        done = run_python(
            f"""
            import atoll, json, resource, signal
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            with atoll.create() as interp:
                try:
                    with atoll.trace({str(path)!r}):
                        for _ in range(1000):
                            interp.call(abs, 1)
                except OSError as error:
                    print(error.filename == {str(path)!r})
                print(json.load(open({str(path)!r})))
            """
        )
        check_ended(done, 0, "True\n{'traceEvents': []}\n")

    def test_an_exception_in_the_block(self, tmp_path):
        path = tmp_path / "trace.json"
        with new() as interp:
            with pytest.raises(ZeroDivisionError), atoll.trace(path):
                interp.call(double, 1)
                1 / 0  # noqa: B018
            assert tally(path)["call", "double"] == 1


class TestAtWork:
    def test_threads_and_pools_while_it_starts_and_stops(self, tmp_path):
        over = threading.Event()

        def work(number):
            with new() as interp:
                while not over.is_set():
                    interp.call(double, number)

        def trace_some(number):
            try:
                for turn in range(10):
                    with atoll.trace(tmp_path / f"{turn}.json") as trace:
                        pool.submit(collect).result()
                    assert len(spans(tmp_path / f"{turn}.json")) == trace.events
            finally:
                over.set()

        with atoll.InterpreterPoolExecutor(2) as pool:
            list(pool.map(double, range(10)))
            together(3, lambda number: trace_some(number) if number == 0 else work(number))
        assert tally(tmp_path / "9.json")["task", "collect"] == 1

    def test_names_of_interpreters(self, tmp_path):
        path = tmp_path / "trace.json"
        with atoll.create(name='a "b" ü') as one, atoll.trace(path):
            one.call(abs, -1)
            with atoll.create(name="gone") as other:
                pass
        names = set(rows_of(path, of="process_name").values())
        assert names == {
            "interpreter 0: main",
            f'interpreter {one.id}: a "b" ü',
            f"interpreter {other.id}: gone",
        }

    def test_closing_interpreters(self, tmp_path):
        path = tmp_path / "trace.json"
        with atoll.trace(path):
            for _ in range(5):
                with new() as interp:
                    interp.call(double, 1)
        counts = tally(path)
        assert counts["interpreter", "close"] == counts["call", "double"] == 5
        assert counts["calling", "create"] == counts["calling", "close"] == 5
        assert len(rows_of(path, of="process_name")) == 6

    def test_from_another_interpreter(self, tmp_path):
        path = tmp_path / "trace.json"
        with new() as interp:
            interp.exec(f"""
                import atoll
                with atoll.trace({str(path)!r}):
                    atoll.get_main().call(abs, -1)
            """)
            assert tally(path)["call", "abs"] == 1

    def test_a_prewarmed_interpreter(self, tmp_path):
        path = tmp_path / "trace.json"
        atoll.prewarm(1)
        try:
            while atoll._atoll._spares_ready() < 1:
                pass
            with atoll.trace(path), atoll.create() as interp:
                interp.exec("import colorsys")
            assert tally(path)["import", "colorsys"] == 1
        finally:
            atoll.prewarm(0)
