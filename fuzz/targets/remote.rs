//! Main and a node that may say anything: what Main takes from it is harmless, and every call ends.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use xds_sync::model::{Action, Digest, Entry, Outcome, Owner, RelPathBuf, Step, TrashKeep, Tree};
use xds_sync::node::{Ended, NodeError, NodeSession, Peer, Refusal, Remote};
use xds_sync::reload::ReloadRequest;
use xds_sync::snapshot::Root;
use xds_sync::transfer::trash::TrashId;
use xds_sync::transfer::{BlobRequest, Sink, Source};

use super::host::{ROOT, hello, spec};

/// What fits into a socket without anybody who reads.
const MOST: usize = 100_000;
/// No input waits: the stream is whole, and has ended, before Main begins.
const TIMEOUT: Duration = Duration::from_secs(5);

struct Nobody;

impl Peer for Nobody {
    fn ended(&mut self) -> Ended {
        Ended::default()
    }
}

/// Gives one byte for each content.
struct Bytes;

impl Source for Bytes {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        for index in 0..wanted.len() {
            sink.begin(index)?;
            sink.data(b"x")?;
            sink.end(Ok(()))?;
        }
        Ok(())
    }
}

/// Counts what it takes.
#[derive(Default)]
struct Count(u64);

impl Sink for Count {
    fn begin(&mut self, _: usize) -> anyhow::Result<()> {
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0 += bytes.len() as u64;
        Ok(())
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.0 += length;
        Ok(())
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        harmless(result.err().as_deref().unwrap_or_default());
        Ok(())
    }
}

pub(super) fn ask(bytes: &[u8]) {
    let (main, mut node) = UnixStream::pair().expect("a pair of sockets");
    node.write_all(&bytes[..bytes.len().min(MOST)]).expect("room in the socket");
    node.shutdown(std::net::Shutdown::Write).expect("a socket");
    let end = || OwnedFd::from(main.try_clone().expect("a socket"));
    if let Err(error) =
        Remote::new(end(), end(), Box::new(Nobody), &hello(), TIMEOUT).and_then(|mut remote| run(&mut remote))
    {
        harmless(&error.detail);
    }
}

fn path(text: &str) -> RelPathBuf {
    RelPathBuf::new(text.as_bytes()).expect("a path")
}

/// What Main may believe the node to have: long enough that the node may refer to it.
static LIKE: LazyLock<Arc<Tree>> = LazyLock::new(|| {
    let names = (0..12_000_u32).map(|n| (path(&format!("{n:08x}")), Entry::Excluded));
    Arc::new(names.collect())
});

/// A whole run, in the order of a run.
pub(super) fn run(remote: &mut dyn NodeSession) -> Result<(), NodeError> {
    remote.begin("01KQ0000000000000000000002", false)?;
    let scanned = remote.scan(&spec())?;
    if let Root::Unusable(why) = &scanned.root {
        harmless(why);
    }
    let tree = remote.tree("moh", Some(&*LIKE))?;
    check(&tree);
    remote.known_owners(&[Owner::new(Some("asterisk"), None)])?;
    refusal(remote.prepare("moh", &TrashKeep::FOREVER, None)?.err());
    let content =
        BlobRequest { path: path("new"), digest: Digest(blake3::hash(b"x").into()), size: 1, offset: 0 };
    for received in remote.stage("moh", std::slice::from_ref(&content), &mut Bytes)? {
        texts(received.err());
    }
    let meta = xds_sync::model::Meta { mode: 0o644, owner: Owner::default() };
    let file = xds_sync::model::File { size: 1, mtime: 0, digest: content.digest, meta };
    let actions = [
        Action { path: path("new"), expected: None, step: Step::Put(Entry::File(file)) },
        Action { path: path("a.wav"), expected: tree.get(&path("a.wav")).cloned(), step: Step::Delete },
    ];
    for outcome in remote.commit("moh", &actions)? {
        if let Outcome::Failed(why) = outcome {
            harmless(&why);
        }
    }
    let deleted = path("a.wav");
    for entry in remote.trashed("moh")? {
        assert!(entry.place.path.names().all(|name| name != b".xds-sync"), "our own directory in its trash");
    }
    refusal(remote.versions("moh", &deleted)?.err());
    let id: TrashId = "01KQ0000000000000000000002-0".parse().expect("an id");
    for recalled in remote.recall("moh", &id, std::slice::from_ref(&deleted))? {
        match recalled {
            Ok(Entry::Symlink(link)) => assert!(!link.escapes(&deleted), "a link that leads out"),
            Ok(_) => {}
            Err(why) => refusal(Some(why)),
        }
    }
    let wanted = BlobRequest { path: deleted, digest: Digest([0; 32]), size: 1, offset: 0 };
    let mut count = Count::default();
    remote.send_trashed("moh", &id, &[wanted], &mut count)?;
    assert!(count.0 <= 1, "more was sent than was wanted");
    refusal(remote.agree("moh", "01KQ0000000000000000000003")?.err());
    let wanted = BlobRequest { path: path("d/b.wav"), digest: Digest([0; 32]), size: 2, offset: 0 };
    let mut count = Count::default();
    remote.send("moh", &[wanted], &mut count)?;
    assert!(count.0 <= 2, "more was sent than was wanted");
    let roots = vec![ROOT.into()];
    let reload = ReloadRequest { name: "moh".to_owned(), roots, timeout: Duration::from_secs(1) };
    texts(remote.reload(&reload)?.detail);
    remote.end()
}

fn check(tree: &Tree) {
    for (at, entry) in tree.iter() {
        if let Entry::Symlink(link) = entry {
            assert!(!link.escapes(at), "a link that leads out");
        }
        let ours = at.names().any(|name| name == b".xds-sync");
        assert!(!ours || matches!(entry, Entry::Excluded), "our own directory in a tree");
    }
}

fn refusal(refusal: Option<Refusal>) {
    texts(refusal.map(String::from));
}

fn texts(text: Option<String>) {
    harmless(text.as_deref().unwrap_or_default());
}

fn harmless(text: &str) {
    assert!(!text.contains(char::is_control), "a text with control characters: {text:?}");
}
