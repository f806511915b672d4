"""What queues do beyond put and get: many items at once, shutdown, iteration, fileno() and select()."""

from __future__ import annotations

import os
import queue as standard
import select
import sys
import threading

import pytest

import atoll
from helpers import PATIENCE, Thread, new
from queue_helpers import (
    drain,
    grow,
    make_foreigner,  # noqa: F401
    make_queue,  # noqa: F401
    no_queue_left_behind,  # noqa: F401
    wait_asleep,
)


def readable(*things: object) -> list[object]:
    """Return those that are readable now."""
    return select.select(things, [], [], 0)[0]


class TestPutMany:
    @pytest.mark.parametrize("count", [0, 1, 2, 10, 5_000, 100_000])
    def test_all(self, queue, count):
        queue.put_many(range(count))
        assert queue.qsize() == count
        assert drain(queue) == list(range(count))

    @pytest.mark.parametrize(
        "kind", [list, tuple, iter, set, dict.fromkeys, lambda items: (i for i in items)]
    )
    def test_iterables(self, queue, kind):
        queue.put_many(kind([3, 1, 2]))
        assert sorted(drain(queue)) == [1, 2, 3]

    @pytest.mark.parametrize("size", [10, 511, 512, 513, 20_000])
    def test_sizes(self, queue, size):
        items = [bytes([number]) * size for number in range(50)]
        queue.put("first")
        queue.put_many(items)
        queue.put("last")
        assert drain(queue) == ["first", *items, "last"]

    def test_kinds_mixed(self, queue):
        data = bytearray(b"abc")
        inner = atoll.create_queue()
        queue.put_many([1, b"x" * 5_000, memoryview(data), inner, [inner, queue], "end"])
        assert queue.get_many(2) == [1, b"x" * 5_000]
        assert bytes(queue.get()) == b"abc"
        assert queue.get_many() == [inner, [inner, queue], "end"]
        grow(data)

    def test_items_share_nothing(self, queue):
        """Each item is a copy of its own, as with put()."""
        item = ["shared"]
        queue.put_many([item, item])
        one, two = queue.get_many()
        assert one == two == ["shared"]
        assert one is not two

    def test_without_room(self):
        queue = atoll.create_queue(3)
        queue.put("before")
        with pytest.raises(atoll.QueueFull) as caught:
            queue.put_many(range(10), block=False)
        assert caught.value.count == 2
        assert queue.full()
        for block, timeout in ((True, 0), (True, 0.01), (False, -1)):
            with pytest.raises(standard.Full) as caught:
                queue.put_many(range(10), block, timeout)
            assert caught.value.count == 0
        assert drain(queue) == ["before", 0, 1]

    def test_just_enough_room(self):
        queue = atoll.create_queue(3)
        queue.put_many("abc", block=False)
        assert drain(queue) == ["a", "b", "c"]

    def test_more_than_fits(self, interp):
        """In portions, as somebody else takes them; the order stays."""
        queue = atoll.create_queue(7)
        interp.prepare_main(queue=queue)
        thread = Thread(interp.call, eval, "[queue.get() for _ in range(1_000)]")
        queue.put_many(range(1_000), timeout=PATIENCE)
        assert thread.result() == list(range(1_000))

    def test_unsendable(self, queue):
        data = bytearray(b"abc")
        items = [1, memoryview(data), "x" * 5_000, {"key": [threading.Lock()]}, 5]
        with pytest.raises(atoll.NotShareableError, match=r"items\[3\]\['key'\]\[0\].*not shareable"):
            queue.put_many(items)
        assert queue.empty()
        items.clear()
        grow(data)

    def test_iterable_that_raises(self, queue):
        def items():
            yield from range(100)
            raise LookupError("told")

        with pytest.raises(LookupError, match="told"):
            queue.put_many(items())
        assert queue.empty()

    def test_iterable_that_uses_the_queue(self, queue):
        def items():
            yield 1
            queue.put("own")
            yield 2
            assert queue.get() == "own"
            yield 3

        queue.put_many(items())
        assert drain(queue) == [1, 2, 3]

    @pytest.mark.parametrize("bad", [None, 5, len])
    def test_no_iterable(self, queue, bad):
        with pytest.raises(TypeError):
            queue.put_many(bad)

    @pytest.mark.parametrize("bad", [-1, float("nan")])
    def test_wrong_timeout(self, queue, bad):
        with pytest.raises(ValueError, match="timeout"):
            queue.put_many([1], timeout=bad)
        with pytest.raises(TypeError):
            queue.put_many([1], timeout="1")
        assert queue.empty()

    def test_unbounditems(self, queue):
        interp = new()
        interp.prepare_main(queue=queue)
        interp.exec("""
            import atoll
            queue.put_many([1, 2], unbounditems=atoll.UNBOUND_REMOVE)
            queue.put_many([3, b"x" * 5_000])
            queue.put_many([5], unbounditems=atoll.UNBOUND_ERROR)
            """)
        with pytest.raises(NotImplementedError):
            queue.put_many([1], unbounditems="UNBOUND")
        interp.close()
        assert queue.qsize() == 3
        assert queue.get_many(2) == [atoll.UNBOUND] * 2
        with pytest.raises(atoll.ItemInterpreterDestroyed):
            queue.get()


