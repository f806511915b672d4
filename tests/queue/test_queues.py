"""Queues between many threads and many interpreters: nothing is lost, nothing comes twice, nobody sleeps for ever."""

from __future__ import annotations

import collections
import random
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import atoll
from helpers import PATIENCE, Thread, new, together
from queue_helpers import drain, grow, make_queue, no_queue_left_behind, numbers, wait_asleep  # noqa: F401

# What the interpreters run.  An item is (producer, number); a consumer returns what it got, UNBOUND as None.
SOURCE = f"""
import atoll

def produce(queue, producer, count):
    for number in range(count):
        queue.put((producer, number), timeout={PATIENCE})

def produce_many(queue, producer, count):
    for start in range(0, count, 13):
        items = [(producer, number) for number in range(start, min(start + 13, count))]
        queue.put_many(items, timeout={PATIENCE})

def consume(queue, most=None):
    found = []
    while most is None or len(found) < most:
        try:
            item = queue.get(timeout={PATIENCE})
        except atoll.QueueShutDown:
            break
        except atoll.ItemInterpreterDestroyed:
            item = "destroyed"
        found.append(None if item is atoll.UNBOUND else item)
    return found

def consume_many(queue):
    found = []
    while True:
        try:
            found.extend(queue.get_many(10, timeout={PATIENCE}))
        except atoll.QueueShutDown:
            return found

def consume_selecting(queue):
    found = []
    while True:
        assert atoll.select([queue], {PATIENCE}) == [queue]
        try:
            found.append(queue.get_nowait())
        except atoll.QueueEmpty:
            pass
        except atoll.QueueShutDown:
            return found
"""


def worker(queue: atoll.Queue) -> atoll.Interpreter:
    """Return a new interpreter that has SOURCE and the queue."""
    interp = new()
    interp.exec(SOURCE)
    interp.prepare_main(queue=queue)
    return interp


def check_order(found: Iterable[tuple[int, int]]) -> None:
    """Assert that what one consumer got of each producer came in the order in which it was put."""
    last: dict[int, int] = collections.defaultdict(lambda: -1)
    for producer, number in found:
        assert number > last[producer]
        last[producer] = number


def check_all(found: list[list[tuple[int, int]]], producers: int, count: int) -> None:
    """Assert that the consumers together got each item once, each of them in order."""
    for part in found:
        check_order(part)
    everything = sorted(item for part in found for item in part)
    assert everything == [(producer, number) for producer in range(producers) for number in range(count)]


