"""What is counted of interpreters and queues, seen from here, from other interpreters and from other processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import atoll
from atoll import _atoll
from atoll._stats.page import Page
from helpers import PATIENCE, Pipe, Thread, new, run_python


def double(value):
    return value * 2


def fail():
    raise ValueError("no")


def wait_for(queue):
    return queue.get()


def stats_of_all():
    return {interp["id"]: interp for interp in atoll.stats()["interpreters"]}


def queue_stats(queue):
    return next(found for found in atoll.stats()["queues"] if found["id"] == queue.id)


def until_blocked(interp: atoll.Interpreter) -> None:
    """Wait until a thread in the interpreter waits for something of Atoll's.  Raises TimeoutError."""
    end = time.monotonic() + PATIENCE
    while interp.stats()["blocked_on"] is None:
        if time.monotonic() > end:
            raise TimeoutError("nothing waits there")
        time.sleep(0.001)


class TestInterpreters:
    def test_calls_are_counted_where_they_run_and_where_they_come_from(self):
        with new() as interp:
            here = atoll.get_current().stats()["called"]
            for _ in range(10):
                interp.call(double, 1)
            with pytest.raises(atoll.ExecutionFailed):
                interp.call(fail)
            interp.exec("pass")
            stats = interp.stats()
            assert (stats["calls"], stats["raised"], stats["called"]) == (13, 1, 0)  # new() has made one
            assert atoll.get_current().stats()["called"] == here + 11

    def test_bytes_of_arguments_and_results(self):
        with new() as interp:
            before = interp.stats()
            interp.call(double, b"x" * 10_000)
            after = interp.stats()
            assert 10_000 <= after["received_bytes"] - before["received_bytes"] < 11_000
            assert 20_000 <= after["sent_bytes"] - before["sent_bytes"] < 21_000

    def test_what_it_is(self):
        with new() as interp:
            stats = interp.stats()
            assert stats["id"] == interp.id
            assert (stats["state"], stats["owned"], stats["inside"]) == ("idle", True, 0)
            assert 0 <= stats["age"] < 3600
            main = atoll.get_main().stats()
            assert (main["state"], main["owned"]) == ("running", False)
        with pytest.raises(atoll.InterpreterNotFoundError, match=str(interp.id)):
            interp.stats()
        assert interp.id not in stats_of_all()

    def test_closed_ones_are_counted_and_what_they_did(self):
        before = atoll.stats()["process"]
        with new() as interp:
            interp.call(double, 1)
        after = atoll.stats()["process"]
        assert after["created"] == before["created"] + 1
        assert after["closed"] == before["closed"] + 1
        assert after["past"]["calls"] == before["past"]["calls"] + 2

    def test_states_while_something_runs(self):
        with new() as interp, Pipe() as begun, Pipe() as go_on:

            def run():
                interp.exec(f"import os; os.write({begun.writer}, b'x'); os.read({go_on.reader}, 1)")

            thread = threading.Thread(target=run)
            thread.start()
            os.read(begun.reader, 1)
            assert interp.stats()["state"] == "running"
            assert interp.stats()["inside"] == 1
            assert atoll.get_main().stats()["outside"] == 1
            os.write(go_on.writer, b"x")
            thread.join()
            assert interp.stats()["state"] == "idle"
            assert atoll.get_main().stats()["outside"] == 0

    def test_what_it_waits_for(self):
        queue = atoll.create_queue()
        with new() as interp:
            thread = threading.Thread(target=interp.call, args=(wait_for, queue))
            thread.start()
            until_blocked(interp)
            assert interp.stats()["state"] == "blocked"
            assert interp.stats()["blocked_on"] == f"an item of queue {queue.id}"
            queue.put(1)
            thread.join()
            stats = interp.stats()
            assert (stats["state"], stats["blocked_on"], stats["waits"]) == ("idle", None, 1)
            assert stats["blocked"] > 0
            assert queue_stats(queue)["get_waits"] == 1

    def test_what_locks_and_their_like_are_called(self):
        lock, semaphore, event, number = atoll.Lock(), atoll.Semaphore(0), atoll.Event(), atoll.AtomicInt()
        bounded = atoll.BoundedSemaphore()
        lock.acquire()
        bounded.acquire()
        waits = [
            (lock.acquire, lock.release, "a lock"),
            (semaphore.acquire, semaphore.release, "a semaphore"),
            (bounded.acquire, bounded.release, "a semaphore"),
            (event.wait, event.set, "an event"),
            (lambda: number.wait(0), number.add, "an AtomicInt"),
        ]
        with new() as interp:
            for wait, end, name in waits:
                thread = threading.Thread(target=interp.call, args=(wait,))
                thread.start()
                try:
                    until_blocked(interp)
                    assert interp.stats()["blocked_on"] == name
                finally:
                    end()
                    thread.join()

    def test_documented(self):
        """Each key has its place on the page of the documentation."""
        page = (Path(__file__).resolve().parents[2] / "docs" / "watching.md").read_text()
        known = set(re.findall(r"`(\w+)`", page))
        queue = atoll.create_queue()
        with new(), atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(abs, -1).result()
            stats = atoll.stats()
        del queue
        rows = [stats["process"], stats["process"]["past"]]
        rows += [stats[name][0] for name in ("interpreters", "queues", "pools")]
        assert {key for row in rows for key in row} <= known

    def test_handler_that_forks_while_its_thread_waits(self):
        """Neither process believes afterwards that a thread more, or less, is waiting."""
        done = run_python("""
            import atoll, os, signal, threading, warnings
            from atoll._stats.page import Page
            warnings.simplefilter("ignore")
            queue, event = atoll.create_queue(), atoll.Event()
            parent, children = os.getpid(), []
            blocked = lambda: [words["blocked"] for who, words, _ in Page().interpreters() if who[1] == 0]
            def handler(*_):
                assert blocked() == [0]
                child = os.fork()
                children[:] = [*children, child] if child else []
                threading.Timer(0.1, go_on.pop()).start()
            signal.signal(signal.SIGALRM, handler)
            for wait, come in ((queue.get, lambda: queue.put(1)), (event.wait, event.set)):
                go_on = [come]
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                wait()
                assert blocked() == [0], blocked()
            for child in children:
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            print("all" if os.getpid() == parent else "", end="")
            """)
        assert (done.returncode, done.stdout) == (0, "all"), done

    def test_forked_child_that_goes_on_in_an_interpreter(self):
        """It has its limits, and is what main is elsewhere."""
        done = run_python("""
            import atoll
            def work():
                import atoll, os
                child = os.fork()
                if child == 0:
                    stats = atoll.get_current().stats()
                    print(*(stats[key] for key in ("cpu_limit", "memory_limit", "state", "owned")), flush=True)
                else:
                    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with atoll.create(fork=True, cpu_limit=100, memory_limit=200_000_000) as interp:
                print(interp.call(work))
            """)
        assert (done.returncode, done.stdout) == (0, "100.0 200000000 running False\n0\n"), done

    def test_slot_of_another_interpreter(self):
        """Who reads while interpreters end and others have their places sees the one or the other."""
        names = {0: ""}
        seen = set()
        over = threading.Event()

        def read():
            page = Page()
            while not over.is_set():
                for who, words, _ in page.interpreters():
                    seen.add((who[1], tuple(who[5:13]), words["calls"]))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for number in range(30):
                with atoll.create(name=f"{number:060}") as interp:
                    names[interp.id] = f"{number:060}"
                    for _ in range(number % 3):
                        interp.call(double, 1)
        finally:
            over.set()
            reader.join()
        assert len({who for who, _, _ in seen} & names.keys()) > 1
        for who, words, calls in seen:
            name = b"".join(word.to_bytes(8, sys.byteorder) for word in words).rstrip(b"\0").decode()
            assert (
                who not in names or who == 0 or (name in ("", names[who]) and calls <= int(names[who]) % 3)
            ), (who, name, calls)

    def test_an_interpreter_that_ends_meanwhile_is_counted_once(self):
        interp = new()
        interp.call(double, 1)
        page = Page()
        look, looks = page.interpreters, []

        def look_and_close():
            looks.append(list(look()))
            if len(looks) == 1:
                interp.close()
            return looks[-1]

        page.interpreters = look_and_close
        found, past = page.all()
        assert len(looks) == 2  # what it saw at first did not go together
        assert interp.id in [who[1] for who, _, _ in looks[0]]
        assert interp.id not in [who[1] for who, _, _ in found]
        assert past["calls"] >= 2

    def test_slot_that_is_not_there(self):
        page = Page()
        for at, count in (
            (-1, 1),
            (0, 0),
            (0, 65),
            (len(page.words), 1),
            (len(page.words) - 1, 2),
            (2**62, 1),
        ):
            with pytest.raises(ValueError, match=f"no slot at word {at} that is {count} words long"):
                _atoll._stats_slot(page.bytes, at, count)

    def test_any_interpreter_sees_all(self):
        with new() as one, new() as other:
            ids = one.call(seen_ids)
            assert {0, one.id, other.id} <= set(ids)


