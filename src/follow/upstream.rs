//! Main as a verified publication shows it: the trees of the head, with what this node has uploaded since laid over them. What
//! a run would put in place on Main becomes an upload.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use anyhow::Context as _;

use super::pending::{Changes, Pending};
use super::spec::root_meta;
use super::trees::{Summary, Trees};
use super::upload::Uploading;
use crate::disk::marker::Marker;
use crate::model::{
    Action, Entry, Meta, Outcome, Owner, Pruned, RelPathBuf, ReloadOutcome, ReloadState, Space, Step,
    TrashKeep, Tree, rfc3339,
};
use crate::node::{Attempt, Endpoint, NodeError, NodeErrorKind, PreparedRoot, Trashless};
use crate::reload::ReloadRequest;
use crate::snapshot::{Root, ScanSpec, Scanned};
use crate::store::blobs::{StoreSource, get_object};
use crate::store::head::HeadDirectory;
use crate::store::names::Area;
use crate::store::tree::{Part, Parts};
use crate::store::upload::{On, Upload, UploadedChange, UploadedDirectory};
use crate::store::{FORMAT, Objects, Sha256, StoreError, upload};
use crate::sync::{BlobSource, MainSide, MainStage};
use crate::transfer::trash::TrashEntry;
use crate::transfer::{BlobRequest, Received, Sink, Source};

/// What is known of an upload before anything is in it.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// The store's ULID.
    pub(super) cluster: String,
    /// This node's name.
    pub(super) node: String,
    /// The number that it will have.
    pub(super) seq: u64,
    /// The publication that this run follows.
    pub(super) on: On,
    /// What it is signed with.
    pub(super) identity: PathBuf,
    pub(super) now: fn() -> SystemTime,
}

/// One directory of the publication.
struct Directory {
    /// As the head has it.
    published: HeadDirectory,
    /// What is known of its tree, where no upload is laid over it.
    summary: Option<Summary>,
    /// Read where it is needed.
    contents: OnceLock<Contents>,
}

/// What is in it.
struct Contents {
    /// With all uploads laid over it.
    tree: Arc<Tree>,
    /// Where its contents are.
    parts: Arc<Parts>,
}

/// Main's end of the edges of this node.
pub(super) struct Upstream {
    objects: Arc<dyn Objects>,
    /// This node's, in the store.
    area: Area,
    draft: Draft,
    pending: Arc<Mutex<Pending>>,
    trees: Trees,
    directories: HashMap<String, Directory>,
    /// Contents that were uploaded in this run.
    uploaded: Arc<Mutex<Parts>>,
    /// What this run has changed.
    changes: Changes,
    /// Why the store could not give what it was asked for, where all of a run depends on that.
    failure: Arc<Mutex<Option<StoreError>>>,
    is_dry: bool,
}

/// A source that remembers why it was lost.
struct Remembering {
    source: StoreSource,
    failure: Arc<Mutex<Option<StoreError>>>,
}

impl Source for Remembering {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        self.source.send(wanted, sink).inspect_err(|error| {
            if let Some(error) = error.downcast_ref::<StoreError>() {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            }
        })
    }
}

impl Upstream {
    pub(super) fn new(
        objects: Arc<dyn Objects>,
        area: Area,
        draft: Draft,
        pending: Arc<Mutex<Pending>>,
        trees: Trees,
    ) -> Upstream {
        Upstream {
            objects,
            area,
            draft,
            pending,
            trees,
            directories: HashMap::new(),
            uploaded: Arc::default(),
            changes: Changes::new(),
            failure: Arc::default(),
            is_dry: true,
        }
    }

    /// With a directory of the publication. One that this node `has` wholly is not read before it is needed.
    pub(super) fn add(&mut self, published: &HeadDirectory, has: bool) -> Result<(), StoreError> {
        let is_laid_over = self.pending().has(&published.name);
        let known = self.trees.summary(&published.tree).filter(|_| !is_laid_over);
        let (summary, contents) = match known {
            Some(summary) if has => (Some(summary), OnceLock::new()),
            known => {
                let (read, contents) = self.read(published, known)?;
                (Some(read).filter(|_| !is_laid_over), OnceLock::from(contents))
            }
        };
        let directory = Directory { published: published.clone(), summary, contents };
        self.directories.insert(published.name.clone(), directory);
        Ok(())
    }

