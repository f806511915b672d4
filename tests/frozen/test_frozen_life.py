"""How long frozen objects live: as long as anybody who may have something of them."""

from __future__ import annotations

import gc
import os
import subprocess
import threading
from typing import Any

import pytest

import atoll
from helpers import Thread, new, run_python


def make(queue: atoll.Queue | None = None, block: bool = True) -> int:
    """Freeze something in this interpreter; its bytes."""
    import atoll

    before = atoll.frozen_memory()
    data = [f"a text, {number}" for number in range(20_000)]
    if block:
        with atoll.freezing() as area:
            frozen = atoll.freeze(data)
        assert area.nbytes > 1_000_000 and not area.released
    else:
        frozen = atoll.freeze(data)
    if queue is not None:
        queue.put(frozen)
        queue.put([frozen[3], frozen[4]])
    return atoll.frozen_memory() - before


def look(queue: atoll.Queue) -> bool:
    """Take from the queue; whether it is what make() has put there.  (The text itself would be a part of it.)"""
    value: Any = queue.get()
    return bool(value[-1] == "a text, 19999")


@pytest.mark.parametrize("block", [True, False])
def test_it_ends_with_the_interpreter_that_made_it(block: bool) -> None:
    before = atoll.frozen_memory()
    with new() as interp:
        assert interp.call(make, None, block) > 1_000_000
        assert atoll.frozen_memory() - before > 1_000_000
    assert atoll.frozen_memory() == before


def test_it_ends_with_the_last_that_has_seen_it() -> None:
    before = atoll.frozen_memory()
    queue = atoll.create_queue()
    with new() as reader:
        with new() as maker:
            maker.call(make, queue)
            assert reader.call(look, queue)
        assert atoll.frozen_memory() - before > 1_000_000, "the reader has seen it"
        assert queue.get() is atoll.UNBOUND
    assert atoll.frozen_memory() == before


def test_it_stays_when_main_has_taken_a_part() -> None:
    before = atoll.frozen_memory()
    queue = atoll.create_queue()
    with new() as maker:
        maker.call(make, queue)
        queue.get()
        part = queue.get()[1]
    assert part == "a text, 4"
    assert atoll.frozen_memory() - before > 1_000_000


def test_a_message_has_it() -> None:
    before = atoll.frozen_memory()
    queue = atoll.create_queue(unbounditems=None)

    def put(queue: atoll.Queue) -> None:
        import atoll

        with atoll.freezing():
            data = atoll.freeze(["x" * 100_000, "y"])
        queue.put([data, data[0]])

    with atoll.InterpreterPoolExecutor(1) as pool:  # whose items outlive its workers
        pool.submit(put, queue).result()
    assert atoll.frozen_memory() - before > 100_000
    with new() as reader:
        assert reader.call(lambda queue: len(queue.get()[1]), queue) == 100_000
        assert atoll.frozen_memory() - before > 100_000
    assert atoll.frozen_memory() == before


def test_what_is_thrown_away_unread() -> None:
    before = atoll.frozen_memory()
    queue = atoll.create_queue()
    with new() as interp:
        interp.call(make, queue)
    del queue
    gc.collect()
    assert atoll.frozen_memory() == before


def test_what_main_has_seen_stays() -> None:
    with atoll.freezing() as area:
        frozen = atoll.freeze(["of main", 10**30])
        with atoll.freezing() as inner:
            other = atoll.freeze(["inner", frozen])
        third = atoll.freeze(["of main", 10**30])
    assert third is frozen and not area.released and not inner.released
    assert 0 < area.nbytes and 0 < inner.nbytes and "bytes" in repr(area)
    gc.collect()
    assert other == ("inner", ("of main", 10**30))
    with pytest.raises(RuntimeError, match="entered before"), area:
        pass
    with pytest.raises(TypeError):
        type(area)()


def test_an_area_without_anything_ends_at_once() -> None:
    def empty() -> bool:
        import atoll

        with atoll.freezing() as area:
            try:
                atoll.freeze([1.25, object()])
            except atoll.NotShareableError:
                pass
        return area.released or area.nbytes == 0

    with new() as interp:
        assert interp.call(empty)
        assert not interp.call(lambda: __import__("atoll").freezing().released)


