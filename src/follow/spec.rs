//! What a run of a follower is to do: as a run of Main's for this node alone would.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::directories;
use super::trusted::Trusted;
use crate::model::{Meta, Owner, TrashKeep, TrashMax};
use crate::snapshot::ScanSpec;
use crate::store::head::{Head, HeadDirectory};
use crate::sync::{DirectorySpec, EdgeSpec, FOLLOWER, NodeSpec, Spec};

/// As Main has it where nothing else is configured there.
const TRASH: TrashKeep =
    TrashKeep { seconds: 30 * 24 * 3600, min_seconds: 3 * 24 * 3600, size: TrashMax::Percent(25) };
const RELOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// What was asked for on the command line.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Stop after planning.
    pub dry_run: bool,
    /// Tokens of halted plans that may go ahead.
    pub accept: Vec<String>,
}

/// The directories of a publication that this node has.
pub(super) fn subscribed<'t>(trusted: &'t Trusted, config: &Config) -> Vec<&'t HeadDirectory> {
    let labels = labels(trusted, config);
    trusted.head.directories.iter().filter(|directory| directory.is_for(labels)).collect()
}

/// The labels of this node: its own word counts, where it has one.
pub(super) fn labels<'t>(trusted: &'t Trusted, config: &'t Config) -> &'t [String] {
    match &config.labels {
        Some(labels) => labels,
        None => trusted.own.as_ref().map_or(&[], |node| &node.labels),
    }
}

/// The run that brings this node in step with a publication.
pub(super) fn spec(trusted: &Trusted, config: &Config, asked: &Asked) -> Spec {
    let head = &trusted.head;
    let directories: Vec<(&HeadDirectory, Arc<DirectorySpec>)> = subscribed(trusted, config)
        .into_iter()
        .map(|directory| (directory, Arc::new(directory_spec(head, config, directory))))
        .collect();
    let edges = directories.iter().map(|(directory, spec)| EdgeSpec {
        directory: Arc::clone(spec),
        scan: scan_spec(head, directory, |directory| root_on(trusted, directory)),
    });
    let node = NodeSpec {
        name: config.name.clone(),
        address: FOLLOWER.to_owned(),
        edges: edges.collect(),
        is_follower: false,
    };
    Spec {
        main: head.main.clone(),
        directories: directories.into_iter().map(|(_, spec)| spec).collect(),
        all_nodes: Some(vec![node.name.clone()]),
        nodes: vec![node],
        dry_run: asked.dry_run,
        reload_always: false,
        accept: asked.accept.clone(),
        released: released(head),
        parallel: 1,
        bandwidth: None,
        reload_timeout: RELOAD_TIMEOUT,
        trash: TRASH,
    }
}

/// Deletions that were released on Main need not be released here again.
fn released(head: &Head) -> Vec<String> {
    head.directories.iter().flat_map(|directory| directory.accepted.iter().cloned()).collect()
}

/// Mode and owner of a directory's root.
pub(super) fn root_meta(directory: &HeadDirectory) -> Option<Meta> {
    directory.root.as_ref().map(Meta::from)
}

/// Where this node keeps a directory.
fn root_on(trusted: &Trusted, directory: &HeadDirectory) -> PathBuf {
    let own = trusted.own.as_ref().and_then(|node| node.paths.get(&directory.name));
    own.map_or_else(|| Path::new(&directory.path).to_owned(), PathBuf::from)
}

fn directory_spec(head: &Head, config: &Config, directory: &HeadDirectory) -> DirectorySpec {
    DirectorySpec {
        name: directory.name.clone(),
        direction: directory.direction,
        policy: directories::policy(&config.directories, directory),
        owner: directory.owner.as_ref().map(Owner::from),
        reload: directory.reload.clone(),
        scan: scan_spec(head, directory, |directory| PathBuf::from(&directory.path)),
    }
}

fn scan_spec(head: &Head, directory: &HeadDirectory, root: impl Fn(&HeadDirectory) -> PathBuf) -> ScanSpec {
    let others = head.directories.iter().filter(|other| other.name != directory.name);
    ScanSpec {
        directory: directory.name.clone(),
        root: root(directory),
        direction: directory.direction,
        exclude: directory.exclude.clone(),
        other_roots: others.map(&root).collect(),
        settle: Duration::from_millis(directory.settle_ms),
        complete: Vec::new(),
        hold_young: false,
        checksum: false,
    }
}
