"""Libraries that code in an interpreter opens itself, with dlopen() in C or with ctypes: as in a process of its own.

Each story is told by the main interpreter of one process, and by two interpreters of another one in turn, perhaps
after its main interpreter: all have to tell the same.
"""

from __future__ import annotations

import os
import subprocess
import textwrap

import pytest

from ext_build import BARE, COUNTER, FILTERS, KEEPER, LIBS, PLAIN, RUNTIMES, STATE
from helpers import check_ended, run_python

pytest_plugins = ["ext_fixtures"]

BEGIN = """
import ctypes, os, shutil, sys
import ext_dl
NOW, GLOBAL, NOLOAD = os.RTLD_NOW, os.RTLD_GLOBAL, os.RTLD_NOLOAD
NAMES = {names!r}
LIBS, OTHER = {libs!r}, {other!r}
STATE, PLAIN, BARE, KEEPER, COUNTER = (LIBS + "/" + name for name in NAMES[:5])
"""

STORIES = {
    "a module's own file": """
        ext_dl.set(5)
        handle = ext_dl.open(ext_dl.__file__, NOW)
        print(ext_dl.call(handle, "ext_dl_value"), ctypes.CDLL(ext_dl.__file__).ext_dl_value())
        link = OTHER + "/link"
        if not os.path.lexists(link):
            os.symlink(ext_dl.__file__, link)
        print(ext_dl.call(ext_dl.open(link, NOW), "ext_dl_value"), ctypes.CDLL(link).ext_dl_value())
        os.chdir(os.path.dirname(ext_dl.__file__))
        again = ext_dl.open("./" + os.path.basename(ext_dl.__file__), NOW | NOLOAD)
        print(again == handle, ext_dl.close(handle), ext_dl.close(again), ext_dl.call(handle, "ext_dl_value"))
    """,
    "names": """
        handle = ext_dl.open(ext_dl.__file__, NOW)
        print(ext_dl.names(handle), ext_dl.names(handle))
    """,
    "a library": """
        first = ext_dl.open(STATE, NOW)
        print([ext_dl.call(first, "lib_state_bump") for _ in range(3)])
        print(ctypes.CDLL(STATE).lib_state_bump(), ctypes.CDLL(STATE)._handle == first)
        print(ext_dl.open(NAMES[0], NOW) == first, ctypes.CDLL(NAMES[0]).lib_state_bump())
        import extpkg._runpath
        print(extpkg._runpath.lib_bump())
    """,
    "not loaded": """
        for open in (ext_dl.open, ctypes.CDLL):
            for name in (STATE, NAMES[0], PLAIN, NAMES[1], KEEPER, "/nowhere/libno.so", "libno.so"):
                try:
                    print(open(name, NOW | NOLOAD))
                except OSError as error:
                    print("OSError", error)
        handle = ext_dl.open(STATE, NOW)
        print(ext_dl.open(STATE, NOW | NOLOAD) == handle, ctypes.CDLL(NAMES[0], NOW | NOLOAD)._handle == handle)
    """,
    "by the module's run path": """
        handle = ext_dl.open(NAMES[0], NOW)
        print(ext_dl.call(handle, "lib_state_bump"), ext_dl.open(STATE, NOW) == handle)
        print(ext_dl.open("$ORIGIN/extpkg.libs/" + NAMES[0], NOW) == handle)
        print(ext_dl.open("${ORIGIN}/extpkg.libs/../extpkg.libs/" + NAMES[0], NOW | NOLOAD) == handle)
    """,
    "errors": """
        for name in ("/nowhere/libno.so", "libno.so", BARE):
            for open in (ext_dl.open, ctypes.CDLL):
                try:
                    print(open(name, NOW))
                except OSError as error:
                    print("OSError", error)
        print(ext_dl.open("", NOW) == ext_dl.open(None, NOW))
    """,
    "global, by ctypes": """
        ctypes.CDLL(STATE, GLOBAL)
        ctypes.CDLL(PLAIN)
        ctypes.CDLL(PLAIN, GLOBAL)  # from now on
        import ext_misses
        print(ext_misses.lib_bump(), ctypes.CDLL(STATE).lib_state_bump())
    """,
    "not global": """
        ctypes.CDLL(STATE)
        ctypes.CDLL(PLAIN)
        try:
            import ext_misses
        except ImportError as error:
            print(error)
    """,
    "global, by C": """
        state = ext_dl.open(STATE, NOW)
        ext_dl.open(STATE, NOW | GLOBAL | NOLOAD)
        ext_dl.open(PLAIN, NOW | GLOBAL)
        import ext_misses
        print(ext_misses.lib_bump(), ext_dl.call(state, "lib_state_bump"))
    """,
    "global, for a library that needs no copy otherwise": """
        bare = OTHER + "/" + NAMES[2]
        if not os.path.exists(bare):
            shutil.copy(BARE, bare)
        try:
            ctypes.CDLL(bare)
        except OSError as error:
            print("OSError", error)
        state = ctypes.CDLL(STATE, GLOBAL)
        handle = ext_dl.open(bare, NOW)
        print(ext_dl.call(handle, "lib_middle_bump"), ctypes.CDLL(bare).lib_middle_bump(), state.lib_state_bump())
    """,
    "lazily": """
        try:
            import ext_lazily
        except ImportError as error:
            print("ext_lazily_missing" in str(error))
        sys.setdlopenflags(os.RTLD_LAZY)
        import ext_lazily
        print(ext_lazily.call(False), ext_lazily.bump())
    """,
    "needed by a name that is loaded": """
        import extpkg._runpath, extpkg._byname
        print(extpkg._runpath.lib_bump(), extpkg._byname.lib_bump())
    """,
    "needed by a name that ctypes has loaded": """
        state = ctypes.CDLL(STATE)
        ctypes.CDLL(PLAIN)
        import extpkg._byname
        print(state.lib_state_bump(), extpkg._byname.lib_bump())
    """,
    "needed by a name that is loaded with it": """
        import extpkg._breadth
        print(extpkg._breadth.lib_bump(), extpkg._breadth.append("x"))
    """,
    "replaced on disk meanwhile": """
        home = OTHER + "/replaced"
        if not os.path.exists(home):
            shutil.copytree(os.path.dirname(LIBS) + "/extpkg", home + "/extpkg")
            shutil.copytree(LIBS, home + "/extpkg.libs")
        sys.path.insert(0, home)
        import extpkg._runpath
        library = home + "/extpkg.libs/" + NAMES[0]
        shutil.copy(library, library + ".new")
        os.replace(library + ".new", library)
        import extpkg._rpath
        print(extpkg._runpath.lib_bump(), extpkg._rpath.lib_bump())
    """,
    "of a package, by its path": """
        home, link = OTHER + "/home", OTHER + "/link to home"
        if not os.path.exists(home):
            shutil.copytree(os.path.dirname(LIBS) + "/extpkg", home + "/brings")
            shutil.copytree(LIBS, home + "/brings/lib")
            open(home + "/brings/__init__.py", "w").close()
            os.symlink(home, link)
        sys.path.append(home)
        counter = ctypes.CDLL(home + "/brings/lib/" + NAMES[4])
        print(counter.lib_runtime_bump(), counter.lib_runtime_bump())
        print(ext_dl.open(link + "/brings/lib/" + NAMES[4], NOW) == counter._handle)
        os.chdir(home + "/brings")
        print(ext_dl.open("lib/" + NAMES[4], NOW) == counter._handle)
        handle = ext_dl.open("./lib/" + NAMES[1], NOW)
        plain = ctypes.CDLL(home + "/brings/lib/" + NAMES[1])
        print(plain._handle == handle, ctypes.CDLL(NAMES[1])._handle == handle)
        ctypes.CDLL(home + "/brings/lib/" + NAMES[0])
        import brings._byname
        plain.lib_plain_address.restype = ctypes.c_void_p
        print(brings._byname.lib_addresses()[1] == plain.lib_plain_address())
    """,
    "filters": """
        for name in NAMES[5:]:
            handle = ext_dl.open(LIBS + "/" + name, NOW)
            print([ext_dl.call(handle, "lib_runtime_bump") for _ in range(2)])
    """,
    "of a package, by C": """
        home = OTHER + "/by C"
        if not os.path.exists(home):
            shutil.copytree(LIBS, home + "/package/lib")
            open(home + "/package/__init__.py", "w").close()
        sys.path.append(home)
        handle = ext_dl.open(home + "/package/lib/" + NAMES[4], NOW)
        print(ext_dl.call(handle, "lib_runtime_bump"), ext_dl.call(handle, "lib_runtime_bump"))
    """,
    "global, by an import": """
        flags = sys.getdlopenflags()
        sys.setdlopenflags(flags | GLOBAL)
        import extpkg._runpath
        sys.setdlopenflags(flags)
        import ext_misses
        print(ext_misses.lib_bump(), extpkg._runpath.lib_bump())
    """,
}


