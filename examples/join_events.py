"""Join five million events against a table of a million users, four ways.

What happens when you run this (``make run``, or ``python examples/join_events.py``):

1. It writes a CSV file of 1,000,000 invented users and 40 files of 125,000 events each.
2. For each event the user is looked up, and what was spent is added up by country and plan.
3. It does that four times: serially, with a pool of threads, with a pool of processes, and with
   Atoll's interpreters, one per core.  Each way runs in a fresh process of its own, so that its
   time and its peak memory are its own.
4. It checks that the four results are equal (exit status 1 when they are not), prints what each
   way took, and who spends most.

Every worker needs the whole table of users. Each process has to read it and keep a copy of its own. Atoll reads it
once and freezes it (``atoll.freeze``): from then on all interpreters look things up in the very same objects, and
sending the table costs a pointer. ``share()`` below is all that it takes.

How the work is spread is in ``ways.py``.
"""

import functools
import itertools
import os
import random
import sys
import tempfile
from collections.abc import Mapping

import ways

# Who a user is: country, plan, year of birth
User = tuple[str, str, int]
# Country, plan, events, cents
Sum = tuple[str, str, int, int]

FILES = 40
USERS_FOR_A_FILE = 25_000
EVENTS_IN_A_FILE = 125_000
COUNTRIES = (
    "AR",
    "AU",
    "BR",
    "CA",
    "CH",
    "CN",
    "DE",
    "EG",
    "ES",
    "FR",
    "IN",
    "JP",
    "KE",
    "MX",
    "NG",
    "PL",
    "SE",
    "US",
)
PLANS = ("free", "basic", "family", "business")

users: Mapping[str, User] | None = None  # the table, in whichever interpreter or process this is


# ------------------------------------------------------------------------------------------------
# The work
# ------------------------------------------------------------------------------------------------


def read_users(folder: str) -> dict[str, User]:
    """Read the table: this takes a while, and a few hundred MiB."""
    table = {}
    with open(os.path.join(folder, "users.csv")) as lines:
        for line in lines:
            name, country, plan, born = line.split(",")
            table[name] = (country, plan, int(born))
    return table


def ready(folder: str) -> int:
    """See to it that the table is here; return how many users it has."""
    global users
    if users is None:
        users = read_users(folder)
    return len(users)


def share(folder: str) -> None:
    """Read the table once, for all interpreters."""
    import atoll

    global users
    users = atoll.freeze(read_users(folder))


def join(paths: list[str]) -> list[Sum]:
    """Add up the events of some files by what their users are."""
    ready(os.path.dirname(paths[0]))
    assert users is not None
    sums: dict[tuple[str, str], list[int]] = {}
    for path in paths:
        with open(path) as lines:
            for line in lines:
                name, cents = line.split(",")
                country, plan, _ = users[name]
                key = country, plan
                if key in sums:
                    found = sums[key]
                    found[0] += 1
                    found[1] += int(cents)
                else:
                    sums[key] = [1, int(cents)]
    return sorted((country, plan, count, cents) for (country, plan), (count, cents) in sums.items())


# ------------------------------------------------------------------------------------------------
# The input
# ------------------------------------------------------------------------------------------------


def write_users(folder: str, count: int) -> int:
    """Write the invented users; return the file's bytes."""
    chance = random.Random(count)
    path = os.path.join(folder, "users.csv")
    with open(path, "w") as file:
        file.writelines(
            f"user-{number:07},{chance.choice(COUNTRIES)},{chance.choice(PLANS)},{chance.randrange(1940, 2012)}\n"
            for number in range(count)
        )
    return os.path.getsize(path)


def write_events(folder: str, number: int, known: int) -> int:
    """Write a file of invented events, some users' more often than others'; return its bytes."""
    chance = random.Random(number)
    path = os.path.join(folder, f"events-{number:02}.csv")
    with open(path, "w") as file:
        file.writelines(
            f"user-{int(known * chance.random() ** 2):07},{int(chance.expovariate(0.001)) + 1}\n"
            for _ in range(EVENTS_IN_A_FILE)
        )
    return os.path.getsize(path)


def find_files(folder: str) -> list[ways.Task]:
    """Return a task for each file of events."""
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.startswith("events")]
    return [([path], os.path.getsize(path)) for path in paths]


# ------------------------------------------------------------------------------------------------
# The whole
# ------------------------------------------------------------------------------------------------


def total(found: list[Sum]) -> list[Sum]:
    """Add up what the files gave; the largest sum first."""
    sums = []
    for (country, plan), group in itertools.groupby(sorted(found), key=lambda one: one[:2]):
        counts, cents = zip(*(one[2:] for one in group), strict=True)
        sums.append((country, plan, sum(counts), sum(cents)))
    return sorted(sums, key=lambda one: -one[3])


def main() -> int:
    """Run the ways, compare, print; return the exit status."""
    options = ways.parse_arguments(__doc__, f"so many files of events (default {FILES})")
    if options.way:
        folder = options.data
        job = ways.Job(
            find_files(folder),
            join,
            functools.partial(ready, folder),
            "events",
            functools.partial(share, folder),
        )
        return ways.run_child(job, options)
    if ways.is_missing(options):
        return 1

    with tempfile.TemporaryDirectory() as folder:
        ways.heading("The input")
        files = options.files or FILES
        known = files * USERS_FOR_A_FILE
        size = write_users(folder, known)
        print(f"a table of {known:,} users, {size / 2**20:,.1f} MiB of CSV")
        size = 0
        for number in range(files):
            size += write_events(folder, number, known)
            if sys.stdout.isatty():
                print(f"\r  writing file {number + 1} of {files}", end="", flush=True)
        print(
            "\r" * sys.stdout.isatty()
            + f"{files} files with {files * EVENTS_IN_A_FILE:,} events, {size / 2**20:,.1f} MiB"
        )

        ways.heading("The work: find each event's user, add up by country and plan")
        comparison = ways.Comparison(options, ["--data", folder])

    sums = total(comparison.print_equality())
    print(f"{sum(one[2] for one in sums):,} events of {len(sums)} groups of users")

    comparison.print_costs()

    ways.heading("Who spends most")
    print(f"{'country':<10}{'plan':<10}{'events':>12}{'spent':>16}")
    for country, plan, count, cents in sums[:5]:
        print(f"{country:<10}{plan:<10}{count:>12,}{cents / 100:>16,.2f}")
    return 0 if comparison.equal else 1


if __name__ == "__main__":
    ways.run(main)
