//! Work that threads share.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::fault;

/// One for each processor, and no more than `most`: beyond some they wait for each other and for the disk.
#[must_use]
pub fn threads(most: usize) -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(most)
}

/// Calls `work` with each item, and returns its results in the order of the items. The calling thread is one of
/// `threads`; each takes the next item when it is done with one.
pub fn side_by_side<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    side_by_side_with(items, threads, || (), |(), item| work(item))
}

/// The same for work that needs something of its own in each thread, such as a buffer.
pub fn side_by_side_with<T: Sync, R: Send, S>(
    items: &[T],
    threads: usize,
    own: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let (mut own, mut done) = (own(), Vec::new());
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, work(&mut own, item)));
        }
    };
    let take = &take;
    let mut done = thread::scope(|scope| {
        let helpers = threads.min(items.len()).saturating_sub(1);
        let helpers: Vec<_> = (0..helpers)
            .map(|_| {
                let thread_init = fault::thread_init();
                scope.spawn(move || {
                    thread_init();
                    take()
                })
            })
            .collect();
        let mut done = take();
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, made)| made).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_is_in_the_order_of_what_went_in() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in [0, 1, 2, 7, 2000] {
            let twice = side_by_side(&items, threads, |item| item * 2);
            assert!(twice.iter().enumerate().all(|(index, twice)| *twice == 2 * index), "{threads}");
            assert_eq!(twice.len(), items.len());
        }
        assert!(side_by_side(&items[..0], 4, |item| *item).is_empty());
    }
}
