//! A follower's end of its edges, on Main.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use ssh_key::PublicKey;

use super::uploads::Uploads;
use super::{Followers, Seen, lost};
use crate::disk::marker::Marker;
use crate::model::{
    Action, Meta, Outcome, Owner, Pruned, ReloadOutcome, ReloadState, Space, Step, TrashKeep, Tree,
};
use crate::node::{
    Attempt, Describe, Description, Endpoint, KeyChange, MainKeys, NodeError, NodeErrorKind, PreparedRoot,
    Refusal, Trashless,
};
use crate::reload::ReloadRequest;
use crate::snapshot::{Root, ScanSpec, Scanned, loaded_digest, tree_digest};
use crate::store::StoreError;
use crate::store::blobs::StoreSource;
use crate::store::names::Area;
use crate::transfer::trash::TrashEntry;
use crate::transfer::{BlobRequest, Received, Sink, Source};

/// What is asked of a node that Main never connects to.
const FOLLOWS: &str = "it follows the store, and Main never connects to it";

/// What a node has uploaded, as a node.
pub(super) struct UploadedSession {
    of: Followers,
    node: String,
    key: PublicKey,
    uploads: Uploads,
    /// Directory → what the node has there: what was agreed on, with its uploads, and what this run has done since.
    trees: HashMap<String, Arc<Tree>>,
}

impl UploadedSession {
    pub(super) fn new(of: Followers, node: String, key: PublicKey) -> UploadedSession {
        UploadedSession { of, node, key, uploads: Uploads::default(), trees: HashMap::new() }
    }

    fn tree_of(&self, directory: &str) -> Result<&Arc<Tree>, NodeError> {
        let not_scanned = || NodeError::new(NodeErrorKind::Lost, format!("{directory} was not scanned"));
        self.trees.get(directory).ok_or_else(not_scanned)
    }

    /// Says how to get on where an upload is not to be believed: all that comes after it waits for it.
    fn advised(&self, error: StoreError) -> StoreError {
        let Some(area) = Area::node(&self.node) else { return error };
        let first = self.of.taken.get(&self.node).copied().unwrap_or(0) + 1;
        match error {
            StoreError::Tampered(why) => StoreError::Tampered(format!(
                "{why}. Until it is, nothing of {0} is taken in. Where {0} has a new key, Main's configuration is to have it, and what \
                 the old one has signed is of no use: remove {1} and all after it from the store; with the next new publication {0} \
                 uploads once more what it has",
                self.node,
                area.upload(first)
            )),
            error => error,
        }
    }

    /// What Main is to know of this node when the run is over.
    fn note(&self) {
        let trees = self.trees.iter().map(|(name, tree)| (name.clone(), Arc::clone(tree))).collect();
        let seen = Seen { uploads: self.uploads.read.clone(), trees };
        self.of.seen().insert(self.node.clone(), seen);
    }
}

impl Endpoint for UploadedSession {
    fn begin(&mut self, _: &str, _: bool) -> Result<(), NodeError> {
        self.trees.clear();
        self.of.seen().remove(&self.node);
        self.uploads =
            Uploads::read(&self.of, &self.node, &self.key).map_err(|error| lost(&self.advised(error)))?;
        Ok(())
    }

