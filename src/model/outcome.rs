//! How things went.

use serde::{Deserialize, Serialize};

use super::entry::{Entry, File, Meta};

/// How one [`Action`](super::Action) went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It stands as planned, on disk.
    Done,
    /// The same, but for what the disk made of mode, owner or time.
    Kept(Box<Kept>),
    /// What stood there was no longer what the scan saw; left for the next run.
    Changed,
    /// It could not be done; what stood there still stands. The system's words.
    Failed(String),
}

/// What a disk keeps instead of the mode, owner or time that it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub meta: Meta,
    /// Nanoseconds since 1970; a directory's says nothing.
    pub mtime: i64,
    pub lacks: Lacks,
}

/// The attributes that a disk did not take. A time that it only rounds is not among them, nor is a mode that an access
/// list widens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacks {
    pub mode: bool,
    pub owner: bool,
    pub time: bool,
}

impl Outcome {
    /// Whether the action was carried out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Outcome::Done | Outcome::Kept(_))
    }

    /// What stands there now, where an action that was carried out was to put `planned`.
    #[must_use]
    pub fn result(&self, planned: &Entry) -> Entry {
        match (self, planned) {
            (Outcome::Kept(kept), Entry::Dir(_)) => Entry::Dir(kept.meta.clone()),
            (Outcome::Kept(kept), Entry::File(file)) => {
                Entry::File(File { mtime: kept.mtime, meta: kept.meta.clone(), ..file.clone() })
            }
            _ => planned.clone(),
        }
    }
}

/// How a reload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadState {
    /// Asterisk said so, and what was pushed shows in it.
    Done,
    /// Due, and not tried.
    Owed,
    /// Tried, without success; still due.
    Failed,
    /// Nothing it reads has changed.
    NotNeeded,
}

/// One reload on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadOutcome {
    /// `dialplan`, `moh`, or a name from the node's own list.
    pub name: String,
    /// How it went.
    pub state: ReloadState,
    /// Why it failed, or a warning about one that was done.
    pub detail: Option<String>,
}
