//! This host's own disk as an [`Endpoint`].

use std::collections::HashMap;
use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, bail};

use super::{Endpoint, KeyChange, NodeError, NodeErrorKind};
use crate::disk::marker::Marker;
use crate::disk::{HeldRoot, Owners};
use crate::model::{Action, Entry, Outcome, Owner, RelPath, RelPathBuf, ReloadOutcome, TrashKeep, Tree};
use crate::reload::ReloadRequest;
use crate::snapshot::{
    Clock, HashCache, Root, ScanSpec, Scanned, Snapshot, loaded_digest, scan, tree_digest,
};
use crate::transfer::trash::{TrashEntry, TrashId, TrashSource, Trashed};
use crate::transfer::{self, BlobRequest, LocalSource, OwnDir, Received, ScannedTree, Sink, Source};

/// Lets Main in with another key, or says why not.
pub type ReplaceKey = Box<dyn FnMut(&KeyChange) -> Result<(), String> + Send>;

/// What a [`Local`] needs of its host.
pub struct LocalOptions {
    /// Where the hash caches lie; made when it is missing.
    pub cache_dir: PathBuf,
    /// The time.
    pub clock: Box<dyn Clock + Send>,
    /// Makes a new root's id, a ULID.
    pub new_id: Box<dyn FnMut() -> String + Send>,
    /// Runs a reload and verifies it.
    pub reload: Box<dyn FnMut(&ReloadRequest) -> ReloadOutcome + Send>,
    /// See [`Endpoint::replace_key`].
    pub replace_key: ReplaceKey,
    /// Grows with every entry a scan sees and every byte it reads.
    pub progress: Arc<AtomicU64>,
}

impl fmt::Debug for LocalOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalOptions").field("cache_dir", &self.cache_dir).finish_non_exhaustive()
    }
}

/// This host's end of its edges.
#[derive(Debug)]
pub struct Local {
    options: LocalOptions,
    owners: Owners,
    /// By root: several directories never share one.
    caches: HashMap<PathBuf, HashCache>,
    sessions: HashMap<String, Session>,
}

/// What is known of a directory from its scan on.
#[derive(Debug)]
struct Session {
    root: PathBuf,
    snapshot: Arc<Snapshot>,
    /// From `prepare` on.
    ready: Option<Arc<Ready>>,
    /// What the last commit put into the trash, until it is asked for.
    trashed: Vec<TrashEntry>,
}

#[derive(Debug)]
struct Ready {
    own: OwnDir,
    run: String,
}

/// The stage of a directory.
#[derive(Debug)]
pub struct Staging {
    snapshot: Arc<Snapshot>,
    ready: Arc<Ready>,
}

impl Staging {
    /// See [`Endpoint::stage`]. No two callers may want the same content at the same time.
    pub fn stage(&self, wanted: &[BlobRequest], source: &mut dyn Source) -> Received {
        let stamps = |path: &RelPath| self.snapshot.stamp(path);
        let seen = ScannedTree { tree: &self.snapshot.tree, stamps: &stamps };
        transfer::stage(&self.ready.own, &seen, wanted, source)
    }
}

impl Local {
    /// This host, with nothing scanned yet.
    #[must_use]
    pub fn new(options: LocalOptions) -> Local {
        Local { options, owners: Owners::default(), caches: HashMap::new(), sessions: HashMap::new() }
    }

    /// Gives the contents of a directory as it was scanned, to several sinks at a time if need be.
    pub fn source(&self, directory: &str) -> Result<LocalSource, NodeError> {
        let session = self.session(directory)?;
        let held = self.held(directory)?;
        let snapshot = Arc::clone(&session.snapshot);
        let stamps = move |path: &RelPath| match snapshot.tree.get(path) {
            Some(Entry::File(_)) => snapshot.stamp(path),
            _ => None,
        };
        Ok(LocalSource::new(held, Arc::new(stamps)))
    }

