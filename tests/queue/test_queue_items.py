"""What goes through a queue: every kind of object, objects that cannot, and what outlives its interpreter."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from typing import Any

import pytest

import atoll
from codec_samples import VALUES, Plain, Record
from helpers import PATIENCE, Thread, new
from queue_helpers import (
    CONSTANTS,
    drain,
    grow,
    make_foreigner,  # noqa: F401
    make_queue,  # noqa: F401
    no_queue_left_behind,  # noqa: F401
    wait_asleep,
)


class TestPayloads:
    @pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
    def test_round_trip(self, queue, value):
        queue.put(value)
        found = queue.get()
        assert type(found) is type(value)
        assert found == value

    def test_round_trip_through_an_interpreter(self, interp):
        """All of them at once, taken apart and put together in another interpreter."""
        there, back = atoll.create_queue(), atoll.create_queue()
        interp.prepare_main(there=there, back=back)
        for value in VALUES:
            there.put(value)
        interp.exec("import codec_samples\nwhile not there.empty(): back.put(there.get())")
        found = drain(back)
        assert [type(value) for value in found] == [type(value) for value in VALUES]
        assert found == VALUES

    @pytest.mark.parametrize("size", [*range(440, 540), 16_000, 16_384, 70_000, 50_000_000])
    def test_sizes(self, queue, size):
        data = b"ab" * (size // 2) + b"c" * (size % 2)
        queue.put("before")
        queue.put(data)
        queue.put([data[:9], "after"])
        assert queue.get() == "before"
        assert queue.get() == data
        assert queue.get() == [data[:9], "after"]

    @pytest.mark.parametrize(
        "value",
        [
            "x" * 5_000_000,
            "\xe9日😀" * 500_000,
            bytearray(range(256)) * 10_000,
            {str(number): [number, {"n": number}] for number in range(50_000)},
            list(range(300_000)),
            Record("r", [Plain(a=number) for number in range(2_000)]),
        ],
        ids=["str", "wide str", "bytearray", "dict", "list", "objects"],
    )
    def test_large(self, queue, interp, value):
        back = atoll.create_queue()
        interp.prepare_main(queue=queue, back=back)
        queue.put(value)
        interp.exec("back.put(queue.get())")
        found = back.get()
        assert type(found) is type(value)
        if isinstance(value, Record):
            assert [vars(part) for part in found.parts] == [vars(part) for part in value.parts]
        else:
            assert found == value

    def test_shape(self, queue):
        shared = ["shared"]
        cycle: list[Any] = [shared, shared]
        cycle.append(cycle)
        queue.put(cycle)
        found = queue.get()
        assert found[0] is found[1]
        assert found[2] is found

    def test_functions_and_classes_of_main(self, queue, interp):
        """They cross by value."""
        interp.prepare_main(queue=queue)
        interp.exec("""
            factor = 6
            class Made:
                def value(self):
                    return factor * 7
            queue.put_many([lambda: factor + 1, Made, Made()])
            """)
        function, kind, made = queue.get_many()
        assert function() == 7
        assert type(made) is kind or type(made).__name__ == kind.__name__
        assert made.value() == 42

    def test_interpreter(self, queue, interp):
        queue.put(interp)
        assert queue.get() is interp

    def test_memoryview(self, queue, interp):
        data = bytearray(b"abcdef")
        interp.prepare_main(queue=queue)
        queue.put(memoryview(data))
        interp.exec("view = queue.get(); view[0] = ord('X')")
        assert data == b"Xbcdef"
        with pytest.raises(BufferError):
            grow(data)
        interp.exec("del view")
        grow(data)

    def test_memoryview_of_an_interpreter_that_is_closed(self, queue):
        interp = new()
        interp.prepare_main(queue=queue)
        interp.exec("queue.put(memoryview(bytearray(b'kept' * 100)))")
        view = queue.get()
        interp.close()
        assert bytes(view) == b"kept" * 100
        view[0] = 0
        view.release()

    def test_received_items_outlive_their_sender(self, queue):
        interp = new()
        interp.prepare_main(queue=queue)
        interp.exec("queue.put({'a': [b'x' * 1000, 'text', 2**100]}); queue.put(b'y' * 100_000)")
        found = [queue.get(), queue.get()]
        interp.close()
        assert found == [{"a": [b"x" * 1000, "text", 2**100]}, b"y" * 100_000]


class TestFaults:
    def test_unsendable(self, queue):
        queue.put("first")
        for bad in (threading.Lock(), [1, {"key": threading.Lock()}], sys._getframe()):
            with pytest.raises(atoll.NotShareableError):
                queue.put(bad)
            with pytest.raises(atoll.NotShareableError):
                queue.put_nowait(bad)
            with pytest.raises(atoll.NotShareableError):
                queue.put(bad, timeout=1)
        queue.put("second")
        assert drain(queue) == ["first", "second"]

    def test_unsendable_says_where(self, queue):
        with pytest.raises(atoll.NotShareableError, match=r"\[1\]\['key'\].*_thread\.lock is not shareable"):
            queue.put([1, {"key": threading.Lock()}])

    def test_error_while_encoding(self, queue):
        class Raises:
            def __reduce__(self):
                raise LookupError("told")

        with pytest.raises((LookupError, atoll.NotShareableError)) as caught:
            queue.put(["fill" * 1000, Raises()])
        assert "told" in f"{caught.value!r} {caught.value.__cause__!r}"
        assert queue.empty()

    def test_views_of_an_unsendable_item_are_released(self, queue):
        data = bytearray(b"abc")
        with pytest.raises(atoll.NotShareableError):
            queue.put([memoryview(data), threading.Lock()])
        gc.collect()
        grow(data)

    def test_undecodable(self, queue, interp, foreigner):
        """The receiver cannot import the module: get() says so, once, and goes on with the next item."""
        interp.prepare_main(queue=queue)
        queue.put(["before", foreigner])
        queue.put("after")
        interp.exec(f"""
            import atoll
            try:
                queue.get()
            except atoll.QueueEmpty:
                raise AssertionError("empty")
            except atoll.QueueError as error:
                assert "queue {queue.id}:" in str(error), error
                assert "put by interpreter 0 " in str(error), error
                assert isinstance(error.__cause__, ImportError), repr(error.__cause__)
                assert "only_here" in str(error.__cause__)
            else:
                raise AssertionError("no error")
            assert queue.qsize() == 1
            assert queue.get_nowait() == "after"
            """)

    def test_undecodable_views_are_released(self, queue, interp, foreigner):
        data = bytearray(b"abc")
        interp.prepare_main(queue=queue)
        queue.put([memoryview(data), foreigner])
        with pytest.raises(atoll.ExecutionFailed, match="QueueError"):
            interp.exec("queue.get()")
        interp.exec("import gc, sys; sys.last_exc = sys.last_value = sys.last_traceback = None; gc.collect()")
        grow(data)

    def test_wrong_arguments(self, queue):
        for call in (
            lambda: queue.put(),
            lambda: queue.put(1, True, None, atoll.UNBOUND),
            lambda: queue.put_nowait(1, True),
            lambda: queue.get(True, None, 1),
            lambda: queue.get_nowait(1),
            lambda: queue.put(1, unknown=1),
            lambda: queue.get(unknown=1),
        ):
            with pytest.raises(TypeError):
                call()
        assert queue.empty()


PUT = """
import atoll
for item, unbound in items:
    queue.put(item, unbounditems=unbound and getattr(atoll, unbound))
