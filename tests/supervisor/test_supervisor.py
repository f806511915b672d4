"""Supervisors: children are started again, silent ones replaced, all stopped in order."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

import atoll
from helpers import PATIENCE, check_ended, run_python
from supervisor_children import count, fall_silent, ignore_interrupts, live, live_then, spin


class TestLife:
    def test_started_and_stopped_in_order(self, events):
        queue = atoll.create_queue()
        supervisor = atoll.Supervisor(on_event=events)
        for name in ("a", "b", "c"):
            supervisor.add(name, live, (queue, name))
        assert {state.state for state in supervisor.children().values()} == {"new"}
        with supervisor:
            assert {queue.get(timeout=PATIENCE) for _ in range(3)} == {(n, "began") for n in "abc"}
            states = supervisor.children()
            assert [states[name].state for name in "abc"] == ["running"] * 3
            assert len({states[name].interpreter for name in "abc"}) == 3
        assert [queue.get(timeout=PATIENCE) for _ in range(3)] == [(n, "ended") for n in "cba"]
        assert events.kinds() == [("started", n) for n in "abc"] + [("stopped", n) for n in "cba"]
        assert supervisor.wait(0)
        assert repr(supervisor) == "<atoll.Supervisor: a stopped, b stopped, c stopped>"

    def test_each_has_an_interpreter_of_its_own(self):
        queue = atoll.create_queue()
        with atoll.Supervisor() as supervisor:
            supervisor.add("a", spin, (queue,), {"name": "a"})
            assert queue.get(timeout=PATIENCE) == ("a", "began")
            number = supervisor.children()["a"].interpreter
            assert number in [interp.id for interp in atoll.list_all()]
        assert number not in [interp.id for interp in atoll.list_all()]

    def test_it_is_over_when_all_have_ended(self, events):
        supervisor = atoll.Supervisor(on_event=events)
        supervisor.add("a", print, restart="on-failure")
        supervisor.add("b", count, (atoll.AtomicInt(), 1, ValueError("x")), restart="never")
        with supervisor:
            assert supervisor.wait(PATIENCE)
            with pytest.raises(RuntimeError, match="has been stopped"):
                supervisor.add("c", print)
        assert {("ended", "a"), ("failed", "b")} < set(events.kinds())
        assert supervisor.children()["b"].state == "ended"
        assert str(supervisor.children()["b"].error) == "x"

    def test_remove_and_restart(self, events):
        queue = atoll.create_queue()
        with atoll.Supervisor(on_event=events) as supervisor:
            supervisor.add("a", live, (queue, "a"))
            assert queue.get(timeout=PATIENCE) == ("a", "began")
            supervisor.restart("a")
            assert [queue.get(timeout=PATIENCE) for _ in range(2)] == [("a", "ended"), ("a", "began")]
            assert supervisor.children()["a"].restarts == 1
            supervisor.remove("a")
            assert supervisor.children() == {}
            with pytest.raises(KeyError, match="there is no child 'a': none"):
                supervisor.remove("a")
            assert not supervisor.wait(0)  # another one may come

    def test_asyncio(self):
        queue = atoll.create_queue()

        async def main():
            async with atoll.Supervisor() as supervisor:
                supervisor.add("a", live, (queue, "a"))
                supervisor.add("b", count, (atoll.AtomicInt(), 0), restart="never")
                assert await queue.get_async() == ("a", "began")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(supervisor.wait_async(), 0)
                assert not supervisor.wait(0)

        asyncio.run(main())
        assert queue.get(timeout=PATIENCE) == ("a", "ended")


class TestRestart:
    @pytest.mark.parametrize(
        "error", [None, ValueError("x"), SystemExit(3)], ids=["returns", "raises", "exits"]
    )
    def test_until_it_lasts(self, events, error):
        number = atoll.AtomicInt()
        with atoll.Supervisor(on_event=events) as supervisor:
            supervisor.add("a", count, (number, 3, error), backoff=0.001)
            events.wait_for("started", "a", 4)
            assert supervisor.children()["a"].restarts == 3
        planned = [event for event in events.list if event.kind == "restarting"]
        assert [event.delay for event in planned] == [0.001, 0.002, 0.004]
        assert [event.restarts for event in planned] == [1, 2, 3]
        ends = [
            event.error for event in events.list if event.kind == ("ended" if error is None else "failed")
        ]
        assert [repr(end) for end in ends] == [repr(error)] * 3

    def test_exit_without_an_error_is_an_end(self, events):
        supervisor = atoll.Supervisor(on_event=events)
        supervisor.add("a", count, (atoll.AtomicInt(), 1, SystemExit(0)), restart="on-failure")
        with supervisor:
            assert supervisor.wait(PATIENCE)
        assert events.kinds() == [("started", "a"), ("ended", "a")]

    def test_it_gives_up(self, events, caplog):
        queue = atoll.create_queue()
        supervisor = atoll.Supervisor(max_restarts=2, on_event=events)
        supervisor.add("good", live, (queue, "good"))
        supervisor.add("bad", count, (atoll.AtomicInt(), 99, ValueError("no luck")), backoff=0, max_backoff=0)
        with caplog.at_level(logging.INFO, "atoll.supervisor"), supervisor:
            with pytest.raises(
                atoll.SupervisorError, match="'bad' ended: more than 2 restarts in 60 sec"
            ) as caught:
                supervisor.wait(PATIENCE)
        assert repr(caught.value.__cause__) == "ValueError('no luck')"
        assert events.kinds("bad").count(("started", "bad")) == 3
        assert events.kinds()[-2:] == [("gave up", "bad"), ("stopped", "good")]
        assert "child 'bad': gave up" in caplog.messages
        assert "child 'bad': restarting, in 0 s (restart number 2)" in caplog.messages

    def test_what_cannot_be_sent(self, events):
        supervisor = atoll.Supervisor(max_restarts=0, on_event=events)
        supervisor.add("a", count, (threading.Lock(),))
        with supervisor, pytest.raises(atoll.SupervisorError) as caught:
            supervisor.wait(PATIENCE)
        assert isinstance(caught.value.__cause__, atoll.NotShareableError)

    @pytest.mark.parametrize(
        ("strategy", "again"),
        [("one_for_one", "b"), ("one_for_all", "abc"), ("rest_for_one", "bc")],
    )
    def test_strategies(self, events, strategy, again):
        queue = atoll.create_queue()
        supervisor = atoll.Supervisor(strategy=strategy, on_event=events)
        supervisor.add("a", live, (queue, "a"))
        supervisor.add("b", live, (queue, "b"))
        supervisor.add("c", live, (queue, "c"))
        with supervisor:
            for _ in range(3):
                queue.get(timeout=PATIENCE)
            supervisor._do(self.fail, supervisor, "b")
            for name in again:
                events.wait_for("started", name, 2)
        started = [name for kind, name in events.kinds() if kind == "started"]
        assert "".join(started) == "abc" + again
        stopped = [name for kind, name in events.kinds() if kind == "stopped"]
        assert "".join(stopped) == again.replace("b", "")[::-1] + "cba"

    @staticmethod
    def fail(supervisor, name):
        """As if the child had failed."""
        child = supervisor._find(name)
        child.stop()
        supervisor._tell("failed", child)
        supervisor._decide(child, failed=True)


class TestHeartbeat:
    def test_silent_child_is_replaced(self, events):
        number = atoll.AtomicInt()
        with atoll.Supervisor(on_event=events) as supervisor:
            supervisor.add("a", fall_silent, (number, 100), heartbeat=0.5, backoff=0)
            silent = events.wait_for("silent", "a")
            assert str(silent.error) == "a gave no heartbeat for 0.5 seconds"
            events.wait_for("started", "a", 2)
            assert supervisor.children()["a"].error is silent.error  # and not that it was interrupted then
            assert events.wait_for("restarting", "a").error is silent.error
        assert events.kinds()[:4] == [
            ("started", "a"),
            ("silent", "a"),
            ("restarting", "a"),
            ("started", "a"),
        ]

    def test_argument_that_cannot_be_sent(self, events):
        """The error names its place among the child's arguments."""
        with atoll.Supervisor(on_event=events) as supervisor:
            supervisor.add("a", print, (1, [threading.Lock()]), {"sep": threading.Lock}, restart="never")
            failed = events.wait_for("failed", "a")
        assert isinstance(failed.error, atoll.NotShareableError)
        assert str(failed.error).startswith("args[1][0]: ")

    def test_none_elsewhere(self, interp):
        assert atoll.heartbeat() is False
        assert interp.call(atoll.heartbeat) is False


