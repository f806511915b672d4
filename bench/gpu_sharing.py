"""A tensor on a GPU, lent by one interpreter, written by another, seen by both: needs torch and a device.

    python bench/gpu_sharing.py

Prints what sending a tensor costs, and the memory of the device for a model's weights that four interpreters
use together.  Says plainly when there is no device, with status 0, as then there is nothing to measure.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import atoll

MIB = 2**20


def add(shared: Any, more: float) -> float:
    """Write to the tensor here; return one of its elements."""
    import torch

    tensor = torch.from_dlpack(shared)
    tensor += more
    torch.cuda.synchronize()
    return float(tensor[3])


def nothing(shared: Any) -> None:
    """Take it."""


def product(weights: Any) -> float:
    """Use it as a model would."""
    import torch

    matrix = torch.from_dlpack(weights)
    return float((matrix @ matrix[:1].T).sum())


def main() -> int:
    """Measure, or say why not."""
    try:
        import torch
    except ImportError:
        print("torch is not installed: nothing to measure")
        return 0
    if not torch.cuda.is_available():
        print("there is no accelerator that torch can use: nothing to measure")
        return 0
    owner = torch.zeros(1000, device="cuda")
    shared = atoll.share(owner)
    with atoll.create() as interp:
        value = interp.call(add, shared, 1.5)
        if value != 1.5 or float(owner[3]) != 1.5:
            print(f"WRONG: {value} there, {float(owner[3])} here")
            return 1
        begin = time.perf_counter()
        for _ in range(10_000):
            interp.call(nothing, shared)
        print(f"a call with a tensor: {(time.perf_counter() - begin) / 10_000 * 1e6:.2f} us")
    weights = atoll.share(torch.randn(8192, 8192, device="cuda"))
    before = torch.cuda.mem_get_info()[0]
    interps = [atoll.create() for _ in range(4)]
    results = {round(interp.call(product, weights), 1) for interp in interps}
    used = (before - torch.cuda.mem_get_info()[0]) / MIB
    print(
        f"weights of {8192 * 8192 * 4 // MIB} MiB, used by 4 interpreters: {used:.0f} MiB more; results {results}"
    )
    for interp in interps:
        interp.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
