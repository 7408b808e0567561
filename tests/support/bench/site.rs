//! Clusters worth measuring, and what is done to their files.

use std::time::Duration;

use crate::support::{Cluster, Host, eventually};

pub(crate) const DIALPLAN: &str = "/etc/asterisk/extensions_extra.d";
pub(crate) const MOH: &str = "/var/lib/xivo/moh";
pub(crate) const SOUNDS: &str = "/var/lib/xivo/sounds";
pub(crate) const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";
pub(crate) const DIRECTORIES: [&str; 4] = [DIALPLAN, MOH, SOUNDS, RECORDINGS];

/// The four directories as they are built in, but for the reloads: these hosts have no Asterisk, for no
/// contender.
const FOUR: &str = r#"
[[directory]]
name = "dialplan"
path = "/etc/asterisk/extensions_extra.d"
[[directory]]
name = "moh"
path = "/var/lib/xivo/moh"
[[directory]]
name = "sounds"
path = "/var/lib/xivo/sounds"
[[directory]]
name = "recordings"
path = "/var/lib/xivo/sounds/recordings"
direction = "both"
"#;

/// One directory alone, so that a single call of rsync does the same.
const ONE: &str = "[[directory]]\nname = \"sounds\"\npath = \"/var/lib/xivo/sounds\"\n";

/// A cluster that runs `program`, with all four directories or only the sounds. `config` takes the place of what Main is
/// told of its nodes.
pub(crate) fn cluster(
    program: &str,
    nodes: usize,
    directories: usize,
    config: Option<&str>,
    more: &str,
) -> Cluster {
    let written = if directories == 1 { ONE } else { FOUR };
    let builder = Cluster::new().program(program).nodes(nodes).without_asterisk();
    let builder = match config {
        Some(config) => builder.config(config),
        None => builder,
    };
    builder.more_config(&format!("{written}{more}")).build()
}

/// A telephone system: a few dialplan files, some music, many announcements, and as many recordings.
pub(crate) fn telephony(main: &Host, files: usize, bytes: usize) {
    main.write_settled(format!("{DIALPLAN}/10-doors.conf"), "[doors]\nexten => 7,1,Hangup()\n");
    fill(main, MOH, 6, 5_000_000);
    fill(main, SOUNDS, files / 2, bytes);
    fill(main, RECORDINGS, files - files / 2, bytes);
}

/// Files of a thousand to a directory, none like another, an hour old. They do not compress.
pub(crate) fn fill(host: &Host, root: &str, files: usize, bytes: usize) {
    host.sh(format!(
        "python3 - <<'PYTHON'\nimport os, time\nblock = os.urandom({bytes})\nold = time.time() - 3600\n\
         for n in range({files}):\n    d = '{root}/d%d' % (n // 1000)\n    os.makedirs(d, exist_ok=True)\n    \
         p = d + '/f%d.wav' % (n % 1000)\n    b = n.to_bytes(8, 'little')\n    \
         open(p, 'wb').write(b''.join((b, block))[:{bytes}])\n    os.utime(p, (old, old))\nPYTHON"
    ))
    .ok();
}

/// Makes nodes as if nothing had ever come to them.
pub(crate) fn empty(nodes: &[Host]) {
    for node in nodes {
        for directory in DIRECTORIES {
            node.sh(format!("mkdir -p {directory} && find {directory} -mindepth 1 -delete")).ok();
        }
    }
}

/// What a user may do on his host, as scripts of bash; they make `/tmp/made` when it is done, and go on holding what is to
/// be held.
pub(crate) const ATTACKS: [(&str, &str); 7] = [
    ("nobody does anything", "touch /tmp/made; sleep 3600"),
    (
        "10 MB of deep names",
        "cd /var/lib/xivo/sounds/recordings && python3 -c '
import os
for n in range(12):
    os.mkdir(\"n\" * 250); os.chdir(\"n\" * 250)
for n in range(400000):
    os.symlink(\"x\", str(n))
' && touch /tmp/made; sleep 3600",
    ),
    (
        "1,000,000 links",
        "cd /var/lib/xivo/sounds/recordings && python3 -c '
import os
for n in range(1000000):
    os.symlink(\"/\", str(n))
' && touch /tmp/made; sleep 3600",
    ),
    (
        "1,000,000 tiny files",
        "cd /var/lib/xivo/sounds && python3 -c '
import os, time
for n in range(1000000):
    if n % 1000 == 0: os.mkdir(\"t%d\" % n); d = \"t%d/\" % n
    f = os.open(d + str(n), os.O_CREAT | os.O_WRONLY); os.write(f, b\"xy\"); os.close(f)
' && touch /tmp/made; sleep 3600",
    ),
    (
        "1,000,000 tiny recordings",
        "cd /var/lib/xivo/sounds/recordings && python3 -c '
import os
for n in range(1000000):
    if n % 1000 == 0: os.mkdir(\"t%d\" % n); d = \"t%d/\" % n
    f = os.open(d + str(n), os.O_CREAT | os.O_WRONLY); os.write(f, b\"xy\"); os.close(f)
' && touch /tmp/made; sleep 3600",
    ),
    (
        "a sparse file of 15 TB",
        "cd /var/lib/xivo/sounds/recordings && truncate -s 15T t.wav && touch -d '1 hour ago' t.wav /tmp/made; sleep 3600",
    ),
    (
        "leases on 100 files",
        "cd /var/lib/xivo/sounds/recordings && python3 -c '
import fcntl, os, signal, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
held = []
for n in range(100):
    f = open(\"leased%d.wav\" % n, \"w+\"); f.write(\"leased\"); f.flush(); held.append(f)
    os.utime(f.name, (1, 1)); fcntl.fcntl(f, 1024, 1)
open(\"/tmp/made\", \"w\")
time.sleep(3600)
'",
    ),
];

/// Waits until an attack is made.
pub(crate) fn is_made(host: &Host) {
    eventually("the attack is made", Duration::from_secs(600), || host.exists("/tmp/made"));
}
