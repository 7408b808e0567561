//! Main's store: who Main is there, and what it publishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;

use crate::config::{Config, Directory, Follower};
use crate::enroll::rotate;
use crate::model::Tree;
use crate::model::escape::clean;
use crate::report::exit::{ALL_LOST, INCOMPATIBLE, LEASE, TAMPERED, USAGE};
use crate::report::{Halted, Problem, Report, Stage};
use crate::site::Site;
use crate::store::events::Events;
use crate::store::group::{self, HeadNode, Packed};
use crate::store::head::{HeadDirectory, StoredMeta, StoredOwner};
use crate::store::holder::{Holder, Record, Standing};
use crate::store::publish::{self, DirectoryOutcome, Published};
use crate::store::{self, Sha256, StoreError, StoreSpec};
use crate::sync::{self, Environment, Options, Survey, Surveyed};

/// What a publication came to.
#[derive(Debug)]
pub struct Publication {
    /// The newest publication; 0: none.
    pub seq: u64,
    /// The lease.
    pub epoch: u64,
    /// Whether there is a new one, or would be.
    pub is_new: bool,
    /// Each directory that is published.
    pub directories: Vec<DirectoryOutcome>,
    /// Directories that stay as they were published.
    pub halted: Vec<Halted>,
    /// What else went wrong.
    pub problems: Vec<Problem>,
    /// What nodes will not like.
    pub warnings: Vec<String>,
    /// Whether a signal came before it: there is none then.
    pub interrupted: bool,
}

/// When Main publishes by itself, and not because somebody asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By a person.
    ByHand,
    /// After a run.
    AfterRun,
}

impl Site {
    /// Opens the store of the configuration.
    pub fn store(&self) -> anyhow::Result<Holder> {
        let config = self.config();
        let spec = spec_of(config)?;
        let identity = config.ssh.identity.clone();
        Ok(Holder {
            objects: store::open(&spec)?,
            name: config.main.name.clone(),
            id: self.identity().id.clone(),
            previous: rotate::previous(&identity),
            identity,
            now: Arc::clone(&self.services.now),
        })
    }

    /// What this Main remembers of its store.
    pub fn store_record(&self) -> anyhow::Result<Option<Record>> {
        self.state.published()
    }

    /// Remembers it.
    pub fn save_store_record(&self, record: &Record) -> anyhow::Result<()> {
        if self.store_record()?.as_ref() == Some(record) {
            return Ok(());
        }
        self.state.save_published(record)
    }

    /// What stands in the store, where this Main holds the lease.
    pub(crate) fn held(&self) -> anyhow::Result<Standing> {
        let holder = self.store()?;
        let standing = holder.standing(self.store_record()?.as_ref())?;
        holder.check_held(&standing)?;
        Ok(standing)
    }

    /// Publishes what stands on Main. The caller holds the lock, and has taken in what nodes uploaded: `taken` has the last
    /// upload of each that is part of it, or none: nothing was taken in.
    pub fn publish(
        &self,
        options: &Options,
        asked: Asked,
        taken: Option<&BTreeMap<String, u64>>,
    ) -> anyhow::Result<Publication> {
        self.publish_in(&self.environment(), options, asked, taken)
    }

    /// The same, with what a run has worked with.
    pub(crate) fn publish_in(
        &self,
        environment: &Environment<'_>,
        options: &Options,
        asked: Asked,
        taken: Option<&BTreeMap<String, u64>>,
    ) -> anyhow::Result<Publication> {
        let holder = self.store()?;
        let standing = holder.standing(self.store_record()?.as_ref())?;
        holder.check_held(&standing)?;
        if let Some(waits) = waits_for_people(&standing, asked) {
            return Ok(waits);
        }
        let trees = publish::last_trees(&holder, &standing)?;
        let last: BTreeMap<String, Tree> =
            trees.iter().map(|(name, stored)| (name.clone(), stored.tree.clone())).collect();
        let spec = self.own_spec(&Options { nodes: Vec::new(), directories: Vec::new(), ..options.clone() });
        sync::survey(environment, &spec, &last, |survey| {
            let Survey { directories, halted, problems } = survey;
            if environment.stop.load(Ordering::Relaxed) {
                return Ok(Publication { interrupted: true, ..unchanged(&standing) });
            }
            // Where a directory stays as it was published, what was taken in there is not in this publication.
            let stays = |one: &Surveyed| one.found.is_none() && one.directory.is_two_way();
            let taken = taken.filter(|_| !directories.iter().any(stays));
            let nodes = self.groups(&holder, &standing, taken)?;
            let published = directories.into_iter().filter_map(|surveyed| self.published(surveyed)).collect();
            if options.dry_run {
                return Ok(previewed(&standing, &nodes, published, &last, halted, problems));
            }
            let done = publish::publish(&holder, standing, &nodes, published, &trees)?;
            self.save_store_record(&done.record)?;
            let mut warnings = done.warnings;
            if done.is_new {
                warnings.extend(self.tell((done.record.epoch, done.seq)));
            }
            Ok(Publication {
                seq: done.seq,
                epoch: done.record.epoch,
                is_new: done.is_new,
                directories: done.directories,
                halted,
                problems,
                warnings,
                interrupted: false,
            })
        })?
    }