    fn session(&self, directory: &str) -> Result<&Session, NodeError> {
        self.sessions.get(directory).ok_or_else(|| misuse(format!("{directory} was not scanned")))
    }

    fn held(&self, directory: &str) -> Result<HeldRoot, NodeError> {
        let held = self.session(directory)?.snapshot.held.clone();
        held.ok_or_else(|| misuse(format!("{directory} has no root to send from")))
    }

    /// Takes contents into the stage of a prepared directory, from several sources at a time if need be: a
    /// slow one keeps nobody from using this host.
    pub fn staging(&self, directory: &str) -> Result<Staging, NodeError> {
        let session = self.session(directory)?;
        let ready = session.ready.as_ref().ok_or_else(|| misuse(format!("{directory} was not prepared")))?;
        Ok(Staging { snapshot: Arc::clone(&session.snapshot), ready: Arc::clone(ready) })
    }

    fn cache_path(&self, root: &Path) -> PathBuf {
        let name = blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex();
        self.options.cache_dir.join(format!("{}.hashes", &name[..32]))
    }

    /// Without it the next scan reads files again: slow, but never wrong, so that nothing depends on it.
    fn save_cache(&mut self, root: &Path) {
        let path = self.cache_path(root);
        if let Some(cache) = self.caches.get_mut(root) {
            let _ = DirBuilder::new().recursive(true).mode(0o700).create(&self.options.cache_dir);
            let _ = cache.save(&path);
        }
    }

    fn make_ready(&mut self, directory: &str, run: &str, trash: &TrashKeep) -> anyhow::Result<String> {
        let Some(session) = self.sessions.get_mut(directory) else { bail!("{directory} was not scanned") };
        // It would be waited for like another's.
        session.ready = None;
        let held = match (&session.snapshot.root, &session.snapshot.held) {
            (Root::Unusable(why), _) => bail!("{why}"),
            (_, Some(held)) => held.clone(),
            (_, None) => make_root(&session.root)?,
        };
        let marker = Marker::read(&held).with_context(|| in_root(&held, "its marker cannot be read"))?;
        // Before a marker is written: what others may have planted there is refused here.
        let own = OwnDir::ready(&held, &self.options.progress)?;
        let id = match (&session.snapshot.root, marker) {
            (Root::Marked(seen), Some(marker)) if seen.id == marker.id => marker.id,
            (Root::Marked(_), _) => bail!("{}", in_root(&held, "its marker has just changed")),
            (_, Some(marker)) => marker.id,
            (_, None) => {
                let marker = Marker { id: (self.options.new_id)(), generation: None };
                marker.write(&held).with_context(|| in_root(&held, "cannot be marked"))?;
                marker.id
            }
        };
        let now = self.options.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        transfer::sweep(&own, run, now_ns).with_context(|| in_root(&held, "its stage cannot be swept"))?;
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        transfer::trash::prune(&own, run, now_ms, trash)
            .with_context(|| in_root(&held, "its old trash cannot be deleted"))?;
        if let Some(session) = self.sessions.get_mut(directory) {
            session.ready = Some(Arc::new(Ready { own, run: run.to_owned() }));
        }
        Ok(id)
    }
}

