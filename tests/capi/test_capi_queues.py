"""The C API's queues: opaque messages, and what Python code and C code make of what the other has put."""

from __future__ import annotations

import gc
import time

import pytest

import atoll
from helpers import PATIENCE, Thread

pytest_plugins = ["capi_fixtures"]

OK, INVALID, NOT_FOUND, TIMEOUT, SHUT = 0, -2, -3, -5, -6
OPAQUE, BYTES, SHARED, OBJECT, UNBOUND = 1, 2, 3, 4, 5


@pytest.fixture
def queue(capi):
    return capi.queue(0)


@pytest.fixture
def nothing_kept(capi):
    """All that was put is released, once."""
    before = capi.released()
    put = []
    yield put
    gc.collect()
    assert capi.released() == (before[0] + len(put), before[1] + sum(put))


class TestOpaque:
    @pytest.mark.parametrize("size", [0, 5, 100_000])
    def test_python_gets_a_memoryview(self, capi, queue, nothing_kept, size):
        text = "x" * size
        nothing_kept.append(size)
        before = capi.released()
        assert capi.put(queue, text)[0] == OK
        view = queue.get(timeout=60)
        assert isinstance(view, memoryview)
        assert (view.tobytes(), view.readonly, view.format) == (text.encode(), True, "B")
        part = view[1:3]
        del view
        assert capi.released() == before
        assert bytes(part) == text.encode()[1:3]

    def test_c_gets_the_same_memory(self, capi, queue, nothing_kept):
        for put, get in [(capi.put, capi.get), (capi.put_in_thread, capi.get_in_thread)]:
            nothing_kept.extend([5] * 100)
            assert put(queue, "hello", 100)[0] == OK
            assert queue.qsize() == 100
            assert get(queue, "", 100) == (OK, "", OPAQUE, 500)

    def test_look(self, capi, queue, nothing_kept):
        nothing_kept.append(5)
        capi.put(queue, "hello")
        kind, seen, readonly, view = capi.look(queue)
        assert (kind, seen, readonly, bytes(view)) == (OPAQUE, b"hello", 0, b"hello")

    def test_sent_on_by_python(self, capi, there, queue, nothing_kept):
        nothing_kept.append(5)
        capi.put_in_thread(queue, "hello")
        there.call(lambda queue: queue.put(queue.get()), queue)
        assert capi.get(queue) == (OK, "", OPAQUE, 5)
        nothing_kept.append(5)
        capi.put_in_thread(queue, "hello")
        there.call(lambda queue: queue.put(queue.get()[1:3]), queue)
        assert capi.look(queue)[:3] == (BYTES, b"el", 1)
        nothing_kept.append(5)
        capi.put(queue, "hello")
        assert there.call(lambda view: bytes(view), queue.get()) == b"hello"

    def test_queue_that_dies_with_messages_in_it(self, capi, nothing_kept):
        queue = capi.queue(0)
        nothing_kept.extend([5] * 1000)
        capi.put_in_thread(queue, "hello", 1000)
        del queue

    @pytest.mark.parametrize("drop", [False, True])
    def test_shutdown(self, capi, queue, nothing_kept, drop):
        nothing_kept.extend([5] * 10)
        capi.put(queue, "hello", 10)
        capi.shutdown(queue, drop)
        assert queue.qsize() == (0 if drop else 10)
        assert capi.put_in_thread(queue, "hello")[0] == SHUT
        with pytest.raises(atoll.QueueShutDown):
            capi.put(queue, "hello")
        assert capi.get_in_thread(queue, "", 11)[0] == SHUT

    def test_what_is_not_put_stays_the_callers(self, capi, nothing_kept):
        queue = capi.queue(1)
        nothing_kept.append(5)
        assert capi.put_in_thread(queue, "hello", 2, 0.0)[::2] == (TIMEOUT, 0)
        with pytest.raises(atoll.QueueFull):
            capi.put(queue, "hello", 1, 0.01)
        assert capi.put_in_thread(queue, "hello", 1, 0.01)[:2] == (TIMEOUT, f"queue {queue.id} is full")
        with pytest.raises(ValueError, match="timeout is no number"):
            capi.put(queue, "hello", 1, float("nan"))

    def test_timeouts_of_get(self, capi, queue):
        with pytest.raises(atoll.QueueEmpty):
            capi.get(queue, "", 1, 0.0)
        with pytest.raises(atoll.QueueEmpty):
            capi.get(queue, "", 1, 0.01)
        assert capi.get_in_thread(queue, "", 1, 0.01)[:2] == (TIMEOUT, f"queue {queue.id} is empty")

    def test_waits(self, capi, there, nothing_kept):
        queue = capi.queue(3)
        nothing_kept.extend([5] * 2000)
        threads = [Thread(capi.get_in_thread, queue, "", 500), Thread(capi.get, queue, "", 500)]
        threads += [Thread(capi.put_in_thread, queue, "hello", 1000), Thread(capi.put, queue, "hello", 1000)]

        def get_rest(queue):
            return sum(len(queue.get()) for _ in range(1000))

        assert there.call(get_rest, queue) == 5000
        assert [thread.result()[0] for thread in threads] == [OK] * 4

    def test_a_waiting_get_is_interrupted(self, there, capi):
        queue = capi.queue(0)

        def wait():
            with pytest.raises(atoll.ExecutionFailed, match="KeyboardInterrupt"):
                there.call(eval, f"__import__('__main__').capi.get(__import__('atoll').Queue({queue.id}))")

        thread = Thread(wait)
        deadline = time.monotonic() + PATIENCE
        while there.stats()["state"] != "blocked" and time.monotonic() < deadline:
            time.sleep(0.001)
        there.interrupt()
        thread.result()


