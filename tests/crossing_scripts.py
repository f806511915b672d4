"""Makes scripts of the texts in tests/crossing.

A text has a line that says what it is about, and sections: `### name`, then definitions as a script has them at its
top level, and calls of check(), equal() and raised() of crossing_helpers.  `# since: 3.13` ends a section on older
versions.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "crossing"
PRELUDE = """\
import abc, collections, collections.abc, contextlib, dataclasses, enum, functools, sys, types, typing, weakref
import atoll
from crossing_helpers import check, equal, finish, raised, refused, section
"""


def sections(name: str) -> list[tuple[str, str]]:
    """The names and sources of the sections of a text."""
    parts = re.split(r"^### ", (FOLDER / name).read_text(), flags=re.M)[1:]
    found = []
    for part in parts:
        title, source = part.split("\n", 1)
        pieces = re.split(r"^# since: 3\.(\d+)\n", source, flags=re.M)
        kept = pieces[0]
        for minor, piece in zip(pieces[1::2], pieces[2::2], strict=True):
            if sys.version_info >= (3, int(minor)):
                kept += piece
        found.append((title, kept))
    return found


def script(name: str, *only: str) -> str:
    """The script of a text, or of those of its sections whose names hold one of these words."""
    source = PRELUDE
    for title, body in sections(name):
        if not only or any(word in title for word in only):
            source += f"\nsection({title!r})\n{body}"
    return source + "\nfinish()\n"
