"""The environments that tools/check_packages.py works in: .venv/packages-X.Y.

Each holds what tests/packages/pins/X.Y.txt names, X.Y-large.txt too unless that is left out, and Atoll as tools/env has
built it for .venv/X.Y. Only wheels are installed: a distribution that has none for a version is named in a
comment of that version's pins.  uv is used where it is there (ATOLL_NO_UV=1: not), else pip.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PINS = Path(__file__).resolve().parent / "pins"
MISSING = "# no wheel: "

# Installed last, pinned in a file of their own: they bring several GB of other distributions.
LARGE = ("torch",)
# What these require has no wheel on every version, and what is checked does without it.
ALONE = ("tokenizers",)

REPORT = """
import importlib.metadata, json
names = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
print(json.dumps(names))
"""


class CannotProvide(Exception):
    """An environment cannot be made; the text says why."""


def normal(name: str) -> str:
    """Return a distribution's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def run(*command: object, quiet: bool = False) -> bool:
    """Run a command in the checkout; whether it succeeded."""
    words = [str(word) for word in command]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(words, cwd=ROOT, stdout=output, stderr=output, check=False).returncode == 0


def have_uv() -> bool:
    """Say whether uv is there and works."""
    return (
        not os.environ.get("ATOLL_NO_UV") and bool(shutil.which("uv")) and run("uv", "--version", quiet=True)
    )


def python_of(environment: Path) -> Path:
    """Return the path of an environment's Python."""
    return environment / "bin" / "python"


def site_packages(environment: Path, version: str) -> Path:
    """Return the directory of an environment's packages."""
    return environment / "lib" / f"python{version}" / "site-packages"


def installed(environment: Path) -> dict[str, str]:
    """Return the versions of what is installed, by normal name."""
    done = subprocess.run(
        [python_of(environment), "-I", "-c", REPORT], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise CannotProvide(f"{python_of(environment)} does not run")
    return {normal(name): version for name, version in json.loads(done.stdout).items()}


def install(environment: Path, version: str, *arguments: object, quiet: bool = False) -> bool:
    """Install wheels, with pip's arguments; whether that went well."""
    wheels = ("--quiet", "--only-binary", ":all:", *arguments)
    if have_uv():
        return run("uv", "pip", "install", "--python", python_of(environment), *wheels, quiet=quiet)
    pip = (ROOT / ".venv" / version / "bin" / "python", "-m", "pip", "--python", python_of(environment))
    return run(*pip, "install", *wheels, quiet=quiet)


def make_empty(environment: Path, version: str) -> None:
    """Make an environment with nothing in it."""
    found = subprocess.run(
        ["tools/pythons", "find", version], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if found.returncode != 0:
        raise CannotProvide(f"Python {version} cannot be had")
    shutil.rmtree(environment, ignore_errors=True)
    if not run(found.stdout.strip(), "-m", "venv", "--without-pip", environment):
        raise CannotProvide(f"{environment} cannot be made with {found.stdout.strip()}")


def pin_files(version: str, large: bool) -> list[Path]:
    """Return the files that say what is in an environment."""
    files = [PINS / f"{version}.txt", PINS / f"{version}-large.txt"]
    return [file for file in files[: 2 if large else 1] if file.exists()]


def without_wheel(version: str) -> set[str]:
    """Return the normal names of what has no wheel for a version, as its pins say."""
    lines = [line for file in pin_files(version, True) for line in file.read_text().splitlines()]
    return {normal(line.removeprefix(MISSING)) for line in lines if line.startswith(MISSING)}


def update_atoll(environment: Path, version: str) -> None:
    """Copy the Atoll of .venv/X.Y, which has the same Python, unless it is there already."""
    origin = ROOT / ".venv" / version
    stamp = (origin / ".atoll-stamp").read_text()
    copy = environment / ".atoll-stamp"
    if copy.exists() and copy.read_text() == stamp:
        return
    copy.unlink(missing_ok=True)
    target = site_packages(environment, version)
    for path in target.glob("atoll*"):
        shutil.rmtree(path)
    for path in site_packages(origin, version).glob("atoll*"):
        shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    copy.write_text(stamp)


def provide(version: str, large: bool) -> Path:
    """Return the environment of a version, made or brought up to date.  Raises CannotProvide."""
    if not run("tools/pythons", "get", version):
        raise CannotProvide(f"Python {version} cannot be had")
    if not run("tools/env", version):
        raise CannotProvide(f"Atoll cannot be built for Python {version}")
    files = pin_files(version, large)
    if not files:
        raise CannotProvide(f"nothing is pinned for Python {version}: tools/check_packages.py --pin")
    environment = ROOT / ".venv" / f"packages-{version}"
    stamp = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    done = environment / ".pins-stamp"
    if not done.exists() or done.read_text() != stamp or not run(python_of(environment), "-c", ""):
        print(f"installing packages for Python {version}", flush=True)
        make_empty(environment, version)
        pins = [word for file in files for word in ("-r", str(file))]
        if not install(environment, version, "--no-deps", *pins):
            raise CannotProvide(f"the packages for Python {version} cannot be installed")
        done.write_text(stamp)
    update_atoll(environment, version)
    return environment


def pin(version: str, distributions: list[str]) -> None:
    """Write the pins of a version: what is newest today, one after the other, each as far as it has wheels."""
    if not run("tools/env", version, "--tools-only"):
        raise CannotProvide(f"no environment for Python {version}")
    environment = ROOT / ".venv" / f"packages-{version}"
    make_empty(environment, version)
    PINS.mkdir(exist_ok=True)
    before: dict[str, str] = {}
    small = sorted({name for name in distributions if name not in LARGE}, key=str.lower)
    for names, file in ((small, f"{version}.txt"), (LARGE, f"{version}-large.txt")):
        missing = []
        for name in names:
            print(f"{version}: {name}", flush=True)
            alone = ["--no-deps"] if name in ALONE else []
            if not install(environment, version, *alone, name, quiet=True):
                missing.append(name)
        now = installed(environment)
        lines = [f"# Written by tools/check_packages.py --pin --py {version}\n"]
        lines += [f"{MISSING}{name}\n" for name in missing]
        lines += [f"{name}=={now[name]}\n" for name in sorted(now) if before.get(name) != now[name]]
        (PINS / file).write_text("".join(lines))
        before = now
