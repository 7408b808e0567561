//! Makes this host the Main that nodes obey, in the place of the one they obeyed before.

use std::time::SystemTime;

use crate::node::EpochLimit;
use crate::state::{Identity, StateDir};

/// Raises the epoch above every one that a node can know, and returns it. `known` are those of nodes that refuse
/// this Main for its epoch. The caller holds the lock of a run.
///
/// A host that lost its state does not know the last epoch. That is why it is not only counted up: the seconds since
/// 1970 are above those of any earlier takeover.
pub(crate) fn take_over(
    state: &StateDir,
    now: SystemTime,
    new_id: impl FnOnce() -> String,
    known: &[u64],
) -> anyhow::Result<u64> {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let limit = EpochLimit::at(now);
    let (id, own) = match state.identity()? {
        Some(Identity { id, epoch }) => (id, Some(epoch)),
        None => (new_id(), None),
    };
    // A node that knows a lower epoch has refused this one because it is beyond the present: it was made while this host's
    // clock was wrong, and is not counted up.
    let is_good = |own: &u64| limit.allows(*own) || known.iter().all(|known| known >= own);
    // No node obeys an epoch beyond the present, so there is no use in going above one.
    let known = known.iter().copied().filter(|known| limit.allows(*known)).max();
    let next = own.filter(is_good).max(known).map_or(0, |epoch| epoch.saturating_add(1));
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
        let take_over = |seconds| take_over(&state, at(seconds), || "01MAIN".to_owned(), &[]).unwrap();
        assert_eq!(take_over(1_700_000_000), 1_700_000_000);
        assert_eq!(take_over(1_700_000_100), 1_700_000_100);
        assert_eq!(take_over(5), 1_700_000_101, "the clock was set back");
        assert_eq!(state.identity().unwrap().unwrap().id, "01MAIN");
    }

    #[test]
    fn it_is_above_what_nodes_know_and_never_beyond_the_present() {
        const NOW: u64 = 1_700_000_000;
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let raise = |seconds, known: &[u64]| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            take_over(&state, now, || "01MAIN".to_owned(), known).unwrap()
        };
        assert_eq!(raise(NOW, &[NOW + 3600, 5]), NOW + 3601);
        assert_eq!(raise(NOW, &[u64::MAX]), NOW + 3602, "nobody obeys such an epoch");
        // A takeover while the clock was a year ahead is not the end of all takeovers.
        assert_eq!(raise(NOW + 365 * 86400, &[]), NOW + 365 * 86400);
        assert_eq!(raise(NOW + 10, &[NOW + 3602]), NOW + 3603);
    }
}