class TestStop:
    def test_child_that_does_not_react(self, events):
        queue, release = atoll.create_queue(), atoll.Event()
        with atoll.Supervisor(on_event=events) as supervisor:
            supervisor.add("a", ignore_interrupts, (queue, release), grace=0.01)
            assert queue.get(timeout=PATIENCE) == "began"
        release.set()
        assert events.kinds() == [("started", "a"), ("stuck", "a")]

    def test_before_it_was_started(self):
        supervisor = atoll.Supervisor()
        supervisor.add("a", print)
        supervisor.stop()
        assert supervisor.wait(0)
        with pytest.raises(RuntimeError, match="has been stopped"):
            supervisor.start()

    def test_by_on_event(self):
        supervisor = atoll.Supervisor(on_event=lambda event: supervisor.stop())
        supervisor.add("a", atoll.Event().wait)
        with supervisor:
            assert supervisor.wait(PATIENCE)

    @pytest.mark.parametrize("restart", ["always", "never"])
    def test_on_event_restarts_what_has_ended(self, events, restart):
        def handle(event):
            if event.kind == "ended":
                supervisor.restart("a")
            events(event)

        queue = atoll.create_queue()
        number = atoll.AtomicInt()
        supervisor = atoll.Supervisor(on_event=handle)
        supervisor.add("a", live_then, (queue, number), restart=restart)
        with supervisor:
            assert queue.get(timeout=PATIENCE) == ("a", "began")
            assert not supervisor.wait(0.1)
            assert supervisor.children()["a"].state == "running"
        assert queue.get(timeout=PATIENCE) == ("a", "ended")
        assert queue.empty()  # there was one of it
        assert events.kinds().count(("started", "a")) == 2
        assert ("restarting", "a") not in events.kinds()

    @pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
    @pytest.mark.parametrize("kind", ["failed", "restarting"])
    @pytest.mark.parametrize("method", ["remove", "stop", "restart"])
    def test_on_event_sees_to_what_has_failed(self, events, strategy, kind, method):
        def handle(event):
            if event.kind == kind and event.restarts <= 1:
                supervisor.stop() if method == "stop" else getattr(supervisor, method)(event.name)
            events(event)

        queue = atoll.create_queue()
        supervisor = atoll.Supervisor(strategy=strategy, on_event=handle)
        supervisor.add("a", count, (atoll.AtomicInt(), 1, ValueError()), backoff=0.01)
        supervisor.add("b", live, (queue, "b"))
        with supervisor:
            if method == "restart":
                events.wait_for("started", "a", 2)
            else:
                events.wait_for("stopped", "a")
        states = {name: child.state for name, child in supervisor.children().items()}
        assert states == {name: "stopped" for name in ("b" if method == "remove" else "ab")}
        assert events.kinds("a").count(("started", "a")) == (2 if method == "restart" else 1)
        assert events.kinds("a").count(("stopped", "a")) == (2 if method == "restart" else 1)

    def test_on_event_restarts_a_silent_child(self, events):
        def handle(event):
            if event.kind == "silent":
                supervisor.restart("a")
            events(event)

        supervisor = atoll.Supervisor(on_event=handle)
        supervisor.add("a", fall_silent, (atoll.AtomicInt(), 1), heartbeat=0.5)
        with supervisor:
            events.wait_for("started", "a", 2)
            assert supervisor.children()["a"].state == "running"
        assert ("restarting", "a") not in events.kinds()

    @pytest.mark.parametrize("method", ["remove", "remove another", "add", "restart", "stop", "raise"])
    def test_on_event_while_it_is_being_stopped(self, events, method):
        def handle(event):
            events(event)
            if event.kind != "stopped":
                return
            if method == "remove":
                supervisor.remove(event.name)
            elif method == "remove another":
                supervisor.remove(next(name for name in supervisor.children() if name != event.name))
            elif method == "add":
                supervisor.add(f"after {event.name}", print)
            elif method == "restart":
                supervisor.restart(event.name)
            elif method == "stop":
                supervisor.stop()
            else:
                raise SystemExit(3)

        supervisor = atoll.Supervisor(on_event=handle)
        for name in "abc":
            supervisor.add(name, atoll.Event().wait)
        supervisor.start()
        supervisor.stop()
        if method == "raise":
            with pytest.raises(SystemExit):
                supervisor.wait(PATIENCE)
        else:
            assert supervisor.wait(PATIENCE)
        assert sorted(events.kinds()) == sorted(
            (kind, name) for kind in ("started", "stopped") for name in "abc"
        )
        left = "" if method.startswith("remove") else "abc"
        assert {name: child.state for name, child in supervisor.children().items()} == dict.fromkeys(
            left, "stopped"
        )

    def test_on_event_stops_while_it_is_being_started(self, events):
        def handle(event):
            events(event)
            supervisor.stop()

        supervisor = atoll.Supervisor(on_event=handle)
        for name in "abc":
            supervisor.add(name, atoll.Event().wait)
        supervisor.start()
        assert supervisor.wait(PATIENCE)
        assert events.kinds() == [("started", "a"), ("stopped", "a")]

    @pytest.mark.parametrize("method", ["restart", "remove"])
    def test_on_event_restarts_what_is_being_stopped(self, events, method):
        def handle(event):
            events(event)
            if event.kind == "stopped" and len(events.list) < 5:
                supervisor.restart("a")

        supervisor = atoll.Supervisor(on_event=handle)
        supervisor.add("a", atoll.Event().wait)
        with supervisor:
            getattr(supervisor, method)("a")
            assert list(supervisor.children()) == (["a"] if method == "restart" else [])
        kinds = [kind for kind, name in events.kinds()]
        assert kinds == ["started", "stopped", "started", "stopped"][: 4 if method == "restart" else 2]

    def test_stopped_by_a_signal_in_the_midst_of_a_start(self):
        source = """
            import atoll, os, signal, threading
            signal.signal(signal.SIGTERM, lambda number, frame: supervisor.stop())
            supervisor = atoll.Supervisor()
            supervisor.add("a", print)
            start = threading.Thread.start
            def started(thread):
                os.kill(os.getpid(), signal.SIGTERM)
                start(thread)
            threading.Thread.start = started
            try: supervisor.start()
            except RuntimeError as error: print(error)
            print(supervisor.wait(0))
        """
        assert run_python(source).stdout == "the supervisor has been stopped\nTrue\n"

    def test_on_event_raises(self, events, caplog):
        def handle(event):
            events(event)
            raise ValueError("of on_event")

        queue = atoll.create_queue()
        with atoll.Supervisor(on_event=handle) as supervisor:
            supervisor.add("a", live, (queue, "a"))
            queue.get(timeout=PATIENCE)
        assert events.kinds() == [("started", "a"), ("stopped", "a")]
        assert caplog.messages.count("on_event has raised:") == 2

    def test_at_exit(self):
        source = """
            import atoll, sys, threading
            def live(name):
                try:
                    print("began", name, flush=True)
                    ready.put(name)
                    atoll.Event().wait()
                finally:
                    print("ended", name, flush=True)
            ready = atoll.create_queue()
            supervisor = atoll.Supervisor()
            supervisor.add("a", live, ("a",))
            supervisor.start()
            ready.get()
            supervisor.add("b", live, ("b",))
            ready.get()
            print("exit", flush=True)
            """
        check_ended(run_python(source), out="began a\nbegan b\nexit\nended b\nended a\n", clean=True)

    def test_ctrl_c(self):
        source = """
            import atoll, os, signal, threading
            def live():
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                    atoll.Event().wait()
                finally:
                    print("ended", flush=True)
            try:
                with atoll.Supervisor() as supervisor:
                    supervisor.add("a", live)
                    supervisor.wait()
            except KeyboardInterrupt:
                print("interrupted")
            """
        check_ended(run_python(source), out="ended\ninterrupted\n", clean=True)

    def test_in_a_forked_child(self):
        source = """
            import atoll, os, threading
            def live():
                ready.put(1)
                atoll.Event().wait()
            ready = atoll.create_queue()
            with atoll.Supervisor() as supervisor:
                supervisor.add("a", live)
                ready.get()
                if (child := os.fork()) == 0:
                    for use in (supervisor.wait, lambda: supervisor.add("b", print)):
                        try:
                            use()
                        except RuntimeError as error:
                            print(error, flush=True)
                    with atoll.Supervisor() as own:
                        own.add("c", print, ("of its own",), restart="never")
                        own.wait()
                else:
                    assert os.waitpid(child, 0)[1] == 0
            """
        done = run_python(source, "-W", "ignore")
        check_ended(
            done, out="the supervisor belongs to the parent process\n" * 2 + "of its own\n", clean=True
        )


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (
                {"strategy": "all"},
                "strategy must be one of 'one_for_one', 'one_for_all', 'rest_for_one', not 'all'",
            ),
            ({"max_restarts": -1}, "max_restarts must be an integer of at least 0, or None, not -1"),
            ({"period": 0}, "period must be more than 0, not 0"),
            ({"on_event": 1}, "on_event must be callable or None, not int"),
        ],
    )
    def test_supervisor(self, arguments, error):
        with pytest.raises((TypeError, ValueError), match=error):
            atoll.Supervisor(**arguments)

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (
                {"restart": "sometimes"},
                "restart must be one of 'always', 'on-failure', 'never', not 'sometimes'",
            ),
            ({"backoff": -1}, "backoff must be at least 0, not -1"),
            ({"max_backoff": "1"}, "max_backoff must be a number of seconds, not str"),
            ({"heartbeat": 0}, "heartbeat must be more than 0, not 0"),
            ({"grace": float("nan")}, "grace must be at least 0, not nan"),
            ({"kwargs": {"a": 1, 2: 3}}, "kwargs must have strings as keys, not 2"),
            ({"args": 3}, "args must be iterable, not int"),
            ({"function": 3}, "function must be callable, not int"),
            ({"name": ""}, "name must be a string that is not empty, not ''"),
            ({"extensions": "some"}, "extensions must be 'isolate', 'strict' or 'shared', not 'some'"),
        ],
    )
    def test_add(self, arguments, error):
        supervisor = atoll.Supervisor()
        with pytest.raises((TypeError, ValueError), match=error):
            supervisor.add(**{"name": "a", "function": print, **arguments})

    def test_same_name(self):
        supervisor = atoll.Supervisor()
        supervisor.add("a", print)
        with pytest.raises(ValueError, match="there is a child with the name 'a'"):
            supervisor.add("a", print)


