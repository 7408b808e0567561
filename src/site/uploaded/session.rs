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
    Attempt, Describe, Description, Endpoint, KeyChange, MainKeys, News, NodeError, NodeErrorKind,
    PreparedRoot, Refusal, Trashless,
};
use crate::reload::ReloadRequest;
use crate::snapshot::{Root, ScanSpec, Scanned, loaded_digest, tree_digest};
use crate::state::EdgeRecord;
use crate::store::StoreError;
use crate::store::blobs::StoreSource;
use crate::store::names::Area;
use crate::transfer::trash::TrashEntry;
use crate::transfer::{BlobRequest, Received, Sink, Source};

/// What is asked of a node that Main never connects to.
const FOLLOWS: &str = "it follows the store, and Main never connects to it";

/// What a node has uploaded, as a node.
pub(super) struct UploadedSession {
    of: Arc<Followers>,
    node: String,
    key: PublicKey,
    uploads: Uploads,
    /// The directories that were scanned.
    held: HashMap<String, Held>,
    /// Directory → what the node has there: what both ends had in common, with its uploads, and what this run has done since.
    trees: HashMap<String, Arc<Tree>>,
}

/// What a directory is held against.
#[derive(Clone)]
enum Held {
    /// Nothing: nothing was uploaded of it. Neither a record nor a tree is read then.
    Nothing,
    /// What is recorded, since Main has decided on some of what was uploaded.
    Record,
    /// What is published; none: it is not yet.
    Published(Option<Arc<Tree>>),
}

impl UploadedSession {
    pub(super) fn new(of: Arc<Followers>, node: String, key: PublicKey) -> UploadedSession {
        let (held, trees) = (HashMap::new(), HashMap::new());
        UploadedSession { of, node, key, uploads: Uploads::default(), held, trees }
    }

    fn tree_of(&self, directory: &str) -> Result<&Arc<Tree>, NodeError> {
        let not_scanned = || NodeError::new(NodeErrorKind::Lost, format!("{directory} was not scanned"));
        self.trees.get(directory).ok_or_else(not_scanned)
    }

    /// What is recorded of a directory, with the store that this is: with another one both have nothing in common.
    fn record(&self, directory: &str) -> Option<EdgeRecord> {
        let record = self.of.state.edge(directory, &self.node).ok().flatten();
        record.filter(|record| record.root == self.of.cluster)
    }

    /// Looks at a directory for the first time.
    fn hold(&mut self, directory: &str) -> Result<Held, NodeError> {
        let Some(changed) = self.uploads.directories.get(directory).filter(|changed| !changed.is_empty())
        else {
            return Ok(Held::Nothing);
        };
        let (held, base) = match self.record(directory) {
            Some(record) => {
                let base = Some(record).filter(|record| record.agreed).and_then(|record| record.base().ok());
                (Held::Record, base.map(Arc::new))
            }
            None => {
                let published = self.of.published(directory).map_err(|error| lost(&error))?;
                (Held::Published(published.clone()), published)
            }
        };
        let now = changed.now(base.as_deref().unwrap_or(&Tree::default()));
        self.trees.insert(directory.to_owned(), Arc::new(now));
        self.note();
        Ok(held)
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
        self.held.clear();
        self.trees.clear();
        self.of.seen().remove(&self.node);
        self.uploads =
            Uploads::read(&self.of, &self.node, &self.key).map_err(|error| lost(&self.advised(error)))?;
        self.note();
        Ok(())
    }

    fn end(&mut self) -> Result<(), NodeError> {
        Ok(())
    }

    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        let name = &spec.directory;
        if !self.held.contains_key(name) {
            if self.uploads.directories.contains_key(name) {
                match spec.rules() {
                    Ok(rules) => self.uploads.keep_out(name, &rules),
                    Err(why) => return Ok(Scanned::unusable(why)),
                }
            }
            let held = self.hold(name)?;
            self.held.insert(name.clone(), held);
        }
        let record = match self.held.get(name) {
            Some(Held::Record) => self.record(name),
            Some(Held::Nothing | Held::Published(_)) | None => None,
        };
        let root = record.map_or(Root::Unmarked, |record| {
            Root::Marked(Marker { id: record.root, generation: record.generation })
        });
        let empty = Arc::default();
        let tree = self.trees.get(name).unwrap_or(&empty);
        Ok(Scanned {
            root,
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

    fn news(&self, directory: &str) -> News {
        match self.held.get(directory) {
            Some(Held::Nothing) => News::Nothing,
            Some(Held::Published(_)) => News::Changes,
            Some(Held::Record) | None => News::Tree,
        }
    }

    fn common(&self, directory: &str, base: Option<&Tree>) -> Option<Tree> {
        let changed = self.uploads.directories.get(directory)?;
        match self.held.get(directory)? {
            Held::Published(published) => Some(changed.before_any(published.as_deref()?)),
            Held::Record => Some(changed.before(base?)),
            Held::Nothing => None,
        }
    }

    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError> {
        // Which of them the node knows shows there.
        Ok(owners.to_vec())
    }

    fn prepare(
        &mut self,
        _: &str,
        _: &TrashKeep,
        _: Option<&Meta>,
    ) -> Result<Attempt<PreparedRoot>, NodeError> {
        Ok(Ok(PreparedRoot { id: self.of.cluster.clone(), pruned: Pruned::default() }))
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
