"""Shared memory between interpreters: what crosses, who sees what, what is left when they end."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import os
import threading
from typing import Any

import pytest

import atoll
from atoll import SharedArray, SharedBuffer, _atoll
from helpers import check_ended, identity, new, run_python, together

pytestmark = pytest.mark.usefixtures("no_memory_left")


def double(array: SharedArray) -> None:
    """Double every element."""
    for index in range(len(array)):
        array[index] *= 2


class TestCrossing:
    """The same memory, whichever way it goes."""

    def test_everyone_sees_the_same(self, interp: atoll.Interpreter) -> None:
        """Through calls, queues, prepare_main() and pools."""
        array = SharedArray(4, "i")
        array[:] = range(4)
        interp.call(double, array)
        queue = atoll.create_queue()
        queue.put(array)
        double(queue.get())
        interp.prepare_main(array=array)
        interp.exec("array[0] = 100")
        with atoll.InterpreterPoolExecutor(2) as pool:
            for _ in pool.map(double, [array] * 3):
                pass
            pool.submit(double, array).result()
        assert array.tolist() == [1600, 64, 128, 192]

    def test_layout_is_kept(self, interp: atoll.Interpreter) -> None:
        """Slices, other orders, read-only views, empty ones, records: the same memory."""
        whole = SharedArray((6, 5), "h")
        whole.reshape(30)[:] = range(30)
        views: list[Any] = [
            whole, whole[1:4], whole.T, whole[::-1, ::2], whole[2], whole[:, 3], whole[6:], whole[..., None],
            whole[1, 1, ...], whole.toreadonly(), whole.reshape(2, 3, 5), whole.reshape(1, 1, 1, 1, 1, 30),
        ]  # fmt: skip
        views += [SharedArray(2, "if"), SharedArray((2, 2), ">f8"), SharedArray((), "d")]
        buffer = SharedBuffer.from_bytes(bytes(range(100)))
        views += [buffer, buffer[10:20], buffer[::-3], buffer.toreadonly(), SharedBuffer(0)]
        for view in views:
            got = interp.call(identity, view)
            assert type(got) is type(view)
            assert got == view
            assert got.readonly == view.readonly
            if isinstance(view, SharedArray):
                assert (got.shape, got.strides, got.format) == (view.shape, view.strides, view.format)
        got = interp.call(identity, whole[2:4, ::2])
        got[1, 2] = 1000
        assert whole[3, 4] == 1000

    def test_identity_within_a_message(self, interp: atoll.Interpreter) -> None:
        """One object stays one; two views stay two."""
        array = SharedArray(3)
        first, second, (third,) = interp.call(identity, (array, array, [array]))
        assert first is second is third
        first, second = interp.call(identity, (array, array[:]))
        assert first is not second

    def test_is_shareable(self) -> None:
        """As the types that are shared are."""
        assert atoll.is_shareable(SharedArray(1))
        assert atoll.is_shareable((SharedBuffer(1), 1))
        assert not atoll.is_shareable([SharedBuffer(1)])

    def test_globals_and_fields(self, interp: atoll.Interpreter) -> None:
        """A global of a function, a field of a dataclass, an item of a dict: by reference."""
        array = SharedArray(2, "i")
        namespace: dict[str, Any] = {"array": array, "__name__": "__main__"}
        exec("def add():\n    array[0] += 1\n    return array[0]", namespace)
        assert [interp.call(namespace["add"]) for _ in range(3)] == [1, 2, 3]
        namespace["array"] = array[1:]
        assert interp.call(namespace["add"]) == 1
        holder = Holder(array, {"part": array[1:]})
        assert interp.call(use_holder, holder) == Holder(array, {"part": array[1:]})
        assert array.tolist() == [50, 60]

    def test_malformed_messages(self) -> None:
        """Bytes alone cannot have any: they have no handles."""
        with pytest.raises(ValueError, match="refers to shared objects"):
            _atoll._encode(SharedArray(3))


@dataclasses.dataclass
class Holder:
    """Has shared memory in it."""

    array: SharedArray
    parts: dict[str, SharedArray]


def use_holder(holder: Holder) -> Holder:
    """Write to what it has."""
    holder.array[0] = 50
    holder.parts["part"][0] = 60
    return holder


class TestThreads:
    """Many threads and interpreters."""

    def test_each_writes_its_part(self) -> None:
        """And all of it is there."""
        array = SharedArray((4, 1000), "i")
        interps = [new() for _ in range(4)]

        def run(number: int) -> None:
            for turn in range(20):
                interps[number].call(fill, array[number], turn)

        together(4, run)
        assert array.tolist() == [[index + 19 for index in range(1000)]] * 4
        for interp in interps:
            interp.close()

    def test_references_come_and_go(self) -> None:
        """Sent back and forth by several threads at once."""
        queue = atoll.create_queue()
        interps = [new() for _ in range(3)]
        buffer = SharedBuffer(100_000)

        def run(number: int) -> None:
            for turn in range(100):
                interps[number].call(identity, buffer)[turn] = 1
                queue.put(buffer[turn:])
                if turn % 3 == number:
                    interps[number].call(echo, queue)
                queue.get()[0] = 2

        together(3, run)
        for interp in interps:
            interp.close()


def fill(row: SharedArray, turn: int) -> None:
    """Write to a row."""
    for index in range(len(row)):
        row[index] = index + turn


def echo(queue: atoll.Queue) -> None:
    """Take an item and put it back."""
    queue.put(queue.get())


def keep(name: str, value: object) -> None:
    """Bind in __main__."""
    import __main__

    setattr(__main__, name, value)


class TestEnds:
    """Interpreters end while others hold what they made."""

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_in_any_order(self, order: tuple[int, ...]) -> None:
        """Three interpreters with views of each other's memory, one closed after the other."""
        interps = [new() for _ in range(3)]
        for number, interp in enumerate(interps):
            made = interp.call(SharedArray, (10, 10), "i")
            made[number] = number + 1
            for other in interps:
                other.call(keep, f"whole{number}", made)
                other.call(keep, f"part{number}", made[number, 3:])
                other.exec(f"view{number} = memoryview(part{number}); del whole{number}")
        del made
        for done, closed in enumerate(order):
            interps[closed].close()
            assert _atoll._shared_memory()[0] == (3 if done < 2 else 0)
            for left in order[done + 1 :]:
                interps[left].exec("assert view0.tolist() == [1] * 7 and part2.tolist() == [3] * 7")

    def test_what_nobody_has_any_more(self, interp: atoll.Interpreter) -> None:
        """Items of a queue, a task's outcome that nobody asked for, exceptions."""
        queue = atoll.create_queue()
        queue.put([SharedBuffer(10), SharedArray(5)])
        del queue
        with atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(SharedArray, 5)
            with pytest.raises(ValueError, match="given"):
                pool.submit(raise_with, SharedArray(4)).result()
        with contextlib.suppress(atoll.ExecutionFailed):
            interp.call(raise_with, SharedArray(4))

    def test_frees_in_another_interpreter(self, interp: atoll.Interpreter) -> None:
        """The last reference may go anywhere."""
        interp.call(keep, "array", SharedArray(100_000))
        assert _atoll._shared_memory() == (1, 800_000)
        interp.exec("del array")
        assert _atoll._shared_memory() == (0, 0)

    def test_process_ends_with_all_of_it(self) -> None:
        """In interpreters, queues, threads and globals: status 0, no word."""
        done = run_python(
            """
            import threading
            import atoll
            from helpers import identity, new
            shared = [atoll.SharedArray((100, 100)), atoll.SharedBuffer(10), atoll.SharedArray(3)[1:]]
            interps = [new() for _ in range(3)]
            for interp in interps:
                interp.prepare_main(**{f"a{number}": value for number, value in enumerate(shared)})
                interp.exec("view = memoryview(a0); made = __import__('atoll').SharedArray(10**6)")
            interps[0].close()
            queue = atoll.create_queue()
            queue.put(shared)
            cycle = [shared]
            cycle.append(cycle)
            threading.Thread(target=lambda: interps[1].call(identity, shared)).start()
            print("end")
            """,
            "-X",
            "dev",
        )
        check_ended(done, 0, "end\n")
        assert "Traceback" not in done.stderr

    def test_forked_child_reads_it(self) -> None:
        """The content as it was; what it writes is its own; references are counted in each."""
        done = run_python(
            """
            import os
            import atoll
            from helpers import new
            array = atoll.SharedArray((100, 100), "i")
            array[5, 5] = 7
            interp = new()
            interp.prepare_main(array=array)
            child = os.fork()
            if child == 0:
                assert array[5, 5] == 7
                array[5, 5] = 8
                made = atoll.create()
                made.prepare_main(array=array)
                made.exec("assert array[5, 5] == 8; array[5, 5] = 9")
                made.close()
                assert array[5, 5] == 9
                assert atoll.SharedArray(10)[3] == 0
                del array
            else:
                assert os.waitpid(child, 0)[1] == 0
                assert array[5, 5] == 7
                del array
                assert atoll._atoll._shared_memory() == (1, 40_000)
                interp.close()
                assert atoll._atoll._shared_memory() == (0, 0)
                print("end")
            """
        )
        check_ended(done, 0, "end\n")

    def test_no_memory(self) -> None:
        """Whatever allocation fails, the others are freed."""
        testcapi = pytest.importorskip("_testcapi", reason="this Python has no _testcapi")
        makers = [
            lambda: SharedArray((2, 3, 4, 5), "5s"),
            lambda: SharedBuffer(10),
            lambda: SharedArray(3)[1:],
            lambda: SharedArray((3, 3), "if").T,
            lambda: atoll.share(b"abc"),
            lambda: SharedArray((2, 2)).copy(),
        ]
        for maker in makers:
            maker()
            for start in range(15):
                before = _atoll._shared_memory()
                made = None
                testcapi.set_nomemory(start, start + 1)
                try:
                    made = maker()
                except MemoryError:
                    pass
                finally:
                    testcapi.remove_mem_hooks()
                del made
                if _atoll._shared_memory() != before:
                    gc.collect()
                assert _atoll._shared_memory() == before


