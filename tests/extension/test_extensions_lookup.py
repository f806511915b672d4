"""Modules that look functions up by their names, with dlsym(): they have what they would have if they imported them."""

from __future__ import annotations

import pytest

import ext_use
from helpers import check_ended, run_python

pytest_plugins = ["ext_fixtures"]
pytestmark = pytest.mark.usefixtures("corpus")


def test_threads(corpus):
    """A thread that is started so ends with the interpreter, where it waits: its code is gone then."""
    done = run_python("""
import atoll, ext_use, time
for _ in range(20):
    interp = ext_use.create()
    interp.call(ext_use.call, "ext_lookup", "start")
    interp.close()
    time.sleep(0.005)
print(atoll.kept_extensions())
""")
    check_ended(done, 0, "[]\n", clean=True)


def test_python(make):
    """A thread of C's that enters Python enters the interpreter of its code."""
    for interp in (make(), make()):
        assert interp.call(ext_use.call, "ext_lookup", "enter") == interp.id


def test_all_else(make, corpus, oracle):
    """Is found as in main: the dynamic linker looks who asks."""
    assert make().call(ext_use.call, "ext_lookup", "found") == (1, 1, 0, 0)
    assert oracle(ext_use.call, "ext_lookup", "found") == (1, 1, 0, 0)