def test_a_block_that_another_thread_has_left_hides_none() -> None:
    with atoll.freezing() as outer:
        inner = atoll.freezing().__enter__()
        thread = threading.Thread(target=inner.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
        atoll.freeze(["some text of some length"])
        assert outer.nbytes > 0 == inner.nbytes


def test_blocks_belong_to_threads() -> None:
    with atoll.freezing() as area:
        Thread(atoll.freeze, ["from another thread"] * 2).result()
        assert area.nbytes == 0
        atoll.freeze(["from this one"])
        assert area.nbytes != 0


def test_places_are_used_again() -> None:
    def freeze_large() -> int:
        import atoll

        return len(atoll.freeze(bytes(range(256)) * 40_000))

    before = atoll.frozen_memory()
    for _ in range(6):
        with new() as interp:
            assert interp.call(freeze_large) == 256 * 40_000
    assert atoll.frozen_memory() == before


def test_keys_stay_while_interpreters_end() -> None:
    """Names that were attributes and keys of one interpreter are those of others after its end."""
    names = atoll.freeze([f"attribute_{number}" for number in range(500)])

    def use(names: Any) -> int:
        class Thing:
            pass

        thing = Thing()
        for name in names:
            setattr(thing, name, name)
            setattr(Thing, name + "_", name)
        return sum(getattr(thing, name) is name for name in names)

    for _ in range(3):
        with new() as first, new() as second:
            assert first.call(use, names) == second.call(use, names) == 500
    assert use(names) == 500


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which ends when it writes to a frozen object, as this one does."""
    name = "ATOLL_DEBUG_FROZEN"
    return run_python(code, environment={name: os.environ[name], **environment})


def test_fork() -> None:
    done = run("""
        import atoll, os
        data = atoll.freeze({"a": [1.5, "text"] * 3})
        interp = atoll.create()
        assert interp.call(lambda d: d["a"][1], data) == "text"
        pid = os.fork()
        if pid == 0:
            assert data["a"][0] == 1.5 and atoll.is_frozen(data)
            more = atoll.freeze(["in the child", data])
            assert more[1] is data
            with atoll.create() as own:
                assert own.call(lambda d: d, more) is more
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert interp.call(lambda d: d, data) is data
        """)
    assert done.returncode == 0, done.stderr


def test_the_end_of_the_process() -> None:
    done = run("""
        import atoll
        data = atoll.freeze({f"k{i}": [i, str(i)] for i in range(1000)})
        kept = atoll.create()
        kept.prepare_main(data=data)
        kept.exec("import atexit; atexit.register(lambda: print(data['k7']))")
        kept.exec("class A: pass\\nfor k in data: setattr(A, k, data[k])")
        class B: pass
        for k in data:
            setattr(B, k, data)
        """)
    assert (done.returncode, done.stdout) == (0, "(7, '7')\n"), done.stderr


def test_whoever_writes_ends_the_process() -> None:
    """The switch of the tests works: a write is not overlooked."""
    code = """
        import atoll, ctypes
        data = atoll.freeze(["some text"])
        ctypes.memset(id(data) + 24, 0, 1)
        print("written")
        """
    done = run(code, ATOLL_DEBUG_FROZEN="1")
    assert done.returncode < 0 and done.stdout == ""
    assert run(code, ATOLL_DEBUG_FROZEN="0").stdout == "written\n"


def test_little_address_space() -> None:
    """Where the process may not have as much as Atoll reserves it takes less."""
    done = run("""
        import resource, atoll
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        data = atoll.freeze({f"k{i}": [i] for i in range(1000)})
        assert data["k7"] == (7,)
        try:
            atoll.freeze(["x" * (1 << 29)] * 2 + [bytes(1 << 29), bytes(1 << 29) + b"y"])
        except MemoryError:
            print("no more")
        """)
    assert (done.returncode, done.stdout) == (0, "no more\n"), done.stderr