def test_no_room_for_thread_local_variables(corpus):
    """Variables that need room in a block of the process: the error says who takes it, and how to have more."""
    script = """
import atoll, ext_use
interps = []
try:
    while len(interps) < 400:
        interps.append(ext_use.create())
        interps[-1].exec("import ext_tls_initial")
    print("as many as one likes")
except atoll.ExecutionFailed as error:
    print("static TLS block" in str(error), "optional_static_tls" in str(error), "ext_tls_initial" in str(error))
for interp in interps:
    interp.close()
"""
    done = run_python(script, environment={"GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=0"})
    check_ended(done, 0, "True True True\n", clean=True)


# A library that needs no copy is one for the process, and what main has loaded is bound to main's.
ALONE = "global, for a library that needs no copy otherwise"
CASES = [(name, before) for name in STORIES for before in (False, True) if not (before and name == ALONE)]


@pytest.mark.parametrize(("name", "before"), CASES)
def test_as_in_a_process_of_its_own(corpus, tmp_path, name, before):
    names = [STATE, PLAIN, BARE, KEEPER, COUNTER, *FILTERS]
    begin = BEGIN.format(names=names, libs=str(corpus / LIBS), other=str(tmp_path))
    story = begin + textwrap.dedent(STORIES[name])
    alone = run_python(f"import ext_use\nexec({story!r})")
    check_ended(alone, 0, clean=True)
    together = run_python(f"""
import atoll, ext_use
if {before}:
    exec({story!r})
    sys.stdout.flush()
for _ in range(2):
    interp = ext_use.create()
    interp.exec({story!r})
    interp.close()
print(atoll.kept_extensions())
""")
    check_ended(together, 0, alone.stdout * (2 + before) + "[]\n", clean=True)


