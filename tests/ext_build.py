"""Compiles the extension modules of tests/ext for the running Python, where they are not up to date.

They are kept in build/ext-X.Y, a folder for sys.path; build() returns it, as does the fixture `corpus` of ext_fixtures.
Each file has the hash of all that it was made from in a stamp, so that a change compiles what it concerns and
nothing else.  Several processes may do this at once; one works and the others wait.

CC and CXX choose the compilers.  By hand: python tests/ext_build.py
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fcntl
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parent
SOURCES = TESTS / "ext"
BUILD = TESTS.parent / "build" / f"ext-{sys.version_info.major}.{sys.version_info.minor}"
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

FLAGS = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-fvisibility=hidden")
LANGUAGE = {".c": ("-std=c17",), ".cc": ("-std=c++17", "-Wno-missing-field-initializers")}
LIBS = "extpkg.libs"

# An e with an acute accent, the sign for east.
UNICODE = "ext_\u00e9\u6771"


@dataclasses.dataclass(frozen=True)
class Target:
    """A file to be made."""

    source: str
    file: str  # below the folder
    flags: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()  # the helper libraries it is linked with: their files' names
    optional: bool = False  # a linker that does not know the flags is no error


def extension(source: str, name: str | None = None, *flags: str, needs: tuple[str, ...] = ()) -> Target:
    """A module, named like its source unless said otherwise."""
    file = (name or source.rpartition(".")[0]) + SUFFIX
    return Target(source, file, flags, needs)


def library(source: str, name: str, *flags: str, needs: tuple[str, ...] = ()) -> Target:
    """A helper library with a name like those that wheels give theirs."""
    return Target(source, f"{LIBS}/{name}", (f"-Wl,-soname,{name}", *flags), needs)


def layout(name: str, *flags: str) -> Target:
    """A variant of ext_layout."""
    define = f"-DINIT_NAME=PyInit_ext_layout_{name}"
    return Target("ext_layout.c", f"ext_layout_{name}{SUFFIX}", (define, *flags), optional=True)


def run_path(path: str, kind: str = "enable") -> str:
    """The linker's option for a RUNPATH, or with "disable" for an RPATH."""
    return f"-Wl,--{kind}-new-dtags,-rpath,{path}"


STATE, MIDDLE, PLAIN = "libextstate-1a2b3c4d.so", "libextmiddle-5e6f7a8b.so.1", "libextplain-9c0d1e2f.so.2"
INHERITS = "libextinherits-2b3c4d5e.so"
THROW, MISSING = "libextthrow-3a4b5c6d.so", "libextmissing-7e8f9a0b.so"
BARE = "libextbare-6a7b8c9d.so"
KEEPER = "libextkeeper-4f5a6b7c.so"
SLOW = "libextslow-0b1c2d3e.so"
FILTERS = {
    "libextfilter-1e2f3a4b.so": ("-f", "$ORIGIN/libextcounter-8d9e0f1a.so"),
    "libextfilter-5c6d7e8f.so": ("-F", "libextcounter-8d9e0f1a.so"),
}
COUNTER = "libextcounter-8d9e0f1a.so"  # no Python, and a state
# By its name the system's, or for the process, and one that needs it: a copy, or one for the process as well.
RUNTIMES = {
    "ext_runtime": ("libomp.so.97", "libextruntime-1b2c3d4e.so"),
    "ext_runtime_plain": ("libhwloc.so.97", "libtbb.so.97"),
}
BESIDE = run_path("$ORIGIN")
IN_LIBS = run_path(f"$ORIGIN/{LIBS}")
UP_IN_LIBS = f"$ORIGIN/../{LIBS}"
HELPED = ("-DLIB_BUMP=lib_state_bump", "-DLIB_OTHER_ADDRESS=lib_plain_address")
HELPED_MIDDLE = ("-DLIB_BUMP=lib_middle_bump", "-DLIB_OTHER_ADDRESS=lib_middle_address")

