"""Queues: making and finding them, putting and getting, what their items are and what becomes of them."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import queue as standard
import random
import sys
import weakref
from typing import Any

import pytest

import atoll
import atoll.interpreters
from helpers import PATIENCE, Thread, identity, new
from queue_helpers import CONSTANTS, drain, grow, make_queue, no_queue_left_behind, numbers  # noqa: F401

API = [
    "ItemInterpreterDestroyed",
    "Queue",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "QueueNotFoundError",
    "QueueShutDown",
    "UNBOUND",
    "UNBOUND_ERROR",
    "UNBOUND_REMOVE",
    "create_queue",
]


class TestModule:
    @pytest.mark.parametrize("name", API)
    def test_the_same_objects_under_both_names(self, name):
        assert getattr(atoll, name) is getattr(atoll.interpreters, name)
        assert name in atoll.__all__
        assert name in atoll.interpreters.__all__

    def test_queues_module(self):
        for name in API:
            if name != "create_queue":
                assert getattr(atoll._queues.names, name) is getattr(atoll, name)
        assert atoll.interpreters._queues is atoll._queues.names
        assert atoll._queues.names.create(3).maxsize == 3

    def test_exceptions(self):
        assert issubclass(atoll.QueueError, RuntimeError)
        for error in (atoll.QueueNotFoundError, atoll.QueueEmpty, atoll.QueueFull, atoll.QueueShutDown):
            assert issubclass(error, atoll.QueueError)
        assert issubclass(atoll.ItemInterpreterDestroyed, atoll.QueueError)
        assert issubclass(atoll.QueueEmpty, standard.Empty)
        assert issubclass(atoll.QueueFull, standard.Full)
        if sys.version_info >= (3, 13):
            assert issubclass(atoll.QueueShutDown, standard.ShutDown)

    def test_exceptions_in_an_interpreter(self, interp):
        interp.exec("""
            import atoll, queue
            made = atoll.create_queue(1)
            try:
                made.get_nowait()
            except queue.Empty as error:
                assert isinstance(error, atoll.QueueEmpty)
            made.put(1)
            try:
                made.put_nowait(2)
            except queue.Full as error:
                assert isinstance(error, atoll.QueueFull)
            """)

    def test_constants(self):
        constants = [getattr(atoll, name) for name in CONSTANTS]
        assert len(set(map(id, constants))) == 3
        assert "UNBOUND" in repr(atoll.UNBOUND)

    def test_everything_is_documented(self):
        for name in set(API) - set(CONSTANTS):
            assert getattr(atoll, name).__doc__
        for name in ("id", "maxsize", "unbounditems", "is_shutdown", "qsize", "empty", "full", "put"):
            assert getattr(atoll.Queue, name).__doc__
        for name in ("put_nowait", "get", "get_nowait", "put_many", "get_many", "shutdown", "fileno"):
            assert getattr(atoll.Queue, name).__doc__


class TestCreate:
    @pytest.mark.parametrize("maxsize", [0, 1, 3, 100, -1, -10, 2**40])
    def test_maxsize(self, maxsize):
        assert atoll.create_queue(maxsize).maxsize == maxsize
        assert atoll.create_queue(maxsize=maxsize).maxsize == maxsize

    def test_defaults(self, queue):
        assert queue.maxsize == 0
        assert queue.unbounditems is atoll.UNBOUND
        assert queue.is_shutdown is False
        assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)

    @pytest.mark.parametrize("bad", ["1", 1.5, None, [], b"1"])
    def test_wrong_type_of_maxsize(self, bad):
        with pytest.raises(TypeError):
            atoll.create_queue(bad)

    @pytest.mark.parametrize("name", CONSTANTS)
    def test_unbounditems(self, name):
        constant = getattr(atoll, name)
        assert atoll.create_queue(unbounditems=constant).unbounditems is constant

    @pytest.mark.parametrize("bad", [1, 3, "UNBOUND", object()])
    def test_wrong_unbounditems(self, queue, bad):
        with pytest.raises(NotImplementedError):
            atoll.create_queue(unbounditems=bad)
        with pytest.raises(NotImplementedError):
            queue.put(1, unbounditems=bad)
        with pytest.raises(NotImplementedError):
            queue.put_nowait(1, unbounditems=bad)
        assert queue.empty()

    def test_unexpected_arguments(self):
        with pytest.raises(TypeError):
            atoll.create_queue(0, atoll.UNBOUND)
        with pytest.raises(TypeError):
            atoll.create_queue(no_such_option=True)

    def test_ten_thousand(self):
        """They cost no file descriptor each, are all found, and go one by one."""
        before, open_files = set(numbers()), len(os.listdir("/proc/self/fd"))
        queues = [atoll.create_queue() for _ in range(10_000)]
        assert len({queue.id for queue in queues}) == 10_000
        assert len(set(numbers()) - before) == 10_000
        for number, queue in enumerate(queues):
            queue.put(number)
        assert len(os.listdir("/proc/self/fd")) == open_files
        assert [queue.get_nowait() for queue in queues] == list(range(10_000))
        del queues[::2]
        assert len(set(numbers()) - before) == 5_000
        del queue, queues
        assert set(numbers()) <= before


class TestIdentity:
    def test_one_object_per_id(self, queue):
        assert atoll.Queue(queue.id) is queue
        assert [found for found in atoll._queues.names.list_all() if found.id == queue.id][0] is queue

    def test_ids_grow(self):
        ids = [atoll.create_queue().id for _ in range(3)]
        assert ids == sorted(set(ids))

    def test_hash_equality_repr(self, queue):
        other = atoll.create_queue()
        assert hash(queue) == hash(queue.id)
        assert queue == atoll.Queue(queue.id)
        assert queue != other
        assert queue != queue.id
        assert repr(queue) == f"Queue({queue.id})"
        assert {queue: 1}[queue] == 1

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickle(self, queue, protocol):
        assert pickle.loads(pickle.dumps(queue, protocol)) is queue

    def test_reduce(self, queue):
        assert queue.__reduce__() == (atoll.Queue, (queue.id,))
        assert copy.copy(queue) is queue
        assert copy.deepcopy([queue])[0] is queue

    def test_pickle_elsewhere(self, queue, interp):
        interp.call(exec, f"import pickle; found = pickle.loads({pickle.dumps(queue)!r}); found.put('there')")
        assert queue.get() == "there"

    def test_pickle_of_one_that_is_gone(self):
        data = pickle.dumps(atoll.create_queue())
        with pytest.raises(atoll.QueueNotFoundError):
            pickle.loads(data)

    @pytest.mark.parametrize("bad", ["0", 0.0, None, b"0", object(), ()])
    def test_wrong_type_of_id(self, bad):
        with pytest.raises(TypeError):
            atoll.Queue(bad)

    @pytest.mark.parametrize("number", [1_000_000_000, 2**62])
    def test_unknown_id(self, number):
        with pytest.raises(atoll.QueueNotFoundError, match=str(number)):
            atoll.Queue(number)

    @pytest.mark.parametrize("number", [-1, 10**30])
    def test_impossible_id(self, number):
        with pytest.raises((atoll.QueueNotFoundError, ValueError, OverflowError)):
            atoll.Queue(number)

    @pytest.mark.parametrize("name", ["id", "maxsize", "unbounditems", "is_shutdown"])
    def test_read_only(self, queue, name):
        with pytest.raises(AttributeError):
            setattr(queue, name, 1)

    def test_seen_from_another_interpreter(self, interp):
        queue = atoll.create_queue(7, unbounditems=atoll.UNBOUND_REMOVE)
        interp.prepare_main(queue=queue, number=queue.id)
        interp.exec("""
            import atoll
            assert atoll.Queue(number) is queue
            assert queue in atoll._queues.names.list_all()
            assert (queue.id, queue.maxsize) == (number, 7)
            assert queue.unbounditems is atoll.UNBOUND_REMOVE
            assert hash(queue) == hash(number)
            """)

    def test_through_a_call(self, queue, interp):
        assert interp.call(identity, queue) is queue
        assert interp.call(identity, {"key": [queue, (queue,)]}) == {"key": [queue, (queue,)]}

    def test_shareable(self, queue):
        assert atoll.is_shareable(queue)
        assert atoll.is_shareable((1, queue))


class TestLifetime:
    """A queue is there as long as somebody has it: an object in any interpreter, or a message."""

    def test_freed_with_its_last_object(self):
        queue = atoll.create_queue()
        number = queue.id
        del queue
        assert number not in numbers()
        with pytest.raises(atoll.QueueNotFoundError):
            atoll.Queue(number)

    def test_weak_reference(self):
        queue = atoll.create_queue()
        reference = weakref.ref(queue)
        assert reference() is queue
        del queue
        assert reference() is None

    def test_in_a_cycle(self):
        holder: list[Any] = [atoll.create_queue()]
        holder.append(holder)
        number = holder[0].id
        del holder
        gc.collect()
        assert number not in numbers()

    def test_kept_by_an_interpreter(self, interp):
        queue = atoll.create_queue()
        number = queue.id
        interp.prepare_main(queue=queue)
        queue.put("kept")
        del queue
        assert atoll.Queue(number).get() == "kept"
        assert number in numbers()
        interp.exec("del queue")
        assert number not in numbers()

    def test_freed_when_the_interpreter_is_closed(self):
        interp = new()
        queue = atoll.create_queue()
        number = queue.id
        interp.prepare_main(queue=queue)
        interp.exec("import atoll; own = atoll.create_queue(); own.put(queue); queue.put(1)")
        own = interp.call(eval, "own.id")
        del queue
        assert {number, own} <= set(numbers())
        interp.close()
        assert not {number, own} & set(numbers())

    def test_outlives_its_maker(self):
        interp = new()
        queue = interp.call(eval, "__import__('atoll').create_queue(5)")
        interp.close()
        queue.put("still there")
        assert (queue.maxsize, queue.get()) == (5, "still there")

    def test_kept_by_a_message(self, queue):
        inner = atoll.create_queue()
        number = inner.id
        inner.put("inside")
        queue.put([inner])
        del inner
        assert number in numbers()
        assert queue.get()[0].get() == "inside"
        assert number not in numbers()

    def test_freed_with_the_message_that_keeps_it(self):
        outer, inner = atoll.create_queue(), atoll.create_queue()
        innermost = atoll.create_queue()
        ids = {outer.id, inner.id, innermost.id}
        inner.put(innermost)
        outer.put(inner)
        del inner, innermost
        assert ids <= set(numbers())
        del outer
        assert not ids & set(numbers())

    @pytest.mark.parametrize("size", [0, 5_000], ids=["small", "large"])
    def test_through_itself(self, interp, size):
        queue = atoll.create_queue()
        number, fill = queue.id, b"x" * size
        queue.put(queue)
        queue.put({"self": [queue], "fill": fill})
        assert queue.get() is queue
        assert queue.get()["self"][0] is queue
        interp.prepare_main(queue=queue)
        queue.put([queue, fill])
        interp.exec("found = queue.get(); assert found[0] is queue; queue.put((queue, found)); del found")
        found = queue.get()
        assert found[0] is queue
        assert found[1] == [queue, fill]
        del found, queue
        assert number in numbers()
        interp.exec("del queue")
        assert number not in numbers()

    @pytest.mark.parametrize("size", [0, 5_000], ids=["small", "large"])
    def test_freed_with_itself_inside(self, interp, size):
        queue = atoll.create_queue()
        number, fill = queue.id, b"x" * size
        queue.put(queue)
        queue.put_many([queue, (queue, fill)])
        interp.prepare_main(queue=queue)
        interp.exec("queue.put([queue]); queue.put_nowait([queue, queue]); del queue")
        assert queue.qsize() == 5
        del queue
        assert number not in numbers()

    def test_undelivered_items_are_released(self):
        data = bytearray(b"abc")
        queue = atoll.create_queue()
        for _ in range(3):
            queue.put(memoryview(data))
        with pytest.raises(BufferError):
            grow(data)
        del queue
        grow(data)

    def test_a_new_object_each_time(self, interp):
        number = interp.call(exec, "import atoll; kept = atoll.create_queue()") or interp.call(
            eval, "kept.id"
        )
        first = weakref.ref(atoll.Queue(number))
        assert first() is None
        assert atoll.Queue(number).id == number
        interp.exec("del kept")


class TestOrderAndSize:
    def test_first_in_first_out(self, queue):
        for number in range(5_000):
            queue.put(number)
        assert [queue.get() for _ in range(5_000)] == list(range(5_000))

    def test_size(self, queue):
        sizes = []
        for step in "pppgpgggpg":
            queue.put(None) if step == "p" else queue.get()
            sizes.append(queue.qsize())
            assert queue.empty() is (queue.qsize() == 0)
            assert queue.full() is False
        assert sizes == [1, 2, 3, 2, 3, 2, 1, 0, 1, 0]

    def test_bounded(self):
        queue = atoll.create_queue(2)
        assert not queue.full()
        queue.put(1)
        queue.put(2)
        assert queue.full()
        with pytest.raises(atoll.QueueFull, match=str(queue.id)):
            queue.put_nowait(3)
        with pytest.raises(standard.Full):
            queue.put(3, False)
        with pytest.raises(atoll.QueueFull):
            queue.put(3, block=False, timeout=3600)
        assert queue.qsize() == 2
        assert queue.get() == 1
        queue.put_nowait(3)
        assert drain(queue) == [2, 3]

    def test_empty(self, queue):
        with pytest.raises(atoll.QueueEmpty, match=str(queue.id)):
            queue.get_nowait()
        with pytest.raises(standard.Empty):
            queue.get(False)
        with pytest.raises(atoll.QueueEmpty):
            queue.get(block=False, timeout=3600)

    def test_there_and_back(self, interp):
        there, back = atoll.create_queue(), atoll.create_queue()
        interp.prepare_main(there=there, back=back)
        for number in range(100):
            there.put([number])
        interp.exec("while not there.empty(): back.put(there.get())")
        assert drain(back) == [[number] for number in range(100)]

    def test_a_copy_arrives(self, queue):
        item = [1, [2]]
        queue.put(item)
        item[1].append(3)
        found = queue.get()
        assert found == [1, [2]]

    def test_mixed_sizes(self, queue):
        """Chunks are filled, left, emptied and used again, whatever the items' sizes."""
        order = random.Random(1)
        expected: list[bytes] = []
        for turn in range(3_000):
            if order.random() < (0.6 if turn % 1_000 < 500 else 0.4):
                expected.append(order.randbytes(order.choice([0, 1, 7, 100, 480, 520, 4_000, 20_000])))
                queue.put(expected[-1])
            elif expected:
                assert queue.get_nowait() == expected.pop(0)
            assert queue.qsize() == len(expected)
        assert drain(queue) == expected


