"""map(progress=True): how far it is."""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

INTERVAL = 0.2  # seconds between two lines


def show(results: Iterator[Any], total: int | None) -> Iterator[Any]:
    """Yield the results, and write how many there were to sys.stderr: with tqdm, or a line of text."""
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return _plain(results, total)
    return iter(tqdm(results, total=total))


def _plain(results: Iterator[Any], total: int | None) -> Iterator[Any]:
    began = written = time.monotonic()
    file = sys.stderr
    is_terminal = file is not None and file.isatty()
    count = 0

    def write(end: str) -> None:
        seconds = time.monotonic() - began
        of = f"/{total:,} ({count / total:.0%})" if total else ""
        rate = count / seconds if seconds > 0 else 0.0
        if file is not None:
            file.write(f"{chr(13) if is_terminal else ''}{count:,}{of} {seconds:.1f} s {rate:,.0f}/s{end}")
            file.flush()

    try:
        for result in results:
            count += 1
            yield result
            now = time.monotonic()
            if now - written >= (INTERVAL if is_terminal else 50 * INTERVAL):
                written = now
                write("" if is_terminal else "\n")
    finally:
        write("\n")