LIBRARIES = [
    library("lib_state.c", STATE),
    library("lib_middle.c", MIDDLE, BESIDE, needs=(STATE,)),
    library("lib_keeper.c", KEEPER),
    library("lib_runtime.c", COUNTER),
    library("lib_slow.c", SLOW),
    *(library("lib_filter.c", name, f"-Wl,{how},{of}", BESIDE) for name, (how, of) in FILTERS.items()),
    library("lib_middle.c", BARE),  # is linked with nothing, and misses what it calls
    library("lib_plain.c", PLAIN),
    library("lib_middle.c", INHERITS, needs=(STATE,)),
    library("lib_throw.cc", THROW),
    *(
        Target("lib_runtime.c", f"runtime_{turn}/{name}", (f"-Wl,-soname,{name}",))
        for name, _ in RUNTIMES.values()
        for turn in ("one", "two")
    ),
    *(
        library(
            "ext_runtime.c",
            user,
            "-DLIBRARY",
            run_path("$ORIGIN/../runtime_two"),
            needs=(f"runtime_two/{name}",),
        )
        for name, user in RUNTIMES.values()
    ),
    # Not where the extension that needs it looks for it.
    Target("lib_missing.c", f"elsewhere/{MISSING}", (f"-Wl,-soname,{MISSING}",)),
]
EXTENSIONS = [
    *(
        extension(source)
        for source in [
            "ext_allocators.c",
            "ext_arrow.c",
            "ext_waiters.cc",
            "ext_borrows.c",
            "ext_capsule.c",
            "ext_capsule_user.c",
            "ext_clib.c",
            "ext_create.c",
            "ext_declares.c",
            "ext_exit.c",
            "ext_export.c",
            "ext_foreign.c",
            "ext_from_spec.c",
            "ext_global.c",
            "ext_handlers.cc",
            "ext_ifunc.c",
            "ext_keeps.c",
            "ext_keys.c",
            "ext_late.c",
            "ext_lends.c",
            "ext_main_only.c",
            "ext_multi.c",
            "ext_options.c",
            "ext_pending.c",
            "ext_refuses.c",
            "ext_several.c",
            "ext_shares_gil.c",
            "ext_signals.c",
            "ext_single.c",
            "ext_single_state.c",
            "ext_slotless.c",
            "ext_static_id.c",
            "ext_static_types.c",
            "ext_std_thread.cc",
            "ext_supplies.cc",
            "ext_thread_local.cc",
            "ext_tls.c",
            "ext_tss.c",
            "ext_undefined.c",
            "ext_worker.c",
            "ext_wrong.c",
        ]
    ),
    Target("ext_abi3.c", "ext_abi3.abi3.so"),
    # As setproctitle's, of which there can be one in a process.
    extension("ext_declares.c", "exttitle/_setproctitle", "-DINIT_NAME=PyInit__setproctitle"),
    extension("ext_constructors.c", None, "-Wl,-init=ext_constructors_init"),
    extension("ext_end.cc", "ext_end_one", "-DNAME=one", "-DINIT_NAME=PyInit_ext_end_one"),
    extension("ext_end.cc", "ext_end_two", "-DNAME=two", "-DINIT_NAME=PyInit_ext_end_two"),
    extension("ext_dl.c", None, IN_LIBS),
    extension("ext_lazily.c", None, "-Wl,-z,lazy"),
    extension("ext_lends.c", "ext_lends_hooks", "-DHOOKS"),
    extension("ext_lookup.c", None, IN_LIBS, needs=(PLAIN,)),
    extension("ext_export_declares.c"),
    *(
        extension("ext_nested.c", f"ext_nested_{kind}", f"-DKIND={kind}", f"-DNAME=ext_nested_{kind}")
        for kind in range(1, 6)
    ),
    extension("ext_pool.c", None, "-DPOOL", "-DINIT_NAME=PyInit_ext_pool"),
    extension("ext_pool.c", "ext_no_pool", "-DINIT_NAME=PyInit_ext_no_pool"),
    extension("ext_helped.c", "ext_misses", "-DNAME=ext_misses", *HELPED),
    extension("ext_missing.c", None, IN_LIBS, needs=(MISSING,)),
    *(
        extension(
            "ext_registers.c",
            name,
            f'-DNAME="{name}"',
            f"-DINIT_NAME=PyInit_{name}",
            *flags,
            IN_LIBS,
            needs=(KEEPER,),
        )
        for name, flags in {"ext_registers": ["-DKEEPS"], "ext_replaces": []}.items()
    ),
    *(
        extension(
            "ext_runtime.c",
            module,
            f'-DNAME="{module}"',
            f"-DINIT_NAME=PyInit_{module}",
            run_path(f"$ORIGIN/runtime_one:$ORIGIN/{LIBS}"),
            needs=(user, f"runtime_one/{name}"),
        )
        for module, (name, user) in RUNTIMES.items()
    ),
    extension("ext_throw.cc", None, IN_LIBS, needs=(THROW,)),
    extension("ext_unique.cc", None, "-fvisibility=default"),
    extension("ext_tls.c", "ext_tls_initial", "-DINITIAL", "-ftls-model=initial-exec"),
    extension(
        "ext_unicode.c",
        UNICODE,
        "-DINIT_NAME=PyInitU_" + UNICODE.encode("punycode").decode().replace("-", "_"),
    ),
    extension(
        "ext_helped.c",
        "extpkg/_runpath",
        "-DNAME=_runpath",
        *HELPED,
        run_path(UP_IN_LIBS),
        needs=(STATE, PLAIN),
    ),
    extension(
        "ext_helped.c",
        "extpkg/_rpath",
        "-DNAME=_rpath",
        *HELPED,
        run_path(UP_IN_LIBS, "disable"),
        needs=(PLAIN, STATE),
    ),
    extension(
        "ext_helped.c",
        "extpkg/_middle",
        "-DNAME=_middle",
        *HELPED_MIDDLE,
        run_path(UP_IN_LIBS),
        needs=(MIDDLE, STATE),
    ),
    extension(
        "ext_helped.c",
        "extpkg/_inherits",
        "-DNAME=_inherits",
        *HELPED_MIDDLE,
        run_path(UP_IN_LIBS, "disable"),
        needs=(INHERITS, STATE),
    ),
    # What it needs needs in turn what it finds because the extension needs that as well.
    extension(
        "ext_helped.c",
        "extpkg/_breadth",
        "-DNAME=_breadth",
        *HELPED_MIDDLE,
        run_path(UP_IN_LIBS),
        needs=(INHERITS, STATE),
    ),
    # Finds nothing by itself: only what is loaded already, under its name.
    extension("ext_helped.c", "extpkg/_byname", "-DNAME=_byname", *HELPED, needs=(STATE, PLAIN)),
]
LAYOUTS = [
    layout("bigpages", "-Wl,-z,max-page-size=0x10000"),
    layout("gold", "-fuse-ld=gold"),
    layout("image", "-Wl,-Ttext-segment=0x7fff00000000"),
    layout("lazy", "-Wl,-z,lazy,-z,norelro"),
    layout("lld", "-fuse-ld=lld"),
    layout("nodelete", "-Wl,-z,nodelete"),
    layout("nonotes", "-Wl,--build-id=none", "-fcf-protection=none"),
    layout("noseparate", "-Wl,-z,noseparate-code"),
    layout("now", "-Wl,-z,now,-z,relro"),
    layout("relr", "-Wl,-z,pack-relative-relocs"),
    layout("stripped", "-s"),
    layout("symbolic", "-Wl,-Bsymbolic"),
    layout("sysv", "-Wl,--hash-style=sysv"),
]
TARGETS = [*LIBRARIES, *EXTENSIONS, *LAYOUTS]


