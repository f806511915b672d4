"""memoryview: one piece of memory, seen by several interpreters."""

from __future__ import annotations

import array
import ctypes
import gc

import pytest

import atoll
from helpers import Thread, new


def bind(interp, view):
    interp.prepare_main(view=view)


class TestSameMemory:
    def test_seen_on_both_sides(self, interp):
        data = bytearray(b"abcdef")
        bind(interp, memoryview(data))
        data[0] = ord("X")
        assert interp.call(eval, "bytes(view)") == b"Xbcdef"
        interp.exec("view[1] = ord('Y')")
        assert data == b"XYcdef"
        interp.exec("del view")

    def test_as_an_argument(self, interp):
        data = bytearray(4)

        def fill(view):
            view[:] = b"full"

        interp.call(fill, memoryview(data))
        assert data == b"full"
        data.extend(b"!")  # and nothing exports it any more

    def test_back_again(self, interp):
        data = bytearray(b"abc")
        bind(interp, memoryview(data))
        returned = interp.call(eval, "view")
        returned[0] = ord("X")
        assert data == b"Xbc"
        returned.release()
        interp.exec("del view")

    def test_between_two_others(self, interp):
        other = new()
        interp.exec("data = bytearray(b'abc'); view = memoryview(data)")
        interp.exec(f"import atoll; atoll.Interpreter({other.id}).prepare_main(view=view)")
        other.exec("view[0] = ord('X')")
        assert interp.call(eval, "bytes(data)") == b"Xbc"
        other.exec("del view")

    def test_read_only(self, interp):
        bind(interp, memoryview(b"abc"))
        assert interp.call(eval, "(view.readonly, bytes(view))") == (True, b"abc")
        with pytest.raises(atoll.ExecutionFailed, match="read-only"):
            interp.exec("view[0] = 1")
        interp.exec("del view")

    @pytest.mark.parametrize("kind", list("bBhHiIlLqQfd"))
    def test_formats(self, interp, kind):
        data = array.array(kind, range(10))
        bind(interp, memoryview(data))
        assert interp.call(eval, "(view.format, view.itemsize, view.tolist())") == (
            kind,
            data.itemsize,
            data.tolist(),
        )
        interp.exec("view[3] = 42")
        assert data[3] == 42
        interp.exec("del view")

    @pytest.mark.parametrize("shape", [[2, 3], [3, 2], [1, 6], [2, 1, 3]], ids=str)
    def test_shapes(self, interp, shape):
        view = memoryview(bytearray(range(6))).cast("B", shape)
        bind(interp, view)
        assert interp.call(eval, "(list(view.shape), view.tolist())") == (shape, view.tolist())
        interp.exec("del view")

    @pytest.mark.parametrize(
        "part", [slice(None, None, 2), slice(None, None, -1), slice(2, 2), slice(1, 5)], ids=str
    )
    def test_slices(self, interp, part):
        data = bytearray(range(6))
        view = memoryview(data)[part]
        bind(interp, view)
        assert interp.call(eval, "view.tolist()") == list(data[part])
        if len(view):
            interp.exec("view[0] = 99")
            assert view[0] == 99
        interp.exec("del view")

    def test_empty(self, interp):
        bind(interp, memoryview(b""))
        assert interp.call(eval, "(len(view), view.nbytes)") == (0, 0)
        interp.exec("del view")

    def test_big(self, interp):
        data = bytearray(50_000_000)
        bind(interp, memoryview(data))
        interp.exec("view[-1] = 7")
        assert data[-1] == 7
        interp.exec("del view")

    def test_released_view(self, interp):
        view = memoryview(b"abc")
        view.release()
        with pytest.raises(atoll.NotShareableError, match="view.*released"):
            bind(interp, view)

    @pytest.mark.parametrize("others", [0, 1], ids=["alone", "another view is alive"])
    def test_received_and_released(self, others):
        queue = atoll.create_queue()
        queue.put(memoryview(bytearray(b"x" * 1000)))
        view = queue.get()
        kept = [view[:10] for _ in range(others)]
        for each in kept:
            each.release()
        kept = [memoryview(view.obj) for _ in range(others)]
        view.release()
        with pytest.raises(atoll.NotShareableError, match="released"):
            queue.put(view)
        assert [bytes(each) for each in kept] == [b"x" * 1000] * others

    def test_released_by_what_it_holds_onto(self):
        """A view of a released view's memory is still good."""
        queue = atoll.create_queue()
        data = bytearray(b"abcdef")
        view = memoryview(data)
        part = view[2:4]
        view.release()
        queue.put(part)
        queue.get()[0] = ord("X")
        assert data == b"abXdef"

    @pytest.mark.parametrize("shape", [(), (3,)])
    def test_items_of_no_size(self, shape):
        class Empty(ctypes.Structure):
            pass

        memory = memoryview((Empty * 3)() if shape else Empty())
        assert memory.itemsize == 0
        queue = atoll.create_queue()
        queue.put(memory)
        view = queue.get()
        assert (view.shape, view.itemsize, view.nbytes) == (shape, 0, 0)

    def test_in_a_container(self, interp):
        data = bytearray(b"abc")
        received = interp.call(lambda box: box["views"][0], {"views": [memoryview(data)]})
        received[0] = ord("X")
        assert data == b"Xbc"


