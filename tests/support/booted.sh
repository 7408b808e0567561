# One host that systemd has booted, for what is about services: a clean Debian (ROOT, from scripts/debian-root) with no
# network but its own. Started as host.sh is; ends, with all that is in it, when stdin is closed.
set -euo pipefail
cd /

# Beside the processes' numbers that systemd-nspawn sees, the machine's, which the bed wants.
mount -t tmpfs host /mnt
mkdir /mnt/proc
mount --bind /proc /mnt/proc
mount -t proc proc /proc
read -r shell _ </mnt/proc/self/stat

# Its own layer over the root is in memory. --register, --keep-unit: the machine itself need not run systemd.
systemd-nspawn --quiet --directory="$ROOT" --volatile=overlay --hostname="$NAME" --private-network --register=no \
    --keep-unit --boot --console=pipe </dev/null >&2 &
own=$!
# first_child PROC PID: the file has no line end, for which `read` has a word of its own.
first_child() { read -r child _ <"$1/$2/task/$2/children" || true; }
is_booting() {
    first_child /mnt/proc "$shell"
    first_child /mnt/proc "$child"
    [ -n "$child" ] && [ "$(cat "/mnt/proc/$child/comm")" = systemd ]
}
until is_booting; do sleep 0.05; done
echo "pid $child"

first_child /proc "$own"
# "degraded": something that cannot be in a namespace has failed.
is_up() {
    state=$(nsenter --target="$child" --all systemctl is-system-running --wait 2>/dev/null || true)
    [ "$state" = running ] || [ "$state" = degraded ]
}
until is_up; do sleep 0.05; done
echo ready
read -r _ || true

# Control groups alone would outlive this shell: they are the machine's.
kill -KILL "$child"
wait "$own" || true
find /sys/fs/cgroup -depth -type d \( -path '*/payload*' -o -path '*/supervisor*' \) -exec rmdir {} + 2>/dev/null || true
