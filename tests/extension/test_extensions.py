"""Extension modules in interpreters: each has its own copy of what would otherwise be shared.

The main interpreter of this process imports none of them; tests/extension/test_extensions_main.py has it do so.
"""

from __future__ import annotations

import importlib
import os

import pytest

import atoll
import ext_use
from ext_build import LIBS, MIDDLE, PLAIN, STATE, SUFFIX
from helpers import VERSION, together

pytest_plugins = ["ext_fixtures"]

NEEDS_315 = pytest.mark.skipif(VERSION < (3, 15), reason="PyModExport_ is new in CPython 3.15")


@pytest.mark.parametrize("module", ext_use.ISOLATED)
def test_isolated(make, module):
    """In three interpreters, in two at once, each with state of its own, and fresh in an interpreter made later."""
    interps = [make() for _ in range(3)]
    addresses = {interp.call(ext_use.fresh, module) for interp in interps}
    assert len(addresses) == 3
    used = together(2, lambda number: interps[number].call(ext_use.use, module, 10))
    assert len(set(used)) == 2
    assert set(used) < addresses
    interps[0].close()
    interps[2].call(ext_use.use, module)
    later = make()
    assert later.call(ext_use.fresh, module) not in {
        used[1],
        interps[2].call(ext_use.call, module, "address"),
    }
    together(2, lambda number: [interps[2], later][number].call(ext_use.use, module))
    for interp in [interps[1], interps[2], later]:
        interp.close()


def test_all_at_once(make):
    """All modules in two interpreters beside each other."""
    interps = [make(), make()]
    for module in ext_use.ISOLATED:
        for interp in interps:
            interp.call(ext_use.call, module, "keep", [interp.id])
    for module in ext_use.ISOLATED:
        together(2, lambda number: interps[number].call(ext_use.use, module))


def module_states(names):
    """Import modules; return how each was loaded."""
    import importlib

    import atoll

    for name in names:
        importlib.import_module(name)
    return {one.module: one.how for one in atoll.loaded_extensions()}


class TestDeclared:
    """Modules that declare support for a GIL per interpreter."""

    @pytest.mark.parametrize("module", ["ext_declares", pytest.param("ext_export_declares", marks=NEEDS_315)])
    def test_isolated(self, make, module):
        """They are copied as all others, so that nothing of them outlives the interpreter."""
        interps = [make() for _ in range(3)]
        assert len({interp.call(ext_use.call, module, "address") for interp in interps}) == 3
        if module == "ext_declares":  # the other one has no such functions
            assert [interp.call(ext_use.call, module, "bump") for interp in interps] == [1, 1, 1]
            owners = [interp.call(ext_use.call, module, "owner") for interp in interps]
            assert owners == [interp.id for interp in interps]
        [one] = interps[0].call(ext_use.extensions)
        assert (one.module, one.how) == (module, "isolated")
        assert os.path.basename(one.file) == f"{module}{SUFFIX}"

    def test_state_of_the_process(self, make):
        """A second setproctitle would not find what the first has moved away: there is one, as there is one title."""
        name = "exttitle._setproctitle"
        interps = [make() for _ in range(2)]
        assert len({interp.call(ext_use.call, name, "address") for interp in interps}) == 1
        bumps = [interp.call(ext_use.call, name, "bump") for interp in interps]
        assert bumps[1] == bumps[0] + 1

    @pytest.mark.parametrize("options", [{"extensions": "strict"}, {"extensions": "shared"}], ids=str)
    def test_not_isolated(self, make, options):
        interps = [make(**options) for _ in range(3)]
        assert len({interp.call(ext_use.call, "ext_declares", "address") for interp in interps}) == 1
        [one] = interps[0].call(ext_use.extensions)
        assert (one.module, one.how, one.clone, one.bytes) == ("ext_declares", "usual", None, 0)

    def test_standard_library(self, make):
        """The standard library's are used by all interpreters, but for those that would enter the main one."""
        names = ["_queue", "_lsprof", "_bz2", "_multiprocessing", "_ctypes"]
        files = [name for name in names if hasattr(importlib.import_module(name), "__file__")]
        states = make().call(module_states, files)
        found = {name: states[name] for name in files}
        assert found.pop("_ctypes", "isolated") == "isolated"
        if VERSION >= (3, 13):
            assert set(found.values()) <= {"usual"}


