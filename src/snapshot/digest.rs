//! Digests of trees, by which two ends tell whether they hold the same without sending either.

use crate::model::{Digest, Tree};

/// Digest of a whole tree.
#[must_use]
pub fn tree_digest(tree: &Tree) -> Digest {
    digest_of(|sink| tree.feed_all(sink))
}

/// Digest of what a reload depends on.
#[must_use]
pub fn loaded_digest(tree: &Tree) -> Digest {
    digest_of(|sink| tree.feed_loaded(sink))
}

fn digest_of(feed: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Digest {
    let mut hasher = blake3::Hasher::new();
    feed(&mut |part| {
        hasher.update(part);
    });
    Digest(hasher.finalize().into())
}
