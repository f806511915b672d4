"""Check one case in this process and report over a pipe.

Started by tools/check_packages.py as ``python -X faulthandler child.py FD REQUEST``.  FD is the pipe's writing end,
REQUEST a JSON object: `home` and `name` of the case, `main` (whether the main interpreter imports it too, first),
`seconds` (for how long two interpreters work at once) and `baseline` (no interpreters: main and its threads do
everything).

Each line written to the pipe is one JSON object: {"stage": name} as a stage begins, {"error": text} for the one that
fails, facts about the case ({"operations": [...]}, {"extensions": {...}}), and {"stage": "exit"} last.  What
dies without a word has died in the stage that it reported last.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases

HERE = str(Path(__file__).resolve().parent)
INTERPRETERS = 3

descriptor = int(sys.argv[1])
request = json.loads(sys.argv[2])
case = (request["home"], request["name"])


def report(**event: Any) -> None:
    """Write one event."""
    os.write(descriptor, json.dumps(event).encode() + b"\n")


def together(functions: list[Callable[[], int]]) -> list[int]:
    """Run each in a thread of its own, all at once; their results.  Raises the first one's exception."""
    results: dict[int, int] = {}
    errors: list[Exception] = []

    def run(number: int) -> None:
        try:
            results[number] = functions[number]()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error
    return [results[number] for number in sorted(results)]


def in_main() -> None:
    """Use it in the main interpreter."""
    report(stage="main: import")
    cases.import_modules(*case)
    report(stage="main: operate")
    cases.operate(*case)


def in_threads() -> None:
    """What is left to compare with when there are no interpreters: two threads of main."""
    report(stage="together")
    work = lambda: cases.operate(*case, request["seconds"])  # noqa: E731
    report(operations=together([work, work]))


def in_interpreters() -> None:
    """Use it in three interpreters one after the other, then in two of them at once."""
    import atoll

    made = []
    for number in range(1, INTERPRETERS + 1):
        report(stage=f"create {number}")
        interp = atoll.create()
        made.append(interp)
        interp.exec(
            f"import sys; sys.path.insert(0, {HERE!r}); import warnings; warnings.simplefilter('ignore')"
        )
        report(stage=f"import {number}")
        interp.call(cases.import_modules, *case)
        report(stage=f"operate {number}")
        interp.call(cases.operate, *case)
    report(stage="together")
    working: list[Callable[[], int]] = [
        functools.partial(interp.call, cases.operate, *case, request["seconds"]) for interp in made[:2]
    ]
    report(operations=together(working))
    if hasattr(atoll, "loaded_extensions"):
        report(stage="extensions")
        hows = made[0].call(lambda: [extension.how for extension in __import__("atoll").loaded_extensions()])
        report(extensions=collections.Counter(hows))
    for number, interp in enumerate(made, 1):
        report(stage=f"close {number}")
        interp.close()


warnings.simplefilter("ignore")
try:
    if request["main"] or request["baseline"]:
        in_main()
    if request["baseline"]:
        in_threads()
    else:
        in_interpreters()
except BaseException:
    report(error=traceback.format_exc())
    raise
report(stage="exit")
