//! Clusters worth measuring, and what is done to their files.

use crate::support::{Cluster, Host};

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

/// A cluster that runs `program`, with all four directories or only the sounds.
pub(crate) fn cluster(program: &str, nodes: usize, directories: usize, more: &str) -> Cluster {
    let config = if directories == 1 { ONE } else { FOUR };
    let builder = Cluster::new().program(program).nodes(nodes).without_asterisk();
    builder.more_config(&format!("{config}{more}")).build()
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