def test_plain_library_beside_a_script_is_one_for_all(corpus, tmp_path):
    """Nothing sets it up in each interpreter, as a package's modules do; main has opened it as well."""
    story = f"""
import atoll, ctypes, os, shutil, sys
home, source = {str(tmp_path)!r}, {str(corpus / LIBS / COUNTER)!r}
sys.path.insert(0, home)
os.makedirs(home + "/package/lib")
os.makedirs(home + "/directory")
open(home + "/package/__init__.py", "w").close()
places = "/libbeside.so", "/directory/libin.so", "/package/lib/libof.so"
libraries = [shutil.copy(source, home + place) for place in places]
bumps = [ctypes.CDLL(library).lib_runtime_bump() for library in libraries]
def bump(libraries):
    import ctypes
    return [ctypes.CDLL(library).lib_runtime_bump() for library in libraries]
with atoll.create() as one, atoll.create() as two:
    print(bumps, *(interp.call(bump, libraries) for interp in (one, two, one)), bump(libraries))
"""
    check_ended(run_python(story), 0, "[1, 1, 1] [2, 2, 1] [3, 3, 1] [4, 4, 2] [5, 5, 2]\n", clean=True)


def test_directory_of_packages_that_is_made_anew(corpus, tmp_path):
    story = f"""
import atoll, ctypes, os, shutil, sys
home, source = {str(tmp_path / "home")!r}, {str(corpus / LIBS / COUNTER)!r}
sys.path.insert(0, home)
def make(library):
    os.makedirs(home + "/package")
    open(home + "/package/__init__.py", "w").close()
    return shutil.copy(source, home + "/package/" + library)
def bump(library):
    import ctypes
    return ctypes.CDLL(library).lib_runtime_bump()
with atoll.create() as interp:
    first = make("libfirst.so")
    print(interp.call(bump, first), bump(first))
    os.rename(home, home + ".before")  # which keeps the number of the directory from being given again
    second = make("libsecond.so")
    print(interp.call(bump, second), bump(second))
"""
    check_ended(run_python(story), 0, "1 1\n1 1\n", clean=True)


def test_library_that_is_closed_by_the_end_of_an_interpreter_stays(corpus, tmp_path):
    """As at a process's end: GLib's types, for one, are known to others that stay. What code closes is closed."""
    story = """
import ext_dl
class Library: # as cffi's
    def __init__(self, path):
        self.handle = ext_dl.open(path, 2)
    def __del__(self, close=ext_dl.close):
        close(self.handle)
library = Library(ENDS)
bumps = [ext_dl.call(library.handle, "lib_runtime_bump")]
for _ in range(2):
    closed = Library(CLOSES)
    bumps.append(ext_dl.call(closed.handle, "lib_runtime_bump"))
    del closed
print(bumps)
"""
    script = f"""
import ext_use, shutil
ends, closes = {str(tmp_path / "libends.so")!r}, {str(tmp_path / "libcloses.so")!r}
for path in (ends, closes):
    shutil.copy({str(corpus / LIBS / COUNTER)!r}, path)
for _ in range(3):
    interp = ext_use.create()
    interp.prepare_main(ENDS=ends, CLOSES=closes)
    interp.exec({story!r})
    interp.close()
"""
    check_ended(run_python(script), 0, "[1, 1, 1]\n[2, 1, 1]\n[3, 1, 1]\n", clean=True)


