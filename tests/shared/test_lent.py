"""Arrow arrays and tensors of libraries: made in one interpreter, read in others, released where they were made."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import atoll
from helpers import check_ended, identity, run_python

pytest_plugins = ["ext_fixtures"]

N = 1000
SUM = sum(range(N)) + N // 2 * 3000


class Batch:
    """Offers a record batch."""

    def __arrow_c_array__(self, requested_schema: object = None) -> Any:
        import ext_arrow  # type: ignore[import-not-found]

        return ext_arrow.array(N)


class Table:
    """Offers a stream; helped: threads of the producer's need the GIL to make its batches."""

    def __init__(self, batches: int, *, helped: bool = False) -> None:
        self.batches, self.helped = batches, helped

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        import ext_arrow

        return ext_arrow.stream(N, self.batches, self.helped)


class Tensor:
    """Offers a tensor, of an older version or not."""

    def __init__(self, version: int) -> None:
        self.version = version

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **asked: Any) -> Any:
        import ext_arrow

        if self.version == 0 and asked:
            raise TypeError("an unexpected keyword argument")
        return ext_arrow.tensor(N, self.version)


def lend(kind: str) -> Any:
    """Return something that is lent, and keep nothing of it here."""
    return atoll.share({"batch": Batch(), "table": Table(3), "tensor": Tensor(1), "old": Tensor(0)}[kind])


def read(lent: Any) -> Any:
    """What a consumer finds in it."""
    import ext_arrow

    if isinstance(lent, atoll.SharedTensor):
        sums = [ext_arrow.read_tensor(lent.__dlpack__(max_version=version), 0) for version in (None, (1, 0))]
        assert len(set(sums)) == 1
        return sums[0]
    sums = ext_arrow.read_stream(lent.__arrow_c_stream__())
    if isinstance(lent, atoll.SharedArrow):
        assert [ext_arrow.read(*lent.__arrow_c_array__())] == sums
        return sums[0]
    return sums


def counts() -> tuple[int, int]:
    """How many structs are not released here, and how many were in another interpreter."""
    import ext_arrow

    gc.collect()
    live, elsewhere = ext_arrow.counts()
    return live, elsewhere


RIGHT = {"batch": SUM, "table": [SUM] * 3, "tensor": sum(range(N)), "old": sum(range(N))}
Make = Callable[..., atoll.Interpreter]


@pytest.fixture
def here(corpus: Path) -> Iterator[None]:
    """The corpus can be imported here."""
    sys.path.append(str(corpus))
    yield
    sys.path.remove(str(corpus))


@pytest.mark.parametrize("kind", list(RIGHT))
class TestLent:
    """Every kind, in every direction."""

    def test_is_read_elsewhere_and_released_at_home(self, make: Make, kind: str) -> None:
        """However often it is sent and read."""
        owner, reader = make(), make()
        lent = owner.call(lend, kind)
        for _ in range(3):
            assert reader.call(read, lent) == RIGHT[kind]
            assert owner.call(read, lent) == RIGHT[kind]
            lent = reader.call(identity, lent)
        assert owner.call(counts)[0] > 0
        del lent
        assert reader.call(counts) == (0, 0)
        assert owner.call(counts) == (0, 0)

    def test_outlives_its_owner_for_those_who_see_it(self, make: Make, kind: str) -> None:
        """Which is closed, and ends when the last of them is gone."""
        owner, reader = make(), make()
        before = len(atoll.list_all())
        lent = owner.call(lend, kind)
        reader.prepare_main(lent=lent)
        del lent
        owner.close()
        with pytest.raises(atoll.InterpreterNotFoundError):
            owner.call(counts)
        assert reader.call(read_main) == RIGHT[kind]
        reader.exec("del lent")
        reader.close()
        gc.collect()
        atoll.create().close()  # a sweep
        assert len(atoll.list_all()) == before - 2

    def test_what_its_owner_keeps_does_not_keep_the_owner(self, make: Make, kind: str) -> None:
        """Nor does what came home."""
        owner = make()
        before = len(atoll.list_all())
        owner.call(keep, owner.call(lend, kind))
        owner.call(keep_derived)
        owner.close()
        assert len(atoll.list_all()) == before - 1

    def test_in_messages_that_nobody_reads(self, make: Make, kind: str) -> None:
        """And after these are gone."""
        owner = make()
        queue = atoll.create_queue()
        owner.call(put, queue, kind)
        assert owner.call(counts)[0] > 0
        del queue
        assert owner.call(counts) == (0, 0)

    def test_identity_and_is_shareable(self, make: Make, kind: str) -> None:
        """As what is shared has it."""
        owner = make()
        lent = owner.call(lend, kind)
        assert atoll.is_shareable(lent)
        assert atoll.share(lent) is lent
        one, two = owner.call(identity, (lent, lent))
        assert one is two
        assert type(one) is type(lent)
        with pytest.raises(TypeError, match="cannot create"):
            type(lent)()


