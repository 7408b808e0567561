//! Connections that outlive a run, so that the next one has no handshake to do.
//!
//! Each is a multiplexing master of ssh in a private directory, which is named after the node and after
//! everything that the connection was made from, so that it is not found with another configuration or key. It is
//! used no longer than [`SshOptions::persist`](super::SshOptions::persist) after it was made, however often:
//! a key that a node no longer lets in works for that long at most.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use openssh::Session;
use rustix::fs::{FlockOperation, flock};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::MOMENT;
use super::command::Target;
use super::control::{Control, entries};

/// Begins the names of these directories; those of single runs begin with a process id.
const PREFIX: &str = "k";

/// A node's connection that may be kept, or may already have been.
pub(super) struct KeptConnection {
    control_dir: PathBuf,
    /// The first part of its directory's name: a hash of the node and the user on it.
    node: String,
    /// The second part: a hash of everything that the connection is made from.
    made_from: String,
}

impl KeptConnection {
    pub(super) fn new(control_dir: &Path, target: &Target<'_>) -> KeptConnection {
        let mut made_from = blake3::Hasher::new();
        for option in target.options() {
            made_from.update(option.as_bytes()).update(b"\n");
        }
        for path in target.files() {
            // A missing file counts as one more state.
            let stamp = fs::metadata(&path).map(|is| (is.ino(), is.size(), is.mtime(), is.mtime_nsec()));
            made_from.update(format!("{} {stamp:?}\n", path.display()).as_bytes());
        }
        made_from.update(target.known_lines().as_bytes());
        let node = blake3::hash(format!("{}\n{}", target.user, target.alias).as_bytes());
        KeptConnection {
            control_dir: control_dir.to_owned(),
            node: short(&node),
            made_from: short(&made_from.finalize()),
        }
    }

    /// A lock to hold while a connection is chosen, made or ended, against other processes and threads.
    pub(super) fn lock(&self) -> io::Result<File> {
        let path = self.control_dir.join(format!("{PREFIX}{}.lock", self.node));
        let file = File::options().create(true).append(true).mode(0o600).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// The connection's own directory, which need not exist yet.
    pub(super) fn control(&self) -> Control {
        Control::kept(self.control_dir.join(format!("{PREFIX}{}-{}", self.node, self.made_from)))
    }

    /// Other connections to the same node, made from a configuration that is no longer valid.
    pub(super) fn outdated(&self) -> anyhow::Result<Vec<Control>> {
        let (ours, prefix) = (self.control(), format!("{PREFIX}{}-", self.node));
        let mut all = kept(&self.control_dir)?;
        all.retain(|control| {
            let name = control.path().file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && control.path() != ours.path()
        });
        Ok(all)
    }
}

/// Long enough to be unique among nodes; a socket's path has to be short.
fn short(hash: &blake3::Hash) -> String {
    hash.to_hex()[..12].to_owned()
}

/// All connections that have been kept.
pub(super) fn kept(control_dir: &Path) -> anyhow::Result<Vec<Control>> {
    let is_kept = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(PREFIX) && path.is_dir()
    };
    Ok(entries(control_dir)?.into_iter().filter(is_kept).map(Control::kept).collect())
}

/// Whether a connection was made less than `persist` ago.
pub(super) fn is_young(control: &Control, persist: Duration, now: SystemTime) -> bool {
    let made = fs::metadata(control.socket()).and_then(|socket| socket.modified());
    made.is_ok_and(|made| now.duration_since(made).is_ok_and(|age| age < persist))
}

/// Tells a master to end with its last stream, and removes its directory.
pub(super) fn end(runtime: &Runtime, control: &Control) {
    if control.socket().exists() {
        let session = Session::resume_mux(control.socket().into(), None);
        // A master that does not answer has ended, or will end by itself.
        let _ = runtime.block_on(async { timeout(MOMENT, session.close()).await });
    }
    let _ = fs::remove_dir_all(control.path());
}
