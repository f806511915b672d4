"""Queues and the workers of pools: what a worker has put outlives it, unless somebody says otherwise."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers

import pytest

import atoll


def put(queue, *items):
    for item in items:
        queue.put(item)


def put_many(queue, *items):
    queue.put_many(items)


def put_nowait(queue, *items):
    for item in items:
        queue.put_nowait(item, unbounditems=None)


def put_async(queue, *items):
    async def run():
        for item in items:
            await queue.put_async(item)

    asyncio.run(run())


def put_marked(queue, item, name):
    queue.put(item, unbounditems=getattr(atoll, name))


def add_handler(queue):
    logging.getLogger().addHandler(logging.handlers.QueueHandler(queue))


def log(number):
    logging.getLogger("work").warning("record %d", number)


def drain(queue):
    items = []
    while not queue.empty():
        items.append(queue.get_nowait())
    return items


ITEMS = (1, "text", b"x" * 100_000, [bytes([7]) * 70_000, {"a": (1, 2)}], b"y" * 1_000)


@pytest.mark.parametrize("how", [put, put_many, put_nowait, put_async])
@pytest.mark.parametrize("most", [None, 1])
@pytest.mark.parametrize("spares", [False, True])
def test_items_outlive_the_worker(how, most, spares):
    queue = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1, max_tasks_per_child=most, use_spares=spares) as pool:
        for _ in range(2):
            pool.submit(how, queue, *ITEMS).result()
    assert len(atoll.list_all()) == 1, "large items lend nothing of the worker's"
    assert drain(queue) == list(ITEMS) * 2
    assert queue.unbounditems is atoll.UNBOUND


def test_items_outlive_a_pool_that_is_dropped():
    queue = atoll.create_queue()
    pool = atoll.InterpreterPoolExecutor(1)
    pool.submit(put, queue, *ITEMS).result()
    pool.shutdown(wait=True, cancel_futures=True)
    assert drain(queue) == list(ITEMS)


def test_a_queue_that_says_otherwise():
    for name, expected in (("UNBOUND", [atoll.UNBOUND] * 2), ("UNBOUND_REMOVE", [])):
        queue = atoll.create_queue(unbounditems=getattr(atoll, name))
        with atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(put, queue, 1, b"x" * 100_000).result()
        assert drain(queue) == expected
    queue = atoll.create_queue(unbounditems=atoll.UNBOUND_ERROR)
    with atoll.InterpreterPoolExecutor(1) as pool:
        pool.submit(put, queue, 1).result()
    with pytest.raises(atoll.ItemInterpreterDestroyed):
        queue.get_nowait()


def test_a_put_that_says_otherwise():
    queue = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1) as pool:
        pool.submit(put, queue, 1).result()
        pool.submit(put_marked, queue, 2, "UNBOUND").result()
        pool.submit(put_marked, queue, 3, "UNBOUND_REMOVE").result()
    assert drain(queue) == [1, atoll.UNBOUND]


def test_an_interpreter_that_is_nobodys_pool():
    queue = atoll.create_queue()
    interp = atoll.create()
    interp.call(put, queue, 1)
    interp.submit(put, queue, 2).result()
    interp.close()
    assert drain(queue) == [atoll.UNBOUND] * 2


@pytest.mark.parametrize("most", [None, 3])
def test_log_records(most):
    queue = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(
        2, initializer=add_handler, initargs=(queue,), max_tasks_per_child=most
    ) as pool:
        list(pool.map(log, range(50)))
    records = drain(queue)
    assert all(isinstance(record, logging.LogRecord) for record in records)
    assert sorted(record.getMessage() for record in records) == sorted(f"record {n}" for n in range(50))
