"""What is said of an interpreter that does not end: see src/py/interp/reap.c, which calls this."""

import os

from .remote import Process, UnreadableError


def error(number: int, label: str, kind: type[Exception], what: str) -> Exception:
    """Return an exception that says what does not end in the interpreter with this number, with its stacks."""
    stacks = _stacks(number)
    exc = kind(f"cannot close interpreter {label} by force: {what}\n\n{stacks}")
    exc.stacks = stacks  # type: ignore[attr-defined]
    return exc


def _stacks(number: int) -> str:
    """Return what the threads of an interpreter execute, as text."""
    try:
        with Process(os.getpid()) as process:
            threads = list(filter(lambda thread: thread.interpreter == number, process.threads()))
    except (UnreadableError, ProcessLookupError, OSError) as why:
        return f"(its stacks cannot be read: {why})"
    if not threads:
        return "(no thread in it executes Python code)"
    return "\n\n".join(thread.text() for thread in threads)
