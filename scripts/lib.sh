# Shared by the scripts beside it, which source it.

# A toolchain that rustup has just installed is on no PATH yet.
command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

step() { printf '\n==> %s\n' "$*"; }

die() {
    echo "$0: $*" >&2
    exit 1
}

command -v cargo >/dev/null ||
    die "no cargo: install a Rust toolchain first (Cargo.toml's rust-version says which) with rustfmt and clippy"
