//! Makes this host the Main that nodes obey, in the place of the one they obeyed before.

use std::time::SystemTime;

use crate::state::{Identity, StateDir};

/// Raises the epoch above every one that a node can know, and returns it. The caller holds the lock of a run.
///
/// A host that lost its state does not know the last epoch. That is why it is not only counted up: the seconds since
/// 1970 are above those of any earlier takeover.
pub(crate) fn take_over(
    state: &StateDir,
    now: SystemTime,
    new_id: impl FnOnce() -> String,
) -> anyhow::Result<u64> {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (id, next) = match state.identity()? {
        Some(Identity { id, epoch }) => (id, epoch.saturating_add(1)),
        None => (new_id(), 0),
    };
    let epoch = seconds.max(next);
    state.save_identity(&Identity { id, epoch })?;
    Ok(epoch)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_epoch_is_above_any_before_even_without_state_or_with_a_slow_clock() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let take_over = |seconds| take_over(&state, at(seconds), || "01MAIN".to_owned()).unwrap();
        assert_eq!(take_over(1_700_000_000), 1_700_000_000);
        assert_eq!(take_over(1_700_000_100), 1_700_000_100);
        assert_eq!(take_over(5), 1_700_000_101, "the clock was set back");
        assert_eq!(state.identity().unwrap().unwrap().id, "01MAIN");
    }
}
