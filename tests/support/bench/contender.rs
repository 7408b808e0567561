//! What is measured: commands on Main that bring its nodes up to date.

use crate::site::{DIRECTORIES, RECORDINGS, SOUNDS};
use crate::support::Cluster;

const SSH: &str = "ssh -i /root/.ssh/rsync_xds -o BatchMode=yes -o StrictHostKeyChecking=accept-new";

/// One way to do it.
#[derive(Clone)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// A script for Main's bash.
    pub(crate) script: String,
}

pub(crate) fn xds_sync() -> Contender {
    Contender { name: "xds-sync", script: "xds-sync sync --quiet".to_owned() }
}

/// Which the daemon carries out.
pub(crate) fn xds_sync_beside() -> Contender {
    Contender { name: "xds-sync, beside its daemon", ..xds_sync() }
}

/// lsyncd as a daemon for one directory: it is ready once it has said of each node that it is done with it.
pub(crate) fn lsyncd_living(cluster: &Cluster, directory: &str, delay: u32) -> String {
    let mut config = "settings { nodaemon = true, insist = true }\n".to_owned();
    for node in &cluster.nodes {
        config += &format!(
            "sync {{ default.rsync, source = '{directory}', target = '{}:{directory}', delay = {delay}, delete = false, \
             exclude = {{ '.xds-sync', 'recordings' }}, rsync = {{ archive = true, rsh = '{SSH}' }} }}\n",
            node.address
        );
    }
    format!(
        "cat >/tmp/lsyncd.lua <<'LUA'\n{config}LUA\nexec stdbuf -oL lsyncd -nodaemon /tmp/lsyncd.lua 2>&1"
    )
}

/// What the original does for each node, one after the other: a push of every directory, a pull of the
/// recordings.
pub(crate) fn script(cluster: &Cluster) -> Contender {
    let mut script = "set -e\n".to_owned();
    for node in &cluster.nodes {
        let address = &node.address;
        for directory in DIRECTORIES {
            let outer = if directory == SOUNDS { "--exclude=/recordings" } else { "" };
            script += &format!(
                "rsync -a --exclude='xds_override*' --exclude=/.xds-sync {outer} -e '{SSH}' {directory}/ \
                 {address}:{directory}/\n"
            );
        }
        script +=
            &format!("rsync -a --exclude=/.xds-sync -e '{SSH}' {address}:{RECORDINGS}/ {RECORDINGS}/\n");
    }
    Contender { name: "the script", script }
}

/// The pass over everything that lsyncd begins with: an rsync for each directory and node, all at once. It says when
/// each is done; what it does afterwards, on changes, is no run that ends.
pub(crate) fn lsyncd(cluster: &Cluster) -> Contender {
    let mut config = "settings { nodaemon = true, insist = true }\n".to_owned();
    for node in &cluster.nodes {
        for directory in DIRECTORIES {
            config += &format!(
                "sync {{ default.rsync, source = '{directory}', target = '{}:{directory}', delete = false, \
                 exclude = {{ '.xds-sync', 'xds_override*' }}, rsync = {{ archive = true, rsh = '{SSH}' }} }}\n",
                node.address
            );
        }
    }
    let syncs = cluster.nodes.len() * DIRECTORIES.len();
    let script = format!(
        "cat >/tmp/lsyncd.lua <<'LUA'\n{config}LUA\nexec 3< <(exec stdbuf -oL lsyncd -nodaemon /tmp/lsyncd.lua 2>&1)\n\
         grep -m {syncs} -c 'Startup of .* finished' <&3 >/tmp/lsyncd.count\nkill $!\n\
         [ $(cat /tmp/lsyncd.count) = {syncs} ]"
    );
    Contender { name: "lsyncd, first pass", script }
}

/// One call, for one directory and one node.
pub(crate) fn rsync(cluster: &Cluster) -> Contender {
    let address = &cluster.nodes[0].address;
    let script = format!("rsync -a --delete --exclude=/.xds-sync -e '{SSH}' {SOUNDS}/ {address}:{SOUNDS}/");
    Contender { name: "rsync -a --delete", script }
}

/// Fetches from what [`rclone_serve`] serves on Main.
pub(crate) fn rclone_http() -> Contender {
    let script =
        format!("rclone -q sync --exclude '/.xds-sync/**' --http-url http://main:8080 :http: {SOUNDS}");
    Contender { name: "rclone sync, over plain http", script }
}

/// For [`rclone_http`].
pub(crate) fn rclone_serve() -> String {
    format!("rclone -q serve http --addr 0.0.0.0:8080 {SOUNDS}")
}

/// The bare stream: nothing is compared, verified, or put in place at once.
pub(crate) fn tar(cluster: &Cluster) -> Contender {
    let address = &cluster.nodes[0].address;
    let script =
        format!("tar -C {SOUNDS} --exclude=./.xds-sync -cf - . | {SSH} {address} tar -C {SOUNDS} -xf -");
    Contender { name: "tar, ssh, tar", script }
}

/// Both ways by nature, with an archive of its own.
pub(crate) fn unison(cluster: &Cluster) -> Contender {
    let address = &cluster.nodes[0].address;
    let options =
        "-batch -silent -times -owner -group -perms -1 -confirmbigdel=false -ignore 'Path .xds-sync'";
    let arguments = SSH.strip_prefix("ssh ").unwrap_or(SSH);
    let script = format!("unison {SOUNDS} ssh://root@{address}/{SOUNDS} {options} -sshargs '{arguments}'");
    Contender { name: "unison", script }
}

/// The handshake alone, with all nodes at once.
pub(crate) fn bare_ssh(cluster: &Cluster) -> Contender {
    let each = cluster.nodes.iter().map(|node| format!("{SSH} {} true & ", node.address));
    Contender { name: "bare ssh to all nodes", script: each.collect::<String>() + "wait" }
}
