# Turns the namespaces it is started in (mount, PID, network, UTS, IPC) into one host, starts the host's
# daemons, and then holds the host until its stdin is closed: this shell is PID 1 here, so that its end, even
# that of the test that started it, ends and unmounts everything.
#
# Started as `bash -c 'eval "$SCRIPT"'`, so that this text is on no command line that a test might search.
# Environment: NAME, ADDRESS, HOSTS (lines of /etc/hosts), NEIGHBOURS (lines for `ip -batch`), PROGRAM (path or empty), SERVICE (the text of
# service.sh), START (daemons to start), ASTERISK_22 (a root with Asterisk 22 to use, or empty), LINKS (yes: XiVO's links), KEY (yes: make Main's key pair).
set -euo pipefail
umask 022
cd / # the working directory may be covered below

# /proc is still the machine's here, which is why this is the number that nsenter wants.
read -r pid _ </proc/self/stat
echo "pid $pid"

# --- its own files -----------------------------------------------------------------------------------------
# System directories are the machine's with a private layer on top; what xds-sync works on are plain
# directories of a tmpfs, because overlayfs has manners of its own (inode numbers, renames) that no
# administrator's disk has.
mount -t tmpfs -o mode=0755 host /mnt
for dir in etc usr var; do
    mkdir -p "/mnt/layer/$dir" "/mnt/work/$dir"
    mount -t overlay -o "lowerdir=/$dir,upperdir=/mnt/layer/$dir,workdir=/mnt/work/$dir" host "/$dir"
done
# The machine's own, where the package is installed on it.
rm -f /usr/bin/xds-sync
if [ -n "$PROGRAM" ]; then
    # Before /root and /tmp are covered: it may have been built below one of them.
    touch /usr/bin/xds-sync
    mount --bind "$PROGRAM" /usr/bin/xds-sync
fi
root22=
if [ -n "$ASTERISK_22" ]; then
    # Before they are covered, too; and with a layer of this host's on top.
    root22=/usr/lib/asterisk22
    mkdir -p "$root22" /mnt/layer/asterisk22 /mnt/work/asterisk22
    mount -t overlay -o "lowerdir=$ASTERISK_22,upperdir=/mnt/layer/asterisk22,workdir=/mnt/work/asterisk22" host "$root22"
fi
plain="/etc/asterisk /etc/xds-sync /var/lib/asterisk /var/lib/xivo /var/lib/xds-sync /var/log /var/spool
    /var/tmp /root /tmp /run /srv /home"
for dir in $plain; do
    mkdir -p "$dir" "/mnt/plain$dir"
    mount --bind "/mnt/plain$dir" "$dir"
done
chmod 0700 /root
chmod 1777 /tmp /var/tmp

mkdir -p /mnt/dev/pts /mnt/dev/shm
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /mnt/dev/
mount --bind /mnt/dev /dev
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts
ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
chmod 1777 /dev/shm

mount -t proc proc /proc
umount --lazy /mnt # the mounts made from it stay

# --- its own names -----------------------------------------------------------------------------------------
hostname "$NAME"
echo "$NAME" >/etc/hostname
printf '127.0.0.1 localhost\n%s\n' "$HOSTS" >/etc/hosts
: >/etc/resolv.conf # no name that is not in /etc/hosts takes time to be not found
# A locked password would make sshd refuse the account, keys and all.
sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow

# --- directories as XiVO has them --------------------------------------------------------------------------
mkdir -p /etc/asterisk/extensions_extra.d /etc/xivo /usr/share/xivo-certs /var/lib/xds-sync \
    /var/log/asterisk /var/spool/asterisk/{db,monitor} /var/spool/cron/crontabs \
    /run/asterisk /run/lock /run/sshd /var/lib/asterisk/{moh,sounds/custom,sounds/meetme}
if [ "$LINKS" = yes ]; then
    mkdir -p /var/lib/xivo/sounds
    ln -s /var/lib/asterisk/moh /var/lib/xivo/moh
    ln -s /var/lib/asterisk/sounds/custom /var/lib/xivo/sounds/recordings
    ln -s /var/lib/asterisk/sounds/meetme /var/lib/xivo/sounds/recordings-meetme
    ln -s /var/spool/asterisk/monitor /var/lib/xivo/sounds/monitor
else
    mkdir -p /var/lib/xivo/moh /var/lib/xivo/sounds/recordings
fi
pbx="/etc/asterisk /var/lib/asterisk /var/lib/xivo /var/log/asterisk /var/spool/asterisk /run/asterisk"

