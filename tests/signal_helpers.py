"""Signals for child processes that wait in the kernel."""

from __future__ import annotations

import signal

from helpers import start_python


def interrupted(source, *, times=1, number=signal.SIGINT):
    """Run source in a child process; send a signal each time it sleeps after a line 'ready'; return how it ended."""
    with start_python(source) as process:
        try:
            for _ in range(times):
                assert process.stdout.readline() == "ready\n"
                until_asleep(process.pid)
                process.send_signal(number)
            process.wait(timeout=60)  # its stdin stays open
            out, err = process.stdout.read(), process.stderr.read()
        finally:
            process.kill()
    return process, out, err


def until_asleep(pid):
    """Wait until the main thread of a process sleeps."""
    while True:
        with open(f"/proc/{pid}/task/{pid}/stat") as stat:
            if stat.read().rsplit(")", 1)[1].split()[0] == "S":
                return
