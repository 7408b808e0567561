//! What a run is to do, as plain values: nothing below knows where they came from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Directory, Node, ReloadPolicy};
use crate::model::{ConflictPolicy, Digest, Direction, Owner, RelPathBuf, Take, TrashKeep};
use crate::plan::Policy;
use crate::plan::both::MAX_NEW;
use crate::snapshot::ScanSpec;

/// What stands for the address of a node that Main never connects to.
pub(crate) const FOLLOWER: &str = "store";

/// One run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Main's name, for messages.
    pub main: String,
    /// The directories that the run is for, in configured order.
    pub directories: Vec<Arc<DirectorySpec>>,
    /// The nodes that the run is for, in configured order.
    pub nodes: Vec<NodeSpec>,
    /// Every node that exists. `None` where discovery failed: then some may be missing, and what is recorded of
    /// them is kept.
    pub all_nodes: Option<Vec<String>>,
    /// Stop after planning.
    pub dry_run: bool,
    /// Reload whether due or not.
    pub reload_always: bool,
    /// Tokens of halted plans that may go ahead.
    pub accept: Vec<String>,
    /// Those that an administrator has released elsewhere: they may be of no use here.
    pub released: Vec<String>,
    /// Most nodes at work at once.
    pub parallel: usize,
    /// Bytes a second of file content for all nodes together; `None`: unlimited.
    pub bandwidth: Option<u64>,
    /// Longest time for a reload. The node shows that it is alive meanwhile.
    pub reload_timeout: Duration,
    /// How long trash is kept.
    pub trash: TrashKeep,
}

/// One directory.
#[derive(Clone, Debug)]
pub struct DirectorySpec {
    /// Its name.
    pub name: String,
    /// Which way files go.
    pub direction: Direction,
    /// What an administrator decided about it.
    pub policy: Policy,
    /// Owner where Main's is not known.
    pub owner: Option<Owner>,
    /// Reloads that its changes call for.
    pub reload: Vec<String>,
    /// How it is scanned on Main; its root there.
    pub scan: ScanSpec,
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its address, for reports.
    pub address: String,
    /// The directories in which it has a part.
    pub edges: Vec<EdgeSpec>,
    /// Whether it follows the store: what it is to get is put in place there by itself, and told of there.
    pub is_follower: bool,
}

/// One directory on one node.
#[derive(Clone, Debug)]
pub struct EdgeSpec {
    /// The directory.
    pub directory: Arc<DirectorySpec>,
    /// How it is scanned on the node; its root there.
    pub scan: ScanSpec,
}

/// What was asked for on the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop after planning.
    pub dry_run: bool,
    /// Only these nodes; empty: all.
    pub nodes: Vec<String>,
    /// Only these directories; empty: all.
    pub directories: Vec<String>,
    /// Read every file again, whatever the hash caches say.
    pub checksum: bool,
    /// Reload whether due or not.
    pub reload_always: bool,
    /// Tokens of halted plans that may go ahead.
    pub accept: Vec<String>,
    /// Files that are whole, however young, by host (`None`: Main) and directory.
    pub complete: BTreeMap<(Option<String>, String), Vec<RelPathBuf>>,
    /// Hold back other young files at once, instead of waiting for them.
    pub hold_young: bool,
}

impl Options {
    /// A directory's scan on Main (`None`) or on a node.
    fn scan(&self, config: &Config, directory: &Directory, node: Option<&Node>) -> ScanSpec {
        let host = (node.map(|node| node.name.clone()), directory.name.clone());
        ScanSpec {
            complete: self.complete.get(&host).cloned().unwrap_or_default(),
            hold_young: self.hold_young,
            ..config.scan_spec(directory, node, self.checksum)
        }
    }
}

impl Spec {
    /// The run that the configuration and the command line ask for. `knows_all_nodes` says whether the
    /// configuration has every node: after a failed discovery it may not.
    #[must_use]
    pub fn new(config: &Config, options: &Options, knows_all_nodes: bool) -> Spec {
        let is_asked = |asked: &[String], name: &String| asked.is_empty() || asked.contains(name);
        let directories: Vec<(&Directory, Arc<DirectorySpec>)> = config
            .directories
            .iter()
            .filter(|directory| is_asked(&options.directories, &directory.name))
            .map(|directory| (directory, Arc::new(directory_spec(config, directory, options))))
            .collect();
        let nodes = config.nodes.iter().filter(|node| is_asked(&options.nodes, &node.name));
        let nodes = nodes.map(|node| node_spec(config, node, &directories, options)).collect();
        Spec {
            main: config.main.name.clone(),
            nodes,
            directories: directories.into_iter().map(|(_, spec)| spec).collect(),
            all_nodes: knows_all_nodes.then(|| {
                let followers = config.followers.iter().map(|follower| follower.name.clone());
                config.nodes.iter().map(|node| node.name.clone()).chain(followers).collect()
            }),
            dry_run: options.dry_run,
            reload_always: options.reload_always || config.sync.reload == ReloadPolicy::Always,
            accept: options.accept.clone(),
            released: Vec::new(),
            parallel: config.sync.parallel,
            bandwidth: config.sync.bandwidth,
            reload_timeout: config.sync.reload_timeout,
            trash: TrashKeep {
                seconds: config.sync.trash_keep.as_secs(),
                min_seconds: config.sync.trash_min_keep.as_secs(),
                size: config.sync.trash_max,
            },
        }
    }
}

