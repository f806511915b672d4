"""A pytest plugin with what the tests of extension modules have in common."""

from __future__ import annotations

import ast
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import atoll
import ext_use
from ext_build import build
from helpers import check_ended, run_python


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder with the compiled extensions; interpreters and child processes that import ext_use know it."""
    try:
        folder = build()
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    os.environ["EXT_CORPUS"] = str(folder)
    return folder


@pytest.fixture
def make(corpus: Path) -> Iterator[Callable[..., atoll.Interpreter]]:
    """ext_use.create, with which interpreters are made that can import the corpus; closes them after the test."""
    made = []

    def create(**options: Any) -> atoll.Interpreter:
        made.append(ext_use.create(**options))
        return made[-1]

    yield create
    for interp in made:
        with contextlib.suppress(atoll.InterpreterError):
            interp.close()


@pytest.fixture(scope="session")
def oracle(corpus: Path) -> Callable[..., Any]:
    """Return a function that calls one of ext_use's in the main interpreter of a new process: what CPython does."""
    known: dict[object, Any] = {}

    def ask(function: Callable[..., Any], *args: Any) -> Any:
        key = (function.__name__, args)
        if key not in known:
            source = f"import ext_use; print(ascii(ext_use.{function.__name__}(*{args!a})))"
            done = run_python(source)
            check_ended(done, 0)
            known[key] = ast.literal_eval(done.stdout)
        return known[key]

    return ask
