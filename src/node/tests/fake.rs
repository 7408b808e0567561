//! A host in memory, and the two ends of a session with it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::model::{
    Action, Digest, Direction, Entry, File, Meta, Outcome, Owner, RelPath, RelPathBuf, ReloadOutcome,
    ReloadState, TrashKeep, Tree,
};
use crate::node::{
    Accept, Ended, Endpoint, Hello, KeyChange, Local, LocalOptions, NodeError, Peer, Remote, agent,
};
use crate::reload::ReloadRequest;
use crate::snapshot::{Root, ScanSpec, Scanned};
use crate::snapshot::{loaded_digest, tree_digest};
use crate::transfer::trash::{TrashEntry, TrashId, TrashKind, Trashed};
use crate::transfer::{BlobRequest, Received, Sink, Source};

/// Long enough that no test meets it by chance.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// Short enough to wait for.
pub(super) const SHORT: Duration = Duration::from_millis(200);

/// A host whose files are its map, and which keeps what it was told.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) files: BTreeMap<RelPathBuf, Vec<u8>>,
    /// Each call that changes a host, in words.
    pub(super) calls: Vec<String>,
    pub(super) staged: BTreeMap<Digest, Vec<u8>>,
    /// What lies in its trash, all of one run.
    pub(super) trash: BTreeMap<RelPathBuf, Vec<u8>>,
    /// How often it was asked for its tree.
    pub(super) trees: usize,
    /// Called in every scan.
    pub(super) scanning: Option<Box<dyn FnMut() + Send>>,
}

pub(super) fn path(path: &str) -> RelPathBuf {
    RelPathBuf::new(path.as_bytes()).unwrap()
}

pub(super) fn digest(content: &[u8]) -> Digest {
    Digest(blake3::hash(content).into())
}

pub(super) fn file(content: &[u8]) -> Entry {
    let meta = Meta { mode: 0o644, owner: Owner::new(Some("asterisk"), Some("www-data")) };
    Entry::File(File { size: content.len() as u64, mtime: 1, digest: digest(content), meta })
}

pub(super) fn wanted(at: &str, content: &[u8]) -> BlobRequest {
    BlobRequest { path: path(at), digest: digest(content), size: content.len() as u64, offset: 0 }
}

pub(super) fn trash_id() -> TrashId {
    "01KQ0000000000000000000000-0".parse().unwrap()
}

pub(super) fn trash_entry(path: &RelPathBuf, content: &[u8]) -> TrashEntry {
    let place = Trashed { id: trash_id(), path: path.clone() };
    TrashEntry { place, kind: TrashKind::File, size: content.len() as u64, mtime: 1 }
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
    Hello {
        main: "01MAIN".to_owned(),
        epoch: 1,
        name: "main".to_owned(),
        run: "01RUN".to_owned(),
        dry_run: false,
    }
}

/// A node that accepts what is below a directory, where it also remembers its Main.
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

/// Main's end of a stream.
pub(super) fn meet(stream: &UnixStream, hello: &Hello, timeout: Duration) -> Result<Remote, NodeError> {
    let end = || stream.try_clone().unwrap().into();
    Remote::new(end(), end(), Box::new(Nobody), hello, timeout)
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

/// A session with `host`.
pub(super) fn session(host: Fake, dir: &Path) -> (Remote, Served) {
    let (main, served) = agent(host, accept(dir), Arc::default());
    let remote = meet(&main, &hello(), LONG).unwrap();
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
    (meet(&main, &hello(), LONG).unwrap(), served)
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
    Local::new(LocalOptions {
        cache_dir: dir.join("cache"),
        // Long after everything in the test: no file is too young to be carried.
        clock: Box::new(|| SystemTime::now() + Duration::from_secs(3600)),
        new_id: Box::new(|| "01KQ0000000000000000000009".to_owned()),
        reload: Box::new(|request| ReloadOutcome {
            name: request.name.clone(),
            state: ReloadState::Owed,
            detail: None,
        }),
        replace_key: Box::new(|_| Ok(())),
        progress: Arc::default(),
    })
}

/// All that is on a stream until it ends.
pub(super) fn drain(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

impl Fake {
    pub(super) fn with(files: &[(&str, &[u8])]) -> Fake {
        let files = files.iter().map(|(at, content)| (path(at), content.to_vec())).collect();
        Fake { files, ..Fake::default() }
    }

    pub(super) fn snapshot(&self) -> Tree {
        self.files.iter().map(|(path, content)| (path.clone(), file(content))).collect()
    }

    fn call(&mut self, what: impl Into<String>) {
        self.calls.push(what.into());
    }
}

impl Source for &Fake {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        for (index, wanted) in wanted.iter().enumerate() {
            sink.begin(index)?;
            let Some(content) = self.files.get(&wanted.path) else {
                sink.end(Err("it is gone".to_owned()))?;
                continue;
            };
            // The way a sparse file is read: runs of zeros are holes.
            for piece in content[usize::try_from(wanted.offset)?..].chunks(100_000) {
                match piece.iter().all(|&byte| byte == 0) {
                    true => sink.hole(piece.len() as u64)?,
                    false => sink.data(piece)?,
                }
            }
            sink.end(Ok(()))?;
        }
        Ok(())
    }
}

/// A content, and how it ended.
type Got = (Vec<u8>, Option<Result<(), String>>);

/// Gathers contents by their index.
#[derive(Default)]
pub(super) struct Gathered(pub(super) Vec<Got>);

impl Sink for Gathered {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        anyhow::ensure!(index == self.0.len(), "{index} out of order");
        self.0.push((Vec::new(), None));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0.last_mut().unwrap().0.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        let content = &mut self.0.last_mut().unwrap().0;
        content.resize(content.len() + usize::try_from(length)?, 0);
        Ok(())
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.0.last_mut().unwrap().1 = Some(result);
        Ok(())
    }
}