def eat_once(runs, queue):
    """Take all memory the first time, live the second time."""
    if runs.add(1) == 1:
        kept = []
        while True:
            kept.append(bytearray(10_000))
    live(queue, "hungry")


def spin_once(runs, queue):
    """Take much processor time the first time, live the second time."""
    if runs.add(1) == 1:
        while True:
            pass
    live(queue, "hungry")


class TestLimits:
    @pytest.mark.parametrize(
        ("function", "limits"),
        [(eat_once, {"memory_limit": 48 << 20}), (spin_once, {"cpu_limit": 0.3})],
        ids=["memory", "cpu"],
    )
    def test_started_again(self, events, function, limits):
        queue = atoll.create_queue()
        with atoll.Supervisor(on_event=events) as supervisor:
            supervisor.add("hungry", function, (atoll.AtomicInt(), queue), backoff=0.01, **limits)
            supervisor.add("other", live, (queue, "other"))
            error = events.wait_for("failed", "hungry").error
            assert type(error) is atoll.ResourceLimitExceeded
            assert {error.limit: error.amount} == limits
            assert not {"task", "worker", "pool"} & set(str(error).split()), (
                error
            )  # which it has not asked for
            events.wait_for("started", "hungry", 2)
            assert supervisor.children()["other"].restarts == 0

    @pytest.mark.parametrize(
        ("limits", "kind"),
        [
            ({"memory_limit": 0}, ValueError),
            ({"memory_limit": 1.5}, TypeError),
            ({"cpu_limit": -1}, ValueError),
        ],
    )
    def test_wrong(self, limits, kind):
        with pytest.raises(kind, match="_limit must be"):
            atoll.Supervisor().add("one", live, **limits)
