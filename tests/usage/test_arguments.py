"""What is said of a wrong argument: its name, and what it is."""

from __future__ import annotations

import pytest

import atoll

INTEGERS = {
    "maxsize": atoll.create_queue,
    "parties": atoll.Barrier,
    "value": atoll.Semaphore,
    "n": lambda number: atoll.Semaphore().release(number),
    "max_bytes": atoll.SharedDict,
    "most": lambda number: atoll.create_queue().get_many(number),
    "max_events": lambda number: atoll.trace("unused", max_events=number),
    "count": atoll.prewarm,
}


def notify(number):
    condition = atoll.Condition()
    with condition:
        condition.notify(number)


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name):
    function = INTEGERS[name]
    for wrong in ("x", None, 1.5, []):
        if wrong is None and name in ("most", "max_bytes"):
            continue  # no limit
        with pytest.raises(TypeError, match=rf"^{name} must be an int, not {type(wrong).__name__}$"):
            function(wrong)
    with pytest.raises(OverflowError, match=rf"^{name} must fit into 64 bits, got 1000000"):
        function(10**30)


@pytest.mark.parametrize(
    ("function", "arguments", "kind", "message"),
    [
        (atoll.Barrier, (0,), ValueError, "parties must be >= 1, got 0"),
        (atoll.Semaphore, (-1,), ValueError, "semaphore initial value must be >= 0, got -1"),
        (atoll.BoundedSemaphore, ("x",), TypeError, "value must be an int, not str"),
        (atoll.Semaphore().release, (0,), ValueError, "n must be one or more, got 0"),
        (atoll.prewarm, (-1,), ValueError, "count must not be negative, got -1"),
        (atoll.prewarm, (2**31,), OverflowError, "count must fit into 31 bits, got 2147483648"),
        (atoll.AtomicInt, ("x",), TypeError, "value must be an int, not str"),
        (atoll.AtomicInt().add, (1.5,), TypeError, "n must be an int, not float"),
        (atoll.AtomicInt().fetch_sub, (None,), TypeError, "n must be an int, not NoneType"),
        (atoll.AtomicInt().store, ([],), TypeError, "value must be an int, not list"),
        (atoll.AtomicInt().compare_exchange, ("x", 1), TypeError, "expected must be an int, not str"),
        (atoll.AtomicInt().wait, ("x",), TypeError, "expected must be an int, not str"),
        (notify, ("x",), TypeError, "n must be an int, not str"),
        (atoll.SharedDict().add, ("k", 1.5), TypeError, "n must be an int, not float"),
        (atoll.Lock().acquire, (True, "x"), TypeError, "timeout must be a number of seconds, not str"),
        (atoll.create_queue().put_many, (5,), TypeError, "iterable must be iterable, not int"),
        (atoll.select, (5,), TypeError, "queues must be iterable, not int"),
        (atoll.timeout, (5, 1), TypeError, "interp must be an Interpreter, not int"),
        (
            atoll.timeout,
            (atoll.get_main(), "x"),
            TypeError,
            "seconds must be a number of seconds or None, not str",
        ),
        (atoll.trace, (5,), TypeError, "path must be a str, bytes or os.PathLike object, not int"),
        (atoll.share, (5,), TypeError, "obj must have memory that can be shared, not be of type int"),
    ],
)
def test_functions(function, arguments, kind, message):
    with pytest.raises(kind) as caught:
        function(*arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("option", "wrong", "kind", "message"),
    [
        ("max_workers", 0, ValueError, "max_workers must be greater than 0, not 0"),
        ("max_workers", 10_001, ValueError, "max_workers must be at least 1 and at most 10000, not 10001"),
        ("initializer", 5, TypeError, "initializer must be a callable, not int"),
        ("initargs", 5, TypeError, "initargs must be iterable, not int"),
        ("max_tasks_per_child", 0, ValueError, "max_tasks_per_child must be >= 1, not 0"),
        ("task_timeout", -1.5, ValueError, "task_timeout must be greater than 0, not -1.5"),
        ("inner_threads", 0, ValueError, "inner_threads must be greater than 0, not 0"),
    ],
)
def test_pools(option, wrong, kind, message):
    with pytest.raises(kind) as caught:
        atoll.InterpreterPoolExecutor(**{option: wrong})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("option", "wrong", "kind", "message"),
    [
        ("chunksize", "x", TypeError, "chunksize must be an integer or None, not str"),
        ("chunksize", 0, ValueError, "chunksize must be >= 1, not 0"),
        ("buffersize", 1.5, TypeError, "buffersize must be an integer or None, not float"),
        ("buffersize", 0, ValueError, "buffersize must be None or > 0, not 0"),
    ],
)
def test_map(option, wrong, kind, message):
    with atoll.InterpreterPoolExecutor(1) as pool, pytest.raises(kind) as caught:
        pool.map(abs, [], **{option: wrong})
    assert str(caught.value) == message
