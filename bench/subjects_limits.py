"""What limits cost: pure Python in an interpreter that has them, and in one that has none.

Processor time is compared, which other programs disturb less.
"""

from functools import partial
from typing import Any

from harness import Effort, Result, alternate

import atoll


def objects(rounds: int) -> float:
    """Make and drop small objects, lists that grow, strings and dicts; return the seconds of processor time."""
    import time

    began = time.thread_time()
    for _ in range(rounds):
        rows: list[Any] = []
        for number in range(300):
            rows.append({"id": number, "name": str(number) * 3, "half": number / 2})
        total = 0.0
        for row in rows:
            total += row["half"] * len(row["name"])
        text = ",".join(row["name"] for row in rows)
        words = sorted(text.split(","), key=len)
        assert len(words) == 300
    return time.thread_time() - began


def limits(effort: Effort) -> list[Result]:
    """The same work with both limits, and without."""
    rounds, samples = (100, 7) if effort.quick else (300, 41)
    with atoll.create() as plain, atoll.create(memory_limit=1 << 30, cpu_limit=1e6) as limited:
        sides = {
            "atoll": partial(limited.call, objects, rounds),
            "none": partial(plain.call, objects, rounds),
        }
        for run in sides.values():
            run()
        result = Result(
            name="limits.python",
            title="pure Python with memory_limit and cpu_limit",
            sides=alternate(sides, samples),
            note="none: an interpreter without limits",
        )
    result.compare("none")
    result.at_least(0.97)
    return [result]


SUBJECTS = {"limits.python": limits}
