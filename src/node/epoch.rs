//! How high an epoch may be.

use std::time::{Duration, SystemTime};

/// The epoch of a takeover is the time at which it was made, in seconds since 1970: one beyond the present was not made by
/// a takeover. Otherwise whoever had Main's key once could use up all epochs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(u64);

/// How far the clocks of a Main and its nodes may differ.
const SLACK: Duration = Duration::from_secs(24 * 3600);

impl Limit {
    /// Every epoch is allowed.
    pub const NONE: Limit = Limit(u64::MAX);

    /// The limit by a clock that shows `now`.
    #[must_use]
    pub fn at(now: SystemTime) -> Limit {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Limit(seconds.saturating_add(SLACK.as_secs()))
    }

    /// Whether a Main may have this epoch.
    #[must_use]
    pub fn allows(self, epoch: u64) -> bool {
        epoch <= self.0
    }
}