class TestExactlyOnce:
    COUNT = 600

    def run(self, queue, producers, consumers, where):
        """Run all of them in threads of their own, in interpreters of their own or (where) elsewhere."""
        space: dict[str, Any] = {}
        exec(SOURCE, space)
        shared = worker(queue)
        own = []  # an interpreter that ended would take its items along

        def start(number, source):
            match where if where != "everywhere" else ("main", "shared", "own")[number % 3]:
                case "main":
                    return Thread(eval, source, {**space, "queue": queue})
                case "shared":
                    return Thread(shared.call, eval, source)
                case _:
                    own.append(worker(queue))
                    return Thread(own[-1].call, eval, source)

        getting = [start(number, source) for number, source in enumerate(consumers)]
        putting = [
            start(number, f"{name}(queue, {number}, {self.COUNT})") for number, name in enumerate(producers)
        ]
        for thread in putting:
            thread.result()
        queue.shutdown()
        check_all([thread.result() for thread in getting], len(producers), self.COUNT)
        assert queue.empty()

    @pytest.mark.parametrize("where", ["main", "shared", "own", "everywhere"])
    @pytest.mark.parametrize("maxsize", [0, 1, 5])
    def test_one_by_one(self, where, maxsize):
        queue = atoll.create_queue(maxsize)
        self.run(queue, ["produce"] * 4, ["consume(queue)"] * 4, where)

    @pytest.mark.parametrize("maxsize", [0, 1, 20])
    def test_many_at_once(self, maxsize):
        queue = atoll.create_queue(maxsize)
        producers = ["produce_many", "produce_many", "produce"]
        self.run(
            queue, producers, ["consume_many(queue)", "consume(queue)", "consume_many(queue)"], "everywhere"
        )

    @pytest.mark.parametrize("maxsize", [0, 3])
    def test_selecting(self, maxsize):
        queue = atoll.create_queue(maxsize)
        consumers = ["consume_selecting(queue)", "consume_selecting(queue)", "consume(queue)"]
        self.run(queue, ["produce"] * 3, consumers, "everywhere")

    def test_one_producer_one_consumer(self, queue):
        """The order of all items, between two interpreters that never wait for each other."""
        one, two = worker(queue), worker(queue)
        putting = Thread(one.call, eval, "produce(queue, 0, 20_000)")
        found = two.call(eval, "consume(queue, 20_000)")
        putting.result()
        assert found == [(0, number) for number in range(20_000)]

    def test_a_ring(self):
        """Items that go round through several interpreters, over queues with room for one."""
        queues = [atoll.create_queue(1) for _ in range(4)]
        threads = []
        for number in range(4):
            interp = new()
            interp.prepare_main(before=queues[number], after=queues[(number + 1) % 4])
            interp.exec(f"""
                def pass_on():
                    for item in before:
                        if item >= 2_000:
                            after.shutdown()
                            return item
                        after.put(item + 1, timeout={PATIENCE})
                    after.shutdown()
                """)
            threads.append(Thread(interp.call, eval, "pass_on()"))
        queues[0].put(0)
        results = [thread.result() for thread in threads]
        assert sorted(results, key=str) == [2_000, None, None, None]

    def test_large_items_and_views(self, queue):
        """Items with memory of their own are released once, wherever they end."""
        data = [bytearray(b"%d" % number * 2_000) for number in range(8)]
        interps = [worker(queue) for _ in range(2)]
        for interp in interps:
            interp.exec("""
                def lengths():
                    return sum(len(view) + len(text) for view, text in queue)
                """)
        threads = [Thread(interp.call, eval, "lengths()") for interp in interps]

        def produce(number):
            for _ in range(100):
                queue.put((memoryview(data[number]), "x" * 1_000))

        together(8, produce)
        queue.shutdown()
        assert sum(thread.result() for thread in threads) == 8 * 100 * 3_000
        for interp in interps:
            interp.exec("import gc; gc.collect()")
        for buffer in data:
            grow(buffer)


class TestWaiting:
    @pytest.mark.parametrize("how", ["put", "put_many"])
    def test_every_getter_is_woken(self, queue, how):
        interps = [worker(queue) for _ in range(3)]
        threads = [Thread(interps[number % 3].call, eval, "consume(queue, 1)") for number in range(12)]
        wait_asleep(*(thread.native_id for thread in threads))
        if how == "put":
            for number in range(12):
                queue.put((0, number))
        else:
            queue.put_many((0, number) for number in range(12))
        assert sorted(thread.result()[0][1] for thread in threads) == list(range(12))

    def test_every_putter_is_woken(self):
        queue = atoll.create_queue(1)
        queue.put((0, 0))
        interps = [worker(queue) for _ in range(3)]
        threads = [
            Thread(interps[number % 3].call, eval, f"produce(queue, {number}, 1)") for number in range(12)
        ]
        wait_asleep(*(thread.native_id for thread in threads))
        found = [queue.get(timeout=PATIENCE) for _ in range(13)]
        for thread in threads:
            thread.result()
        assert sorted(found) == sorted([(0, 0), *((number, 0) for number in range(12))])

    def test_first_come_first_served(self, queue):
        """Getters that sleep get the items in the order in which they began to wait."""
        threads = []
        for _ in range(5):
            threads.append(Thread(queue.get, timeout=PATIENCE))
            wait_asleep(threads[-1].native_id)
        for number, thread in enumerate(threads):
            queue.put(number)
            assert thread.result() == number

    def test_timeouts_beside_items(self, queue):
        """Getters give up all the time; no item is lost to one that did."""
        found: list[int] = []

        def get(number):
            order = random.Random(number)
            own = []
            while True:
                try:
                    own.append(queue.get(timeout=order.random() / 1_000))
                except atoll.QueueEmpty:
                    pass
                except atoll.QueueShutDown:
                    return own

        threads = [Thread(get, number) for number in range(4)]
        order = random.Random(7)
        for number in range(1_500):
            queue.put(number)
            if order.random() < 0.2:
                time.sleep(order.random() / 1_000)
        queue.shutdown()
        for thread in threads:
            found += thread.result()
        assert sorted(found) == list(range(1_500))

    @pytest.mark.parametrize("side", ["get", "put", "select"])
    def test_who_waits_sleeps(self, side):
        """Nobody is woken again and again while nothing happens."""

        def switches():
            found = []
            for thread in threads:
                status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
                found += map(int, re.findall(r"(?m)^voluntary_ctxt_switches:\s*(\d+)$", status))
            return found

        queue = atoll.create_queue(1)
        other = atoll.create_queue()
        if side == "put":
            queue.put(0)
        source = {
            "get": "queue.get()",
            "put": "queue.put(1)",
            "select": "__import__('atoll').select([queue])",
        }[side]
        interps = [worker(queue) for _ in range(4)]
        threads = [
            Thread(interps[number % 5].call, eval, source)
            if number % 5 < 4
            else Thread(eval, source, {"queue": queue})
            for number in range(200)
        ]
        wait_asleep(*(thread.native_id for thread in threads))
        before = switches()
        with pytest.raises(atoll.QueueEmpty):
            other.get(timeout=1)
        after = switches()
        queue.shutdown(immediate=True)
        for thread in threads:
            if side == "select":
                thread.result()
            else:
                with pytest.raises(
                    (atoll.QueueShutDown, atoll.ExecutionFailed), match="shut down|QueueShutDown"
                ):
                    thread.result()
        assert len(after) == len(threads)
        assert sum(after) - sum(before) < 10 * len(threads)  # some may have had to wait for a GIL