impl Endpoint for Local {
    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        let cache_path = self.cache_path(&spec.root);
        let cache = self.caches.entry(spec.root.clone()).or_insert_with(|| HashCache::load(&cache_path));
        let snapshot = scan(spec, cache, &*self.options.clock, &self.options.progress);
        self.save_cache(&spec.root);
        let (digest, loaded) = (tree_digest(&snapshot.tree), loaded_digest(&snapshot.tree));
        let scanned = Scanned {
            root: snapshot.root.clone(),
            digest,
            loaded,
            entries: snapshot.tree.len() as u64,
            settled: snapshot.settled,
            free: snapshot.free,
        };
        let session = Session {
            root: spec.root.clone(),
            snapshot: Arc::new(snapshot),
            ready: None,
            trashed: Vec::new(),
        };
        self.sessions.insert(spec.directory.clone(), session);
        Ok(scanned)
    }

    fn tree(&mut self, directory: &str, _like: Option<&Arc<Tree>>) -> Result<Arc<Tree>, NodeError> {
        Ok(Arc::clone(&self.session(directory)?.snapshot.tree))
    }

    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError> {
        Ok(owners.iter().map(|owner| self.owners.known(owner)).collect())
    }

    fn prepare(
        &mut self,
        directory: &str,
        run: &str,
        trash: &TrashKeep,
    ) -> Result<Result<String, String>, NodeError> {
        Ok(self.make_ready(directory, run, trash).map_err(|error| format!("{error:#}")))
    }

    fn stage(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        source: &mut dyn Source,
    ) -> Result<Received, NodeError> {
        Ok(self.staging(directory)?.stage(wanted, source))
    }

    fn send(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        // What fails on this side is told to the sink; an error is the sink's own.
        self.source(directory)?.send(wanted, sink).map_err(sink_lost)
    }

    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError> {
        // Not by `ready`, which would hold all of `self`.
        let session = self.sessions.get(directory);
        let Some((session, ready)) = session.and_then(|session| Some((session, session.ready.as_ref()?)))
        else {
            return Err(misuse(format!("{directory} was not prepared")));
        };
        let stamps = |path: &RelPath| session.snapshot.stamp(path);
        let seen = ScannedTree { tree: &session.snapshot.tree, stamps: &stamps };
        let committed = match transfer::commit(&ready.own, &ready.run, &seen, actions, &mut self.owners) {
            Ok(committed) => committed,
            Err(error) => return Ok(vec![Outcome::Failed(format!("{error:#}")); actions.len()]),
        };
        let root = session.root.clone();
        if let Some(cache) = self.caches.get_mut(&root) {
            for placed in &committed.placed {
                cache.record(&placed.path, placed.stamp, placed.digest);
            }
        }
        self.save_cache(&root);
        if let Some(session) = self.sessions.get_mut(directory) {
            session.trashed = committed.trashed;
        }
        Ok(committed.outcomes)
    }

    fn trashed(&mut self, directory: &str) -> Result<Vec<TrashEntry>, NodeError> {
        let session = self.sessions.get_mut(directory).map(|session| std::mem::take(&mut session.trashed));
        session.ok_or_else(|| misuse(format!("{directory} was not scanned")))
    }

    fn versions(
        &mut self,
        directory: &str,
        path: &RelPath,
    ) -> Result<Result<Vec<TrashEntry>, String>, NodeError> {
        // Where there is no root, there is no trash.
        let Some(held) = &self.session(directory)?.snapshot.held else { return Ok(Ok(Vec::new())) };
        let versions = transfer::trash::versions(held, path);
        Ok(versions.map_err(|error| in_root(held, &format!("its trash cannot be read: {error}"))))
    }

    fn recall(
        &mut self,
        directory: &str,
        id: &TrashId,
        paths: &[RelPathBuf],
    ) -> Result<Vec<Result<Entry, String>>, NodeError> {
        let held = self.held(directory)?;
        let mut look = |path: &RelPathBuf| {
            let place = Trashed { id: id.clone(), path: path.clone() };
            let looked = place.look(&held, &mut self.owners, &self.options.progress);
            looked.map_err(|error| error.to_string())
        };
        Ok(paths.iter().map(&mut look).collect())
    }

    fn send_trashed(
        &mut self,
        directory: &str,
        id: &TrashId,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        let mut source = TrashSource::new(self.held(directory)?, id.clone());
        source.send(wanted, sink).map_err(sink_lost)
    }

    fn agree(&mut self, directory: &str, generation: &str) -> Result<Result<(), String>, NodeError> {
        let session = self.session(directory)?;
        let agree = || -> anyhow::Result<()> {
            let made = session.ready.as_ref().map(|ready| ready.own.root());
            let Some(held) = made.or(session.snapshot.held.as_ref()) else {
                bail!("{}: is missing", session.root.display());
            };
            let marker = Marker::read(held).with_context(|| in_root(held, "its marker cannot be read"))?;
            let Some(marker) = marker else { bail!("{}", in_root(held, "its marker is gone")) };
            if marker.generation.as_deref() == Some(generation) {
                return Ok(());
            }
            let marker = Marker { generation: Some(generation.to_owned()), ..marker };
            marker.write(held).with_context(|| in_root(held, "its marker cannot be written"))
        };
        Ok(agree().map_err(|error| format!("{error:#}")))
    }

    fn reload(&mut self, request: &ReloadRequest) -> Result<ReloadOutcome, NodeError> {
        Ok((self.options.reload)(request))
    }

    fn replace_key(&mut self, change: &KeyChange) -> Result<Result<(), String>, NodeError> {
        Ok((self.options.replace_key)(change))
    }
}

