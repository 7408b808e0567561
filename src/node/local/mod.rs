//! This host's own disk as an [`Endpoint`].

mod describe;
mod left;
mod prepare;
#[cfg(test)]
mod tests;
mod trash;

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};

use self::left::left_by;
use self::prepare::Prepared;
use super::accept::{Accept, READ_ONLY};
use super::endpoint::{Endpoint, KeyChange, MainKeys, PreparedRoot, Watching};
use super::error::{Attempt, NodeError, NodeErrorKind, Refusal};
use crate::disk::marker::Marker;
use crate::disk::{self, Found, HeldRoot, OwnIdentity, Owners, acl};
use crate::durable;
use crate::model::{Action, Entry, Meta, Outcome, Owner, RelPath, ReloadOutcome, TrashKeep, Tree};
use crate::reload::ReloadRequest;
use crate::snapshot::{
    Clock, HashCache, ScanControl, ScanLimits, ScanSpec, Scanned, Snapshot, loaded_digest, scan, tree_digest,
};
use crate::transfer::trash::TrashEntry;
use crate::transfer::{self, BlobRequest, LocalSource, Received, ScannedTree, Sink, Source};
use crate::watch::{OwnWrites, WatchLimits, Watches};

const CACHE_SUFFIX: &str = "hashes";
/// Beside it: what tells our directory in the root from any other.
const OWN_SUFFIX: &str = "own";
/// The cache of a root that no run has named for so long goes: Main may name any number of them.
const CACHE_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Lets Main in with another key, and returns all that this program lets in, or says why not.
pub type ReplaceKey = Box<dyn FnMut(&KeyChange) -> Attempt<Vec<String>> + Send>;

/// What a [`Local`] needs of its host.
pub struct LocalOptions {
    /// Where the caches of digests are; made when it is missing.
    pub cache_dir: PathBuf,
    /// The time.
    pub clock: Box<dyn Clock + Send>,
    /// Makes a new root's id, a ULID.
    pub new_id: Box<dyn FnMut() -> String + Send>,
    /// Runs a reload and verifies it.
    pub reload: Box<dyn FnMut(&ReloadRequest) -> ReloadOutcome + Send>,
    /// See [`MainKeys::replace_key`].
    pub replace_key: ReplaceKey,
    /// Grows with every entry that a scan sees and every byte that it reads.
    pub progress: Arc<AtomicU64>,
    /// Set when nobody waits for a scan any more: it ends then.
    pub stop: Arc<AtomicBool>,
    /// What a scan may cost.
    pub limits: ScanLimits,
    /// What watching may cost.
    pub watch_limits: WatchLimits,
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
    /// By root: no two directories share one.
    caches: HashMap<PathBuf, HashCache>,
    run: Option<OpenRun>,
    directories: HashMap<String, ScannedDirectory>,
    /// How long scans of each root have taken in this run.
    scanned: HashMap<PathBuf, Duration>,
    /// Which roots may be touched; without it all.
    accept: Option<Accept>,
    own_writes: Arc<OwnWrites>,
}

/// The run that is open.
#[derive(Debug)]
struct OpenRun {
    id: String,
    dry_run: bool,
}

/// A directory from its first scan in a run to the end of the run.
#[derive(Debug)]
struct ScannedDirectory {
    root: PathBuf,
    /// Its root, since it was first seen in this run.
    first: Option<HeldRoot>,
    snapshot: Arc<Snapshot>,
    prepared: Option<Arc<Prepared>>,
    /// What the last commit put into the trash, until it is asked for.
    trashed: Vec<TrashEntry>,
}

impl ScannedDirectory {
    /// Its root; one that this run made was not there when it was scanned.
    fn held(&self) -> Option<&HeldRoot> {
        let made = self.prepared.as_ref().map(|prepared| prepared.own().root());
        made.or(self.snapshot.held.as_ref())
    }

    /// The root that it had when it was first seen in this run.
    fn first(&self) -> Option<&HeldRoot> {
        self.first.as_ref().or(self.held())
    }
}

/// The stage of a prepared directory. It holds the lock of the root until it is dropped, even beyond the end
/// of the run.
#[derive(Debug)]
pub(crate) struct LocalStaging {
    snapshot: Arc<Snapshot>,
    prepared: Arc<Prepared>,
}

impl LocalStaging {
    /// See [`Endpoint::stage`]. No two callers may want the same content at the same time.
    pub(crate) fn stage(&self, wanted: &[BlobRequest], source: &mut dyn Source) -> Received {
        let stamps = |path: &RelPath| self.snapshot.stamp(path);
        let seen = ScannedTree { tree: &self.snapshot.tree, stamps: &stamps };
        transfer::stage(self.prepared.own(), &seen, wanted, source)
    }
}

