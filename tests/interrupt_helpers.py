"""Calls that are interrupted."""

from __future__ import annotations

import queue
import threading

import atoll


def loop_forever(started: atoll.Event) -> None:
    started.set()
    while True:
        pass


def call_in_thread(interp: atoll.Interpreter, function, *args):
    """Call it on a thread of its own: a queue on which what came of it is put."""
    outcome: queue.SimpleQueue[object] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(interp.call(function, *args))
        except BaseException as exc:  # noqa: BLE001
            outcome.put(exc)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def interrupt_when_started(interp: atoll.Interpreter, function, *args, exc=KeyboardInterrupt):
    """What comes of a call that is interrupted when it has set the event that is its first argument."""
    started = atoll.Event()
    outcome = call_in_thread(interp, function, started, *args)
    assert started.wait(60)
    assert interp.interrupt(exc)
    return outcome.get(timeout=60)


def kind_of(failure: object) -> str:
    assert isinstance(failure, atoll.ExecutionFailed), failure
    return failure.excinfo.type.__name__
