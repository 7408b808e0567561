//! What a run will do, as values: steps for hosts, and the same told to people.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::path::RelPathBuf;

/// One thing to do at one path on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Where.
    pub path: RelPathBuf,
    /// What the scan saw there. When something else stands there by now, the step is left undone.
    pub expected: Option<Entry>,
    /// What.
    pub step: Step,
}

/// What to do at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Make it this directory, file or symlink. What is not a directory goes to the trash first.
    Put(Entry),
    /// Make it this file, by moving the one at `from`, which has the content already.
    Move {
        /// Where the content is; a file that would be deleted otherwise.
        from: RelPathBuf,
        /// What the scan saw at `from`.
        from_expected: Entry,
        /// What it shall be.
        entry: Entry,
    },
    /// The content is right; set mode, owner and mtime to this entry's.
    SetMeta(Entry),
    /// Into the trash; a directory only when nothing is left in it.
    Delete,
}

impl Action {
    /// What stands at the path when the step is done.
    #[must_use]
    pub fn result(&self) -> Option<&Entry> {
        match &self.step {
            Step::Put(entry) | Step::Move { entry, .. } | Step::SetMeta(entry) => Some(entry),
            Step::Delete => None,
        }
    }
}

/// Whose copy a change alters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The node's.
    Node,
    /// Main's.
    Main,
}

/// The `action` of a change in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It was not there.
    Create,
    /// Its content changes.
    Update,
    /// It goes to the trash.
    Delete,
    /// Mode, owner or mtime alone.
    Metadata,
    /// It moves; the reason names where from.
    Rename,
    /// A node's own edit of a pushed file: overwritten, or kept after Main deleted its own.
    Drift,
    /// Several ends changed it differently.
    Conflict,
    /// Held back as busy.
    Hold,
    /// Not carried.
    Skip,
}

/// One line of a report: what happens to one path of one edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: RelPathBuf,
    /// Whose copy.
    pub to: Side,
    /// What.
    pub kind: ChangeKind,
    /// The file's size in bytes, 0 for all else.
    pub bytes: u64,
    /// Why, where that does not go without saying.
    pub reason: Option<String>,
}

/// One change of one edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeChange {
    /// The directory.
    pub directory: String,
    /// The node that got it, or that it came from.
    pub node: String,
    /// What.
    pub change: Change,
    /// Names what stood there before, in the trash of the host whose copy changed.
    pub id: Option<String>,
}
