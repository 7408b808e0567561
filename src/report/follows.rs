//! How a node that follows the store is, by its own words: Main never connects to it.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::read_rfc3339;

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

/// After which time nobody knows any more how it is: it tells every five minutes.
const SILENT: Duration = Duration::from_secs(3600);

impl Follows {
    /// In a word, what is wrong with it. That it lacks the newest publication is not: it may be fetching it.
    /// `looked`: when Main looked for its words.
    pub(super) fn trouble(&self, looked: Option<SystemTime>) -> Option<&'static str> {
        let Some(seen) = self.seen.as_deref().and_then(read_rfc3339) else { return Some("not heard of") };
        if looked.and_then(|looked| looked.duration_since(seen).ok()).is_some_and(|passed| passed > SILENT) {
            return Some("silent");
        }
        self.state.as_deref().is_some_and(|state| state != "current").then_some("behind")
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::started;
    use super::*;

    #[test]
    fn one_that_is_silent_or_says_so_itself_is_not_well() {
        let follows = |seen: Option<&str>, state: &str| Follows {
            seen: seen.map(str::to_owned),
            state: Some(state.to_owned()),
            seq: 6,
            newest: 7,
            error: None,
        };
        for (seen, state, trouble) in [
            (None, "current", Some("not heard of")),
            (Some("2026-01-02T03:00:00Z"), "current", None),
            (Some("2026-01-02T03:00:00Z"), "degraded", Some("behind")),
            (Some("2026-01-02T02:00:00Z"), "current", Some("silent")),
            (Some("2026-01-03T03:00:00Z"), "current", None),
            (Some("never"), "current", Some("not heard of")),
        ] {
            assert_eq!(follows(seen, state).trouble(Some(started())), trouble, "{seen:?} {state}");
        }
    }
}
