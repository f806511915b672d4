"""Programs as users write them: `mypy --strict` has nothing to say about them.  Not run."""

import asyncio
import concurrent.futures
from collections.abc import Iterator

import atoll


def half(number: int) -> float:
    return number / 2


def collect() -> list[float]:
    with atoll.InterpreterPoolExecutor(2) as pool:
        futures = [pool.submit(half, number) for number in range(4)]
        done, _ = concurrent.futures.wait(futures, timeout=1.0)
        first: set[concurrent.futures.Future[float]] = {*done}
        results = [future.result() for future in concurrent.futures.as_completed(futures)]
        halves: Iterator[float] = pool.map(half, [1, 2], chunksize=1)
        return [*results, *halves, *(future.result() for future in first)]


def use(executor: concurrent.futures.Executor) -> float:
    return executor.submit(half, 1).result()


async def wait() -> float:
    with atoll.InterpreterPoolExecutor() as pool, atoll.create() as interp:
        await asyncio.get_running_loop().run_in_executor(pool, half, 1)
        await asyncio.wrap_future(interp.submit(half, 3))
        pool.terminate_workers()
        return use(pool) + await interp.call_async(half, 2)
