//! What the daemon tells of itself: the living part of `xds-sync status`.

use serde::{Deserialize, Serialize};

/// How the daemon is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) pid: u32,
    /// When it began.
    pub(crate) since: String,
    /// When the next full run is.
    pub(crate) next_run: Option<String>,
    /// Runs under way.
    pub(crate) running: usize,
    pub(crate) nodes: Vec<LiveNode>,
    /// Directories of which no events come, so that they are looked at regularly.
    pub(crate) polled: Vec<Polled>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LiveNode {
    pub(crate) name: String,
    /// Since when it is connected; `None`: it is not.
    pub(crate) connected_since: Option<String>,
    /// Why it is not.
    pub(crate) error: Option<String>,
    /// How many changes it has not confirmed; `None`: more than are counted.
    pub(crate) queue: Option<usize>,
    /// For how long the oldest of them has waited; `None`: there is none.
    pub(crate) lag_ms: Option<u64>,
    /// When something was last changed on it, or came from it.
    pub(crate) last_change: Option<String>,
}

/// A directory without events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Polled {
    /// `None`: Main.
    pub(crate) node: Option<String>,
    pub(crate) directory: String,
    pub(crate) why: String,
}
