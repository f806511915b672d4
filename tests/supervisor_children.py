"""What supervisors run in tests. Each child imports this, so it imports little."""

from __future__ import annotations

import atoll


class IncomparableCode:
    """What sys.exit() can be given as well."""

    def __eq__(self, other):
        raise ValueError("not to be compared")

    __hash__ = None


def live(queue, name):
    """Say when it begins and when it is interrupted."""
    try:
        queue.put((name, "began"))
        atoll.Event().wait()
    finally:
        queue.put((name, "ended"))


def live_then(queue, number):
    """End the first time, live the second time."""
    if number.add(1) > 1:
        live(queue, "a")


def spin(queue, name):
    """The same, computing."""
    try:
        queue.put((name, "began"))
        while True:
            pass
    finally:
        queue.put((name, "ended"))


def count(number, times, error=None):
    """End, or raise, until it has begun often enough; then wait."""
    if number.add(1) <= times:
        if error is not None:
            raise error
        return
    atoll.Event().wait()


def fall_silent(number, beats):
    """Give some heartbeats the first time, and after that for ever."""
    first = number.add(1) == 1
    given = 0
    while not first or given < beats:
        assert atoll.heartbeat()
        given += 1
    while True:
        pass


def ignore_interrupts(queue, release):
    """Go on until it is told to end, whatever comes, at any place."""
    while not release.is_set():
        try:
            queue.put("began")
            while not release.is_set():
                try:
                    release.wait()
                except KeyboardInterrupt:
                    pass
        except KeyboardInterrupt:
            pass