impl Spec {
    /// Adds a node that follows the store: what it has uploaded of two-way directories is taken in.
    pub(crate) fn add_follower(&mut self, config: &Config, node: &Node, options: &Options) {
        let two_way = self.directories.iter().filter(|directory| directory.is_two_way());
        let edges = two_way.filter_map(|spec| {
            let directory = config.directories.iter().find(|directory| directory.name == spec.name)?;
            let scan = options.scan(config, directory, Some(node));
            directory.is_for(node).then(|| EdgeSpec { directory: Arc::clone(spec), scan })
        });
        let edges = edges.collect();
        let address = FOLLOWER.to_owned();
        self.nodes.push(NodeSpec { name: node.name.clone(), address, edges, is_follower: true });
    }

    /// The directory with this name.
    #[must_use]
    pub fn directory(&self, name: &str) -> Option<&DirectorySpec> {
        self.directories.iter().find(|directory| directory.name == name).map(|directory| &**directory)
    }
}

fn directory_spec(config: &Config, directory: &Directory, options: &Options) -> DirectorySpec {
    DirectorySpec {
        name: directory.name.clone(),
        direction: directory.direction,
        policy: Policy {
            delete: directory.delete,
            // What nodes change in a pushed directory is replaced by Main's.
            conflict: match directory.direction {
                Direction::Push => ConflictPolicy::Main,
                Direction::Both => directory.conflict,
            },
            take: Take::ALL,
            max_delete: directory.max_delete,
            max_change: directory.max_change,
            max_add: directory.max_add,
            max_new: MAX_NEW,
        },
        owner: directory.owner.clone(),
        reload: directory.reload.clone(),
        scan: options.scan(config, directory, None),
    }
}

fn node_spec(
    config: &Config,
    node: &Node,
    directories: &[(&Directory, Arc<DirectorySpec>)],
    options: &Options,
) -> NodeSpec {
    let edges = directories.iter().filter(|(directory, _)| directory.is_for(node));
    NodeSpec {
        name: node.name.clone(),
        address: node.address.clone(),
        edges: edges
            .map(|(directory, spec)| EdgeSpec {
                directory: Arc::clone(spec),
                scan: options.scan(config, directory, Some(node)),
            })
            .collect(),
        is_follower: false,
    }
}

impl DirectorySpec {
    /// Digest of the policies: a change of them calls for a new plan.
    pub(super) fn policy_digest(&self) -> Digest {
        let Policy { delete, conflict, take, .. } = self.policy;
        let policies = (self.direction, delete, conflict, take, &self.owner);
        // Writing to memory does not fail.
        Digest(blake3::hash(&postcard::to_stdvec(&policies).unwrap_or_default()).into())
    }

    /// Whether nodes change it too.
    pub(crate) fn is_two_way(&self) -> bool {
        self.direction == Direction::Both
    }
}

impl EdgeSpec {
    /// The scan that looks again after a change: the hash cache knows every file by then.
    pub(super) fn rescan(&self) -> ScanSpec {
        ScanSpec { checksum: false, ..self.scan.clone() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{DeletePolicy, MaxLoss};

    /// A pushed directory with default settings.
    pub(in crate::sync) fn directory(name: &str) -> DirectorySpec {
        DirectorySpec {
            name: name.to_owned(),
            direction: Direction::Push,
            policy: Policy {
                delete: DeletePolicy::Propagate,
                conflict: ConflictPolicy::Main,
                take: Take::ALL,
                max_delete: MaxLoss::Percent(50),
                max_change: MaxLoss::Percent(50),
                max_add: None,
                max_new: MAX_NEW,
            },
            owner: None,
            reload: Vec::new(),
            scan: ScanSpec {
                directory: name.to_owned(),
                root: format!("/srv/{name}").into(),
                direction: Direction::Push,
                exclude: Vec::new(),
                other_roots: Vec::new(),
                settle: Duration::ZERO,
                complete: Vec::new(),
                hold_young: false,
                checksum: false,
            },
        }
    }
}
