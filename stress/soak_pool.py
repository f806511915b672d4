"""Use pools at random for a long time, and check what must hold whatever happens.

    python stress/soak_pool.py [--minutes M] [--seed N] [--quiet]

Threads make pools and submit to them: calls that return, raise, take long, send what cannot be sent, are stuck, or
end the workers' patience; they cancel, interrupt, map, wait, drop futures, shut pools down in every way, and ask for
results with and without a timeout. In the end

* every future was resolved exactly once, as its callback and result() say, and in a way that its call allows;
* the memory of the process has not grown since the first quarter (3.12 and 3.13 need to run without -X dev for that);
* no interpreter and no thread is left, and the exit status is 0.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import faulthandler
import os
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import atoll

LIMIT = 0.3  # task_timeout of the pools that have one
# Seconds without any task or pool ending in the whole process, before what is waited for counts as lost.  How long one
# takes does not matter: the machine may be slow.
PATIENCE = float(os.environ.get("ATOLL_TEST_PATIENCE", "120"))


def add(a: int, b: int) -> int:
    """Return a sum."""
    return a + b


def fail(text: str) -> None:
    """Raise ValueError."""
    raise ValueError(text)


def spin(seconds: float) -> str:
    """Compute for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "spun"


def refuse() -> Any:
    """Return what cannot be sent."""
    return threading.Lock()


def leave(status: int) -> None:
    """Raise SystemExit."""
    sys.exit(status)


