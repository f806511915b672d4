"""The command line: ``python -m atoll COMMAND``."""

import argparse
import io
import os
import platform
import signal
import sys
from collections.abc import Sequence

from atoll import __version__

_DESCRIPTION = "Many isolated Python interpreters in one process: tools for your code and your packages."
_EPILOG = """\
`python -m atoll COMMAND --help` says more, with examples. With argcomplete (pip install 'atoll[completion]') and its
activate-global-python-argcomplete, the shell completes commands and options.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default the process's; return the exit status.

    Raises SystemExit where argparse does: 0 after help, 2 for a wrong command line; KeyboardInterrupt after Ctrl-C.
    """
    from . import run  # here, so that importing a helper of this package imports no more than that

    given = list(sys.argv[1:] if arguments is None else arguments)
    # What comes after a script's name is the script's own, whatever it looks like.
    given, rest = run.split(given) if given[:1] == ["run"] else (given, [])
    if given[:1] != ["run"]:  # whose script is to find everything as it is
        _prepare_streams()
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        import argcomplete

        argcomplete.autocomplete(parser)
    options, unknown = parser.parse_known_args(given, argparse.Namespace(rest=rest))
    if unknown:  # by the command itself, whose usage says what there is
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        status: int = options.main(options)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read this has enough: end as other programs do, without a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE


def _prepare_streams() -> None:
    """Have streams that are closed end in /dev/null, and write what an output's encoding does not have as escapes.

    Else a file that is opened later has the number of one that is closed, and what a child prints goes there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    from . import bench, check, info, run, stacks, top
    from . import map as map_

    parser = argparse.ArgumentParser(
        prog="python -m atoll",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"atoll {__version__} ({platform.python_implementation()} {platform.python_version()})"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (run, map_, top, stacks, check, info, bench):
        command.add_command(commands)
    return parser
