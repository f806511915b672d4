"""The child process of ``check``: imports modules in fresh interpreters, and may crash doing so.

    python -m atoll.cli.check_child [--events FD] isolate|strict|shared|main COUNT MODULE...

COUNT interpreters, each in a thread of its own, import the modules at the same time, and are closed; ``main`` stands
for the main interpreter, without Atoll. Each step is told before it is done, as a line of JSON, so that the last
line says where a crash happened.
"""

import json
import os
import sys
import threading
from typing import Any

import atoll


class Events:
    """Tells the parent what happens. Any thread may use it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.lock = threading.Lock()

    def tell(self, **event: Any) -> None:
        """Write one event; it is whole, or it is not there."""
        with self.lock:
            os.write(self.descriptor, json.dumps(event).encode() + b"\n")


# ------------------------------------------------------------------------------------------------
# Sent to the interpreters
# ------------------------------------------------------------------------------------------------


def prepare(path: list[str]) -> None:
    """Make an interpreter find what the main one finds: it has no sys.path[0] of its own."""
    import sys

    sys.path[:] = path


def import_module(name: str) -> dict[str, str | None] | None:
    """Import a module; return None, or a description of the exception."""
    import importlib
    import sys
    import traceback

    here = sys._getframe().f_code.co_filename
    try:
        importlib.import_module(name)
    except BaseException as error:  # SystemExit and what derives from nothing else as well
        root = error
        while root.__cause__ is not None:  # what a package says about it is mostly long, and advice
            root = root.__cause__
        frames = [
            frame
            for frame in traceback.extract_tb(root.__traceback__)
            if not frame.filename.startswith("<frozen importlib")
            and frame.filename not in (here, importlib.__file__)
        ]
        last = frames[-1] if frames else None
        return {
            "type": type(root).__name__,
            "text": traceback.format_exception_only(root)[-1].strip(),
            "frame": f'File "{last.filename}", line {last.lineno} in {last.name}' if last else None,
            "name": getattr(root, "name", None) if isinstance(root, ImportError) else None,
            "traceback": "".join(traceback.format_exception(error)),
        }
    return None


def list_extensions() -> list[tuple[str | None, str, str, int]]:
    """Return (module, file, how, bytes) of each extension module; if it is "absent", the file is the reason."""
    import sys

    import atoll

    found: list[tuple[str | None, str, str, int]] = [
        (one.module, one.file, one.how, one.bytes) for one in atoll.loaded_extensions()
    ]
    reason = getattr(sys.modules.get("_ctypes"), "_reason", None)
    if reason is not None:
        found.append(("_ctypes", reason, "absent", 0))
    return found


# ------------------------------------------------------------------------------------------------
# The process
# ------------------------------------------------------------------------------------------------


def import_here(modules: list[str], events: Events) -> None:
    """Import the modules in the main interpreter."""
    for module in modules:
        events.tell(stage="import", module=module)
        error = import_module(module)
        if error is not None:
            events.tell(error=error, stage="import", module=module)


def import_there(
    number: int, mode: Any, modules: list[str], events: Events, together: threading.Barrier
) -> None:
    """Import the modules in an interpreter, at the same time as the other threads do, and close it."""
    stage = "create"

    def enter(new_stage: str) -> None:
        nonlocal stage
        stage = new_stage
        events.tell(stage=stage, interpreter=number)

    try:
        enter("create")
        interp = atoll.create(extensions=mode)
        interp.call(prepare, sys.path)
        together.wait()
        stage = "import"
        for module in modules:
            events.tell(stage=stage, module=module, interpreter=number)
            error = interp.call(import_module, module)
            if error is not None:
                events.tell(error=error, stage=stage, module=module, interpreter=number)
        enter("list")
        events.tell(extensions=interp.call(list_extensions), interpreter=number)
        together.wait()
        enter("close")
        interp.close()
    except threading.BrokenBarrierError:
        pass  # the other thread has told why
    except BaseException as error:
        together.abort()
        text = f"{type(error).__name__}: {error}"
        events.tell(error={"type": type(error).__name__, "text": text}, stage=stage, interpreter=number)


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    descriptor = 1
    if arguments[:1] == ["--events"]:
        descriptor = int(arguments[1])
        arguments = arguments[2:]
    mode, count, *modules = arguments
    events = Events(descriptor)
    if mode == "main":
        import_here(modules, events)
    else:
        together = threading.Barrier(int(count))
        threads = [
            threading.Thread(target=import_there, args=(number, mode, modules, events, together))
            for number in range(1, int(count) + 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    events.tell(stage="exit")


if __name__ == "__main__":
    main(sys.argv[1:])
