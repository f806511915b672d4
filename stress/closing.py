"""Close interpreters by force while they are called, interrupted and submitted to, and count who got what.

    python stress/closing.py [--rounds 200] [--seed N]

In each round threads make calls into a new interpreter, one after the other, or submit them; it has threads of its own;
another thread interrupts it with exceptions that have numbers; several close it by force, at once or one after the
other, some of them with too little time. In the end one of them has closed it, for the others it was gone or did not
end in time; each call has had one outcome: its result, an exception that an interrupt has raised which said so, a
KeyboardInterrupt by a close, or that the interpreter is closed; each interrupt that said so has made a call fail, and
where one thread makes the calls and nobody has closed it yet, exactly one, with its own exception; and all threads have
ended.
"""

import argparse
import collections
import concurrent.futures
import faulthandler
import random
import threading
import time
import traceback

import atoll

CLOSERS = 3
PATIENCE = 60


class Hit(BaseException):
    """What interrupts raise."""


def work(kind, seconds, never, threads):
    """In an interpreter: something that takes a while."""
    import threading
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
        case "nested":
            import atoll

            atoll.get_main().call(sum, range(1000))
        case "thread":

            def live():
                try:
                    while True:
                        time.sleep(0.0005)
                finally:
                    threads.sub(1)

            threads.add(1)
            threading.Thread(target=live, daemon=seconds > 0).start()
    return kind