def seen_ids():
    return [interp["id"] for interp in atoll.stats()["interpreters"]]


class TestQueues:
    def test_items(self):
        queue = atoll.create_queue(7)
        before = atoll.get_current().stats()
        queue.put_many([b"x" * 1000, b"y" * 1000, 3])
        queue.get()
        found = queue_stats(queue)
        assert (found["length"], found["put"], found["got"], found["maxsize"]) == (2, 3, 1, 7)
        after = atoll.get_current().stats()
        assert (after["sent"] - before["sent"], after["received"] - before["received"]) == (3, 1)
        assert after["sent_bytes"] - before["sent_bytes"] >= 2000
        assert after["received_bytes"] - before["received_bytes"] >= 1000
        assert len(queue.get_many()) == 2
        assert queue_stats(queue)["length"] == 0

    def test_who_waits(self):
        queue, other = atoll.create_queue(1), atoll.create_queue()

        def until(getters, putters):
            deadline = time.monotonic() + PATIENCE
            while True:
                found = queue_stats(queue)
                if (found["getters"], found["putters"]) == (getters, putters):
                    return
                assert time.monotonic() < deadline, found
                time.sleep(0.001)

        until(0, 0)
        with new() as interp:
            threads = [
                Thread(queue.get),
                Thread(interp.call, wait_for, queue),
                Thread(atoll.select, [other, queue]),
            ]
            until(3, 0)
            assert queue_stats(other)["getters"] == 1
            queue.put_many([1, 2])
            for thread in threads[:2]:
                thread.result()
            queue.put(3)
            threads[2].result()
            until(0, 0)
            threads = [Thread(queue.put, n) for n in range(2)]
            until(0, 2)
            assert queue.get_many(1) == [3]
            assert [queue.get() for _ in range(2)]
            for thread in threads:
                thread.result()
            until(0, 0)
            with pytest.raises(atoll.QueueEmpty):
                queue.get(timeout=0.01)
            until(0, 0)

    def test_items_before_an_interrupt_count(self):
        queue = atoll.create_queue(2)
        with new() as interp:
            interp.prepare_main(queue=queue)
            script = "try: queue.put_many(range(9))\nexcept KeyboardInterrupt: pass"
            thread = threading.Thread(target=interp.exec, args=(script,))
            thread.start()
            until_blocked(interp)
            assert interp.interrupt()
            thread.join()
            assert queue.qsize() == interp.stats()["sent"] == 2
            assert queue_stats(queue)["put_waits"] == 1

    def test_shut_down_and_gone(self):
        queue = atoll.create_queue()
        queue.put(1)
        queue.shutdown(immediate=True)
        found = queue_stats(queue)
        assert (found["shut_down"], found["length"]) == (True, 0)
        number = queue.id
        del queue
        assert number not in [queue["id"] for queue in atoll.stats()["queues"]]

    def test_items_of_an_interpreter_that_ends(self):
        queue = atoll.create_queue()
        with new() as interp:
            interp.prepare_main(queue=queue)
            interp.exec("import atoll; queue.put(1, unbounditems=atoll.UNBOUND_REMOVE); queue.put(2)")
            assert queue_stats(queue)["length"] == 2
        assert queue_stats(queue)["length"] == 1


