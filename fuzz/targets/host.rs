//! A host of its own for each input: a root with some files below a directory in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use xds_sync::model::{
    Action, Direction, Entry, Meta, Outcome, Owner, RelPath, RelPathBuf, ReloadOutcome, ReloadState,
    TrashKeep, Tree,
};
use xds_sync::node::{
    Accept, Attempt, Describe, Description, Endpoint, EpochLimit, Hello, KeyChange, Local, LocalOptions,
    MainKeys, NodeError, PreparedRoot, Refusal, TrashReader,
};
use xds_sync::reload::ReloadRequest;
use xds_sync::snapshot::{Clock, ScanSpec, Scanned};
use xds_sync::transfer::trash::{TrashEntry, TrashId};
use xds_sync::transfer::{BlobRequest, Received, Sink, Source};

/// Where a root lies as the peers name it: the same in every run, so that inputs stay good.
pub(super) const ROOT: &str = "/fuzz/roots/moh";
/// The only directory that the node accepts.
const ACCEPTED: &str = "/fuzz/roots";
/// What no peer may change: excluded, and outside of the root.
const UNTOUCHABLE: [(&str, &str); 2] =
    [("outside/secret", "secret"), ("roots/moh/xds_override.conf", "mine")];

/// A directory in memory where there is one.
pub(super) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a temporary directory")
}

/// Whose clock is long after everything, and never waits.
struct Later;

impl Clock for Later {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)
    }

    fn sleep(&self, _: Duration) {}
}

/// A real disk, found under the name that peers have for it.
pub(super) struct Host {
    dir: TempDir,
    local: Local,
}

impl Host {
    pub(super) fn new() -> Host {
        let dir = scratch();
        for (path, content) in
            UNTOUCHABLE.into_iter().chain([("roots/moh/a.wav", "a"), ("roots/moh/d/b.wav", "bb")])
        {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, content).expect("a file");
        }
        // The same in every run, and no file of a moment ago.
        for path in ["roots/moh/a.wav", "roots/moh/d/b.wav"] {
            let file = fs::File::options().write(true).open(dir.path().join(path)).expect("a file");
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000)).expect("a time");
        }
        // It leads out of the root.
        std::os::unix::fs::symlink("../../outside", dir.path().join("roots/moh/out")).expect("a link");
        let local = Local::new(LocalOptions {
            cache_dir: dir.path().join("cache"),
            clock: Box::new(Later),
            new_id: Box::new(|| "01KQ0000000000000000000009".to_owned()),
            reload: Box::new(|request| ReloadOutcome {
                name: request.name.clone(),
                state: ReloadState::Owed,
                detail: None,
            }),
            replace_key: Box::new(|_| Err(Refusal::new("not here"))),
            progress: Arc::default(),
            stop: Arc::default(),
            limits: Default::default(),
            watch_limits: Default::default(),
        });
        Host { dir, local }
    }

    /// Where its files are.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What it accepts.
    pub(super) fn accept(&self) -> Accept {
        Accept {
            file: "node.toml".into(),
            roots: vec![ACCEPTED.into()],
            read_only: false,
            machine: None,
            max_epoch: EpochLimit::NONE,
            reload: [("moh".to_owned(), vec!["true".to_owned()])].into(),
            state_dir: self.dir.path().join("state"),
        }
    }

    /// Panics when a peer has reached what it may not.
    pub(super) fn check(&self) {
        for (path, content) in UNTOUCHABLE {
            let found = fs::read(self.dir.path().join(path));
            assert!(found.is_ok_and(|found| found == content.as_bytes()), "{path} was changed");
        }
        let outside = fs::read_dir(self.dir.path().join("outside")).expect("it is there").count();
        assert_eq!(outside, 1, "something was made outside of the root");
        let beside: Vec<_> = fs::read_dir(self.dir.path()).expect("it is there").flatten().collect();
        let known = ["outside", "roots", "cache", "state"];
        assert!(beside.iter().all(|entry| known.iter().any(|known| entry.file_name() == *known)));
    }

    fn real(&self, root: &Path) -> PathBuf {
        root.strip_prefix("/fuzz").map_or_else(|_| root.to_owned(), |below| self.dir.path().join(below))
    }
}

