"""Isolated extension modules are imported as all others are: what is seen of them, and the errors, are CPython's.

CPython itself is asked what that is: its main interpreter, in a process of its own (`oracle`).
"""

from __future__ import annotations

import importlib.machinery
import os
import re
import shutil

import pytest

import atoll
import ext_use
from ext_build import SOURCES, SUFFIX, UNICODE
from helpers import VERSION, together

pytest_plugins = ["ext_fixtures"]

WRONG = [
    "init_raises",
    "init_raises_import_error",
    "init_returns_null",
    "init_leaves_exception",
    "init_leaves_exception_multi",
    "init_returns_raw_definition",
    "init_returns_number",
    "exec_raises",
    "exec_fails_silently",
    "exec_leaves_exception",
    "create_raises",
    "create_returns_null",
    "create_leaves_exception",
    "create_with_exec",
    "unknown_slot",
    "two_create_slots",
    "negative_size",
    "\u00e9",
]
WRONG_EXPORTS = [
    "export_raises",
    "export_returns_null",
    "export_leaves_exception",
    "export_exec_raises",
    "export_unknown_slot",
    "export_without_abi",
]
NEEDS_315 = pytest.mark.skipif(VERSION < (3, 15), reason="PyModExport_ is new in CPython 3.15")


class TestSeen:
    @pytest.mark.parametrize(
        "module",
        [
            "ext_single",
            "ext_single_state",
            "ext_multi",
            "ext_slotless",
            "ext_abi3",
            "ext_export",
            "extpkg._runpath",
        ],
    )
    def test_attributes(self, make, oracle, module):
        assert make().call(ext_use.describe, module) == oracle(ext_use.describe, module)

    def test_not_ascii(self, make, oracle):
        interp = make()
        assert interp.call(ext_use.describe, UNICODE) == oracle(ext_use.describe, UNICODE)
        interp.call(ext_use.use_fresh, UNICODE)

    def test_module_that_is_none(self, make):
        """Py_mod_create may return any object."""
        interp = make()
        assert interp.call(ext_use.type_name, "ext_create") == "SimpleNamespace"
        assert interp.call(ext_use.get, "ext_create", "made_for") == "ext_create"

    @pytest.mark.parametrize("module", ["ext_single", "ext_single_state", "ext_multi", "ext_slotless"])
    def test_reload(self, make, oracle, module):
        """Reloaded, forgotten and imported again: the same library, and the state that CPython would leave."""
        expected = oracle(ext_use.reload_story, module)
        for interp in [make(), make()]:
            assert interp.call(ext_use.reload_story, module) == expected
            assert len(interp.call(ext_use.extensions)) == 1

    def test_resources(self, make):
        interp = make()
        interp.call(ext_use.call, "extpkg._runpath", "bump")
        assert interp.call(ext_use.read_resource, "extpkg", "data.txt") == "data beside the extension\n"

    def test_relative_import(self, make):
        interp = make()
        assert interp.call(ext_use.get, "extpkg.pure", "helped.__name__") == "extpkg._runpath"

    def test_from_a_file(self, make, corpus):
        """Without sys.path, and several modules in one file: they share its one copy."""
        path = str(corpus / f"ext_wrong{SUFFIX}")
        for interp in [make(), make()]:
            addresses = [
                interp.call(ext_use.load_address, name, path) for name in ["good_multi", "good_single"]
            ]
            assert addresses[0] == addresses[1]
            listed = interp.call(ext_use.extensions)
            assert sorted(one.module for one in listed) == ["good_multi", "good_single"]
            assert len({one.clone for one in listed}) == 1

    def test_same_file_twice(self, make, corpus):
        """A module loaded once more from its file has the library that is there."""
        path = str(corpus / f"ext_multi{SUFFIX}")
        interp = make()
        first = interp.call(ext_use.call, "ext_multi", "address")
        assert interp.call(ext_use.load_address, "ext_multi", path) == first

    def test_two_copies_of_a_file(self, make, corpus, tmp_path):
        """Files with the same name in two folders are two libraries."""
        copy = tmp_path / f"ext_multi{SUFFIX}"
        shutil.copyfile(corpus / copy.name, copy)
        interp = make()
        first = interp.call(ext_use.call, "ext_multi", "address")
        assert interp.call(ext_use.load_address, "ext_multi", str(copy)) != first

    def test_through_a_link(self, make, corpus, tmp_path):
        """Its __file__ is the link, as it is with CPython."""
        link = tmp_path / f"ext_multi{SUFFIX}"
        link.symlink_to(corpus / link.name)
        interp = make()
        interp.call(ext_use.load_address, "ext_multi", str(link))
        assert interp.call(ext_use.load_file, "ext_multi", str(link)) == str(link)

    def test_relative_path(self, make, corpus):
        interp = make()
        path = os.path.relpath(corpus / f"ext_multi{SUFFIX}")
        assert interp.call(ext_use.load_address, "ext_multi", path)

    def test_by_reference(self, make):
        """A function of an extension crosses by its import path, and means the receiver's copy."""
        one, other = make(), make()
        for module in ["ext_single", "ext_multi", "extpkg._rpath"]:
            other.call(ext_use.call, module, "bump")
            assert one.call(ext_use.elsewhere, other.id, module, "owner") == other.id
            assert one.call(ext_use.elsewhere, other.id, module, "bump") == 2
            assert one.call(ext_use.call, module, "bump") == 1
        assert one.call(ext_use.pickled, "ext_single", "bump") is True
        assert one.call(ext_use.pickled, "ext_multi", "Point") is True

    def test_at_once_in_one_interpreter(self, make):
        """Threads that import the same module wait for each other: it is loaded once."""
        interp = make()
        addresses = together(4, lambda number: interp.call(ext_use.call, "ext_unique", "address"))
        assert len(set(addresses)) == 1
        assert len(interp.call(ext_use.extensions)) == 1

    def test_create_dynamic_refuses_nonsense(self, make):
        """The function below the loader checks its argument."""
        interp = make()
        for argument in ["None", "'name'", "object()"]:
            with pytest.raises(atoll.ExecutionFailed, match="AttributeError"):
                interp.exec(f"import _imp; _imp.create_dynamic({argument})")
        with pytest.raises(atoll.ExecutionFailed, match="TypeError"):
            interp.exec("import _imp; _imp.create_dynamic()")


