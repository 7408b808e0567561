//! The two ends of a session with a host in memory.

use std::io::{Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::model::{Direction, ReloadOutcome, ReloadState};
use crate::node::{
    Accept, Ended, Endpoint as _, Hello, Local, LocalOptions, NodeError, Peer, Refusal, Remote, agent,
};
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
        complete: Vec::new(),
        hold_young: false,
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

/// A session with a host on disk, whose answers are counted in bytes.
pub(super) fn session_with_local(
    dir: &Path,
    sent: Arc<AtomicU64>,
) -> (Remote, JoinHandle<Result<(), NodeError>>) {
    let (main, node) = UnixStream::pair().unwrap();
    let (mut host, accept) = (local(&dir.join("host")), accept(dir));
    let served = std::thread::spawn(move || {
        let output = CountedOutput(&node, &sent);
        agent::serve(&node, output, &mut host, &accept, &AtomicU64::new(0))
    });
    (begun(&main, &hello(), LONG).unwrap(), served)
}

struct CountedOutput<'a>(&'a UnixStream, &'a AtomicU64);

impl Write for CountedOutput<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A host on disk, with its caches in `dir`.
pub(super) fn local(dir: &Path) -> Local {
    Local::new(options(dir))
}

pub(super) fn options(dir: &Path) -> LocalOptions {
    LocalOptions {
        cache_dir: dir.join("cache"),
        // Long after everything in the test: no file is too young to be carried.
        clock: Box::new(|| SystemTime::now() + Duration::from_secs(3600)),
        new_id: Box::new(|| "01KQ0000000000000000000009".to_owned()),
        reload: Box::new(|request| ReloadOutcome {
            name: request.name.clone(),
            state: ReloadState::Done,
            detail: None,
        }),
        replace_key: Box::new(|_| Err(Refusal::new("not here"))),
        progress: Arc::default(),
        stop: Arc::default(),
        limits: Default::default(),
        watch_limits: Default::default(),
    }
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
