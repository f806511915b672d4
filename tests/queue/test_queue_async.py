"""Queues on an asyncio event loop: put_async() and get_async()."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import os
import random
import select
import selectors
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import atoll
from helpers import PATIENCE, Thread, new
from queue_helpers import (
    drain,
    make_foreigner,  # noqa: F401
    make_queue,  # noqa: F401
    no_queue_left_behind,  # noqa: F401
)


def uvloop_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop of uvloop."""
    return importlib.import_module("uvloop").new_event_loop()


def select_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop that uses select()."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "default": asyncio.new_event_loop,
    "select": select_loop,
}
if importlib.util.find_spec("uvloop") is not None:
    LOOPS["uvloop"] = uvloop_loop


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def run(request):
    """A function that runs a coroutine on a loop of each kind."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(coroutine, PATIENCE))

    return run


async def settle() -> None:
    """Let the loop do what it can do now."""
    for _ in range(5):
        await asyncio.sleep(0)


class TestAlone:
    def test_put_and_get(self, run, queue):
        async def work():
            await queue.put_async("one")
            await queue.put_async(["two"])
            return [await queue.get_async(), await queue.get_async()]

        assert run(work()) == ["one", ["two"]]

    def test_beside_the_blocking_ones(self, run, queue):
        async def work():
            queue.put(1)
            assert await queue.get_async() == 1
            await queue.put_async(2)
            assert queue.get() == 2

        run(work())

    def test_coroutines(self, queue):
        """Nothing happens before they are awaited."""
        queue.put(1)
        coroutine = queue.get_async()
        other = queue.put_async(2)
        assert drain(queue) == [1]
        for unused in (coroutine, other):
            with contextlib.suppress(AttributeError):
                unused.close()

    def test_errors(self, run, queue, interp, foreigner):
        async def work():
            with pytest.raises(atoll.NotShareableError):
                await queue.put_async(threading.Lock())
            with pytest.raises(NotImplementedError):
                await queue.put_async(1, unbounditems="UNBOUND")
            with pytest.raises(TypeError):
                await queue.put_async(1, True)
            with pytest.raises(TypeError):
                await queue.get_async(True)
            assert queue.empty()

        run(work())
        interp.prepare_main(queue=queue)
        queue.put(foreigner)
        interp.exec("""
            import asyncio, atoll
            async def work():
                try:
                    await queue.get_async()
                except atoll.QueueError as error:
                    return isinstance(error.__cause__, ImportError)
            assert asyncio.run(work())
            """)

    def test_unbound(self, run, queue):
        interp = new()
        interp.prepare_main(queue=queue)
        interp.exec("""
            import asyncio, atoll
            async def work():
                await queue.put_async(1)
                await queue.put_async(2, unbounditems=atoll.UNBOUND_ERROR)
                await queue.put_async(3, unbounditems=atoll.UNBOUND_REMOVE)
            asyncio.run(work())
            """)
        assert queue.qsize() == 3
        interp.close()

        async def work():
            assert await queue.get_async() is atoll.UNBOUND
            with pytest.raises(atoll.ItemInterpreterDestroyed):
                await queue.get_async()
            assert queue.empty()

        run(work())

    def test_without_a_loop(self, queue):
        """No loop, no waiting: an error, and nothing is taken."""
        with pytest.raises(RuntimeError):
            queue.get_async().send(None)
        queue.put(1)
        assert queue.get_nowait() == 1


class TestWaiting:
    def test_for_another_task(self, run, queue):
        async def work():
            task = asyncio.create_task(queue.get_async())
            await settle()
            assert not task.done()
            await queue.put_async("item")
            return await task

        assert run(work()) == "item"

    def test_for_a_thread(self, run, queue):
        async def work():
            task = asyncio.create_task(queue.get_async())
            await settle()
            thread = Thread(queue.put, "item")
            found = await task
            thread.result()
            return found

        assert run(work()) == "item"

    def test_for_an_interpreter(self, run, queue, interp):
        back = atoll.create_queue()
        interp.prepare_main(queue=queue, back=back)

        async def work():
            thread = Thread(interp.exec, "for item in queue: back.put(item + 1)")
            found = []
            for number in range(500):
                await queue.put_async(number)
                found.append(await back.get_async())
            queue.shutdown()
            thread.result()
            return found

        assert run(work()) == list(range(1, 501))

    def test_for_room(self, run):
        queue = atoll.create_queue(1)

        async def work():
            await queue.put_async(1)
            task = asyncio.create_task(queue.put_async(2))
            await settle()
            assert not task.done()
            assert queue.get_nowait() == 1
            await task
            assert queue.get_nowait() == 2

        run(work())

    def test_the_loop_goes_on(self, run, queue):
        """Other tasks run while one waits."""

        async def work():
            task = asyncio.create_task(queue.get_async())
            for _ in range(100):
                await asyncio.sleep(0)
            assert not task.done()
            queue.put(1)
            assert await task == 1

        run(work())

    def test_no_thread(self, run, queue):
        async def work():
            before = len(os.listdir("/proc/self/task"))
            tasks = [asyncio.create_task(queue.get_async()) for _ in range(20)]
            await settle()
            assert len(os.listdir("/proc/self/task")) == before
            queue.put_many(range(20))
            assert await asyncio.gather(*tasks) == list(range(20))

        run(work())

    def test_several_waiters(self, run, queue, interp):
        """Each item goes to one of them, in the order in which they came."""
        interp.prepare_main(queue=queue)

        async def work():
            tasks = [asyncio.create_task(queue.get_async()) for _ in range(10)]
            await settle()
            thread = Thread(interp.exec, "for number in range(10): queue.put(number)")
            found = await asyncio.gather(*tasks)
            thread.result()
            return found

        assert sorted(run(work())) == list(range(10))
        assert queue.empty()

    @pytest.mark.parametrize("put", [False, True])
    def test_first_come_first_served(self, run, put):
        queue = atoll.create_queue(1)
        served = []

        async def wait(number):
            await (queue.put_async(number) if put else queue.get_async())
            served.append(number)

        async def main():
            if put:
                queue.put(None)
            tasks = [asyncio.create_task(wait(number)) for number in range(8)]
            await asyncio.sleep(0)
            for number in range(8):
                if put:
                    queue.get()
                else:
                    queue.put(None)
                while len(served) == number:
                    await asyncio.sleep(0.001)
            await asyncio.gather(*tasks)

        run(main())
        assert served == list(range(8))

    def test_several_that_wait_for_room(self, run):
        queue = atoll.create_queue(2)

        async def work():
            tasks = [asyncio.create_task(queue.put_async(number)) for number in range(10)]
            found = [await queue.get_async() for _ in range(10)]
            await asyncio.gather(*tasks)
            return found

        assert sorted(run(work())) == list(range(10))

    def test_several_queues(self, run):
        queues = [atoll.create_queue() for _ in range(50)]

        async def work():
            tasks = [asyncio.create_task(queue.get_async()) for queue in queues]
            await settle()
            for number, queue in reversed(list(enumerate(queues))):
                queue.put(number)
            return await asyncio.gather(*tasks)

        assert run(work()) == list(range(50))

    def test_one_loop_after_another(self, run, queue):
        async def work():
            task = asyncio.create_task(queue.get_async())
            await settle()
            queue.put("item")
            return await task

        for _ in range(3):
            assert run(work()) == "item"

    def test_two_loops_in_two_threads(self, run, queue):
        async def work():
            return [await queue.get_async() for _ in range(200)]

        threads = [Thread(run, work()) for _ in range(2)]
        queue.put_many(range(400))
        assert sorted(threads[0].result() + threads[1].result()) == list(range(400))

    def test_loops_in_interpreters(self, queue):
        """Producers and consumers on loops of their own in several interpreters."""
        back, interps = atoll.create_queue(3), [new() for _ in range(3)]
        threads = []
        for interp in interps:
            interp.prepare_main(queue=queue, back=back)
            interp.exec("""
                import asyncio, atoll
                async def one():
                    while True:
                        try:
                            item = await queue.get_async()
                        except atoll.QueueShutDown:
                            return
                        await back.put_async(item * 2)
                async def work():
                    await asyncio.gather(*(one() for _ in range(4)))
                """)
            threads.append(Thread(interp.exec, "asyncio.run(work())"))
        queue.put_many(range(300))
        queue.shutdown()
        assert sorted(back.get(timeout=PATIENCE) for _ in range(300)) == list(range(0, 600, 2))
        for thread in threads:
            thread.result()


class TestShutdown:
    def test_before(self, run, queue):
        queue.put(1)
        queue.shutdown()

        async def work():
            assert await queue.get_async() == 1
            with pytest.raises(atoll.QueueShutDown):
                await queue.get_async()
            with pytest.raises(atoll.QueueShutDown):
                await queue.put_async(2)

        run(work())

    @pytest.mark.parametrize("immediate", [False, True])
    def test_while_they_wait(self, run, immediate):
        queue, full = atoll.create_queue(), atoll.create_queue(1)
        full.put("full")

        async def work():
            tasks = [asyncio.create_task(queue.get_async()) for _ in range(3)]
            tasks += [asyncio.create_task(full.put_async(1)) for _ in range(3)]
            await settle()
            Thread(queue.shutdown, immediate).result()
            Thread(full.shutdown, immediate).result()
            return await asyncio.gather(*tasks, return_exceptions=True)

        assert [type(error) for error in run(work())] == [atoll.QueueShutDown] * 6
        assert drain(full) == ([] if immediate else ["full"])


class TestCancelling:
    def test_takes_nothing(self, run, queue):
        async def work():
            task = asyncio.create_task(queue.get_async())
            await settle()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            queue.put("kept")
            await settle()
            assert drain(queue) == ["kept"]

        run(work())

    def test_puts_nothing(self, run):
        queue = atoll.create_queue(1)

        async def work():
            queue.put(1)
            task = asyncio.create_task(queue.put_async("not put"))
            await settle()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert queue.get_nowait() == 1
            await settle()
            assert queue.empty()

        run(work())

    def test_timeout(self, run, queue):
        async def work():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(queue.get_async(), 0.01)
            queue.put("kept")
            assert await queue.get_async() == "kept"

        run(work())

    def test_before_it_began(self, run, queue):
        async def work():
            queue.put("kept")
            task = asyncio.create_task(queue.get_async())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert drain(queue) == ["kept"]

        run(work())

    def test_just_as_the_item_comes(self, run, queue):
        """It is either returned or left in the queue."""

        async def work():
            for turn in range(10):
                task = asyncio.create_task(queue.get_async())
                await settle()
                queue.put(turn)
                for _ in range(turn % 4):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    assert await task == turn
                    assert queue.empty()
                except asyncio.CancelledError:
                    assert drain(queue) == [turn]

        run(work())

    def test_the_others_are_served(self, run, queue):
        """A waiter that was cancelled keeps no item, and no wake-up, from those behind it."""

        async def work():
            tasks = [asyncio.create_task(queue.get_async()) for _ in range(10)]
            await settle()
            queue.put("first")
            for task in tasks[::2]:
                task.cancel()
            done = await asyncio.gather(*tasks[::2], return_exceptions=True)
            taken = [item for item in done if not isinstance(item, BaseException)]
            rest = ["second", "third", "fourth", "fifth", "sixth"]
            queue.put_many(rest)
            found = [await task for task in tasks[1::2]]
            return sorted(taken + found + drain(queue)) == sorted(["first", *rest])

        assert run(work())

    def test_at_random(self, run, queue, interp):
        """Every item is delivered exactly once, whoever is cancelled meanwhile."""
        interp.prepare_main(queue=queue)
        order = random.Random(3)

        async def work():
            thread = Thread(interp.exec, "for number in range(1_000): queue.put(number)")
            found, tasks = [], set()
            while len(found) < 1_000:
                while len(tasks) < 8:
                    tasks.add(asyncio.create_task(queue.get_async()))
                if order.random() < 0.5:
                    order.choice(sorted(tasks, key=id)).cancel()
                done, tasks = await asyncio.wait(tasks, timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
                found += [task.result() for task in done if not task.cancelled()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            thread.result()
            return found

        assert sorted(run(work())) == list(range(1_000))
        assert queue.empty()

    def test_by_the_end_of_the_loop(self, run, queue):
        """A task that still waits when the loop ends takes nothing, and the queue works on the next loop."""

        async def leave():
            leave.task = asyncio.create_task(queue.get_async())
            await settle()

        run(leave())
        assert leave.task.cancelled()
        del leave.task
        queue.put("kept")

        async def work():
            return await queue.get_async()

        assert run(work()) == "kept"

    def test_nothing_is_kept(self, run):
        """A queue that was waited for in vain is freed with its last reference."""

        async def work():
            queue = atoll.create_queue()
            number = queue.id
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(queue.get_async(), 0.001)
            del queue
            await settle()
            with pytest.raises(atoll.QueueNotFoundError):
                atoll.Queue(number)

        run(work())


def test_after_the_loop_has_refused(queue):
    """One that could not watch the event at first is asked once more by who waits next."""

    class Loop(asyncio.SelectorEventLoop):
        refuses = False

        def add_reader(self, *args: Any) -> None:
            if self.refuses:
                raise OSError("no more memory")
            super().add_reader(*args)

    loop = Loop()

    async def work() -> int:
        loop.refuses = True
        with pytest.raises(OSError, match="no more memory"):
            await queue.get_async()
        loop.refuses = False
        task = asyncio.create_task(queue.get_async())
        await settle()
        queue.put(1)
        return await asyncio.wait_for(task, PATIENCE)

    with contextlib.closing(loop):
        assert loop.run_until_complete(work()) == 1


def test_only_who_waits_pays():
    """The event is looked after while somebody waits for it, or a Queue that was asked for it is there."""
    queue = atoll.create_queue()
    fd = queue._watch(False)
    queue._unwatch(False)

    def shown() -> bool:
        return select.select([fd], [], [], 0)[0] == [fd]

    async def wait_twice(queue: atoll.Queue) -> None:
        task = asyncio.create_task(queue.get_async())
        await asyncio.sleep(0)
        queue.put(1)
        assert await task == 1
        task = asyncio.create_task(queue.get_async())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(wait_twice(queue))
    queue.put(2)
    assert not shown()
    assert queue.fileno() == queue.fileno() == fd
    assert shown()
    queue.get()
    assert not shown()
    identity = queue.id
    keeper = atoll.create_queue()
    keeper.put(queue)
    del queue
    gc.collect()
    again = keeper.get()
    assert again.id == identity
    again.put(3)
    assert not shown()
    assert again.fileno() == fd
    assert shown()