"""


def put_in(interp: atoll.Interpreter, queue: atoll.Queue, *items: tuple[Any, str | None]) -> None:
    """Let the interpreter put these items, each with the name of what becomes of it (None: the queue's default)."""
    interp.prepare_main(queue=queue, items=items)
    interp.exec(PUT)


class TestUnbound:
    """Items whose interpreter ends before they are got."""

    @pytest.mark.parametrize("override", [None, *CONSTANTS])
    @pytest.mark.parametrize("default", CONSTANTS)
    def test_variants(self, default, override):
        queue = atoll.create_queue(unbounditems=getattr(atoll, default))
        interp = new()
        put_in(interp, queue, ("first", override), (b"large" * 1_000, override))
        queue.put("main's", unbounditems=override and getattr(atoll, override))
        assert queue.qsize() == 3
        interp.close()
        match override or default:
            case "UNBOUND":
                assert queue.qsize() == 3
                assert queue.get() is atoll.UNBOUND
                assert queue.get_nowait() is atoll.UNBOUND
            case "UNBOUND_ERROR":
                assert queue.qsize() == 3
                with pytest.raises(atoll.ItemInterpreterDestroyed):
                    queue.get()
                assert queue.qsize() == 2
                with pytest.raises(atoll.ItemInterpreterDestroyed):
                    queue.get_nowait()
            case _:
                pass
        assert queue.qsize() == 1
        assert queue.get() == "main's"
        with pytest.raises(atoll.QueueEmpty):
            queue.get_nowait()

    def test_mixed(self, queue):
        """Each item is treated as its own sender wished, and the order stays."""
        one, two = new(), new()
        put_in(one, queue, (1, "UNBOUND"), (2, "UNBOUND_REMOVE"), (3, "UNBOUND_ERROR"))
        put_in(two, queue, (4, "UNBOUND_REMOVE"), (5, None), (6, "UNBOUND_ERROR"))
        queue.put(7)
        put_in(one, queue, (8, "UNBOUND_REMOVE"), (9, "UNBOUND"))
        assert queue.qsize() == 9
        one.close()
        assert queue.qsize() == 7
        assert queue.get() is atoll.UNBOUND
        with pytest.raises(atoll.ItemInterpreterDestroyed):
            queue.get()
        assert queue.get() == 4
        two.close()
        assert queue.qsize() == 4
        assert queue.get() is atoll.UNBOUND
        with pytest.raises(atoll.ItemInterpreterDestroyed):
            queue.get()
        assert queue.get() == 7
        assert queue.get() is atoll.UNBOUND
        assert queue.empty()

    def test_interpreter_gone_with_its_last_reference(self, queue):
        interp = new()
        put_in(interp, queue, ("item", None))
        del interp
        assert queue.get() is atoll.UNBOUND

    def test_whoever_put_it_last(self, queue):
        """An item that is passed on belongs to the one that passed it on."""
        one, two = new(), new()
        put_in(one, queue, ("item", None))
        two.prepare_main(queue=queue)
        two.exec("queue.put(queue.get())")
        one.close()
        assert queue.qsize() == 1
        two.close()
        assert queue.get() is atoll.UNBOUND

    def test_the_receivers_end_changes_nothing(self, queue):
        interp = new()
        interp.prepare_main(queue=queue)
        queue.put(1)
        queue.put(2)
        interp.exec("queue.get()")
        interp.close()
        assert drain(queue) == [2]

    def test_got_by_another_interpreter(self, queue, interp):
        sender = new()
        put_in(sender, queue, ("a", None), ("b", "UNBOUND_ERROR"), ("c", "UNBOUND_REMOVE"))
        sender.close()
        interp.prepare_main(queue=queue)
        interp.exec("""
            import atoll
            assert queue.get() is atoll.UNBOUND
            try:
                queue.get()
            except atoll.ItemInterpreterDestroyed:
                pass
            else:
                raise AssertionError("no error")
            assert queue.empty()
            """)

    def test_removing_makes_room(self):
        """A putter that waits for room goes on when items are removed."""
        queue = atoll.create_queue(2, unbounditems=atoll.UNBOUND_REMOVE)
        interp = new()
        put_in(interp, queue, (1, None), (2, None))
        thread = Thread(queue.put, "main's", timeout=PATIENCE)
        wait_asleep(thread.native_id)
        interp.close()
        thread.result()
        assert drain(queue) == ["main's"]

    def test_removed_from_the_middle(self, queue):
        interp = new()
        for number in range(500):
            queue.put(number)
            put_in(interp, queue, (b"x" * number, "UNBOUND_REMOVE"))
        assert queue.qsize() == 1_000
        interp.close()
        assert queue.qsize() == 500
        queue.put(500)
        assert drain(queue) == list(range(501))

    def test_views_and_queues_in_them(self, queue):
        """What unbound items held is released when their sender ends."""
        interp, data, inner = new(), bytearray(b"abc"), atoll.create_queue()
        interp.prepare_main(queue=queue, view=memoryview(data), inner=inner)
        interp.exec("queue.put([view, inner]); queue.put((view, b'x' * 5_000)); del inner; view.release()")
        with pytest.raises(BufferError):
            grow(data)
        interp.close()
        grow(data)
        assert [queue.get(), queue.get()] == [atoll.UNBOUND] * 2

    def test_many_queues(self):
        queues = [atoll.create_queue() for _ in range(100)]
        interp = new()
        for queue in queues:
            interp.prepare_main(queue=queue)
            interp.exec("queue.put(1)")
        interp.close()
        for queue in queues:
            assert queue.get_nowait() is atoll.UNBOUND

    def test_put_while_the_interpreter_ends(self, queue):
        """An item put by a finalizer of an interpreter that is being closed is none of its survivors."""
        for source in ("kept = Noisy()", "import atexit; atexit.register(queue.put, 'atexit')"):
            interp = new()
            interp.prepare_main(queue=queue)
            interp.exec(f"""
                class Noisy:
                    def __del__(self, queue=queue):
                        queue.put("finalizer")
                {source}
                """)
            interp.close()
            assert all(item is atoll.UNBOUND for item in drain(queue))


class TestReentrance:
    """Code that runs in the middle of a put or a get uses the same queue."""

    def test_put_from_a_finalizer(self, queue):
        class Noisy:
            def __del__(self):
                queue.put("gone")

        noisy = Noisy()
        del noisy
        assert queue.get_nowait() == "gone"
        cycle: list[Any] = [Noisy()]
        cycle.append(cycle)
        del cycle
        gc.collect()
        assert drain(queue) == ["gone"]

    def test_put_from_a_finalizer_in_the_middle_of_puts_and_gets(self, queue):
        """Garbage collections happen at any moment; nothing is lost and the order of each putter stays."""
        created = 0

        class Noisy:
            def __init__(self, number):
                self.number, self.own = number, self

            def __del__(self):
                queue.put(("finalizer", self.number))

        old = gc.get_threshold()
        gc.set_threshold(20, 2, 2)
        found = []
        try:
            for number in range(1_500):
                Noisy(number)
                created += 1
                queue.put(("main", number, {"fill": [number, [number]]}))
                if number % 3:
                    found.append(queue.get_nowait())
        finally:
            gc.set_threshold(*old)
        gc.collect()
        found += drain(queue)
        assert [item[1] for item in found if item[0] == "main"] == list(range(1_500))
        assert sorted(item[1] for item in found if item[0] == "finalizer") == list(range(created))

    def test_put_while_encoding(self, queue):
        class Puts:
            def __reduce__(self):
                queue.put("inner")
                return str, ("outer",)

        queue.put([Puts(), Puts()])
        assert drain(queue) == ["inner", "inner", ["outer", "outer"]]

    def test_get_while_encoding(self, queue):
        class Gets:
            def __reduce__(self):
                return str, (queue.get_nowait(),)

        queue.put("before")
        queue.put([Gets()])
        assert drain(queue) == [["before"]]

    def test_put_and_get_while_decoding(self, queue, interp):
        """The item is taken before it is decoded."""
        interp.prepare_main(queue=queue)
        interp.exec("""
            class Uses:
                def __init__(self, queue):
                    self.queue = queue
                def __reduce__(self):
                    return rebuild, (self.queue,)
            def rebuild(queue):
                sizes = [queue.qsize()]
                queue.put("from rebuild")
                return [*sizes, queue.get(), queue.get()]
            queue.put(Uses(queue))
            queue.put("second")
            """)
        assert queue.get() == [1, "second", "from rebuild"]
        assert queue.empty()

    def test_put_from_a_signal_handler(self, queue):
        """Also in the middle of a get that waits for it."""
        calls = []

        def handler(number, frame):
            calls.append(number)
            queue.put(("handler", len(calls)))

        old = signal.signal(signal.SIGUSR1, handler)
        try:
            signal.raise_signal(signal.SIGUSR1)
            assert queue.get(timeout=PATIENCE) == ("handler", 1)
            main = threading.current_thread()

            def send():
                wait_asleep(main.native_id)
                signal.pthread_kill(main.ident, signal.SIGUSR1)

            for turn in range(2, 5):
                thread = Thread(send)
                assert queue.get(timeout=PATIENCE) == ("handler", turn)
                thread.result()
        finally:
            signal.signal(signal.SIGUSR1, old)

    @pytest.mark.parametrize("side", ["get", "put"])
    def test_handler_that_raises(self, side):
        """It ends the wait, which has then taken and put nothing."""
        queue = atoll.create_queue(1)

        def handler(number, frame):
            raise LookupError("from the handler")

        if side == "put":
            queue.put("full")
        old = signal.signal(signal.SIGUSR1, handler)
        try:
            main = threading.current_thread()
            go = threading.Event()

            def send():
                go.wait()
                wait_asleep(main.native_id)
                signal.pthread_kill(main.ident, signal.SIGUSR1)

            thread = Thread(send)
            with pytest.raises(LookupError, match="handler"):  # noqa: PT012
                go.set()
                queue.get() if side == "get" else queue.put("not put")
        finally:
            signal.signal(signal.SIGUSR1, old)
        thread.result()
        if side == "get":
            queue.put("after")
            assert drain(queue) == ["after"]
        else:
            assert drain(queue) == ["full"]

    def test_handler_that_returns(self, queue):
        """The wait goes on, with what is left of its time."""
        calls = []
        old = signal.signal(signal.SIGUSR1, lambda number, frame: calls.append(number))
        try:
            main = threading.current_thread()

            def send():
                for _ in range(3):
                    wait_asleep(main.native_id)
                    signal.pthread_kill(main.ident, signal.SIGUSR1)
                queue.put("at last")

            thread = Thread(send)
            assert queue.get(timeout=PATIENCE) == "at last"
            thread.result()
        finally:
            signal.signal(signal.SIGUSR1, old)
        assert calls


class Rebuilt:
    """Something that is made by a function, which raises `error` once."""

    error: type[BaseException] | None = None

    def __reduce__(self):
        return rebuild, ()


def rebuild():
    error, Rebuilt.error = Rebuilt.error, None
    if error is not None:
        raise error
    return Rebuilt()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize(
    "take",
    [
        lambda queue: queue.get(),
        lambda queue: queue.get_nowait(),
        lambda queue: queue.get_many()[0],
        lambda queue: next(iter(queue)),
    ],
    ids=["get", "get_nowait", "get_many", "iteration"],
)
def test_no_item_is_lost_by_what_is_not_its_fault(queue, take, error):
    queue.put([Rebuilt()])
    queue.put("next")
    Rebuilt.error = error
    with pytest.raises(error):
        take(queue)
    assert queue.qsize() == 2
    assert type(take(queue)[0]) is Rebuilt
    assert drain(queue) in (["next"], [])  # get_many() takes both
