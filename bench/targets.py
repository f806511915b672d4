"""Functions that the benchmarks call in other interpreters, threads and processes.

They live in a module of their own because the standard library sends a function by name.  It
imports nothing, not even typing, so that a fresh interpreter or process that needs it stays small.
"""

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    import atoll


def noop() -> None:
    """Do nothing."""


def ten_of(record: dict[str, object]) -> list[object]:
    """Return the values of a record of ten short strings and numbers as a list."""
    return list(record.values())


# The same two for the standard library alone: Atoll attaches a number to the code of a function that
# it sends, and CPython 3.13 refuses functions whose code has something attached


def stdlib_noop() -> None:
    """Do nothing."""


def stdlib_ten_of(record: dict[str, object]) -> list[object]:
    """Return the values of a record of ten short strings and numbers as a list."""
    return list(record.values())


def increment(number: int) -> int:
    """Return the next number."""
    return number + 1


def call_often(interp: "atoll.Interpreter", count: int) -> None:
    """Call the function that does nothing in an interpreter, so many times."""
    call, function = interp.call, noop
    for _ in range(count):
        call(function)


def size_of(value: object) -> int:
    """Return how many items an argument has, or bytes where it is an array."""
    return getattr(value, "nbytes", None) or len(value)  # type: ignore[arg-type]


def import_once(module: str) -> None:
    """Import a module."""
    __import__(module)


RECORD: dict[str, object] = {
    "id": 31415,
    "name": "lagoon",
    "depth": 27.5,
    "colour": "teal",
    "north": -17.53,
    "east": 149.83,
    "islands": 12,
    "country": "PF",
    "year": 1842,
    "rank": 3,
}


def spin(rounds: int) -> int:
    """Compute for a while without calling anything: about 2 ms for 30,000 rounds."""
    total = 0
    for i in range(rounds):
        total += i * i % 7
    return total


def hold(lock, seconds, barrier=None):  # type: ignore[no-untyped-def]
    """Take a lock again and again for some seconds; return how often."""
    from time import perf_counter

    if barrier is not None:
        barrier.wait()
    done = 0
    until = perf_counter() + seconds
    while perf_counter() < until:
        for _ in range(50):
            with lock:
                done += 1
    return done


def serve_holding(lock, ready, commands, answers):  # type: ignore[no-untyped-def]
    """In a process: hold() for as many seconds as each command says, until that is 0."""
    while seconds := commands.get():
        ready.release()
        answers.put(hold(lock, seconds))


# Four neighbours' mean, from one of two grids that lie one after the other into the other, again and again


def stencil_numpy(buffer, n, first, last, sweeps, barrier):  # type: ignore[no-untyped-def]
    """Sweep rows first to last - 1 with numpy."""
    import numpy

    grids = numpy.frombuffer(buffer, "f8", 2 * n * n).reshape(2, n, n)
    for sweep in range(sweeps):
        old, new = grids[sweep % 2], grids[1 - sweep % 2]
        total = old[first - 1 : last - 1, 1:-1] + old[first + 1 : last + 1, 1:-1]
        total += old[first:last, :-2]
        total += old[first:last, 2:]
        numpy.multiply(total, 0.25, out=new[first:last, 1:-1])
        barrier.wait()


def stencil_python(buffer, n, first, last, sweeps, barrier):  # type: ignore[no-untyped-def]
    """Sweep rows first to last - 1 with a memoryview."""
    cells = memoryview(buffer).cast("B").cast("d")
    for sweep in range(sweeps):
        old, new = (0, n * n) if sweep % 2 == 0 else (n * n, 0)
        for row in range(first, last):
            for at in range(row * n + 1, row * n + n - 1):
                cell = old + at
                cells[new + at] = (
                    cells[cell - n] + cells[cell + n] + cells[cell - 1] + cells[cell + 1]
                ) * 0.25
        barrier.wait()


def serve_stencil(name, commands, answers, barrier):  # type: ignore[no-untyped-def]
    """In a process: what each command says, in the shared memory of that name, until it is None."""
    from multiprocessing import shared_memory

    memory = shared_memory.SharedMemory(name)
    while (command := commands.get()) is not None:
        plain, *arguments = command
        (stencil_python if plain else stencil_numpy)(memory.buf, *arguments, barrier)
        answers.put(True)
    memory.close()
