# Like host.sh, but the host is a clean Debian (scripts/debian-root): nothing of the machine's is to be seen in it,
# and nothing is prepared but its name, its cable, sshd and syslog. This shell is PID 1 there until its stdin is closed.
#
# Environment: NAME, ADDRESS, HOSTS, NEIGHBOURS, SERVICE, START as for host.sh; ROOT (the clean Debian).
set -euo pipefail
umask 022
cd /

# /proc is still the machine's here, which is why this is the number that nsenter wants.
read -r pid _ </proc/self/stat
echo "pid $pid"

# --- its own files -----------------------------------------------------------------------------------------
mount -t tmpfs -o mode=0755 host /mnt
mkdir /mnt/root /mnt/layer /mnt/work
mount -t overlay -o "lowerdir=$ROOT,upperdir=/mnt/layer,workdir=/mnt/work" host /mnt/root
# As in host.sh: what xds-sync works on are directories of a plain filesystem.
for dir in etc/asterisk var/lib/asterisk var/lib/xivo run tmp; do
    mkdir -p "/mnt/root/$dir" "/mnt/plain/$dir"
    mount --bind "/mnt/plain/$dir" "/mnt/root/$dir"
done
chmod 1777 /mnt/root/tmp

mkdir -p /mnt/dev/pts /mnt/dev/shm
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /mnt/dev/
mount --bind /mnt/dev /mnt/root/dev
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts /mnt/root/dev/pts
ln -s pts/ptmx /mnt/root/dev/ptmx
ln -s /proc/self/fd /mnt/root/dev/fd
chmod 1777 /mnt/root/dev/shm
mount -t proc proc /mnt/root/proc

# From here on everything is the clean Debian's.
cd /mnt/root
pivot_root . .
umount --lazy .
cd /

# --- its own names, sshd and syslog ------------------------------------------------------------------------
hostname "$NAME"
echo "$NAME" >/etc/hostname
printf '127.0.0.1 localhost\n%s\n' "$HOSTS" >/etc/hosts
: >/etc/resolv.conf # no name that is not in /etc/hosts takes time to be not found
mkdir -p /run/lock /run/sshd
ssh-keygen -q -t ed25519 -N '' -C "root@$NAME" -f /etc/ssh/ssh_host_ed25519_key
cat >/etc/ssh/sshd_config.d/bed.conf <<'CONF'
PidFile /run/sshd.pid
UsePAM no
UseDNS no
CONF
# The kernel's log is the machine's.
cat >/etc/rsyslog.conf <<'CONF'
module(load="imuxsock" SysSock.RateLimit.Interval="0")
*.* action(type="omfile" file="/var/log/syslog")
CONF

# --- started -----------------------------------------------------------------------------------------------
printf '%s' "$SERVICE" >/usr/local/sbin/service-of-host
chmod 0755 /usr/local/sbin/service-of-host
start=$START
neighbours=$NEIGHBOURS
address=$ADDRESS
unset NAME ADDRESS HOSTS NEIGHBOURS SERVICE START ROOT SCRIPT
for service in $start; do
    /usr/local/sbin/service-of-host start "$service" </dev/null >&2
done

# The bed has plugged the cable in once it writes this line.
read -r _
ip -batch - <<IP
link set lo up
link set eth0 up
address add $address/24 dev eth0
$neighbours
IP
echo ready
# Ends when the pipe is closed; bash reaps whatever is orphaned meanwhile.
read -r _ || true
