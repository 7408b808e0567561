//! The blobs that nodes have sent, or are sending, to Main's stage.

use crate::model::Digest;
use crate::sync::blobs::Missing;
use crate::sync::{Run, lock};

/// How far a blob has come on its way to Main's stage.
#[derive(Clone, Debug)]
pub(in crate::sync) enum Pull {
    /// A node is sending it.
    UnderWay,
    Staged,
    Failed(String),
}

/// Why a blob is not in Main's stage, if it is not.
pub(super) fn missing(run: &Run<'_>, directory: &str, digest: Digest) -> Option<Missing> {
    match lock(&run.pulls).get(&(directory.to_owned(), digest)) {
        Some(Pull::Staged) => None,
        Some(Pull::Failed(why)) => Some(Missing::Failed(why.clone())),
        Some(Pull::UnderWay) | None => Some(Missing::NotReached),
    }
}

/// What was staged has been put in place: a later round asks for it anew. What is still under way stays known.
pub(super) fn forget(run: &Run<'_>, directory: &str) {
    lock(&run.pulls).retain(|(name, _), pull| name != directory || matches!(pull, Pull::UnderWay));
}
