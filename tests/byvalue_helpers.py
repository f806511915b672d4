"""Scripts whose functions and classes cross by value, each run as the __main__ of a process of its own."""

from __future__ import annotations

import textwrap

from helpers import run_python

# back(x) is what comes back from an interpreter.
PRELUDE = """
import abc, collections, contextlib, dataclasses, enum, functools, gc, os, sys, threading, types, typing, weakref
import atoll
from atoll import NotShareableError
from helpers import identity
interp = atoll.create()
call = interp.call

def back(x): return call(identity, x)
"""


def check_script(script: str, prelude: str = PRELUDE) -> None:
    """Run a prelude and a script, which raises where something is wrong, with CPython's development mode."""
    end = "\nfor interp in atoll.list_all()[1:]: interp.close()\nprint('done')\n"
    source = f"{prelude}{textwrap.dedent(script)}{end}"
    ended = run_python(source, "-X", "dev")
    assert ended.stdout == "done\n", ended.stderr
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
