//! Where nodes wait for each other, and for how long.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::sync::lock;

/// How long the first that is ready waits for the others.
const GRACE: Duration = Duration::from_secs(3);

/// Items on their way to one point. Whoever waits there takes those that have come once all are there, or
/// [`GRACE`] after the first came. There is one deadline: more arrivals do not move it.
pub(super) struct Rendezvous<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
}

struct Inner<T> {
    /// How many may still come: those that have not come yet, and those that were taken and have not left.
    under_way: usize,
    waiting: Vec<T>,
    /// When the first of `waiting` came.
    first: Option<Instant>,
    closed: bool,
}

impl<T> Rendezvous<T> {
    pub(super) fn new(count: usize) -> Rendezvous<T> {
        let inner = Inner { under_way: count, waiting: Vec::new(), first: None, closed: false };
        Rendezvous { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    /// One is here. `Err` gives it back: nobody waits here any more.
    pub(super) fn arrive(&self, item: T) -> Result<(), T> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(item);
        }
        inner.under_way = inner.under_way.saturating_sub(1);
        inner.first.get_or_insert_with(Instant::now);
        inner.waiting.push(item);
        self.changed.notify_all();
        Ok(())
    }

    /// One will not come, or not come again.
    pub(super) fn leave(&self) {
        let mut inner = lock(&self.inner);
        inner.under_way = inner.under_way.saturating_sub(1);
        self.changed.notify_all();
    }

    /// Those that have come by the deadline; none when all have left. Each of them leaves or comes again.
    pub(super) fn next(&self) -> Vec<T> {
        let mut inner = self.gather();
        inner.first = None;
        inner.under_way += inner.waiting.len();
        std::mem::take(&mut inner.waiting)
    }

    /// The same for the last time: whoever comes later is turned away.
    pub(super) fn close(&self) -> Vec<T> {
        let mut inner = self.gather();
        inner.closed = true;
        std::mem::take(&mut inner.waiting)
    }

    fn gather(&self) -> MutexGuard<'_, Inner<T>> {
        let mut inner = lock(&self.inner);
        loop {
            if inner.under_way == 0 {
                return inner;
            }
            let left = inner.first.map(|first| GRACE.saturating_sub(first.elapsed()));
            inner = match left {
                Some(Duration::ZERO) => return inner,
                Some(left) => {
                    let waited = self.changed.wait_timeout(inner, left);
                    waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(inner);
                    waited.unwrap_or_else(std::sync::PoisonError::into_inner)
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_are_expected_are_taken_at_once() {
        let point = Rendezvous::new(3);
        assert_eq!(point.arrive("a"), Ok(()));
        point.leave();
        assert_eq!(point.arrive("b"), Ok(()));
        assert_eq!(point.next(), ["a", "b"]);
        point.leave();
        point.leave();
        assert!(point.next().is_empty(), "all have left");
    }

    #[test]
    fn one_that_comes_again_is_waited_for() {
        let point = Rendezvous::new(1);
        assert_eq!(point.arrive(1), Ok(()));
        assert_eq!(point.next(), [1]);
        std::thread::scope(|scope| {
            scope.spawn(|| point.arrive(2));
            assert_eq!(point.next(), [2]);
        });
    }

    #[test]
    fn after_the_end_an_item_is_given_back() {
        let point = Rendezvous::new(1);
        assert_eq!(point.arrive(1), Ok(()));
        assert_eq!(point.close(), [1]);
        assert_eq!(point.arrive(2), Err(2));
    }

    #[test]
    fn the_deadline_is_that_of_the_first_arrival() {
        let point = Rendezvous::new(3);
        assert_eq!(point.arrive(1), Ok(()));
        // As if the first had come long ago: a further arrival does not give the third one more time.
        lock(&point.inner).first = Instant::now().checked_sub(GRACE);
        assert_eq!(point.arrive(2), Ok(()));
        assert_eq!(point.next(), [1, 2]);
    }
}
