"""Freezing can be interrupted, and what runs meanwhile may change what is frozen, freeze, and leave blocks."""

from __future__ import annotations

import array
import contextlib
import gc
import itertools
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import atoll
from atoll import _atoll

LARGE = {f"key {number}": [float(number), (number, f"text {number}")] for number in range(20_000)}
ARRAYS = [array.array("d", bytes(4 << 20)) for _ in range(4)]
texts = itertools.count()


def freeze(data: Any) -> Any:
    return atoll.freeze([f"new text {next(texts)}", ARRAYS, data])[2]


def freeze_while(action: Callable[[], None], make: Callable[[], Any]) -> Any:
    """Freeze what make() makes and call action meanwhile, in a handler: a thread sends a signal.

    It does so once some of it was frozen, while the arrays are copied.  Should that be too late, the signal is for the
    next time.
    """
    calls: list[bool] = []
    main = threading.get_ident()

    def handle(_number: int, frame: Any) -> None:
        calls.append(frame.f_code.co_name == "freeze")
        if calls[-1]:
            action()

    def send(memory: int, over: threading.Event) -> None:
        while atoll.frozen_memory() == memory and not over.is_set():
            pass
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        while not any(calls):
            data = make()
            over = threading.Event()
            thread = threading.Thread(target=send, args=(atoll.frozen_memory(), over))
            thread.start()
            try:
                result = freeze(data)
            finally:
                over.set()
                thread.join()
        return result
    finally:
        signal.signal(signal.SIGUSR1, before)


def large() -> Any:
    return LARGE


def test_an_exception_leaves_nothing() -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    gc.collect()  # what earlier tests have left
    shared = _atoll._shared_memory()
    memory = []

    def make() -> Any:
        memory.append(atoll.frozen_memory())
        return LARGE

    with pytest.raises(StopError):
        freeze_while(stop, make)
    assert atoll.frozen_memory() == memory[-1]
    assert _atoll._shared_memory() == shared
    assert atoll.freeze({"after": [1.5]})["after"] == (1.5,)


def test_a_handler_that_returns_changes_nothing() -> None:
    frozen = freeze_while(lambda: None, large)
    assert list(frozen) == list(LARGE)
    assert all(frozen[key] == (one, other) for key, (one, other) in LARGE.items())


@pytest.mark.parametrize("block", [False, True])
def test_a_handler_that_freezes(block: bool) -> None:
    made: list[Any] = []

    def more() -> None:
        made.append(atoll.freeze({"made": [len(made), 10**20 + len(made)], "key 5": LARGE["key 5"]}))

    with atoll.freezing() if block else contextlib.nullcontext():
        frozen = freeze_while(more, large)
        with pytest.raises(atoll.NotShareableError):  # takes back what it has made, and only that
            freeze_while(more, lambda: [*LARGE.items(), object()])
    assert frozen["key 19999"][1] == (19999, "text 19999")
    for number, one in enumerate(made):
        assert one == {"made": (number, 10**20 + number), "key 5": (5.0, (5, "text 5"))}


def test_a_handler_that_leaves_the_block() -> None:
    blocks = []

    def make() -> Any:
        blocks.append(atoll.freezing().__enter__())
        return LARGE

    frozen = freeze_while(lambda: blocks[-1].__exit__(None, None, None), make)
    assert frozen["key 7"] == (7.0, (7, "text 7"))
    nbytes = blocks[-1].nbytes
    atoll.freeze(["another text", 10**20])
    assert blocks[-1].nbytes == nbytes
    assert not blocks[-1].released  # this interpreter has it
    for block in blocks[:-1]:
        block.__exit__(None, None, None)


@pytest.mark.parametrize("kind", ["dict", "set", "list", "emptied"])
def test_what_changes_meanwhile(kind: str) -> None:
    whole: Any = None

    def make() -> Any:
        nonlocal whole
        whole = {"set": set, "list": list}.get(kind, dict)(LARGE)
        return {"here": whole}

    def change() -> None:
        if kind == "dict":
            whole["another"] = 1
        elif kind == "set":
            whole.add("another")
        else:
            whole.clear()

    with pytest.raises(RuntimeError, match="changed"):
        freeze_while(change, make)
    assert atoll.freeze(LARGE)["key 1"] == (1.0, (1, "text 1"))


@pytest.mark.parametrize("moved", [20, len(LARGE)])
def test_what_changes_unseen_has_no_key_twice(moved: int) -> None:
    """As many keys as before, in another order."""
    whole: dict[str, Any] = {}

    def make() -> Any:
        whole.clear()
        whole.update(LARGE)
        return whole

    def change() -> None:
        for key in list(LARGE)[:moved]:
            whole[f"other {key}"] = whole.pop(key)
        for key in list(LARGE)[:moved]:
            whole[key] = whole.pop(f"other {key}")

    try:
        frozen = freeze_while(change, make)
    except RuntimeError as exc:
        assert "changed" in str(exc)
    else:
        assert len(frozen) == len(set(frozen))
        assert all(frozen[key] == (one, other) for key, (one, other) in LARGE.items() if key in frozen)
        assert frozen == dict(frozen.items())


def test_another_thread_leaves_the_block() -> None:
    """While an array is copied."""
    for _ in range(20):
        with atoll.freezing() as block:
            memory = atoll.frozen_memory()

            def leave(memory: int = memory, block: Any = block) -> None:
                while atoll.frozen_memory() == memory:
                    pass
                block.__exit__(None, None, None)

            thread = threading.Thread(target=leave)
            thread.start()
            frozen = freeze(LARGE)
            thread.join()
        assert frozen["key 7"] == (7.0, (7, "text 7"))
