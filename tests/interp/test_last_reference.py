"""While the last object for something goes, or an item is rebuilt, nothing dangles and nothing is lost."""

from __future__ import annotations

import gc
import sys
import types
import weakref

import pytest

import atoll
from helpers import new


class TestWeakReferences:
    """What is called for them may ask for the same thing again: it gets another object, not the dying one."""

    def test_queue(self):
        queue = atoll.create_queue()
        number = queue.id
        found = []
        keeper = new()
        keeper.prepare_main(queue=queue)  # the queue itself stays
        reference = weakref.ref(queue, lambda _: found.append(atoll.Queue(number)))
        del queue
        assert reference() is None
        (again,) = found
        found.clear()
        assert again.id == number
        again.put(1)
        assert again.get() == 1
        keeper.close()

    def test_queue_that_is_gone(self):
        queue = atoll.create_queue()
        number = queue.id
        found = []

        def ask(_):
            try:
                found.append(atoll.Queue(number))
            except atoll.QueueNotFoundError as error:
                found.append(error)

        reference = weakref.ref(queue, ask)
        del queue
        assert reference() is None
        assert len(found) == 1
        gc.collect()
        assert repr(found)

    @pytest.mark.parametrize("how", ["Interpreter", "list_all"])
    def test_interpreter(self, how):
        interp = atoll.create()
        number = interp.id
        found = []

        def ask():
            if how == "Interpreter":
                found.append(atoll.Interpreter(number))
            else:
                found.extend(each for each in atoll.list_all() if each.id == number)

        weakref.finalize(interp, ask)
        del interp
        (again,) = found
        found.clear()
        assert again.id == number
        assert again.call(abs, -1) == 1
        again.close()


@pytest.fixture
def slow():
    """Yield a class whose objects call `slow.during` while they are rebuilt."""
    module = types.ModuleType("made_for_rebuilding")

    class Slow:
        def __reduce__(self):
            return build, ()

    def build():
        Slow.during()
        return Slow()

    for thing in (Slow, build):
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)
    sys.modules[module.__name__] = module
    yield Slow
    del sys.modules[module.__name__]


def take(queue):
    return queue.get(block=False)


def take_by_iteration(queue):
    return next(iter(queue))


def take_many(queue):
    return queue.get_many(block=False)[0]


def take_nowait(queue):
    return queue.get_nowait()


@pytest.mark.parametrize("how", [take, take_nowait, take_by_iteration, take_many])
@pytest.mark.parametrize("size", [1, 10_000], ids=["small", "boxed"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
class TestItemIsNotLost:
    def test_error_that_is_not_the_items(self, slow, how, size, error):
        queue = atoll.create_queue()
        for i in range(3):
            queue.put([slow(), "x" * size, memoryview(bytearray(b"abc")), i])

        def fail():
            raise error

        slow.during = fail
        with pytest.raises(error):
            how(queue)
        assert queue.qsize() == 3
        slow.during = lambda: None
        for i in range(3):
            item = how(queue) if how is not take_many else queue.get()
            assert (len(item[1]), bytes(item[2]), item[3]) == (size, b"abc", i)
        assert queue.empty()
