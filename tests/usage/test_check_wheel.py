"""What tools/check_wheel.py says of wheels that a repair has left alone, and of those that it has not."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from helpers import TESTS

TOOL = TESTS.parent / "tools" / "check_wheel.py"
MODULE = "atoll/_atoll.cpython-314-x86_64-linux-gnu.so"
NAMES = ["__init__.py", "_atoll.pyi", "py.typed", "_shim.so", "cli/__init__.py"]
FILES = {name: b"something" for name in (*NAMES, "include/atoll.h", "include/atoll.pxd")}
WHOLE = {**{f"atoll/{name}": text for name, text in FILES.items()}, MODULE: b"code"}


def check(tmp_path, made, repaired, platform="manylinux_2_34_x86_64"):
    paths = [
        tmp_path / "atoll-1-cp314-cp314-linux_x86_64.whl",
        tmp_path / f"atoll-1-cp314-cp314-{platform}.whl",
    ]
    for path, files, number in zip(paths, (made, repaired), "12", strict=True):
        (tmp_path / number).mkdir()
        with zipfile.ZipFile(tmp_path / number / path.name, "w") as archive:
            archive.writestr("atoll-1.dist-info/WHEEL", number)
            archive.writestr("atoll-1.dist-info/sboms/atoll.cdx.json", "{}")
            for name, text in files.items():
                archive.writestr(name, text)
    command = [sys.executable, TOOL, tmp_path / "1" / paths[0].name, tmp_path / "2" / paths[1].name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_unchanged(tmp_path):
    assert check(tmp_path, WHOLE, WHOLE) == (0, "")


@pytest.mark.parametrize(
    "repaired, complaint",
    [
        ({**WHOLE, "atoll/_shim.so": b"patched"}, "atoll/_shim.so was changed by the repair"),
        ({**WHOLE, "atoll.libs/libc-1.so": b""}, "atoll.libs/libc-1.so does not belong there"),
        ({name: text for name, text in WHOLE.items() if "_shim" not in name}, "atoll/_shim.so is missing"),
        ({name: text for name, text in WHOLE.items() if name != MODULE}, "one C module is expected, not []"),
        ({**WHOLE, "atoll/tests/data.bin": b""}, "atoll/tests/data.bin does not belong there"),
    ],
)
def test_fault(tmp_path, repaired, complaint):
    status, output = check(tmp_path, WHOLE, repaired)
    assert status == 1
    assert complaint in output


def test_not_repaired(tmp_path):
    status, output = check(tmp_path, WHOLE, WHOLE, "linux_x86_64")
    assert (status, "plain linux" in output) == (1, True)
