"""Interrupt random work at random, and count which call got what.

    python stress/interrupts.py [--interrupts 10000] [--seed N]

Threads make calls into a few interpreters, one after the other, or submit them: loops, waits, sleep, calls into
the main interpreter. Others interrupt the interpreters at any moment, and wait until the call that was hit has
ended. In the end as many calls have failed by an interrupt as interrupts said that they hit one, no call has failed
otherwise, and each interpreter still works.
"""

import argparse
import faulthandler
import random
import threading
import time
import traceback

import atoll

INTERPRETERS = 3


class Hit(BaseException):
    """What is raised; a BaseException, so that no library catches it."""


def work(kind, seconds, never):
    """In an interpreter: something that takes a while, or has ended when the interrupt comes."""
    import time

    until = time.monotonic() + seconds
    match kind:
        case "loop":
            while time.monotonic() < until:
                pass
        case "sleep":
            time.sleep(seconds)
        case "queue":
            import atoll

            try:
                never.get(timeout=seconds)
            except atoll.QueueEmpty:
                pass
        case "data":
            while time.monotonic() < until:
                sorted(str(i) for i in range(300))
        case "nested":
            import atoll

            atoll.get_main().call(sum, range(1000))
    return kind


def is_hit(failure):
    """Whether a call has failed by an interrupt."""
    return isinstance(failure, Hit) or (
        isinstance(failure, atoll.ExecutionFailed) and failure.excinfo.type.__name__ == "Hit"
    )


class Storm:
    """What is counted."""

    def __init__(self, interrupts, seed):
        self.left = interrupts
        self.chance = random.Random(seed)
        self.over = threading.Event()
        self.never = atoll.create_queue()
        self.said = [0] * INTERPRETERS  # interrupts that said that they hit a call
        self.got = [0] * INTERPRETERS  # calls that failed by one
        self.calls = 0
        self.wrong = []

    def make_calls(self, interp, at, seed):
        """Until it is over."""
        chance = random.Random(seed)
        kinds = ["loop", "sleep", "queue", "data", "nested"]
        while not self.over.is_set():
            kind = chance.choice(kinds)
            args = (kind, chance.choice([0, 0.0005, 0.002]), self.never)
            try:
                submitted = chance.randrange(2)
                result = interp.submit(work, *args).result() if submitted else interp.call(work, *args)
                if result != kind:
                    self.wrong.append(result)
            except BaseException as exc:
                if is_hit(exc):
                    self.got[at] += 1
                else:
                    traceback.print_exception(exc)
                    self.wrong.append(exc)
            self.calls += 1

    def interrupt(self, interp, at, interrupts, seed):
        """So many times."""
        chance = random.Random(seed)
        for _ in range(interrupts):
            if self.wrong:
                break
            said = interp.interrupt(Hit)
            self.said[at] += said
            deadline = time.monotonic() + 60
            while said and self.got[at] < self.said[at]:
                if time.monotonic() > deadline:
                    self.wrong.append(f"an interrupt of {interp} was lost")
                    break
                time.sleep(0)
            time.sleep(chance.choice([0, 0.0002, 0.001, 0.003]))


def run(interrupts, seed):
    """Raise AssertionError when something did not add up; return how many calls there were, and how many were hit."""
    storm = Storm(interrupts, seed)
    interps = [atoll.create() for _ in range(INTERPRETERS)]
    for interp in interps:  # what is imported has callbacks of weak references, where an exception is lost
        interp.call(repr, Hit)
        for kind in ("queue", "nested"):
            interp.call(work, kind, 0, storm.never)
            interp.submit(work, kind, 0, storm.never).result()
    callers = [
        threading.Thread(target=storm.make_calls, args=(interp, at, seed + at), daemon=True)
        for at, interp in enumerate(interps)
    ]
    interrupters = [
        threading.Thread(target=storm.interrupt, args=(interp, at, interrupts // INTERPRETERS, seed - at))
        for at, interp in enumerate(interps)
    ]
    for thread in callers + interrupters:
        thread.start()
    for thread in interrupters:
        thread.join()
    storm.over.set()
    for thread in callers:
        thread.join()
    assert not storm.wrong, (storm.wrong[:3], seed)
    assert storm.got == storm.said, (storm.got, storm.said, seed)
    for interp in interps:
        assert interp.call(pow, 2, 10) == 1024
        interp.close()
    return storm.calls, sum(storm.got)


def main():
    """Read the options and run it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--interrupts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    faulthandler.enable()
    print(f"seed {options.seed}", flush=True)
    calls, hits = run(options.interrupts, options.seed)
    print(f"{calls} calls, {options.interrupts} interrupts, of which {hits} hit a call")


if __name__ == "__main__":
    main()
