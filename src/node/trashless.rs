//! An end of an edge without a disk: it has no older versions of anything.

use super::endpoint::TrashReader;
use super::error::{Attempt, NodeError, NodeErrorKind, Refusal};
use crate::model::{Entry, RelPath, RelPathBuf};
use crate::transfer::trash::{TrashEntry, TrashId};
use crate::transfer::{BlobRequest, Sink};

/// Such an end, as a [`TrashReader`].
pub trait Trashless {
    /// Why it has none, for people.
    const WHY: &'static str;
}

impl<T: Trashless> TrashReader for T {
    fn versions(&mut self, _: &str, _: &RelPath) -> Result<Attempt<Vec<TrashEntry>>, NodeError> {
        Ok(Err(Refusal::new(T::WHY)))
    }

    fn recall(
        &mut self,
        _: &str,
        _: &TrashId,
        paths: &[RelPathBuf],
    ) -> Result<Vec<Attempt<Entry>>, NodeError> {
        Ok(paths.iter().map(|_| Err(Refusal::new(T::WHY))).collect())
    }

    fn send_trashed(
        &mut self,
        _: &str,
        _: &TrashId,
        _: &[BlobRequest],
        _: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        Err(NodeError::new(NodeErrorKind::Unreachable, T::WHY))
    }
}
