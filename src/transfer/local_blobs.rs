//! Blobs that this host has somewhere else than in its stage.

use std::collections::{HashMap, HashSet};
use std::fs::File;

use super::own::OwnDir;
use super::read::open_file;
use super::{BlobRequest, ScannedTree, trash};
use crate::disk::Stamp;
use crate::model::{Digest, RelPath};

/// Where this host has requested blobs, in the tree as it was scanned or in the trash.
pub(super) struct LocalBlobs<'a> {
    own: &'a OwnDir,
    seen: &'a ScannedTree<'a>,
    in_tree: HashMap<Digest, &'a RelPath>,
    in_trash: HashMap<Digest, trash::Trashed>,
}

impl<'a> LocalBlobs<'a> {
    pub(super) fn new(
        own: &'a OwnDir,
        seen: &'a ScannedTree<'a>,
        requests: &[BlobRequest],
    ) -> LocalBlobs<'a> {
        let mut missing: HashSet<Digest> = requests.iter().map(|request| request.digest).collect();
        let mut in_tree = HashMap::new();
        for (path, entry) in seen.tree.iter() {
            if let Some(file) = entry.as_file()
                && missing.remove(&file.digest)
            {
                in_tree.insert(file.digest, path);
            }
        }
        let in_trash = if missing.is_empty() { HashMap::new() } else { trash::find(own, &missing) };
        LocalBlobs { own, seen, in_tree, in_trash }
    }

    /// Opens what should be that blob; whoever copies it verifies it.
    pub(super) fn open(&self, request: &BlobRequest) -> Option<(File, Stamp)> {
        if let Some(path) = self.in_tree.get(&request.digest)
            && let Ok((file, stamp)) = open_file(self.own.root(), path.as_bytes())
            && self.seen.stamp(path) == Some(stamp)
        {
            return Some((file, stamp));
        }
        let trashed = self.in_trash.get(&request.digest)?;
        let (file, stamp) = trashed.open(self.own.root()).ok()?;
        (stamp.size == request.size).then_some((file, stamp))
    }
}
