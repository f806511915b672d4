"""``python -m atoll map``: a function over files, or over the lines of standard input, in a pool of interpreters.

Three parties. A thread reads the items and submits them, one task each, and puts their futures into a queue that is as
long as what may be on its way: so memory is bounded whatever comes in, and a result is printed once it is there, also
when the next item takes its time. The pool's workers call the function and make text of what it returned. The main
thread prints that in the items' order. When it stops before the end the reader is left where it is: it may be waiting
for input that never comes, which is why it reads with os.read() and holds no lock of sys.stdin's.
"""

import argparse
import json
import os
import queue
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import atoll
from atoll._pool.inner import processors
from atoll._pool.progress import show

from . import map_there
from .arguments import add_parser, positive

_DESCRIPTION = """\
Call a function with each PATH, or without a PATH (or with -) with each line of standard input, in as many
interpreters as there are cores, and print what it returns, a line for each, in order. What it returns as None prints
nothing.

The first item whose call raises ends it, as make has it: what runs is finished, what has not begun is not called. With
--keep-going the rest is done all the same. Each error is told on standard error with its item, the first one with
its traceback.
"""
_EPILOG = """\
exit status: 0; 1 when a call has raised; 2 for a function that is not there or is async; after Ctrl-C, which
interrupts what runs, that of SIGINT (130 in a shell).

examples:
  python -m atoll map hashing:digest *.iso
  python -m atoll map tools/thumbnails.py:make photos/*.jpg --progress --keep-going
  find . -name '*.py' -print0 | python -m atoll map -0 py_compile:compile
  tail -f access.log | python -m atoll map parse:line --jsonl | jq .result.status
"""
_WINDOW = 64  # items for each worker that may be on their way
_BLOCK = 1 << 16


class _Reader(threading.Thread):
    """Reads items and submits them; ``futures`` holds (item, future) in order, and None at the end."""

    def __init__(self, pool: atoll.InterpreterPoolExecutor, items: Iterable[str], options: Any) -> None:
        super().__init__(name="reader", daemon=True)
        self.futures: queue.Queue[tuple[str, Future[Any]] | None] = queue.Queue(_WINDOW * options.jobs)
        self.error: Exception | None = None
        self.stopped = False  # set before the pool is shut down
        self._pool = pool
        self._items = items
        self._options = options

    def run(self) -> None:
        """Read until the end, or until the pool takes no more."""
        name, as_json = self._options.function, self._options.jsonl
        try:
            for item in self._items:
                try:
                    future = self._pool.submit(map_there.apply, name, item, as_json)
                except RuntimeError:
                    if self.stopped:
                        break
                    raise  # no interpreter can be made any more
                self.futures.put((item, future))
        except Exception as error:
            self.error = error
        self.futures.put(None)


