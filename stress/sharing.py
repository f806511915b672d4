"""Use locks and SharedDicts from interpreters that come and go at random, and check what must hold.

    python stress/sharing.py [--seconds 60] [--seed N]

Threads of the main interpreter make interpreters, let threads of theirs work, and close them at any moment, with locks
held, waits going on and values just stored. At the end every lock can be taken, sums are what was added, and nothing is
left.
"""

import argparse
import faulthandler
import random
import sys
import threading
import time

import atoll

LOCKS = 4
START = """
import threading
threading.Thread(target=work, args=(things, {seed}, 10**9), daemon=True).start()
"""


def work(things, seed, times):
    """In an interpreter: anything at all, with short waits."""
    import random

    import atoll

    chance = random.Random(seed)
    locks, condition, semaphore, barrier, number, shared, added = things
    for _ in range(times):
        try:
            match chance.randrange(9):
                case 0 | 1:
                    lock = chance.choice(locks)
                    if lock.acquire(timeout=0.05):  # it may be held by a thread that this call keeps alive
                        number.add()
                        added.add("locked")
                        lock.release()
                case 2:
                    lock = chance.choice(locks[1:])  # not the condition's, for which wait() waits for ever
                    if lock.acquire(timeout=chance.random() / 500) and chance.random() < 0.9:
                        lock.release()
                case 3:
                    if condition.acquire(timeout=0.05):
                        condition.notify(chance.randrange(3))
                        condition.wait(chance.random() / 500)
                        condition.release()
                case 4:
                    if semaphore.acquire(timeout=chance.random() / 500):
                        semaphore.release()
                case 5:
                    barrier.wait(chance.random() / 500)
                case 6:
                    number.wait(number.load(), chance.random() / 500)
                case 7:
                    shared[chance.randrange(50)] = (
                        chance.choice(locks),
                        "x" * chance.randrange(2000),
                        shared,
                    )
                case 8:
                    value = shared.get(chance.randrange(50))
                    assert value is None or (value[0] in locks and value[2] is shared)
        except atoll.LockOwnerLost:
            added.add("lost")
        except RuntimeError as error:  # threading.BrokenBarrierError, or a lock that was lost
            if type(error).__name__ == "BrokenBarrierError":
                barrier.reset()


def come_and_go(things, seed, until):
    """Make interpreters, let them work, and close them."""
    chance = random.Random(seed)
    while time.monotonic() < until:
        with atoll.create() as interp:
            interp.prepare_main(things=things)
            interp.call(keep, work)
            for _ in range(chance.randrange(3)):
                interp.exec(START.format(seed=chance.random()))
            interp.call(work, things, chance.random(), 50)
            time.sleep(chance.random() / 20)


def keep(function):
    """Make a function known in the interpreter's __main__."""
    import __main__

    __main__.work = function


def main() -> int:
    """Run it; the exit status is 0 when all holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    faulthandler.dump_traceback_later(arguments.seconds + 60, exit=True)
    locks = tuple(kind() for kind in (atoll.Lock, atoll.RLock) * (LOCKS // 2))
    added = atoll.SharedDict()
    number = atoll.AtomicInt()
    shared = atoll.SharedDict(max_bytes=50_000)
    things = (locks, atoll.Condition(locks[0]), atoll.Semaphore(2), atoll.Barrier(2), number, shared, added)
    until = time.monotonic() + arguments.seconds
    threads = [
        threading.Thread(target=come_and_go, args=(things, arguments.seed + i, until)) for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(atoll.list_all()) == 1, atoll.list_all()
    for lock in locks:
        for _ in range(2):
            try:
                assert lock.acquire(timeout=10), lock
                lock.release()
            except atoll.LockOwnerLost:
                pass
    assert abs(number.load() - added.get("locked", 0)) <= 100, (number, added.items())
    assert shared.stats()["bytes"] <= 50_000
    shared.clear()
    assert shared.stats()["bytes"] == 0
    print(dict(added), "ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
