//! Restores versions from the trash of Main or of a node on Main, or from what still stands on nodes. The next run spreads
//! them, as it does any change on Main.
//!
//! Every host that has the directory is searched, since a file that was removed by hand on Main still stands on the nodes,
//! or is in the trash of nodes alone. Nothing is changed on a node.

mod actions;
mod choose;
mod file;
mod search;
mod standing;
mod version;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};

use crate::model::{Action, Entry, File, Outcome, RelPathBuf, Tree};
use crate::node::{Endpoint, NodeError, TrashReader};
use crate::report::Guard;
use crate::sync::blobs::{self, Missing};
use crate::sync::lock;
use crate::sync::metered::Metered;
use crate::sync::origin::check_root;
use crate::transfer::trash::TrashId;
use crate::transfer::{BlobRequest, Sink, Source};

pub use choose::{IdStart, NotFound, Selection};
pub use search::{Search, search};
pub use version::{Place, Version};

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
    pub version: Version,
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

impl Search<'_> {
    /// Puts versions in place on Main. `Err`: nothing was put in place.
    pub fn restore(mut self, chosen: &[Version]) -> anyhow::Result<Vec<Restored>> {
        let (tree, mode) = self.prepare_main()?;
        let mut restored: Vec<Restored> = Vec::new();
        let mut to_commit = Vec::new();
        for (version, entry) in self.recall(chosen)? {
            match entry.and_then(|entry| actions::needed(&tree, &version.path, entry)) {
                Ok(None) => restored.push(Restored::new(version, RestoreOutcome::AlreadyThere)),
                Ok(Some(entry)) => to_commit.push((version, entry)),
                Err(why) => restored.push(Restored::new(version, RestoreOutcome::Failed(why))),
            }
        }
        let entries =
            to_commit.iter().map(|(version, entry)| (version.path.clone(), entry.clone())).collect();
        // Of what is in a trash nobody knows which directories it was in.
        let stood = chosen.iter().all(Version::is_standing);
        let dirs = if stood { std::mem::take(&mut self.dirs) } else { BTreeMap::new() };
        let actions = actions::actions(&tree, entries, &dirs, mode);
        let missing = self.stage(&to_commit)?;
        let mut outcomes = self.commit(actions, &missing);
        let mut replaced = self.trashed_now();
        for (version, _) in to_commit {
            let path = &version.path;
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
        let root =
            main.root_meta(&directory.name).with_context(|| format!("{} has no root", directory.name))?;
        Ok((main.tree(&directory.name, None)?, root.mode))
    }

    /// The chosen versions, each as the entry that it would be in the tree.
    fn recall(&mut self, chosen: &[Version]) -> anyhow::Result<Vec<(Version, Result<Entry, String>)>> {
        let mut recalled = Vec::with_capacity(chosen.len());
        for ((host, id), group) in groups(chosen.iter(), |version| version) {
            let Some(id) = id else {
                recalled.extend(group.into_iter().map(as_it_stands));
                continue;
            };
            let paths: Vec<RelPathBuf> = group.iter().map(|version| version.path.clone()).collect();
            let entries = self.with_trash(host, |trash, name| trash.recall(name, id, &paths));
            let entries = entries.with_context(|| format!("the trash of {host}"))?;
            let entries = entries.into_iter().map(|entry| entry.map_err(String::from));
            recalled.extend(group.into_iter().cloned().zip(entries));
        }
        Ok(recalled)
    }

    /// Fetches contents into Main's stage; returns why some are missing, by path.
    fn stage(&mut self, to_commit: &[(Version, Entry)]) -> anyhow::Result<BTreeMap<RelPathBuf, String>> {
        let mut missing = BTreeMap::new();
        let staging = lock(&self.environment.main).staging(&self.directory.name)?;
        let files = to_commit.iter().filter_map(|(version, entry)| Some((version, entry.as_file()?)));
        for ((host, id), group) in groups(files, |(version, _)| version) {
            let requests: Vec<BlobRequest> =
                group.into_iter().map(|(version, file)| blob_request(version, file)).collect();
            let received = self.with_source(host, id, |source| staging.stage(&requests, source));
            let received = received.with_context(|| host.to_owned())?;
            let results = requests.into_iter().zip(received);
            missing.extend(results.filter_map(|(request, result)| Some((request.path, result.err()?))));
        }
        Ok(missing)
    }

    /// Writes one version to a file anywhere on Main; nothing is replaced, and the directory is not touched.
    pub fn write_to(mut self, chosen: &Version, to: &Path) -> anyhow::Result<()> {
        let (version, entry) =
            self.recall(std::slice::from_ref(chosen))?.pop().context("nothing was chosen")?;
        let entry = entry.map_err(anyhow::Error::msg)?;
        let Some(file) = entry.as_file().cloned() else { bail!("it is a symlink; --to writes files only") };
        let request = blob_request(&version, &file);
        let run = self.run.clone();
        self.with_source(&version.host, version.id(), |source| {
            file::write(to, &run, &file, &request, source)
        })?
    }

    /// Calls a host that was searched.
    fn with_trash<T>(
        &mut self,
        host: &str,
        call: impl FnOnce(&mut dyn TrashReader, &str) -> Result<T, NodeError>,
    ) -> anyhow::Result<T> {
        let name = &self.directory.name;
        match self.nodes.get_mut(host) {
            Some(node) => Ok(call(node.as_mut(), name)?),
            None => Ok(call(&mut **lock(&self.environment.main), name)?),
        }
    }

    /// Lets `receive` take contents from a host: from its trash, or as they stand there.
    fn with_source<T>(
        &mut self,
        host: &str,
        id: Option<&TrashId>,
        receive: impl FnOnce(&mut dyn Source) -> T,
    ) -> anyhow::Result<T> {
        let directory = &self.directory.name;
        let (environment, throttle) = (self.environment, &self.throttle);
        let never = AtomicBool::new(false);
        let receive = |source: &mut dyn Source| {
            receive(&mut Metered {
                source,
                node: host,
                throttle,
                now: environment.now,
                progress: environment.progress,
                stop: &never,
                bytes: 0,
            })
        };
        Ok(match self.nodes.get_mut(host) {
            Some(node) => receive(&mut HostSource { endpoint: node.as_mut(), directory, id }),
            None => {
                let mut main = lock(&environment.main);
                receive(&mut HostSource { endpoint: &mut **main, directory, id })
            }
        })
    }
}

