//! Nodes that follow the store, as runs of Main see them: what such a node uploaded is what it changed in its two-way
//! directories since both last agreed, and whatever a run has for it is done once it is published.

mod first;
mod heard;
mod session;
#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used)]
mod tests;
mod uploads;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::Context as _;
use ssh_key::PublicKey;

use crate::config::{Config, Directory, Follower};
use crate::model::{Direction, Entry, RelPathBuf, Tree};
use crate::node::{NodeError, NodeErrorKind, NodeSession};
use crate::state::StateDir;
use crate::store::head::{Head, HeadDirectory};
use crate::store::publish::read_tree;
use crate::store::{Objects, StoreError, group};

use first::FirstUploads;
use session::UploadedSession;

/// What a follower's session is made of, whoever it is of.
pub(crate) struct Followers {
    objects: Arc<dyn Objects>,
    /// The store's ULID: an upload to another one says nothing.
    cluster: String,
    state: StateDir,
    /// Name → the key that it signs with, in OpenSSH's format.
    keys: BTreeMap<String, String>,
    /// Name → the last of its uploads that Main has taken in.
    taken: BTreeMap<String, u64>,
    first: FirstUploads,
    /// The directories of the newest publication.
    published: BTreeMap<String, Published>,
    /// Name → what the last run found and did.
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// A directory as it is published, and its tree: read once, for all who ask.
struct Published {
    directory: HeadDirectory,
    tree: OnceLock<Result<Arc<Tree>, StoreError>>,
}

/// What a run knows of a follower.
#[derive(Clone, Default)]
struct Seen {
    /// The uploads that it has read, the oldest first, each with the paths that it tells of.
    uploads: Vec<(u64, BTreeMap<String, Vec<RelPathBuf>>)>,
    /// What its directories look like by now.
    trees: BTreeMap<String, Arc<Tree>>,
}

impl std::fmt::Debug for Followers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followers").field("count", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Followers {
    /// `head`: the newest publication. What it names as taken in is, though it was another Main that did it: what its nodes
    /// uploaded before would bring back what was deleted since.
    pub(crate) fn new(
        objects: Arc<dyn Objects>,
        cluster: String,
        state: StateDir,
        keys: BTreeMap<String, String>,
        head: Option<&Head>,
    ) -> anyhow::Result<Followers> {
        let mut taken = state.taken(&cluster)?;
        for node in group::read_all(&*objects, head.map_or(&[], |head| &head.groups))? {
            let taken = taken.entry(node.name).or_default();
            *taken = node.taken.max(*taken);
        }
        let next = |node: &String| (node.clone(), taken.get(node).copied().unwrap_or(0) + 1);
        let first = FirstUploads::new(keys.keys().map(next).collect());
        let directories = head.map_or(&[][..], |head| &head.directories).iter().cloned();
        let published = |directory| Published { directory, tree: OnceLock::new() };
        let published = directories.map(|directory| (directory.name.clone(), published(directory))).collect();
        Ok(Followers { objects, cluster, state, keys, taken, first, published, seen: Mutex::default() })
    }

    /// Whether it is such a node.
    pub(crate) fn has(&self, node: &str) -> bool {
        self.keys.contains_key(node)
    }

    /// Those that may have uploaded something which is not taken in: a run has nothing to do for any other.
    pub(crate) fn with_uploads(&self) -> Vec<String> {
        self.first.there(&*self.objects)
    }

    /// A session with what a node has uploaded.
    pub(crate) fn connect(self: &Arc<Self>, node: &str) -> Result<Box<dyn NodeSession>, NodeError> {
        let key = self.key(node).map_err(|error| lost(&error))?;
        Ok(Box::new(UploadedSession::new(Arc::clone(self), node.to_owned(), key)))
    }

