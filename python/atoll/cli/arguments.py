"""What several commands read from their command lines."""

import argparse
import threading
from collections.abc import Callable
from typing import Any


def add_parser(commands: Any, name: str, main: Callable[[argparse.Namespace], int], **texts: str) -> Any:
    """Add a command, which main() does, to a parser's subparsers; its texts are printed as they stand."""
    parser = commands.add_parser(name, formatter_class=argparse.RawDescriptionHelpFormatter, **texts)
    parser.set_defaults(parser=parser, main=main)
    return parser


_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _with_unit(text: str, units: dict[str, float], what: str) -> float:
    """Return a number with one of the units; raise argparse's error for what is none."""
    number = text.rstrip("".join(units) + "".join(units).lower())
    unit = text[len(number) :]
    if unit not in units:
        unit = unit.upper()
    try:
        value = float(number) * units[unit]
    except (ValueError, KeyError):
        known = ", ".join(unit for unit in units if unit)
        raise argparse.ArgumentTypeError(
            f"must be {what}, such as 10, or with {known}, not {text!r}"
        ) from None
    if not 0 < value < 2**63:
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return value


def size(text: str) -> int:
    """Convert, for argparse, a number of bytes, with K, M, G or T for 1024 of them and so on."""
    return int(_with_unit(text, dict(_BYTES), "a number of bytes")) or 1


def seconds(text: str) -> float:
    """Convert, for argparse, a number of seconds, or of ms, m (minutes) or h (hours)."""
    return _with_unit(text, _SECONDS, "a number of seconds")


def positive(kind: type[int] | type[float]) -> Any:
    """Return a converter, for argparse, to a number above 0, or of seconds that can be waited for."""

    def convert(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
        if kind is float and value > threading.TIMEOUT_MAX:
            raise argparse.ArgumentTypeError(f"must be at most {threading.TIMEOUT_MAX:.0f}, not {text}")
        return value

    convert.__name__ = "number"  # for argparse's message
    return convert
