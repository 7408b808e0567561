//! Whose turn it is to have objects in memory: for as long as its client takes them, or sends them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests with an object in memory at once.
const ALL: usize = 16;
/// How many of them may be those of one node. One that takes what it asked for as slowly as it may holds up nobody else.
const EACH: usize = 4;

/// The turns of all nodes.
#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    /// Of nodes with requests: how many more they may have at work.
    each: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Turns {
    pub(super) fn new() -> Turns {
        Turns { all: Arc::new(Semaphore::new(ALL)), each: Mutex::default() }
    }

    /// Waits for a turn of this node. `None`: never any more, since the hub is ending.
    pub(super) async fn take(&self, node: &str) -> Option<Turn> {
        // Its own first: whoever waits for that keeps nobody from anything.
        let own = self.of(node).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _all: all, _own: own })
    }

    fn of(&self, node: &str) -> Arc<Semaphore> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = each.get(node).and_then(Weak::upgrade) {
            return known;
        }
        // Those without a request are forgotten.
        each.retain(|_, turns| turns.strong_count() > 0);
        let new = Arc::new(Semaphore::new(EACH));
        each.insert(node.to_owned(), Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_node_holds_up_itself_alone() {
        let turns = Turns::new();
        let take = |node| turns.take(node).now_or_never().flatten();
        let mut held: Vec<Turn> = (0..2 * ALL).filter_map(|_| take("slow")).collect();
        assert_eq!(held.len(), EACH);
        held.extend(
            ["a", "b", "c"]
                .into_iter()
                .flat_map(|node| std::iter::repeat_with(|| take(node)).take(EACH).collect::<Vec<_>>())
                .flatten(),
        );
        assert_eq!(held.len(), ALL);
        assert!(take("d").is_none(), "there is no more memory");
        held.clear();
        assert!(take("slow").is_some());
        assert!(take("d").is_some());
        assert!(turns.each.lock().is_ok_and(|each| each.len() <= 2), "nothing is kept of those who went");
    }
}
