"""Isolated extensions, with many threads and many interpreters."""

from __future__ import annotations

import random
import threading

import pytest

import ext_use
from helpers import Thread, together

pytest_plugins = ["ext_fixtures"]

SOME = [
    "ext_single",
    "ext_static_types",
    "ext_unique",
    "ext_throw",
    "extpkg._rpath",
    "ext_multi",
    "ext_declares",
]


def test_imports_at_once(make):
    """The same modules are imported in several interpreters at the same time, in different orders."""
    interps = [make() for _ in range(4)]

    def work(number):
        # Not the one that another one uses: then it is not fresh, if it comes later.
        modules = [module for module in ext_use.ISOLATED if module != "ext_capsule"]
        random.Random(number).shuffle(modules)
        for module in modules:
            interps[number].call(ext_use.use_fresh, module)
        return interps[number].call(ext_use.call, "ext_single", "address")

    assert len(set(together(4, work))) == 4


def test_many_interpreters(make):
    """More copies than there is room for at once anywhere: in the process's thread-local storage, or by number."""
    interps = [make() for _ in range(40)]
    modules = ["ext_static_id", "ext_tls", "ext_keys", "extpkg._runpath"]
    addresses = {interp.call(ext_use.fresh, module) for interp in interps for module in modules}
    assert len(addresses) == len(interps) * len(modules)

    def work(number):
        for interp in interps[number::2]:
            for module in modules:
                interp.call(ext_use.use, module, 1)

    together(2, work)


def test_initial_exec_in_some(make):
    """Each copy takes 32 bytes of what there is for that in the process, about 1.7 KB."""
    interps = [make() for _ in range(8)]
    for interp in interps:
        interp.call(ext_use.use_fresh, "ext_tls_initial")


def test_made_and_closed_at_once(make):
    """Interpreters that import extensions come and go on four threads, next to one that stays."""
    stays = make()
    for module in SOME[:-1]:
        stays.call(ext_use.fresh, module)

    def work(number):
        chooser = random.Random(number)
        for _ in range(5):
            interp = ext_use.create()
            for module in chooser.sample(SOME, 4):
                interp.call(ext_use.call, module, "bump")
            if chooser.random() < 0.5:
                interp.call(ext_use.foreign_run, 5, 2)
            interp.close()

    together(4, work)
    for module in SOME[:-1]:
        stays.call(ext_use.use, module)


def test_main_is_busy(make):
    """An import needs nothing of main's GIL: it comes to its end while main runs Python all the time."""
    stop = threading.Event()

    def spin():
        total = 0
        while not stop.is_set():
            total += sum(range(1000))
        return total

    spinning = Thread(spin)
    try:
        interps = [make(), make()]
        together(
            2, lambda number: [interps[number].call(ext_use.use_fresh, module) for module in ext_use.ISOLATED]
        )
    finally:
        stop.set()
    assert spinning.result() > 0


@pytest.mark.parametrize("how", ["one thread", "many threads"])
def test_foreign_threads_of_many_interpreters(make, how):
    interps = [make() for _ in range(4)]
    threads = 1 if how == "one thread" else 8
    for interp in interps:
        interp.call(ext_use.start_forever, threads)
    results = together(4, lambda number: interps[number].call(ext_use.foreign_run, 50, 2))
    assert all(result[:2] == ((100, 0), True) for result in results)
    for interp in interps[:2]:
        interp.call(ext_use.stop_forever)
    for interp in interps:
        interp.close()


def test_closed_while_foreign_threads_call(make):
    """The close waits for no such thread, and none of them enters an interpreter that is gone."""
    for _ in range(5):
        interps = [ext_use.create() for _ in range(2)]
        for interp in interps:
            interp.call(ext_use.start_forever, 3)
        together(2, lambda number: interps[number].close())
    interp = make()
    assert interp.call(ext_use.foreign_run, 20, 2)[0] == (40, 0)
