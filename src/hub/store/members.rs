//! The nodes that may use the store, as the configuration has them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ssh_key::PublicKey;

/// How old what was read of the configuration may be: a node that was added is known soon, one that was removed is not
/// for long.
const FRESH: Duration = Duration::from_secs(5);

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
        self.all(now).iter().find(|member| member.name == name).cloned()
    }

    fn all(&self, now: SystemTime) -> Arc<Vec<Member>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = known.0.is_some_and(|read| now.duration_since(read).is_ok_and(|age| age < FRESH));
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
