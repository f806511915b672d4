# shellcheck shell=bash
# Helpers that every shell tool in this directory sources.  Sourcing it moves to
# the root of the checkout, so that tools work from any directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Oldest to newest; the first thing to edit when a new CPython is supported.
SUPPORTED_PYTHONS=(3.12 3.13 3.14 3.15)
# Others of a version that CI tests on as well: Debian 13's own, which has modules built in that most builds have as files.
PYTHON_VARIANTS=(3.13-debian)
# The order in which a single interpreter is chosen for `make run`, lint and so on.
PREFERRED_PYTHONS=(3.14 3.15 3.13 3.12)

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

tool=${0##*/}
say() { echo "$tool: $*" >&2; }
# No silent end: what fails says so itself, or this does.
trap 'say "stopped at line $LINENO: $BASH_COMMAND"' ERR
die() {
    say "$@"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# A shim on PATH (pyenv's, say) may be there and refuse to work: ask it.
have_uv() { [ -z "${ATOLL_NO_UV:-}" ] && uv --version >/dev/null 2>&1; }

need_compiler() {
    if ! have "${CC:-cc}"; then
        die "no C compiler '${CC:-cc}' on PATH. Install one (Debian, Ubuntu: apt-get install gcc libc6-dev)" \
            "or set CC."
    fi
    if ! echo 'int main(void) { return 0; }' | "${CC:-cc}" -x c -std=c17 -o /dev/null - 2>/dev/null; then
        die "'${CC:-cc}' cannot compile and link a C17 program (Debian, Ubuntu: apt-get install libc6-dev)."
    fi
}

# Runs the rest of the calling script at most once at a time: two `make` at once
# would otherwise build in the same directory.
hold_lock() {
    mkdir -p "$(dirname "$1")"
    if have flock; then
        exec 9>"$1"
        flock 9
    fi
}

# Compiles tests/c/lib_*.c into shared objects in a directory, in the order of their names: each may need those before
# it.  A line "Linked with:" in a source has its linker options.
build_test_libraries() { # directory [compiler option...]
    local directory=$1 source name
    shift
    mkdir -p "$directory"
    for source in tests/c/lib_*.c; do
        name=${source##*/lib_}
        name=lib_${name%.c}.so
        # shellcheck disable=SC2046  # a list of options
        "${CC:-cc}" -std=gnu17 -O1 -g -Wall -Wextra -Werror -fPIC -shared "$@" "$source" -o "$directory/$name" \
            -Wl,-soname,"$name" -Wl,--enable-new-dtags,-rpath,"\$ORIGIN" -L"$directory" \
            $(sed -n 's/.*Linked with: //p' "$source") || die "linking $name failed"
    done
}
