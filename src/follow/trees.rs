//! Trees of publications, kept on this host: one that has not changed is not fetched again.

use std::fs;
use std::path::{Path, PathBuf};

use crate::durable::{self, Options};
use crate::store::blobs::get_object;
use crate::store::head::{Head, HeadDirectory};
use crate::store::names::Area;
use crate::store::tree::{self, StoredTree};
use crate::store::{Objects, Sha256, StoreError};

/// Where they are kept, each as the object that it is.
pub(super) struct Trees(PathBuf);

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

    /// One that was kept, if it is whole.
    fn kept(&self, hash: &Sha256) -> Option<Vec<u8>> {
        let object = fs::read(self.0.join(hash.to_string())).ok()?;
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
        let unsynced = Options { sync: false, ..Options::PRIVATE };
        let _ = durable::make_dir(&self.0, 0o700)
            .and_then(|()| durable::replace(&self.0.join(hash.to_string()), &object, unsynced));
        Ok(object)
    }

    /// Forgets those that a publication does not have.
    pub(super) fn keep_only(&self, head: &Head) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_used = head.directories.iter().any(|directory| *name == *directory.tree.to_string());
            if !is_used {
                // It takes room, and nothing else.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