class TestShutdown:
    @pytest.mark.parametrize("immediate", [False, True])
    def test_wakes_everybody(self, immediate):
        empty, full = atoll.create_queue(), atoll.create_queue(1)
        full.put("full")
        interps = [new() for _ in range(2)]
        source = """
            import atoll
            def waits(name, *args):
                queue = full if name.startswith("put") else empty
                try:
                    if name == "iterate":
                        return list(queue)
                    if name == "select":
                        return atoll.select([queue]) == [queue]
                    return getattr(queue, name)(*args)
                except atoll.QueueShutDown as error:
                    return error.count if name == "put_many" else "shut down"
            """
        for interp in interps:
            interp.prepare_main(empty=empty, full=full)
            interp.exec(source)
        calls = [
            "'get'",
            "'get', True, 3600",
            "'get_many'",
            "'put', 1",
            "'put_many', [1, 2]",
            "'iterate'",
            "'select'",
        ]
        threads = [Thread(interp.call, eval, f"waits({call})") for call in calls for interp in interps]
        wait_asleep(*(thread.native_id for thread in threads))
        full.shutdown(immediate)
        empty.shutdown(immediate)
        expected = ["shut down", "shut down", "shut down", "shut down", 0, [], True]
        assert [thread.result() for thread in threads] == [result for result in expected for _ in range(2)]
        assert drain(full) == ([] if immediate else ["full"])

    @pytest.mark.parametrize("immediate", [False, True])
    def test_while_items_fly(self, immediate):
        """What was put before is got, or dropped; whoever puts knows how much it put."""
        for maxsize in (0, 2):
            queue = atoll.create_queue(maxsize)
            interps = [worker(queue) for _ in range(4)]
            for interp in interps:
                interp.exec("""
                    def put_all(producer):
                        for number in range(10**9):
                            try:
                                queue.put((producer, number))
                            except atoll.QueueShutDown:
                                return number
                    """)
            putting = [Thread(interp.call, eval, f"put_all({n})") for n, interp in enumerate(interps[:2])]
            getting = [Thread(interp.call, eval, "consume(queue)") for interp in interps[2:]]
            first = [queue.get(timeout=PATIENCE) for _ in range(50)]
            queue.shutdown(immediate)
            counts = [thread.result() for thread in putting]
            found = [first, *(thread.result() for thread in getting)]
            for part in found:
                check_order(part)
            everything = [item for part in found for item in part]
            assert len(set(everything)) == len(everything)
            every = {(producer, number) for producer in range(2) for number in range(counts[producer])}
            assert set(everything) <= every if immediate else set(everything) == every
            assert queue.empty()


