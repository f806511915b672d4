"""Files in every layout that linkers make, of every size, in folders of every name; and files that are broken."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess

import pytest

import ext_use
from ext_build import BUILD, LAYOUTS, LIBS, SOURCES, STATE, SUFFIX, Target, command_for
from helpers import check_ended, run_python, together

pytest_plugins = ["ext_fixtures"]

NAMES = [target.file.removesuffix(SUFFIX) for target in LAYOUTS]
CHECKED = ("one", "three", "four", "five", "constant")


def check_layout(make, path, name):
    """Assert that the module works in two interpreters, is fresh in each, and has the content that it should."""
    interps = [make(), make()]
    for interp in interps:
        assert interp.call(ext_use.load_and_call, name, str(path), "check") == CHECKED
        assert interp.call(ext_use.load_and_call, name, str(path), "work", 100) == 400
    assert len({interp.call(ext_use.load_address, name, str(path)) for interp in interps}) == 2
    for interp in interps:
        [one] = {extension.clone for extension in interp.call(ext_use.extensions)}
        assert one
        interp.close()


class TestLayouts:
    @pytest.mark.parametrize("name", NAMES)
    def test_layout(self, make, corpus, name):
        path = corpus / f"{name}{SUFFIX}"
        if not path.exists():
            pytest.skip("the linker here does not know the options for this layout")
        check_layout(make, path, name)

    def test_edited(self, make, corpus, tmp_path):
        """A file whose tables were moved to its end, as they are in wheels that were made with patchelf."""
        if shutil.which("patchelf") is None:
            pytest.skip("needs patchelf")
        (tmp_path / LIBS).mkdir()
        shutil.copyfile(corpus / LIBS / STATE, tmp_path / LIBS / "libext-renamed.so")
        path = tmp_path / f"ext_layout_now{SUFFIX}"
        shutil.copyfile(corpus / path.name, path)
        long_path = "$ORIGIN/" + LIBS + ":$ORIGIN/" + "a-long-folder-name/" * 200
        for command in [
            ["--set-soname", "libext-renamed.so", tmp_path / LIBS / "libext-renamed.so"],
            ["--add-needed", "libext-renamed.so", path],
            ["--set-rpath", long_path, path],
        ]:
            subprocess.run(["patchelf", *command], check=True)
        interps = [make(), make()]
        for interp in interps:
            assert interp.call(ext_use.load_and_call, "ext_layout_now", str(path), "check") == CHECKED
            files = {os.path.basename(one.file) for one in interp.call(ext_use.extensions)}
            assert files == {path.name, "libext-renamed.so"}

    def test_without_sections(self, make, corpus, tmp_path):
        """The section headers are for linkers and debuggers; a file need not have any."""
        path = tmp_path / f"ext_layout_now{SUFFIX}"
        content = bytearray((corpus / path.name).read_bytes())
        content[0x28:0x30] = bytes(8)  # e_shoff
        content[0x3A:0x40] = bytes(6)  # e_shentsize, e_shnum, e_shstrndx
        path.write_bytes(content)
        check_layout(make, path, "ext_layout_now")

    def test_segment_without_content(self, make, corpus, tmp_path):
        """A segment of zeros has nothing in the file, and its offset may lie beyond the end."""
        path = tmp_path / f"ext_layout_stripped{SUFFIX}"
        content = bytearray((corpus / path.name).read_bytes())
        (table,) = struct.unpack_from("<Q", content, 32)
        (count,) = struct.unpack_from("<H", content, 56)
        places = [table + 56 * i for i in range(count)]
        segments = [struct.unpack_from("<IIQQQQQQ", content, place) for place in places]
        end = max(vaddr + size for kind, _, _, vaddr, _, _, size, _ in segments if kind == 1)
        free = -(-end // 0x10000) * 0x10000
        note = next(place for place, segment in zip(places, segments, strict=True) if segment[0] == 4)
        struct.pack_into("<IIQQQQQQ", content, note, 1, 6, 0x10000000, free, free, 0, 0x3000, 0x1000)
        path.write_bytes(content)
        check_layout(make, path, "ext_layout_stripped")

    def test_large_file(self, make, corpus, tmp_path):
        """200 MB behind what is loaded: the copy does not have them."""
        path = tmp_path / f"ext_multi{SUFFIX}"
        shutil.copyfile(corpus / path.name, path)
        os.truncate(path, 200_000_000)
        interps = [make() for _ in range(3)]
        assert len({interp.call(ext_use.load_address, "ext_multi", str(path)) for interp in interps}) == 3
        for interp in interps:
            [one] = interp.call(ext_use.extensions)
            assert one.file == str(path)
            assert 0 < one.bytes < 1_000_000
            assert interp.call(ext_use.load_and_call, "ext_multi", str(path), "work", 100) == 400

    def test_large_constants(self, make, tmp_path):
        """200 MB of read-only data that is loaded: all copies share them."""
        path = tmp_path / f"ext_large{SUFFIX}"
        target = Target("ext_large.c", "ext_large", ("-DSIZE=200000000",))
        subprocess.run(command_for(target, path), check=True)
        try:
            interps = [make() for _ in range(3)]
            for interp in interps:
                assert interp.call(ext_use.load_and_call, "ext_large", str(path), "read", 100_000) == 12
                [one] = interp.call(ext_use.extensions)
                assert 0 < one.bytes < 1_000_000
            together(
                2,
                lambda number: interps[number].call(
                    ext_use.load_and_call, "ext_large", str(path), "work", 100
                ),
            )
        finally:
            path.unlink()


def test_library_that_cannot_be_read(corpus, tmp_path):
    """It may be one that has to be cloned: without memory for a look at it the import fails, and nobody shares it."""
    shutil.copytree(corpus / "extpkg", tmp_path / "extpkg")
    shutil.copytree(corpus / LIBS, tmp_path / LIBS)
    os.truncate(tmp_path / LIBS / STATE, 1 << 42)
    done = run_python(f"""
