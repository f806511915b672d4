"""Runs the child processes of ``check`` and reads what became of them."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from typing import Any

_TAIL = 100_000  # bytes of a child's output that are looked at
_REFUSED = re.compile(r"module (\S+) does not support loading in subinterpreters")  # CPython's own words


@dataclass
class Failure:
    """One thing that went wrong.

    ``kind`` is 'exception', 'crash', 'timeout' or 'status'; ``text`` says in a line what, ``stage`` when.
    """

    kind: str
    text: str
    stage: str
    module: str | None = None
    python_frame: str | None = None
    c_frames: list[str] = field(default_factory=list)
    details: str = ""  # a traceback, or the end of the output
    exception: str | None = None  # the name of its type
    name: str | None = None  # what an ImportError says could not be imported


@dataclass
class Run:
    """How one child process went: ``failures`` are in the order in which they happened."""

    command: list[str]
    failures: list[Failure]
    extensions: list[tuple[str | None, str, str, int]]  # (module, file, how, bytes) of one interpreter

    @property
    def failed(self) -> bool:
        """Whether anything went wrong."""
        return bool(self.failures)

    @property
    def died(self) -> Failure | None:
        """What ended the process, if it did not reach its end."""
        last = self.failures[-1] if self.failures else None
        return last if last is not None and last.kind != "exception" else None


class Children:
    """Starts children, each with a time limit of ``timeout`` seconds; any thread may use it."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def stop(self) -> None:
        """End all children, now and from now on."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)

    def run(self, mode: str, modules: list[str], count: int = 2) -> Run:
        """Import the modules in `count` interpreters of this mode, or in the main one ('main')."""
        with _open_file() as events, _open_file() as output:
            job = ["-m", "atoll.cli.check_child", mode, str(count), *modules]
            told = [*job[:2], "--events", str(events.fileno()), *job[2:]]
            status = self._wait([*_python(), *told], events.fileno(), output.fileno())
            return Run([sys.executable, *job], *_read(status, _lines(events), _tail(output), self.timeout))

    def _wait(self, command: list[str], events: int, output: int) -> int | None:
        """Return the exit status, negative for a signal's number; None: it took too long."""
        with self._lock:
            if self._stopped:
                return -signal.SIGKILL
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(events,),
                start_new_session=True,  # so that what a package starts ends with it, and Ctrl-C is ours alone
            )
            self._running.add(process)
        try:
            return process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _kill(process)
            process.wait()
            with self._lock:
                self._running.discard(process)


def _open_file() -> Any:
    """Return a file without a name: in memory, where there is no directory that could have it."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return open(os.memfd_create("atoll-check"), "w+b")


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:  # nothing is left of it
        pass


def _python() -> list[str]:
    """Return the command that runs Python as this process was run, where that decides what can be imported."""
    flags = {
        "-I": "isolated",
        "-E": "ignore_environment",
        "-P": "safe_path",
        "-s": "no_user_site",
        "-S": "no_site",
    }
    given = [flag for flag, name in flags.items() if getattr(sys.flags, name)]
    return [sys.executable, *given, "-X", "faulthandler"]


def _lines(events: Any) -> list[dict[str, Any]]:
    events.seek(0)
    # The last line is empty, or was being written when the process ended.
    *whole, _ = events.read().split(b"\n")
    return [json.loads(line) for line in whole]


def _tail(output: Any) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - _TAIL))
    text: str = output.read().decode(errors="replace")
    return text


def _read(
    status: int | None, events: list[dict[str, Any]], output: str, timeout: float
) -> tuple[list[Failure], list[tuple[str | None, str, str, int]]]:
    """Return what failed, and the extension modules of an interpreter, by what a child told."""
    failures: list[Failure] = []
    extensions: list[tuple[str | None, str, str, int]] = []
    latest: dict[int, dict[str, Any]] = {}  # of each interpreter
    for event in events:
        number = event.get("interpreter", 0)
        if "error" in event:
            failures.append(_exception(event))
        elif "extensions" in event:
            extensions = [tuple(entry) for entry in event["extensions"]]
        else:
            latest = {number: event} if event["stage"] == "exit" else {**latest, number: event}
    if status != 0:
        stages = list(dict.fromkeys(describe_stage(event) for event in latest.values())) or ["at its start"]
        modules = {event.get("module") for event in latest.values()}
        end = _end(status, output, timeout)
        end.stage = " and ".join(stages)
        end.module = modules.pop() if len(modules) == 1 else None
        failures.append(end)
    return failures, extensions


def describe_stage(event: dict[str, Any]) -> str:
    """Return when an event happened, in words."""
    where = f" in interpreter {event['interpreter']}" if "interpreter" in event else ""
    return {
        "create": "while an interpreter was created",
        "import": f"while importing {event.get('module')}",
        "list": "after the import",
        "close": "while the interpreter was closed",
        "exit": "at the process's exit",
    }[event["stage"]] + (where if event["stage"] not in ("create", "exit") else "")


def _first_line(text: str) -> str:
    """Return an exception's name and the first line of its message."""
    name, _, message = text.partition(":")
    lines = message.strip().splitlines()
    return f"{name}: {lines[0]}" if lines else name


