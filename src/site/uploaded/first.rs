//! Whether followers have uploaded anything: asked for many of them together, since mostly none has.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::store::names::Area;
use crate::store::objects::{BATCH, get_each};
use crate::store::{MAX_UPLOAD, Objects};

/// The first upload of each follower that Main has not taken in.
pub(super) struct FirstUploads {
    /// Name → its number, in the order of names.
    wanted: Vec<(String, u64)>,
    /// What the store has of each batch of them.
    batches: Vec<OnceLock<Mutex<Found>>>,
}

/// Name → the upload; none: there is none yet.
type Found = BTreeMap<String, Option<Vec<u8>>>;

impl FirstUploads {
    pub(super) fn new(wanted: BTreeMap<String, u64>) -> FirstUploads {
        let batches = (0..wanted.len().div_ceil(BATCH)).map(|_| OnceLock::new()).collect();
        FirstUploads { wanted: wanted.into_iter().collect(), batches }
    }

    /// That of a follower, as it was when a neighbour of it was asked for first. `None`: it is not known, or was told once
    /// already, and what the store has by now is to be looked at.
    pub(super) fn take(&self, objects: &dyn Objects, node: &str) -> Option<Option<Vec<u8>>> {
        let at = self.wanted.binary_search_by(|(name, _)| name.as_str().cmp(node)).ok()?;
        let found = self.batches.get(at / BATCH)?.get_or_init(|| Mutex::new(self.look(objects, at / BATCH)));
        found.lock().unwrap_or_else(PoisonError::into_inner).remove(node)
    }

    fn look(&self, objects: &dyn Objects, batch: usize) -> Found {
        let wanted = self.wanted.iter().skip(batch * BATCH).take(BATCH);
        let (nodes, names): (Vec<&String>, Vec<String>) =
            wanted.filter_map(|(node, seq)| Some((node, Area::node(node)?.upload(*seq)))).unzip();
        let found = nodes.into_iter().zip(get_each(objects, &names, MAX_UPLOAD));
        // What went wrong is met again by the follower whose it is.
        found.filter_map(|(node, found)| Some((node.clone(), found.ok()?))).collect()
    }
}