# --- Asterisk: the modules that matter here, and nothing that opens a port --------------------------------
# Its database is elsewhere than usual: it is written at any time, and stories compare all else before and after.
cat >/etc/asterisk/asterisk.conf <<'CONF'
[directories]
astetcdir => /etc/asterisk
astvarlibdir => /var/lib/asterisk
astdbdir => /var/spool/asterisk/db
astkeydir => /var/lib/asterisk
astdatadir => /usr/share/asterisk
astagidir => /usr/share/asterisk/agi-bin
astspooldir => /var/spool/asterisk
astrundir => /run/asterisk
astlogdir => /var/log/asterisk
[options]
execincludes = yes
verbose = 4
CONF
cat >/etc/asterisk/modules.conf <<'CONF'
[modules]
autoload = no
load => res_timing_timerfd.so
load => format_wav.so
load => format_gsm.so
load => format_pcm.so
load => res_musiconhold.so
load => app_record.so
load => app_playback.so
load => pbx_config.so
CONF
cat >/etc/asterisk/logger.conf <<'CONF'
[logfiles]
full => notice,warning,error,verbose
CONF
# As in XiVO, both configurations come from a generator, which Asterisk runs whenever it really loads them:
# what the generator writes down is the count of reloads that nothing can fake or miss.
cat >/etc/asterisk/extensions.conf <<'CONF'
#exec /usr/local/sbin/confgen dialplan
#include extensions_extra.d/*
CONF
cat >/etc/asterisk/musiconhold.conf <<'CONF'
#exec /usr/local/sbin/confgen moh
CONF
cat >/usr/local/sbin/confgen <<'CONFGEN'
#!/bin/sh
# The load at Asterisk's start is no reload.
[ -e /run/asterisk/starting ] || echo "$(date +%s%N) $1" >>/var/log/asterisk/reloads
case $1 in
dialplan) printf '[general]\nstatic = yes\n[default]\nexten => 100,1,NoOp(from the database)\n' ;;
moh) printf '[default]\nmode = files\ndirectory = /var/lib/xivo/moh/default\n' ;;
esac
CONFGEN
chmod 0755 /usr/local/sbin/confgen
if [ -n "$root22" ]; then
    # It runs in a root of its own, with the directories and users of this host: paths, pids and sockets are the same.
    for dir in /etc/asterisk /var/lib/asterisk /var/lib/xivo /var/log /var/spool/asterisk /run /tmp /usr/local/sbin \
        /proc /dev; do
        mkdir -p "$root22$dir"
        mount --rbind "$dir" "$root22$dir"
    done
    cp /etc/passwd /etc/group "$root22/etc/"
    printf '#!/bin/sh\nexec chroot %s /usr/sbin/asterisk "$@"\n' "$root22" >/usr/local/lib/asterisk
    chmod 0755 /usr/local/lib/asterisk
    mount --bind /usr/local/lib/asterisk /usr/sbin/asterisk
fi
case " $START " in
*' asterisk '*)
    # Asterisk gives up on an #include that finds nothing. This name is one that is never synchronised.
    echo '; dialplan of this host alone' >/etc/asterisk/extensions_extra.d/xds_override-host.conf
    ;;
esac
# shellcheck disable=SC2086
chown -R asterisk:www-data $pbx
# shellcheck disable=SC2086
find $pbx -type d -exec chmod 2775 {} + -o -type f -exec chmod 0664 {} +
# The links are made by root, in directories that Asterisk's user owns.
find /var/lib/xivo -type l -exec chown -h root:root {} +

# --- sshd and syslog ---------------------------------------------------------------------------------------
rm -rf /etc/ssh/ssh_host_* /etc/ssh/sshd_config.d /etc/ssh/ssh_config.d
ssh-keygen -q -t ed25519 -N '' -C "root@$NAME" -f /etc/ssh/ssh_host_ed25519_key
cat >/etc/ssh/sshd_config <<'CONF'
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PidFile /run/sshd.pid
MaxStartups 100
Subsystem sftp internal-sftp
CONF
install -d -m 0700 /root/.ssh
if [ "$KEY" = yes ]; then
    ssh-keygen -q -t ed25519 -N '' -C "xds-sync from $NAME" -f /root/.ssh/rsync_xds
fi
cat >/etc/rsyslog.conf <<'CONF'
module(load="imuxsock" SysSock.RateLimit.Interval="0")
*.* action(type="omfile" file="/var/log/syslog")
CONF

# --- started -----------------------------------------------------------------------------------------------
printf '%s' "$SERVICE" >/usr/local/sbin/service-of-host
chmod 0755 /usr/local/sbin/service-of-host
export -n NAME ADDRESS HOSTS NEIGHBOURS PROGRAM SERVICE START ASTERISK_22 LINKS KEY SCRIPT
starting=()
for service in $START; do
    /usr/local/sbin/service-of-host start "$service" </dev/null >&2 &
    starting+=($!)
done

# The bed has plugged the cable in once it writes this line.
read -r _
ip -batch - <<IP
link set lo up
link set eth0 up
address add $ADDRESS/24 dev eth0
$NEIGHBOURS
IP
for job in "${starting[@]}"; do
    wait "$job"
done
echo ready
# Ends when the pipe is closed; bash reaps whatever is orphaned meanwhile.
read -r _ || true