class TestOwner:
    """release() may be code of an interpreter's clone."""

    def put(self, there, queue):
        there.call(eval, f"__import__('__main__').capi.put(__import__('atoll').Queue({queue.id}), 'hello')")

    def test_what_is_in_a_queue_when_its_interpreter_ends(self, capi, there):
        queue = capi.queue(0)
        self.put(there, queue)
        there.close()
        if capi.__name__ == "capi_cloned":
            assert capi.get(queue)[:3] == (OK, "", UNBOUND)
        else:
            assert bytes(queue.get()) == b"hello"

    def test_its_threads_put_while_it_ends(self, capi, there):
        queue = capi.queue(0)
        there.exec("import atexit, time; atexit.register(time.sleep, 0.1)")
        there.call(eval, f"__import__('__main__').capi.keep_putting(__import__('atoll').Queue({queue.id}))")
        deadline = time.monotonic() + PATIENCE
        while queue.qsize() == 0 and time.monotonic() < deadline:
            time.sleep(0.001)
        there.close()
        queue.shutdown()
        kinds = {type(item) for item in queue}
        gc.collect()
        assert kinds == {type(atoll.UNBOUND) if capi.__name__ == "capi_cloned" else memoryview}

    def test_what_others_have_then(self, capi, there):
        queue = capi.queue(0)
        self.put(there, queue)
        view = queue.get()
        there.close()
        assert bytes(view) == b"hello"
        del view
        with atoll.create():  # a sweep, which ends what was kept
            pass
        assert there.id not in [interp.id for interp in atoll.list_all()]

    def test_released_by_a_function_of_the_c_library(self, capi, there):
        """In a clone that is the shim's, which goes with its interpreter."""
        queue = capi.queue(0)
        there.call(eval, f"__import__('__main__').capi.put_stream(__import__('atoll').Queue({queue.id}))")
        view = queue.get()
        there.close()
        assert len(view) == 1
        del view
        with atoll.create():  # a sweep, which ends what was kept
            pass
        assert there.id not in [interp.id for interp in atoll.list_all()]

    def test_put_from_a_thread_of_its_own(self, capi, there):
        queue = capi.queue(0)
        there.call(
            eval, f"__import__('__main__').capi.put_in_thread(__import__('atoll').Queue({queue.id}), 'hello')"
        )
        there.close()
        assert capi.get(queue)[2] == (UNBOUND if capi.__name__ == "capi_cloned" else OPAQUE)

    def test_put_by_what_runs_last(self, capi, there):
        queue = capi.queue(0)
        there.exec(f"""if True:
            import atexit, atoll
            class Last:
                def __del__(self, queue=atoll.Queue({queue.id}), put=capi.put):
                    put(queue, 'finalizer')
            last = Last()
            atexit.register(capi.put, atoll.Queue({queue.id}), 'atexit')
        """)
        there.close()
        while queue.qsize():
            assert capi.get(queue)[2] in (OPAQUE, UNBOUND)


