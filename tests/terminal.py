"""A terminal for a test: a program that runs in one, what its screen shows, and keys."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte

from cli_helpers import environment
from helpers import PATIENCE

# The program becomes the leader of the terminal's session, so that Ctrl-C reaches it.
_BEGIN = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"


class Terminal:
    """Runs Python with these arguments in a terminal; `with` ends it."""

    def __init__(
        self,
        *arguments: str | Path,
        cwd: Path,
        columns: int = 100,
        lines: int = 30,
        kind: str = "xterm-256color",
    ) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = os.openpty()
        self._set_size(columns, lines)
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", _BEGIN, sys.executable, *map(str, arguments)],
            cwd=cwd,
            env=environment(TERM=kind),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *details: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        """Change the terminal's size, as the user does with a window."""
        self.screen.resize(lines, columns)
        self._set_size(columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    @property
    def text(self) -> str:
        """What the screen shows, without what is blank at the ends of lines."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def wait_for(self, text: str) -> str:
        """Wait until the screen shows the text; return all that it shows.  Raises TimeoutError."""
        until = time.monotonic() + PATIENCE
        while text not in self.text:
            if not self._read(until):
                raise TimeoutError(f"{text!r} is not there:\n{self.text}")
        return self.text

    def wait(self) -> int:
        """Wait for the program's end, reading what it writes; return its exit status.  Raises TimeoutError."""
        until = time.monotonic() + PATIENCE
        while self._read(until):
            pass
        return self.process.wait(max(0.1, until - time.monotonic()))

    def _read(self, until: float) -> bool:
        """Read something; return False at the end or when it is too late."""
        if not select.select([self._master], [], [], max(0, until - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # how Linux says that nobody has the terminal any more
            return False
        self._stream.feed(data)
        return bool(data)
