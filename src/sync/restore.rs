//! The way back: from the trash of Main or of a node onto Main. The next run spreads it, as it does any change
//! of Main's.
//!
//! Every host that has the directory is asked, since a file that was removed by hand on Main lies in the trash
//! of nodes alone. Nothing is changed on a node.

mod actions;
mod choose;
mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, MutexGuard};
use std::thread;

use anyhow::{Context as _, bail};

use crate::config::{Directory, Node};
use crate::model::{Action, Entry, File, Outcome, RelPath, RelPathBuf, Tree};
use crate::node::{Endpoint as _, Local, NodeError, NodeSession};
use crate::report::Guard;
use crate::snapshot::{Root, Rules};
use crate::sync::carry;
use crate::sync::main_side::check_root;
use crate::sync::permits::Permits;
use crate::sync::wire::{OnWire, Throttle};
use crate::sync::{Site, lock};
use crate::transfer::trash::{TrashEntry, TrashId};
use crate::transfer::{BlobRequest, Sink, Source};

pub use actions::Obstacle;
pub use choose::{Asked, Nothing};

/// Main, as `--node` and reports name it; no node may have this name.
pub const MAIN: &str = "main";

/// A version of a path in the trash of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// [`MAIN`], or the node's name.
    pub host: String,
    /// What lies there.
    pub entry: TrashEntry,
}

/// A root of Main's that nothing may be restored into: a run would not touch it either.
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
    /// Where it stands.
    pub path: RelPathBuf,
    /// Whose version it is, and which.
    pub version: Version,
    /// How it went.
    pub outcome: Came,
}

/// How a restoration went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// It stands there again; what stood there is in Main's trash under this id.
    Back(Option<TrashId>),
    /// Just this stood there already.
    Already,
    /// It did not, and why; nothing was changed there.
    Not(String),
}

/// The hosts that were asked, and what they have.
pub struct Search<'a> {
    site: &'a Site<'a>,
    directory: &'a Directory,
    /// This restoration, among runs.
    run: String,
    /// Main's root, as it was scanned.
    main_root: Root,
    /// Connected nodes.
    nodes: BTreeMap<String, Box<dyn NodeSession>>,
    versions: Vec<Version>,
    unasked: Vec<(String, NodeError)>,
    unread: Vec<(String, String)>,
    throttle: Throttle,
}

impl fmt::Debug for Search<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("versions", &self.versions).finish_non_exhaustive()
    }
}

