"""Lock and RLock between interpreters."""

from __future__ import annotations

import gc
import threading
import time

import pytest

import atoll
from helpers import new

BOTH = pytest.mark.parametrize("kind", [atoll.Lock, atoll.RLock])


def take(lock):
    return lock.acquire(timeout=60)


def try_once(lock):
    return lock.acquire(False)


def count_up(lock, counter, times):
    for _ in range(times):
        with lock:
            counter.store(counter.load() + 1)


@BOTH
def test_is_the_same_object_wherever_it_comes_back(kind):
    lock = kind()
    with new() as interp:
        assert interp.call(lambda lock: lock, lock) is lock
        assert interp.call(lambda one, two: one is two and hash(one) == hash(two), lock, [lock][0])
        assert atoll.is_shareable(lock)
        interp.prepare_main(lock=lock)
        interp.exec("lock.acquire()")
        assert lock.locked()
        interp.exec("lock.release()")
        assert not lock.locked()
    queue = atoll.create_queue()
    queue.put({"lock": lock})
    assert queue.get()["lock"] is lock


@BOTH
def test_only_one_at_a_time(kind):
    lock = kind()
    counter = atoll.AtomicInt()
    with new() as one, new() as two:
        threads = [interp.call_in_thread(count_up, lock, counter, 2000) for interp in (one, two)]
        count_up(lock, counter, 2000)
        for thread in threads:
            thread.join(60)
        assert counter.load() == 6000
        assert not lock.locked()


@BOTH
def test_holder_that_is_closed_is_told_once(kind):
    lock = kind()
    with new() as interp:
        assert interp.call(take, lock)
        number = interp.id
    with pytest.raises(atoll.LockOwnerLost, match=rf"interpreter {number} .*{kind.__name__}"):
        lock.acquire()
    assert not lock.locked()
    with lock:
        pass


@BOTH
def test_waiter_of_a_holder_that_is_closed_is_told(kind):
    lock = kind()
    caught = []

    def wait():
        try:
            lock.acquire()
            lock.release()
        except atoll.LockOwnerLost as error:
            caught.append(error)
        with lock:
            caught.append("taken")

    with new() as interp:
        assert interp.call_in_thread(take, lock).join(60) is None
        threads = [threading.Thread(target=wait) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join(60)
    assert [type(one) for one in caught if one != "taken"] == [atoll.LockOwnerLost]
    assert caught.count("taken") == 2


@BOTH
def test_lost_lock_is_told_to_other_interpreters_and_without_waiting(kind):
    lock = kind()
    with new() as other:
        with new() as interp:
            interp.call(take, lock)
        with pytest.raises(atoll.ExecutionFailed, match="LockOwnerLost"):
            other.call(try_once, lock)
        assert other.call(try_once, lock)


def test_pool_worker_that_is_told_says_so_as_itself():
    lock = atoll.Lock()
    with new() as interp:
        interp.call(take, lock)
    with atoll.InterpreterPoolExecutor(1) as pool, pytest.raises(atoll.LockOwnerLost):
        pool.submit(try_once, lock).result(60)


def test_lost_lock_that_is_released_is_free():
    lock = atoll.Lock()
    with new() as interp:
        interp.call(take, lock)
    lock.release()
    assert lock.acquire(False)


def test_lock_is_given_back_by_anybody():
    lock = atoll.Lock()
    with new() as interp:
        interp.call(take, lock)
        lock.release()
        assert not lock.locked()
        lock.acquire()
        interp.call(lambda lock: lock.release(), lock)
        assert not lock.locked()
        with pytest.raises(RuntimeError, match="release unlocked lock"):
            lock.release()
        lock.acquire()
    assert lock.locked(), "closing another interpreter leaves it alone"


def test_rlock_belongs_to_the_thread_in_whatever_interpreter():
    lock = atoll.RLock()
    with new() as interp:
        with lock:
            assert interp.call(try_once, lock), "the same thread, one call deeper"
            interp.call(lambda lock: lock.release(), lock)
            assert interp.call(lambda lock: lock._is_owned(), lock)
            thread = interp.call_in_thread(
                lambda lock, out: out.put(lock.acquire(False)), lock, queue := atoll.create_queue()
            )
            assert queue.get(timeout=60) is False
            thread.join(60)
            thread = threading.Thread(
                target=lambda: queue.put(pytest.raises(RuntimeError, lock.release) and "refused")
            )
            thread.start()
            thread.join(60)
            assert queue.get(timeout=60) == "refused"
        assert not lock.locked()


def test_works_in_a_threading_condition():
    condition = threading.Condition(atoll.RLock())
    with condition, condition:
        assert not condition.wait(0.001)
        assert condition._is_owned()
    assert not condition._is_owned()


def test_nobody_starves():
    """A thread that waits gets the lock although another one takes it again at once."""
    lock = atoll.Lock()
    stop = atoll.Event()

    def hog(lock, stop):
        while not stop.is_set():
            with lock:
                for _ in range(100):
                    pass

    with new() as interp:
        thread = interp.call_in_thread(hog, lock, stop)
        for _ in range(50):
            assert lock.acquire(timeout=60)
            lock.release()
        stop.set()
        thread.join(60)


def test_timeouts_and_arguments():
    lock = atoll.Lock()
    lock.acquire()
    assert lock.acquire(timeout=0.001) is False
    assert lock.acquire(True, 0) is False
    with pytest.raises(ValueError, match="non-blocking"):
        lock.acquire(False, 1)
    with pytest.raises(ValueError, match="-5"):
        lock.acquire(timeout=-5)
    with pytest.raises(ValueError, match="nan"):
        lock.acquire(timeout=float("nan"))
    with pytest.raises(OverflowError):
        lock.acquire(timeout=1e100)
    with pytest.raises(TypeError):
        lock.acquire(timeout="soon")
    with pytest.raises(TypeError, match="Lock"):
        atoll.Lock(1)
    with pytest.raises(TypeError, match="pickle"):
        lock.__reduce_ex__(2)


@BOTH
def test_freed_with_its_last_object_or_message(kind):
    lock = kind()
    queue = atoll.create_queue()
    queue.put(lock)
    lock.acquire()
    del lock
    gc.collect()
    assert queue.get().locked(), "the message kept it"


def test_pool_task_that_waits_too_long_is_interrupted():
    lock = atoll.Lock()
    with lock, atoll.InterpreterPoolExecutor(1, task_timeout=0.2) as pool:
        with pytest.raises(TimeoutError):
            pool.submit(lock.acquire).result(60)
        assert lock.locked()
    assert lock.acquire(timeout=60)


def test_interpreter_whose_daemon_thread_waits_is_closed():
    lock = atoll.Lock()
    script = """
import threading
threading.Thread(target=lock.acquire, daemon=True).start()
"""
    with lock:
        with new() as interp:
            interp.prepare_main(lock=lock)
            interp.exec(script)
        assert len(atoll.list_all()) == 1
    with lock:
        pass


def test_what_arguments_raise_is_raised():
    class Wrong:
        def __bool__(self):
            raise ZeroDivisionError

    class Fine:
        def __float__(self):
            return 0.01

    for lock in (atoll.Lock(), atoll.RLock(), atoll.Condition(), atoll.Semaphore(0)):
        with pytest.raises(ZeroDivisionError):
            lock.acquire(Wrong(), Fine())