class TestTimeouts:
    @pytest.mark.parametrize("timeout", [0, 0.0, 0.01, 1e-9, True])
    def test_expires(self, timeout):
        queue = atoll.create_queue(1)
        with pytest.raises(atoll.QueueEmpty):
            queue.get(timeout=timeout)
        with pytest.raises(atoll.QueueEmpty):
            queue.get(True, timeout)
        queue.put(1)
        with pytest.raises(atoll.QueueFull):
            queue.put(2, timeout=timeout)
        with pytest.raises(atoll.QueueFull):
            queue.put(2, True, timeout)
        assert drain(queue) == [1]

    @pytest.mark.parametrize("timeout", [None, 0, 3600, 1e300, float("inf")])
    def test_not_needed(self, timeout):
        queue = atoll.create_queue(1)
        queue.put(1, timeout=timeout)
        assert queue.get(timeout=timeout) == 1

    @pytest.mark.parametrize("timeout", [None, 3600, 1e300, float("inf")], ids=str)
    def test_woken_in_time(self, timeout):
        queue, answers = atoll.create_queue(1), atoll.create_queue()
        thread = Thread(lambda: answers.put(queue.get(timeout=timeout)))
        queue.put("wake")
        assert answers.get(timeout=PATIENCE) == "wake"
        thread.result()

    @pytest.mark.parametrize("bad", [-1, -0.001, float("nan"), float("-inf")])
    def test_wrong_value(self, bad):
        queue = atoll.create_queue(1)
        with pytest.raises(ValueError, match="timeout"):
            queue.get(timeout=bad)
        queue.put(1)
        with pytest.raises(ValueError, match="timeout"):
            queue.put(2, timeout=bad)
        with pytest.raises(ValueError, match="timeout"):
            queue.get(timeout=bad)  # although there is an item
        assert drain(queue) == [1]

    @pytest.mark.parametrize("bad", ["1", [], b"1", 1j])
    def test_wrong_type(self, queue, bad):
        with pytest.raises(TypeError):
            queue.get(timeout=bad)
        with pytest.raises(TypeError):
            queue.put(1, timeout=bad)
        assert queue.empty()

    def test_ignored_without_blocking(self):
        queue = atoll.create_queue(1)
        for timeout in (-1, float("nan"), 3600):
            with pytest.raises(atoll.QueueEmpty):
                queue.get(False, timeout)
        queue.put(1)
        for timeout in (-1, float("nan"), 3600):
            with pytest.raises(atoll.QueueFull):
                queue.put(2, False, timeout)
