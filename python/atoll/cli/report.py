"""Shows verdicts: as a table on a terminal, as plain lines elsewhere, as JSON."""

import os
import platform
import shutil
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO

import atoll

from .packages import Package
from .verdict import FOR_AUTHORS, STATUS, Verdict, as_json

_COLOURS = {"supports": "32", "isolated": "36", "pure": "2", "fails": "1;31", "unimportable": "33"}
_GAP = "  "
_SUMMARY = {  # of one, of several
    "supports": ("supports sub-interpreters itself", "support sub-interpreters themselves"),
    "isolated": ("works through isolation", "work through isolation"),
    "pure": ("is pure Python", "are pure Python"),
    "fails": ("fails", "fail"),
    "unimportable": ("cannot be imported", "cannot be imported"),
}


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# ------------------------------------------------------------------------------------------------
# One verdict
# ------------------------------------------------------------------------------------------------


def details(verdict: Verdict) -> str:
    """Return the rest of a verdict's line: what was loaded, or what went wrong."""
    if verdict.failure is not None:
        return f"{verdict.failure.stage}: {verdict.failure.text}"
    told = list(verdict.notes)
    count = len(verdict.package.extensions) - sum(
        module in verdict.package.extensions for module in verdict.skipped
    )
    if verdict.own:
        told.append(f"{len(verdict.own)} of {_plural(count, 'extension module')} cloned")
    elif count:
        told.append(_plural(count, "extension module"))
    if verdict.others:
        told.append(f"{len(verdict.others)} of other packages cloned")
    if verdict.skipped:
        told.append(f"{len(verdict.skipped)} skipped, which main cannot import either")
    return ", ".join(told)


def more(verdict: Verdict) -> list[str]:
    """Return what a reader of a failure needs beside its line."""
    failure = verdict.failure
    lines = []
    if failure is not None:
        if failure.python_frame:
            lines.append(f"Python: {failure.python_frame}")
        lines += [f"C: {frame}" for frame in failure.c_frames]
    return lines if verdict.works else lines + verdict.hints


class Report:
    """Prints verdicts in the order of the packages, as soon as those before them are known; any thread may use it."""

    def __init__(self, packages: Sequence[Package], out: TextIO, *, show: bool) -> None:
        """Begin; with show=False nothing but the progress line is printed."""
        self.packages = packages
        self.out = out
        self.show = show
        self.table = show and _is_terminal(out)
        self.coloured = self.table and not os.environ.get("NO_COLOR")
        self.width = shutil.get_terminal_size().columns
        self.progress = _is_terminal(sys.stderr)
        self.verdicts: dict[str, Verdict] = {}
        self.under_way: list[str] = []
        self.printed = 0
        self.lock = threading.Lock()
        self.columns = [
            max([len("PACKAGE"), *(len(package.name) for package in packages)]),
            max([len("VERSION"), *(len(package.version or "") for package in packages)]),
            max(len(text) for text in STATUS.values()),
        ]
        if self.table:
            self._print_row("PACKAGE", "VERSION", "RESULT", "", "1")

    def begin(self, package: Package) -> None:
        """Note that a package is being checked."""
        with self.lock:
            self.under_way.append(package.name)
            self._draw()

    def end(self, verdict: Verdict) -> None:
        """Note a package's verdict."""
        with self.lock:
            self.under_way.remove(verdict.package.name)
            self.verdicts[verdict.package.name] = verdict
            self._erase()
            while self.printed < len(self.packages):
                next_one = self.verdicts.get(self.packages[self.printed].name)
                if next_one is None:
                    break
                self.printed += 1
                if self.show:
                    self._print_verdict(next_one)
            self._draw()

    def finish(self, seconds: float) -> None:
        """Print the hints that are the same for all, and the sum."""
        self._erase()
        if not self.show:
            return
        verdicts = list(self.verdicts.values())
        if any(verdict.own for verdict in verdicts):
            self._print("")
            self._print_wrapped(FOR_AUTHORS, "")
        counts = Counter(verdict.status for verdict in verdicts)
        parts = [
            f"{counts[status]} {words[counts[status] > 1]}"
            for status, words in _SUMMARY.items()
            if counts[status]
        ]
        self._print(f"{_plural(len(verdicts), 'package')}: {', '.join(parts)} ({seconds:.1f} s)")

    def _print_verdict(self, verdict: Verdict) -> None:
        package, words = verdict.package, STATUS[verdict.status]
        if self.table:
            colour = _COLOURS[verdict.status]
            self._print_row(package.name, package.version or "", words, details(verdict), colour)
        else:
            name = package.name if package.version is None else f"{package.name} {package.version}"
            rest = details(verdict)
            self._print(f"{name}: {words}" + (f": {rest}" if rest else ""))
        for line in more(verdict):
            self._print_wrapped(line, "    ")

    def _print_row(self, name: str, version: str, words: str, rest: str, colour: str) -> None:
        cells = [text.ljust(width) for text, width in zip((name, version, words), self.columns, strict=True)]
        if self.coloured:
            cells[2] = f"\033[{colour}m{cells[2]}\033[0m"
        self._print(_GAP.join([*cells, rest]).rstrip())

    def _print_wrapped(self, text: str, indent: str) -> None:
        if not self.table or text.startswith(
            ("Python:", "C:", "To look into it:")
        ):  # to be copied in one piece
            self._print(indent + text)
        else:
            self._print(
                textwrap.fill(text, max(40, self.width), initial_indent=indent, subsequent_indent=indent)
            )

    def _print(self, line: str) -> None:
        print(line, file=self.out, flush=True)

    def _draw(self) -> None:
        if self.progress and len(self.verdicts) < len(self.packages):
            line = f"[{len(self.verdicts)}/{len(self.packages)}] {', '.join(self.under_way)}"
            print(f"\r\033[K{line[: self.width - 1]}", end="", file=sys.stderr, flush=True)

    def _erase(self) -> None:
        if self.progress:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------
# All of them as data
# ------------------------------------------------------------------------------------------------


def document(verdicts: Sequence[Verdict], timeout: float, seconds: float) -> dict[str, Any]:
    """Return everything that ``--json`` prints."""
    counts = Counter(verdict.status for verdict in verdicts)
    libc, libc_version = platform.libc_ver()
    return {
        "atoll": atoll.__version__,
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
        },
        "platform": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "libc": f"{libc} {libc_version}".strip(),
        },
        "timeout": timeout,
        "seconds": round(seconds, 2),
        "summary": {status: counts[status] for status in STATUS},
        "packages": [as_json(verdict) for verdict in verdicts],
    }
