//! The nodes that may use the store, as the configuration has them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ssh_key::PublicKey;

/// How old what was read of the configuration may be: a node that was added is known soon, one that was removed is not
/// for long.
const FRESH: Duration = Duration::from_secs(5);
/// The same for a name that is not known: who has just been approved begins at once, and strangers have the configuration read
/// no more often than this.
const FRESH_FOR_UNKNOWN: Duration = Duration::from_secs(1);

/// A node with `via = "store"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// What it signs with.
    pub(crate) key: PublicKey,
    /// What directories may ask for.
    pub(crate) labels: Vec<String>,
}

/// Reads the configuration; `None`: it cannot be read now, or has mistakes.
pub(crate) type ReadMembers = Box<dyn Fn() -> Option<Vec<Member>> + Send + Sync>;

/// All of them.
pub(super) struct Members {
    read: ReadMembers,
    known: Mutex<(Option<SystemTime>, Arc<Vec<Member>>)>,
}

impl Members {
    pub(super) fn new(read: ReadMembers) -> Members {
        Members { read, known: Mutex::default() }
    }

    /// The node with this name.
    pub(super) fn find(&self, name: &str, now: SystemTime) -> Option<Member> {
        let find = |fresh| self.all(now, fresh).iter().find(|member| member.name == name).cloned();
        find(FRESH).or_else(|| find(FRESH_FOR_UNKNOWN))
    }

    fn all(&self, now: SystemTime, fresh: Duration) -> Arc<Vec<Member>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = known.0.is_some_and(|read| now.duration_since(read).is_ok_and(|age| age < fresh));
        if !is_fresh {
            // While it has mistakes, those that were known stay.
            if let Some(members) = (self.read)() {
                known.1 = Arc::new(members);
            }
            known.0 = Some(now);
        }
        Arc::clone(&known.1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::store::envelope::tests::Keys;

    #[test]
    fn who_was_just_approved_is_known_and_strangers_cost_little() {
        let (_, key) = Keys::new().pair(1);
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        // It is in the configuration from the second reading on.
        let members = Members::new(Box::new(move || {
            let member = Member { name: "mds1".to_owned(), key: key.clone(), labels: Vec::new() };
            let is_there = counted.fetch_add(1, Ordering::Relaxed) > 0;
            Some(is_there.then_some(member).into_iter().collect())
        }));
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        for ms in [0, 10, 500, 900] {
            assert_eq!(members.find("mds1", at(ms)), None);
        }
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        assert!(members.find("mds1", at(1100)).is_some());
        assert_eq!(reads.load(Ordering::Relaxed), 2);
        for ms in [1200, 3000, 6000] {
            assert!(members.find("mds1", at(ms)).is_some());
        }
        assert_eq!(reads.load(Ordering::Relaxed), 2, "one that is known is not looked for again");
    }
}
