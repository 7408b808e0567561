//! An encoded tree: refused, or the one encoding of what it decodes to.

use xds_sync::model::Tree;

pub(super) fn decode(bytes: &[u8]) {
    if let Ok(tree) = Tree::decode(bytes) {
        assert!(tree.encode() == bytes, "a tree with two encodings");
    }
}
