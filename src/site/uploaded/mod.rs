//! Nodes that follow the store, as runs of Main see them: what such a node uploaded is what it changed in its two-way
//! directories since both last agreed, and whatever a run has for it is done once it is published.

mod first;
mod heard;
mod session;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod uploads;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ssh_key::PublicKey;

use crate::model::{Entry, RelPathBuf, Tree};
use crate::node::{NodeError, NodeErrorKind, NodeSession};
use crate::state::StateDir;
use crate::store::head::HeadNode;
use crate::store::{Objects, StoreError};

use first::FirstUploads;
use session::UploadedSession;

/// What a follower's session is made of, whoever it is of.
#[derive(Clone)]
pub(crate) struct Followers {
    pub(crate) objects: Arc<dyn Objects>,
    /// The store's ULID: an upload to another one says nothing.
    pub(crate) cluster: String,
    pub(crate) state: StateDir,
    /// Name → the key that it signs with.
    pub(crate) keys: BTreeMap<String, PublicKey>,
    /// Name → the last of its uploads that Main has taken in.
    pub(crate) taken: BTreeMap<String, u64>,
    first: Arc<FirstUploads>,
    /// Name → what the last run found and did.
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
}

/// What a run knows of a follower.
#[derive(Clone, Default)]
struct Seen {
    /// The uploads that it has read, the oldest first, each with the paths that it tells of.
    uploads: Vec<(u64, BTreeMap<String, Vec<RelPathBuf>>)>,
    /// What its directories look like by now.
    trees: BTreeMap<String, Arc<Tree>>,
}

impl Followers {
    /// `published`: what the newest publication says of nodes. What it names as taken in is, though it was another Main that did
    /// it: what its nodes uploaded before would bring back what was deleted since.
    pub(crate) fn new(
        objects: Arc<dyn Objects>,
        cluster: String,
        state: StateDir,
        keys: BTreeMap<String, PublicKey>,
        published: &[HeadNode],
    ) -> anyhow::Result<Followers> {
        let mut taken = state.taken(&cluster)?;
        for node in published {
            let taken = taken.entry(node.name.clone()).or_default();
            *taken = node.taken.max(*taken);
        }
        let next = |node: &String| (node.clone(), taken.get(node).copied().unwrap_or(0) + 1);
        let first = Arc::new(FirstUploads::new(keys.keys().map(next).collect()));
        Ok(Followers { objects, cluster, state, keys, taken, first, seen: Arc::default() })
    }

    /// Whether it is such a node.
    pub(crate) fn has(&self, node: &str) -> bool {
        self.keys.contains_key(node)
    }

    /// A session with what a node has uploaded.
    pub(crate) fn connect(&self, node: &str) -> Result<Box<dyn NodeSession>, NodeError> {
        let Some(key) = self.keys.get(node) else {
            return Err(NodeError::new(NodeErrorKind::Unreachable, "it follows no store"));
        };
        Ok(Box::new(UploadedSession::new(self.clone(), node.to_owned(), key.clone())))
    }

    /// What of the uploads is taken in by now, as far as the runs that are over have come: name → number. It goes into the next
    /// publication, together with what was taken in.
    pub(crate) fn settle(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut taken = self.taken.clone();
        taken.retain(|node, _| self.has(node));
        for (node, seen) in self.seen().iter() {
            let known = taken.get(node).copied().unwrap_or(0);
            taken.insert(node.clone(), self.settled(node, seen).max(known));
        }
        if taken != self.taken {
            self.state.save_taken(&self.cluster, &taken)?;
        }
        Ok(taken)
    }

    /// The last upload of a node all of whose changes have been decided on: what both ends have agreed on is what the node
    /// is to have.
    fn settled(&self, node: &str, seen: &Seen) -> u64 {
        let mut agreed: BTreeMap<&str, Option<Tree>> = BTreeMap::new();
        let mut settled = 0;
        for (seq, directories) in &seen.uploads {
            for (directory, paths) in directories {
                // One that this node has no part in any more is nobody's business.
                let Some(tree) = seen.trees.get(directory) else { continue };
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

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
