"""Do at random, in several threads at once, all that the public names offer: nothing may crash or hang.

    python stress/everything.py [--seconds S] [--threads N] [--seed N] [--forks P] [--signals] [--verbose]

Threads of main make interpreters, with and without limits, close them in every way, call, submit, interrupt, time out,
cancel, use pools, queues, locks, SharedDicts, frozen objects, traces and supervisors, and fork. What runs in the
interpreters does the same there, leaves threads, destructors, exit functions, generators and interpreters behind, and
recurses without end. With ``--signals`` a handler that raises comes some times a second.

An operation may fail, with an error of Atoll's, of what was interrupted or of a limit; it is printed when it could not
have been meant: MemoryError, SystemError, AttributeError, NameError, AssertionError. A child that was forked makes an
interpreter and a pool, and must end well. When the time is over all threads end, everything is closed, and the exit
status is 0; what does not end within ``PATIENCE`` seconds is shown by its stacks.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import everything_jobs as jobs

import atoll

PATIENCE = float(os.environ.get("ATOLL_TEST_PATIENCE", "120"))
ODD = (MemoryError, SystemError, TypeError, AttributeError, NameError, AssertionError)
MODULES = (
    "json",
    "decimal",
    "sqlite3",
    "ctypes",
    "datetime",
    "xml.etree.ElementTree",
    "csv",
    "ssl",
    "zoneinfo",
)


class World:
    """What there is, and what is done with it."""

    def __init__(self, seed: int, forks: float) -> None:
        """Make one of each kind."""
        self.forks = forks
        self.interps: list[atoll.Interpreter] = []
        self.pools: list[atoll.InterpreterPoolExecutor] = []
        self.futures: list[Any] = []
        self.frozen: list[Any] = [atoll.freeze({"a": 1})]
        self.queues = [atoll.create_queue(size) for size in (0, 1, 8)]
        self.locks: list[Any] = [atoll.Lock(), atoll.RLock(), atoll.Semaphore(2)]
        self.dicts = [atoll.SharedDict(), atoll.SharedDict(ttl=0.1)]
        self.buffer = atoll.SharedBuffer(4096)
        self.condition = atoll.Condition()
        self.event = atoll.Event()
        self.number = atoll.AtomicInt()
        self.tally: Counter[Any] = Counter()
        self.current: dict[int | str, tuple[str, float]] = {}
        self.over = threading.Event()
        names = [name for name in dir(self) if name.startswith("do_")]
        weights = {"do_call": 8, "do_submit": 6, "do_future": 5, "do_create": 4, "do_queue": 6, "do_sync": 6}
        self.operations = [getattr(self, name) for name in names for _ in range(weights.get(name, 2))]
        self.seed = seed

    def pick(self, r: random.Random) -> atoll.Interpreter | None:
        """Return one of the interpreters."""
        interps = self.interps[:]
        return r.choice(interps) if interps else None

    def job(self, r: random.Random) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return something to be called, with its arguments."""
        queue, lock, short = r.choice(self.queues), r.choice(self.locks), r.random() * 0.05
        how = r.choice(["call", "submit", "interrupt", "close", "force"])
        choices: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
            (sum, (range(r.randrange(1000)),)),
            (jobs.spin, (short,)),
            (time.sleep, (short,)),
            (jobs.fail, (short,)),
            (jobs.echo, ({"a": [1, 2.5, "x" * r.randrange(300)], "b": (None, b"y" * r.randrange(3000))},)),
            (jobs.echo, (list(range(r.randrange(5000))),)),
            (jobs.echo, (r.choice(self.frozen),)),
            (jobs.get_soon, (queue,)),
            (
                jobs.put_soon,
                (queue, r.choice([[short] * 200, jobs.view(r.randrange(1, 9999)), self.dicts[0]])),
            ),
            (jobs.use_dict, (r.choice(self.dicts), r.randrange(50))),
            (jobs.hold, (lock, short / 5)),
            (jobs.keep_lock, (lock,)),
            (jobs.wait_for_condition, (self.condition, short / 3)),
            (jobs.start_threads, (queue, r.random() < 0.5)),
            (jobs.nest, (r.random() < 0.5, queue)),
            (jobs.use_pool, ()),
            (jobs.load, (r.choice(MODULES),)),
            (gc.collect, ()),
            (jobs.change, (self.buffer,)),
            (jobs.view, (r.randrange(1, 5000),)),
            (jobs.run_loop, (short / 3,)),
            (jobs.recurse, ()),
            (sys.exit, (3,)),
            (jobs.leave_finalizers, (queue,)),
            (jobs.look, ()),
            (jobs.use_other, (self.pick(r), how)),
        ]
        return r.choice(choices)

    def do_create(self, r: random.Random) -> None:
        """Make an interpreter, or close one."""
        if len(self.interps) > 6:
            self.do_close(r)
            return
        given: dict[str, Any] = {}
        if r.random() < 0.2:
            given["memory_limit"] = 200 << 20
        if r.random() < 0.1:
            given["cpu_limit"] = r.random() * 0.3 + 0.01
        for name, value in {"site": False, "name": "named", "daemon_threads": False}.items():
            if r.random() < 0.2:
                given[name] = value
        self.interps.append(atoll.create(**given))

    def do_close(self, r: random.Random) -> None:
        """Close an interpreter, or forget it."""
        interp = self.pick(r)
        if interp is None:
            return
        match r.randrange(6):
            case 0:
                interp.close()
            case 1:
                interp.close(timeout=r.random() * 0.1)
            case 2:
                interp.close(force=True, timeout=r.random() * 0.3)
            case 3:
                interp.close(force=True)
            case 4:
                interp.close(wait=False)
            case _:
                with interp:
                    pass
        if interp in self.interps:
            self.interps.remove(interp)

    def do_call(self, r: random.Random) -> None:
        """Call something, some times within a time."""
        interp = self.pick(r)
        if interp is None:
            return
        function, args = self.job(r)
        if r.random() < 0.2:
            with atoll.timeout(interp, r.random() * 0.05):
                interp.call(function, *args)
        else:
            interp.call(function, *args)

    def do_exec(self, r: random.Random) -> None:
        """Execute a script, after some names were set."""
        interp = self.pick(r)
        if interp is not None:
            interp.prepare_main({"a": 1}, queue=self.queues[0])
            interp.exec(r.choice(["x = [1] * 1000", "import json", "while True: pass", "1/0"]), timeout=0.05)

    def do_submit(self, r: random.Random) -> None:
        """Submit to an interpreter, a thread or a pool."""
        interp = self.pick(r)
        function, args = self.job(r)
        if r.random() < 0.5 and self.pools:
            self.futures.append(r.choice(self.pools[:]).submit(function, *args))
        elif interp is not None and r.random() < 0.7:
            self.futures.append(interp.submit(function, *args))
        elif interp is not None:
            interp.call_in_thread(function, *args)

    def do_map(self, r: random.Random) -> None:
        """Map, and go away before the end."""
        if self.pools:
            most = r.randrange(300)
            results = r.choice(self.pools[:]).map(abs, range(200), timeout=0.3, chunksize=r.choice([1, 7]))
            for count, _ in enumerate(results):
                if count > most:
                    break

    def do_future(self, r: random.Random) -> None:
        """Do something with a future."""
        if len(self.futures) > 30:
            del self.futures[:10]
        futures = self.futures[:]
        if not futures:
            return
        future = r.choice(futures)
        match r.randrange(6):
            case 0:
                future.cancel()
            case 1:
                future.interrupt()
            case 2:
                future.add_done_callback(lambda done: done.cancelled())
            case _:
                future.result(r.random() * 0.1)

    def do_interrupt(self, r: random.Random) -> None:
        """Interrupt what runs."""
        interp = self.pick(r)
        if interp is not None:
            interp.interrupt(r.choice([KeyboardInterrupt, ValueError, RuntimeError("interrupted")]))

    def do_pool(self, r: random.Random) -> None:
        """Make a pool, or end one."""
        if len(self.pools) > 2:
            pool = self.pools.pop(0)
            match r.randrange(5):
                case 0:
                    pool.terminate_workers()
                case 1:
                    pool.kill_workers()
                case _:
                    pool.shutdown(wait=r.random() < 0.5, cancel_futures=r.random() < 0.5)
            return
        given: dict[str, Any] = {}
        choices = {
            "max_tasks_per_child": r.randrange(1, 5),
            "task_timeout": 0.05,
            "worker_limits": {"memory_limit": 200 << 20, "cpu_limit": 0.1},
            "initializer": gc.collect,
            "inner_threads": 1,
        }
        for name, value in choices.items():
            if r.random() < 0.2:
                given[name] = value
        self.pools.append(atoll.InterpreterPoolExecutor(r.randrange(1, 4), **given))

    def do_queue(self, r: random.Random) -> None:
        """Use a queue."""
        place = r.randrange(len(self.queues))
        queue = self.queues[place]
        match r.randrange(12):
            case 0 | 1 | 2:
                queue.put_nowait(
                    r.choice([1, [1, "x"], {"a": b"b" * 500}, jobs.view(100), self.dicts[0], self.frozen[0]])
                )
            case 3 | 4 | 5:
                queue.get(timeout=r.random() * 0.02)
            case 6:
                queue.put_many(range(20), timeout=0.01)
            case 7:
                queue.get_many(10, timeout=0.01)
            case 8:
                atoll.select(self.queues, timeout=0.01)
            case 9:
                queue.fileno()
            case 10:
                self.queues[place] = atoll.create_queue(r.choice([0, 1, 5]))
            case _:
                queue.shutdown(immediate=r.random() < 0.5)
                self.queues[place] = atoll.create_queue()

    def do_sync(self, r: random.Random) -> None:
        """Use a lock or another thing of its kind."""
        match r.randrange(8):
            case 0:
                jobs.hold(r.choice(self.locks), 0)
            case 1:
                place = r.randrange(len(self.locks))
                self.locks[place] = r.choice([atoll.Lock, atoll.RLock, atoll.Semaphore])()
            case 2:
                self.event.set() if r.random() < 0.5 else self.event.clear()
            case 3:
                self.event.wait(0.01)
            case 4:
                self.number.add(1)
                self.number.wait(r.randrange(10), 0.005)
            case 5:
                jobs.wait_for_condition(self.condition, 0.005)
            case 6:
                self.buffer = atoll.SharedBuffer(r.randrange(1, 9999))
            case _:
                jobs.use_dict(r.choice(self.dicts), r.randrange(50))

    def do_freeze(self, r: random.Random) -> None:
        """Freeze something, some times in an area."""
        if r.random() < 0.3:
            with atoll.freezing():
                self.frozen.append(atoll.freeze([r.random()] * 50))
        else:
            self.frozen.append(atoll.freeze({i: (i, str(i), [float(i)]) for i in range(r.randrange(100))}))
        if len(self.frozen) > 5:
            del self.frozen[0]

    def do_look(self, r: random.Random) -> None:
        """Look at everything, or at one interpreter."""
        interp = self.pick(r)
        if interp is not None and r.random() < 0.5:
            interp.stats()
        else:
            jobs.look()
            atoll.kept_extensions()
            gc.collect()

    def do_trace(self, r: random.Random) -> None:
        """Write a trace."""
        with tempfile.TemporaryDirectory() as folder, atoll.trace(Path(folder) / "trace.json"):
            time.sleep(r.random() * 0.05)

    def do_prewarm(self, r: random.Random) -> None:
        """Keep spares, or none."""
        atoll.prewarm(r.randrange(3))

    def do_supervise(self, r: random.Random) -> None:
        """Supervise two children for an instant."""
        if r.random() < 0.3:
            supervisor = atoll.Supervisor()
            supervisor.add("sleeps", time.sleep, (0.02,))
            supervisor.add("fails", jobs.fail, (1,))
            supervisor.start()
            time.sleep(0.03)
            supervisor.stop()

    def do_fork(self, r: random.Random) -> None:
        """Fork; the child makes an interpreter and a pool."""
        if r.random() >= self.forks or threading.current_thread() is threading.main_thread():
            return
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(int(PATIENCE))
                with atoll.create() as interp, atoll.InterpreterPoolExecutor(1) as pool:
                    assert interp.call(abs, -1) == pool.submit(abs, -1).result() == 1
                status = 0
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self.tally["forks"] += 1
        assert status == 0, f"the child of a fork ended with {status}"

    def run(self, number: int | str) -> None:
        """Do something, again and again."""
        r = random.Random(f"{self.seed} {number}")
        while not self.over.is_set():
            operation = r.choice(self.operations)
            name = operation.__name__
            self.current[number] = (name, time.monotonic())
            try:
                operation(r)
                self.tally[name, "done"] += 1
            except BaseException as error:  # also SystemExit and KeyboardInterrupt, of what ran
                self.tally[name, type(error).__name__] += 1
                if isinstance(error, ODD):
                    self.tally["odd"] += 1
                    traceback.print_exc()
        self.current.pop(number, None)

    def stuck(self) -> list[str]:
        """Return what takes too long."""
        now = time.monotonic()
        return [name for name, since in list(self.current.values()) if now - since > PATIENCE]