def pickled(name: str) -> bytes:
    """Return the pickle of what this is bound to in __main__."""
    import pickle

    import __main__

    return pickle.dumps(getattr(__main__, name))


def raise_with(value: object) -> None:
    """Raise an exception that has it."""
    raise ValueError("given", value)


class TestNamed:
    """Memory with a name, which other processes find."""

    @pytest.fixture
    def name(self) -> str:
        """A name that nobody has."""
        return f"atoll-test-{os.getpid()}-{threading.get_native_id()}-{next(counter)}"

    def test_is_found_by_its_name(self, name: str) -> None:
        """Made by the first, found by the next; what it shows is its own affair."""
        made = SharedArray((3, 4), "i", name=name)
        found = SharedArray(12, "i", name=name)
        buffer = SharedBuffer(name="/" + name)
        found[5] = 7
        assert made[1, 1] == 7
        assert (buffer.nbytes, made.name, found.name, buffer.name) == (48, name, name, name)
        assert SharedBuffer(10, name=name).nbytes == 10
        assert SharedArray(3, "i", name=name, create=False)[2] == 0
        assert repr(made) == f"SharedArray((3, 4), 'int32', name={name!r})"
        assert repr(buffer[:3]) == f"SharedBuffer(3, name={name!r})"
        assert made[1].name == name
        assert made.copy().name is None

    def test_multiprocessing_finds_it(self, name: str) -> None:
        """And what multiprocessing has made is found."""
        shared_memory = pytest.importorskip("multiprocessing.shared_memory", reason="needs _posixshmem")
        made = SharedBuffer(100, name=name)
        made[3] = 9
        other = run_python(
            f"""
            import sys
            from multiprocessing import resource_tracker, shared_memory
            resource_tracker.register = resource_tracker.unregister = lambda *args: None
            block = shared_memory.SharedMemory({name!r})
            assert block.buf[3] == 9 and block.size == 100
            block.buf[4] = 10
            block.close()
            """
        )
        check_ended(other, clean=True)
        assert made[4] == 10
        theirs = shared_memory.SharedMemory(create=True, size=64)
        try:
            mine = SharedArray(8, "q", name=theirs.name, create=False)
            mine[1] = -1
            assert bytes(theirs.buf[8:16]) == b"\xff" * 8
            del mine
            SharedBuffer(name=theirs.name)  # who has found a name does not remove it
        finally:
            theirs.close()
            theirs.unlink()

    def test_who_removes_the_name(self, name: str) -> None:
        """unlink(), else the last reference of the process that made it, however that came by it."""
        made = SharedArray(4, "i", name=name)
        found = SharedArray(4, "i", name=name)
        made[0] = 5
        del made
        assert found[0] == SharedArray(4, "i", name=name, create=False)[0] == 5
        found.unlink()
        with pytest.raises(FileNotFoundError, match=name):
            SharedBuffer(name=name)
        with pytest.raises(FileNotFoundError, match=name):
            found.unlink()
        made = SharedArray(4, "i", name=name)
        assert made[0] == 0
        del found  # of the memory that had the name before
        found = SharedArray(4, "i", name=name, create=False)
        del made, found
        with pytest.raises(FileNotFoundError, match=name):
            SharedBuffer(name=name)
        made = SharedArray(4, "i", name=name)
        SharedArray(4, "i", name=name, create=False).unlink()
        assert made.name == name
        with pytest.raises(FileNotFoundError):
            SharedArray(4, "i", name=name, create=False)
        with pytest.raises(ValueError, match="has no name"):
            SharedBuffer(1).unlink()

    def test_the_last_reference_may_be_in_another_interpreter(
        self, name: str, interp: atoll.Interpreter
    ) -> None:
        """The name lasts as long as that."""
        interp.call(keep, "array", SharedArray(4, "i", name=name))
        SharedArray(4, "i", name=name, create=False)[1] = 3
        interp.exec("assert array[1] == 3 and array.name; del array")
        with pytest.raises(FileNotFoundError):
            SharedArray(4, "i", name=name, create=False)

    def test_the_maker_may_go_before_others_of_its_process(
        self, name: str, interp: atoll.Interpreter
    ) -> None:
        """Who has found the memory in another interpreter has the name, too, and so has what it sends by pickle."""
        import pickle

        with atoll.create() as maker:
            maker.exec(f"import atoll; array = atoll.SharedArray(4, 'i', name={name!r})")
            interp.exec(f"import atoll; array = atoll.SharedArray(4, 'i', name={name!r}); array[0] = 9")
        data = interp.call(pickled, "array")
        assert SharedArray(4, "i", name=name, create=False)[0] == pickle.loads(data)[0] == 9
        interp.exec("del array")
        with pytest.raises(FileNotFoundError):
            pickle.loads(data)

    def test_errors(self, name: str) -> None:
        """Each names what it is about."""
        with pytest.raises(FileNotFoundError, match=name):
            SharedBuffer(1, name=name, create=False)
        made = SharedBuffer(10, name=name, create=True)
        with pytest.raises(FileExistsError, match=name):
            SharedBuffer(10, name=name, create=True)
        with pytest.raises(ValueError, match=f"'{name}' has 10 bytes, and 88 are asked for"):
            SharedArray(11, name=name)
        assert made.nbytes == 10
        for bad in ("", "/", "a/b", "x" * 255, "\0", "..", "\ud800"):
            with pytest.raises(ValueError, match="is none for shared memory"):
                SharedBuffer(1, name=bad)
        for wrong in (1, b"a", ["a"]):
            with pytest.raises(TypeError, match="name must be a str"):
                SharedBuffer(1, name=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="create must be a bool or None"):
            SharedBuffer(1, name=name, create=1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="needs nbytes"):
            SharedBuffer(name=name, create=True)
        with pytest.raises(ValueError, match="has at least one byte"):
            SharedBuffer(0, name=name + "-empty")
        with pytest.raises(OSError, match=name):
            SharedBuffer(2**60, name=name + "-huge")
        with pytest.raises(FileNotFoundError):
            SharedBuffer(name=name + "-huge")

    def test_many_make_it_at_once(self, name: str) -> None:
        """One makes it, all others find it."""
        turns = 20

        def run(number: int) -> None:
            array = SharedArray(4, "i", name=name)
            array[number] += 1
            kept.append(array)

        for _ in range(turns):
            kept: list[SharedArray] = []
            together(4, run)
            assert kept[0].tolist() == [1, 1, 1, 1]
            kept.clear()

    def test_pickle_is_by_name(self, name: str) -> None:
        """Another process has the same memory then, and does not remove the name."""
        import pickle

        made = SharedArray((4, 4), "i", name=name)
        data = pickle.dumps([made.T[1:, ::2], made.toreadonly()])
        child = run_python(
            f"""
            import pickle
            part, fixed = pickle.loads({data!r})
            part[0, 1] = 77
            assert fixed[2, 1] == 77 and fixed.readonly and part.shape == (3, 2)
            """
        )
        check_ended(child, clean=True)
        assert made[2, 1] == 77
        assert pickle.loads(data)[0][0, 1] == 77
        made.unlink()
        with pytest.raises(FileNotFoundError, match=name):
            pickle.loads(data)

    @pytest.mark.parametrize(
        "how", ["", "import sys; sys.exit(3)", "raise KeyError", "os.fork() or os._exit(0)"]
    )
    def test_names_end_with_their_process(self, name: str, how: str) -> None:
        """Also those that globals, interpreters and queues hold; those of its children do not."""
        child = run_python(
            f"""
            import os
            import atoll
            from atoll import SharedArray
            one = SharedArray(4, name={name + "-one"!r})
            interp = atoll.create()
            interp.prepare_main(two=SharedArray(4, name={name + "-two"!r}))
            queue = atoll.create_queue()
            queue.put(SharedArray(4, name={name + "-three"!r}))
            if os.fork() == 0:
                del one
                raise SystemExit
            os.wait()
            for word in ("one", "two", "three"):
                SharedArray(4, name={name!r} + "-" + word, create=False)
            print("all", flush=True)
            {how}
            """
        )
        assert child.stdout == "all\n"
        for word in ("one", "two", "three"):
            with pytest.raises(FileNotFoundError):
                SharedBuffer(name=f"{name}-{word}")


