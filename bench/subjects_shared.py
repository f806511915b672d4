"""Memory that all interpreters share: what sending it costs, and a grid that two sweep together."""

import time
from collections.abc import Callable
from multiprocessing import shared_memory
from typing import Any

import targets
from harness import Effort, Result, Side, alternate, compare_sides
from subjects_scaling import process_context

import atoll


def sending(effort: Effort) -> list[Result]:
    """A large array and a small one, and a view of it in numpy."""
    large, small = atoll.SharedArray((2**27,), "f8"), atoll.SharedArray(8, "f8")
    queue = atoll.create_queue()
    result = Result(
        name="shared.send",
        title="putting a SharedArray of 1 GiB into a queue and taking it out",
        sides=compare_sides(
            {
                "atoll": Side("put(a); get()", {"put": queue.put, "get": queue.get, "a": large}),
                "64 bytes": Side("put(a); get()", {"put": queue.put, "get": queue.get, "a": small}),
            },
            effort,
        ),
        note="both halves; the other side is one of 64 bytes",
    )
    result.compare("64 bytes")
    result.at_most(2e-6)
    results = [result]
    try:
        import numpy
    except ImportError:
        return results
    array: Any = bytearray(64)
    view = Result(
        name="shared.asarray",
        title="numpy.asarray() of a SharedArray of 1 GiB",
        sides=compare_sides(
            {
                "atoll": Side("asarray(a)", {"asarray": numpy.asarray, "a": large}),
                "memoryview": Side(
                    "asarray(a)", {"asarray": numpy.asarray, "a": memoryview(array).cast("d")}
                ),
            },
            effort,
        ),
        note="beside that of a memoryview",
    )
    view.compare("memoryview")
    return [*results, view]


def fill(buffer: Any, n: int) -> None:
    """Give both grids a first row."""
    cells = memoryview(buffer)[: 16 * n * n].cast("d")
    for grid in (0, n * n):
        for column in range(n):
            cells[grid + column] = 1.0 + column % 7


def sweep(effort: Effort, plain: bool, n: int, sweeps: int) -> Result:
    """Two interpreters, and two processes, sweep one grid in halves."""
    rows = [(1, n // 2), (n // 2, n - 1)]
    context = process_context()
    barrier, answers = context.Barrier(2), context.SimpleQueue()
    memory = shared_memory.SharedMemory(create=True, size=16 * n * n)
    theirs: Any = memory.buf
    commands = [context.SimpleQueue() for _ in rows]
    workers = [
        context.Process(target=targets.serve_stencil, args=(memory.name, one, answers, barrier), daemon=True)
        for one in commands
    ]
    for worker in workers:
        worker.start()
    ours = atoll.SharedBuffer(16 * n * n)
    function = targets.stencil_python if plain else targets.stencil_numpy

    def processes() -> float:
        begin = time.perf_counter()
        for one, (first, last) in zip(commands, rows, strict=True):
            one.put((plain, n, first, last, sweeps))
        for _ in workers:
            answers.get()
        return time.perf_counter() - begin

    try:
        with atoll.InterpreterPoolExecutor(2) as pool:
            meeting = atoll.Barrier(2)

            def interpreters() -> float:
                begin = time.perf_counter()
                done = [pool.submit(function, ours, n, first, last, sweeps, meeting) for first, last in rows]
                for one in done:
                    one.result()
                return time.perf_counter() - begin

            fill(ours, n)
            fill(theirs, n)
            sides: dict[str, Callable[[], float]] = {"atoll": interpreters, "multiprocessing": processes}
            for side in sides.values():  # imports
                side()
            result = Result(
                name=f"shared.stencil.{'python' if plain else 'numpy'}",
                title=f"{sweeps} sweeps of {n} x {n} float64 by two, {'memoryview' if plain else 'numpy'}",
                sides=alternate(sides, 2 if effort.quick else 3 if plain else 5),
                note="multiprocessing.shared_memory and Barrier",
            )
        if bytes(ours) != bytes(theirs[: 16 * n * n]) or memoryview(ours).cast("d")[n * n + n + 3] == 0:
            raise AssertionError("the grids differ, or nobody has written to them")
    finally:
        for one in commands:
            one.put(None)
        for worker in workers:
            worker.join()
        del theirs
        memory.close()
        memory.unlink()
    result.compare("multiprocessing")
    result.at_least(1)
    return result


def stencil(effort: Effort) -> list[Result]:
    """With numpy where it is installed, and without."""
    results = [sweep(effort, True, 200 if effort.quick else 2000, 1)]
    try:
        import numpy  # noqa: F401
    except ImportError:
        return results
    return [*results, sweep(effort, False, 2000, 5 if effort.quick else 20)]


SUBJECTS = {"shared.send": sending, "shared.stencil": stencil}