/// Asks Main and all nodes that have `directory`, or `host` alone, for versions of `path` and of what was below it.
///
/// `Err` is Main's own disk that cannot be read, or a path that is no part of the directory. A node that cannot
/// be asked is in the result.
pub fn search<'a>(
    site: &'a Site<'a>,
    directory: &'a Directory,
    path: &RelPath,
    host: Option<&str>,
) -> anyhow::Result<Search<'a>> {
    may_name(site, directory, path)?;
    let mut search = Search {
        site,
        directory,
        run: (site.new_id)(),
        main_root: Root::Missing,
        nodes: BTreeMap::new(),
        versions: Vec::new(),
        unasked: Vec::new(),
        unread: Vec::new(),
        throttle: Throttle::new(site.config.sync.bandwidth),
    };
    let is_asked = |name: &str| host.is_none_or(|host| host == name);
    let nodes: Vec<&Node> = site.config.nodes.iter().collect();
    let nodes = nodes.into_iter().filter(|node| directory.is_for(node) && is_asked(&node.name));
    let permits = Permits::new(site.config.sync.parallel);
    let run = &search.run.clone();
    thread::scope(|scope| {
        let mut asking = Vec::new();
        for node in nodes {
            let permits = &permits;
            asking.push((
                node,
                scope.spawn(move || {
                    let _permit = permits.take();
                    ask(site, directory, node, run, path)
                }),
            ));
        }
        lock(&site.main).begin(run, false)?;
        let (main_root, found) = look(&mut *lock(&site.main), site, directory, None, path)?;
        search.main_root = main_root;
        if is_asked(MAIN) {
            search.add(MAIN, found);
        }
        for (node, asking) in asking {
            match asking.join() {
                Ok(Ok((endpoint, found))) => {
                    search.add(&node.name, found);
                    search.nodes.insert(node.name.clone(), endpoint);
                }
                Ok(Err(error)) => search.unasked.push((node.name.clone(), error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(search)
}

/// What may not be restored: what the rules keep out, and what belongs to another directory.
fn may_name(site: &Site<'_>, directory: &Directory, path: &RelPath) -> anyhow::Result<()> {
    let name = &directory.name;
    let rules = Rules::new(&directory.exclude, Vec::new()).map_err(anyhow::Error::msg)?;
    if rules.keeps_out(path) {
        bail!("{} is excluded from {name}", path.for_people());
    }
    use std::os::unix::ffi::OsStrExt as _;
    let at = directory.path.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
    let inner = site.config.directories.iter().find(|other| {
        other.name != *name && other.path.starts_with(&directory.path) && at.starts_with(&other.path)
    });
    if let Some(inner) = inner {
        bail!("{} belongs to the directory {}, not to {name}", path.for_people(), inner.name);
    }
    Ok(())
}

/// The versions of a host, or why its trash cannot be read.
type Found = Result<Vec<TrashEntry>, String>;

fn ask(
    site: &Site<'_>,
    directory: &Directory,
    node: &Node,
    run: &str,
    path: &RelPath,
) -> Result<(Box<dyn NodeSession>, Found), NodeError> {
    let mut endpoint = site.connect.connect(node)?;
    // Nodes are only asked: as in a dry run, they refuse to be changed.
    endpoint.begin(run, true)?;
    let (_, found) = look(endpoint.as_mut(), site, directory, Some(node), path)?;
    Ok((endpoint, found))
}

fn look(
    endpoint: &mut dyn NodeSession,
    site: &Site<'_>,
    directory: &Directory,
    node: Option<&Node>,
    path: &RelPath,
) -> Result<(Root, Found), NodeError> {
    let root = endpoint.scan(&site.config.scan_spec(directory, node, false))?.root;
    let found = match &root {
        Root::Missing => Ok(Vec::new()),
        Root::Unusable(why) => Err(why.clone()),
        Root::Marked(_) | Root::Unmarked => endpoint.versions(&directory.name, path)?.map_err(String::from),
    };
    Ok((root, found))
}

impl Search<'_> {
    fn add(&mut self, host: &str, found: Found) {
        match found {
            Ok(entries) => self
                .versions
                .extend(entries.into_iter().map(|entry| Version { host: host.to_owned(), entry })),
            Err(why) => self.unread.push((host.to_owned(), why)),
        }
    }

    /// All that was found, the newest first: what a run trashed later, and within a run what was modified later.
    #[must_use]
    pub fn versions(&self) -> Vec<&Version> {
        let mut versions: Vec<&Version> = self.versions.iter().collect();
        versions.sort_by_key(|version| std::cmp::Reverse(self.age(version)));
        versions
    }

    /// Nodes that could not be asked.
    #[must_use]
    pub fn unasked(&self) -> &[(String, NodeError)] {
        &self.unasked
    }

    /// How many nodes were asked.
    #[must_use]
    pub fn asked_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Hosts whose trash could not be read.
    #[must_use]
    pub fn unread(&self) -> &[(String, String)] {
        &self.unread
    }

    /// What is brought back when `asked` is: the version of `path`, or of each path below it.
    pub fn choose(&self, path: &RelPath, asked: &Asked) -> Result<Vec<&Version>, Nothing> {
        choose::choose(&self.versions(), path, asked)
    }

    fn age<'v>(&self, version: &'v Version) -> choose::Age<'v> {
        let configured = self.site.config.nodes.iter().position(|node| node.name == version.host);
        // Main comes before the first node.
        choose::Age::of(version, configured.map_or(0, |at| at + 1))
    }

    /// This restoration's id among runs.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Puts versions in place on Main. `Err`: nothing was touched.
    pub fn restore(mut self, chosen: &[Version]) -> anyhow::Result<Vec<Restored>> {
        let name = self.directory.name.clone();
        let (tree, mode) = self.ready_main()?;
        let mut restored: Vec<Restored> = Vec::new();
        let mut wished = Vec::new();
        for (version, entry) in self.recall(chosen)? {
            match entry.and_then(|entry| actions::obstacle(&tree, &version.entry.place.path, entry)) {
                Ok(None) => restored.push(came(version, Came::Already)),
                Ok(Some(entry)) => wished.push((version, entry)),
                Err(why) => restored.push(came(version, Came::Not(why))),
            }
        }
        let entries = wished.iter().map(|(version, entry)| (version.entry.place.path.clone(), entry.clone()));
        let actions = actions::actions(&tree, entries.collect(), mode);
        let missing = self.stage(&wished)?;
        let lacks = |action: &Action| missing.get(&action.path).cloned();
        let outcomes =
            carry::commit_received(&actions, lacks, |ready| lock(&self.site.main).commit(&name, ready))?;
        let mut outcomes: BTreeMap<RelPathBuf, Outcome> =
            actions.into_iter().map(|action| action.path).zip(outcomes).collect();
        let trashed = lock(&self.site.main).trashed(&name)?;
        let mut trashed: BTreeMap<RelPathBuf, TrashId> =
            trashed.into_iter().map(|entry| (entry.place.path, entry.place.id)).collect();
        for (version, _) in wished {
            let path = &version.entry.place.path;
            let came_back = match outcomes.remove(path) {
                Some(Outcome::Done) => Came::Back(trashed.remove(path)),
                Some(Outcome::Failed(why)) => Came::Not(why),
                Some(Outcome::Changed) | None => Came::Not("it has just changed there; try again".to_owned()),
            };
            restored.push(came(version, came_back));
        }
        restored.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(restored)
    }

    /// Readies Main's root, if it is the right one; returns its tree, and the mode of the root itself.
    fn ready_main(&self) -> anyhow::Result<(Arc<Tree>, u16)> {
        use std::os::unix::fs::MetadataExt as _;
        let directory = self.directory;
        let mut main = lock(&self.site.main);
        let mut ledger = self.site.state.ledger()?;
        let known = ledger.roots.get(&directory.name);
        check_root(directory, &self.main_root, known.map(String::as_str))
            .map_err(|(guard, detail)| RootHalted(guard, detail))?;
        // Nothing is deleted from the trash now: it may be the very thing that is to come back.
        let keep = crate::model::TrashKeep::FOREVER;
        let id = main.prepare(&directory.name, &keep)??;
        if known.is_none() {
            ledger.roots.insert(directory.name.clone(), id);
            self.site.state.save_ledger(&ledger)?;
        }
        let root = std::fs::metadata(&directory.path);
        let mode = root.with_context(|| directory.path.display().to_string())?.mode();
        Ok((main.tree(&directory.name, None)?, u16::try_from(mode & 0o3777).unwrap_or(0)))
    }

    /// What the chosen are, each as it would stand in the tree.
    fn recall(&mut self, chosen: &[Version]) -> anyhow::Result<Vec<(Version, Result<Entry, String>)>> {
        let mut recalled = Vec::with_capacity(chosen.len());
        for ((host, id), group) in groups(chosen.iter(), |version| version) {
            let paths: Vec<RelPathBuf> =
                group.iter().map(|version| version.entry.place.path.clone()).collect();
            let entries = self.with(host, |endpoint, name| endpoint.recall(name, id, &paths));
            let entries = entries.with_context(|| format!("the trash of {host}"))?;
            let entries = entries.into_iter().map(|entry| entry.map_err(String::from));
            recalled.extend(group.into_iter().cloned().zip(entries));
        }
        Ok(recalled)
    }

    /// Gets contents into Main's stage; returns why one is missing, by its path.
    fn stage(&mut self, wished: &[(Version, Entry)]) -> anyhow::Result<BTreeMap<RelPathBuf, String>> {
        let mut missing = BTreeMap::new();
        let staging = lock(&self.site.main).staging(&self.directory.name)?;
        let files = wished.iter().filter_map(|(version, entry)| Some((version, entry.as_file()?)));
        for ((host, id), group) in groups(files, |(version, _)| version) {
            let wanted: Vec<BlobRequest> =
                group.into_iter().map(|(version, file)| wanted(version, file)).collect();
            let received = self.from(host, id, |source| staging.stage(&wanted, source));
            let received = received.with_context(|| format!("the trash of {host}"))?;
            let failed = wanted.into_iter().zip(received);
            missing.extend(failed.filter_map(|(wanted, result)| Some((wanted.path, result.err()?))));
        }
        Ok(missing)
    }

    /// Writes one version to a file anywhere on Main; nothing is replaced, and the directory is not touched.
    pub fn write_to(mut self, chosen: &Version, to: &Path) -> anyhow::Result<()> {
        let (version, entry) =
            self.recall(std::slice::from_ref(chosen))?.pop().context("nothing was chosen")?;
        let entry = entry.map_err(anyhow::Error::msg)?;
        let Some(file) = entry.as_file().cloned() else {
            bail!("it is a symlink, which --to writes nowhere")
        };
        let wanted = wanted(&version, &file);
        let run = self.run.clone();
        self.from(&version.host, &version.entry.place.id, |source| {
            file::write(to, &run, &file, &wanted, source)
        })?
    }

    /// Does something with a host that was asked.
    fn with<T>(
        &mut self,
        host: &str,
        ask: impl FnOnce(&mut dyn NodeSession, &str) -> Result<T, NodeError>,
    ) -> anyhow::Result<T> {
        let name = &self.directory.name;
        match self.nodes.get_mut(host) {
            Some(node) => Ok(ask(node.as_mut(), name)?),
            None => Ok(ask(&mut *lock(&self.site.main), name)?),
        }
    }

    /// Lets `take` take contents from the trash of a host.
    fn from<T>(
        &mut self,
        host: &str,
        id: &TrashId,
        take: impl FnOnce(&mut dyn Source) -> T,
    ) -> anyhow::Result<T> {
        let directory = &self.directory.name;
        let site = self.site;
        let mut main: MutexGuard<'_, Local>;
        let endpoint: &mut dyn NodeSession = match self.nodes.get_mut(host) {
            Some(node) => node.as_mut(),
            None => {
                main = lock(&site.main);
                &mut *main
            }
        };
        let mut source = FromTrash { endpoint, directory, id };
        let never = AtomicBool::new(false);
        Ok(take(&mut OnWire {
            source: &mut source,
            node: host,
            throttle: &self.throttle,
            now: site.now,
            progress: site.progress,
            stop: &never,
            bytes: 0,
        }))
    }
}

fn came(version: Version, outcome: Came) -> Restored {
    Restored { path: version.entry.place.path.clone(), version, outcome }
}

fn wanted(version: &Version, file: &File) -> BlobRequest {
    let path = version.entry.place.path.clone();
    BlobRequest { path, digest: file.digest, size: file.size, offset: 0 }
}

/// What lies at one host under one id can be asked for together.
fn groups<'v, T>(
    items: impl Iterator<Item = T>,
    version: impl Fn(&T) -> &'v Version,
) -> BTreeMap<(&'v str, &'v TrashId), Vec<T>> {
    let mut groups: BTreeMap<_, Vec<T>> = BTreeMap::new();
    for item in items {
        let version = version(&item);
        groups.entry((&*version.host, &version.entry.place.id)).or_default().push(item);
    }
    groups
}

/// A host's trash as a source of contents.
struct FromTrash<'a> {
    endpoint: &'a mut dyn NodeSession,
    directory: &'a str,
    id: &'a TrashId,
}

impl Source for FromTrash<'_> {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        Ok(self.endpoint.send_trashed(self.directory, self.id, wanted, sink)?)
    }
}