impl Endpoint for Fake {
    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        assert_eq!(spec.exclude, ["*.bak"]);
        if let Some(scanning) = &mut self.scanning {
            scanning();
        }
        let tree = self.snapshot();
        let (digest, loaded) = (tree_digest(&tree), loaded_digest(&tree));
        let entries = tree.len() as u64;
        Ok(Scanned { root: Root::Unmarked, digest, loaded, entries, settled: true, free: 7 })
    }

    fn tree(&mut self, _: &str, _: Option<&Arc<Tree>>) -> Result<Arc<Tree>, NodeError> {
        self.trees += 1;
        Ok(Arc::new(self.snapshot()))
    }

    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError> {
        // This host knows the user asterisk and no group.
        let known = |owner: &Owner| Owner::new(owner.user().filter(|user| *user == "asterisk"), None);
        Ok(owners.iter().map(known).collect())
    }

    fn prepare(
        &mut self,
        directory: &str,
        run: &str,
        trash: &TrashKeep,
    ) -> Result<Result<String, String>, NodeError> {
        self.call(format!("prepare {directory} {run} {}", trash.seconds));
        Ok(Ok("01MARKER".to_owned()))
    }

    fn stage(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        source: &mut dyn Source,
    ) -> Result<Received, NodeError> {
        self.call(format!("stage {directory}"));
        let has = |wanted: &BlobRequest| self.files.values().any(|content| digest(content) == wanted.digest);
        let lacking: Vec<usize> = (0..wanted.len()).filter(|&index| !has(&wanted[index])).collect();
        let needed: Vec<BlobRequest> = lacking.iter().map(|&index| wanted[index].clone()).collect();
        let mut gathered = Gathered::default();
        source
            .send(&needed, &mut gathered)
            .map_err(|error| NodeError::new(crate::node::NodeErrorKind::Lost, error.to_string()))?;
        let mut received = vec![Ok(()); wanted.len()];
        for ((index, wanted), (content, result)) in lacking.into_iter().zip(needed).zip(gathered.0) {
            received[index] = result.unwrap();
            if received[index].is_ok() && digest(&content) != wanted.digest {
                received[index] = Err("it is not what it should be".to_owned());
            }
            self.staged.insert(wanted.digest, content);
        }
        Ok(received)
    }

    fn send(&mut self, _: &str, wanted: &[BlobRequest], sink: &mut dyn Sink) -> Result<(), NodeError> {
        let mut source: &Fake = self;
        source
            .send(wanted, sink)
            .map_err(|error| NodeError::new(crate::node::NodeErrorKind::Lost, error.to_string()))
    }

    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError> {
        self.call(format!("commit {directory} {}", actions.len()));
        Ok(actions
            .iter()
            .map(|action| match (&action.expected, action.result()) {
                (Some(_), None) => Outcome::Changed,
                (None, None) => Outcome::Failed("two\nlines".to_owned()),
                _ => Outcome::Done,
            })
            .collect())
    }

    fn trashed(&mut self, _: &str) -> Result<Vec<TrashEntry>, NodeError> {
        Ok(self.trash.iter().map(|(path, content)| trash_entry(path, content)).collect())
    }

    fn versions(&mut self, _: &str, at: &RelPath) -> Result<Result<Vec<TrashEntry>, String>, NodeError> {
        if *at == *path("unreadable") {
            return Ok(Err("no\nway".to_owned()));
        }
        let asked = |path: &RelPathBuf| **path == *at || path.is_below(at);
        let found = self.trash.iter().filter(|(path, _)| asked(path));
        Ok(Ok(found.map(|(path, content)| trash_entry(path, content)).collect()))
    }

    fn recall(
        &mut self,
        _: &str,
        _: &TrashId,
        paths: &[RelPathBuf],
    ) -> Result<Vec<Result<Entry, String>>, NodeError> {
        let look = |path: &RelPathBuf| {
            self.trash.get(path).map(|content| file(content)).ok_or("it is\ngone".to_owned())
        };
        Ok(paths.iter().map(look).collect())
    }

    fn send_trashed(
        &mut self,
        _: &str,
        _: &TrashId,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        let trash = Fake { files: self.trash.clone(), ..Fake::default() };
        let mut source = &trash;
        source
            .send(wanted, sink)
            .map_err(|error| NodeError::new(crate::node::NodeErrorKind::Lost, error.to_string()))
    }

    fn agree(&mut self, directory: &str, generation: &str) -> Result<Result<(), String>, NodeError> {
        self.call(format!("agree {directory} {generation}"));
        Ok(Err("no space left".to_owned()))
    }

    fn reload(&mut self, request: &ReloadRequest) -> Result<ReloadOutcome, NodeError> {
        self.call(format!("reload {} {:?}", request.name, request.files));
        Ok(ReloadOutcome { name: request.name.clone(), state: ReloadState::Done, detail: None })
    }

    fn replace_key(&mut self, change: &KeyChange) -> Result<Result<(), String>, NodeError> {
        self.call(format!("replace_key {} {}", change.old, change.new));
        Ok(if change.drop_old { Ok(()) } else { Err("not\nin there".to_owned()) })
    }
}

/// Counts until it has been read `times` times by whoever awaits progress.
pub(super) fn count(progress: &AtomicU64) -> u64 {
    progress.fetch_add(1, Ordering::Relaxed)
}
