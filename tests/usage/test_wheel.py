"""What a user has installed: the files of a wheel, whole, and the library that clones need."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import platform
from pathlib import Path

import pytest

import atoll
from cli_helpers import skip_without

FILES = importlib.metadata.files(importlib.metadata.packages_distributions()["atoll"][0]) or []
GLIBC = platform.libc_ver()[0] == "glibc"


def test_is_imported_from_where_it_is_installed():
    assert {str(Path(atoll.__file__)), str(Path(atoll._atoll.__file__))} <= {
        str(file.locate()) for file in FILES
    }


def test_files():
    names = {str(file) for file in FILES if ".dist-info" not in file.parts[0] and file.suffix != ".pyc"}
    assert {"atoll/_shim.so", "atoll/_atoll.pyi", "atoll/py.typed", "atoll/__main__.py"} <= names
    assert {"atoll/include/atoll.h", "atoll/include/atoll.pxd"} <= names
    assert {Path(name).parts[0] for name in names} == {"atoll"}
    assert {Path(name).suffix for name in names} == {".py", ".pyi", ".so", ".typed", ".h", ".pxd"}


def test_files_are_whole():
    checked = 0
    for file in FILES:
        if file.hash is None:
            continue  # the list itself, and what the installer has compiled
        digest = hashlib.new(file.hash.mode, file.locate().read_bytes()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value, file
        checked += 1
    assert checked > 50


def test_version():
    name = importlib.metadata.packages_distributions()["atoll"][0]
    assert importlib.metadata.version(name) == atoll.__version__


def isolated():
    import numpy.linalg

    import atoll

    assert round(float(numpy.linalg.det(numpy.eye(3) * 2))) == 8
    return {module.module for module in atoll.loaded_extensions() if module.how == "isolated"}


@pytest.mark.skipif(not GLIBC, reason="extension modules are cloned where there is glibc")
def test_clones():
    skip_without("numpy")
    with atoll.create() as one, atoll.create() as two:
        assert "numpy.linalg._umath_linalg" in one.call(isolated) & two.call(isolated)


@pytest.mark.skipif(GLIBC, reason="what cannot be cloned is refused where there is no glibc")
def test_refused():
    skip_without("numpy")
    with atoll.create() as interp, pytest.raises(atoll.ExecutionFailed, match="ImportError"):
        interp.exec("import numpy")
