"""Checks that hold for every test."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator

import pytest

import atoll
from atoll import _atoll

# Whoever writes to a frozen object ends the process, here and in child processes that get this environment.
os.environ.setdefault("ATOLL_DEBUG_FROZEN", "1")

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Note whether the test has failed, for its fixtures."""
    report = yield
    if call.when == "call":
        item.stash[FAILED] = call.excinfo is not None
    return report


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close what a test leaves; a test that passes and leaves an interpreter that nothing refers to has failed.

    An interpreter has to be gone with its last object, so one that is still listed here is a leaked reference.
    """
    yield
    if any(interp.id != 0 for interp in atoll.list_all()):
        gc.collect()
    left = [interp for interp in atoll.list_all() if interp.id != 0]
    names = [repr(interp) for interp in left]
    for interp in left:
        with contextlib.suppress(atoll.InterpreterError):
            interp.close()
    if not request.node.stash.get(FAILED, True):
        assert names == []


@pytest.fixture
def no_memory_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that passes and leaves shared memory has failed."""
    before = _atoll._shared_memory()
    yield
    if _atoll._shared_memory() != before:
        gc.collect()
    if not request.node.stash.get(FAILED, True):  # else its frames have some
        assert _atoll._shared_memory() == before


@pytest.fixture
def interp() -> Iterator[atoll.Interpreter]:
    """An interpreter that can import the helpers module; closed after the test."""
    from helpers import new

    interp = new()
    yield interp
    with contextlib.suppress(atoll.InterpreterNotFoundError):
        interp.close()


@pytest.fixture
def over() -> Iterator[atoll.Event]:
    """An event that is set at the end, whatever becomes of a test: what waits for it in interpreters ends."""
    event = atoll.Event()
    yield event
    event.set()


@pytest.fixture
def fresh() -> Iterator[atoll.Interpreter]:
    """Yield an interpreter that a test closes itself; what is left of it is closed by force."""
    from helpers import new

    interp = new()
    yield interp
    if interp in atoll.list_all():
        interp.close(force=True)
