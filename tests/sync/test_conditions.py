"""Condition, Event, Semaphore and Barrier between interpreters."""

from __future__ import annotations

import gc
import signal
import threading
import time
import weakref

import pytest

import atoll
from helpers import Thread, new, run_python


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# Conditions


def wait_for_items(condition, items, out):
    with condition:
        condition.wait_for(lambda: items.load() > 0)
        items.sub()
    out.put("got")


@pytest.mark.parametrize("kind", [atoll.Lock, atoll.RLock, lambda: None])
def test_condition_notifies_other_interpreters(kind):
    condition = atoll.Condition(kind())
    items = atoll.AtomicInt()
    out = atoll.create_queue()
    with new() as one, new() as two:
        threads = [interp.call_in_thread(wait_for_items, condition, items, out) for interp in (one, two)]
        for _ in range(2):
            with condition:
                items.add()
                condition.notify()
            assert out.get(timeout=60) == "got"
        for thread in threads:
            thread.join(60)


def test_condition_crosses_with_its_lock():
    lock = atoll.Lock()
    condition = atoll.Condition(lock)
    with new() as interp:
        back, same = interp.call(
            lambda condition, lock: (condition, condition.acquire(False) and lock.locked()), condition, lock
        )
        assert back is condition
        assert same
        assert lock.locked()
        lock.release()


def test_condition_of_a_reentrant_lock_gives_all_of_it_back():
    condition = atoll.Condition()
    with new() as interp:

        def notify(condition):
            with condition:
                condition.notify_all()

        with condition, condition:
            thread = interp.call_in_thread(notify, condition)
            assert condition.wait(60)
            thread.join(60)
        assert not condition.locked()


def test_waiters_of_a_closed_interpreter_eat_no_notification():
    condition = atoll.Condition()
    entered = atoll.AtomicInt()
    woken = []
    script = """
import threading
def wait():
    with condition:
        entered.add()
        condition.wait()
threading.Thread(target=wait, daemon=True).start()
"""

    def wait():
        with condition:
            entered.add()
            woken.append(condition.wait(60))

    with new() as interp:
        interp.prepare_main(condition=condition, entered=entered)
        interp.exec(script)
        until(lambda: entered.load() == 1)
        with condition:
            pass  # it waits: it has given the lock back
    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: entered.load() == 2)
    with condition:
        condition.notify(1)
    thread.join(60)
    assert woken == [True]


def test_condition_wait_whose_lock_was_lost():
    condition = atoll.Condition(atoll.Lock())
    ready = atoll.Event()
    out = []

    def wait():
        try:
            with condition:
                ready.set()
                condition.wait()
        except atoll.LockOwnerLost:
            out.append("lost")

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait(60)
    with new() as interp:
        interp.call(lambda condition: condition.acquire() and condition.notify_all(), condition)
    thread.join(60)
    assert out == ["lost"]
    assert condition.acquire(False)


@pytest.mark.parametrize("kind", [atoll.Lock, atoll.RLock])
def test_who_waits_without_the_lock_does_not_give_it_back(kind):
    lock = kind()
    condition = atoll.Condition(lock)
    entered = atoll.Event()
    script = """
import threading
def wait():
    with lock:
        entered.set()
        condition.wait()
threading.Thread(target=wait, daemon=True).start()
"""
    with new() as interp:
        interp.prepare_main(lock=lock, condition=condition, entered=entered)
        interp.exec(script)
        entered.wait(60)
        assert lock.acquire(timeout=60)
    assert lock.locked()  # its thread was interrupted, and could not take it again
    lock.release()


@pytest.mark.parametrize("kind", [atoll.Lock, atoll.RLock])
def test_wait_with_a_lost_lock_says_so(kind):
    lock = kind()
    condition = atoll.Condition(lock)
    raised = []

    def take(condition):
        condition.acquire()
        condition.notify_all()

    def wait():
        try:
            with lock:
                ready.set()
                condition.wait()
        except BaseException as e:
            raised.append(type(e))
        lock.acquire()
        try:
            ready.set()
            condition.wait()
        except atoll.LockOwnerLost:
            with pytest.raises(RuntimeError, match="could not take again"):
                lock.release()

    ready = atoll.Event()
    thread = threading.Thread(target=wait)
    thread.start()
    for _ in range(2):
        ready.wait(60)
        ready.clear()
        with new() as interp:
            interp.call(take, condition)
    thread.join(60)
    assert raised == [atoll.LockOwnerLost]
    assert lock.acquire(False)


def test_a_new_lock_is_not_taken_for_one_that_was_lost():
    """It may have the same address."""

    def lose():
        condition = atoll.Condition(atoll.Lock())

        def take(condition):
            condition.acquire()
            condition.notify()

        def close():
            with new() as interp:
                interp.call(take, condition)

        condition.acquire()
        thread = threading.Thread(target=close)
        thread.start()
        with pytest.raises(atoll.LockOwnerLost):
            condition.wait()  # and is not given back
        thread.join()

    lose()
    for lock in [atoll.Lock() for _ in range(20)]:
        thread = threading.Thread(target=lock.acquire)
        thread.start()
        thread.join()
        lock.release()