pub(super) fn spec() -> ScanSpec {
    ScanSpec {
        directory: "moh".to_owned(),
        root: ROOT.into(),
        direction: Direction::Push,
        exclude: vec!["*.bak".to_owned()],
        other_roots: Vec::new(),
        settle: Duration::ZERO,
        complete: Vec::new(),
        hold_young: false,
        checksum: false,
    }
}

pub(super) fn hello() -> Hello {
    Hello { main: "01KQ0000000000000000000001".to_owned(), epoch: 1, name: "main".to_owned() }
}

impl Endpoint for Host {
    fn begin(&mut self, run: &str, dry_run: bool) -> Result<(), NodeError> {
        self.local.begin(run, dry_run)
    }

    fn end(&mut self) -> Result<(), NodeError> {
        self.local.end()
    }

    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        let other_roots = spec.other_roots.iter().map(|root| self.real(root)).collect();
        let spec = ScanSpec { root: self.real(&spec.root), other_roots, ..spec.clone() };
        self.local.scan(&spec)
    }

    fn tree(&mut self, directory: &str, like: Option<&Arc<Tree>>) -> Result<Arc<Tree>, NodeError> {
        self.local.tree(directory, like)
    }

    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError> {
        // Without the system's look-ups, which cost more than all else here.
        Ok(owners.iter().map(|_| Owner::default()).collect())
    }

    fn prepare(
        &mut self,
        directory: &str,
        trash: &TrashKeep,
        root: Option<&Meta>,
    ) -> Result<Attempt<PreparedRoot>, NodeError> {
        self.local.prepare(directory, trash, root)
    }

    fn stage(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        source: &mut dyn Source,
    ) -> Result<Received, NodeError> {
        self.local.stage(directory, wanted, source)
    }

    fn send(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        self.local.send(directory, wanted, sink)
    }

    fn clear_stage(&mut self, directory: &str) -> Result<Attempt<()>, NodeError> {
        self.local.clear_stage(directory)
    }

    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError> {
        self.local.commit(directory, actions)
    }

    fn agree(&mut self, directory: &str, generation: &str) -> Result<Attempt<()>, NodeError> {
        self.local.agree(directory, generation)
    }

    fn trashed(&mut self, directory: &str) -> Result<Vec<TrashEntry>, NodeError> {
        self.local.trashed(directory)
    }

    fn reload(&mut self, request: &ReloadRequest) -> Result<ReloadOutcome, NodeError> {
        self.local.reload(request)
    }
}

impl TrashReader for Host {
    fn versions(&mut self, directory: &str, path: &RelPath) -> Result<Attempt<Vec<TrashEntry>>, NodeError> {
        self.local.versions(directory, path)
    }

    fn recall(
        &mut self,
        directory: &str,
        id: &TrashId,
        paths: &[RelPathBuf],
    ) -> Result<Vec<Attempt<Entry>>, NodeError> {
        self.local.recall(directory, id, paths)
    }

    fn send_trashed(
        &mut self,
        directory: &str,
        id: &TrashId,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        self.local.send_trashed(directory, id, wanted, sink)
    }
}

impl Describe for Host {
    fn describe(&mut self, roots: &[PathBuf]) -> Result<Description, NodeError> {
        self.local.describe(roots)
    }
}

impl MainKeys for Host {
    fn replace_key(&mut self, change: &KeyChange) -> Result<Attempt<Vec<String>>, NodeError> {
        self.local.replace_key(change)
    }
}

/// Grows with what a host does; nobody looks.
pub(super) fn progress() -> Arc<AtomicU64> {
    Arc::default()
}
