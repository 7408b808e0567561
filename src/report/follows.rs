//! How a node that follows the store is, by its own words: Main never connects to it.

use serde::{Deserialize, Serialize};

/// What such a node has told last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    /// When it told that.
    pub seen: Option<String>,
    /// As in its `follow.json`: `starting`, `current`, `degraded`, `stale` or `refused`.
    pub state: Option<String>,
    /// The publication that it has, wholly; 0: none.
    pub seq: u64,
    /// The newest publication that there was then.
    pub newest: u64,
    /// Why it is not current.
    pub error: Option<String>,
}

impl Follows {
    /// Whether it has all that is published, as far as it has told.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.seq >= self.newest && self.state.as_deref().is_none_or(|state| state == "current")
    }
}