impl Local {
    /// This host, with no run open.
    #[must_use]
    pub fn new(options: LocalOptions) -> Local {
        Local {
            options,
            owners: Owners::default(),
            caches: HashMap::new(),
            run: None,
            directories: HashMap::new(),
            scanned: HashMap::new(),
            accept: None,
            own_writes: Arc::default(),
        }
    }

    /// The same, which tells of its commits to whoever watches, and knows of theirs.
    #[must_use]
    pub fn sharing(self, own_writes: Arc<OwnWrites>) -> Local {
        Local { own_writes, ..self }
    }

    /// The same, with no other roots than a node accepts.
    #[must_use]
    pub fn accepting(self, accept: Accept) -> Local {
        Local { accept: Some(accept), ..self }
    }

    /// Goes to a directory's root; the error says why it must not be touched. Between the first look in a run and its
    /// end, it is the directory that was found first.
    fn find(&self, spec: &ScanSpec) -> Result<Found, String> {
        let found = Found::root(&spec.root).map_err(|error| error.to_string())?;
        if let Some(accept) = &self.accept {
            accept.root(&spec.root)?;
            accept.place(&spec.root, found.real())?;
        }
        let before = self.directories.get(&spec.directory).filter(|before| before.root == spec.root);
        match (before.and_then(ScannedDirectory::first), found) {
            (None, Found::Root(root)) => Ok(Found::Root(root.remembering(self.remembered(&spec.root)))),
            (None, found) => Ok(found),
            (Some(held), Found::Root(now)) if now.is(held) => Ok(Found::Root(held.clone())),
            (Some(_), _) => Err("something else has taken its place in this run".to_owned()),
        }
    }

    /// Mode and owner of a scanned directory's root, if there is one.
    pub(crate) fn root_meta(&mut self, directory: &str) -> Option<Meta> {
        let held = self.held(directory).ok()?;
        let stat = rustix::fs::fstat(&held).ok()?;
        let mode = u16::try_from(acl::mode_of_dir(&held, stat.st_mode) & 0o3777).ok()?;
        Some(Meta { mode, owner: self.owners.of(stat.st_uid, stat.st_gid) })
    }

    /// A source of the contents of a directory as it was scanned. Several may be in use at the same time.
    pub(crate) fn source(&self, directory: &str) -> Result<LocalSource, NodeError> {
        let held = self.held(directory)?;
        let snapshot = Arc::clone(&self.scanned(directory)?.snapshot);
        let stamps = move |path: &RelPath| match snapshot.tree.get(path) {
            Some(Entry::File(_)) => snapshot.stamp(path),
            _ => None,
        };
        Ok(LocalSource::new(held, Arc::new(stamps)))
    }

    /// The stage of a prepared directory, to receive contents without holding up other callers of this host. It
    /// stays valid when the directory is scanned or prepared again.
    pub(crate) fn staging(&self, directory: &str) -> Result<LocalStaging, NodeError> {
        let scanned = self.scanned(directory)?;
        let prepared = scanned.prepared.as_ref().ok_or_else(|| not_prepared(directory))?;
        Ok(LocalStaging { snapshot: Arc::clone(&scanned.snapshot), prepared: Arc::clone(prepared) })
    }

    fn scanned(&self, directory: &str) -> Result<&ScannedDirectory, NodeError> {
        self.directories.get(directory).ok_or_else(|| misuse(format!("{directory} was not scanned")))
    }

    fn held(&self, directory: &str) -> Result<HeldRoot, NodeError> {
        let held = self.scanned(directory)?.snapshot.held.clone();
        held.ok_or_else(|| misuse(format!("{directory} has no root to send from")))
    }

    /// The id of the run that is open, if it may change this host.
    fn changing_run(&self) -> Result<&str, NodeError> {
        if self.is_read_only() {
            return Err(NodeError::new(NodeErrorKind::Refused, READ_ONLY));
        }
        match &self.run {
            Some(run) if !run.dry_run => Ok(&run.id),
            Some(_) => Err(misuse("a change in a dry run")),
            None => Err(misuse("a change outside of a run")),
        }
    }

