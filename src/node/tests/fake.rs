//! The two ends of a session with a host in memory.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::model::Direction;
use crate::node::{Accept, Ended, Endpoint as _, Hello, NodeError, Peer, Remote, agent};
use crate::snapshot::ScanSpec;
use crate::transfer::BlobRequest;

#[path = "../../../tests/support/fake_host.rs"]
#[allow(unreachable_pub)]
mod fake_host;

pub(super) use fake_host::*;

/// Long enough that no test meets it by chance.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// Short enough to wait for.
pub(super) const SHORT: Duration = Duration::from_millis(200);

pub(super) fn wanted(at: &str, content: &[u8]) -> BlobRequest {
    BlobRequest { path: path(at), digest: digest(content), size: content.len() as u64, offset: 0 }
}

pub(super) fn spec(root: &Path) -> ScanSpec {
    ScanSpec {
        directory: "moh".to_owned(),
        root: root.to_owned(),
        direction: Direction::Push,
        exclude: vec!["*.bak".to_owned()],
        other_roots: vec![],
        settle: Duration::from_secs(2),
        checksum: false,
    }
}

pub(super) fn hello() -> Hello {
    Hello { main: "01MAIN".to_owned(), epoch: 1, name: "main".to_owned() }
}

/// A node that accepts what is below a directory, and records its Main there.
pub(super) fn accept(dir: &Path) -> Accept {
    let file = dir.join("node.toml");
    let text = format!(
        "roots = ['{0}/roots']\nstate_dir = '{0}/state'\n[reload]\ndialplan = ['true']\n",
        dir.display()
    );
    std::fs::write(&file, text).unwrap();
    Accept::read(&file).unwrap()
}

pub(super) fn root(dir: &Path) -> PathBuf {
    dir.join("roots/moh")
}

/// A peer of which nothing is known.
pub(super) struct Nobody;

impl Peer for Nobody {
    fn ended(&mut self) -> Ended {
        Ended::default()
    }
}

/// Main's end of a session, in which no run has begun.
pub(super) fn handshake(stream: &UnixStream, hello: &Hello, timeout: Duration) -> Result<Remote, NodeError> {
    let end = || stream.try_clone().unwrap().into();
    Remote::new(end(), end(), Box::new(Nobody), hello, timeout)
}

/// Main's end of a session, with a run that has begun.
pub(super) fn begun(stream: &UnixStream, hello: &Hello, timeout: Duration) -> Result<Remote, NodeError> {
    let mut remote = handshake(stream, hello, timeout)?;
    remote.begin("01RUN", false)?;
    Ok(remote)
}

/// An agent that serves `host` in a thread, which ends with the session.
pub(super) type Served = JoinHandle<(Fake, Result<(), NodeError>)>;

/// Serves `host` on a stream of its own, and returns its other end.
pub(super) fn agent(mut host: Fake, accept: Accept, progress: Arc<AtomicU64>) -> (UnixStream, Served) {
    let (main, node) = UnixStream::pair().unwrap();
    let served = std::thread::spawn(move || {
        let served = agent::serve(&node, &node, &mut host, &accept, &progress);
        (host, served)
    });
    (main, served)
}

/// A session with `host`, with a run that has begun.
pub(super) fn session(host: Fake, dir: &Path) -> (Remote, Served) {
    let (main, served) = agent(host, accept(dir), Arc::default());
    let remote = begun(&main, &hello(), LONG).unwrap();
    (remote, served)
}

/// All that is on a stream until it ends.
pub(super) fn drain(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Counts until it has been read `times` times by whoever awaits progress.
pub(super) fn count(progress: &AtomicU64) -> u64 {
    progress.fetch_add(1, Ordering::Relaxed)
}
