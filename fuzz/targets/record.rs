//! Honest sessions as inputs: what an agent heard and said, with a real disk behind it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use xds_sync::disk::HeldRoot;
use xds_sync::disk::marker::Marker;
use xds_sync::model::{Digest, Intent, KeptTrees, RelPathBuf, Side, Tree};
use xds_sync::node::{Ended, Endpoint as _, Peer, Remote, agent as node_agent};
use xds_sync::report::status::Status;
use xds_sync::state::{
    ConflictRecord, EdgeHeader, EdgeRecord, Identity, InStep, Ledger, Skip, Skips, StateDir,
};

use super::host::{Host, hello, progress, scratch, spec};

/// Passes bytes on, and keeps them.
struct Tee<'a> {
    stream: &'a UnixStream,
    kept: Vec<u8>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.kept.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.kept.extend_from_slice(bytes);
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

struct Nobody;

impl Peer for Nobody {
    fn ended(&mut self) -> Ended {
        Ended::default()
    }
}

/// What Main says in a run, and what the agent says.
pub(crate) fn session() -> (Vec<u8>, Vec<u8>) {
    let (main, node) = UnixStream::pair().expect("a pair of sockets");
    let serving = std::thread::spawn(move || {
        let mut host = Host::new();
        let accept = host.accept();
        let mut heard = Tee { stream: &node, kept: Vec::new() };
        let mut said = Tee { stream: &node, kept: Vec::new() };
        node_agent::serve(&mut heard, &mut said, &mut host, &accept, &progress()).expect("an honest session");
        host.check();
        (heard.kept, said.kept)
    });
    let end = || main.try_clone().expect("a socket").into();
    let met = Remote::new(end(), end(), Box::new(Nobody), &hello(), Duration::from_secs(60));
    super::remote::run(&mut met.expect("an agent")).expect("an honest session");
    drop(main);
    serving.join().expect("an agent that ends")
}

/// A tree as it is encoded.
pub(crate) fn tree() -> Vec<u8> {
    scanned().0.encode()
}

/// A tree, and the cache of its digests as it lies on disk.
fn scanned() -> (Arc<Tree>, Vec<u8>) {
    let mut host = Host::new();
    host.scan(&spec()).expect("a scan");
    let caches = fs::read_dir(host.path().join("cache")).expect("a cache").flatten();
    let cache = caches.map(|entry| fs::read(entry.path()).expect("a cache")).next().expect("one cache");
    (host.tree("moh", None).expect("a tree"), cache)
}

/// Every file that is remembered between runs, behind the byte that tells the target which it is.
pub(crate) fn files() -> Vec<(&'static str, Vec<u8>)> {
    let dir = scratch();
    let state = StateDir::open(dir.path()).expect("a state directory");
    let id = || "01KQ0000000000000000000009".to_owned();
    let (tree, cache) = scanned();
    let in_step = Some(InStep { main: Digest([2; 32]), node: Digest([3; 32]) });
    let intent = Intent { goal: Tree::clone(&tree), ..Intent::default() };
    let header =
        EdgeHeader { root: id(), generation: Some(id()), rules: Digest([1; 32]), agreed: true, in_step };
    let kept = KeptTrees { node: Tree::clone(&tree), ..KeptTrees::default() };
    let edge = EdgeRecord::new(header, &tree, &kept, Some(&intent));
    state.save_edge("moh", "mds1", &edge).expect("an edge");
    let mut ledger = Ledger::default();
    ledger.roots.insert("moh".to_owned(), id());
    let path = || RelPathBuf::new(&b"a\xff.wav"[..]).expect("a path");
    ledger.set_skips(
        "moh",
        "mds1",
        Skips::of([Skip { path: path(), side: Side::Node, reason: "a socket".to_owned() }]),
    );
    let conflict = ConflictRecord {
        directory: "moh".to_owned(),
        path: path(),
        since: "2026-01-02T03:04:05Z".to_owned(),
        winner: None,
        decided: None,
        keep: None,
        versions: Vec::new(),
    };
    ledger.set_conflicts("moh", std::iter::once(conflict));
    state.save_ledger(&ledger).expect("a ledger");
    state.save_identity(&Identity { id: id(), epoch: 3 }).expect("an identity");
    let root = HeldRoot::open(dir.path()).expect("a root");
    Marker { id: id(), generation: Some(id()) }.write(&root).expect("a marker");
    let read = |path: &str| fs::read(dir.path().join(path)).expect("what was written");
    let files = [
        ("edge", read("edges/moh/mds1")),
        ("ledger", read("ledger.json")),
        ("identity", read("identity.json")),
        ("marker", read(".xds-sync/root.json")),
        ("cache", cache),
        ("status", Status::default().to_json().into_bytes()),
        ("ssh_config", b"Host mds1\n  Ciphers aes128-ctr\nInclude ~/.ssh/more\n".to_vec()),
    ];
    let numbered = files.into_iter().zip(0u8..);
    numbered.map(|((name, bytes), kind)| (name, [&[kind][..], &bytes].concat())).collect()
}