class TestGetMany:
    def test_all(self, queue):
        queue.put_many(range(10_000))
        assert queue.get_many() == list(range(10_000))
        assert queue.empty()

    @pytest.mark.parametrize("most", [1, 2, 99, 100, 101, 2**40, None])
    def test_most(self, queue, most):
        queue.put_many(range(100))
        found = queue.get_many(most)
        assert found == list(range(100))[:most]
        assert queue.qsize() == 100 - len(found)
        assert drain(queue) == list(range(100))[len(found) :]

    @pytest.mark.parametrize("size", [511, 513, 20_000])
    def test_sizes(self, queue, size):
        items = [bytes([number]) * size for number in range(100)]
        queue.put_many(items)
        assert [*queue.get_many(33), queue.get(), *queue.get_many()] == items

    @pytest.mark.parametrize("bad", [0, -1])
    def test_too_few(self, queue, bad):
        queue.put(1)
        with pytest.raises(ValueError, match="most"):
            queue.get_many(bad)
        assert queue.qsize() == 1

    @pytest.mark.parametrize("bad", ["1", 1.5, []])
    def test_wrong_type(self, queue, bad):
        with pytest.raises(TypeError):
            queue.get_many(bad)

    def test_nothing_there(self, queue):
        for block, timeout in ((False, None), (False, -1), (True, 0), (True, 0.01)):
            with pytest.raises(atoll.QueueEmpty):
                queue.get_many(None, block, timeout)
        for bad in (-1, float("nan")):
            with pytest.raises(ValueError, match="timeout"):
                queue.get_many(timeout=bad)

    def test_waits_for_the_first(self, queue, interp):
        interp.prepare_main(queue=queue)
        thread = Thread(interp.call, eval, f"queue.get_many(10, timeout={PATIENCE})")
        wait_asleep(thread.native_id)
        queue.put("first")
        assert thread.result() == ["first"]

    def test_makes_room(self):
        """Every putter that there is room for now goes on."""
        queue = atoll.create_queue(3)
        queue.put_many("abc")
        threads = [Thread(queue.put, "d", timeout=PATIENCE) for _ in range(3)]
        wait_asleep(*(thread.native_id for thread in threads))
        assert queue.get_many(3) == ["a", "b", "c"]
        for thread in threads:
            thread.result()
        assert drain(queue) == ["d"] * 3

    def test_undecodable(self, queue, interp, foreigner):
        """What comes before it is returned; the next get reports it, and then come the others."""
        interp.prepare_main(queue=queue)
        queue.put_many([1, 2, [foreigner], b"x" * 5_000, 5, foreigner, 7])
        interp.exec("""
            import atoll
            def reports():
                for get in (queue.get_many, queue.get):
                    try:
                        get()
                    except atoll.QueueError as error:
                        return isinstance(error.__cause__, ImportError)
            assert queue.get_many() == [1, 2]
            assert queue.qsize() == 5
            assert reports()
            assert queue.qsize() == 4
            assert queue.get_many() == [b"x" * 5_000, 5]
            """)
        found = queue.get_many()
        assert type(found[0]) is type(foreigner)
        assert found[1:] == [7]

    def test_undecodable_first(self, queue, interp, foreigner):
        interp.prepare_main(queue=queue)
        queue.put_many([foreigner, 2])
        with pytest.raises(atoll.ExecutionFailed, match="QueueError"):
            interp.exec("queue.get_many()")
        assert queue.get_many() == [2]

    def test_left_for_others(self, queue, interp, foreigner):
        """What the receiver could not decode is still there for one who can, in its place."""
        interp.prepare_main(queue=queue)
        data, inner = bytearray(b"abc"), atoll.create_queue()
        queue.put_many([1, Ellipsis, ["fill" * 2_000], [memoryview(data), inner, foreigner], 5])
        assert interp.call(eval, "len(queue.get_many())") == 3
        (view, received, made), last = queue.get_many()
        assert (bytes(view), received, last) == (b"abc", inner, 5)
        assert type(made) is type(foreigner)
        view.release()
        interp.exec("pass")
        grow(data)

    def test_unbound(self, queue):
        interp = new()
        interp.prepare_main(queue=queue)
        queue.put(1)
        interp.exec("""
            import atoll
            queue.put(2)
            queue.put(3, unbounditems=atoll.UNBOUND_REMOVE)
            queue.put(4, unbounditems=atoll.UNBOUND_ERROR)
            """)
        queue.put(5)
        interp.close()
        assert queue.get_many() == [1, atoll.UNBOUND]
        assert queue.qsize() == 2
        with pytest.raises(atoll.ItemInterpreterDestroyed):
            queue.get_many()
        assert queue.get_many() == [5]