    /// Tells nodes of a publication. Returns what is to be said where that fails: they look by themselves then, later.
    fn tell(&self, publication: (u64, u64)) -> Option<String> {
        let url = self.config().store.as_ref()?.events.clone()?;
        let told = Events { url, ca: None }.tell(publication);
        told.err().map(|error| format!("nodes are not told of the publication: {}", clean(error.detail())))
    }

    /// The nodes of the next publication, as they are configured now, in groups.
    fn groups(
        &self,
        holder: &Holder,
        standing: &Standing,
        taken: Option<&BTreeMap<String, u64>>,
    ) -> anyhow::Result<Vec<Packed>> {
        let published;
        let taken = match (taken, &standing.head) {
            (Some(taken), _) => taken,
            // What was taken in stays as it was published.
            (None, head) => {
                let groups = head.as_ref().map_or(&[][..], |(head, _)| &head.groups);
                let nodes = group::read_all(&*holder.objects, groups)?;
                published = nodes.into_iter().map(|node| (node.name, node.taken)).collect();
                &published
            }
        };
        let node = |follower: &Follower| HeadNode {
            name: follower.name.clone(),
            key: follower.key.clone(),
            labels: follower.labels.clone(),
            paths: follower
                .paths
                .iter()
                .map(|(directory, path)| (directory.clone(), path.display().to_string()))
                .collect(),
            taken: taken.get(&follower.name).copied().unwrap_or(0),
        };
        Ok(group::pack(&self.config().followers.iter().map(node).collect::<Vec<HeadNode>>())?)
    }

    fn published(&self, surveyed: Surveyed) -> Option<Published> {
        let name = &surveyed.directory.name;
        let directory = self.config().directories.iter().find(|directory| directory.name == *name)?;
        let accepted = surveyed.found.as_ref().and_then(|found| found.accepted.clone());
        let root = surveyed.found.as_ref().and_then(|found| found.root.as_ref());
        let settings = HeadDirectory {
            accepted: accepted.into_iter().collect(),
            root: root.map(StoredMeta::from),
            ..settings(directory)
        };
        Some(Published { settings, found: surveyed.found.map(|found| (found.tree, found.source)) })
    }
}

/// The store that a configuration names.
pub(crate) fn spec_of(config: &Config) -> anyhow::Result<StoreSpec> {
    let store = config.store.as_ref().context(
        "there is no store in the configuration: add a section [store] with url = \"file:///srv/xds-store\"",
    )?;
    Ok(StoreSpec { url: store.url.clone(), options: store.options.clone(), ..StoreSpec::default() })
}

/// What a head says of a directory beside its tree.
fn settings(directory: &Directory) -> HeadDirectory {
    HeadDirectory {
        name: directory.name.clone(),
        path: directory.path.display().to_string(),
        direction: directory.direction,
        labels: directory.labels.clone(),
        delete: directory.delete,
        conflict: directory.conflict,
        max_delete: directory.max_delete,
        max_change: directory.max_change,
        max_add: directory.max_add,
        owner: directory.owner.as_ref().map(StoredOwner::from),
        exclude: directory.exclude.clone(),
        settle_ms: u64::try_from(directory.settle.as_millis()).unwrap_or(u64::MAX),
        reload: directory.reload.clone(),
        accepted: Vec::new(),
        root: None,
        tree: Sha256([0; 32]),
        tree_len: 0,
        files: 0,
        bytes: 0,
    }
}

