"""Decides what a package's imports in child processes say about it."""

import os
import shlex
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from .children import Children, Failure, Run
from .packages import Package

# What can be said of a package, and the words for it.
STATUS = {
    "supports": "supports sub-interpreters itself",
    "isolated": "works through isolation",
    "pure": "pure Python",
    "fails": "fails",
    "unimportable": "cannot be imported here at all",
}
WORKS = ("supports", "isolated", "pure")


@dataclass
class Verdict:
    """What is known about one package; ``status`` is a key of STATUS."""

    package: Package
    status: str
    seconds: float = 0.0
    failure: Failure | None = None
    own: list[str] = field(default_factory=list)  # its extension modules that were cloned
    others: list[str] = field(default_factory=list)  # those of the packages that it imports
    cloned_bytes: int = 0  # that one more interpreter costs for the clones' files
    skipped: dict[str, str] = field(default_factory=dict)  # modules that main cannot import either, and why
    notes: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """Whether it can be used in interpreters."""
        return self.status in WORKS


def judge(package: Package, children: Children) -> Verdict:
    """Import the package in child processes, and say what came out."""
    began = time.monotonic()
    verdict = _judge(package, children)
    verdict.seconds = time.monotonic() - began
    return verdict


def _judge(package: Package, children: Children) -> Verdict:
    modules = package.modules
    if not modules:
        return Verdict(package, "pure", notes=["nothing to import"])
    run = children.run("isolate", modules)
    skipped: dict[str, Failure] = {}
    ended: Failure | None = None
    if run.failed:
        skipped, ended = _fails_in_main(modules, children)
        if skipped:
            modules = [module for module in modules if module not in skipped]
            if not set(package.imports) & set(modules):
                return _unimportable(package, skipped)
            run = children.run("isolate", modules)
    verdict = Verdict(package, "fails", command=run.command)
    verdict.skipped = {module: failure.text for module, failure in skipped.items()}
    if run.failed:
        verdict.failure = _choose(run.failures)
        verdict.hints = _explain(verdict, run, modules, children)
        if ended is not None:
            verdict.hints.insert(0, f"In the main interpreter, without Atoll: {ended.text}, {ended.stage}.")
        return verdict
    _add_extensions(verdict, run)
    extensions = [module for module in package.extensions if module in modules]
    if not extensions:
        verdict.status = "pure"
    elif children.run("strict", modules).failed:
        verdict.status = "isolated"
        if verdict.own:
            verdict.hints = [FOR_AUTHORS]
    else:
        verdict.status = "supports"
    return verdict


def _fails_in_main(modules: list[str], children: Children) -> tuple[dict[str, Failure], Failure | None]:
    """Return the modules that the main interpreter, without Atoll, cannot import, and why; and how the process ended.

    The second is None when it ended well.
    """
    failures: dict[str, Failure] = {}
    died: Failure | None = None
    todo = list(modules)
    while todo:
        run = children.run("main", todo)
        died = run.died
        failures.update((failure.module, failure) for failure in run.failures if failure.module is not None)
        if died is None or died.module is None:
            break
        # A crash or a hang: those after it have not been tried. The ones before it are needed again.
        todo = [module for module in todo if module not in failures]
    return failures, died if todo else None


def _unimportable(package: Package, skipped: dict[str, Failure]) -> Verdict:
    failure = next(skipped[module] for module in package.modules if module in skipped)
    verdict = Verdict(package, "unimportable", failure=failure)
    if failure.exception == "ModuleNotFoundError" and failure.name not in (None, *package.imports):
        verdict.hints = [f"It needs the module {failure.name}, which is not installed."]
    else:
        verdict.hints = ["The main interpreter cannot import it either: see what its documentation asks for."]
    return verdict


def _choose(failures: list[Failure]) -> Failure:
    """Return the failure that matters most: a crash, else the first."""
    return next((failure for failure in failures if failure.kind != "exception"), failures[0])


def _add_extensions(verdict: Verdict, run: Run) -> None:
    own = set(verdict.package.extensions.values())
    for module, file, how, size in run.extensions:
        if how == "isolated":
            name = module or os.path.basename(file)
            (verdict.own if os.path.realpath(file) in own else verdict.others).append(name)
            verdict.cloned_bytes += size
        elif how == "absent":
            verdict.notes.append(f"ctypes is imported, and fails when it is used: {file}")


# ------------------------------------------------------------------------------------------------
# Hints
# ------------------------------------------------------------------------------------------------

FOR_AUTHORS = (
    "For its authors: an extension module that keeps no state outside its module object can declare"
    " {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED} in its slots;"
    " then every program can load it in any interpreter, without a clone."
)


def _explain(verdict: Verdict, run: Run, modules: list[str], children: Children) -> list[str]:
    """Return the hints for a failure, for which more is tried where that tells more."""
    failure = verdict.failure
    assert failure is not None
    name = failure.name
    if name is not None and {name, name.rpartition(".")[2]} & set(sys.builtin_module_names):
        if "is built into this Python" in failure.text:
            return []  # it says the rest as well
        return [
            f"{name} is built into this Python's executable, so there is no file of it to clone."
            " It works with a Python that has it as a file of its own."
        ]
    if failure.exception == "InterpreterError" and "thread" in failure.text:
        return [
            "It starts threads that do not end by themselves: stop them before the interpreter is closed."
        ]
    if failure.kind == "timeout":
        return ["If it is only slow, give it more time with --timeout."]
    hints = []
    alone = children.run("isolate", modules, count=1)
    if not alone.failed:
        hints.append(
            "One interpreter alone can use it; two at the same time get into each other's way,"
            " most likely in a C library that keeps state for the whole process."
        )
    elif _choose(alone.failures).kind == failure.kind:
        hints.append("It fails in the same way in a single interpreter.")
        # Two threads that crash at the same time print through each other.
        verdict.failure = failure = _choose(alone.failures)
    else:
        other = _choose(alone.failures)
        hints.append(f"A single interpreter fails in another way: {other.text}, {other.stage}.")
    if failure.kind == "crash":
        shown = [*run.command[:5], *(modules if failure.module is None else [failure.module])]
        hints.append(f"To look into it: ATOLL_DEBUG_CLONES=1 gdb -ex run --args {shlex.join(shown)}")
    return hints


# ------------------------------------------------------------------------------------------------
# As data
# ------------------------------------------------------------------------------------------------


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as what JSON knows."""
    package, failure = verdict.package, verdict.failure
    return {
        "name": package.name,
        "version": package.version,
        "status": verdict.status,
        "works": verdict.works,
        "imports": list(package.imports),
        "extensions": sorted(package.extensions),
        "cloned": verdict.own,
        "cloned_of_others": verdict.others,
        "cloned_bytes": verdict.cloned_bytes,
        "skipped": verdict.skipped,
        "failure": None
        if failure is None
        else {
            "kind": failure.kind,
            "text": failure.text,
            "stage": failure.stage,
            "module": failure.module,
            "python_frame": failure.python_frame,
            "c_frames": failure.c_frames,
            "details": failure.details,
        },
        "notes": verdict.notes,
        "hints": verdict.hints,
        "command": verdict.command,
        "seconds": round(verdict.seconds, 2),
    }