@functools.cache
def compiler(suffix: str) -> tuple[str, ...]:
    """The compiler for sources with this suffix.  Raises FileNotFoundError."""
    variable, names = ("CC", ("cc", "gcc", "clang")) if suffix == ".c" else ("CXX", ("c++", "g++", "clang++"))
    if os.environ.get(variable):
        return tuple(shlex.split(os.environ[variable]))
    for name in names:
        if path := shutil.which(name):
            return (path,)
    raise FileNotFoundError(
        f"no compiler {' or '.join(names)} on PATH for the tests' extensions (Debian, Ubuntu: apt-get install g++)"
    )


@functools.cache
def version_of(command: tuple[str, ...]) -> str:
    """What the compiler says it is."""
    return subprocess.run([*command, "--version"], check=True, capture_output=True, text=True).stdout


def command_for(target: Target, output: Path) -> list[str]:
    """The command that makes the target."""
    source = SOURCES / target.source
    needed = [BUILD / lib.file for name in target.needs for lib in LIBRARIES if lib.file.endswith(name)]
    includes = dict.fromkeys([sysconfig.get_path("include"), sysconfig.get_path("platinclude")])
    return [
        *compiler(source.suffix),
        *LANGUAGE[source.suffix],
        *FLAGS,
        *target.flags,
        *(f"-isystem{path}" for path in includes),
        f"-I{SOURCES}",
        "-o",
        str(output),
        str(source),
        *map(str, needed),
        f"-Wl,-rpath-link,{BUILD / LIBS}",
        "-pthread",
    ]


