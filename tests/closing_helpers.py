"""What the tests of Interpreter.close(force=, timeout=) share."""

from __future__ import annotations

import os
import threading

import pytest

import atoll
from helpers import Thread, ids

SOON = 0.2  # seconds: a timeout that is meant to pass


def spin(started):
    """Loop for ever."""
    started.set()
    while True:
        pass


def read_one(started, reader):
    """Wait until there is something to read from a file descriptor."""
    started.set()
    os.read(reader, 1)
    return "ended"


def stubborn(started, over, levels=20):
    """Catch what is raised until it is over: each level catches what is raised outside of the next one's try."""
    while not over.is_set():
        try:
            if levels:
                stubborn(started, over, levels - 1)
            else:
                started.set()
                while not over.is_set():
                    pass
        except BaseException:
            pass


def in_thread(interp, function, *args):
    """Call it there from a thread of this interpreter; a Thread whose result() is what it raised, as a name."""

    def run():
        try:
            return interp.call(function, *args)
        except atoll.ExecutionFailed as exc:
            return exc.excinfo.type.__name__

    return Thread(run)


def start_thread(function, *args, daemon=False):
    """In an interpreter: start a thread of its own that calls function."""
    threading.Thread(target=function, args=args, daemon=daemon, name="its own").start()


def is_gone(interp):
    """Whether it is closed for everybody."""
    with pytest.raises(atoll.InterpreterNotFoundError):
        interp.call(int)
    return interp.id not in ids()