def add_command(commands: Any) -> None:
    """Add this command to a parser's subparsers."""
    parser = add_parser(
        commands,
        "map",
        main,
        help="call a function with each file, or each line of standard input",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    jobs = processors()
    parser.add_argument(
        "function", metavar="FUNCTION", help="module:function or path/to/file.py:function, of one argument"
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="what it is called with")
    parser.add_argument(
        "-j",
        "--jobs",
        type=positive(int),
        default=jobs,
        metavar="N",
        help=f"interpreters (default {jobs}: one for each core)",
    )
    parser.add_argument("-k", "--keep-going", action="store_true", help="go on after errors")
    parser.add_argument(
        "--timeout", type=positive(float), metavar="SECONDS", help="time limit of each call, which then fails"
    )
    parser.add_argument(
        "--jsonl",
        action="store_true",
        help='print a line of JSON for each item: {"item": ..., "result": ...}, or {"item": ..., "error": ...}',
    )
    parser.add_argument("--progress", action="store_true", help="show on standard error how far it is")
    parser.add_argument(
        "-0",
        "--null",
        action="store_true",
        help="items of standard input end with a null character, not a line",
    )


def main(options: argparse.Namespace) -> int:
    """Call, print, return the exit status."""
    where, colon, what = options.function.rpartition(":")
    if not (where and colon and what):
        options.parser.error(f"{options.function!r} is not module:function or path/to/file.py:function")
    if sys.stdin is None and _is_input(options):
        options.parser.error("standard input is closed: give a PATH")
    try:
        pool = atoll.InterpreterPoolExecutor(
            options.jobs,
            thread_name_prefix="map",
            initializer=map_there.prepare,
            initargs=(sys.path[:],),
            task_timeout=options.timeout,
        )
    except ValueError as error:
        options.parser.error(str(error))
    with pool:
        try:
            return _map(pool, options)
        except BrokenPipeError:
            pool.terminate_workers()
            raise


def _is_input(options: argparse.Namespace) -> bool:
    return options.paths in ([], ["-"])


def _map(pool: atoll.InterpreterPoolExecutor, options: argparse.Namespace) -> int:
    wrong = pool.submit(map_there.check, options.function).result()
    if wrong is not None:
        print(f"{options.parser.prog}: {wrong}", file=sys.stderr)
        return 2
    is_input = _is_input(options)
    reader = _Reader(pool, _items(options.null) if is_input else options.paths, options)
    reader.start()
    outcomes = _outcomes(reader)
    if options.progress:
        outcomes = show(outcomes, None if is_input else len(options.paths))
    return _Printer(options).print_all(outcomes, pool, reader)


def _items(null: bool) -> Iterator[str]:
    """Yield the lines of standard input, as they come."""
    separator = b"\0" if null else b"\n"
    begun: list[bytes] = []  # blocks of a line that has not ended
    while block := os.read(0, _BLOCK):
        first, *lines = block.split(separator)
        begun.append(first)
        if lines:
            yield _decode(b"".join(begun))
            *lines, last = lines
            begun = [last]
            yield from map(_decode, lines)
    if any(begun):
        yield _decode(b"".join(begun))


def _decode(line: bytes) -> str:
    return line.decode(sys.stdin.encoding or "utf-8", "surrogateescape")  # as names of files are


type _Outcome = tuple[str, bool, str, str]


def _outcomes(reader: _Reader) -> Iterator[_Outcome]:
    """Yield (item, whether it went well, text, traceback) in the order of the items."""
    while True:
        try:
            entry = reader.futures.get_nowait()
        except queue.Empty:
            sys.stdout.flush()
            entry = reader.futures.get()
        if entry is None:
            return
        item, future = entry
        if not future.done():
            sys.stdout.flush()
        error = future.exception()
        if error is None:
            yield (item, *future.result())
        else:
            yield item, False, f"{type(error).__name__}: {error}", _place(error)


def _place(error: BaseException) -> str:
    """Return the traceback of where a call was when it was ended from outside: at its time limit, say."""
    cause = error.__cause__
    if not isinstance(cause, atoll.ExecutionFailed):
        return ""
    trace = map_there.without_own_frames(cause.excinfo.errdisplay)
    if isinstance(error, TimeoutError):  # what has interrupted it is the pool's affair
        trace = trace.removesuffix("KeyboardInterrupt").rstrip() + f"\nTimeoutError: {error}"
    return f"{trace}\n"


class _Printer:
    """Writes outcomes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._failed = False
        # A line with how far it is may be there, which the next one of those writes anew.
        self._clear = "\r\x1b[K" if options.progress and sys.stderr.isatty() else ""

    def print_all(
        self, outcomes: Iterator[_Outcome], pool: atoll.InterpreterPoolExecutor, reader: _Reader
    ) -> int:
        """Print them, until an error that ends it; return the exit status."""
        sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
        for item, good, text, trace in outcomes:
            if good:
                try:
                    self._print(text)
                    continue
                except UnicodeEncodeError as wrong:
                    text = f"{type(wrong).__name__}: what it returned cannot be written: {wrong}"
            if self._options.jsonl:
                self._print(json.dumps({"item": item, "error": text}) + "\n")
            self._tell(item, text, trace)
            if not self._options.keep_going:
                reader.stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                break
        if reader.error is not None:
            error = reader.error
            print(f"{self._options.parser.prog}: {type(error).__name__}: {error}", file=sys.stderr)
            self._failed = True
        sys.stdout.flush()
        return 1 if self._failed else 0

    def _print(self, text: str) -> None:
        if text and self._clear and sys.stdout.isatty():
            sys.stderr.write(self._clear)
            sys.stderr.flush()
        sys.stdout.write(text)

    def _tell(self, item: str, text: str, trace: str) -> None:
        sys.stdout.flush()
        summary = text.partition("\n")[0]
        print(f"{self._clear}{self._options.parser.prog}: {item!r}: {summary}", file=sys.stderr)
        if trace and not self._failed:
            print(trace, end="", file=sys.stderr)
        sys.stderr.flush()
        self._failed = True