def _exception(event: dict[str, Any]) -> Failure:
    error = event["error"]
    refused = _REFUSED.search(error["text"])
    return Failure(
        kind="exception",
        text=_first_line(error["text"]),
        stage=describe_stage(event),
        module=event.get("module"),
        python_frame=error.get("frame"),
        details=error.get("traceback") or error["text"],
        exception=error["type"],
        name=error.get("name") or (refused[1] if refused else None),
    )


# ------------------------------------------------------------------------------------------------
# How a process ended
# ------------------------------------------------------------------------------------------------


def _end(status: int | None, output: str, timeout: float) -> Failure:
    details = output[-4000:].strip()
    if status is None:
        return Failure("timeout", f"not done after {timeout:g} s", "", details=details)
    said = [line.strip() for line in output.partition("Fatal Python error:")[0].splitlines() if line.strip()]
    if status > 0:
        reason = f": {said[-1]}" if said else ""
        return Failure("status", f"exit status {status}{reason}", "", details=details)
    try:
        text = signal.Signals(-status).name
    except ValueError:
        text = f"signal {-status}"
    fatal = re.search(r"^Fatal Python error: (.*\w.*)$", output, re.MULTILINE)
    if fatal is not None and not fatal[1].endswith(("Segmentation fault", "Aborted", "Bus error")):
        text += f" (Fatal Python error: {fatal[1]})"
    elif -status == signal.SIGABRT and said:
        text += f" ({said[-1]})"  # what a C or C++ library says before it aborts
    return Failure("crash", text, "", None, python_frame(output), c_frames(output), details)


def python_frame(output: str) -> str | None:
    """Return the innermost Python frame of the thread that crashed, by what faulthandler printed."""
    match = re.search(r'^Current thread 0x.*\n  (File ".*", line \d+ in .*)$', output, re.MULTILINE)
    return match[1] if match else None


def c_frames(output: str) -> list[str]:
    """Return where in C it crashed: the innermost frame, and the first one outside the C library.

    Empty before 3.14, which have no C stack.
    """
    stack = re.search(r"^Current thread's C stack trace .*\n((?:  Binary file .*\n)+)", output, re.MULTILINE)
    if stack is None:
        return []
    frames = re.findall(r'^  Binary file "(.*)"(?:, at (\S+))? \[(0x[0-9a-f]+)\]$', stack[1], re.MULTILINE)
    # The first three are faulthandler's two and the frame by which the kernel calls a signal handler.
    inner = [f"{os.path.basename(file)}, at {symbol or address}" for file, symbol, address in frames[3:]]
    outside = [
        text
        for text in inner
        if not text.startswith(("libc.so", "libc.musl", "ld-linux", "libpthread", "linux-vdso"))
    ]
    return list(dict.fromkeys([*inner[:1], *outside[:1]]))