class TestShutdown:
    def test_put(self, queue):
        queue.shutdown()
        assert queue.is_shutdown is True
        for put in (queue.put, queue.put_nowait):
            with pytest.raises(atoll.QueueShutDown, match=str(queue.id)):
                put(1)
        with pytest.raises(atoll.QueueShutDown) as caught:
            queue.put_many([1, 2])
        assert caught.value.count == 0
        assert queue.empty()

    def test_what_is_left_can_be_got(self, queue):
        queue.put_many(range(5))
        queue.shutdown()
        assert queue.qsize() == 5
        assert queue.get() == 0
        assert queue.get_nowait() == 1
        assert queue.get_many(2) == [2, 3]
        assert queue.get_many() == [4]
        for get in (queue.get, queue.get_nowait, queue.get_many):
            with pytest.raises(atoll.QueueShutDown):
                get()
        with pytest.raises(atoll.QueueShutDown):
            queue.get(timeout=0)

    @pytest.mark.skipif(sys.version_info < (3, 13), reason="queue.ShutDown is new in 3.13")
    def test_standard_exception(self, queue):
        queue.shutdown()
        with pytest.raises(standard.ShutDown):
            queue.get()

    @pytest.mark.parametrize(
        "how", [lambda queue: queue.shutdown(True), lambda queue: queue.shutdown(immediate=True)]
    )
    def test_immediate(self, queue, how):
        data = bytearray(b"abc")
        queue.put_many([1, b"x" * 5_000, memoryview(data)])
        how(queue)
        assert (queue.qsize(), queue.empty(), queue.is_shutdown) == (0, True, True)
        grow(data)
        with pytest.raises(atoll.QueueShutDown):
            queue.get()

    def test_again(self, queue):
        queue.put_many([1, 2])
        queue.shutdown()
        queue.shutdown()
        assert queue.get() == 1
        queue.shutdown(immediate=True)
        with pytest.raises(atoll.QueueShutDown):
            queue.get()
        queue.shutdown()
        assert queue.is_shutdown

    def test_full(self):
        queue = atoll.create_queue(1)
        queue.put(1)
        queue.shutdown()
        with pytest.raises(atoll.QueueShutDown):
            queue.put(2)
        assert queue.get() == 1

    def test_by_another_interpreter(self, queue, interp):
        interp.prepare_main(queue=queue)
        assert interp.call(eval, "queue.is_shutdown") is False
        interp.exec("queue.put(1); queue.shutdown()")
        assert queue.is_shutdown
        assert queue.get() == 1
        with pytest.raises(atoll.QueueShutDown):
            queue.get()

    def test_unbound(self, queue):
        """The end of an interpreter reaches items of a queue that is shut down."""
        interp = new()
        interp.prepare_main(queue=queue)
        interp.exec(
            "import atoll; queue.put(1); queue.put(2, unbounditems=atoll.UNBOUND_REMOVE); queue.shutdown()"
        )
        interp.close()
        assert queue.get() is atoll.UNBOUND
        with pytest.raises(atoll.QueueShutDown):
            queue.get()

    def test_stopped_in_the_middle(self):
        queue = atoll.create_queue(4)
        thread = Thread(queue.put_many, range(10), timeout=PATIENCE)
        wait_asleep(thread.native_id)
        assert queue.get() == 0
        found = [queue.get(timeout=PATIENCE) for _ in range(3)]
        wait_asleep(thread.native_id)
        queue.shutdown()
        with pytest.raises(atoll.QueueShutDown) as caught:
            thread.result()
        assert [0, *found, *drain(queue)] == list(range(caught.value.count))

    def test_wrong_arguments(self, queue):
        with pytest.raises(TypeError):
            queue.shutdown(True, True)
        assert queue.is_shutdown is False


