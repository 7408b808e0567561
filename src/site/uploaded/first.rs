//! Whether followers have uploaded anything: asked for many of them together, since mostly none has.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::store::names::Area;
use crate::store::objects::{BATCH, get_each};
use crate::store::{MAX_UPLOAD, Objects};
use crate::threads::side_by_side;

/// Batches that are asked for at once.
const THREADS: usize = 4;

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
        self.batch(objects, at / BATCH)?.remove(node)
    }

    /// The followers that may have uploaded something: all but those of which it is known that they have not. All are asked
    /// for.
    pub(super) fn there(&self, objects: &dyn Objects) -> Vec<String> {
        let numbers: Vec<usize> = (0..self.batches.len()).collect();
        let of_batch = |number: &usize| {
            let found = self.batch(objects, *number);
            let has_none = |name: &str| found.as_ref().is_some_and(|found| found.get(name) == Some(&None));
            let wanted = self.wanted.iter().skip(number * BATCH).take(BATCH).map(|(name, _)| name);
            wanted.filter(|name| !has_none(name)).cloned().collect::<Vec<String>>()
        };
        side_by_side(&numbers, THREADS, of_batch).into_iter().flatten().collect()
    }

    fn batch(&self, objects: &dyn Objects, number: usize) -> Option<MutexGuard<'_, Found>> {
        let found = self.batches.get(number)?.get_or_init(|| Mutex::new(self.look(objects, number)));
        Some(found.lock().unwrap_or_else(PoisonError::into_inner))
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
