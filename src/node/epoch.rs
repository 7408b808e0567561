//! How high an epoch may be.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::moment;

/// The epoch of a takeover is the time at which it was made, in seconds since 1970: one beyond the present was not made by
/// a takeover. Otherwise whoever had Main's key once could use up all epochs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(u64);

/// Epochs up to this one were counted, and are no time.
const COUNTED: u64 = 1_000_000;

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

    /// An epoch in words: that of a takeover is the time of it.
    #[must_use]
    pub(crate) fn in_words(epoch: u64) -> String {
        match UNIX_EPOCH.checked_add(Duration::from_secs(epoch)) {
            Some(time) if epoch > COUNTED => format!("epoch {epoch} ({})", moment::rfc3339(time)),
            _ => format!("epoch {epoch}"),
        }
    }

    /// Whether a Main may have this epoch.
    #[must_use]
    pub fn allows(self, epoch: u64) -> bool {
        epoch <= self.0
    }
}