@pytest.mark.parametrize("module", RUNTIMES)
def test_a_library_for_the_process_is_there_once(corpus, module):
    """Though those that need it find different files: C++'s runtime library is not made for being there twice."""
    story = f"""
import {module}
print({module}.bumps())
with open("/proc/self/maps") as maps:
    print({{line.split("/")[-2] for line in maps if {RUNTIMES[module][0]!r} in line}})
"""
    alone = run_python("import ext_use\n" + story)
    check_ended(alone, 0, "(1, 2)\n{'runtime_one'}\n", clean=True)
    together = run_python(f"""
import atoll, ext_use
interp = ext_use.create()
interp.exec({story!r})
interp.close()
""")
    check_ended(together, 0, alone.stdout, clean=True)


AS_IT_IS = """
import atoll, os, sysconfig
from atoll import _atoll

def names():
    directory = sysconfig.get_path("platstdlib") + "/lib-dynload"
    found = {name.partition(".")[0] for name in os.listdir(directory)} if os.path.isdir(directory) else set()
    return sorted(found & {"_bisect", "_csv", "_heapq", "_json", "_lsprof", "_queue", "_statistics", "_struct"})

def handles(names, first):
    import ctypes, importlib, sysconfig, os
    directory = sysconfig.get_path("platstdlib") + "/lib-dynload"
    found = {}
    for name in names:
        file = next(directory + "/" + file for file in os.listdir(directory) if file.partition(".")[0] == name)
        if first:
            found[name] = ctypes.CDLL(file)._handle
        module = importlib.import_module(name)
        if module.__spec__.origin == "built-in":
            continue
        again = ctypes.CDLL(module.__file__)._handle
        assert found.setdefault(name, again) == again, name
    return found

def own():
    import ctypes
    from atoll import _atoll
    return ctypes.CDLL(_atoll.__file__)._handle

"""


def test_modules_loaded_as_they_are():
    """Of a module that was not cloned ctypes opens the very library, Atoll's included, and never a second one."""
    script = f"""{AS_IT_IS}
with atoll.create() as interp:
    assert interp.call(own) == own()
    modules = names()
    there = interp.call(handles, modules, False)
    isolated = {{name for name, *_ in interp.call(_atoll._loaded_extensions)}}
    cloned = set(there) & isolated
    here = handles(there, False)
    assert {{name for name in there if there[name] != here[name]}} == cloned, (there, here, cloned)
    print(len(cloned) < len(there) or not there)
"""
    done = run_python(script)
    check_ended(done, 0, "True\n", clean=True)


def test_modules_opened_before_they_are_imported():
    script = f"""{AS_IT_IS}
with atoll.create() as interp:
    print(interp.call(handles, names(), True).keys() <= set(names()))
"""
    done = run_python(script)
    check_ended(done, 0, "True\n", clean=True)


SAME_NAME = """
import ctypes, sys
import atoll

MAIN, OWN = {main!r}, {own!r}


def use(directory):
    import ctypes

    return ctypes.CDLL(directory + "/libuser.so").use()


print(use(MAIN))
with atoll.create() as interp:
    interp.exec(f"import sys; sys.path.append({{OWN!r}})")
    print(interp.call(use, OWN + "/pkg"))
"""


LINKS = "int dep(void);\nint use(void) { return dep(); }\n"
OPENS = """
#include <dlfcn.h>
int use(void) {
    void *dep = dlopen("libdep.so", RTLD_NOW);
    return dep ? ((int (*)(void))dlsym(dep, "dep"))() : -1;
}
"""


@pytest.mark.parametrize("user", [LINKS, OPENS], ids=["linked", "opened"])
def test_a_package_has_its_own_library_whatever_main_has_loaded_under_its_name(tmp_path, user):
    for directory, value in (("other", 1), ("own/pkg", 2)):
        where = tmp_path / directory
        where.mkdir(parents=True)
        (where / "dep.c").write_text(f"int dep(void) {{ return {value}; }}\n")
        (where / "user.c").write_text(user)
        shared = [os.environ.get("CC", "cc"), "-shared", "-fPIC"]
        subprocess.run([*shared, "dep.c", "-o", "libdep.so", "-Wl,-soname,libdep.so"], cwd=where, check=True)
        subprocess.run(
            [*shared, "user.c", "-o", "libuser.so", "-L.", "-ldep", "-Wl,-rpath,$ORIGIN"],
            cwd=where,
            check=True,
        )
    (tmp_path / "own/pkg/__init__.py").touch()
    script = SAME_NAME.format(main=str(tmp_path / "other"), own=str(tmp_path / "own"))
    assert run_python(script).stdout.split() == ["1", "2"]
