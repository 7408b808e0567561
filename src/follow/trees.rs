//! Trees of publications, kept on this host: one that has not changed is not fetched again, and not even read where it is
//! enough to know its digest.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable::{self, Options, sealed};
use crate::model::{Digest, Tree};
use crate::snapshot::{loaded_digest, tree_digest};
use crate::store::blobs::get_object;
use crate::store::head::{Head, HeadDirectory};
use crate::store::names::Area;
use crate::store::tree::{self, StoredTree};
use crate::store::{Objects, Sha256, StoreError};
use crate::version;

/// Where they are kept, each as the object that it is, and what is known of it beside.
#[derive(Clone)]
pub(super) struct Trees(PathBuf);

/// What a scan tells of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    /// Whoever has read it: another version may read it otherwise.
    by: String,
    pub(super) digest: Digest,
    pub(super) loaded: Digest,
    pub(super) entries: u64,
    pub(super) settled: bool,
}

impl Summary {
    pub(super) fn of(tree: &Tree) -> Summary {
        Summary {
            by: version::package(),
            digest: tree_digest(tree),
            loaded: loaded_digest(tree),
            entries: tree.len() as u64,
            settled: !tree.iter().any(|(_, entry)| entry.is_opaque()),
        }
    }
}

const SUMMARY: &str = "summary";
/// What is lost here is fetched or made again.
const UNSYNCED: Options = Options { sync: false, ..Options::PRIVATE };

impl Trees {
    pub(super) fn in_dir(dir: &Path) -> Trees {
        Trees(dir.join("trees"))
    }

    /// The tree of a directory.
    pub(super) fn get(
        &self,
        objects: &dyn Objects,
        directory: &HeadDirectory,
    ) -> Result<StoredTree, StoreError> {
        let object = match self.kept(&directory.tree) {
            Some(object) => object,
            None => self.fetch(objects, directory)?,
        };
        tree::decode(&object).map_err(|error| error.while_doing(&directory.name))
    }

    /// What is known of a tree that is kept.
    pub(super) fn summary(&self, hash: &Sha256) -> Option<Summary> {
        let bytes = fs::read(self.summary_path(hash)).ok()?;
        let summary: Summary = sealed::open(&bytes).ok()?;
        (summary.by == version::package() && self.path(hash).is_file()).then_some(summary)
    }

    /// Keeps what was found of a tree.
    pub(super) fn keep_summary(&self, hash: &Sha256, summary: &Summary) {
        // Without it the tree is read again.
        let _ = sealed::seal(summary)
            .and_then(|bytes| Ok(durable::replace(&self.summary_path(hash), &bytes, UNSYNCED)?));
    }

    fn path(&self, hash: &Sha256) -> PathBuf {
        self.0.join(hash.to_string())
    }

    fn summary_path(&self, hash: &Sha256) -> PathBuf {
        self.path(hash).with_extension(SUMMARY)
    }

    /// One that was kept, if it is whole.
    fn kept(&self, hash: &Sha256) -> Option<Vec<u8>> {
        let object = fs::read(self.path(hash)).ok()?;
        (Sha256::of(&object) == *hash).then_some(object)
    }

    fn fetch(&self, objects: &dyn Objects, directory: &HeadDirectory) -> Result<Vec<u8>, StoreError> {
        let HeadDirectory { name, tree: hash, tree_len, .. } = directory;
        let object = get_object(objects, &Area::main(), hash, *tree_len)?;
        // Replicas of a store lag behind.
        let object = object.ok_or_else(|| {
            StoreError::Unreachable(format!(
                "{}: the tree of {name} is not there yet, or not any more",
                objects.place()
            ))
        })?;
        // One that cannot be kept is fetched again.
        let _ = durable::make_dir(&self.0, 0o700)
            .and_then(|()| durable::replace(&self.path(hash), &object, UNSYNCED));
        Ok(object)
    }

    /// Forgets those that a publication does not have.
    pub(super) fn keep_only(&self, head: &Head) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        for entry in entries.flatten() {
            let name = entry.path();
            let of = name.file_stem().unwrap_or_default();
            let is_used = head.directories.iter().any(|directory| *of == *directory.tree.to_string());
            if !is_used {
                // It takes room, and nothing else.
                let _ = fs::remove_file(&name);
            }
        }
    }
}
