# Shared by the scripts beside it, which source it.

# A toolchain that rustup has just installed is not yet in PATH.
command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

step() { printf '\n==> %s\n' "$*"; }

die() {
    echo "$0: $*" >&2
    exit 1
}

# Shows a command's output only when it fails: apt prints pages when all is well.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        die "failed: $*"
    fi
    rm -f "$log"
}

# The machine's own release of Debian, and the mirror that it is configured with.
codename() { . /etc/os-release && echo "$VERSION_CODENAME"; }
mirror() {
    local mirror
    mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 'Component: main' |
        awk -v own="$(codename)" '$1 == own || $1 == "stable" || $1 == "oldstable" { print $2; exit }')
    [ -n "$mirror" ] || die "no mirror of Debian $(codename) in the machine's apt sources: add one"
    echo "$mirror"
}

command -v cargo >/dev/null ||
    die "no cargo: install a Rust toolchain first (Cargo.toml's rust-version says which) with rustfmt and clippy"
