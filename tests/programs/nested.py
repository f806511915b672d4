"""Nested pools, a class-based worker with state, initializer per worker, sqlite per worker, threading in a worker."""

import os
import pathlib
import sqlite3
import tempfile
import threading

import atoll

_local: "Store | None" = None


class Store:
    def __init__(self, path):
        self.db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("create table if not exists t(k integer primary key, v text)")

    def put(self, k, v):
        self.db.execute("insert or replace into t values(?, ?)", (k, v))
        return k


def init(path):
    global _local
    _local = Store(path)


def save(k):
    assert _local is not None
    return _local.put(k, f"v{k}")


def inner(x):
    return x * x


def outer(n):
    with atoll.InterpreterPoolExecutor(2) as pool:
        return sum(pool.map(inner, range(n)))


def with_threads(n):
    out = []
    ts = [threading.Thread(target=lambda i=i: out.append(i * i)) for i in range(n)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    return sorted(out)


def nested_interp(n):
    with atoll.create() as i:
        return i.call(inner, n)


with tempfile.TemporaryDirectory() as tmp:
    path = pathlib.Path(tmp) / "x.db"
    Store(path)
    with atoll.InterpreterPoolExecutor(2, initializer=init, initargs=(path,)) as pool:
        print(sum(pool.map(save, range(500))))
    print(sqlite3.connect(path).execute("select count(*) from t").fetchone())
with atoll.InterpreterPoolExecutor(2) as pool:
    print(list(pool.map(outer, [10, 20, 30])))
    print(pool.submit(with_threads, 5).result(), pool.submit(nested_interp, 7).result())
    f = pool.submit(pool.submit, inner, 3)
    try:
        print(f.result())
    except Exception as e:
        print(type(e).__name__, e)


def bad_init():
    raise OSError("no license")


try:
    with atoll.InterpreterPoolExecutor(2, initializer=bad_init) as pool:
        pool.submit(inner, 3).result()
except Exception as e:
    print(type(e), e)