    /// Reads a tree, and what is to be known of it, if that is not `known`.
    fn read(
        &self,
        published: &HeadDirectory,
        known: Option<Summary>,
    ) -> Result<(Summary, Contents), StoreError> {
        let stored = self.trees.get(&*self.objects, published)?;
        let summary = known.unwrap_or_else(|| {
            let summary = Summary::of(&stored.tree);
            self.trees.keep_summary(&published.tree, &summary);
            summary
        });
        let (tree, uploaded) = {
            let pending = self.pending();
            (pending.laid_over(&published.name, stored.tree), pending.contents())
        };
        let mut parts = stored.parts;
        parts.extend(uploaded);
        Ok((summary, Contents { tree: Arc::new(tree), parts: Arc::new(parts) }))
    }

    /// A directory's tree, with all uploads laid over it.
    pub(super) fn tree_of(&self, directory: &str) -> Option<Arc<Tree>> {
        Some(Arc::clone(&self.contents(directory).ok()?.tree))
    }

    /// Its contents.
    pub(super) fn contents_of(&self, directory: &str) -> Option<StoreSource> {
        let parts = Arc::clone(&self.contents(directory).ok()?.parts);
        Some(StoreSource::new(Arc::clone(&self.objects), Area::main(), parts))
    }

    /// Where it is told why the store could not give what it was asked for.
    pub(super) fn failure(&self) -> Arc<Mutex<Option<StoreError>>> {
        Arc::clone(&self.failure)
    }

    /// Mode and owner of its root.
    pub(super) fn root_of(&self, directory: &str) -> Option<Meta> {
        root_meta(&self.directories.get(directory)?.published)
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, name: &str) -> Result<&Directory, NodeError> {
        self.directories.get(name).ok_or_else(|| misuse(&format!("{name} is not in the publication")))
    }

    /// What is in a directory; it is read now, where it was not before.
    fn contents(&self, name: &str) -> Result<&Contents, NodeError> {
        let Directory { published, summary, contents } = self.directory(name)?;
        if let Some(contents) = contents.get() {
            return Ok(contents);
        }
        let read = self.read(published, summary.clone()).map_err(|error| {
            let detail = error.detail().to_owned();
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            misuse(&detail)
        })?;
        Ok(contents.get_or_init(|| read.1))
    }

    /// Lays actions over a directory, and keeps them as an upload.
    fn upload(&mut self, directory: &str, actions: &[Action]) -> anyhow::Result<()> {
        let known = self.contents(directory)?;
        let (base, contents) = (Arc::clone(&known.tree), Arc::clone(&known.parts));
        let mut changes = self.changes.clone();
        let of_directory = changes.entry(directory.to_owned()).or_default();
        for (path, now) in actions.iter().flat_map(results) {
            let expected = base.get(&path).cloned();
            let change = UploadedChange { path: path.clone(), expected, now };
            // What this run has made of it before is not what Main has.
            let first = of_directory.remove(&path).map(|before| before.expected);
            let expected = first.unwrap_or(change.expected);
            of_directory.insert(path, UploadedChange { expected, ..change });
        }
        for action in actions {
            if let Step::Move { from_expected, .. } = &action.step
                && let Entry::File(file) = &**from_expected
            {
                // Main may have deleted its own by the time that it gets this.
                self.copy(contents.get(&file.digest).map(|parts| &**parts).unwrap_or_default())?;
            }
        }
        self.keep(&changes)?;
        let laid: BTreeMap<RelPathBuf, Option<Entry>> = actions.iter().flat_map(results).collect();
        if let Some(directory) = self.directories.get_mut(directory) {
            directory.summary = None;
            directory.contents =
                OnceLock::from(Contents { tree: Arc::new(base.with(&laid)), parts: contents });
        }
        self.changes = changes;
        Ok(())
    }

    /// Copies parts of Main's into this node's area.
    fn copy(&self, parts: &[Part]) -> Result<(), StoreError> {
        for part in parts {
            let Part::Stored { object, len, .. } = part else { continue };
            if let Some(bytes) = get_object(&*self.objects, &Area::main(), object, *len)? {
                self.objects.create(&self.area.object(object), &bytes)?;
            }
        }
        Ok(())
    }

