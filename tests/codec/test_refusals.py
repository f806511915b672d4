"""What cannot cross is named by its path, its type, and what to do about it; no inner part of a library is."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import functools
import io
import logging
import mmap
import multiprocessing
import os
import pickle
import queue
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import types
import weakref
import zipfile

import pytest

import atoll
from atoll import _atoll


class Holder:
    def __init__(self, thing):
        self.thing = thing

    def work(self, x=None):
        return x


@dataclasses.dataclass
class Data:
    thing: object


class OwnPool(concurrent.futures.ThreadPoolExecutor):
    pass


class OwnThread(threading.Thread):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


async def coroutine():
    return 1


async def async_generator():
    yield 1


def weak():
    holder = Holder(1)
    keep.append(holder)
    return weakref.ref(holder)


def traceback():
    try:
        raise ValueError
    except ValueError as error:
        return error.__traceback__


keep: list[object] = []

THINGS = {
    "lock": (threading.Lock, "_thread.lock", r"atoll\.Lock"),
    "rlock": (threading.RLock, "_thread.RLock", r"atoll\.RLock"),
    "event": (threading.Event, "threading.Event", r"atoll\.Event"),
    "condition": (threading.Condition, "threading.Condition", r"atoll\.Condition"),
    "semaphore": (threading.BoundedSemaphore, "threading.BoundedSemaphore", r"atoll\.Semaphore"),
    "barrier": (lambda: threading.Barrier(2), "threading.Barrier", r"atoll\.Barrier"),
    "queue": (queue.Queue, "queue.Queue", r"atoll\.create_queue"),
    "simple queue": (queue.SimpleQueue, "_queue.SimpleQueue", r"atoll\.create_queue"),
    "pool": (lambda: atoll.InterpreterPoolExecutor(1), "atoll.InterpreterPoolExecutor", "a pool stays"),
    "threads": (
        lambda: concurrent.futures.ThreadPoolExecutor(1),
        "concurrent.futures.thread.ThreadPoolExecutor",
        "a pool stays",
    ),
    "own pool": (lambda: OwnPool(1), "test_refusals.OwnPool", "a pool stays"),
    "future": (concurrent.futures.Future, "concurrent.futures._base.Future", "send its result"),
    "thread": (threading.Thread, "threading.Thread", "call_in_thread"),
    "own thread": (OwnThread, "test_refusals.OwnThread", "call_in_thread"),
    "thread local": (threading.local, "_thread._local", "make it there"),
    "file": (lambda: open(os.devnull), "_io.TextIOWrapper", "by its name"),
    "binary file": (lambda: open(os.devnull, "rb"), "_io.BufferedReader", "by its name"),
    "raw file": (lambda: io.FileIO(os.devnull), "_io.FileIO", "by its name"),
    "temporary file": (tempfile.NamedTemporaryFile, "tempfile._TemporaryFileWrapper", "by its name"),
    "archive": (lambda: zipfile.ZipFile(io.BytesIO(), "w"), "zipfile.ZipFile", "by its name"),
    "mmap": (lambda: mmap.mmap(-1, 100), "mmap.mmap", "memoryview"),
    "socket": (socket.socket, "socket.socket", "fileno="),
    "process": (lambda: subprocess.Popen([sys.executable, "-c", ""]), "subprocess.Popen", "pid"),
    "processes' lock": (multiprocessing.Lock, "multiprocessing.synchronize.Lock", r"atoll\.Lock"),
    "generator": (lambda: (x for x in "ab"), "generator", "list"),
    "async generator": (async_generator, "async_generator", "iterate it where it is"),
    "coroutine": (coroutine, "coroutine", r"asyncio\.run\(\)"),
    "loop": (asyncio.new_event_loop, "asyncio.unix_events._UnixSelectorEventLoop", r"asyncio\.run\(\)"),
    "frame": (sys._getframe, "frame", "traceback"),
    "traceback": (traceback, "traceback", "traceback"),
    "weak reference": (weak, "weakref", "refers to"),
    "match": (lambda: re.match("a", "a"), "re.Match", "group"),
    "connection": (lambda: sqlite3.connect(":memory:"), "sqlite3.Connection", "connect where it is used"),
    "cursor": (lambda: sqlite3.connect(":memory:").cursor(), "sqlite3.Cursor", "rows"),
    "handler": (logging.StreamHandler, "logging.StreamHandler", "queue"),
}

PLACES = {
    "itself": (lambda thing: thing, "obj"),
    "list": (lambda thing: [1, thing], "obj[1]"),
    "dict": (lambda thing: {"a": {"b": thing}}, "obj['a']['b']"),
    "attribute": (lambda thing: Holder(thing), "obj.thing"),
    "dataclass": (lambda thing: [Data(thing)], "obj[0].thing"),
    "bound method": (lambda thing: Holder(thing).work, "obj.thing"),
    "partial's argument": (lambda thing: functools.partial(print, 1, thing), "obj.args[1]"),
    "partial's keyword": (lambda thing: functools.partial(print, sep=thing), "obj.keywords['sep']"),
    "closure": (lambda thing: lambda: thing, "obj.__closure__['thing']"),
    "default": (lambda thing: lambda a, b=thing: a, "obj.__defaults__['b']"),
    "keyword default": (lambda thing: lambda *, b=thing: b, "obj.__kwdefaults__['b']"),
    "global": (
        lambda thing: eval("lambda: spam.thing", {"__name__": "nowhere", "spam": Holder(thing)}),
        "obj.__globals__['spam'].thing",
    ),
    "class": (lambda thing: made_class("C", a=[thing]), "obj.a[0]"),
    "base": (lambda thing: made_class("D", (made_class("C", a=thing),)), "obj.__bases__[0].a"),
    "metaclass": (lambda thing: made_class("M", (type,), a=thing)("C", (), {}), "obj.__class__.a"),
    "method's closure": (
        lambda thing: made_class("C", work=lambda self: thing),
        "obj.work.__closure__['thing']",
    ),
    "method's default": (
        lambda thing: made_class("C", work=lambda self, a=thing: a),
        "obj.work.__defaults__['a']",
    ),
    "property": (
        lambda thing: made_class("C", work=property(lambda self: thing)),
        "obj.work.fget.__closure__['thing']",
    ),
    "instance in a class": (
        lambda thing: made_class("C", one=[made_class("D")(), Holder(thing)]),
        "obj.one[1].thing",
    ),
}


def made_class(name, bases=(), **attributes):
    return type(name, bases, {"__module__": "__main__", **attributes})


def dispose(thing):
    for name in ("close", "cleanup", "wait"):
        method = getattr(thing, name, None)
        if method is not None and not isinstance(thing, (queue.Queue, threading.Event, threading.Barrier)):
            if name == "wait" and not isinstance(thing, subprocess.Popen):
                continue
            method()


def refused(obj):
    with pytest.raises(atoll.NotShareableError) as caught:
        _atoll._encode(obj)
    return str(caught.value)


@pytest.mark.parametrize("kind", THINGS)
def test_thing(kind):
    make, name, advice = THINGS[kind]
    thing = make()
    try:
        text = refused([thing])
    finally:
        if kind != "async generator":
            dispose(thing)
    assert text.startswith("obj[0]: "), text
    assert name in text.split(" is not shareable: ")[0], text
    assert re.search(advice, text.split(" is not shareable: ")[1]), text


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("kind", ["lock", "pool", "connection", "event", "socket"])
def test_where(where, kind):
    make, name, _ = THINGS[kind]
    put, path = PLACES[where]
    thing = make()
    try:
        text = refused(put(thing))
    finally:
        dispose(thing)
    assert text.startswith(f"{path}: {name} is not shareable: "), text


def test_iterators():
    class Steps:
        def __next__(self):
            raise StopIteration

        def __reduce__(self):
            raise TypeError("no")

    assert refused([Steps()]).endswith("Steps is not shareable: send what it yields, as a list")


class StandsFor:
    """As flask.request is: what stands for an object says that it is of that one's class."""

    def __init__(self, thing):
        self.thing = thing

    @property
    def __class__(self):
        return type(self.thing)