import atoll, ext_use, resource, sys
interps = [atoll.create(), atoll.create()]
resource.setrlimit(resource.RLIMIT_AS, (1 << 41, resource.RLIM_INFINITY))
for interp in interps:
    interp.exec("import sys; sys.path.insert(0, {str(tmp_path)!r})")
    try:
        interp.exec("import extpkg._runpath")
    except atoll.ExecutionFailed as error:
        print(error.excinfo.type.__name__, {STATE!r} in str(error), "Cannot allocate memory" in str(error))
    interp.close()
""")
    check_ended(done, 0, "ImportError True True\n" * 2, clean=True)


class TestFolders:
    @pytest.mark.parametrize(
        "name", ["with a space", "\u00e9\u6771", "with:colon", "per%cent", "a$b", "'\"\\", "a" * 200]
    )
    def test_name(self, make, corpus, tmp_path, name):
        """The folder's name must not be mistaken for a list of folders, or for anything else."""
        folder = tmp_path / name
        shutil.copytree(corpus / "extpkg", folder / "extpkg")
        shutil.copytree(corpus / LIBS, folder / LIBS)
        for interp in [make(), make()]:
            interp.exec(f"import sys; sys.path.insert(0, {str(folder)!r})")
            for number, module in enumerate(["extpkg._runpath", "extpkg._rpath", "extpkg._middle"]):
                assert interp.call(ext_use.call, module, "lib_bump") == 1001 + number
                assert interp.call(ext_use.get, module, "__file__").startswith(str(folder))
            files = {os.path.basename(one.file) for one in interp.call(ext_use.extensions)}
            assert STATE in files  # nobody shares it

    def test_not_utf8(self, make, corpus, tmp_path):
        folder = os.path.join(os.fsencode(tmp_path), b"\xff\xfe")
        os.mkdir(folder)
        path = os.path.join(folder, os.fsencode(f"ext_multi{SUFFIX}"))
        shutil.copyfile(corpus / f"ext_multi{SUFFIX}", path)
        interp = make()
        assert interp.call(ext_use.load_address_of_bytes, "ext_multi", path)

    def test_read_only(self, make, corpus, tmp_path):
        """Nothing is written next to the original."""
        path = tmp_path / f"ext_multi{SUFFIX}"
        shutil.copyfile(corpus / path.name, path)
        path.chmod(0o444)
        tmp_path.chmod(0o555)
        before = os.stat(tmp_path).st_mtime_ns
        try:
            assert make().call(ext_use.load_address, "ext_multi", str(path))
            assert os.listdir(tmp_path) == [path.name]
            assert os.stat(tmp_path).st_mtime_ns == before
        finally:
            tmp_path.chmod(0o755)


class TestHostile:
    """Files with headers that do not fit the rest: an ImportError, and the process lives."""

    @pytest.mark.parametrize("original", ["ext_multi", "extpkg/_runpath", "ext_layout_sysv"])
    def test_broken(self, corpus, tmp_path, original):
        """Each damage that ext_hostile knows, one after the other in one process."""
        source = f"""
            import ext_hostile
            print(ext_hostile.try_all({str(corpus / (original + SUFFIX))!r}, {str(tmp_path)!r}))
            """
        shutil.copytree(corpus / LIBS, tmp_path.parent / LIBS, dirs_exist_ok=True)
        done = run_python(source)
        check_ended(done, 0)
        assert done.stdout.endswith("all refused\n"), done.stdout

    @pytest.mark.parametrize("seed", range(2))
    def test_random(self, corpus, tmp_path, seed):
        """Random damage to the headers: refused or loaded, but the loader survives it."""
        source = f"""
            import ext_hostile
            print(ext_hostile.try_random({str(corpus / f"ext_multi{SUFFIX}")!r}, {str(tmp_path)!r}, {seed}, 150))
            """
        done = run_python(source)
        check_ended(done, 0)
        assert done.stdout.endswith("survived\n"), done.stdout


def test_the_sources_are_used():
    """Every source of the corpus is built, but for the one that is built by a test."""
    from ext_build import TARGETS

    sources = {path.name for path in SOURCES.iterdir() if path.suffix in {".c", ".cc"}}
    assert sources - {target.source for target in TARGETS} == {"ext_large.c"}
    assert BUILD.is_dir()