def stamp_of(target: Target) -> str:
    """The hash of everything that the target is made from."""
    text = hashlib.sha256()
    parts = [
        sys.version,
        *command_for(target, Path("output")),
        version_of(compiler(Path(target.source).suffix)),
    ]
    text.update("\0".join(parts).encode())
    needed = [lib.source for lib in LIBRARIES if lib.file.endswith(target.needs)]
    for name in [target.source, *needed, "ext.h", "libs.h"]:
        text.update((SOURCES / name).read_bytes())
    return text.hexdigest()


def compile_target(target: Target) -> None:
    """Make the target unless it is up to date.  Raises RuntimeError with what the compiler said."""
    output = BUILD / target.file
    stamp = BUILD / "stamps" / target.file.replace("/", ".")
    wanted = stamp_of(target)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    stamp.parent.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    # Under another name first: a process that runs may have the old file mapped.
    temporary = output.with_name(output.name + ".new")
    done = subprocess.run(command_for(target, temporary), capture_output=True, text=True)
    if done.returncode == 0:
        temporary.rename(output)
    elif target.optional:
        output.unlink(missing_ok=True)
    else:
        raise RuntimeError(f"{shlex.join(done.args)}\n{done.stderr}")
    if done.stderr and not target.optional:
        print(done.stderr, file=sys.stderr)
    stamp.write_text(wanted)


def make_all(targets: Sequence[Target]) -> None:
    """Make the targets, some at a time."""
    with concurrent.futures.ThreadPoolExecutor(
        os.process_cpu_count() if sys.version_info >= (3, 13) else 2
    ) as pool:
        list(pool.map(compile_target, targets))


def build() -> Path:
    """Make all that is not up to date; return the folder.  Raises FileNotFoundError, RuntimeError."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for target in LIBRARIES:  # in their order: one needs another
            compile_target(target)
        make_all([*EXTENSIONS, *LAYOUTS])
        for source in (SOURCES / "extpkg").iterdir():
            if source.is_file():
                copied = BUILD / "extpkg" / source.name
                if not copied.exists() or copied.read_bytes() != source.read_bytes():
                    shutil.copyfile(source, copied)
    return BUILD


if __name__ == "__main__":
    print(build())
