"""Frozen objects: what sending them costs, looking something up in them, and the memory of many who read one table."""

import importlib.util
import json
import subprocess
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import memory_probe
import stdlib_side
import targets
from frozen_probe import make_table
from harness import Effort, Result, Side, alternate, compare_sides, summarise
from subjects_scaling import one_more

import atoll

SENT = 1e-6  # seconds, whatever its size


def send(effort: Effort) -> list[Result]:
    """A large frozen table as an argument, beside a small one and None."""
    table = atoll.freeze(make_table(10 if effort.quick else 200))
    size = atoll.frozen_memory() / 2**20
    small = atoll.freeze({"user": (1, "name", 0.5)})
    with atoll.create() as interp:
        interp.exec(stdlib_side.PREPARE)
        interp.call(targets.noop)
        names: dict[str, Any] = {"call": interp.call, "f": targets.size_of, "large": table, "small": small}
        result = Result(
            name="frozen.send",
            title=f"call with a frozen table of {size:.0f} MiB",
            sides=compare_sides(
                {
                    "atoll": Side("call(f, large)", names),
                    "small": Side("call(f, small)", names),
                    "none": Side("call(f, '')", names),
                },
                effort,
            ),
        )
    result.compare("small")
    result.at_most(SENT)
    return [result]


def lookup(effort: Effort) -> list[Result]:
    """The same keys in a frozen table, an ordinary dict and a mapping proxy of that."""
    table = make_table(1 if effort.quick else 20)
    frozen = atoll.freeze(table)
    keys = list(table)[:: max(1, len(table) // 1000)]
    sides = {"atoll": frozen, "dict": table, "proxy": types.MappingProxyType(table)}
    result = Result(
        name="frozen.lookup",
        title="1,000 lookups in a frozen table",
        sides=compare_sides(
            {
                name: Side("for key in keys: table[key]", {"keys": keys, "table": one})
                for name, one in sides.items()
            },
            effort,
        ),
        note="before CPython 3.15 a frozen dict is a mapping proxy",
    )
    result.compare("dict" if sys.version_info >= (3, 15) else "proxy")
    result.at_least(1 / 1.05)
    return [result]


def probe(side: str, megabytes: int) -> dict[str, float]:
    """Run frozen_probe in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("frozen_probe.py")), side, str(megabytes)]
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    ).stdout
    found: dict[str, float] = json.loads(output)
    return found


def memory(effort: Effort) -> list[Result]:
    """Eight workers that have read one table."""
    megabytes = 10 if effort.quick else 100
    found = {side: probe(side, megabytes) for side in ("atoll", "spawned", "forked")}
    result = Result(
        name="frozen.memory",
        title=f"eight that have walked one table of {megabytes} MiB",
        sides={side: summarise([sizes["eight"]], "B") for side, sizes in found.items()}
        | {"one": summarise([found["atoll"]["one"]], "B")},
        note="forked: with an ordinary table; one: a single interpreter",
    )
    result.compare("spawned")
    return [result]


def constants(_: Effort) -> list[Result]:
    """One more worker that has imported pandas: constants of modules are there once for all interpreters."""
    if importlib.util.find_spec("pandas") is None:
        return []

    where = {memory_probe.IMPORTS: "pandas", memory_probe.START: "spawn"}
    sides = {
        "atoll": partial(one_more, "atoll", **where),
        "spawned": partial(one_more, "processes", **where),
        "constants not shared": partial(one_more, "atoll", **where, ATOLL_SHARE_CONSTANTS="0"),
    }
    result = Result(
        name="frozen.constants", title="memory of one more worker with pandas", sides=alternate(sides, 1, "B")
    )
    result.compare("spawned")
    result.at_least(1 / 0.80)
    return [result]


SUBJECTS: dict[str, Callable[[Effort], list[Result]]] = {
    "frozen.send": send,
    "frozen.lookup": lookup,
    "frozen.memory": memory,
    "frozen.constants": constants,
}
