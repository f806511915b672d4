"""``python -m atoll top``: what the interpreters, pools and queues of a process are doing, live."""

import argparse
import json
import os
import shutil
import sys
import time
from typing import Any

from .arguments import add_parser, positive
from .top_table import BAD, BUSY, FAINT, GOOD, PLAIN, SORTS, TITLE, Line, lines, look, rates

ENDING = 2.0  # seconds that a process may take to end
LONGEST = (
    1_000_000  # milliseconds that curses waits at once: its C int does not hold all that can be asked for
)

_DESCRIPTION = """\
Show what the interpreters, pools and queues of a running process are doing, with the function and line that each
interpreter executes, several times a second. Without a PID: of the one process that uses Atoll. The process is not
stopped and does nothing for it. Functions take the rights of a debugger (root, or the same user where
/proc/sys/kernel/yama/ptrace_scope is 0); all else is there without.

CPU and GIL are shares of a processor's time: computing, and waiting for the interpreter's lock. CALLS, TASKS, SENT,
GOT, DONE and PUT are per second; WAIT and RUN are means of a pool's tasks.
"""
_EPILOG = """\
keys: q quits; c, m, n, i sort by processor time, memory, calls, id.

exit status: 0; 1 when there is no such process, or it cannot be looked at; 2 when it is not clear which one.

examples:
  python -m atoll top
  python -m atoll top 4242 --interval 0.5
  python -m atoll top 4242 --once --json | jq '.interpreters[] | {id, cpu, frame}'
"""


def add_command(commands: Any) -> None:
    """Add this command to a parser's subparsers."""
    parser = add_parser(
        commands,
        "top",
        main,
        help="what the interpreters of a process are doing, live",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("pid", type=int, nargs="?", metavar="PID")
    parser.add_argument("--once", action="store_true", help="print it once, with no terminal")
    parser.add_argument("--json", action="store_true", help="print one JSON document, once")
    parser.add_argument(
        "--interval",
        type=positive(float),
        default=1.0,
        metavar="SECONDS",
        help="between two looks (default 1)",
    )
    names = {name: key for key, (name, _) in SORTS.items()}
    parser.add_argument(
        "--sort", choices=names, default="cpu", help="what interpreters are sorted by (default cpu)"
    )


def main(options: argparse.Namespace) -> int:
    """Show it; return the exit status."""
    pid = options.pid
    if pid is None:
        found = find_processes()
        if len(found) != 1:
            what = "several processes use" if found else "no process that can be looked at uses"
            listed = "".join(f"\n  {pid}  {command}" for pid, command in found.items())
            print(f"{options.parser.prog}: {what} Atoll{listed and ': give a PID'}{listed}", file=sys.stderr)
            return 2
        [pid] = found
    key = next(key for key, (name, _) in SORTS.items() if name == options.sort)
    try:
        if options.once or options.json:
            return _once(pid, options, key)
        return _live(pid, options, key)
    except (LookupError, OSError) as error:
        print(f"{options.parser.prog}: {error}", file=sys.stderr)
        return 1


def find_processes() -> dict[int, str]:
    """Return the other processes that have a page of Atoll's, with their command lines."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        try:
            if _has_page(name):
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    found[int(name)] = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # another user's, or it has ended
            continue
    return found


def _has_page(pid: str) -> bool:
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/memfd:atoll-stats"):
                return True
        except FileNotFoundError:  # closed meanwhile
            continue
    return False


def _once(pid: int, options: argparse.Namespace, key: str) -> int:
    before = look(pid)
    time.sleep(options.interval)
    data = rates(before, look(pid))
    if options.json:
        print(json.dumps(data, indent=2))
    else:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        text = "\n".join("".join(text for text, _ in line).rstrip() for line in lines(data, key, columns))
        print(_encodable(text, sys.stdout.encoding))
    return 0


def _encodable(text: str, encoding: str) -> str:
    return text.encode(encoding, "replace").decode(encoding)


def _live(pid: int, options: argparse.Namespace, key: str) -> int:
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        options.parser.error("this is no terminal: use --once or --json")
    before = look(pid)
    try:
        import curses
    except ImportError:
        options.parser.error("this Python has no curses: use --once or --json")
    try:
        curses.setupterm(os.environ.get("TERM") or "unknown", sys.stdout.fileno())
    except curses.error as error:
        options.parser.error(f"{error}: set TERM, or use --once or --json")
    try:
        curses.wrapper(_show, pid, before, options.interval, key)
    except (LookupError, OSError):
        until = time.monotonic() + ENDING
        while not _has_ended(pid):  # its files are closed first
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        print(f"process {pid} has ended")
    return 0


def _has_ended(pid: int) -> bool:
    """Whether nothing of a process is left but, at most, its exit status."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rsplit(b")", 1)[1].split()[0] in (b"Z", b"X")
    except OSError:
        return True


def _show(screen: Any, pid: int, before: Any, interval: float, key: str) -> None:
    """Draw until q is pressed.  Raises LookupError or OSError when the process has ended."""
    import curses

    styles = _styles()
    if curses.tigetstr("civis"):
        curses.curs_set(0)
    now = look(pid)
    while True:
        _draw(screen, lines(rates(before, now), key, screen.getmaxyx()[1]), styles, key)
        until = time.monotonic() + interval
        while (left := until - time.monotonic()) > 0:
            screen.timeout(min(max(1, int(left * 1000)), LONGEST))
            pressed = screen.getch()
            if pressed in (ord("q"), ord("Q"), 27):
                return
            if pressed == curses.KEY_RESIZE:
                curses.update_lines_cols()
                break
            if 0 < pressed < 256 and chr(pressed) in SORTS:
                key = chr(pressed)
                break
        else:
            before, now = now, look(pid)


def _styles() -> dict[str, int]:
    import curses

    styles = {PLAIN: 0, TITLE: curses.A_BOLD, FAINT: curses.A_DIM, GOOD: 0, BUSY: 0, BAD: curses.A_BOLD}
    if curses.has_colors():
        curses.use_default_colors()
        for number, (style, colour) in enumerate(
            ((GOOD, curses.COLOR_GREEN), (BUSY, curses.COLOR_YELLOW), (BAD, curses.COLOR_RED)), 1
        ):
            curses.init_pair(number, colour, -1)
            styles[style] |= curses.color_pair(number)
    return styles


def _draw(screen: Any, shown: list[Line], styles: dict[str, int], key: str) -> None:
    """Write as much as fits; the last line says what keys there are."""
    import curses

    height, width = screen.getmaxyx()
    screen.erase()
    hint = f" q quit   sort: {'  '.join(f'{k} {name}' for k, (name, _) in SORTS.items())}   now by {SORTS[key][0]}"
    for row, line in enumerate([*shown[: height - 1], *[[]] * (height - 1 - len(shown)), [(hint, FAINT)]]):
        column = 0
        for text, style in line:
            try:
                shown_text = _encodable(text, screen.encoding)
                screen.addnstr(row, column, shown_text, max(width - column, 0), styles[style])
            except curses.error:  # the last place of the screen, where the cursor has nowhere to go
                pass
            column += len(text)
            if column >= width:
                break
    screen.refresh()
