"""How many threads libraries may start for one operation of a worker's (src/core/pool/inner.c sees to it)."""

from __future__ import annotations

import os

from .map import as_count

# Whoever has set one of these has decided.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
)


def processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not there, or not allowed in a container
        return os.cpu_count() or 1


def inner_count(inner_threads: int | None, max_workers: int) -> int:
    """Return how many threads a worker's libraries get, 0 when that is left to them.

    ValueError for a number that is not positive, TypeError for what is none.
    """
    if inner_threads is not None:
        count = as_count("inner_threads", inner_threads)
        if count <= 0:
            raise ValueError(f"inner_threads must be greater than 0, not {count}")
        return count
    if max_workers == 1 or any(os.environ.get(name) for name in _VARIABLES):
        return 0
    return max(1, processors() // max_workers)
