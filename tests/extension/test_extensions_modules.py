"""Modules that come into being in ways of their own: made by hand, several from one file, with declarations that a file
does not show, or that are not to be trusted."""

from __future__ import annotations

import os
import shutil

import pytest

import ext_use
from ext_build import LIBS, STATE, SUFFIX
from helpers import check_ended, run_python

pytest_plugins = ["ext_fixtures"]


def how(interp, module):
    """Return how the interpreter has loaded the module."""
    [one] = [one for one in interp.call(ext_use.extensions) if one.module == module]
    return one.how


def address(interp, module):
    """Return where the interpreter's copy of the module is."""
    return interp.call(ext_use.call, module, "address")


def make_by_hand(name):
    """Have ext_from_spec make modules of this name; return what they are."""
    import importlib.machinery

    module = importlib.import_module("ext_from_spec")
    made = [module.make(importlib.machinery.ModuleSpec(name, None)) for _ in range(2)]
    assert made[0] is not made[1]
    assert made[0].bump() + 1 == made[1].bump()
    return made[0].__name__, made[0].__doc__, made[0].executed, made[0].address() == module.address()


def try_import(name, path):
    """Import a module from a file; return what came of it."""
    try:
        return type(ext_use.load(name, path)).__name__
    except ImportError as error:
        return str(error)


class TestMadeByHand:
    """PyModule_FromDefAndSpec(), called by the extension itself."""

    def test_module(self, make):
        interps = [make(), make()]
        assert len({interp.call(ext_use.fresh, "ext_from_spec") for interp in interps}) == 2
        assert [how(interp, "ext_from_spec") for interp in interps] == ["isolated"] * 2

    def test_further_modules(self, make):
        for interp in [make(), make()]:
            assert interp.call(make_by_hand, "some.name") == ("some.name", "made by hand", 1, True)

    def test_strict_refuses(self, make):
        """It is Atoll that makes this work: CPython's own rule refuses the module."""
        interp = make(extensions="strict")
        assert interp.call(ext_use.failure, "ext_from_spec", None)[0] == "ImportError"


class TestDeclarations:
    def test_made_while_it_runs(self, make):
        """No file shows it, and none has to."""
        interps = [make() for _ in range(3)]
        assert len({address(interp, "ext_late") for interp in interps}) == 3
        assert [how(interp, "ext_late") for interp in interps] == ["isolated"] * 3

    def test_with_a_table_of_another_module(self, make):
        """Two interpreters may not share what keeps addresses in a module that they do not share."""
        interps = [make(), make()]
        assert len({interp.call(ext_use.fresh, "ext_borrows") for interp in interps}) == 2
        assert [how(interp, "ext_borrows") for interp in interps] == ["isolated"] * 2


class TestSeveralInOneFile:
    NAMES = ["ext_several_declares", "ext_several_multi", "ext_several_single"]

    @pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]], ids=repr)
    def test_each_as_it_is(self, make, corpus, order):
        path = str(corpus / f"ext_several{SUFFIX}")
        interps = [make(), make()]
        addresses = {}
        for number in order:
            name = self.NAMES[number]
            addresses[number] = [
                interp.call(ext_use.load_and_call, name, path, "address") for interp in interps
            ]
            assert interps[0].call(ext_use.load_and_call, name, path, "__dir__").count("bump") == 1
        assert addresses[1][0] != addresses[1][1]
        assert addresses[0] == addresses[1] == addresses[2], "one copy of the file has all of its modules"

    def test_name_that_is_not_there(self, make, corpus):
        """Asking for a module that the file does not have changes nothing for those that it has."""
        path = str(corpus / f"ext_several{SUFFIX}")
        interp = make()
        assert "ext_several_none" in interp.call(try_import, "ext_several_none", path)
        assert interp.call(try_import, self.NAMES[0], path) == "module"

    def test_copies_of_a_file(self, make, corpus, tmp_path):
        """The same content in two files: two libraries."""
        interp = make()
        paths = [str(tmp_path / f"{folder}" / f"ext_several{SUFFIX}") for folder in ("ext_a", "ext_b")]
        found = set()
        for path in paths:
            os.mkdir(os.path.dirname(path))
            shutil.copy(corpus / f"ext_several{SUFFIX}", path)
            found.add(interp.call(ext_use.load_address, self.NAMES[1], path))
        assert len(found) == 2


def open_and_close(path):
    """Open a library with ctypes and close it, some times; return its counts."""
    import _ctypes
    import ctypes

    counts = []
    for _ in range(3):
        library = ctypes.PyDLL(path)
        counts.append(library.lib_state_bump())
        _ctypes.dlclose(library._handle)
    return counts


def close_nonsense():
    """Close what is no library; return the errors."""
    import _ctypes

    errors = []
    for args in [("no number",), (), (1, 2)]:
        try:
            _ctypes.dlclose(*args)
        except TypeError as error:
            errors.append(type(error).__name__)
    return errors


class TestCtypesCloses:
    """_ctypes.dlclose() of a library that is a copy, which goes with its interpreter."""

    def test_copy(self, make, corpus):
        path = str(corpus / LIBS / STATE)
        for interp in [make(), make()]:
            assert interp.call(open_and_close, path) == [1001, 1002, 1003]
            assert interp.call(ext_use.call, "extpkg._runpath", "lib_bump") == 1004
            assert interp.call(open_and_close, path) == [1005, 1006, 1007]
            interp.close()

    def test_nonsense(self, make):
        assert make().call(close_nonsense) == ["TypeError"] * 3


class TestShared:
    """extensions='shared': from the file, whatever it is."""

    def test_ctypes_means_the_same_library(self, make, corpus):
        """What an extension needs and what ctypes opens is one library, and no copy."""
        done = run_python(f"""
import ext_use
interp = ext_use.create(extensions="shared")
print(interp.call(ext_use.call, "extpkg._runpath", "lib_bump"))
print(interp.call(ext_use.open_state, {str(corpus / LIBS / STATE)!r})[0])
print({{one.how for one in interp.call(ext_use.extensions)}})
interp.close()
""")
        check_ended(done, 0, "1001\n[1002, 1003]\n{'shared'}\n", clean=True)
