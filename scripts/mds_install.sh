#!/bin/sh
# Makes this host a media server that an xds-sync Main keeps in step: installs xds-sync, and joins.
#
# POSIX sh; needs curl or wget where something is to be fetched. 'xds-sync init' on Main prints a line that fetches
# this script, checks it against its SHA-256 and runs it.
set -eu

# Root's PATH may be anybody's. Nothing that this script runs is looked for elsewhere.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH

target=/usr/bin/xds-sync
# SHA-256 of the program that Main hands out. Main fills it in where it hands out this script.
program_sum=
# Limits of a download: the program has some 15 MiB.
max_bytes=134217728
max_seconds=600

die() {
    echo "mds_install.sh: $*" >&2
    exit 1
}

usage() {
    cat <<'USAGE'
mds_install.sh [--binary FILE|URL] [--sha256 SUM] --fingerprint SHA256:… MAIN

MAIN is a host, or host:port. Without --binary the program comes from Main itself. Only the program with this SHA-256
is installed; the script that Main hands out knows it. 'xds-sync init' on Main prints the fingerprint. Run again, it
changes nothing.
USAGE
}

misused() {
    usage >&2
    exit 1
}

binary='' sum='' fingerprint='' main=''
while [ $# -gt 0 ]; do
    case $1 in
    --binary | --sha256 | --fingerprint)
        [ $# -gt 1 ] || die "$1 needs a value"
        case $1 in
        --binary) binary=$2 ;;
        --sha256) sum=$2 ;;
        --fingerprint) fingerprint=$2 ;;
        esac
        shift 2
        ;;
    --help | -h)
        usage
        exit 0
        ;;
    -*) misused ;;
    *)
        [ -z "$main" ] || misused
        main=$1
        shift
        ;;
    esac
done
[ -n "$main" ] && [ -n "$fingerprint" ] || misused
# Before anything is fetched or installed: 43 digits of base64.
digits=${fingerprint#SHA256:}
case $digits in
"$fingerprint" | *[!A-Za-z0-9+/]*) digits= ;;
esac
[ ${#digits} -eq 43 ] || die "--fingerprint: expected SHA256:…, as 'xds-sync init' prints it on Main; nothing was installed"
sum=$(echo "${sum:-$program_sum}" | tr A-F a-f)
case $sum in
*[!0-9a-f]*) die "--sha256: expected 64 hexadecimal digits" ;;
esac
[ -z "$sum" ] || [ ${#sum} -eq 64 ] || die "--sha256: expected 64 hexadecimal digits"
[ "$(id -u)" = 0 ] || die "run this as root: it installs $target, and edits root's authorized_keys"

sha256() {
    sha256sum "$1" | cut -d ' ' -f 1
}

# Writes what is at a URL to stdout. The server is not trusted: the checksum decides. Redirects are not followed.
fetch() {
    if command -v curl >/dev/null; then
        curl --disable --silent --show-error --fail --insecure --proto '=https' --max-time "$max_seconds" "$1"
    else
        timeout "$max_seconds" wget --no-config --no-verbose --no-check-certificate --https-only --max-redirect=0 \
            --tries=1 --output-document=- "$1"
    fi
}

# Writes at most one byte more than the limit to the file $new.
get() {
    case $binary in
    https://*)
        command -v curl >/dev/null || command -v wget >/dev/null ||
            die "neither curl nor wget is here; copy the program to this host and name it: --binary FILE"
        fetch "$binary" | head -c $((max_bytes + 1)) >"$new"
        ;;
    *://*) die "--binary: only https:// is fetched" ;;
    *) head -c $((max_bytes + 1)) <"$binary" >"$new" || die "$binary cannot be read" ;;
    esac
}

# Dies unless the file $new is the program that is meant, and runs here.
check() {
    size=$(wc -c <"$new")
    [ "$size" -gt 0 ] || die "nothing came from $binary; nothing was installed"
    [ "$size" -le "$max_bytes" ] || die "more than $max_bytes bytes came from $binary; nothing was installed"
    found=$(sha256 "$new")
    [ "$found" = "$sum" ] || die "what came from $binary has SHA-256 $found and not $sum; nothing was installed"
    [ "$(head -c 4 "$new" | od -A n -t x1 | tr -d ' ')" = 7f454c46 ] ||
        die "what came from $binary is no program; nothing was installed"
    chmod 755 "$new"
    version=$(timeout 60 "$new" --version 2>/dev/null </dev/null) ||
        die "what came from $binary does not run on this host ($(uname -m)); nothing was installed"
    case $version in
    "xds-sync "*) ;;
    *) die "what came from $binary is not xds-sync; nothing was installed" ;;
    esac
}

install_program() {
    # Beside its place, so that it comes there in one step.
    new=$(mktemp "$(dirname "$target")/.xds-sync.XXXXXX")
    trap 'rm -f "$new"' EXIT
    trap 'exit 1' HUP INT TERM
    get
    check
    sync "$new"
    mv -f "$new" "$target"
    trap - EXIT
    echo "installed $target: $version"
}

if [ -z "$sum" ]; then
    [ -x "$target" ] && [ -z "$binary" ] || die "--sha256 SUM is needed: nothing is installed that was not checked"
elif [ -e "$target" ] && [ "$(sha256 "$target")" = "$sum" ]; then
    : # It is installed already.
elif dpkg-query -S "$target" >/dev/null 2>&1; then
    echo "$target is of a Debian package, and stays: upgrade that with apt" >&2
else
    binary=${binary:-https://${main#https://}/xds-sync/xds-sync}
    install_program
fi
exec "$target" join --fingerprint "$fingerprint" "$main"
