//! What a run will do on a host, as values.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::path::RelPathBuf;

/// One thing to do at one path on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub path: RelPathBuf,
    /// What the scan saw there. When something else stands there by now, the step is left undone.
    pub expected: Option<Entry>,
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
        /// What the scan saw at `from`. Boxed, so that it does not make all the other steps as large.
        from_expected: Box<Entry>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_large_plan_has_many_of_stays_small() {
        use crate::model::{Change, NodeChange, PlannedChange};
        for (what, size, most) in [
            ("an action", size_of::<Action>(), 184),
            ("a planned change", size_of::<PlannedChange>(), 120),
            ("a change", size_of::<Change>(), 96),
            ("a change in words", size_of::<NodeChange>(), 96),
        ] {
            assert!(size <= most, "{what} takes {size} bytes");
        }
    }
}
