"""Modules that read a command line with getopt(): each interpreter where it is in its own."""

from __future__ import annotations

import random

import pytest

import ext_use
from helpers import check_ended, run_python

pytest_plugins = ["ext_fixtures"]

WORDS = [
    *("-a", "-l", "-l3", "-al", "-ca", "-c", "-x", "-", "--", "word", "other", "-al3x", "-:", "-W", "-Wall"),
    *("--all", "--level", "--level=3", "--col", "--colo=red", "--color", "--colu", "--column=3", "--no"),
    *("--all=3", "-level", "-color=red", "-all"),
]
SHORTS = ["al:c::", "+al:c::", "-al:c::", ":al:c::", "+:al:", "-:W;a", "al:W;", ""]
KINDS = ["short", "long", "long only"]


def lines(seed: int, count: int) -> list[tuple[str, str, list[str]]]:
    """So many command lines, with what they may have."""
    dice = random.Random(seed)
    return [
        (dice.choice(KINDS), dice.choice(SHORTS), dice.choices(WORDS, k=dice.randrange(8)))
        for _ in range(count)
    ]


def read(given: list[tuple[str, str, list[str]]]) -> list[object]:
    """What is found in them."""
    import ext_options

    return [ext_options.read(*line, 0) for line in given]


@pytest.mark.parametrize("strict", [False, True], ids=["usual", "posix"])
def test_as_the_c_library_does(make, corpus, monkeypatch, strict):
    """Beside what it has found itself, where nobody comes between."""
    if strict:
        monkeypatch.setenv("POSIXLY_CORRECT", "1")
    monkeypatch.syspath_prepend(str(corpus))
    given = lines(strict, 3000)
    assert make().call(read, given) == read(given)


def test_two_at_once(make, corpus, monkeypatch):
    """Two interpreters read at the same time."""
    monkeypatch.syspath_prepend(str(corpus))
    interps = [make(), make()]
    given = [lines(seed, 3000) for seed in (2, 3)]
    futures = [
        interp.submit(read, each) for interp, each in zip(interps, given, strict=True) for _ in range(5)
    ]
    found = [future.result(ext_use.PATIENCE) for future in futures]
    assert found == [read(each) for each in given for _ in range(5)]


def test_nothing_is_left(corpus):
    """What was read goes with the interpreter: who reads next would look at it, where the C library remembers it."""
    done = run_python("""
import atoll, ext_use
line = ("short", "ab", ["-a", "-b"], 1)
for _ in range(3):
    interp = ext_use.create()
    interp.call(ext_use.call, "ext_options", "read", *line)
    interp.close()
print(atoll.kept_extensions(), ext_use.call("ext_options", "read", *line))
""")
    check_ended(done, 0, "[] [('a', None), ('b', None)]\n", clean=True)