@pytest.mark.parametrize("what", ["Condition", "Barrier"])
def test_an_object_that_goes_is_not_found_again(what):
    queue = atoll.create_queue()
    found = []

    class Action:
        def __call__(self):
            pass

        def __reduce__(self):
            return int, ()

        def __del__(self):
            found.append(queue.get_nowait())

    lock = atoll.Lock()
    thing = atoll.Condition(lock) if what == "Condition" else atoll.Barrier(1, Action())
    queue.put(thing)
    if what == "Condition":
        thing.locked()  # it has its lock's object from now on
    watched = weakref.ref(lock, lambda _: found.append(queue.get_nowait()) if what == "Condition" else None)
    del lock, thing
    gc.collect()
    assert [type(one).__name__ for one in found] == [what], watched
    assert found.pop().__class__.__name__ == what
    gc.collect()


def test_condition_refuses():
    condition = atoll.Condition()
    with pytest.raises(RuntimeError, match="cannot wait on un-acquired lock"):
        condition.wait(1)
    with pytest.raises(RuntimeError, match="cannot notify on un-acquired lock"):
        condition.notify()
    with pytest.raises(TypeError, match=r"atoll\.Lock or an atoll\.RLock, not .*lock"):
        atoll.Condition(threading.Lock())
    with condition:
        assert condition.wait(0) is False
        assert condition.wait(-1) is False
        assert condition.wait_for(lambda: 0, 0.001) == 0
        assert condition.wait_for(lambda: "yes") == "yes"
        with pytest.raises(ZeroDivisionError):
            condition.wait_for(lambda: 1 / 0)
        condition.notify(0)
        condition.notify(10**30)


# Events


def test_event_reaches_all():
    event, ready = atoll.Event(), atoll.AtomicInt()
    out = atoll.create_queue()

    def wait(event, ready, out):
        ready.add()
        out.put(event.wait(60))

    with new() as one, new() as two:
        threads = [interp.call_in_thread(wait, event, ready, out) for interp in (one, two, one)]
        until(lambda: ready.load() == 3)
        event.set()
        assert [out.get(timeout=60) for _ in range(3)] == [True] * 3
        for thread in threads:
            thread.join(60)
        assert one.call(lambda event: event.is_set(), event)
        one.call(lambda event: event.clear(), event)
        assert not event.is_set()
        assert event.wait(0.001) is False
        assert event.wait(0) is False


# Semaphores


def test_semaphore_is_shared():
    semaphore = atoll.Semaphore(2)
    with new() as interp:
        assert interp.call(lambda semaphore: semaphore.acquire(False), semaphore)
        assert semaphore.acquire(False)
        assert not interp.call(lambda semaphore: semaphore.acquire(timeout=0.001), semaphore)
        thread = interp.call_in_thread(lambda semaphore: semaphore.acquire(), semaphore)
        semaphore.release(2)
        thread.join(60)
        assert repr(semaphore).endswith("value=1>")
        with semaphore:
            assert not semaphore.acquire(False)


def test_semaphore_refuses():
    with pytest.raises(ValueError, match=">= 0"):
        atoll.Semaphore(-1)
    with pytest.raises(ValueError, match="one or more"):
        atoll.Semaphore().release(0)
    with pytest.raises(ValueError, match="too many times"):
        atoll.BoundedSemaphore(1).release()
    with pytest.raises(ValueError, match="non-blocking"):
        atoll.Semaphore().acquire(False, 1)
    with pytest.raises(OverflowError):
        atoll.Semaphore(2**63 - 1).release()


# Barriers


def meet(barrier, rounds):
    return sorted(barrier.wait(60) for _ in range(rounds))


def test_barrier_between_interpreters():
    barrier = atoll.Barrier(3)
    with new() as one, new() as two:
        out = atoll.create_queue()
        threads = [
            interp.call_in_thread(
                lambda barrier, out: out.put([barrier.wait(60) for _ in range(50)]), barrier, out
            )
            for interp in (one, two)
        ]
        results = [[barrier.wait(60) for _ in range(50)], out.get(timeout=60), out.get(timeout=60)]
        assert all(sorted(places) == [0, 1, 2] for places in zip(*results, strict=True))
        for thread in threads:
            thread.join(60)
        assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


def test_barrier_action_runs_where_the_last_party_is():
    calls = atoll.create_queue()

    def action():
        calls.put(atoll.get_current().id)

    barrier = atoll.Barrier(2, action, 60)
    with new() as interp:
        interp.call(lambda barrier: None, barrier)
        thread = interp.call_in_thread(lambda barrier: barrier.wait(), barrier)
        until(lambda: barrier.n_waiting == 1)
        barrier.wait()
        assert calls.get(timeout=60) == 0
        thread.join(60)
        thread = threading.Thread(target=barrier.wait)
        thread.start()
        until(lambda: barrier.n_waiting == 1)
        interp.call(lambda barrier: barrier.wait(), barrier)
        assert calls.get(timeout=60) == interp.id
        thread.join(60)


