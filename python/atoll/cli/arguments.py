"""What several commands read from their command lines."""

import argparse
from collections.abc import Callable
from typing import Any


def add_parser(commands: Any, name: str, main: Callable[[argparse.Namespace], int], **texts: str) -> Any:
    """Add a command, which main() does, to a parser's subparsers; its texts are printed as they stand."""
    parser = commands.add_parser(name, formatter_class=argparse.RawDescriptionHelpFormatter, **texts)
    parser.set_defaults(parser=parser, main=main)
    return parser


def positive(kind: type[int] | type[float]) -> Any:
    """Return a converter, for argparse, to a number above 0."""

    def convert(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
        return value

    convert.__name__ = "number"  # for argparse's message
    return convert