class OwnProxy(StandsFor):
    def __reduce__(self):
        return OwnProxy, (self.thing,)


class OfItself(StandsFor):
    __class__ = property(type)


def test_proxies():
    """As in pickle."""
    for refuses in (pickle.dumps, _atoll._encode):
        with pytest.raises((pickle.PicklingError, atoll.NotShareableError)):
            refuses(StandsFor(3))
    assert (
        refused([StandsFor(3)])
        == "obj[0]: it stands for another object, whose class it says it has: send that"
    )
    for kind in (OwnProxy, OfItself):
        there = _atoll._decode(_atoll._encode(kind(3)))
        assert type(there) is kind
        assert there.thing == 3


def test_the_error_has_no_cause_that_speaks_of_inner_parts():
    with pytest.raises(atoll.NotShareableError) as caught:
        _atoll._encode(threading.Event())
    assert caught.value.__cause__ is None
    with pytest.raises(atoll.NotShareableError) as caught:
        _atoll._encode(threading.Lock())
    assert isinstance(caught.value.__cause__, TypeError)


def test_what_says_how_it_is_reduced_is_looked_into():
    class Mine(threading.Thread):
        def __getstate__(self):
            return {"mine": threading.Lock()}

    assert refused(Mine()).startswith("obj.mine: _thread.lock is not shareable: ")