    /// Writes down all that this run has changed so far.
    fn keep(&self, changes: &Changes) -> anyhow::Result<()> {
        let uploaded = self.uploaded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut directories, mut encoded) = (Vec::new(), Vec::new());
        for (name, of_directory) in changes {
            let listed: Vec<UploadedChange> = of_directory.values().cloned().collect();
            let mut parts = uploaded.clone();
            parts.extend((*self.contents(name)?.parts).clone());
            let object = upload::encode(&listed, &parts)?;
            directories.push(UploadedDirectory {
                name: name.clone(),
                changes: Some(Sha256::of(&object)),
                changes_len: object.len() as u64,
            });
            let (_, contents) = upload::decode(&object)?;
            encoded.push((object, contents));
        }
        let Draft { cluster, node, seq, on, identity, now } = &self.draft;
        let upload = Upload {
            v: FORMAT,
            cluster: cluster.clone(),
            node: node.clone(),
            seq: *seq,
            time: rfc3339(now()),
            on: *on,
            directories,
        };
        self.pending().put(upload, identity, changes.clone(), &encoded).context("an upload cannot be kept")
    }
}

/// What an action makes of paths.
fn results(action: &Action) -> Vec<(RelPathBuf, Option<Entry>)> {
    let result = (action.path.clone(), action.result().cloned());
    match &action.step {
        Step::Move { from, .. } => vec![(from.clone(), None), result],
        _ => vec![result],
    }
}

fn misuse(what: &str) -> NodeError {
    NodeError::new(NodeErrorKind::Lost, what)
}

impl Endpoint for Upstream {
    fn begin(&mut self, _: &str, dry_run: bool) -> Result<(), NodeError> {
        self.is_dry = dry_run;
        Ok(())
    }

    fn end(&mut self) -> Result<(), NodeError> {
        Ok(())
    }

    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        let Some(directory) = self.directories.get(&spec.directory) else {
            return Ok(Scanned::unusable("it is not in the publication".to_owned()));
        };
        let summary = match &directory.summary {
            Some(summary) => summary.clone(),
            None => Summary::of(&self.contents(&spec.directory)?.tree),
        };
        Ok(Scanned {
            // A directory of another cluster is another directory.
            root: Root::Marked(Marker { id: self.draft.cluster.clone(), generation: None }),
            digest: summary.digest,
            loaded: summary.loaded,
            entries: summary.entries,
            settled: summary.settled,
            free: Space::UNKNOWN,
            mount: String::new(),
            leftovers: false,
        })
    }

    fn tree(&mut self, directory: &str, _: Option<&Arc<Tree>>) -> Result<Arc<Tree>, NodeError> {
        Ok(Arc::clone(&self.contents(directory)?.tree))
    }

    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError> {
        // Which of them Main knows shows when Main takes the upload in.
        Ok(owners.to_vec())
    }

    fn prepare(
        &mut self,
        _: &str,
        _: &TrashKeep,
        _: Option<&Meta>,
    ) -> Result<Attempt<PreparedRoot>, NodeError> {
        Ok(Ok(PreparedRoot { id: self.draft.cluster.clone(), pruned: Pruned::default() }))
    }

    fn clear_stage(&mut self, _: &str) -> Result<Attempt<()>, NodeError> {
        Ok(Ok(()))
    }

    fn stage(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        source: &mut dyn Source,
    ) -> Result<Received, NodeError> {
        Ok(self.staging(directory)?.stage(wanted, source))
    }

    fn send(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        let mut source = self.contents_of(directory).ok_or_else(|| misuse("it is not in the publication"))?;
        source.send(wanted, sink).map_err(|error| misuse(&format!("{error:#}")))
    }

    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError> {
        if self.is_dry {
            return Err(misuse("a change in a dry run"));
        }
        let outcome = match self.upload(directory, actions) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        Ok(vec![outcome; actions.len()])
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

impl Trashless for Upstream {
    const WHY: &'static str = "a store has no trash";
}

impl MainSide for Upstream {
    fn source(&self, directory: &str) -> Result<BlobSource, NodeError> {
        let source = self.contents_of(directory).ok_or_else(|| misuse("it is not in the publication"))?;
        let failure = Arc::clone(&self.failure);
        Ok(Arc::new(move || Box::new(Remembering { source: source.clone(), failure: Arc::clone(&failure) })))
    }

    fn staging(&self, directory: &str) -> Result<Box<dyn MainStage>, NodeError> {
        self.directory(directory)?;
        Ok(Box::new(Uploading {
            objects: Arc::clone(&self.objects),
            area: self.area.clone(),
            uploaded: Arc::clone(&self.uploaded),
        }))
    }

    fn root_meta(&mut self, directory: &str) -> Option<Meta> {
        self.root_of(directory)
    }

    fn has_tree_at_hand(&self, directory: &str) -> bool {
        self.directories.get(directory).is_none_or(|directory| directory.contents.get().is_some())
    }
}