class TestContiguity:
    """Who asks for memory in one piece gets it, or an error, as from any memoryview."""

    FLAGS = {"simple": 0, "nd": 0x8, "strides": 0x18, "c": 0x38, "fortran": 0x58, "any": 0x98, "full": 0x11C}

    @pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
    @pytest.mark.parametrize("step", [1, 2, -1])
    @pytest.mark.parametrize("shape", [[24], [4, 6], [1, 24], [24, 1]])
    def test_as_asked(self, flags, step, shape):
        view = memoryview(bytearray(range(24)))
        view = view.cast("B", shape) if len(shape) > 1 else view[::step]
        queue = atoll.create_queue()
        queue.put(view)
        assert self.ask(queue.get().obj, flags) == self.ask(view, flags)

    @staticmethod
    def ask(obj, flags):
        """Return what PyObject_GetBuffer() says: shape and strides where they were asked for, or "no"."""
        view = (ctypes.c_byte * 128)()
        get = ctypes.pythonapi.PyObject_GetBuffer
        get.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
        try:
            get(obj, ctypes.byref(view), flags)
        except BufferError:
            return "no"
        words = (ctypes.c_ssize_t * 16).from_buffer(view)
        ndim = (
            words[4] >> 32
        )  # after readonly: buf, obj, len, itemsize, (readonly, ndim), format, shape, strides
        shape, strides = ((ctypes.c_ssize_t * ndim).from_address(at)[:] if at else None for at in words[6:8])
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))
        return words[2], words[3], ndim, shape, strides


class TestRelease:
    """The exporter is free again once the last view in any interpreter is gone."""

    def test_exported_meanwhile(self, interp):
        data = bytearray(b"abc")
        bind(interp, memoryview(data))
        with pytest.raises(BufferError):
            data.append(1)
        interp.exec("del view")
        data.append(1)
        assert data == b"abc\1"

    def test_by_release(self, interp):
        data = bytearray(b"abc")
        bind(interp, memoryview(data))
        interp.exec("view.release()")
        data.append(1)

    def test_by_replacing(self, interp):
        data = bytearray(b"abc")
        bind(interp, memoryview(data))
        interp.prepare_main(view=None)
        data.append(1)

    def test_by_closing_the_receiver(self):
        interp = atoll.create()
        data = bytearray(b"abc")
        bind(interp, memoryview(data))
        interp.close()
        data.append(1)

    def test_when_nothing_was_received(self, interp):
        data = bytearray(b"abc")
        with pytest.raises(atoll.NotShareableError):
            interp.prepare_main(view=memoryview(data), bad=object())
        gc.collect()
        data.append(1)

    def test_in_its_own_interpreter(self, interp):
        """An exporter with a finalizer of its own is released in the interpreter that it belongs to."""
        other = new()
        interp.exec(f"""
            import atoll
            released = []
            class Noisy(bytearray):
                def __del__(self):
                    released.append(atoll.get_current().id)
            atoll.Interpreter({other.id}).prepare_main(view=memoryview(Noisy(b'abc')))
            """)
        assert interp.call(eval, "released") == []
        assert other.call(eval, "bytes(view)") == b"abc"
        other.exec("del view")
        interp.exec("pass")
        assert interp.call(eval, "released") == [interp.id]

    def test_from_another_thread(self, interp):
        data = bytearray(b"abc")
        bind(interp, memoryview(data))
        Thread(interp.exec, "del view").result()
        data.append(1)


