//! How things went.

use serde::{Deserialize, Serialize};

/// How one [`Action`](super::Action) went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It stands as planned, on disk.
    Done,
    /// What stood there was no longer what the scan saw; left for the next run.
    Changed,
    /// It could not be done; what stood there still stands. The system's words.
    Failed(String),
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
