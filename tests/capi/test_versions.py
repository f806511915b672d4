"""atoll.h: C and C++ compile it, it refuses what does not fit; the programs of docs/c-api.md."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

import atoll
import ext_build
from helpers import TESTS, check_ended, run_python

pytest_plugins = ["capi_fixtures"]

HEADER = Path(atoll.get_include()) / "atoll.h"
PAGE = (TESTS.parent / "docs" / "c-api.md").read_text()
PROGRAMS = dict(re.findall(r"```c\n/\* (\w+\.c) \*/\n(.*?)```", PAGE, re.DOTALL))

PROBE = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <atoll.h>
static int begin(PyObject *module) { (void)module; return atoll_import(); }
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)begin}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "probe", NULL, 0, NULL, slots, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_probe(void) { return PyModuleDef_Init(&definition); }
"""


def compile_module(folder, name, text, *flags, suffix=".c", include=HEADER.parent):
    """Compile a module into the folder."""
    source = folder / f"{name}{suffix}"
    source.write_text(text)
    paths = dict.fromkeys([sysconfig.get_path("include"), sysconfig.get_path("platinclude")])
    command = [*ext_build.compiler(suffix), "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *flags]
    command += [*(f"-isystem{path}" for path in paths), f"-I{include}", str(source)]
    subprocess.run([*command, "-o", str(folder / f"{name}{ext_build.SUFFIX}"), "-pthread"], check=True)


def import_probe(folder):
    return run_python(f"import sys; sys.path.insert(0, {str(folder)!r}); import probe; print('imported')")


@pytest.mark.parametrize(
    "flags, suffix",
    [(["-std=c11"], ".c"), (["-std=c17"], ".c"), (["-std=c++11"], ".cc"), (["-std=c++20"], ".cc")],
)
def test_is_compiled_by(capi_folder, tmp_path, flags, suffix):
    more = ["-Wno-missing-field-initializers"] if suffix == ".cc" else []
    compile_module(tmp_path, "probe", PROBE, *flags, *more, suffix=suffix)
    check_ended(import_probe(tmp_path), 0, "imported\n")


@pytest.mark.parametrize(
    "name, number, advice",
    [
        ("MAJOR", 0, "compile it with the atoll.h that is installed"),
        ("MAJOR", 2, "install a newer Atoll"),
        ("MINOR", 99, "install a newer Atoll"),
    ],
)
def test_version_that_does_not_fit(capi_folder, tmp_path, name, number, advice):
    text = re.sub(rf"(#define ATOLL_API_{name}) \d+", rf"\1 {number}", HEADER.read_text())
    (tmp_path / "atoll.h").write_text(text)
    compile_module(tmp_path, "probe", PROBE, include=tmp_path)
    done = import_probe(tmp_path)
    assert done.returncode == 1
    assert "ImportError: this module was compiled for version" in done.stderr
    assert advice in done.stderr


def test_header_is_where_it_is_said():
    assert HEADER.is_file()
    version = re.findall(r"#define ATOLL_API_\w+ (\d+)", HEADER.read_text())
    assert version == ["1", "0"]


def test_every_function_is_in_the_reference():
    functions = re.findall(r"^static inline .*?\b(atoll_\w+)\(", HEADER.read_text(), re.MULTILINE)
    assert len(functions) > 10
    for name in functions:
        assert re.search(rf"`[\w *]*\b{name}\(", PAGE), name


def test_module_of_the_page(capi_folder, tmp_path):
    compile_module(tmp_path, "elsewhere", PROGRAMS["elsewhere.c"], "-Wno-unused-parameter", "-Wno-pedantic")
    done = run_python(
        f"""
        import sys; sys.path.insert(0, {str(tmp_path)!r})
        import atoll, elsewhere
        with atoll.create() as interp:
            elsewhere.run(interp, "import json; x = json.dumps([1, 2])")
            print(interp.call(eval, "__import__('__main__').x"))
            try:
                elsewhere.run(interp, "1 / 0")
            except atoll.ExecutionFailed as error:
                print(error.excinfo.msg)
            interp.exec("import sys; sys.path.insert(0, {str(tmp_path)!r}); import elsewhere, atoll")
            interp.exec("elsewhere.run(atoll.get_main(), 'there = 1')")
        import __main__
        print(__main__.there)
        """
    )
    check_ended(done, 0, "[1, 2]\ndivision by zero\n1\n")


def test_queues_of_the_page(capi_folder, tmp_path):
    compile_module(tmp_path, "sensor", PROGRAMS["sensor.c"], "-Wno-unused-parameter")
    done = run_python(
        f"""
        import sys; sys.path.insert(0, {str(tmp_path)!r})
        import atoll, sensor
        queue = atoll.create_queue()
        sensor.start(queue)
        with atoll.create() as interp:
            print(interp.call(lambda queue: [sum(view.cast("d")) for view in queue], queue))
        queue = atoll.create_queue()
        queue.put_many([b"abc", b"de"])
        print(sensor.total(queue))
        """
    )
    check_ended(done, 0, "[1.5, 5.5, 9.5]\n5\n")


def test_program_of_the_page(capi_folder, embed, tmp_path):
    text = (
        PROGRAMS["server.c"]
        .replace("int main(void)", "static int server(void)")
        .replace("Py_Initialize()", "begin(program)")
    )
    source = tmp_path / "server.c"
    source.write_text(
        f'#include "{TESTS}/embed/embed.h"\nstatic const char *program;\n{text}'
        "static int host(int argc, char **argv) { (void)argc; program = argv[0]; return server(); }\n"
    )
    done = embed(str(source))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 2 6 24\n", "")


def test_every_function_is_in_the_pxd():
    functions = set(re.findall(r"^static inline .*?\b(atoll_\w+)\(", HEADER.read_text(), re.MULTILINE))
    text = HEADER.with_suffix(".pxd").read_text()
    assert functions == set(re.findall(r"^    \w[\w *]*?\b(atoll_\w+)\(", text, re.MULTILINE))
    for name in set(re.findall(r"^ +(ATOLL_\w+) = ", HEADER.read_text(), re.MULTILINE)):
        assert re.search(rf"\b{name}$", text, re.MULTILINE), name
