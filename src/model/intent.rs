//! What a run set out to do.

use super::Tree;

/// What the disks of an edge keep instead of entries of its base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptTrees {
    pub main: Tree,
    pub node: Tree,
}

/// What a run is about to make of the paths of an edge, noted on Main before anything is touched, and why: how
/// both ends were. Should the run be cut off, the next one tells by it what it did from what people did since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// What shall stand on both ends. What shall go is not in it.
    pub goal: Tree,
    /// What Main had at these paths.
    pub main: Tree,
    /// What the node had.
    pub node: Tree,
}
