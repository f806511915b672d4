"""Supervisors: children that cannot be started, statuses that they end with, stops in the midst of starts."""

from __future__ import annotations

import math
import sys
import threading

import pytest

import atoll
from atoll._supervisor import supervised
from helpers import PATIENCE, run_python
from supervisor_children import IncomparableCode, count, live


class TestStarts:
    def test_back_off_is_limited_from_the_first_on(self, events):
        with atoll.Supervisor(on_event=events, max_restarts=1) as supervisor:
            supervisor.add("a", count, (atoll.AtomicInt(), 9), backoff=math.inf, max_backoff=0.01)
            with pytest.raises(atoll.SupervisorError):
                supervisor.wait(PATIENCE)
        assert events.wait_for("restarting", "a").delay == 0.01

    @pytest.mark.parametrize("code", [None, 0, False])
    def test_exit_status_of_success(self, events, code):
        with atoll.Supervisor(on_event=events) as supervisor:
            supervisor.add("a", sys.exit, (code,), restart="on-failure")
            assert supervisor.wait(PATIENCE)
        assert events.kinds() == [("started", "a"), ("ended", "a")]

    @pytest.mark.parametrize("code", [1, 0.0, "", IncomparableCode()])
    def test_exit_status_of_failure(self, events, code):
        with atoll.Supervisor(on_event=events, max_restarts=0) as supervisor:
            supervisor.add("a", sys.exit, (code,), restart="on-failure")
            with pytest.raises(atoll.SupervisorError):
                supervisor.wait(PATIENCE)
        assert events.kinds() == [("started", "a"), ("failed", "a"), ("gave up", "a")]

    @pytest.mark.parametrize("times", [1, 2])
    def test_a_start_that_fails(self, events, monkeypatch, caplog, times):
        """No thread, or no memory, is a failure of the child; the others go on."""
        failures = iter([RuntimeError("no thread")] * times)
        make = supervised.InterpreterPoolExecutor

        def attempt(number, name, **settings):
            if name == "a" and asked and (error := next(failures, None)) is not None:
                raise error
            return make(number, name, **settings)

        asked = []
        monkeypatch.setattr(supervised, "InterpreterPoolExecutor", attempt)
        queue = atoll.create_queue()
        with atoll.Supervisor(on_event=events) as supervisor:
            supervisor.add("b", live, (queue, "b"))
            assert queue.get(timeout=PATIENCE) == ("b", "began")
            supervisor.add("a", live, (queue, "a"), backoff=0.01)
            assert queue.get(timeout=PATIENCE) == ("a", "began")
            asked.append(True)
            supervisor.restart("a")
            assert queue.get(timeout=PATIENCE) == ("a", "ended")
            assert queue.get(timeout=PATIENCE) == ("a", "began")
            assert supervisor.children()["a"].restarts == 1 + times
        again = [("failed", "a"), ("restarting", "a")] * times
        assert events.kinds("a") == [
            ("started", "a"),
            ("stopped", "a"),
            *again,
            ("started", "a"),
            ("stopped", "a"),
        ]
        assert events.kinds("b") == [("started", "b"), ("stopped", "b")]
        errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
        assert [(repr(error), error.__context__) for error in errors] == [
            ("RuntimeError('no thread')", None)
        ] * times


class TestStops:
    @pytest.mark.parametrize("seconds", [math.inf, 1e300])
    def test_times_that_no_clock_reaches(self, seconds):
        queue = atoll.create_queue()
        supervisor = atoll.Supervisor(period=seconds)
        supervisor.add("a", live, (queue, "a"), grace=seconds, heartbeat=seconds, max_backoff=seconds)
        with supervisor:
            assert queue.get(timeout=PATIENCE) == ("a", "began")
        assert queue.get(timeout=PATIENCE) == ("a", "ended")
        assert supervisor.wait(seconds)
        assert supervisor.children()["a"].state == "stopped"

    def test_while_another_thread_starts_it(self):
        """stop() has begun when start() comes, and both have something to do."""
        queue = atoll.create_queue()
        supervisor = atoll.Supervisor()
        supervisor.add("a", live, (queue, "a"))
        lock = supervisor._lock

        class Lock:
            def __enter__(self):
                if threading.current_thread().name == "stopper":
                    supervisor._lock = lock
                    supervisor.start()
                lock.acquire()

            def __exit__(self, *details):
                lock.release()

        supervisor._lock = Lock()
        stopper = threading.Thread(target=supervisor.stop, name="stopper", daemon=True)
        stopper.start()
        stopper.join(PATIENCE)
        assert not stopper.is_alive()
        assert supervisor.wait(PATIENCE)
        assert supervisor.children()["a"].state == "stopped"

    def test_stopped_by_a_signal_when_the_thread_is_there(self):
        source = """
            import atoll, os, signal, threading
            signal.signal(signal.SIGTERM, lambda number, frame: supervisor.stop())
            supervisor = atoll.Supervisor()
            supervisor.add("a", print)
            start = threading.Thread.start
            step, waits = supervisor._step, threading.Event()
            def begin():
                waits.set()
                step()
            supervisor._step = begin
            def started(thread):
                start(thread)
                waits.wait()
                os.kill(os.getpid(), signal.SIGTERM)
            threading.Thread.start = started
            try: supervisor.start()
            except RuntimeError as error: print(error)
            print(supervisor.wait(0))
            supervisor.stop()
        """
        assert run_python(source).stdout == "the supervisor has been stopped\nTrue\n"