class TestIteration:
    def test_until_shut_down_and_empty(self, queue):
        queue.put_many(range(10))
        queue.shutdown()
        assert list(queue) == list(range(10))
        assert list(queue) == []

    def test_protocol(self, queue):
        assert iter(queue) is queue
        queue.put_many([None, StopIteration])
        assert next(queue) is None
        assert next(queue) is StopIteration
        queue.shutdown()
        with pytest.raises(StopIteration):
            next(queue)
        assert next(queue, "default") == "default"

    def test_waits(self, queue, interp):
        interp.prepare_main(queue=queue)
        thread = Thread(interp.call, eval, "[item for item in queue]")
        for number in range(3):
            wait_asleep(thread.native_id)
            queue.put(number)
        wait_asleep(thread.native_id)
        queue.shutdown()
        assert thread.result() == [0, 1, 2]

    def test_unbound(self, queue):
        interp = new()
        interp.prepare_main(queue=queue)
        interp.exec(
            "import atoll; queue.put(1); queue.put(2, unbounditems=atoll.UNBOUND_ERROR); queue.put(3)"
        )
        interp.close()
        queue.shutdown()
        assert next(queue) is atoll.UNBOUND
        with pytest.raises(atoll.ItemInterpreterDestroyed):
            next(queue)
        assert list(queue) == [atoll.UNBOUND]


class TestFileno:
    def test_follows_the_items(self, queue):
        number = queue.fileno()
        assert queue.fileno() == number
        assert readable(queue) == []
        queue.put(1)
        queue.put(2)
        assert readable(queue) == [queue]
        assert queue.get() == 1
        assert readable(queue) == [queue]
        assert queue.get() == 2
        assert readable(queue) == []
        queue.put_many(range(10))
        assert readable(number) == [number]
        queue.get_many(9)
        assert readable(number) == [number]
        queue.get_many()
        assert readable(number) == []

    def test_asked_for_when_there_are_items(self, queue):
        queue.put(1)
        assert readable(queue) == [queue]
        queue.get()
        assert readable(queue) == []

    @pytest.mark.parametrize("immediate", [False, True])
    def test_shutdown(self, queue, immediate):
        assert readable(queue) == []
        queue.shutdown(immediate)
        assert readable(queue) == [queue]
        with pytest.raises(atoll.QueueShutDown):
            queue.get()
        assert readable(queue) == [queue]

    def test_of_a_queue_that_was_shut_down_before(self, queue):
        queue.shutdown()
        assert readable(queue) == [queue]

    def test_unbound(self, queue):
        interp = new()
        interp.prepare_main(queue=queue)
        interp.exec("import atoll; queue.put(1, unbounditems=atoll.UNBOUND_REMOVE)")
        assert readable(queue) == [queue]
        interp.close()
        assert readable(queue) == []
        interp = new()
        interp.prepare_main(queue=queue)
        interp.exec("queue.put(1)")
        interp.close()
        assert readable(queue) == [queue]
        assert queue.get() is atoll.UNBOUND
        assert readable(queue) == []

    def test_undecodable(self, queue, interp, foreigner):
        interp.prepare_main(queue=queue)
        queue.put_many([1, foreigner])
        assert readable(queue) == [queue]
        assert interp.call(eval, "queue.get_many()") == [1]
        assert readable(queue) == [queue]
        with pytest.raises(atoll.ExecutionFailed):
            interp.exec("queue.get()")
        assert readable(queue) == []

    @pytest.mark.parametrize("kind", ["select", "poll", "epoll"])
    def test_wakes(self, queue, interp, kind):
        """A thread that waits for the descriptor is woken by a put in another interpreter."""
        if kind == "select":
            thread = Thread(select.select, [queue], [], [], PATIENCE)
        else:
            poll = select.poll() if kind == "poll" else select.epoll()
            poll.register(queue, select.POLLIN)
            thread = Thread(poll.poll, PATIENCE * (1_000 if kind == "poll" else 1))
        interp.prepare_main(queue=queue)
        wait_asleep(thread.native_id)
        interp.exec("queue.put('woken')")
        result = thread.result()
        assert result == (([queue], [], []) if kind == "select" else [(queue.fileno(), select.POLLIN)])
        assert queue.get_nowait() == "woken"

    def test_the_same_in_every_interpreter(self, queue, interp):
        interp.prepare_main(queue=queue)
        assert interp.call(eval, "queue.fileno()") == queue.fileno()

    def test_not_inherited(self, queue):
        assert os.get_inheritable(queue.fileno()) is False

    def test_closed_with_the_queue(self):
        queue = atoll.create_queue()
        number = queue.fileno()
        os.fstat(number)
        del queue
        with pytest.raises(OSError):
            os.fstat(number)


