"""A pytest plugin with what the tests of the C API have in common."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import atoll
from helpers import TESTS


@pytest.fixture(scope="session")
def capi_folder() -> Path:
    """The folder with the compiled modules."""
    try:
        import capi_build

        return capi_build.build()
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(params=["capi_shared", "capi_cloned"])
def capi(capi_folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The test module in C, once as interpreters share it and once as each has its own."""
    monkeypatch.syspath_prepend(str(capi_folder))
    return importlib.import_module(request.param)


@pytest.fixture
def there(capi_folder: Path, capi: ModuleType) -> Iterator[atoll.Interpreter]:
    """An interpreter that has imported it, too; its name is `capi` in __main__."""
    with atoll.create(extensions="strict" if capi.__name__ == "capi_shared" else "isolate") as interp:
        interp.exec(f"import sys; sys.path.insert(0, {str(capi_folder)!r}); import {capi.__name__} as capi")
        yield interp


@pytest.fixture(scope="session")
def embed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Compile a program of tests/embed, run it with arguments in the place of Python, and return how it ended."""
    folder = tmp_path_factory.mktemp("embed")
    paths = {sysconfig.get_path("include"), sysconfig.get_path("platinclude"), atoll.get_include()}
    flags = ["-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread"]
    made: dict[str, Path] = {}

    def run(
        source: str, *arguments: object, timeout: float = 120, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        if source not in made:
            made[source] = folder / f"{Path(source).name}.so"
            command = [*shlex.split(os.environ.get("CC", "cc")), *flags, *(f"-I{path}" for path in paths)]
            command += [str(TESTS / "embed" / source), "-o", str(made[source]), "-ldl"]
            subprocess.run(command, check=True)
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={
                **os.environ,
                # A second Python of 3.14 finds no venv.
                "PYTHONPATH": str(Path(atoll.__file__).parent.parent),
                "LD_PRELOAD": str(made[source]),
                "ATOLL_TEST_HOST": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        # Some versions wonder now and then where a host program has its venv.
        done.stderr = "".join(line for line in done.stderr.splitlines(True) if "prefix" not in line)
        return done

    return run
