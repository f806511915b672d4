"""Print, as JSON, the bytes that workers with one large lookup table take: one worker, and eight.

Run in a process of its own for each kind of worker, by subjects_frozen.  Every worker has walked through the whole
table, looked up each key, when the memory of all of them is summed up.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from memory_probe import occupied, process_context

WORKERS = 8


def make_table(megabytes: int) -> dict[str, tuple[int, str, float]]:
    """Return a table that takes about so many MiB as ordinary objects."""
    return {f"user-{i:09}": (i, f"name of {i:09}", i / 7) for i in range(megabytes * 3500)}


def walk(table: Any) -> int:
    """Look at every entry; count them."""
    count = 0
    for key in table:
        number, name, _ = table[key]
        count += name.endswith(f"{number:09}")
    assert count == len(table)
    return count


def serve(connection: Connection, megabytes: int) -> None:
    """Be a process with a table of its own: walk it, say so, wait for the end."""
    table = make_table(megabytes)
    connection.send(walk(table))
    connection.recv()
    assert table


def interpreters(megabytes: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Interpreters that walk one frozen table: what adds one, what ends them all."""
    import atoll

    table = atoll.freeze(make_table(megabytes))
    workers: list[Any] = []

    def add() -> None:
        interp = atoll.create()
        interp.exec(f"import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})")
        interp.call(walk, table)
        workers.append(interp)

    def end() -> None:
        for interp in workers:
            interp.close()

    return add, end


def processes(megabytes: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Processes that are started anew, each with its own table."""
    context = process_context()
    workers: list[Any] = []

    def add() -> None:
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, megabytes))
        process.start()
        here.recv()
        workers.append((process, here))

    def end() -> None:
        for process, connection in workers:
            connection.send(None)
            process.join()

    return add, end


def forked(megabytes: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Processes that are forked beside an ordinary table, and walk it."""
    table = make_table(megabytes)
    workers: list[tuple[int, int, int]] = []

    def add() -> None:
        done, until = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            walk(table)
            os.write(done[1], b"!")
            os.read(until[0], 1)
            os._exit(0)
        os.read(done[0], 1)
        workers.append((pid, done[0], until[1]))

    def end() -> None:
        for pid, _, writer in workers:
            os.write(writer, b"!")
            os.waitpid(pid, 0)

    return add, end


SIDES = {"atoll": interpreters, "spawned": processes, "forked": forked}


def main() -> None:
    """Start one worker, measure, start the others, measure again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("megabytes", type=int)
    options = parser.parse_args()
    add, end = SIDES[options.side](options.megabytes)
    add()
    time.sleep(0.1)
    one = occupied()
    for _ in range(WORKERS - 1):
        add()
    eight = occupied()
    end()
    print(json.dumps({"one": one, "eight": eight}))


if __name__ == "__main__":
    main()
