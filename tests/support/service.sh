#!/bin/bash
# service-of-host start|stop syslog|sshd|asterisk|cron|nginx|postgres: returns when the daemon answers, or when it is gone.
set -euo pipefail
cd / # where every user may be

# Polls, for want of anything that a shell could wait on; whoever calls this sets the limit.
await() { until "$@" >/dev/null 2>&1; do sleep 0.01; done; }
gone() { ! kill -0 "$1"; }
terminate() {
    local pid
    pid=$(cat "$1")
    kill "$pid"
    await gone "$pid"
    rm -f "$1"
}

# Debian keeps each version's programs in a directory of its own; the newest serves.
postgres() { runuser -u postgres -- "$(printf '%s\n' /usr/lib/postgresql/*/bin | tail -n 1)/$1" "${@:2}"; }

case "$1 $2" in
'start syslog')
    rsyslogd -i /run/rsyslogd.pid
    await test -S /dev/log
    ;;
'stop syslog') terminate /run/rsyslogd.pid ;;
'start sshd')
    /usr/sbin/sshd
    await test -s /run/sshd.pid
    ;;
'stop sshd')
    # The listener and every connection: what a stopped server looks like from the other side.
    terminate /run/sshd.pid
    pkill -KILL -x sshd || true
    ;;
'start asterisk')
    touch /run/asterisk/starting
    # -F: it goes to the background by itself; as in Debian and XiVO it is not root.
    asterisk -F -U asterisk
    await test -S /run/asterisk/asterisk.ctl
    await asterisk -rx 'core waitfullybooted'
    rm /run/asterisk/starting
    ;;
'stop asterisk')
    pid=$(cat /run/asterisk/asterisk.pid)
    asterisk -rx 'core stop now' >/dev/null
    await gone "$pid"
    ;;
'start cron') cron ;; # it goes to the background when it is ready
'stop cron') terminate /run/crond.pid ;;
'start nginx') nginx ;; # likewise
'stop nginx') terminate /run/nginx.pid ;;
'start postgres')
    # A server of this host's own, with nothing in it at first; local users are who they say.
    data=/var/lib/postgresql/bed
    install -d -o postgres -g postgres /run/postgresql
    install -d -o postgres -g postgres -m 0700 "$data"
    [ -e "$data/PG_VERSION" ] || postgres initdb --auth=trust --no-sync "$data"
    # -w: returns when it answers.
    postgres pg_ctl -w -D "$data" -l "$data/log" -o '-c fsync=off' start || {
        cat "$data/log" >&2
        exit 1
    }
    ;;
'stop postgres')
    postgres pg_ctl -w -D /var/lib/postgresql/bed -m fast stop
    ;;
*)
    echo "service-of-host: $*: unknown" >&2
    exit 64
    ;;
esac
