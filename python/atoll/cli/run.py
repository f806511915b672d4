"""``python -m atoll run``: a script, a module or code in a fresh interpreter, as ``python`` would run it."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import atoll

from . import run_there
from .arguments import add_parser, seconds, size

_DESCRIPTION = """\
Run a script, a module as a script, or code, in a fresh interpreter, as `python SCRIPT`, `python -m MODULE` and
`python -c CODE` would: with its own __main__, sys.argv, sys.path[0] and exit status. It runs on the process's main
thread, so Ctrl-C reaches it. Everything after SCRIPT, MODULE or CODE belongs to it. As SCRIPT, - is standard input.
"""
_EPILOG = """\
examples:
  python -m atoll run script.py --verbose input.txt
  python -m atoll run -m http.server 8000
  generate | python -m atoll run - --verbose
  python -m atoll run --extensions strict -c 'import numpy'
  python -m atoll run --memory-limit 500M --cpu-limit 10 script.py
"""
_TAKES_VALUE = ("--extensions", "--memory-limit", "--cpu-limit")
_SPENT = 152  # as a shell has it after `ulimit -t`: 128 and the number of SIGXCPU
_INTERRUPTED = 130  # where SIGINT, which is to end it, is blocked
_MODES = ("isolate", "strict", "shared")


def add_command(commands: Any) -> None:
    """Add this command to a parser's subparsers."""
    parser = add_parser(
        commands,
        "run",
        main,
        help="run a script in a fresh interpreter",
        usage="%(prog)s [-h] [--extensions MODE] [--memory-limit BYTES] [--cpu-limit SECONDS] "
        "(SCRIPT | -m MODULE | -c CODE) [ARGUMENT ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "script",
        nargs="?",
        metavar="SCRIPT",
        help="a Python file, a directory or zip file with a __main__.py, or - for standard input",
    )
    parser.add_argument("-m", dest="module", metavar="MODULE", help="a module or package by its name")
    parser.add_argument("-c", dest="code", metavar="CODE", help="Python code")
    parser.add_argument(
        "--extensions",
        choices=_MODES,
        default=None,
        metavar="MODE",
        help="how extension modules are loaded: isolate, strict or shared (default: ATOLL_EXTENSIONS, or isolate)",
    )
    parser.add_argument(
        "--memory-limit",
        type=size,
        metavar="BYTES",
        help="what its objects may take, such as 500M: what would be more is a MemoryError in it",
    )
    parser.add_argument(
        "--cpu-limit",
        type=seconds,
        metavar="SECONDS",
        help="how much processor time it may take, such as 10, 500ms or 5m: then it is interrupted, and the exit "
        f"status is {_SPENT}",
    )


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into what is this command's and what is the script's."""
    own: list[str] = list(arguments[:1])
    rest = list(arguments[1:])
    while rest:
        argument = rest.pop(0)
        own.append(argument)
        if rest and argument in ("-m", "-c"):
            # In one piece: what begins with "-" would be taken for another option.
            own[-1:] = [argument + rest.pop(0)] if rest[0].startswith("-") else [argument, rest.pop(0)]
        elif rest and len(argument) > 2 and any(option.startswith(argument) for option in _TAKES_VALUE):
            own.append(rest.pop(0))  # an option may be abbreviated
        if argument == "-" or not argument.startswith("-") or argument.startswith(("-m", "-c")):
            break
    return own, rest


def _tell(options: argparse.Namespace, text: str) -> None:
    if sys.stderr is not None:  # closed: print() would take sys.stdout
        print(f"{options.parser.prog}: {text}", file=sys.stderr)


def main(options: argparse.Namespace) -> int:
    """Run it; return the exit status, or raise the KeyboardInterrupt that has ended it and been shown."""
    if options.script is None and options.module is None and options.code is None:
        options.parser.error("what is to be run? Give a SCRIPT (- is standard input), -m MODULE or -c CODE")
    if options.script == "-" and sys.stdin is None:
        _tell(options, "standard input is closed")
        return 2
    if options.script not in (None, "-"):
        try:
            os.stat(options.script)
        except OSError as error:
            name = os.path.abspath(options.script)
            _tell(options, f"can't open file {name!r}: [Errno {error.errno}] {error.strerror}")
            return 2
    # The new interpreter has no sys.path[0]; this one's is that of `python -m atoll`, the current directory.
    path = sys.path[:] if sys.flags.safe_path else sys.path[1:]
    try:
        interp = atoll.create(
            extensions=options.extensions,
            fork=True,
            memory_limit=options.memory_limit,
            cpu_limit=options.cpu_limit,
        )
    except atoll.InterpreterError as error:
        _tell(options, str(error))
        return 2
    what = run_there.What(options.script, options.module, options.code, options.rest)
    try:
        status = interp.call(run_there.run, what, path)
    except atoll.ResourceLimitExceeded as error:
        _tell(options, str(error))
        status = _SPENT
    try:
        interp.close()
    except atoll.InterpreterError:
        # Threads are left that nothing can end. The script is done and its output written: so CPython ends a process.
        if status is None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        os._exit(_INTERRUPTED if status is None else status & 0xFF)
    if status is None:
        raise KeyboardInterrupt
    return status
