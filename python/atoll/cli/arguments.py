"""What several commands read from their command lines."""

import argparse
from typing import Any


def positive(kind: type[int] | type[float]) -> Any:
    """Return a converter, for argparse, to a number above 0."""

    def convert(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
        return value

    convert.__name__ = "number"  # for argparse's message
    return convert
