"""How many threads a library that starts some is told to start in each interpreter."""

from __future__ import annotations

import os

import pytest

import ext_use
from helpers import check_ended, run_python

pytest_plugins = ["ext_fixtures"]
pytestmark = pytest.mark.usefixtures("corpus")

SOURCE = """
import atoll, ext_use, os
def processors(interp, module):
    found = interp.call(ext_use.call, module, "processors")
    assert found["online"] == found["configured"] == found["get_nprocs"], found
    assert found["affinity"] == found["thread's affinity"], found
    return found["online"], found["affinity"]
usable = len(os.sched_getaffinity(0))
"""


def run_script(source, wanted=None):
    """Run the source in a process of its own, with ATOLL_NATIVE_THREADS set to this."""
    environment = {} if wanted is None else {"ATOLL_NATIVE_THREADS": str(wanted)}
    return run_python(SOURCE + source, environment=environment)


@pytest.mark.parametrize("wanted", [1, 2, 3, 1000])
def test_given(wanted):
    """Whatever was asked for; of the processors that a thread may run on there are no more than there are."""
    done = run_script(
        f"""
interp = ext_use.create()
print(processors(interp, "ext_pool") == ({wanted}, min({wanted}, usable)))
print(interp.call(ext_use.call, "ext_std_thread", "concurrency"))
interp.close()
""",
        wanted,
    )
    check_ended(done, 0, f"True\n{wanted}\n", clean=True)


@pytest.mark.parametrize("wanted", ["", "0", "-3", "many"])
def test_given_nonsense(wanted):
    """As if nothing was given."""
    done = run_script('interp = ext_use.create(); print(processors(interp, "ext_pool")[0] == usable)', wanted)
    check_ended(done, 0, "True\n")


def test_share():
    """The processors are divided among the interpreters that there are when the library asks; each has at least one."""
    done = run_script("""
interps = []
for number in range(1, usable + 3):
    interps.append(ext_use.create())
    share = max(usable // number, 1)
    for interp in interps:
        assert processors(interp, "ext_pool") == (share, share), (number, share)
while len(interps) > 1:
    interps.pop().close()
assert processors(interps[0], "ext_pool") == (usable, usable)
strict = atoll.create(extensions="strict")
assert processors(interps[0], "ext_pool") == (usable, usable), "it has no copies"
strict.close()
interps[0].close()
print("end")
""")
    check_ended(done, 0, "end\n", clean=True)


def test_without_threads(make):
    """A library that cannot start a thread sees the truth, as main does."""
    done = run_script(
        """
interp = ext_use.create()
truth = ext_use.call("ext_no_pool", "processors")
assert truth["online"] == os.cpu_count() and truth["affinity"] == usable
print(interp.call(ext_use.call, "ext_no_pool", "processors") == truth)
print(ext_use.call("ext_pool", "processors") == truth)
interp.close()
""",
        1,
    )
    check_ended(done, 0, "True\nTrue\n", clean=True)


def test_what_else_is_asked(make):
    interp = make()
    parent = os.getppid()
    expected = os.sysconf("SC_PAGE_SIZE"), len(os.sched_getaffinity(parent))
    assert interp.call(ext_use.call, "ext_pool", "rest", parent) == expected
    assert interp.call(ext_use.call, "ext_pool", "start") == 0
