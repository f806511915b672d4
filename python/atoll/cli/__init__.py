"""The command line: ``python -m atoll COMMAND``."""

import argparse
import platform
import sys
from collections.abc import Sequence

from atoll import __version__

_DESCRIPTION = "Many isolated Python interpreters in one process: tools for your code and your packages."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default the process's; return the exit status.

    Raises SystemExit where argparse does: 0 after help, 2 for a wrong command line.
    """
    from . import check, run  # here, so that importing a helper of this package imports no more than that

    given = list(sys.argv[1:] if arguments is None else arguments)
    # What comes after a script's name is the script's own, whatever it looks like.
    given, rest = run.split(given) if given[:1] == ["run"] else (given, [])
    parser = argparse.ArgumentParser(prog="python -m atoll", description=_DESCRIPTION)
    version = f"atoll {__version__} ({platform.python_implementation()} {platform.python_version()})"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    check.add_command(commands)
    run.add_command(commands)
    options = parser.parse_args(given)
    if options.command == "run":
        return run.main(options, rest)
    return check.main(options)
