"""What the tests share: making interpreters, waiting without sleeping, running child processes.

The functions under "sent to interpreters" are called in other interpreters by the tests.  Those import this module
by its path, which new() makes possible.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import platform
import re
import select
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import atoll

TESTS = Path(__file__).resolve().parent
OPTIONAL = Path(sys.prefix) / "optional"  # packages that are not in the environment: see tools/env
VERSION = sys.version_info[:2]
EMULATED = "ATOLL_TEST_EMULATED" in os.environ  # by qemu, which has a thread of its own: tools/test-arm64
IS_X86 = platform.machine() in ("x86_64", "AMD64")  # where threads are led out of system calls
PATIENCE = float(
    os.environ.get("ATOLL_TEST_PATIENCE", "60")
)  # seconds before a wait that should end at once counts as failed


# Making interpreters


def new() -> atoll.Interpreter:
    """Return a new interpreter that can import this module."""
    interp = atoll.create()
    interp.exec(f"import sys; sys.path.insert(0, {str(TESTS)!r})")
    return interp


def ids() -> list[int]:
    """Return the ids of all interpreters of the process."""
    return [interp.id for interp in atoll.list_all()]


def private_module() -> Any:
    """Return CPython's private module for interpreters: _interpreters, or what 3.12 called it."""
    if VERSION == (3, 12):
        import _xxsubinterpreters as module
    else:
        import _interpreters as module
    return module


@contextlib.contextmanager
def foreign() -> Iterator[int]:
    """Yield the id of an interpreter that CPython's private module made."""
    module = private_module()
    made = module.create()  # in 3.12 an object: when it is gone, so is the interpreter
    try:
        yield int(made)
    finally:
        module.destroy(made)


# Waiting


