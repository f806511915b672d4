# shellcheck shell=bash
# Debian's packages without root and without a trace: apt with its own lists and cache in a temporary directory, $work, which goes
# with the script that sources this.  The machine's packages and apt's state stay as they are.  The mirror is the one that
# this machine's apt is configured with.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
for need in apt-get apt-cache; do
    have "$need" || die "not a Debian machine (no $need)"
done
[ -e "$keyring" ] || die "no Debian archive keyring (package debian-archive-keyring)"

# The addresses that apt is configured with, likeliest first.  apt knows whose an archive is only
# after an `apt-get update`, which a new container has not had; the path's end is the second sign.
mirrors() {
    {
        apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian //p'
        apt-get --no-release-info indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
            grep -E '/debian/?$' || true
    } 2>/dev/null | awk '!seen[$0]++'
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,parts}
: >"$work/status"
options=(-qq -o "Dir::Etc::SourceList=$work/sources.list" -o "Dir::Etc::SourceParts=$work/parts"
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o "Dir::State::status=$work/status"
    -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=2)

# The first mirror that holds the suite: one of security updates, say, does not.
use_suite() { # deb|deb-src SUITE
    local mirror
    while read -r mirror; do
        echo "$1 [signed-by=$keyring] $mirror $2 main" >"$work/sources.list"
        if apt-get "${options[@]}" update 2>"$work/update.log"; then
            return 0
        fi
    done < <(mirrors)
    cat "$work/update.log" >&2 2>/dev/null || true
    die "no mirror that this machine's apt is configured with has Debian's suite '$2'"
}