counter = itertools.count()


def test_array_without_memory_is_not_seen() -> None:
    """Making one with a name takes a while, in which other threads look at all objects that there are."""
    done = run_python("""
        import atoll, gc, os, threading
        name = f"atoll-test-unseen-{os.getpid()}"
        path = f"/dev/shm/{name}"
        open(path, "wb").close() # without a size: whoever wants it waits for a moment
        errors = []
        def make():
            try:
                atoll.SharedArray((2, 3, 4, 5), "B", name=name, create=False)
            except ValueError as error:
                errors.append(str(error))
        thread = threading.Thread(target=make)
        thread.start()
        while thread.is_alive():
            for obj in gc.get_objects():
                if type(obj) is atoll.SharedArray:
                    print(obj.name, obj[0], bytes(obj))
        os.unlink(path)
        print("is empty" in errors[0])
        """)
    check_ended(done, 0, "True\n")


def test_assigning_what_changes_meanwhile() -> None:
    """An element's code empties all lists that there are of such elements: in a process of its own."""
    done = run_python(
        """
        import gc
        import atoll

        class One:
            def __index__(self):
                for found in gc.get_objects():
                    if type(found) is list and any(type(item) is One for item in found):
                        found.clear()
                return 1

        array = atoll.SharedArray((2, 40), "i")
        array[...] = tuple(tuple(One() for _ in range(40)) for _ in range(2))
        print(set(array.reshape(-1).tolist()))
        """
    )
    check_ended(done, 0, "{1}\n", clean=True)