def read_main() -> Any:
    """Read __main__.lent."""
    import __main__

    return read(__main__.lent)


def keep(lent: object) -> None:
    """Bind it in __main__."""
    import __main__

    __main__.lent = lent  # type: ignore[attr-defined]


def keep_derived() -> None:
    """A consumer's capsule, which nobody has consumed."""
    import __main__

    lent = __main__.lent
    __main__.capsule = (  # type: ignore[attr-defined]
        lent.__dlpack__() if isinstance(lent, atoll.SharedTensor) else lent.__arrow_c_stream__()
    )


def put(queue: atoll.Queue, kind: str) -> None:
    """Put one into a queue."""
    queue.put([lend(kind)])


def hold(lent: Any) -> None:
    """Let C code have its array."""
    import ext_arrow

    ext_arrow.hold(lent.__arrow_c_array__()[1])


def drop() -> None:
    """And let go of it, on a thread of its own."""
    import ext_arrow

    ext_arrow.drop()


class TestMore:
    """What is special about some."""

    def test_a_foreign_thread_releases(self, make: Make) -> None:
        """With no thread state: the owner is told."""
        owner, reader = make(), make()
        reader.call(hold, owner.call(lend, "batch"))
        assert owner.call(counts)[0] > 0
        reader.call(drop)
        assert owner.call(counts) == (0, 0)
        owner.call(hold, owner.call(lend, "batch"))
        owner.call(drop)  # at home, as any consumer does
        assert owner.call(counts)[0] == 0

    def test_tensors_are_written_to(self, make: Make) -> None:
        """Unless they are read-only, which only the newer version can say."""
        owner, reader = make(), make()
        lent = owner.call(lend, "tensor")
        assert lent.__dlpack_device__() == (1, 0)
        assert reader.call(add, lent, 5) == sum(range(N)) + 5
        assert owner.call(add, lent, 1) == sum(range(N)) + 6
        fixed = owner.call(lambda: atoll.share(Tensor(2)))
        with pytest.raises(BufferError, match="read-only"):
            fixed.__dlpack__()
        for wrong, words in (
            ({"stream": 3}, "not on an accelerator"),
            ({"dl_device": (2, 0)}, r"on device \(1, 0\)"),
            ({"copy": True}, "is not copied"),
        ):
            with pytest.raises(BufferError, match=words):
                lent.__dlpack__(**wrong)

    def test_streams_of_any_length(self, make: Make) -> None:
        """Empty ones, and long ones."""
        owner, reader = make(), make()
        for batches in (0, 1, 2, 65):
            lent = owner.call(lambda batches: atoll.share(Table(batches)), batches)
            assert reader.call(read, lent) == [SUM] * batches
        del lent
        assert owner.call(counts) == (0, 0)

    def test_streams_whose_producer_needs_the_gil_elsewhere(self, make: Make, here: None) -> None:
        """As pyarrow does for files and functions of Python's."""
        reader = make()
        for batches in (3, -1):
            with pytest.raises(OSError, match="it is torn") if batches < 0 else contextlib.nullcontext():
                assert reader.call(read, atoll.share(Table(batches, helped=True))) == [SUM] * batches
        assert read(reader.call(lambda: atoll.share(Table(3, helped=True)))) == [SUM] * 3
        assert reader.call(counts) == counts() == (0, 0)

    def test_a_stream_without_an_end_is_interrupted(self, make: Make) -> None:
        """And what it has given is released."""
        owner = make()
        begun = atoll.Event()

        def endless(begun: atoll.Event) -> str:
            begun.set()
            try:
                atoll.share(Table(1 << 62, helped=True))
            except KeyboardInterrupt:
                return "interrupted"
            return "at its end"

        said: list[str] = []
        thread = threading.Thread(target=lambda: said.append(owner.call(endless, begun)))
        thread.start()
        begun.wait()
        owner.interrupt()
        thread.join()
        assert said == ["interrupted"]
        assert owner.call(counts) == (0, 0)

    def test_producers_in_python(self) -> None:
        """What they release is released with no exception under way, by ctypes."""
        check_ended(run_python("import ctypes_producers"), 0, "right\n", clean=True)

    def test_producers_that_fail(self, here: None) -> None:
        """Are named, and what they had given is released."""
        import ext_arrow

        class Wrong:
            def __init__(self, **methods: Any) -> None:
                self.__dict__.update(methods)

        before = counts()
        for producer, kind, words in (
            (Table(-1), OSError, "its Arrow stream has failed: it is torn"),
            (Wrong(__arrow_c_array__=lambda: 5), TypeError, "no pair of capsules but 5"),
            (Wrong(__arrow_c_array__=lambda: (1, 2)), TypeError, 'no capsule "arrow_schema" but 1'),
            (Wrong(__arrow_c_array__=lambda: 1 / 0), ZeroDivisionError, ""),
            (Wrong(__arrow_c_stream__=lambda: ext_arrow.array(1)[0]), TypeError, '"arrow_array_stream"'),
            (
                Wrong(__dlpack__=lambda **_: 1, __dlpack_device__=lambda: (1, 0)),
                TypeError,
                "capsule of DLPack but 1",
            ),
            (
                Wrong(__dlpack__=lambda **_: 1, __dlpack_device__=lambda: 1),
                TypeError,
                "no pair of ints but 1",
            ),
            (Wrong(__dlpack__=lambda **_: 1), AttributeError, "__dlpack_device__"),
        ):
            with pytest.raises(kind) as caught:
                atoll.share(producer)
            assert words in str(caught.value)
        capsules = ext_arrow.array(1)
        once = Wrong(__arrow_c_array__=lambda capsules=capsules: capsules)
        atoll.share(once)
        with pytest.raises(ValueError, match="released already"):
            atoll.share(once)
        del capsules, once, producer, caught
        assert counts() == before
        with pytest.raises(TypeError, match="neither Arrow nor DLPack"):
            atoll.share(Table)  # type: ignore[call-overload]

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
    def test_closed_in_any_order(self, make: Make, order: tuple[int, ...]) -> None:
        """Three interpreters that see what the others have lent."""
        interps = [make() for _ in range(3)]
        before = len(atoll.list_all())
        for number, owner in enumerate(interps):
            for kind in RIGHT:
                lent = owner.call(lend, kind)
                for other in interps:
                    other.prepare_main(**{f"{kind}{number}": lent})
        del lent
        for closed in order:
            interps[closed].close()
        gc.collect()
        ids = {interp.id for interp in interps}
        atoll.create().close()
        assert len(atoll.list_all()) == before - 3
        assert not [s for s in atoll.stats()["interpreters"] if s["id"] in ids]  # nor is one kept for another

    def test_threads(self, make: Make) -> None:
        """Sent, read and dropped by several at once."""
        owner = make()
        readers = [make() for _ in range(3)]
        failed: list[BaseException] = []

        def run(reader: atoll.Interpreter) -> None:
            try:
                for turn in range(12):
                    kind = list(RIGHT)[turn % 4]
                    assert reader.call(read, owner_call(kind)) == RIGHT[kind]
            except BaseException as error:
                failed.append(error)

        lock = threading.Lock()

        def owner_call(kind: str) -> Any:
            with lock:
                return owner.call(lend, kind)

        threads = [threading.Thread(target=run, args=(reader,)) for reader in readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert owner.call(counts) == (0, 0)

    def test_the_process_ends_with_some(self, corpus: Path) -> None:
        """In globals of several interpreters and in queues: status 0."""
        done = run_python(
            f"""
            import sys
            sys.path[:0] = [{str(corpus)!r}, {str(Path(__file__).parent)!r}]
            import atoll
            import test_lent
            interps = [atoll.create() for _ in range(3)]
            queue = atoll.create_queue()
            for number, owner in enumerate(interps):
                for kind in test_lent.RIGHT:
                    lent = owner.call(test_lent.lend, kind)
                    queue.put(lent)
                    for other in interps:
                        other.prepare_main(**{{f"{{kind}}{{number}}": lent}})
                    assert test_lent.read(lent) == test_lent.RIGHT[kind]
            mine = test_lent.lend("batch")
            interps[0].call(test_lent.keep, mine)
            interps[1].close()
            print("end")
            """,
            "-W",
            "ignore",
        )
        check_ended(done, 0, "end\n", clean=True)


def add(lent: Any, more: int) -> Any:
    """Change it, and read it."""
    import ext_arrow

    return ext_arrow.read_tensor(lent.__dlpack__(), more)