    fn end(&mut self) -> Result<(), NodeError> {
        Ok(())
    }

    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        let name = &spec.directory;
        let record = self.of.state.edge(name, &self.node).ok().flatten();
        if !self.trees.contains_key(name) {
            match spec.rules() {
                Ok(rules) => self.uploads.keep_out(name, &rules),
                Err(why) => return Ok(Scanned::unusable(why)),
            }
            let base = record.as_ref().filter(|record| record.agreed).and_then(|record| record.base().ok());
            let base = base.unwrap_or_default();
            let now = self.uploads.directories.get(name).map(|changed| changed.now(&base));
            self.trees.insert(name.clone(), Arc::new(now.unwrap_or(base)));
            self.note();
        }
        let tree = self.tree_of(name)?;
        let (id, generation) = match record {
            Some(record) => (record.root, record.generation),
            None => (self.of.cluster.clone(), None),
        };
        Ok(Scanned {
            root: Root::Marked(Marker { id, generation }),
            digest: tree_digest(tree),
            loaded: loaded_digest(tree),
            entries: tree.len() as u64,
            settled: true,
            free: Space::UNKNOWN,
            mount: String::new(),
            leftovers: false,
        })
    }

    fn tree(&mut self, directory: &str, _: Option<&Arc<Tree>>) -> Result<Arc<Tree>, NodeError> {
        self.tree_of(directory).cloned()
    }

    fn common(&self, directory: &str, base: &Tree) -> Option<Tree> {
        Some(self.uploads.directories.get(directory)?.before(base))
    }

    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError> {
        // Which of them the node knows shows there.
        Ok(owners.to_vec())
    }

    fn prepare(
        &mut self,
        directory: &str,
        _: &TrashKeep,
        _: Option<&Meta>,
    ) -> Result<Attempt<PreparedRoot>, NodeError> {
        let record = self.of.state.edge(directory, &self.node).ok().flatten();
        let id = record.map_or_else(|| self.of.cluster.clone(), |record| record.root);
        Ok(Ok(PreparedRoot { id, pruned: Pruned::default() }))
    }

    fn clear_stage(&mut self, _: &str) -> Result<Attempt<()>, NodeError> {
        Ok(Ok(()))
    }

    /// The next publication brings the node what it needs.
    fn stage(&mut self, _: &str, wanted: &[BlobRequest], _: &mut dyn Source) -> Result<Received, NodeError> {
        Ok(vec![Ok(()); wanted.len()])
    }

    fn send(&mut self, _: &str, wanted: &[BlobRequest], sink: &mut dyn Sink) -> Result<(), NodeError> {
        let area =
            Area::node(&self.node).ok_or_else(|| NodeError::new(NodeErrorKind::Lost, "it has no area"))?;
        let contents = Arc::new(self.uploads.contents.clone());
        let sent = StoreSource::new(Arc::clone(&self.of.objects), area, contents).send(wanted, sink);
        sent.map_err(|error| match error.downcast::<StoreError>() {
            Ok(error) => lost(&error),
            Err(error) => NodeError::new(NodeErrorKind::Lost, format!("{error:#}")),
        })
    }

    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError> {
        let mut changes = std::collections::BTreeMap::new();
        for action in actions {
            if let Step::Move { from, .. } = &action.step {
                changes.insert(from.clone(), None);
            }
            changes.insert(action.path.clone(), action.result().cloned());
        }
        let tree = self.tree_of(directory)?.with(&changes);
        self.trees.insert(directory.to_owned(), Arc::new(tree));
        self.note();
        Ok(vec![Outcome::Done; actions.len()])
    }

    fn agree(&mut self, _: &str, _: &str) -> Result<Attempt<()>, NodeError> {
        Ok(Ok(()))
    }

    fn trashed(&mut self, _: &str) -> Result<Vec<TrashEntry>, NodeError> {
        Ok(Vec::new())
    }

    fn reload(&mut self, request: &ReloadRequest) -> Result<ReloadOutcome, NodeError> {
        Ok(ReloadOutcome { name: request.name.clone(), state: ReloadState::NotNeeded, detail: None })
    }
}

impl Trashless for UploadedSession {
    const WHY: &'static str = FOLLOWS;
}

impl MainKeys for UploadedSession {
    fn replace_key(&mut self, _: &KeyChange) -> Result<Attempt<Vec<String>>, NodeError> {
        Ok(Err(Refusal::new(FOLLOWS)))
    }
}

impl Describe for UploadedSession {
    fn describe(&mut self, _: &[PathBuf]) -> Result<Description, NodeError> {
        Err(NodeError::new(NodeErrorKind::Unreachable, FOLLOWS))
    }
}
