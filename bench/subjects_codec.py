"""The codec against pickle: out of an interpreter and into another, without the interpreters."""

import pickle
import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from harness import Effort, Result, Side, compare_sides

from atoll import _atoll

SIZES = (10, 100, 1_000, 10_000, 100_000)


def word(rng: random.Random) -> str:
    """Return a made-up word of 5 to 12 letters."""
    return "".join(rng.choices("abcdefghijklmnoprstuvwy", k=rng.randint(5, 12)))


def record(rng: random.Random, number: int) -> dict[str, Any]:
    """Return a record of ten leaves as a service would send it."""
    return {
        "id": number,
        "name": word(rng),
        "tags": [word(rng), word(rng), word(rng)],
        "place": {"position": (rng.uniform(-90, 90), rng.uniform(-180, 180)), "country": "PF"},
        "seen": rng.random() < 0.5,
        "parent": None,
    }


def make_payload(kind: str, size: int) -> Any:
    """Return the payload of a kind with `size` items, the same in every run."""
    rng = random.Random(f"{kind} {size}")
    if kind == "list of int":
        return [rng.randrange(1_000_000) for _ in range(size)]
    if kind == "list of float":
        return [rng.random() for _ in range(size)]
    if kind == "list of str":
        return [word(rng) for _ in range(size)]
    if kind == "dict str to int":
        return {f"{word(rng)}{i}": rng.randrange(1_000_000) for i in range(size)}
    if kind == "dict str to str":
        return {f"{word(rng)}{i}": word(rng) for i in range(size)}
    assert kind == "nested records"
    return [record(rng, i) for i in range(size // 10)]


# What must be reached on 3.14 and newer: how many times faster than pickle; before that, as fast
KINDS = {
    "list of int": 2.5,
    "list of float": 2.0,
    "list of str": 1.0,
    "dict str to int": 1.0,
    "dict str to str": 1.0,
    "nested records": 2.0,
}


def round_trip(kind: str, effort: Effort) -> list[Result]:
    """Measure encode+decode against dumps+loads for each size of a kind."""
    results = []
    for size in SIZES:
        payload = make_payload(kind, size)
        assert _atoll._decode(_atoll._encode(payload)) == payload
        names = {"payload": payload, "encode": _atoll._encode, "decode": _atoll._decode}
        sides = {
            "atoll": Side("decode(encode(payload))", names),
            "pickle": Side(
                "loads(dumps(payload, 5))",
                {"payload": payload, "dumps": pickle.dumps, "loads": pickle.loads},
            ),
        }
        result = Result(
            name=f"codec.{kind.replace(' ', '-')}.{size}",
            title=f"out and in: {kind}, {size:,} items",
            sides=compare_sides(sides, effort),
        )
        result.compare("pickle")
        result.at_least(KINDS[kind] if sys.version_info >= (3, 14) else 1.0)
        results.append(result)
    return results


SUBJECTS: dict[str, Callable[[Effort], list[Result]]] = {
    f"codec.{kind.replace(' ', '-')}": partial(round_trip, kind) for kind in KINDS
}
