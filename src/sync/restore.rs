//! Restores versions from the trash of Main or of a node on Main. The next run spreads them, as it does any change
//! on Main.
//!
//! Every host that has the directory is searched, since a file that was removed by hand on Main is in the trash of
//! nodes alone. Nothing is changed on a node.

mod actions;
mod choose;
mod file;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, MutexGuard};
use std::thread;

use anyhow::{Context as _, bail};

use crate::model::{Action, Entry, File, Outcome, RelPath, RelPathBuf, Tree};
use crate::node::{Endpoint as _, Local, NodeError, NodeSession};
use crate::report::Guard;
use crate::snapshot::{Root, Rules, ScanSpec};
use crate::sync::blobs::{self, Missing};
use crate::sync::metered::Metered;
use crate::sync::origin::check_root;
use crate::sync::permits::Permits;
use crate::sync::spec::{DirectorySpec, Spec};
use crate::sync::throttle::Throttle;
use crate::sync::{Environment, lock};
use crate::transfer::trash::{TrashEntry, TrashId};
use crate::transfer::{BlobRequest, Sink, Source};

pub use choose::{NotFound, Selection};

pub use crate::model::MAIN;

/// A version of a path in the trash of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrashedVersion {
    /// [`MAIN`], or the node's name.
    pub host: String,
    /// What lies there.
    pub entry: TrashEntry,
}

/// A root of Main into which nothing may be restored, because a run would not touch it either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootHalted(pub Guard, pub String);

impl fmt::Display for RootHalted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for RootHalted {}

/// What became of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The path in the directory.
    pub path: RelPathBuf,
    /// The version that was to be restored.
    pub version: TrashedVersion,
    /// How it went.
    pub outcome: RestoreOutcome,
}

/// How the restoration of one path went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// The version is in place; what it replaced is in Main's trash under this id.
    Done(Option<TrashId>),
    /// The same was in place already.
    AlreadyThere,
    /// It is not in place, and why; what was there before is still there.
    Failed(String),
}

/// The hosts that were searched, and what they have.
pub struct Search<'a> {
    environment: &'a Environment<'a>,
    spec: &'a Spec,
    directory: &'a DirectorySpec,
    /// The id of this restoration, which is made as a run's.
    run: String,
    /// Main's root, as it was scanned.
    main_root: Root,
    /// Connected nodes.
    nodes: BTreeMap<String, Box<dyn NodeSession>>,
    versions: Vec<TrashedVersion>,
    unreachable: Vec<(String, NodeError)>,
    unreadable: Vec<(String, String)>,
    throttle: Throttle,
}

impl fmt::Debug for Search<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("versions", &self.versions).finish_non_exhaustive()
    }
}