def swallow(seconds: float) -> str:
    """Compute, and do not let an interrupt end that."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            spin(until - time.monotonic())
        except KeyboardInterrupt:
            pass
    return "swallowed"


def echo(data: bytes) -> bytes:
    """Return the argument."""
    return data


# name: (function, arguments, the exceptions that it may end with besides those of the pool)
CALLS: dict[str, tuple[Any, tuple[Any, ...], tuple[type[BaseException], ...]]] = {
    "add": (add, (2, 3), ()),
    "lambda": (lambda: 5, (), ()),
    "fail": (fail, ("no",), (ValueError,)),
    "spin": (spin, (0.002,), ()),
    "long": (spin, (2 * LIMIT,), (TimeoutError,)),
    "refuse": (refuse, (), (atoll.NotShareableError,)),
    "leave": (leave, (3,), (SystemExit,)),
    "swallow": (swallow, (1.5 * LIMIT,), (TimeoutError,)),
    "bytes": (echo, (b"x" * 100_000,), ()),
    "unsendable": (echo, (threading.Lock(),), (TypeError,)),
    "sleep": (time.sleep, (0.001,), ()),
}
WEIGHTS = {"long": 0.05, "swallow": 0.02}


class Soak:
    """What all threads share."""

    def __init__(self, minutes: float, seed: int) -> None:
        self.until = time.monotonic() + 60 * minutes
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.problems: list[str] = []
        self.moved = time.monotonic()

    def count(self, what: str, n: int = 1) -> None:
        """Count something."""
        with self.lock:
            self.counts[what] += n
            self.moved = time.monotonic()

    def stalled(self) -> bool:
        """Whether nothing has happened for too long."""
        return time.monotonic() - self.moved > PATIENCE

    def problem(self, text: str) -> None:
        """Note what must not be."""
        with self.lock:
            self.problems.append(text)

    def over(self) -> bool:
        """Whether it is time to end."""
        return time.monotonic() > self.until or bool(self.problems)


class Watched:
    """A future, and how often it called back."""

    def __init__(self, name: str, future: Any, watch: bool) -> None:
        self.name = name
        self.future = future
        self.calls = 0
        self.watch = watch
        self.interrupted = False
        self.called = threading.Event()
        if watch:
            future.add_done_callback(self.call)

    def call(self, future: Any) -> None:
        """Note the callback."""
        self.calls += 1
        self.called.set()
        assert future.done()

    def check(self, soak: Soak) -> None:
        """Check how it ended."""
        error = None
        while True:
            try:
                error = self.future.exception(1.0)
            except concurrent.futures.CancelledError:
                soak.count("cancelled")
                if not self.future.cancelled():
                    soak.problem(f"{self.name}: CancelledError, but not cancelled()")
            except TimeoutError:
                if not soak.stalled():
                    continue
                soak.problem(f"{self.name}: not resolved: {self.future!r}")
                return
            else:
                soak.count("raised" if error is not None else "returned")
            break
        allowed = CALLS[self.name][2] + ((KeyboardInterrupt,) if self.interrupted else ())
        if error is not None and not isinstance(error, (*allowed, TimeoutError)):
            soak.problem(f"{self.name}: {error!r}")
        if error is not None and isinstance(error, TimeoutError) and "time limit" not in str(error):
            soak.problem(f"{self.name}: {error!r}")
        if not self.future.done():
            soak.problem(f"{self.name}: has an outcome, but is not done()")
        while self.watch and not self.called.wait(1.0) and not soak.stalled():
            pass
        if self.watch and not self.called.is_set():
            soak.problem(f"{self.name}: no callback: {self.future!r}")
        if self.watch and self.calls != 1:
            soak.problem(f"{self.name}: {self.calls} callbacks")


def use_pool(soak: Soak, rng: random.Random) -> None:
    """Make a pool, use it, end it."""
    limited = rng.random() < 0.4
    pool = atoll.InterpreterPoolExecutor(
        rng.randint(1, 3),
        max_tasks_per_child=rng.choice([None, None, 1, 7]),
        task_timeout=LIMIT if limited else None,
        initializer=rng.choice([None, spin]),
        initargs=(0.001,),
        use_spares=rng.random() < 0.5,
    )
    futures: list[Watched] = []
    names = list(CALLS)
    weights = [WEIGHTS.get(name, 1.0) for name in names]
    for _ in range(rng.randint(1, 150)):
        action = rng.random()
        if action < 0.7 or not futures:
            name = rng.choices(names, weights)[0]
            function, args, _ = CALLS[name]
            future = pool.submit(function, *args)
            soak.count("submitted")
            if rng.random() < 0.1:
                continue  # nobody will ask for it
            futures.append(Watched(name, future, rng.random() < 0.4))
        elif action < 0.8:
            rng.choice(futures).future.cancel()
        elif action < 0.84:
            chosen = rng.choice(futures)
            chosen.interrupted = True
            chosen.future.interrupt()
        elif action < 0.92:
            try:
                rng.choice(futures).future.exception(rng.choice([0, 0.001, 0.01]))
            except (TimeoutError, concurrent.futures.CancelledError):
                pass
        elif action < 0.95:
            concurrent.futures.wait([w.future for w in futures[-5:]], timeout=0.01)
        elif action < 0.97:
            n = rng.randint(0, 300)
            results = pool.map(add, range(n), range(n), buffersize=rng.choice([None, 5]))
            if rng.random() < 0.7:
                if list(results) != [2 * i for i in range(n)]:
                    soak.problem("map: wrong results")
            elif n > 3 and next(results) != 0:
                soak.problem("map: wrong first result")
        else:
            time.sleep(rng.random() * 0.01)
    end = rng.random()
    if end < 0.4:
        pool.shutdown()
    elif end < 0.6:
        pool.shutdown(cancel_futures=True)
    elif end < 0.8:
        pool.shutdown(wait=False, cancel_futures=rng.random() < 0.5)
    del pool
    rng.shuffle(futures)
    for watched in futures:
        watched.check(soak)
    soak.count("pools")


def worker(soak: Soak, number: int) -> None:
    """Use pools until it is time to end."""
    rng = random.Random(soak.seed * 1000 + number)
    while not soak.over():
        try:
            use_pool(soak, rng)
        except BaseException as error:
            soak.problem(f"{type(error).__name__}: {error}")
            raise


def resident() -> int:
    """Return the bytes of memory that the process occupies."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    soak = Soak(options.minutes, options.seed)
    atoll.prewarm(1)
    threads = [
        threading.Thread(target=worker, args=(soak, number), daemon=True) for number in range(options.threads)
    ]
    for thread in threads:
        thread.start()
    memory: list[int] = []
    while any(thread.is_alive() for thread in threads):
        time.sleep(min(10.0, options.minutes * 6))
        memory.append(resident())
        if not options.quiet:
            print(f"{memory[-1] / 2**20:.0f} MiB, {dict(soak.counts)}", flush=True)
        if soak.stalled():
            soak.problem("threads do not end")
            faulthandler.dump_traceback(all_threads=True)
            break
    memory.append(resident())
    atoll.prewarm(0)
    count = len(atoll.list_all())
    soak.moved = time.monotonic()
    while count > 1 and not soak.stalled():
        time.sleep(0.05)
        before, count = count, len(atoll.list_all())
        if count < before:
            soak.moved = time.monotonic()
    if len(atoll.list_all()) > 1:
        left = atoll.list_all()[1:]
        soak.problem(f"left: {[(interp, interp.is_running()) for interp in left]}, {threading.enumerate()}")
    for text in soak.problems[:20]:
        print(f"PROBLEM: {text}")
    quarter = max(memory[: len(memory) // 4 + 1])
    half = sorted(memory[len(memory) // 2 :])
    growth = half[len(half) // 2] - quarter
    print(
        f"{dict(soak.counts)}; memory {quarter / 2**20:.0f} MiB after a quarter, {growth / 2**20:+.0f} MiB since"
    )
    if options.minutes >= 2 and growth > 0.25 * quarter:
        print("PROBLEM: memory grows")
        return 1
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
