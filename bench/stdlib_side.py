"""The other side of the comparison: what the standard library offers on each version.

3.14 and 3.15 have `concurrent.interpreters`.  3.13 has the private module `_interpreters`, which
runs source text and functions without arguments or result.  3.12 has `_xxsubinterpreters`,
which runs source text.  On these two the nearest thing to a call with arguments and a result is the
recipe that their users write: pickle the arguments, hand the bytes in as a variable, run a line
of source, and fetch the pickled result from a channel.
"""

import importlib
import pickle
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import targets

HERE = str(Path(__file__).resolve().parent)
PREPARE = f"import sys; sys.path.insert(0, {HERE!r}); from targets import *"

# How this version's module is called in tables, and what its users must know
if sys.version_info >= (3, 14):
    MODULE = "concurrent.interpreters"
    NOTE_NOOP = ""
    NOTE_CALL = ""
elif sys.version_info >= (3, 13):
    MODULE = "_interpreters"
    NOTE_NOOP = "_interpreters.call takes no arguments and gives no result"
    NOTE_CALL = "against pickle, exec of a line of source, and a channel"
else:
    MODULE = "_xxsubinterpreters"
    NOTE_NOOP = "against run_string('noop()')"
    NOTE_CALL = "against pickle, run_string of a line of source, and a channel"


class Interpreter:
    """An interpreter of the standard library with its own GIL.

    exec_pass, call_noop and call_record are ready to be timed: calling them does the one thing.
    """

    def __init__(self) -> None:
        """Create it; `targets` is importable in it."""
        self._module: Any = importlib.import_module(MODULE)
        self.exec_pass: Callable[[], Any]
        self.call_noop: Callable[[], Any]
        self.call_record: Callable[[], Any]
        if sys.version_info >= (3, 14):
            self._interp = self._module.create()
            self._interp.exec(PREPARE)
            self.exec_pass = partial(self._interp.exec, "pass")
            self.call_noop = partial(self._interp.call, targets.stdlib_noop)
            self.call_record = partial(self._interp.call, targets.stdlib_ten_of, targets.RECORD)
        else:
            self._interp = self._module.create()
            run = self._module.run_string
            run(self._interp, PREPARE)
            self._open_channel(run)
            self.exec_pass = partial(run, self._interp, "pass")
            if sys.version_info >= (3, 13):
                self.call_noop = partial(self._module.call, self._interp, targets.stdlib_noop)
            else:
                self.call_noop = partial(run, self._interp, "stdlib_noop()")
            self.call_record = self._call_by_recipe

    def _open_channel(self, run: Callable[..., Any]) -> None:
        """Make the channel of the recipe; its functions differ a little between 3.12 and 3.13."""
        new = sys.version_info >= (3, 13)
        name = "_interpchannels" if new else "_xxinterpchannels"
        self._channels: Any = importlib.import_module(name)
        self._channel = self._channels.create(*([1] if new else []))
        blocking = ", blocking=False" if new else ""  # 3.12 knows no other way
        run(self._interp, f"import pickle, {name} as channels; channel = {int(self._channel)}")
        result = "pickle.dumps(stdlib_ten_of(pickle.loads(data)), 5)"
        self._line = f"channels.send(channel, {result}{blocking})"

    def _call_by_recipe(self) -> Any:
        data = pickle.dumps(targets.RECORD, 5)
        self._module.run_string(self._interp, self._line, {"data": data})
        received = self._channels.recv(self._channel)
        return pickle.loads(received[0] if isinstance(received, tuple) else received)

    def close(self) -> None:
        """Destroy it."""
        if sys.version_info >= (3, 14):
            self._interp.close()
        else:
            self._module.destroy(self._interp)


def create_and_close() -> None:
    """One cycle of the life of an interpreter, as cheap as the standard library can do it."""
    module: Any = importlib.import_module(MODULE)
    if sys.version_info >= (3, 14):
        module.create().close()
    else:
        module.destroy(module.create())


def time_create() -> float:
    """The seconds that making an interpreter takes; it is closed afterwards."""
    module: Any = importlib.import_module(MODULE)
    began = time.perf_counter()
    made = module.create()
    took = time.perf_counter() - began
    if sys.version_info >= (3, 14):
        made.close()
    else:
        module.destroy(made)
    return took


def create_exec_close() -> None:
    """One cycle with a line of source run."""
    module: Any = importlib.import_module(MODULE)
    if sys.version_info >= (3, 14):
        interp = module.create()
        interp.exec("x = 1")
        interp.close()
    else:
        number = module.create()
        module.run_string(number, "x = 1")
        module.destroy(number)
