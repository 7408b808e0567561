//! What a node may ask the store for.

use crate::store::names::{self, Area};
use crate::store::{MAX_CHANGES, MAX_HEAD, MAX_PART, MAX_SMALL, MAX_TREE, MAX_UPLOAD, Sha256};

/// Something that a node may read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readable {
    /// All nodes may, up to so many bytes.
    All(u64),
    /// Those may that are to have a directory of which it is, or are in the group of nodes that it is.
    Object(Sha256),
    /// Names below this.
    List,
}

/// What a node may read under a name; `None`: nothing.
pub(super) fn readable(node: &str, name: &str) -> Option<Readable> {
    let own = Area::node(node)?;
    if let Some(hash) = Area::main().object_in(name) {
        return Some(Readable::Object(hash));
    }
    if name == names::LEASES || name == names::TRUST || name == own.uploads() || name == own.objects() {
        return Some(Readable::List);
    }
    if names::seq_in(name).is_some() {
        return Some(Readable::All(MAX_HEAD));
    }
    let is_small = [names::LEASES, names::ALIVE, names::TRUST]
        .iter()
        .any(|prefix| names::number_in(name, prefix, 10).is_some());
    if is_small {
        return Some(Readable::All(MAX_SMALL));
    }
    most_of_own(&own, name).map(Readable::All)
}

/// Most bytes that a node may write under a name; `None`: it may not.
pub(super) fn writable(node: &str, name: &str) -> Option<u64> {
    most_of_own(&Area::node(node)?, name)
}

fn most_of_own(own: &Area, name: &str) -> Option<u64> {
    if own.object_in(name).is_some() {
        // A part, or a list of changes.
        return Some(MAX_PART.max(MAX_CHANGES));
    }
    (own.upload_in(name).is_some() || name == own.status()).then_some(MAX_UPLOAD)
}

/// The longest object of Main's that a node reads.
pub(super) const LONGEST: u64 = if MAX_TREE > MAX_PART { MAX_TREE } else { MAX_PART };

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_node_reads_what_is_for_it_and_writes_below_its_name() {
        let hash = Sha256::of(b"x");
        let (own, other) = (Area::node("mds1").unwrap(), Area::node("mds2").unwrap());
        for (name, expected) in [
            (names::head(3), Some(Readable::All(MAX_HEAD))),
            (names::lease(1), Some(Readable::All(MAX_SMALL))),
            (names::alive(1), Some(Readable::All(MAX_SMALL))),
            (names::trust(1), Some(Readable::All(MAX_SMALL))),
            (Area::main().object(&hash), Some(Readable::Object(hash))),
            (names::LEASES.to_owned(), Some(Readable::List)),
            (own.uploads(), Some(Readable::List)),
            (own.status(), Some(Readable::All(MAX_UPLOAD))),
            (names::HEADS.to_owned(), None),
            (names::NODES.to_owned(), None),
            ("v1/".to_owned(), None),
            ("v1/heads/../o/x".to_owned(), None),
            (names::condemned(1, 1), None),
            (other.status(), None),
            (other.object(&hash), None),
            (other.uploads(), None),
        ] {
            assert_eq!(readable("mds1", &name), expected, "{name}");
        }
        for (name, may) in [
            (own.object(&hash), true),
            (own.upload(1), true),
            (own.status(), true),
            (format!("{}x", own.prefix()), false),
            (format!("{}../mds2/status.xds", own.prefix()), false),
            (other.status(), false),
            (names::head(3), false),
            (names::alive(1), false),
            (Area::main().object(&hash), false),
        ] {
            assert_eq!(writable("mds1", &name).is_some(), may, "{name}");
        }
    }
}