class TestSenderClosedFirst:
    def test_contents_stay(self):
        sender, receiver = new(), new()
        sender.exec(f"""
            import atoll
            data = bytearray(b'kept' * 1000)
            atoll.Interpreter({receiver.id}).prepare_main(view=memoryview(data))
            data[0] = ord('K')
            """)
        sender.close()
        assert receiver.call(eval, "bytes(view) == b'Kept' + b'kept' * 999") is True
        receiver.exec("view[0] = 0; view[-1] = 1")
        assert receiver.call(eval, "(view[0], view[-1])") == (0, 1)
        receiver.exec("del view")

    def test_held_by_main(self):
        sender = new()
        view = sender.call(eval, "memoryview(b'held' * 100_000)")
        sender.close()
        others = [new() for _ in range(2)]
        for other in others:
            other.exec("fill = [bytes([n % 256]) * 1000 for n in range(5_000)]")
        assert bytes(view) == b"held" * 100_000
        assert view[5] == ord("e")
        copy = view[4:8]
        del view
        assert bytes(copy) == b"held"

    def test_shape_and_format_stay(self):
        sender = new()
        source = "memoryview(bytearray(range(24))).cast('B').cast('H', [3, 4])"
        expected = sender.call(eval, f"({source}).tolist()")
        view = sender.call(eval, source)
        sender.close()
        assert (view.format, view.shape, view.itemsize) == ("H", (3, 4), 2)
        assert view.tolist() == expected

    def test_slices_stay(self):
        sender = new()
        view = sender.call(eval, "memoryview(bytearray(range(10)))[::-2]")
        sender.close()
        assert view.tolist() == [9, 7, 5, 3, 1]

    def test_two_receivers_go_on_sharing_it(self):
        sender, one, two = new(), new(), new()
        sender.exec(f"""
            import atoll
            view = memoryview(bytearray(b'abc'))
            for number in ({one.id}, {two.id}):
                atoll.Interpreter(number).prepare_main(view=view)
            """)
        sender.close()
        one.exec("view[0] = ord('X')")
        assert two.call(eval, "bytes(view)") == b"Xbc"
        one.close()
        assert two.call(eval, "bytes(view)") == b"Xbc"

    def test_passed_on_afterwards(self, interp):
        sender = new()
        view = sender.call(eval, "memoryview(bytearray(b'abc'))")
        sender.close()
        bind(interp, view)
        view[0] = ord("X")
        assert interp.call(eval, "bytes(view)") == b"Xbc"
        interp.exec("del view")

    def test_sender_gone_with_its_last_reference(self):
        sender = new()
        view = sender.call(eval, "memoryview(b'abc' * 1000)")
        del sender
        assert bytes(view) == b"abc" * 1000

    def test_exporter_with_a_finalizer(self):
        """The finalizer runs once, in its own interpreter, before that has gone."""
        sender = new()
        view = sender.call(
            eval,
            "memoryview(type('Noisy', (bytearray,), {'__del__': lambda self: None})(b'abc'))",
        )
        sender.close()
        assert bytes(view) == b"abc"