class TestOtherProcesses:
    def test_the_same_is_seen(self):
        with new() as interp:
            interp.call(double, 1)
            script = "import atoll, json, sys; print(json.dumps(atoll.stats(int(sys.argv[1]))))"
            done = subprocess.run(
                [sys.executable, "-c", script, str(os.getpid())], capture_output=True, text=True, check=True
            )
            theirs = json.loads(done.stdout)
            found = next(one for one in theirs["interpreters"] if one["id"] == interp.id)
            mine = interp.stats()
            for name in ("calls", "sent_bytes", "received_bytes", "state", "owned", "modules"):
                assert found[name] == mine[name]
            assert theirs["process"]["pid"] == os.getpid()

    def test_processes_without_statistics(self):
        with subprocess.Popen(["sleep", "60"]) as other:
            with pytest.raises(LookupError, match=f"process {other.pid} has no statistics"):
                atoll.stats(other.pid)
            other.kill()
        with pytest.raises(ProcessLookupError, match="no process"):
            atoll.stats(other.pid)

    @pytest.mark.parametrize(
        ("size", "changed", "why"),
        [
            (0, {}, "is just beginning to use Atoll"),
            (1 << 20, {0: 0}, "is just beginning to use Atoll"),
            (1 << 20, {8: 2}, "uses another version of Atoll: its statistics have format 2"),
            (16, {}, "damaged"),
            (5001, {}, "damaged"),
            (8192, {}, "damaged"),  # without its slots
            (1 << 20, {16: 1 << 20}, "damaged"),  # interpreters that lie elsewhere
            (1 << 20, {36: 8}, "damaged"),  # queues that are too small
            (1 << 20, {56: 1 << 31}, "damaged"),  # too many pools
        ],
    )
    def test_pages_that_are_not_as_they_should_be(self, size, changed, why):
        page = bytearray(_atoll._stats_page()[:size])
        for at, value in changed.items():
            page[at : at + 4] = value.to_bytes(4, sys.byteorder)
        file = os.memfd_create("atoll-stats")
        try:
            os.write(file, page)
            with subprocess.Popen(["sleep", "60"], pass_fds=[file]) as other:
                with pytest.raises(LookupError, match=f"process {other.pid}.* {why}|{why}"):
                    atoll.stats(other.pid)
                other.kill()
        finally:
            os.close(file)

    @pytest.mark.parametrize("function", [atoll.stats, atoll.metrics])
    @pytest.mark.parametrize("pid", ["x", 1.5, b"1"])
    def test_what_is_no_process_id(self, function, pid):
        with pytest.raises(TypeError, match=f"pid must be an integer, not {type(pid).__name__}"):
            function(pid)

    @pytest.mark.parametrize("refused", ["listdir", "readlink"])
    def test_a_process_that_may_not_be_looked_at(self, monkeypatch, refused):
        """The one of root's that is first, or one in another name space."""

        def refuse(path):
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(os, "listdir", lambda path: ["3"])
        monkeypatch.setattr(os, refused, refuse)
        with pytest.raises(PermissionError, match="^process 1 may not be looked at: it is another user's"):
            atoll.stats(1)

    def test_a_process_that_ends_meanwhile(self, monkeypatch):
        with subprocess.Popen(["sleep", "60"]) as other:
            other.kill()
        own = Page()
        monkeypatch.setattr("atoll._stats.page.Page", lambda pid: own)
        monkeypatch.setattr(own, "pid", other.pid)
        with pytest.raises(ProcessLookupError, match=f"there is no process {other.pid}"):
            atoll.stats(other.pid)

    def test_forked_child_counts_for_itself(self):
        done = run_python(
            textwrap.dedent(
                """
                import atoll, os, warnings
                warnings.simplefilter("ignore")
                queue = atoll.create_queue()
                queue.put(1)
                interp = atoll.create()
                interp.exec("pass")
                reader, writer = os.pipe()
                child = os.fork()
                if child == 0:
                    stats = atoll.stats()
                    main, = stats["interpreters"]
                    assert main["called"] == 0, main
                    assert [queue["length"] for queue in stats["queues"]] == [1], stats
                    with atoll.create() as own:
                        own.call(len, "abc")
                        assert own.stats()["calls"] == 1
                    os.read(reader, 1)
                    os._exit(0)
                assert atoll.stats(child)["process"]["pid"] == child
                os.write(writer, b"x")
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                assert interp.stats()["calls"] == 1
                interp.close()
                print("both")
                """
            )
        )
        assert (done.returncode, done.stdout.split()[-1:]) == (0, ["both"]), done

    def test_a_program_that_closes_all_files_goes_on(self):
        done = run_python(
            textwrap.dedent(
                """
                import atoll, os
                os.closerange(3, 100)
                other = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
                interp = atoll.create()
                interp.exec("pass")
                assert interp.stats()["calls"] == 1
                interp.close()
                child = os.fork()
                if child == 0:
                    for fd in other:
                        os.fstat(fd)
                    atoll.create().close()
                    os._exit(0)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                print("well")
                """
            )
        )
        assert (done.returncode, done.stdout.split()[-1:]) == (0, ["well"]), done


def test_examples_of_the_docs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).resolve().parents[2] / "docs" / "watching.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 5
    for example in examples:
        expected = re.findall(r"^ *(?:print|subprocess)\S.*\)  # (.+)$", example, re.MULTILINE)
        done = run_python(example)
        assert (done.returncode, done.stdout.splitlines()) == (0, expected), done