def raise_at_times(number: int, _frame: object) -> None:
    """Handle a signal."""
    if random.random() < 0.5:
        raise KeyboardInterrupt(number)


def send_signals(over: threading.Event) -> None:
    """Send signals to this process."""
    while not over.wait(random.random() * 0.2):
        os.kill(os.getpid(), signal.SIGINT)


def watch(world: World, threads: list[threading.Thread], seconds: float) -> bool:
    """Wait for the end; return whether everything ended."""
    threading.Timer(seconds, world.over.set).start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.2)
        if world.stuck():
            print("does not end:", world.stuck(), flush=True)
            subprocess.run([sys.executable, "-m", "atoll", "stacks", str(os.getpid())], check=False)
            return False
    return True


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=5)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument(
        "--forks", type=float, default=0.2, help="how probable a fork is where one is possible"
    )
    parser.add_argument("--signals", action="store_true", help="main does the same, and hears signals")
    parser.add_argument("--verbose", action="store_true", help="print how often what came of what")
    options = parser.parse_args()
    faulthandler.enable()
    print("seed", options.seed, flush=True)
    threading.excepthook = lambda _: None  # threads of call_in_thread() may raise
    world = World(options.seed, options.forks)
    threads = [threading.Thread(target=world.run, args=(n,), daemon=True) for n in range(options.threads)]
    watcher_says: list[bool] = []
    watcher = threading.Thread(
        target=lambda: watcher_says.append(watch(world, threads, options.seconds)), daemon=True
    )
    for thread in (*threads, watcher):
        thread.start()
    if options.signals:
        signal.signal(signal.SIGINT, raise_at_times)
        threading.Thread(target=send_signals, args=(world.over,), daemon=True).start()
    while watcher.is_alive():
        try:
            if options.signals and not world.over.is_set():
                world.run("main")
            watcher.join(0.2)
        except BaseException:  # a handler has raised outside of an operation
            world.tally["main", "interrupted"] += 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if watcher_says != [True]:
        os._exit(1)
    for pool in world.pools:
        pool.shutdown(cancel_futures=True)
    for interp in world.interps:
        try:
            interp.close(force=True)
        except atoll.InterpreterNotFoundError:
            pass
    if options.verbose:
        for what, count in sorted(world.tally.items(), key=str):
            print(f"{count:7} {what}")
    print(
        f"{sum(world.tally.values())} operations, {world.tally['forks']} forks, {world.tally['odd']} odd failures"
    )
    return 1 if world.tally["odd"] else 0


if __name__ == "__main__":
    sys.exit(main())