def test_barrier_action_that_fails_breaks_it():
    barrier = atoll.Barrier(1, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken


def test_barrier_whose_action_cannot_cross():
    lock = threading.Lock()
    with new() as interp:
        with pytest.raises(atoll.NotShareableError, match="action"):
            interp.call(len, atoll.Barrier(2, lambda: lock))
        barrier = None
        barrier = atoll.Barrier(2, lambda: barrier)
        with pytest.raises(atoll.NotShareableError, match="refers to the Barrier itself"):
            interp.call(len, barrier)


def test_barrier_that_others_pass_often_while_a_handler_runs():
    """Who was away for long finds that its own parties were all there."""
    barrier = atoll.Barrier(2)
    main = threading.get_ident()
    begin, passed = threading.Event(), threading.Event()

    def first():
        while barrier.n_waiting == 0:
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGUSR1)
        begin.wait()
        barrier.wait()
        passed.set()

    def others():
        passed.wait()
        for _ in range(100):
            barrier.wait()

    threads = [Thread(first), Thread(others), Thread(others)]

    def handle(*_):
        begin.set()
        for thread in threads:
            thread.join()

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        barrier.wait()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not barrier.broken


class MadeOnTheWay:
    """An action that waits at its barrier while it is received, and then cannot be."""

    def __call__(self):
        pass

    def __reduce__(self):
        def make():
            import builtins

            builtins.times += 1
            if builtins.times == 1:
                assert builtins.barrier.wait() == 0
                raise ValueError("the outer one")
            return lambda: None

        return make, ()


def test_barrier_whose_action_cannot_be_received():
    """What receiving it raises is raised, also where that has been done meanwhile."""

    def use(barrier):
        import builtins

        builtins.times, builtins.barrier = 0, barrier
        try:
            barrier.wait()
        except ValueError as error:
            return str(error), builtins.times, barrier.broken, barrier.wait()

    with new() as interp:
        assert interp.call(use, atoll.Barrier(1, MadeOnTheWay())) == ("the outer one", 2, False, 0)


def test_barrier_breaks_when_a_waiting_interpreter_is_closed():
    barrier = atoll.Barrier(3)
    broken = []

    def wait():
        try:
            barrier.wait()
        except threading.BrokenBarrierError:
            broken.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    with new() as interp:
        interp.prepare_main(barrier=barrier)
        interp.exec("import threading; threading.Thread(target=barrier.wait, daemon=True).start()")
        until(lambda: barrier.n_waiting == 2)
    thread.join(60)
    assert broken == [True]
    assert barrier.broken


def test_barrier_timeouts():
    barrier = atoll.Barrier(2, timeout=0.01)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    with new() as interp, pytest.raises(atoll.ExecutionFailed, match="BrokenBarrierError"):
        interp.call(lambda barrier: barrier.wait(), barrier)
    with pytest.raises(ValueError, match="parties must be >= 1"):
        atoll.Barrier(0)
    with pytest.raises(TypeError, match="action must be callable"):
        atoll.Barrier(1, 5)


def test_pool_task_that_is_interrupted_breaks_a_barrier():
    barrier = atoll.Barrier(2)
    with atoll.InterpreterPoolExecutor(1, task_timeout=1) as pool:
        with pytest.raises(TimeoutError):
            pool.submit(barrier.wait).result(60)
    assert barrier.broken


def test_an_action_cannot_wait_at_its_own_barrier():
    met = []

    def act():
        try:
            met[0].wait()
        except threading.BrokenBarrierError as exc:
            met.append(exc)

    barrier = atoll.Barrier(1, action=act)
    met.append(barrier)
    assert barrier.wait() == 0
    assert len(met) == 2
    assert barrier.wait() == 0 and not barrier.broken
    careless = atoll.Barrier(1, action=lambda: met[0].wait())
    met[0] = careless
    with pytest.raises(threading.BrokenBarrierError):
        careless.wait()
    assert careless.broken
    met.clear()


def test_barrier_that_two_threads_send_at_once():
    """Only an action that refers to its barrier is refused, not one that somebody else is sending."""
    inside, go_on = threading.Event(), threading.Event()

    class Action:
        def __call__(self):
            pass

        def __reduce__(self):
            inside.set()
            go_on.wait()
            return (print, ())

    barrier, queue = atoll.Barrier(2, Action()), atoll.create_queue()
    first = Thread(queue.put, barrier)
    inside.wait()
    inside.clear()
    second = Thread(queue.put, barrier)
    inside.wait()
    go_on.set()
    first.result()
    second.result()
    assert queue.get() is queue.get() is barrier


def test_an_exception_stays_known_when_the_lock_was_lost():
    """wait() is interrupted, and then cannot take the lock again: that is raised, in the context of the other."""
    done = run_python("""
        import atoll, signal, threading
        lock = atoll.Lock()
        condition = atoll.Condition(lock)
        interp = atoll.create()
        def interrupt(*_):
            interp.call(lock.acquire)
            threading.Timer(0.2, interp.close).start()
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with condition:
            try:
                condition.wait()
            except atoll.LockOwnerLost as error:
                print(type(error.__context__).__name__)
                raise
        """)
    assert done.stdout == "KeyboardInterrupt\n", done
    assert "LockOwnerLost" in done.stderr