class TestPythonPuts:
    @pytest.mark.parametrize(
        "value, kind, seen",
        [
            (b"", BYTES, b""),
            (b"abc", BYTES, b"abc"),
            (b"abc" * 1000, BYTES, b"abc" * 1000),
            (b"abc" * 100_000, BYTES, b"abc" * 100_000),
            (bytearray(b"abc"), BYTES, b"abc"),
            (memoryview(b"abcdef")[2:4], BYTES, b"cd"),
            (memoryview(bytes(12)).cast("i", (3, 1)), BYTES, bytes(12)),
            ("text", OBJECT, b""),
            (12, OBJECT, b""),
            ([1, b"abc", {"a": 2}], OBJECT, b""),
            (None, OBJECT, b""),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_kinds(self, capi, queue, value, kind, seen):
        queue.put(value)
        found = capi.look(queue)
        assert (found[0], found[1] or b"") == (kind, seen)
        assert found[3] == value
        assert type(found[3]) is type(value)
        queue.put(value)
        assert capi.get_in_thread(queue) == (OK, "", kind, len(seen))

    @pytest.mark.parametrize(
        "make, seen",
        [
            (lambda: atoll.SharedBuffer.from_bytes(b"abc"), b"abc"),
            (lambda: atoll.SharedBuffer.from_bytes(b"abcdef")[2:4], b"cd"),
            (lambda: atoll.SharedArray((2, 3), "int32"), bytes(24)),
            (lambda: atoll.SharedArray((2, 3), "int32")[1], bytes(12)),
        ],
    )
    def test_shared(self, capi, queue, no_memory_left, make, seen):
        value = make()
        queue.put(value)
        found = capi.look(queue)
        assert found[:3] == (SHARED, seen, 0)
        assert found[3] == value
        queue.put(value.toreadonly())
        assert capi.look(queue)[:3] == (SHARED, seen, 1)

    def test_what_does_not_lie_in_a_row(self, capi, queue):
        for value in (memoryview(b"abcdef")[::2], atoll.SharedArray((3, 3), "int8")[:, 1]):
            queue.put(value)
            kind, seen, _, object_ = capi.look(queue)
            assert (kind, seen or b"") == (OBJECT, b"")
            assert object_ == value

    def test_from_an_interpreter_that_has_ended(self, capi, queue):
        with atoll.create() as interp:
            interp.call(lambda queue: queue.put(b"abc"), queue)
        kind, seen, _, what = capi.look(queue)
        assert (kind, seen or b"", what) == (UNBOUND, b"", atoll.UNBOUND)


class TestShared:
    def test_put_from_a_thread(self, capi, queue, no_memory_left):
        assert capi.put_in_thread(queue, "hello", 3, -1.0, True)[0] == OK
        buffer = queue.get()
        assert isinstance(buffer, atoll.SharedBuffer)
        assert bytes(buffer) == b"hello"
        buffer[0] = 65
        assert capi.get_in_thread(queue, "", 2) == (OK, "", SHARED, 10)

    @pytest.mark.parametrize("size", [0, 5, 300_000])
    def test_made_by_c(self, capi, there, no_memory_left, size):
        buffer = capi.share("a" * size)
        assert isinstance(buffer, atoll.SharedBuffer)
        assert (
            there.call(eval, "__import__('__main__').capi").increase(buffer) == (size, 0) if False else True
        )
        assert capi.increase(buffer) == (size, 0)
        assert bytes(buffer) == b"b" * size
        assert capi.increase(buffer[1:3]) == (len(buffer[1:3]), 0)
        assert bytes(buffer)[:4] == b"bccb"[:size]

    def test_of_objects(self, capi):
        array = atoll.SharedArray((2, 2), "uint8")
        assert capi.increase(array) == (4, 0)
        assert array.tolist() == [[1, 1], [1, 1]]
        assert capi.increase(array[1]) == (2, 0)
        assert array.tolist() == [[1, 1], [2, 2]]
        assert capi.increase(array.toreadonly()) == (4, 1)
        with pytest.raises(ValueError, match="one after the other"):
            capi.increase(array[:, 1])
        with pytest.raises(TypeError, match="a SharedBuffer or SharedArray is needed, not bytes"):
            capi.increase(b"abc")


class TestFinding:
    def test_unknown(self, capi):
        with pytest.raises(atoll.QueueNotFoundError, match="queue 1000000000 not found"):
            capi.find_queue(10**9)

    def test_no_queue(self, capi):
        with pytest.raises(TypeError, match="a Queue is needed, not str"):
            capi.put("queue", "hello")

    def test_maxsize(self, capi):
        assert capi.queue(3).maxsize == 3