/// Searches the trash of Main and of all nodes that have `directory`, or of `host` alone, for versions of `path` and
/// of what was below it. `directory` is one of `spec`, which has every directory and every node.
///
/// `Err`: Main's own disk cannot be read, or the path does not belong to the directory. A node that cannot be reached
/// is in the result.
pub fn search<'a>(
    environment: &'a Environment<'a>,
    spec: &'a Spec,
    directory: &'a DirectorySpec,
    path: &RelPath,
    host: Option<&str>,
) -> anyhow::Result<Search<'a>> {
    check_path(spec, directory, path)?;
    let mut search = Search {
        environment,
        spec,
        directory,
        run: (environment.new_id)(),
        main_root: Root::Missing,
        nodes: BTreeMap::new(),
        versions: Vec::new(),
        unreachable: Vec::new(),
        unreadable: Vec::new(),
        throttle: Throttle::new(spec.bandwidth),
    };
    let is_meant = |name: &str| host.is_none_or(|host| host == name);
    let edges = spec.nodes.iter().filter(|node| is_meant(&node.name)).filter_map(|node| {
        let edge = node.edges.iter().find(|edge| edge.directory.name == directory.name)?;
        Some((&node.name, &edge.scan))
    });
    let permits = Permits::new(spec.parallel);
    let run = search.run.clone();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (node, scan) in edges {
            let (permits, run) = (&permits, &run);
            let thread = scope.spawn(move || {
                let _permit = permits.take();
                search_node(environment, node, scan, run, path)
            });
            threads.push((node, thread));
        }
        lock(&environment.main).begin(&run, false)?;
        let (main_root, found) = list_versions(&mut *lock(&environment.main), &directory.scan, path)?;
        search.main_root = main_root;
        if is_meant(MAIN) {
            search.add(MAIN, found);
        }
        for (node, thread) in threads {
            match thread.join() {
                Ok(Ok((endpoint, found))) => {
                    search.add(node, found);
                    search.nodes.insert(node.clone(), endpoint);
                }
                Ok(Err(error)) => search.unreachable.push((node.clone(), error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(search)
}

/// Refuses what the rules exclude, and what belongs to another directory.
fn check_path(spec: &Spec, directory: &DirectorySpec, path: &RelPath) -> anyhow::Result<()> {
    let name = &directory.name;
    let rules = Rules::new(&directory.scan.exclude, Vec::new()).map_err(anyhow::Error::msg)?;
    if rules.keeps_out(path) {
        bail!("{} is excluded from {name}", path.for_people());
    }
    let root = &directory.scan.root;
    let at = root.join(OsStr::from_bytes(path.as_bytes()));
    let inner = spec.directories.iter().find(|other| {
        other.name != *name && other.scan.root.starts_with(root) && at.starts_with(&other.scan.root)
    });
    if let Some(inner) = inner {
        bail!("{} belongs to the directory {}, not to {name}", path.for_people(), inner.name);
    }
    Ok(())
}

/// The versions on a host, or why its trash cannot be read.
type Listing = Result<Vec<TrashEntry>, String>;

fn search_node(
    environment: &Environment<'_>,
    node: &str,
    scan: &ScanSpec,
    run: &str,
    path: &RelPath,
) -> Result<(Box<dyn NodeSession>, Listing), NodeError> {
    let mut endpoint = environment.connect.connect(node)?;
    // Nodes are only searched: as in a dry run, they refuse to be changed.
    endpoint.begin(run, true)?;
    let (_, found) = list_versions(endpoint.as_mut(), scan, path)?;
    Ok((endpoint, found))
}

fn list_versions(
    endpoint: &mut dyn NodeSession,
    scan: &ScanSpec,
    path: &RelPath,
) -> Result<(Root, Listing), NodeError> {
    let root = endpoint.scan(scan)?.root;
    let found = match &root {
        Root::Missing => Ok(Vec::new()),
        Root::Unusable(why) => Err(why.clone()),
        Root::Marked(_) | Root::Unmarked => endpoint.versions(&scan.directory, path)?.map_err(String::from),
    };
    Ok((root, found))
}

impl Search<'_> {
    fn add(&mut self, host: &str, found: Listing) {
        match found {
            Ok(entries) => self
                .versions
                .extend(entries.into_iter().map(|entry| TrashedVersion { host: host.to_owned(), entry })),
            Err(why) => self.unreadable.push((host.to_owned(), why)),
        }
    }

    /// All that was found, the newest first: what a later run put into a trash, and within a run what was modified
    /// later.
    #[must_use]
    pub fn versions(&self) -> Vec<&TrashedVersion> {
        let mut versions: Vec<&TrashedVersion> = self.versions.iter().collect();
        versions.sort_by_key(|version| std::cmp::Reverse(self.age(version)));
        versions
    }

    /// Nodes that could not be reached, and why.
    #[must_use]
    pub fn unreachable(&self) -> &[(String, NodeError)] {
        &self.unreachable
    }

    /// How many nodes were searched.
    #[must_use]
    pub fn searched_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Hosts whose trash could not be read, and why.
    #[must_use]
    pub fn unreadable(&self) -> &[(String, String)] {
        &self.unreadable
    }

    /// What `selection` means: a version of `path`, or one of each path below it.
    pub fn choose(&self, path: &RelPath, selection: &Selection) -> Result<Vec<&TrashedVersion>, NotFound> {
        choose::choose(&self.versions(), path, selection)
    }

    fn age<'v>(&self, version: &'v TrashedVersion) -> choose::Age<'v> {
        let configured = self.spec.nodes.iter().position(|node| node.name == version.host);
        // Main comes before the first node.
        choose::Age::of(version, configured.map_or(0, |at| at + 1))
    }

    /// The id of this restoration, which is made as a run's.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Puts versions in place on Main. `Err`: nothing was put in place.
    pub fn restore(mut self, chosen: &[TrashedVersion]) -> anyhow::Result<Vec<Restored>> {
        let (tree, mode) = self.prepare_main()?;
        let mut restored: Vec<Restored> = Vec::new();
        let mut to_commit = Vec::new();
        for (version, entry) in self.recall(chosen)? {
            match entry.and_then(|entry| actions::needed(&tree, &version.entry.place.path, entry)) {
                Ok(None) => restored.push(Restored::new(version, RestoreOutcome::AlreadyThere)),
                Ok(Some(entry)) => to_commit.push((version, entry)),
                Err(why) => restored.push(Restored::new(version, RestoreOutcome::Failed(why))),
            }
        }
        let entries =
            to_commit.iter().map(|(version, entry)| (version.entry.place.path.clone(), entry.clone()));
        let actions = actions::actions(&tree, entries.collect(), mode);
        let missing = self.stage(&to_commit)?;
        let mut outcomes = self.commit(actions, &missing);
        let mut replaced = self.trashed_now();
        for (version, _) in to_commit {
            let path = &version.entry.place.path;
            let outcome = match outcomes.remove(path) {
                Some(Outcome::Done | Outcome::Kept(_)) => RestoreOutcome::Done(replaced.remove(path)),
                Some(Outcome::Failed(why)) => RestoreOutcome::Failed(why),
                Some(Outcome::Changed) | None => {
                    RestoreOutcome::Failed("it has just changed there; try again".to_owned())
                }
            };
            restored.push(Restored::new(version, outcome));
        }
        restored.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(restored)
    }

    /// Carries out `actions` on Main, but for those whose content is `missing`; returns how each went.
    fn commit(
        &self,
        actions: Vec<Action>,
        missing: &BTreeMap<RelPathBuf, String>,
    ) -> BTreeMap<RelPathBuf, Outcome> {
        let name = &self.directory.name;
        let lacks = |action: &Action| missing.get(&action.path).cloned().map(Missing::Failed);
        let committed =
            blobs::commit_present(&actions, lacks, |ready| lock(&self.environment.main).commit(name, ready));
        // Some may have been carried out before it failed: none is confirmed.
        let outcomes =
            committed.unwrap_or_else(|error| vec![Some(Outcome::Failed(error.to_string())); actions.len()]);
        let outcomes = actions.into_iter().map(|action| action.path).zip(outcomes);
        outcomes.filter_map(|(path, outcome)| Some((path, outcome?))).collect()
    }

    /// What this restoration has put into Main's trash.
    fn trashed_now(&self) -> BTreeMap<RelPathBuf, TrashId> {
        let trashed = lock(&self.environment.main).trashed(&self.directory.name).unwrap_or_else(|error| {
            log::warn!("the ids of replaced versions are unknown: {error}");
            Vec::new()
        });
        trashed.into_iter().map(|entry| (entry.place.path, entry.place.id)).collect()
    }

    /// Prepares Main's root, if it is the right one; returns its tree and the mode of the root itself.
    fn prepare_main(&self) -> anyhow::Result<(Arc<Tree>, u16)> {
        let directory = self.directory;
        let mut main = lock(&self.environment.main);
        let mut ledger = self.environment.state.ledger()?;
        let known = ledger.roots.get(&directory.name);
        check_root(directory, &self.main_root, known.map(String::as_str))
            .map_err(|halt| RootHalted(halt.guard, halt.detail))?;
        // Nothing is deleted from the trash now, since it may be what is to be restored.
        let keep = crate::model::TrashKeep::FOREVER;
        let id = main.prepare(&directory.name, &keep, None)??.id;
        if known.is_none() {
            ledger.roots.insert(directory.name.clone(), id);
            self.environment.state.save_ledger(&ledger)?;
        }
        let mode = main.root_mode(&directory.name)?;
        Ok((main.tree(&directory.name, None)?, u16::try_from(mode & 0o3777).unwrap_or(0)))
    }

    /// The chosen versions, each as the entry that it would be in the tree.
    fn recall(
        &mut self,
        chosen: &[TrashedVersion],
    ) -> anyhow::Result<Vec<(TrashedVersion, Result<Entry, String>)>> {
        let mut recalled = Vec::with_capacity(chosen.len());
        for ((host, id), group) in groups(chosen.iter(), |version| version) {
            let paths: Vec<RelPathBuf> =
                group.iter().map(|version| version.entry.place.path.clone()).collect();
            let entries = self.with_endpoint(host, |endpoint, name| endpoint.recall(name, id, &paths));
            let entries = entries.with_context(|| format!("the trash of {host}"))?;
            let entries = entries.into_iter().map(|entry| entry.map_err(String::from));
            recalled.extend(group.into_iter().cloned().zip(entries));
        }
        Ok(recalled)
    }

    /// Fetches contents into Main's stage; returns why some are missing, by path.
    fn stage(
        &mut self,
        to_commit: &[(TrashedVersion, Entry)],
    ) -> anyhow::Result<BTreeMap<RelPathBuf, String>> {
        let mut missing = BTreeMap::new();
        let staging = lock(&self.environment.main).staging(&self.directory.name)?;
        let files = to_commit.iter().filter_map(|(version, entry)| Some((version, entry.as_file()?)));
        for ((host, id), group) in groups(files, |(version, _)| version) {
            let requests: Vec<BlobRequest> =
                group.into_iter().map(|(version, file)| blob_request(version, file)).collect();
            let received = self.with_source(host, id, |source| staging.stage(&requests, source));
            let received = received.with_context(|| format!("the trash of {host}"))?;
            let results = requests.into_iter().zip(received);
            missing.extend(results.filter_map(|(request, result)| Some((request.path, result.err()?))));
        }
        Ok(missing)
    }

    /// Writes one version to a file anywhere on Main; nothing is replaced, and the directory is not touched.
    pub fn write_to(mut self, chosen: &TrashedVersion, to: &Path) -> anyhow::Result<()> {
        let (version, entry) =
            self.recall(std::slice::from_ref(chosen))?.pop().context("nothing was chosen")?;
        let entry = entry.map_err(anyhow::Error::msg)?;
        let Some(file) = entry.as_file().cloned() else { bail!("it is a symlink; --to writes files only") };
        let request = blob_request(&version, &file);
        let run = self.run.clone();
        self.with_source(&version.host, &version.entry.place.id, |source| {
            file::write(to, &run, &file, &request, source)
        })?
    }

    /// Calls a host that was searched.
    fn with_endpoint<T>(
        &mut self,
        host: &str,
        call: impl FnOnce(&mut dyn NodeSession, &str) -> Result<T, NodeError>,
    ) -> anyhow::Result<T> {
        let name = &self.directory.name;
        match self.nodes.get_mut(host) {
            Some(node) => Ok(call(node.as_mut(), name)?),
            None => Ok(call(&mut *lock(&self.environment.main), name)?),
        }
    }

    /// Lets `receive` take contents from the trash of a host.
    fn with_source<T>(
        &mut self,
        host: &str,
        id: &TrashId,
        receive: impl FnOnce(&mut dyn Source) -> T,
    ) -> anyhow::Result<T> {
        let directory = &self.directory.name;
        let environment = self.environment;
        let mut main: MutexGuard<'_, Local>;
        let endpoint: &mut dyn NodeSession = match self.nodes.get_mut(host) {
            Some(node) => node.as_mut(),
            None => {
                main = lock(&environment.main);
                &mut *main
            }
        };
        let mut source = TrashSource { endpoint, directory, id };
        let never = AtomicBool::new(false);
        Ok(receive(&mut Metered {
            source: &mut source,
            node: host,
            throttle: &self.throttle,
            now: environment.now,
            progress: environment.progress,
            stop: &never,
            bytes: 0,
        }))
    }
}

impl Restored {
    fn new(version: TrashedVersion, outcome: RestoreOutcome) -> Restored {
        Restored { path: version.entry.place.path.clone(), version, outcome }
    }
}

fn blob_request(version: &TrashedVersion, file: &File) -> BlobRequest {
    let path = version.entry.place.path.clone();
    BlobRequest { path, digest: file.digest, size: file.size, offset: 0 }
}

/// Groups by host and id, whose contents can be requested together.
fn groups<'v, T>(
    items: impl Iterator<Item = T>,
    version: impl Fn(&T) -> &'v TrashedVersion,
) -> BTreeMap<(&'v str, &'v TrashId), Vec<T>> {
    let mut groups: BTreeMap<_, Vec<T>> = BTreeMap::new();
    for item in items {
        let version = version(&item);
        groups.entry((&*version.host, &version.entry.place.id)).or_default().push(item);
    }
    groups
}

/// The trash of a host as a source of file contents.
struct TrashSource<'a> {
    endpoint: &'a mut dyn NodeSession,
    directory: &'a str,
    id: &'a TrashId,
}

impl Source for TrashSource<'_> {
    fn send(&mut self, requests: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        Ok(self.endpoint.send_trashed(self.directory, self.id, requests, sink)?)
    }
}