class TestClosing:
    """Interpreters are made and closed while items fly."""

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("unbound", ["UNBOUND", "UNBOUND_ERROR", "UNBOUND_REMOVE"])
    @pytest.mark.parametrize("maxsize", [0, 20])
    def test_senders(self, unbound, seed, maxsize):
        """Every item arrives exactly once, or as the mark of one whose interpreter has ended."""
        queue = atoll.create_queue(maxsize, unbounditems=getattr(atoll, unbound))
        rounds, most = 5, 60

        def send(number):
            order = random.Random(f"{seed} {number}")
            put = 0
            for turn in range(rounds):
                interp = worker(queue)
                count = order.randrange(most)
                name = order.choice(["produce", "produce_many"])
                interp.call(eval, f"{name}(queue, {number * rounds + turn}, {count})")
                put += count
                if order.random() < 0.5:
                    interp.close()
                del interp
            return put

        receivers = [worker(queue) for _ in range(2)]
        getting = [Thread(interp.call, eval, "consume(queue)") for interp in receivers]
        put = sum(together(3, send))
        queue.shutdown()
        found = [thread.result() for thread in getting]
        marks = [None, "destroyed"]
        for part in found:
            check_order([item for item in part if item not in marks])
        everything = [item for part in found for item in part]
        arrived = [item for item in everything if item not in marks]
        assert len(set(arrived)) == len(arrived)
        if unbound == "UNBOUND_REMOVE":
            assert everything == arrived
            assert len(arrived) <= put
        else:
            assert len(everything) == put
            assert set(everything) - set(arrived) <= {None if unbound == "UNBOUND" else "destroyed"}
        assert queue.qsize() == 0

    @pytest.mark.parametrize("seed", range(3))
    def test_receivers(self, seed):
        """A receiver that ends takes along only what it has got."""
        queue = atoll.create_queue()

        def receive(number):
            order = random.Random(f"{seed} {number}")
            found = []
            while True:
                interp = worker(queue)
                wanted = order.randrange(1, 150)
                part = interp.call(eval, f"consume(queue, {wanted})")
                found.append(part)
                interp.close()
                if len(part) < wanted:
                    return found

        senders = [worker(queue) for _ in range(2)]
        getting = [Thread(receive, number) for number in range(3)]
        putting = [
            Thread(interp.call, eval, f"produce(queue, {number}, 1_500)")
            for number, interp in enumerate(senders)
        ]
        for thread in putting:
            thread.result()
        queue.shutdown()
        check_all([part for thread in getting for part in thread.result()], 2, 1_500)
        assert queue.empty()

    def test_while_others_wait(self):
        """Closing an interpreter whose items are removed lets those go on that wait for room."""
        queue = atoll.create_queue(4, unbounditems=atoll.UNBOUND_REMOVE)
        threads = []
        for turn in range(10):
            interp = worker(queue)
            interp.call(eval, "produce(queue, 0, 4)")
            threads = [Thread(queue.put, ("main", number), timeout=PATIENCE) for number in range(4)]
            if turn % 2:
                wait_asleep(*(thread.native_id for thread in threads))
            interp.close()
            for thread in threads:
                thread.result()
            assert sorted(drain(queue)) == [("main", number) for number in range(4)]

    def test_getters_go_on_waiting(self, queue):
        """Items that vanish wake nobody for good: the next item does."""
        thread = Thread(queue.get, timeout=PATIENCE)
        for _ in range(5):
            interp = worker(queue)
            interp.close()
        wait_asleep(thread.native_id)
        queue.put("item")
        assert thread.result() == "item"

    def test_queues_made_and_dropped(self, queue):
        """Threads make queues, send them to each other through a queue, use them and drop them."""
        before = set(numbers())
        interps = [worker(queue) for _ in range(3)]
        for interp in interps:
            interp.exec(f"""
                def serve():
                    for box in queue:
                        box.put("answer", timeout={PATIENCE})
                """)
        threads = [Thread(interp.exec, "serve()") for interp in interps]

        def ask(number):
            for _ in range(100):
                box = atoll.create_queue(1)
                queue.put(box)
                assert box.get(timeout=PATIENCE) == "answer"

        together(4, ask)
        queue.shutdown()
        for thread in threads:
            thread.result()
        assert set(numbers()) <= before

    def test_the_same_object_for_everyone(self, queue):
        gate = threading.Barrier(4)

        def look(number):
            gate.wait(PATIENCE)
            return all(atoll.Queue(queue.id) is queue for _ in range(500))

        assert together(4, look) == [True] * 4

    def test_freed_by_whoever_comes_last(self, interp):
        """Objects of the same queue die at the same time in several interpreters."""
        other = new()
        for _ in range(50):
            queue = atoll.create_queue()
            queue.put(queue)
            number = queue.id
            for one in (interp, other):
                one.prepare_main(queue=queue)
            boxes = [lambda: interp.exec("del queue"), lambda: other.exec("del queue")]
            del queue
            together(2, lambda number: boxes[number]())
            assert number not in numbers()