class Round:
    """One interpreter, from its beginning to its end."""

    def __init__(self, chance):
        self.chance = chance
        self.callers = chance.choice([1, 3])
        self.interp = atoll.create(name="stormy")
        self.never = atoll.create_queue()
        self.threads = atoll.AtomicInt()
        self.gone = threading.Event()
        self.lock = threading.Lock()
        self.outcomes = collections.Counter()
        self.forced = False  # somebody has begun to close it
        self.said = set()  # the numbers of interrupts that said that they hit a call
        self.exact = set()  # those of them whose call has failed before anybody closed it
        self.hits = []  # the numbers that arrived
        self.failed = 0  # calls that an interrupt or a close has ended
        self.wrong = []
        self.interp.call(repr, Hit)
        for kind in (
            "queue",
            "nested",
        ):  # what is imported has callbacks of weak references, where one would be lost
            self.interp.call(work, kind, 0, self.never, self.threads)
            self.interp.submit(work, kind, 0, self.never, self.threads).result(PATIENCE)

    def call(self, seed):
        """Make calls until it is gone."""
        chance = random.Random(seed)
        while not self.gone.is_set():
            kind = chance.choice(["loop", "sleep", "queue", "nested"])
            args = (kind, chance.choice([0, 0.0005, 0.002]), self.never, self.threads)
            outcome = self.outcome_of(chance.randrange(2), args)
            with self.lock:
                self.outcomes[outcome] += 1
                self.failed += outcome in ("Hit", "KeyboardInterrupt")
            if outcome in ("closing", "gone"):
                time.sleep(0.0002)

    def outcome_of(self, submitted, args):
        """Make a call: what came of it, in a word."""
        interp = self.interp
        try:
            result = interp.submit(work, *args).result(PATIENCE) if submitted else interp.call(work, *args)
        except concurrent.futures.CancelledError:
            return self.by_force("cancelled")
        except atoll.InterpreterNotFoundError:
            return self.by_force("gone")
        except atoll.ExecutionFailed as exc:
            return self.raised(exc.excinfo.type.__name__, exc.excinfo.msg, exc)
        except atoll.InterpreterError:
            return self.by_force("closing")
        except (Hit, KeyboardInterrupt) as exc:
            return self.raised(type(exc).__name__, str(exc), exc)
        except BaseException as exc:
            return self.raised(type(exc).__name__, str(exc), exc)
        if result != args[0]:
            self.wrong.append(result)
        return "result"

    def by_force(self, word):
        """Such an outcome there is only when somebody closes it."""
        if not self.forced:
            self.wrong.append(f"{word}, but nobody closes it")
        return word

    def raised(self, name, message, exc):
        """An exception has come out of a call."""
        if name == "Hit":
            with self.lock:
                self.hits.append(int(message))
            return name
        if name == "KeyboardInterrupt" and not message:
            return self.by_force(name)
        if name == "InterpreterNotFoundError":  # of a task that was just begun
            return self.by_force("gone")
        traceback.print_exception(exc)
        self.wrong.append(f"{name}: {message}")
        return name

    def interrupt(self, seed):
        """Interrupt it until it is gone."""
        chance = random.Random(seed)
        number = 0
        while not self.gone.is_set():
            number += 1
            before = self.failed
            try:
                said = self.interp.interrupt(Hit(number))
            except atoll.InterpreterNotFoundError:
                break
            if said:
                with self.lock:
                    self.said.add(number)
                self.await_failure(before, number)
            time.sleep(chance.choice([0, 0.0002, 0.001, 0.003]))

    def await_failure(self, before, number):
        """Wait until a call has failed since."""
        deadline = time.monotonic() + PATIENCE
        while self.failed == before:
            if time.monotonic() > deadline:
                self.wrong.append(f"interrupt {number} was lost")
                break
            time.sleep(0)
        with self.lock:
            if (
                not self.forced
            ):  # else a close may have hit the same call, while it was described what the first has raised
                self.exact.add(number)

    def start_threads(self):
        """Have it start threads of its own, before anybody interrupts it."""
        for _ in range(self.chance.randrange(3)):
            self.interp.call(work, "thread", self.chance.randrange(2), self.never, self.threads)

    def close(self, seed):
        """Close it by force, some time later: what came of it."""
        chance = random.Random(seed)
        time.sleep(chance.choice([0, 0.001, 0.01, 0.05]))
        while True:
            self.forced = True
            try:
                self.interp.close(force=True, timeout=chance.choice([0, 0.0005, 0.005, PATIENCE]))
            except atoll.InterpreterNotFoundError:
                return "gone"
            except atoll.InterpreterStuckError:
                with self.lock:
                    self.outcomes["stuck"] += 1
                continue
            finally:
                if self.interp not in atoll.list_all():
                    self.gone.set()
            return "closed"

    def run(self):
        """Let it all happen; raise AssertionError when something does not add up."""
        self.start_threads()
        with concurrent.futures.ThreadPoolExecutor(self.callers + 1 + CLOSERS) as pool:
            others = [pool.submit(self.call, self.chance.random()) for _ in range(self.callers)]
            others.append(pool.submit(self.interrupt, self.chance.random()))
            closers = [pool.submit(self.close, self.chance.random()) for _ in range(CLOSERS)]
            ends = sorted(closer.result(3 * PATIENCE) for closer in closers)
            self.gone.set()
            for other in others:
                other.result(3 * PATIENCE)
        assert not self.wrong, self.wrong[:3]
        # A close whose time was over when the end had begun has closed it, too.
        assert ends.count("closed") <= 1, ends
        assert "closed" in ends or self.outcomes["stuck"], ends
        assert self.interp not in atoll.list_all()
        assert set(self.hits) <= self.said, set(self.hits) - self.said
        if self.callers == 1:
            assert len(self.hits) == len(set(self.hits)), self.hits
            assert self.exact <= set(self.hits), self.exact - set(self.hits)
        assert self.threads.load() == 0, self.threads.load()
        return self.outcomes


def run(rounds, seed):
    """Raise AssertionError when something did not add up; return how many calls had which outcome."""
    chance = random.Random(seed)
    outcomes = collections.Counter()
    for number in range(rounds):
        try:
            outcomes += Round(chance).run()
        except AssertionError:
            print(f"round {number} of seed {seed}")
            raise
    return outcomes


def main():
    """Read the options and run it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    faulthandler.enable()
    print(f"seed {options.seed}", flush=True)
    outcomes = run(options.rounds, options.seed)
    print(
        f"{options.rounds} interpreters closed: "
        + ", ".join(f"{n} {what}" for what, n in sorted(outcomes.items()))
    )


if __name__ == "__main__":
    main()