class TestListed:
    """atoll.loaded_extensions()"""

    def test_none(self, make):
        assert make().call(ext_use.extensions) == []

    def test_isolated(self, make, corpus):
        interps = [make(), make()]
        for interp in interps:
            interp.call(ext_use.use_fresh, "ext_single")
        first, second = (interp.call(ext_use.extensions) for interp in interps)
        assert len(first) == len(second) == 1
        one, other = first[0], second[0]
        assert isinstance(one, atoll.Extension)
        assert one.module == other.module == "ext_single"
        assert one.file == other.file == str(corpus / f"ext_single{SUFFIX}")
        assert one.how == other.how == "isolated"
        assert one.clone
        assert one.clone not in (one.file, other.clone)
        assert f"ext_single.atoll{interps[0].id}" in one.clone
        assert one.bytes > 0
        assert one == ("ext_single", one.file, "isolated", one.clone, one.bytes)
        assert one._fields == ("module", "file", "how", "clone", "bytes")

    def test_submodule(self, make, corpus):
        interp = make()
        interp.call(ext_use.call, "extpkg._runpath", "bump")
        listed = {one.module: one for one in interp.call(ext_use.extensions)}
        assert set(listed) == {"extpkg._runpath", None}
        assert listed["extpkg._runpath"].file == str(corpus / "extpkg" / f"_runpath{SUFFIX}")

    def test_libraries(self, make, corpus):
        """One copy of each library that comes with the package."""
        interp = make()
        for module in ["_runpath", "_rpath", "_middle"]:
            interp.call(ext_use.call, f"extpkg.{module}", "bump")
        listed = interp.call(ext_use.extensions)
        libraries = [one for one in listed if one.module is None]
        assert sorted(os.path.basename(one.file) for one in libraries) == sorted([STATE, MIDDLE, PLAIN])
        assert {one.how for one in libraries} == {"isolated"}
        assert all(os.path.samefile(os.path.dirname(one.file), corpus / LIBS) for one in libraries)
        assert len({one.clone for one in listed}) == 6

    def test_failed_import_is_not_listed(self, make, corpus):
        interp = make()
        wrong = str(corpus / f"ext_wrong{SUFFIX}")
        assert interp.call(ext_use.failure, "init_raises", wrong)[0] == "KeyError"
        assert [one.module for one in interp.call(ext_use.extensions)] in ([], [None])

    def test_in_main(self, make):
        """It is about the interpreter that calls it, main included."""
        interp = make()
        interp.call(ext_use.use_fresh, "ext_single")
        assert "ext_single" not in [one.module for one in atoll.loaded_extensions()]
        assert all(one.how == "usual" and one.clone is None for one in atoll.loaded_extensions())


class TestLibraries:
    """Helper libraries found through $ORIGIN."""

    def test_one_for_all_extensions_of_an_interpreter(self, make):
        interps = [make(), make()]
        modules = ["extpkg._runpath", "extpkg._rpath", "extpkg._middle"]
        for interp in interps:
            bumped = [interp.call(ext_use.call, module, "lib_bump") for module in modules]
            assert bumped == [1001, 1002, 1003]
            lists = [interp.call(ext_use.call, module, "append", module) for module in modules]
            assert lists[-1] == modules
            assert {interp.call(ext_use.call, module, "built_in") for module in modules} == {interp.id}

    def test_all_are_separate(self, make):
        """What comes with the package is private, whether it holds Python state or not."""
        interps = [make(), make()]
        states, plains = zip(
            *(interp.call(ext_use.call, "extpkg._runpath", "lib_addresses") for interp in interps),
            strict=True,
        )
        assert len(set(states)) == 2
        assert len(set(plains)) == 2

    def test_the_middle_is_private(self, make):
        """A library without Python state that needs one with it."""
        interps = [make(), make()]
        _, middles = zip(
            *(interp.call(ext_use.call, "extpkg._middle", "lib_addresses") for interp in interps), strict=True
        )
        assert len(set(middles)) == 2

    def test_found_through_the_extension(self, make):
        """A library without a search path finds what it needs through the RPATH of the extension that needs it."""
        for interp in [make(), make()]:
            assert interp.call(ext_use.call, "extpkg._inherits", "lib_bump") == 1001
            assert interp.call(ext_use.call, "extpkg._inherits", "append", "x") == ["x"]
            assert interp.call(ext_use.call, "extpkg._inherits", "built_in") == interp.id

    def test_capsule(self, make):
        """A table of functions that one extension offers another leads to this interpreter's copy."""
        interps = [make() for _ in range(2)]
        for interp in interps:
            assert interp.call(ext_use.call, "ext_capsule_user", "count_there") == 0
            assert interp.call(ext_use.call, "ext_capsule_user", "call_api", 7) == (7, interp.id)
            assert interp.call(ext_use.call, "ext_capsule", "bump") == 2
            assert interp.call(ext_use.call, "ext_capsule_user", "count_there") == 2


