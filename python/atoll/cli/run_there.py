"""What ``python -m atoll run`` does in the interpreter that it runs a script in."""

import atexit
import linecache
import os
import pkgutil
import runpy
import sys
import textwrap
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import CodeType

from atoll import _atoll


@dataclass
class What:
    """What is to be run, one of the three, and its arguments."""

    script: str | None
    module: str | None
    code: str | None
    arguments: list[str]


def run(what: What, path: list[str]) -> int | None:
    """Run a script, a module or code in ``__main__`` as ``python`` does.

    Returns the exit status; None where the process is to end by SIGINT, as after a KeyboardInterrupt.
    """
    import warnings  # noqa: F401  without this CPython forgets -W here

    sys.path[:] = path
    error = _run(what)
    status = 0 if error is None else _atoll._report(partial(_report, error))
    return _finish(status)


def _run(what: What) -> BaseException | None:
    """Run it; return what it raised."""
    try:
        if what.script == "-":
            _run_input(what.arguments)
        elif what.script is not None:
            _run_script(what.script, what.arguments)
        elif what.module is not None:
            sys.argv[:] = ["-m", *what.arguments]
            if not sys.flags.safe_path:
                sys.path.insert(0, os.getcwd())
            runpy._run_module_as_main(what.module)  # type: ignore[attr-defined]
        else:
            assert what.code is not None
            _run_code(what.code, what.arguments)
    except BaseException as error:
        return error
    return None


def _run_code(source: str, arguments: list[str]) -> None:
    sys.argv[:] = ["-c", *arguments]
    if not sys.flags.safe_path:
        sys.path.insert(0, "")
    if sys.version_info >= (3, 14):
        source = textwrap.dedent(source)
    code = _compile(source, "<string>")
    if sys.version_info >= (3, 13):
        # Later patch releases of 3.13 know the source by its code, as 3.14 does, the first ones by its name.
        by_code = hasattr(linecache, "_make_key")
        linecache._register_code(code if by_code else "<string>", source, "<string>")  # type: ignore[attr-defined]
    namespace = sys.modules["__main__"].__dict__
    namespace.update(__name__="__main__", __spec__=None, __loader__=BuiltinImporter)
    exec(code, namespace)


def _run_input(arguments: list[str]) -> None:
    sys.argv[:] = ["-", *arguments]
    if not sys.flags.safe_path:
        sys.path.insert(0, "")
    with open(0, "rb", closefd=False) as file:
        source = file.read()
    _execute(_compile(source, "<stdin>"), "<stdin>", BuiltinImporter)


def _run_script(script: str, arguments: list[str]) -> None:
    sys.argv[:] = [script, *arguments]
    if pkgutil.get_importer(script) is not None:  # a directory or a zip file
        sys.path.insert(0, os.path.abspath(script))
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    file = os.path.abspath(script)
    if not sys.flags.safe_path:
        sys.path.insert(0, os.path.dirname(os.path.realpath(script)))
    code, loader = _load(file)
    _execute(code, file, loader)


def _compile(source: str | bytes, name: str) -> CodeType:
    try:
        return compile(source, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        error.__traceback__ = None  # the script has not begun: nothing of this is its own
        raise


def _execute(code: CodeType, file: str, loader: object) -> None:
    """Execute the code of a file as __main__."""
    namespace = sys.modules["__main__"].__dict__
    namespace.update(__name__="__main__", __file__=file, __loader__=loader, __spec__=None)
    if sys.version_info < (3, 15):
        namespace["__cached__"] = None
    exec(code, namespace)


def _load(file: str) -> tuple[CodeType, SourceFileLoader | SourcelessFileLoader]:
    """Return a script's code and loader."""
    if file.endswith(".pyc"):
        compiled = SourcelessFileLoader("__main__", file)
        code = compiled.get_code("__main__")
        assert code is not None
        return code, compiled
    loader = SourceFileLoader("__main__", file)
    return _compile(loader.get_data(file), file), loader


# ------------------------------------------------------------------------------------------------
# The end of a script
# ------------------------------------------------------------------------------------------------


def _report(error: BaseException) -> int | None:
    """Show what ended the script, if it is to be shown; return the exit status as run() does."""
    if isinstance(error, SystemExit):
        return _status(error)
    _strip(error)
    sys.last_exc = sys.last_value = error
    sys.last_type, sys.last_traceback = type(error), error.__traceback__
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except SystemExit as other:
        return _status(other)
    except BaseException as other:
        _strip(other)
        _say("Error in sys.excepthook:")
        sys.__excepthook__(type(other), other, other.__traceback__)
        _say("\nOriginal exception was:")
        sys.__excepthook__(type(error), error, error.__traceback__)
    # CPython looked for exactly this class before 3.14.
    by_sigint = (
        isinstance(error, KeyboardInterrupt)
        if sys.version_info >= (3, 14)
        else type(error) is KeyboardInterrupt
    )
    return None if by_sigint else 1


def _strip(error: BaseException) -> None:
    """Take this module's frames off a traceback's outer end."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    error.__traceback__ = trace


def _status(error: SystemExit) -> int:
    """Return the exit status that an argument of sys.exit() stands for; text is printed."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return int(error.code)  # a member of an enumeration would make the main interpreter import its class
    _say(error.code)
    return 1


def _say(what: object) -> None:
    """Write what, as text, and the end of a line to standard error, if there is one and text can be made of it."""
    stream = sys.stderr if sys.stderr is not None else sys.__stderr__
    if stream is None:
        return  # print() would take sys.stdout
    try:
        print(what, file=stream)
    except BaseException:
        with suppress(BaseException):
            print(file=stream)


def _finish(status: int | None) -> int | None:
    """Do what CPython does when a process ends, while it can be interrupted; return the exit status as run() does."""
    wait_for_threads = threading._shutdown  # type: ignore[attr-defined]
    threading._shutdown = _nothing  # type: ignore[attr-defined]  # 3.12 cannot do it again, when the interpreter is closed
    for step in (wait_for_threads, atexit._run_exitfuncs):
        try:
            step()
        except BaseException as error:  # a second Ctrl-C, above all
            _tell_ignored("at the end of the script", error)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        if stream is None or _is_closed(stream):
            continue
        try:
            stream.flush()
        except BaseException as error:
            status = None if status is None else 120  # as CPython says it: what was written is lost
            if name == "stdout":
                _tell_ignored("while flushing sys.stdout", error)
    return status


def _tell_ignored(when: str, error: BaseException) -> None:
    _strip(error)
    _say(f"Exception ignored {when}:")
    sys.__excepthook__(type(error), error, error.__traceback__)


def _is_closed(stream: object) -> bool:
    """Whether a stream, or what a script has put in its place, says that it is closed."""
    try:
        return bool(getattr(stream, "closed", False))
    except BaseException:
        return False


def _nothing() -> None:
    """Do nothing."""
