"""``python -m atoll stacks``: what all threads of a process are executing, once."""

import argparse
import json
import sys
from typing import Any

from atoll._interp.remote import Process, Thread, UnreadableError
from atoll._stats.page import stats

from .arguments import add_parser

_DESCRIPTION = """\
Print what each thread of a running process executes, by interpreter, innermost function last. The process is not
stopped, and need not use Atoll. It takes the rights of a debugger: root, or the same user where
/proc/sys/kernel/yama/ptrace_scope is 0.
"""
_EPILOG = """\
exit status: 0; 1 when there is no such process, or it cannot be looked at.

examples:
  python -m atoll stacks 4242
  python -m atoll stacks --json $(pgrep -f service.py)
"""


def add_command(commands: Any) -> None:
    """Add this command to a parser's subparsers."""
    parser = add_parser(
        commands,
        "stacks",
        main,
        help="what all threads of a process are executing",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("pid", type=int, metavar="PID")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def main(options: argparse.Namespace) -> int:
    """Read, print, return the exit status."""
    try:
        with Process(options.pid) as process:
            threads = process.threads()
    except (ProcessLookupError, UnreadableError) as error:
        print(f"{options.parser.prog}: {error}", file=sys.stderr)
        return 1
    try:
        names = {interp["id"]: interp["name"] for interp in stats(options.pid)["interpreters"]}
    except (LookupError, OSError):  # it does not use Atoll
        names = {}
    if options.json:
        print(json.dumps([as_json(thread) for thread in threads], indent=2))
        return 0
    for thread in threads:
        name = names.get(thread.interpreter)
        print(thread.text(f"interpreter {thread.interpreter}" + (f" ({name}), " if name else ", ")))
    return 0


def as_json(thread: Thread) -> dict[str, Any]:
    """Return a thread as JSON has it."""
    return {
        "interpreter": thread.interpreter,
        "thread": thread.thread,
        "name": thread.name,
        "frames": [frame._asdict() for frame in thread.frames],
    }