impl Restored {
    fn new(version: Version, outcome: RestoreOutcome) -> Restored {
        Restored { path: version.path.clone(), version, outcome }
    }
}

fn blob_request(version: &Version, file: &File) -> BlobRequest {
    let path = version.path.clone();
    BlobRequest { path, digest: file.digest, size: file.size, offset: 0 }
}

fn as_it_stands(version: &Version) -> (Version, Result<Entry, String>) {
    let entry = match &version.place {
        Place::Standing { entry, .. } => Ok(entry.clone()),
        Place::Trash(_) => Err("it is in a trash".to_owned()),
    };
    (version.clone(), entry)
}

/// Groups by host and id, whose contents can be requested together.
fn groups<'v, T>(
    items: impl Iterator<Item = T>,
    version: impl Fn(&T) -> &'v Version,
) -> BTreeMap<(&'v str, Option<&'v TrashId>), Vec<T>> {
    let mut groups: BTreeMap<_, Vec<T>> = BTreeMap::new();
    for item in items {
        let version = version(&item);
        groups.entry((&*version.host, version.id())).or_default().push(item);
    }
    groups
}

/// A host as a source of file contents.
struct HostSource<'a, E: ?Sized> {
    endpoint: &'a mut E,
    directory: &'a str,
    /// From its trash; `None`: as they stand in the directory.
    id: Option<&'a TrashId>,
}

impl<E: Endpoint + TrashReader + ?Sized> Source for HostSource<'_, E> {
    fn send(&mut self, requests: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        match self.id {
            Some(id) => self.endpoint.send_trashed(self.directory, id, requests, sink)?,
            None => self.endpoint.send(self.directory, requests, sink)?,
        }
        Ok(())
    }
}
