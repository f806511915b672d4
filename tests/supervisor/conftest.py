"""What happens to the children of supervisors, for tests to wait for; no thread may be left after one."""

from __future__ import annotations

import threading
import time

import pytest

import atoll
from helpers import PATIENCE


class Events:
    """Collects what happens, and waits for something."""

    def __init__(self):
        self.list = []
        self._change = threading.Condition()

    def __call__(self, event):
        with self._change:
            self.list.append(event)
            self._change.notify_all()

    def wait_for(self, kind, name, times=1):
        """Wait until it has happened so often; return the last one."""

        def found():
            return [event for event in self.list if (event.kind, event.name) == (kind, name)]

        with self._change:
            assert self._change.wait_for(lambda: len(found()) >= times, PATIENCE), self.kinds()
            return found()[times - 1]

    def kinds(self, *names):
        """What happened, to these."""
        return [(event.kind, event.name) for event in self.list if not names or event.name in names]


@pytest.fixture
def events():
    return Events()


@pytest.fixture(autouse=True)
def no_thread_left():
    """Wait for threads, and for the interpreters of children that have ended by themselves: nobody else does."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), thread
    until = time.monotonic() + PATIENCE
    while any(name_of(interp).endswith("_0") for interp in atoll.list_all()) and time.monotonic() < until:
        time.sleep(0.01)


def name_of(interp):
    """Return an interpreter's name, also of one that is just being closed."""
    return repr(interp).partition("name='")[2].rstrip("')")