/// A missing root, with the directories above it.
fn make_root(path: &Path) -> anyhow::Result<HeldRoot> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).with_context(|| path.display().to_string())?;
    HeldRoot::open(path).with_context(|| path.display().to_string())
}

fn in_root(held: &HeldRoot, what: &str) -> String {
    format!("{}: {what}", held.path().display())
}

fn sink_lost(error: anyhow::Error) -> NodeError {
    match error.downcast::<NodeError>() {
        Ok(error) => error,
        Err(error) => NodeError::new(NodeErrorKind::Lost, format!("{error:#}")),
    }
}

/// The caller, which may be a peer, broke the order of calls.
fn misuse(what: String) -> NodeError {
    NodeError::new(NodeErrorKind::Lost, what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::model::{Digest, Direction, RelPathBuf, ReloadState, Step};
    use crate::snapshot::Root;

    const RUN: &str = "01KQ0000000000000000000000";

    struct Host {
        dir: tempfile::TempDir,
        local: Local,
    }

    impl Host {
        fn new() -> Host {
            let dir = tempfile::tempdir().unwrap();
            let options = LocalOptions {
                cache_dir: dir.path().join("cache"),
                // Long after everything in the test: nothing is young.
                clock: Box::new(|| SystemTime::now() + Duration::from_secs(3600)),
                new_id: Box::new(|| "01KQ0000000000000000000009".to_owned()),
                reload: Box::new(|request| ReloadOutcome {
                    name: request.name.clone(),
                    state: ReloadState::Owed,
                    detail: None,
                }),
                replace_key: Box::new(|change| Err(format!("{} stays", change.old))),
                progress: Arc::default(),
            };
            Host { dir, local: Local::new(options) }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.dir.path().join("root").join(path)
        }

        fn write(&self, path: &str, content: &str) {
            fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
            fs::write(self.at(path), content).unwrap();
        }

        fn scan(&mut self) -> Scanned {
            let spec = ScanSpec {
                directory: "moh".to_owned(),
                root: self.at(""),
                direction: Direction::Push,
                exclude: Vec::new(),
                other_roots: Vec::new(),
                settle: Duration::ZERO,
                checksum: false,
            };
            self.local.scan(&spec).unwrap()
        }
    }

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes()).unwrap()
    }

    /// All that `main` has is put on `node`, which has nothing.
    fn copy_all(main: &mut Host, node: &mut Host) -> Vec<Outcome> {
        let tree = main.local.tree("moh", None).unwrap();
        let mut wanted = Vec::new();
        let mut actions = Vec::new();
        for (path, entry) in tree.iter().filter(|(_, entry)| !entry.is_opaque()) {
            if let Entry::File(file) = entry {
                let (digest, size) = (file.digest, file.size);
                wanted.push(BlobRequest { path: path.to_owned(), digest, size, offset: 0 });
            }
            actions.push(Action { path: path.to_owned(), expected: None, step: Step::Put(entry.clone()) });
        }
        let mut source = main.local.source("moh").unwrap();
        let received = node.local.stage("moh", &wanted, &mut source).unwrap();
        assert!(received.iter().all(Result::is_ok), "{received:?}");
        node.local.commit("moh", &actions).unwrap()
    }

    #[test]
    fn a_missing_root_is_made_marked_and_filled() {
        let (mut main, mut node) = (Host::new(), Host::new());
        main.write("jazz/a.wav", "a");
        main.write("b.wav", "b");
        main.write("xds_override.conf", "main's own");
        let scanned = main.scan();
        assert_eq!(node.scan().root, Root::Missing);
        let id = node.local.prepare("moh", RUN, &TrashKeep::FOREVER).unwrap().unwrap();
        assert_eq!(copy_all(&mut main, &mut node), vec![Outcome::Done; 3]);
        node.local.agree("moh", "01G").unwrap().unwrap();

        let again = node.scan();
        assert_eq!(again.root, Root::Marked(Marker { id, generation: Some("01G".to_owned()) }));
        assert!(!node.at("xds_override.conf").exists());
        assert_eq!((again.entries, again.settled), (3, true));
        let expected = main.local.tree("moh", None).unwrap();
        let expected = expected.with(&[(path("xds_override.conf"), None)].into());
        assert_eq!(*node.local.tree("moh", None).unwrap(), expected);
        assert_eq!(scanned.entries, 4);
    }

    #[test]
    fn what_a_commit_put_in_place_is_not_read_again() {
        let (mut main, mut node) = (Host::new(), Host::new());
        main.write("a.wav", "content");
        make_old(&main.at("a.wav"));
        main.scan();
        node.scan();
        node.local.prepare("moh", RUN, &TrashKeep::FOREVER).unwrap().unwrap();
        copy_all(&mut main, &mut node);
        // As the next run does, in a process of its own.
        let cache_path = node.local.cache_path(&node.at(""));
        let before = fs::read(&cache_path).unwrap();
        node.local.caches.clear();
        node.scan();
        assert_eq!(fs::read(&cache_path).unwrap(), before, "nothing was learned");
    }

    fn make_old(path: &Path) {
        let old = SystemTime::now() - Duration::from_secs(1000);
        fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }

    #[test]
    fn nobody_gets_what_is_excluded() {
        let mut main = Host::new();
        main.write("xds_override.conf", "secret");
        main.scan();
        let digest = Digest(blake3::hash(b"secret").into());
        let wanted = [BlobRequest { path: path("xds_override.conf"), digest, size: 6, offset: 0 }];
        let mut node = Host::new();
        node.scan();
        node.local.prepare("moh", RUN, &TrashKeep::FOREVER).unwrap().unwrap();
        let mut source = main.local.source("moh").unwrap();
        let received = node.local.stage("moh", &wanted, &mut source).unwrap();
        assert!(received[0].as_ref().unwrap_err().contains("not in the directory"), "{received:?}");
    }

    #[test]
    fn a_marker_that_changed_since_the_scan_stops_the_directory() {
        let mut node = Host::new();
        node.write("a", "a");
        node.scan();
        node.local.prepare("moh", RUN, &TrashKeep::FOREVER).unwrap().unwrap();
        node.scan();
        fs::remove_file(node.at(".xds-sync/root.json")).unwrap();
        let prepared = node.local.prepare("moh", RUN, &TrashKeep::FOREVER).unwrap();
        assert!(prepared.unwrap_err().contains("its marker has just changed"));
        assert!(node.local.agree("moh", "01G").unwrap().is_err());
    }

    #[test]
    fn calls_out_of_order_change_nothing() {
        let mut node = Host::new();
        assert!(node.local.tree("moh", None).is_err());
        assert!(node.local.prepare("moh", RUN, &TrashKeep::FOREVER).unwrap().is_err());
        node.write("a", "a");
        node.scan();
        let delete = Action { path: path("a"), expected: None, step: Step::Delete };
        assert!(node.local.commit("moh", &[delete]).is_err());
        assert!(node.at("a").exists());
    }
}