class TestCtypes:
    """Libraries opened by ctypes, which itself is an extension."""

    def test_plain_library(self, make, corpus):
        path = str(corpus / LIBS / PLAIN)
        for interp in [make(), make()]:
            assert interp.call(ext_use.open_plain, path) == 42

    def test_with_python_state(self, make, corpus):
        path = str(corpus / LIBS / STATE)
        for interp in [make() for _ in range(3)]:
            assert interp.call(ext_use.open_state, path) == ([1001, 1002], [0, 1], interp.id)

    def test_the_extensions_own(self, make, corpus):
        """ctypes and the extension mean the same library."""
        path = str(corpus / LIBS / STATE)
        for interp in [make() for _ in range(2)]:
            assert interp.call(ext_use.call, "extpkg._runpath", "lib_bump") == 1001
            assert interp.call(ext_use.open_state, path)[0] == [1002, 1003]


class TestState:
    def test_objects_live_on(self, make):
        """What an interpreter's copies hold is untouched by the end of other interpreters."""
        stays = make()
        for module in ext_use.ISOLATED:
            stays.call(ext_use.fresh, module)
        for _ in range(3):
            goes = make()
            for module in ext_use.ISOLATED:
                goes.call(ext_use.fresh, module)
            goes.close()
            for module in ext_use.ISOLATED:
                stays.call(ext_use.use, module, 1)

    def test_module_state_is_freed(self, make):
        """m_free of a single-phase module runs when its interpreter ends."""
        reader, writer = os.pipe()
        try:
            interp = make()
            interp.call(ext_use.call, "ext_single_state", "notify", writer)
            interp.close()
            os.set_blocking(reader, False)
            assert os.read(reader, 10) == b"!"
        finally:
            os.close(reader)
            os.close(writer)

    def test_found_by_definition(self, make):
        for interp in [make(), make()]:
            assert interp.call(ext_use.call, "ext_single_state", "count_in_state") == 1
            assert interp.call(ext_use.call, "ext_single_state", "remove_module") is True
            assert interp.call(ext_use.call, "ext_single_state", "add_module") is True
            assert interp.call(ext_use.call, "ext_single_state", "count_in_state") == 2

    def test_thread_local_variables(self, make):
        """Each thread has its own in each copy."""
        interps = [make(), make()]
        for module in ["ext_tls", "ext_tls_initial"]:
            for interp in interps:
                assert interp.call(ext_use.call, module, "next") == 43
                assert interp.call(ext_use.call, module, "put", "x") is None
                assert together(2, lambda number: interp.call(ext_use.call, module, "next")) == [43, 43]
                assert interp.call(ext_use.call, module, "next") == 44
                assert interp.call(ext_use.call, module, "put", "y") == "x"

    def test_thread_local_destructors(self, make):
        interp = make()
        assert interp.call(ext_use.call, "ext_thread_local", "touch") == 1
        assert together(3, lambda number: interp.call(ext_use.call, "ext_thread_local", "touch")) == [1] * 3
        interp.call(ext_use.wait_for, "ext_thread_local", "counts", (4, 3))

    def test_pthread_keys(self, make):
        interp = make()
        interp.call(ext_use.call, "ext_keys", "set", 1)
        together(3, lambda number: interp.call(ext_use.call, "ext_keys", "set", number))
        interp.call(ext_use.wait_for, "ext_keys", "destroyed", 3)
        assert interp.call(ext_use.call, "ext_keys", "get") == 1