class TestSelect:
    def test_ready(self):
        queues = [atoll.create_queue() for _ in range(4)]
        assert atoll.select(queues, 0) == []
        queues[2].put(1)
        assert atoll.select(queues, 0) == [queues[2]]
        assert atoll.select(tuple(queues)) == [queues[2]]
        queues[0].shutdown()
        assert atoll.select(iter(queues)) == [queues[0], queues[2]]
        assert queues[2].get() == 1
        assert atoll.select(queues, timeout=1) == [queues[0]]

    def test_takes_nothing(self, queue):
        queue.put_many([1, 2])
        for _ in range(3):
            assert atoll.select([queue]) == [queue]
        assert drain(queue) == [1, 2]

    def test_timeout(self, queue):
        for timeout in (0, 0.0, 0.01):
            assert atoll.select([queue], timeout) == []
        assert atoll.select([], 0.01) == []

    def test_wrong_arguments(self, queue):
        for bad in (-1, float("nan")):
            with pytest.raises(ValueError, match="timeout"):
                atoll.select([queue], bad)
        queue.put(1)
        for call in (
            lambda: atoll.select(queue),  # going through it would take its items and wait for more
            lambda: atoll.select([queue], "1"),
            lambda: atoll.select(queue.id),
            lambda: atoll.select([queue, 5], 0),
            lambda: atoll.select([queue.fileno()], 0),
            lambda: atoll.select(),
        ):
            with pytest.raises(TypeError):
                call()

    def test_the_same_twice(self, queue):
        queue.put(1)
        assert set(atoll.select([queue, queue])) == {queue}
        queue.get()
        assert atoll.select([queue, queue], 0.01) == []

    @pytest.mark.parametrize("which", range(3))
    @pytest.mark.parametrize("how", ["put(1)", "put_many([1, 2])", "shutdown()"])
    def test_woken(self, interp, which, how):
        queues = [atoll.create_queue() for _ in range(3)]
        interp.prepare_main(queue=queues[which])
        thread = Thread(atoll.select, queues, PATIENCE)
        wait_asleep(thread.native_id)
        interp.exec(f"queue.{how}")
        assert thread.result() == [queues[which]]

    def test_everyone_is_woken(self, queue, interp):
        """An item wakes all that select, besides the one that gets it."""
        other = atoll.create_queue()
        interp.prepare_main(queues=(other, queue))
        threads = [Thread(atoll.select, [queue, other], PATIENCE) for _ in range(5)]
        threads.append(Thread(interp.call, eval, f"__import__('atoll').select(queues, {PATIENCE})"))
        wait_asleep(*(thread.native_id for thread in threads))
        queue.put(1)
        assert [thread.result() for thread in threads] == [[queue]] * 6
        assert queue.get_nowait() == 1

    def test_beside_a_getter(self, queue):
        """The getter gets the item, whoever else waits for it to come."""
        other = atoll.create_queue()
        selecting = Thread(atoll.select, [queue, other], PATIENCE)
        getting = Thread(queue.get, timeout=PATIENCE)
        wait_asleep(selecting.native_id, getting.native_id)
        queue.put("item")
        assert getting.result() == "item"
        other.put(1)
        assert selecting.result() in ([queue], [other], [queue, other])

    def test_many(self):
        queues = [atoll.create_queue() for _ in range(2_000)]
        thread = Thread(atoll.select, queues, PATIENCE)
        wait_asleep(thread.native_id)
        queues[1_234].put(1)
        assert thread.result() == [queues[1_234]]
        for queue in queues[::2]:
            queue.put(1)
        assert atoll.select(queues) == queues[::2]
