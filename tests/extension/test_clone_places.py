"""Where clones of extension modules are written when a place for them takes none: it is full, or fails."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from helpers import check_ended, run_python

pytest_plugins = ["ext_fixtures"]
pytestmark = pytest.mark.usefixtures("corpus")

# Every file below PLACE fails as the system call that is named would there, after so many bytes.
FAILING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_below(const char *path) {
    const char *place = getenv("PLACE");
    return place != NULL && strncmp(path, place, strlen(place)) == 0;
}

static int fails(const char *call, int fd) {
    char link[64], path[4096];
    if (getenv("CALL") == NULL || strcmp(getenv("CALL"), call) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    if (!is_below(path)) return 0;
    errno = atoi(getenv("ERRNO"));
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
    off_t room = atoi(getenv("ROOM") ? getenv("ROOM") : "0");
    if (offset + (off_t)size > room && fails("write", fd)) {
        if (offset < room) return NEXT(pwrite)(fd, bytes, (size_t)(room - offset), offset);
        errno = atoi(getenv("ERRNO"));
        return -1;
    }
    return NEXT(pwrite)(fd, bytes, size, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t offset) { return pwrite(fd, bytes, size, offset); }

ssize_t copy_file_range(int in, off_t *from, int out, off_t *to, size_t size, unsigned flags) {
    if (fails("write", out)) return -1;
    return NEXT(copy_file_range)(in, from, out, to, size, flags);
}
ssize_t sendfile(int out, int in, off_t *from, size_t size) {
    if (fails("write", out)) return -1;
    ssize_t (*next)(int, int, off_t *, size_t) = dlsym(RTLD_NEXT, "sendfile");
    return next(out, in, from, size);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(more, int) : 0;
    va_end(more);
    if ((flags & O_CREAT) != 0 && is_below(path) && strcmp(getenv("CALL"), "create") == 0) {
        errno = atoi(getenv("ERRNO"));
        return -1;
    }
    int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    return next(path, flags, mode);
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));
"""

USE = """
import atoll, ext_use, os

def clones():
    import atoll
    return [loaded.clone for loaded in atoll.loaded_extensions() if loaded.clone]

with ext_use.create() as interp:
    for name in ext_use.ISOLATED[:3]:
        interp.exec(f"import {name}")
    where = interp.call(clones)
assert len(where) >= 3
place = os.environ["PLACE"]
assert not [path for path in where if path.startswith(place + "/")], where
left = [name for name in os.listdir(place) if name.startswith("atoll-")]
assert left == [], left
print("right")
"""

REFUSED = """
import atoll, ext_use
with ext_use.create() as interp:
    try:
        interp.exec(f"import {ext_use.ISOLATED[0]}")
    except atoll.ExecutionFailed as error:
        text = str(error)
        assert "ImportError" in text and ext_use.ISOLATED[0] in text, text
        assert "No space left on device" in text and "ATOLL_CLONE_DIR" in text, text
    else:
        raise SystemExit("no error")
    interp.exec("x = 1")
print("right")
"""


@pytest.fixture(scope="session")
def failing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("failing")
    (folder / "failing.c").write_text(FAILING)
    library = folder / "failing.so"
    compiler = os.environ.get("CC", "cc").split()
    command = [
        *compiler,
        "-shared",
        "-fPIC",
        "-O1",
        "-w",
        str(folder / "failing.c"),
        "-o",
        str(library),
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return library


def run(failing, source, place, call, error, room=0):
    environment = {
        "LD_PRELOAD": str(failing),
        "PLACE": str(place),
        "CALL": call,
        "ERRNO": str(error),
        "ROOM": str(room),
    }
    if place != Path("/"):
        environment["ATOLL_CLONE_DIR"] = str(place)
    return run_python(source, environment={**os.environ, **environment})


@pytest.mark.parametrize(
    "call, error, room",
    [
        ("write", errno.ENOSPC, 0),
        ("write", errno.ENOSPC, 6000),
        ("write", errno.EDQUOT, 0),
        ("write", errno.EFBIG, 6000),
        ("write", errno.EIO, 0),
        ("create", errno.ENOSPC, 0),
        ("create", errno.EROFS, 0),
        ("create", errno.EACCES, 0),
        ("create", errno.ENOENT, 0),
    ],
)
def test_the_next_place_is_taken(failing, tmp_path, call, error, room):
    check_ended(run(failing, USE, tmp_path, call, error, room), 0, "right\n", clean=True)


def test_no_place_takes_any(failing):
    """The last of them is memory."""
    check_ended(run(failing, REFUSED, Path("/"), "write", errno.ENOSPC), 0, "right\n", clean=True)


def test_only_memory_takes_any(failing):
    """No directory takes a file."""
    source = USE.replace(
        'not [path for path in where if path.startswith(place + "/")]',
        '{os.path.dirname(os.path.normpath(path)) for path in where} == {"/proc/self/fd"}',
    )
    source = source.replace("os.listdir(place)", "os.listdir('/dev/shm')")
    source = source.replace('"atoll-")', 'f"atoll-{os.getpid()}-")')
    check_ended(run(failing, source, Path("/"), "create", errno.ENOSPC), 0, "right\n", clean=True)


def test_in_memory_no_descriptor_is_needed():
    """Whoever closes all that there are, as daemons do, closes no clone's; numbers come again, paths do not."""
    source = """
import atoll, ext_use, os
first, second = ext_use.create(), ext_use.create()
os.closerange(3, 200) # that of the statistics' page, too: its number is the first that is free
before = len(os.listdir("/proc/self/fd"))
assert first.call(ext_use.call, "ext_single", "bump") == 1
assert len(os.listdir("/proc/self/fd")) == before
os.closerange(3, 200)
assert second.call(ext_use.call, "ext_single", "bump") == 1
assert first.call(ext_use.call, "ext_single", "bump") == 2
paths = [clone.clone for interp in (first, second) for clone in interp.call(ext_use.extensions)]
assert len(set(paths)) == len(paths) and len(set(map(os.path.normpath, paths))) < len(paths), paths
first.close()
second.close()
print(atoll.kept_extensions())
"""
    check_ended(run_python(source, environment={"ATOLL_CLONE_DIR": "memory"}), 0, "[]\n", clean=True)