    fn since_epoch(&self) -> Duration {
        self.options.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn cache_path(&self, root: &Path) -> PathBuf {
        let name = blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex();
        self.options.cache_dir.join(format!("{}.{CACHE_SUFFIX}", &name[..32]))
    }

    /// What tells our directory in a root from any other, as it was when it was last prepared.
    fn remembered(&self, root: &Path) -> Option<OwnIdentity> {
        let text = fs::read(self.cache_path(root).with_extension(OWN_SUFFIX)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Errors are ignored: without it, one that changes hands is refused.
    fn remember(&self, root: &Path, own: Option<OwnIdentity>) {
        if own == self.remembered(root) {
            return;
        }
        let path = self.cache_path(root).with_extension(OWN_SUFFIX);
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(&self.options.cache_dir);
        let _ = match own.map(|own| serde_json::to_vec(&own)) {
            Some(Ok(text)) => durable::replace(&path, &text, durable::Options::PRIVATE),
            _ => fs::remove_file(&path),
        };
    }

    /// Errors are ignored: without its cache the next scan reads all files again, which is slow but right.
    fn save_cache(&mut self, root: &Path) {
        let path = self.cache_path(root);
        if let Some(cache) = self.caches.get_mut(root) {
            let _ = DirBuilder::new().recursive(true).mode(0o700).create(&self.options.cache_dir);
            let _ = cache.save(&path);
        }
    }

    /// Removes the caches of roots that have not been scanned for long. Those of this session are marked as used, since a
    /// cache is only written when something was learned.
    fn prune_caches(&self) {
        let now = self.options.clock.now();
        let paths = self.caches.keys().map(|root| self.cache_path(root));
        let used: Vec<PathBuf> = paths.flat_map(|path| [path.with_extension(OWN_SUFFIX), path]).collect();
        let is_ours = |path: &Path| path.extension().is_some_and(|is| is == CACHE_SUFFIX || is == OWN_SUFFIX);
        let Ok(entries) = fs::read_dir(&self.options.cache_dir) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let age = || now.duration_since(fs::symlink_metadata(&path).ok()?.modified().ok()?).ok();
            if used.contains(&path) {
                let _ = File::options().write(true).open(&path).and_then(|file| file.set_modified(now));
            } else if is_ours(&path) && age().is_some_and(|age| age > CACHE_KEPT) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn write_generation(&self, scanned: &ScannedDirectory, generation: &str) -> anyhow::Result<()> {
        let Some(held) = scanned.held() else {
            bail!("{}: is missing", scanned.root.display());
        };
        let marker = Marker::read(held).with_context(|| in_root(held, "its marker cannot be read"))?;
        let Some(marker) = marker else { bail!("{}", in_root(held, "its marker is gone")) };
        if marker.generation.as_deref() == Some(generation) {
            return Ok(());
        }
        let marker = Marker { generation: Some(generation.to_owned()), ..marker };
        marker.write(held).with_context(|| in_root(held, "its marker cannot be written"))
    }
}

impl Endpoint for Local {
    fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.options.stop)
    }

    fn is_read_only(&self) -> bool {
        self.accept.as_ref().is_some_and(|accept| accept.read_only)
    }

    fn begin(&mut self, run: &str, dry_run: bool) -> Result<(), NodeError> {
        self.end()?;
        // A look-up that failed in an earlier run may succeed now: accounts are added, and a directory service may have
        // been down.
        self.owners = Owners::default();
        self.run = Some(OpenRun { id: run.to_owned(), dry_run });
        Ok(())
    }

    fn end(&mut self) -> Result<(), NodeError> {
        if self.run.take().is_some() {
            self.prune_caches();
        }
        self.directories.clear();
        self.scanned.clear();
        Ok(())
    }

    fn watch(&mut self, specs: &[ScanSpec]) -> Result<Watching, NodeError> {
        let mut watches = match Watches::new(self.options.watch_limits, Arc::clone(&self.own_writes)) {
            Ok(watches) => watches,
            Err(why) => {
                let roots = specs.iter().map(|_| Err(Refusal::new(why.clone()))).collect();
                return Ok(Watching { roots, watches: None });
            }
        };
        let mut watch = |spec: &ScanSpec| {
            let held = match self.find(spec)? {
                Found::Root(held) => held,
                Found::Missing(_) => return Err(format!("{} does not exist", spec.root.display())),
            };
            watches.add(&spec.directory, held, spec.rules()?)
        };
        let roots = specs.iter().map(|spec| watch(spec).map_err(Refusal::new)).collect();
        Ok(Watching { roots, watches: Some(watches) })
    }

    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        let found = self.find(spec);
        let cache_path = self.cache_path(&spec.root);
        let cache = self.caches.entry(spec.root.clone()).or_insert_with(|| HashCache::load(&cache_path));
        let LocalOptions { clock, progress, stop, limits, .. } = &self.options;
        // What the first scan of a run had no time for, the others have none for either.
        let scanned = self.scanned.entry(spec.root.clone()).or_default();
        let limits = ScanLimits { reading: limits.reading.saturating_sub(*scanned), ..*limits };
        let control = ScanControl { progress, stop, limits };
        let began = clock.now();
        let snapshot = scan(spec, found, cache, &**clock, &control);
        *scanned += clock.now().duration_since(began).unwrap_or_default();
        self.save_cache(&spec.root);
        let before = self.directories.remove(&spec.directory);
        let first = before.as_ref().filter(|before| before.root == spec.root);
        let first = first.and_then(ScannedDirectory::first).cloned();
        let (prepared, trashed) = before.map_or((None, Vec::new()), |old| (old.prepared, old.trashed));
        let prepared = prepared.filter(|prepared| prepared.is_of(snapshot.held.as_ref()));
        let scanned = Scanned {
            root: snapshot.root.clone(),
            digest: tree_digest(&snapshot.tree),
            loaded: loaded_digest(&snapshot.tree),
            entries: snapshot.tree.len() as u64,
            settled: snapshot.settled,
            free: match &snapshot.held {
                Some(held) => transfer::space_with_stage(held, snapshot.free),
                None => snapshot.free,
            },
            mount: snapshot.held.as_ref().and_then(disk::mount_point).unwrap_or_default(),
            // What lies in the stage of a prepared directory was put there by this run.
            leftovers: prepared.is_none() && snapshot.held.as_ref().is_some_and(transfer::has_leftovers),
        };
        let (root, snapshot) = (spec.root.clone(), Arc::new(snapshot));
        let directory = ScannedDirectory { root, first, snapshot, prepared, trashed };
        self.directories.insert(spec.directory.clone(), directory);
        Ok(scanned)
    }

    fn tree(&mut self, directory: &str, _like: Option<&Arc<Tree>>) -> Result<Arc<Tree>, NodeError> {
        Ok(Arc::clone(&self.scanned(directory)?.snapshot.tree))
    }

    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError> {
        Ok(owners.iter().map(|owner| self.owners.known(owner)).collect())
    }

    fn prepare(
        &mut self,
        directory: &str,
        trash: &TrashKeep,
        root: Option<&Meta>,
    ) -> Result<Attempt<PreparedRoot>, NodeError> {
        self.changing_run()?;
        Ok(self.prepare_root(directory, trash, root).map_err(Refusal::from))
    }

    fn clear_stage(&mut self, directory: &str) -> Result<Attempt<()>, NodeError> {
        self.changing_run()?;
        let prepared = self.scanned(directory)?.prepared.as_ref().ok_or_else(|| not_prepared(directory))?;
        Ok(self.clear(prepared).map_err(Refusal::from))
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
        // What cannot be read is reported to the sink; an error is the sink's own.
        self.source(directory)?.send(wanted, sink).map_err(sink_lost)
    }

    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError> {
        let run = self.changing_run()?.to_owned();
        // Not by `scanned`, which would borrow all of `self`.
        let scanned = self.directories.get_mut(directory);
        let scanned = scanned.ok_or_else(|| misuse(format!("{directory} was not scanned")))?;
        let prepared = scanned.prepared.as_ref().ok_or_else(|| not_prepared(directory))?;
        let stamps = |path: &RelPath| scanned.snapshot.stamp(path);
        let seen = ScannedTree { tree: &scanned.snapshot.tree, stamps: &stamps };
        let own_commit = self.own_writes.begin(directory);
        let committed = match transfer::commit(prepared.own(), &run, &seen, actions, &mut self.owners) {
            Ok(committed) => committed,
            Err(error) => return Ok(vec![Outcome::Failed(format!("{error:#}")); actions.len()]),
        };
        own_commit.leave(left_by(actions, &committed));
        drop(own_commit);
        scanned.trashed = committed.trashed;
        let root = scanned.root.clone();
        if let Some(cache) = self.caches.get_mut(&root) {
            for placed in &committed.placed {
                cache.record(&placed.path, placed.stamp, placed.digest);
            }
        }
        self.save_cache(&root);
        Ok(committed.outcomes)
    }

    fn agree(&mut self, directory: &str, generation: &str) -> Result<Attempt<()>, NodeError> {
        self.changing_run()?;
        let scanned = self.scanned(directory)?;
        Ok(self.write_generation(scanned, generation).map_err(Refusal::from))
    }

    fn trashed(&mut self, directory: &str) -> Result<Vec<TrashEntry>, NodeError> {
        let scanned = self.directories.get_mut(directory);
        let scanned = scanned.ok_or_else(|| misuse(format!("{directory} was not scanned")))?;
        Ok(std::mem::take(&mut scanned.trashed))
    }

    fn reload(&mut self, request: &ReloadRequest) -> Result<ReloadOutcome, NodeError> {
        self.changing_run()?;
        Ok((self.options.reload)(request))
    }
}

impl MainKeys for Local {
    fn replace_key(&mut self, change: &KeyChange) -> Result<Attempt<Vec<String>>, NodeError> {
        self.changing_run()?;
        Ok((self.options.replace_key)(change))
    }
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
fn misuse(what: impl Into<String>) -> NodeError {
    NodeError::new(NodeErrorKind::Lost, what)
}

fn not_prepared(directory: &str) -> NodeError {
    misuse(format!("{directory} was not prepared"))
}