class TestErrors:
    """Type, text, name, path and cause of each exception are those of CPython."""

    @pytest.mark.parametrize("name", WRONG)
    def test_wrong(self, make, oracle, corpus, name):
        path = str(corpus / f"ext_wrong{SUFFIX}")
        interp = make()
        expected = oracle(ext_use.failure, name, path)
        assert interp.call(ext_use.failure, name, path) == expected
        assert interp.call(ext_use.failure, name, path) == expected
        assert interp.call(ext_use.load_address, "good_multi", path)

    @NEEDS_315
    @pytest.mark.parametrize("name", WRONG_EXPORTS)
    def test_wrong_export(self, make, oracle, corpus, name):
        path = str(corpus / f"ext_wrong{SUFFIX}")
        assert make().call(ext_use.failure, name, path) == oracle(ext_use.failure, name, path)

    def test_every_way_is_tested(self):
        text = (SOURCES / "ext_wrong.c").read_text()
        written = re.findall(r"(?:PyInit_|PyModExport_|WITH_SLOTS\()(\w+)[(,]", text)
        assert set(written) - {"name"} == {*WRONG, *WRONG_EXPORTS} - {"\u00e9"}

    @pytest.mark.parametrize("name", ["no_such_function", "no_such_\u00e9", "package.no_such_function"])
    def test_no_function(self, make, oracle, corpus, name):
        path = str(corpus / f"ext_wrong{SUFFIX}")
        assert make().call(ext_use.failure, name, path) == oracle(ext_use.failure, name, path)

    def test_no_such_file(self, make, oracle, tmp_path):
        path = str(tmp_path / f"ext_nowhere{SUFFIX}")
        expected = oracle(ext_use.failure, "ext_nowhere", path)
        assert expected[0] == "ImportError"
        assert make().call(ext_use.failure, "ext_nowhere", path) == expected

    @pytest.mark.parametrize("module", ["ext_missing", "ext_undefined"])
    def test_not_loadable(self, make, oracle, corpus, module):
        """A library that is missing, a symbol that nobody defines: the error names it, and the original file."""
        expected = oracle(ext_use.failure, module, None)
        path = str(corpus / f"{module}{SUFFIX}")
        assert expected[2:4] == (module, path)
        kind, text, *details = make().call(ext_use.failure, module, None)
        assert (kind, *details) == (expected[0], *expected[2:])
        missing = "libextmissing" if module == "ext_missing" else "ext_undefined_function"
        assert missing in text
        assert path in text or text == expected[1]

    @pytest.mark.parametrize("what", ["directory", "empty", "text", "script", "loop"])
    def test_not_a_library(self, make, tmp_path, what):
        path = tmp_path / f"ext_other{SUFFIX}"
        if what == "directory":
            path.mkdir()
        elif what == "loop":
            path.symlink_to(path)
        else:
            path.write_text(
                {"empty": "", "text": "no library\n" * 1000, "script": "#!/bin/sh\nexit 1\n"}[what]
            )
        interp = make()
        kind, text, name, found, *_ = interp.call(ext_use.failure, "ext_other", str(path))
        assert (kind, name, found) == ("ImportError", "ext_other", str(path))
        assert str(path) in text

    def test_not_readable(self, make, corpus, tmp_path):
        if os.geteuid() == 0:
            pytest.skip("root may read every file")
        path = tmp_path / f"ext_multi{SUFFIX}"
        shutil.copyfile(corpus / path.name, path)
        path.chmod(0)
        kind, text, name, found, *_ = make().call(ext_use.failure, "ext_multi", str(path))
        assert (kind, name, found) == ("ImportError", "ext_multi", str(path))
        assert str(path) in text

    def test_failed_import_can_be_tried_again(self, make, corpus, tmp_path):
        """A file that is wrong is replaced by one that is right."""
        path = tmp_path / f"ext_multi{SUFFIX}"
        path.write_text("not yet")
        interp = make()
        assert interp.call(ext_use.failure, "ext_multi", str(path))[0] == "ImportError"
        path.unlink()
        shutil.copyfile(corpus / path.name, path)
        assert interp.call(ext_use.load_address, "ext_multi", str(path))

    def test_replaced_file(self, make, corpus, tmp_path):
        """An interpreter that is made after the file was replaced has the new one."""
        path = tmp_path / f"ext_layout_sysv{SUFFIX}"
        for name in ["ext_layout_sysv", "ext_layout_now"]:
            shutil.copyfile(corpus / f"{name}{SUFFIX}", tmp_path / "new")
            (tmp_path / "new").rename(path)
            interp = make()
            assert interp.call(ext_use.failure, name, str(path)) == ("imported",)
            other = {"ext_layout_sysv": "ext_layout_now", "ext_layout_now": "ext_layout_sysv"}[name]
            assert interp.call(ext_use.failure, other, str(path))[0] == "ImportError"


def test_suffixes():
    assert SUFFIX in importlib.machinery.EXTENSION_SUFFIXES