class Pipe:
    """A pipe whose ends other interpreters use by number: single bytes as signals."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *details: object) -> None:
        os.close(self.reader)
        os.close(self.writer)

    def signal(self, count: int = 1) -> None:
        """Let `count` waiters go."""
        os.write(self.writer, b"!" * count)

    def wait(self) -> None:
        """Wait for a signal.  Raises TimeoutError."""
        if not select.select([self.reader], [], [], PATIENCE)[0]:
            raise TimeoutError("no signal came through the pipe")
        assert os.read(self.reader, 1) == b"!"


class Thread(threading.Thread):
    """A thread that keeps its target's result, or raises its exception, for result()."""

    def __init__(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(daemon=True)  # a test that hangs has failed, and the run has to end all the same
        self._call = (target, args, kwargs)
        self._value: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Call the target."""
        target, args, kwargs = self._call
        try:
            self._value = target(*args, **kwargs)
        except BaseException as error:
            self._error = error
        finally:
            del self._call

    def result(self) -> Any:
        """Wait for the thread's end; return or raise what its target did.  Raises TimeoutError."""
        self.join(PATIENCE)
        if self.is_alive():
            raise TimeoutError(f"{self.name} does not end")
        if self._error is not None:
            # The traceback would keep the target's variables, interpreters among them.
            error, self._error = self._error, None
            raise error
        return self._value


def together(count: int, target: Callable[[int], Any]) -> list[Any]:
    """Call target(0) ... target(count - 1) in as many threads, all let go at once; return the results."""
    gate = threading.Barrier(count)

    def run(number: int) -> Any:
        gate.wait(PATIENCE)
        return target(number)

    threads = [Thread(run, number) for number in range(count)]
    return [thread.result() for thread in threads]


@contextlib.contextmanager
def busy(interp: atoll.Interpreter, how: str = "exec") -> Iterator[None]:
    """Keep code running in the interpreter, by "exec" or by "call", from another thread, within the block."""
    with Pipe() as inside, Pipe() as leave:
        if how == "exec":
            source = f"import os; os.write({inside.writer}, b'!'); os.read({leave.reader}, 1)"
            thread = Thread(interp.exec, source)
        else:
            thread = Thread(interp.call, signal_and_wait, inside.writer, leave.reader)
        try:
            inside.wait()
            yield
        finally:
            leave.signal()
            thread.result()


def wait_for_spares(count: int) -> None:
    """Wait until so many interpreters are kept ready."""
    deadline = time.monotonic() + PATIENCE
    while atoll._atoll._spares_ready() != count and time.monotonic() < deadline:
        time.sleep(0.001)
    assert atoll._atoll._spares_ready() == count


# Child processes


def run_python(
    source: str, *options: str, timeout: float = 2 * PATIENCE, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run source (dedented) in a new Python process with this one's import path; return how it ended."""
    with start_python(source, *options, environment=environment) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            out, err = process.communicate()
            print(f"stdout:\n{out}\nstderr:\n{err}")
            raise
    err = re.sub("^qemu: uncaught target signal .*\n", "", err, flags=re.MULTILINE)  # an emulator's own word
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start_python(
    source: str, *options: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start source (dedented) in a new Python process with this one's import path and with pipes for its streams."""
    env = {name: value for name, value in os.environ.items() if not re.match("PYTHON|ATOLL(?!_TEST)", name)}
    env["PYTHONPATH"] = os.pathsep.join([*filter(None, sys.path), str(TESTS)])
    env.update(environment or {})
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *options, "-c", textwrap.dedent(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


def has_two_threads() -> bool:
    """Whether nobody is left but the first thread and the one that watches for signals."""
    return len(os.listdir("/proc/self/task")) <= 2 + EMULATED


def run_stress(script: str, *args: str, mode: str = "dev", timeout: float = 300.0) -> str:
    """Run a script of stress/ with -X mode; return what it printed when it has ended well."""
    command = [sys.executable, "-X", mode, str(TESTS.parent / "stress" / script), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def skip_false_damage(options: Sequence[str]) -> None:
    """Skip a test that makes interpreters while other threads run Python, with debug hooks on 3.12.

    That replaces its allocator for a moment, and what others allocate meanwhile looks damaged to the hooks.
    """
    if VERSION == (3, 12) and "dev" in options:
        import pytest  # scripts that know nothing of it import this module

        pytest.skip("debug hooks of CPython 3.12 see damage where there is none, when an interpreter is made")


def check_ended(
    done: subprocess.CompletedProcess[str], status: int = 0, out: str | None = None, *, clean: bool = False
) -> None:
    """Assert how a child process ended: its status, its output, no crash; with clean=True, an empty stderr too."""
    report = f"status {done.returncode}\nstdout:\n{done.stdout}\nstderr:\n{done.stderr}"
    assert done.returncode == status, report
    assert "Fatal Python error" not in done.stderr, report
    assert out is None or done.stdout == out, report
    assert not clean or done.stderr == "", report


# Sent to interpreters


def identity(value: Any) -> Any:
    """Return the argument."""
    return value


def nothing() -> None:
    """Do nothing."""


def current_id() -> int:
    """Return the id of the interpreter that this runs in."""
    return atoll.get_current().id


def thread_id() -> int:
    """Return the operating system's id of the thread that this runs in."""
    return threading.get_native_id()


def signal_and_wait(inside: int, leave: int) -> int:
    """Write a byte to one descriptor, then wait for one from the other; return the interpreter's id."""
    os.write(inside, b"!")
    os.read(leave, 1)
    return current_id()


def signal_and_wait_stubbornly(inside: int, leave: int) -> int:
    """The same, whatever is raised meanwhile."""
    os.write(inside, b"!")
    while True:
        try:
            os.read(leave, 1)
        except KeyboardInterrupt:
            continue
        return current_id()


def spin(seconds: float) -> float:
    """Compute for so long; return that."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return seconds


def fail(kind: type[BaseException], *args: Any) -> None:
    """Raise the exception."""
    raise kind(*args)


def arguments(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments as they came."""
    return args, kwargs


def call_in(number: int, function: Callable[..., Any], *args: Any) -> Any:
    """Call the function in the interpreter with this id, from this one."""
    return atoll.Interpreter(number).call(function, *args)


def start_unjoined(function: Callable[[], Any]) -> None:
    """Run the function in a thread that nobody waits for: a daemon thread where the interpreter allows them."""
    try:
        threading.Thread(target=function, daemon=True).start()
    except RuntimeError:
        _thread.start_new_thread(function, ())


def way_through(path: list[int]) -> list[int]:
    """Go through the interpreters with these ids, each called from the one before; return the ids seen on the way."""
    here = current_id()
    if not path:
        return [here]
    return [here, *atoll.Interpreter(path[0]).call(way_through, path[1:])]


def ping(one: int, other: int, depth: int) -> int:
    """Call back and forth between two interpreters, `depth` deep; return the depth reached."""
    return 0 if depth == 0 else 1 + atoll.Interpreter(one).call(ping, other, one, depth - 1)
