"""CPython's own tests of threading's locks, with Atoll's."""

from __future__ import annotations

import pytest

import atoll

lock_tests = pytest.importorskip("test.lock_tests", reason="this Python comes without its tests")


class TestLock(lock_tests.LockTests):
    locktype = staticmethod(atoll.Lock)
    test_at_fork_reinit = None  # a private method


class TestRLock(lock_tests.RLockTests):
    locktype = staticmethod(atoll.RLock)


class TestEvent(lock_tests.EventTests):
    eventtype = staticmethod(atoll.Event)
    test_at_fork_reinit = None
    test_reset_internal_locks = None


class TestCondition(lock_tests.ConditionTests):
    condtype = staticmethod(atoll.Condition)
    test_acquire = None  # with a lock of threading's, which a condition between interpreters refuses


class TestSemaphore(lock_tests.SemaphoreTests):
    semtype = staticmethod(atoll.Semaphore)


class TestBoundedSemaphore(lock_tests.BoundedSemaphoreTests):
    semtype = staticmethod(atoll.BoundedSemaphore)


class TestBarrier(lock_tests.BarrierTests):
    barriertype = staticmethod(atoll.Barrier)
