"""What the tests of queues share."""

from __future__ import annotations

import gc
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import atoll
from helpers import PATIENCE

CONSTANTS = ["UNBOUND", "UNBOUND_ERROR", "UNBOUND_REMOVE"]


def numbers() -> list[int]:
    """Return the ids of all queues of the process."""
    return [queue.id for queue in atoll._queues.names.list_all()]


def drain(queue: atoll.Queue) -> list[Any]:
    """Return everything that is in the queue."""
    items = []
    while not queue.empty():
        items.append(queue.get_nowait())
    return items


def grow(data: bytearray) -> None:
    """Append to a bytearray, which fails while a view of it exists anywhere.

    The last view may have gone in another interpreter; it is released here when code runs again, at the latest when a
    function is called, as this one is.
    """
    data.append(1)


def wait_asleep(*threads: int, process: int | str = "self") -> None:
    """Wait until these threads (native ids) sleep in the kernel.

    They may sleep for another reason than the one that the test is about, so a test must not depend on it: it makes
    the interesting case probable.  Raises TimeoutError.
    """
    end = time.monotonic() + PATIENCE
    for thread in threads:
        seen = 0
        while seen < 3:
            if time.monotonic() > end:
                raise TimeoutError("a thread does not fall asleep")
            time.sleep(0.001)
            try:
                text = Path(f"/proc/{process}/task/{thread}/stat").read_text()
            except FileNotFoundError:
                break
            seen = seen + 1 if text.rpartition(")")[2].split()[0] == "S" else 0


@pytest.fixture(name="queue")
def make_queue() -> atoll.Queue:
    """A queue without bound."""
    return atoll.create_queue()


@pytest.fixture(autouse=True)
def no_queue_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no queue be there after a test that was not there before it."""
    before = set(numbers())
    yield
    before |= {value.id for value in request.node.funcargs.values() if isinstance(value, atoll.Queue)}
    if not set(numbers()) <= before:
        gc.collect()
    assert set(numbers()) <= before


@pytest.fixture(name="foreigner")
def make_foreigner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """An object that only this interpreter can decode: no other can import its class's module."""
    (tmp_path / "only_here.py").write_text(
        "import atoll\n"
        "if atoll.get_current().id != 0: raise ImportError('only_here is for main')\n"
        "class Made: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("only_here").Made()
    del sys.modules["only_here"]