/// After a rollback, what Main has now is published when a person says so: the next run would undo it otherwise.
fn waits_for_people(standing: &Standing, asked: Asked) -> Option<Publication> {
    let (head, _) = standing.head.as_ref()?;
    let waits = asked == Asked::AfterRun && head.reason.starts_with("rollback:");
    waits.then(|| Publication {
        warnings: vec![format!(
            "publication {} is a rollback, and nothing that is new on Main is published until somebody runs `xds-sync publish`",
            head.seq
        )],
        ..unchanged(standing)
    })
}

/// The publication that there is.
fn unchanged(standing: &Standing) -> Publication {
    Publication {
        seq: standing.head.as_ref().map_or(0, |(head, _)| head.seq),
        epoch: standing.lease.epoch,
        is_new: false,
        directories: Vec::new(),
        halted: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
        interrupted: false,
    }
}

fn previewed(
    standing: &Standing,
    nodes: &[Packed],
    published: Vec<Published>,
    last: &BTreeMap<String, Tree>,
    halted: Vec<Halted>,
    problems: Vec<Problem>,
) -> Publication {
    let empty = Tree::default();
    let preview = |directory: &Published| {
        let (found, _) = directory.found.as_ref()?;
        let name = &directory.settings.name;
        Some(publish::preview(name, found, last.get(name).unwrap_or(&empty)))
    };
    let directories: Vec<DirectoryOutcome> = published.iter().filter_map(preview).collect();
    let head = standing.head.as_ref().map(|(head, _)| head);
    let changed = |outcome: &DirectoryOutcome| outcome.created + outcome.updated + outcome.deleted > 0;
    let groups = nodes.iter().map(|packed| &packed.group);
    Publication {
        is_new: head.is_none_or(|head| !groups.eq(&head.groups)) || directories.iter().any(changed),
        directories,
        halted,
        problems,
        ..unchanged(standing)
    }
}

/// A token is for a run and for the publication after it, and is of use where it has released anything in either: takes back
/// what the other one says of it.
pub(crate) fn tell_tokens_once(accepted: &[String], run: &mut Vec<Problem>, publication: &mut Vec<Problem>) {
    for token in accepted {
        let unused = sync::unused_token(token);
        let is_used = !(run.contains(&unused) && publication.contains(&unused));
        publication.retain(|problem| *problem != unused);
        run.retain(|problem| !is_used || *problem != unused);
    }
}

/// The exit code of what went wrong with a store.
#[must_use]
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(StoreError::Unreachable(_) | StoreError::Refused(_)) => ALL_LOST,
        Some(StoreError::Tampered(_)) => TAMPERED,
        Some(StoreError::Incompatible(_)) => INCOMPATIBLE,
        Some(StoreError::Held { .. }) => LEASE,
        Some(StoreError::Local(_)) | None => USAGE,
    }
}

impl Publication {
    /// Adds what went wrong to the report of the run before it. Returns the exit code of the publication alone.
    pub(crate) fn tell(self, report: &mut Report) -> u8 {
        let own = Report {
            nodes: Vec::new(),
            changes: Vec::new(),
            halted: self.halted,
            problems: self.problems,
            run: report.run.clone(),
            ..*report
        };
        let code = own.exit_code();
        report.problems.extend(told(&own.halted, own.problems, &self.warnings));
        code
    }

    /// What there is to say of it.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        told(&self.halted, self.problems.clone(), &self.warnings)
    }
}

fn told(halted: &[Halted], problems: Vec<Problem>, warnings: &[String]) -> Vec<Problem> {
    let halted = halted.iter().map(|halted| Problem::failure(Stage::Publish, held_back(halted)));
    let warnings = warnings.iter().map(|warning| Problem::warning(Stage::Publish, warning));
    halted.chain(problems).chain(warnings).collect()
}

/// What a guard holds back, and what releases it.
#[must_use]
pub(crate) fn held_back(halted: &Halted) -> String {
    let release = match &halted.token {
        Some(token) => format!("; if that is right: xds-sync publish --accept-deletes {token}"),
        None => String::new(),
    };
    clean(&format!("{} stays as it was published: {}{release}", halted.directory, halted.detail))
}

/// Whether an error says that the lease is another Main's: its name.
#[must_use]
pub(crate) fn holder_of(error: &anyhow::Error) -> Option<&str> {
    match error.downcast_ref() {
        Some(StoreError::Held { holder, .. }) => Some(holder),
        _ => None,
    }
}
