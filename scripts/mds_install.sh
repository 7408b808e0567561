#!/bin/sh
# Makes this host a media server that an xds-sync Main keeps in step: installs xds-sync, and joins.
#
#   mds_install.sh [--binary FILE|URL] [--sha256 SUM] --fingerprint SHA256:… MAIN
#
# MAIN is a host, or host:port. Without --binary the program comes from Main itself, unless it is installed
# already. 'xds-sync init' on Main prints SUM and the fingerprint. Run again, it changes nothing.
#
# POSIX sh; needs curl or wget where something is to be fetched.
set -eu

target=/usr/bin/xds-sync
binary= sum= fingerprint= main=

die() {
    echo "mds_install.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 1
}

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
    -*) usage ;;
    *)
        [ -z "$main" ] || usage
        main=$1
        shift
        ;;
    esac
done
[ -n "$main" ] && [ -n "$fingerprint" ] || usage
case $fingerprint in
SHA256:*) ;;
*) die "--fingerprint: expected SHA256:…, as 'xds-sync init' prints it on Main" ;;
esac
case $sum in
*[!0-9a-fA-F]*) die "--sha256: expected 64 hexadecimal digits" ;;
esac
[ -z "$sum" ] || [ ${#sum} -eq 64 ] || die "--sha256: expected 64 hexadecimal digits"
[ "$(id -u)" = 0 ] || die "run this as root: it installs $target, and edits root's authorized_keys"

# With a checksum the server need not be trusted; without one it must be.
fetch() {
    if command -v curl >/dev/null 2>&1; then
        curl --silent --show-error --fail --max-time 300 --proto '=https' ${sum:+--insecure} --output "$2" "$1"
    elif command -v wget >/dev/null 2>&1; then
        wget --quiet --timeout=60 --tries=2 ${sum:+--no-check-certificate} -O "$2" "$1"
    else
        die "neither curl nor wget is here; copy the program to this host and name it: --binary FILE"
    fi
}

install_program() {
    # Beside its place, so that it comes there in one step.
    new=$(mktemp "$(dirname "$target")/.xds-sync.XXXXXX")
    trap 'rm -f "$new"' EXIT
    trap 'exit 1' HUP INT TERM
    case $binary in
    https://*) fetch "$binary" "$new" || die "$binary could not be fetched; --sha256 SUM allows an untrusted certificate" ;;
    *://*) die "--binary: only https:// is fetched" ;;
    *) cat "$binary" >"$new" || die "$binary cannot be read" ;;
    esac
    if [ -n "$sum" ]; then
        found=$(sha256sum "$new" | cut -d ' ' -f 1)
        wanted=$(echo "$sum" | tr A-F a-f)
        [ "$found" = "$wanted" ] || die "what came from $binary has SHA-256 $found and not $wanted; nothing was installed"
    fi
    chmod 755 "$new"
    version=$("$new" --version 2>/dev/null) || die "what came from $binary does not run on this host ($(uname -m)); nothing was installed"
    mv -f "$new" "$target"
    trap - EXIT
    echo "installed $target: $version"
}

if [ -n "$binary" ] || ! command -v xds-sync >/dev/null 2>&1; then
    [ -n "$binary" ] || binary=https://${main#https://}/xds-sync/xds-sync
    install_program
fi
exec xds-sync join --fingerprint "$fingerprint" "$main"