def test_the_librarys_containers_are_looked_into():
    lock = threading.Lock()
    assert refused(types_namespace(lock)).startswith("obj.lock: _thread.lock")
    assert refused(logging.makeLogRecord({"lock": lock})).startswith(
        "obj: logging.LogRecord is not shareable"
    )


def types_namespace(lock):
    import types

    return types.SimpleNamespace(lock=lock)


def test_a_helper_that_fails_costs_detail_only(monkeypatch):
    from atoll._crossing import refusals

    monkeypatch.setattr(refusals, "choose", lambda objects: 1 / 0)
    assert refused([threading.Lock()]) == "obj[0]: _thread.lock is not shareable"


@pytest.mark.parametrize("view", ["keys", "values", "items"])
def test_views_cross(view, interp):
    import collections

    for made in {1: 2, 3: 4}, collections.OrderedDict(a=1):
        sent = getattr(made, view)()
        assert list(interp.call(lambda x: x, sent)) == list(sent)
        assert type(interp.call(lambda x: x, sent)) is type(sent)
    shared = {1: 2}
    received, mapping = _atoll._decode(_atoll._encode((shared.keys(), shared)))
    mapping[5] = 6
    assert list(received) == [1, 5]


def odd_code(*constants: object) -> types.CodeType:
    return odd_code.__code__.replace(co_consts=constants)


def nested_code(depth: int) -> types.CodeType:
    code = odd_code.__code__
    for _ in range(depth):
        code = odd_code(code)
    return code


class TestCodeThatNoCompilerMakes:
    """marshal's own ValueError says neither which object it was nor where."""

    why = "code with constants that marshal cannot write is not shareable"

    @pytest.mark.parametrize(
        "code",
        [
            odd_code(object()),
            odd_code((1, [object()])),
            odd_code(frozenset([1, object()])),
            odd_code((slice(1, object()),)),
        ],
    )
    def test_is_named(self, code):
        function = types.FunctionType(code, globals())
        owner = type("Owner", (), {"method": function, "__module__": "__main__"})
        for thing, path in (
            ([code], "obj[0]"),
            ({"f": function}, "obj['f'].__code__"),
            (owner, "obj.method.__code__"),
        ):
            with pytest.raises(atoll.NotShareableError, match=re.escape(f"{path}: {self.why}")) as caught:
                _atoll._encode(thing)
            assert isinstance(caught.value.__cause__, ValueError)

    def test_is_named_when_it_is_too_deep(self):
        with pytest.raises(atoll.NotShareableError, match=re.escape(f"obj[0]: {self.why}")):
            _atoll._encode([nested_code(3000)])

    def test_is_refused_by_calls_tasks_and_exec(self):
        function = types.FunctionType(odd_code(object()), globals())
        path = f"callable.__code__: {self.why}"
        with atoll.create() as interp, atoll.InterpreterPoolExecutor(1) as pool:
            for attempt in (
                lambda: interp.call(function),
                lambda: interp.submit(function).result(),
                lambda: pool.submit(function).result(),
                lambda: list(pool.map(function, [1])),
            ):
                with pytest.raises(atoll.NotShareableError, match=re.escape(path)):
                    attempt()
            script = compile("x = 1", "script", "exec")
            with pytest.raises(atoll.NotShareableError, match=f"<module>: {self.why}"):
                interp.exec(script.replace(co_consts=(*script.co_consts, object())))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_only_atoll_makes_cannot_be_pickled(protocol: int) -> None:
    """In no protocol: an instance that nobody can make would be of no use."""
    with atoll.InterpreterPoolExecutor(1) as pool:
        for one in (pool.submit(int), atoll.freezing()):
            with pytest.raises(TypeError, match=f"cannot pickle '(atoll.)?{type(one).__name__}' object"):
                pickle.dumps(one, protocol)