    /// The key that a node signs with.
    fn key(&self, node: &str) -> Result<PublicKey, StoreError> {
        let key = self.keys.get(node);
        let key = key.ok_or_else(|| StoreError::Unreachable("it follows no store".to_owned()))?;
        PublicKey::from_openssh(key)
            .map_err(|error| StoreError::Local(format!("the key of {node} cannot be read: {error}")))
    }

    /// The tree of a directory in the newest publication. `None`: it is not published.
    fn published(&self, directory: &str) -> Result<Option<Arc<Tree>>, StoreError> {
        let Some(Published { directory, tree }) = self.published.get(directory) else { return Ok(None) };
        let read = || read_tree(&*self.objects, directory).map(|stored| Arc::new(stored.tree));
        tree.get_or_init(read).clone().map(Some)
    }

    /// What of the uploads is taken in by now, as far as the runs that are over have come: name → number. It goes into the next
    /// publication, together with what was taken in.
    pub(crate) fn settle(&self, config: &Config) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut taken = self.taken.clone();
        taken.retain(|node, _| self.has(node));
        for (node, seen) in self.seen().iter() {
            let known = taken.get(node).copied().unwrap_or(0);
            let settled = self.settled(config, node, seen);
            if seen.uploads.last().is_some_and(|(last, _)| *last == settled) {
                self.forget(node, seen)?;
            }
            taken.insert(node.clone(), settled.max(known));
        }
        if taken != self.taken {
            self.state.save_taken(&self.cluster, &taken)?;
        }
        Ok(taken)
    }

    /// The last upload of a node all of whose changes have been decided on: what both ends have agreed on is what the node
    /// is to have.
    fn settled(&self, config: &Config, node: &str, seen: &Seen) -> u64 {
        let mut agreed: BTreeMap<&str, Option<Tree>> = BTreeMap::new();
        let mut settled = 0;
        for (seq, directories) in &seen.uploads {
            for (directory, paths) in directories {
                let Some(tree) = seen.trees.get(directory) else {
                    // The run did not look there. One that this node has no part in any more is nobody's business.
                    match !paths.is_empty() && has_part(config, node, directory) {
                        true => return settled,
                        false => continue,
                    }
                };
                let agreed = agreed.entry(directory).or_insert_with(|| {
                    let record = self.state.edge(directory, node).ok().flatten();
                    record.filter(|record| record.agreed).and_then(|record| record.base().ok())
                });
                let Some(agreed) = agreed else { return settled };
                if !paths.iter().all(|path| same(agreed.get(path), tree.get(path))) {
                    return settled;
                }
            }
            settled = *seq;
        }
        settled
    }

    /// All that a node has uploaded is decided on: what both ends have in common from now on is what is published, and the
    /// record would grow old. It goes before this is on record: cut off between the two, uploads are looked at again, and what
    /// Main has of them is no change.
    fn forget(&self, node: &str, seen: &Seen) -> anyhow::Result<()> {
        let forget = |directory: &String| self.state.remove_edge(directory, node);
        seen.trees.keys().try_for_each(forget).with_context(|| format!("what is recorded of {node}"))
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what a follower changes in a directory is taken in.
fn has_part(config: &Config, node: &str, directory: &str) -> bool {
    let node = config.followers.iter().find(|follower| follower.name == node).map(Follower::as_node);
    let directory = config.directories.iter().find(|known| known.name == directory);
    let is_two_way = |directory: &&Directory| directory.direction == Direction::Both;
    node.is_some_and(|node| directory.filter(is_two_way).is_some_and(|directory| directory.is_for(&node)))
}

fn same(a: Option<&Entry>, b: Option<&Entry>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.same_content(b),
        _ => false,
    }
}

/// How the store's failure looks to a run: it is this node's alone.
fn lost(error: &StoreError) -> NodeError {
    let kind = match error {
        StoreError::Unreachable(_) => NodeErrorKind::Unreachable,
        StoreError::Incompatible(_) => NodeErrorKind::Incompatible,
        _ => NodeErrorKind::Refused,
    };
    NodeError::new(kind, error.detail())
}
