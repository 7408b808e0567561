//! Objects fetched ahead of whoever takes them, in order: a store is far away more often than slow.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::fault;

/// Requests under way at once.
const THREADS: usize = 8;
/// Bytes that wait to be taken, at most, unless one item alone has more.
const WAITING: u64 = 48 << 20;

struct State<R> {
    /// The first item that nobody fetches yet.
    next: usize,
    /// Bytes of what is being fetched or waits.
    bytes: u64,
    fetched: BTreeMap<usize, R>,
    is_over: bool,
}

/// Hands what `fetch` makes of each item to `take`, in the order of the items, until `take` breaks off. `size` is how
/// much memory an item takes.
pub(super) fn fetch_ahead<T: Sync, R: Send, B>(
    items: &[T],
    size: impl Fn(&T) -> u64 + Sync,
    fetch: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(&T, R) -> ControlFlow<B>,
) -> Option<B> {
    if items.len() < 2 {
        return items.iter().find_map(|item| take(item, fetch(item)).break_value());
    }
    let state = Mutex::new(State { next: 0, bytes: 0, fetched: BTreeMap::new(), is_over: false });
    let changed = Condvar::new();
    let work = || {
        let mut held = lock(&state);
        while !held.is_over && held.next < items.len() {
            let index = held.next;
            let bytes = size(&items[index]);
            if held.bytes > 0 && held.bytes + bytes > WAITING {
                held = changed.wait(held).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            held.next += 1;
            held.bytes += bytes;
            drop(held);
            let made = fetch(&items[index]);
            held = lock(&state);
            held.fetched.insert(index, made);
            changed.notify_all();
        }
    };
    thread::scope(|scope| {
        // However this ends, nobody waits on for ever.
        let _over = Over(&state, &changed);
        for _ in 0..THREADS.min(items.len()) {
            let thread_init = fault::thread_init();
            let work = &work;
            scope.spawn(move || {
                thread_init();
                work();
            });
        }
        for (index, item) in items.iter().enumerate() {
            let mut held = lock(&state);
            let made = loop {
                match held.fetched.remove(&index) {
                    Some(made) => break made,
                    None => held = changed.wait(held).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(held);
            if let ControlFlow::Break(broken) = take(item, made) {
                return Some(broken);
            }
            lock(&state).bytes -= size(item);
            changed.notify_all();
        }
        None
    })
}

struct Over<'a, R>(&'a Mutex<State<R>>, &'a Condvar);

impl<R> Drop for Over<'_, R> {
    fn drop(&mut self) {
        lock(self.0).is_over = true;
        self.1.notify_all();
    }
}

fn lock<R>(state: &Mutex<State<R>>) -> MutexGuard<'_, State<R>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_in_any_order_is_taken_in_its_own() {
        let items: Vec<u64> = (0..500).collect();
        let mut taken = Vec::new();
        let none = fetch_ahead(
            &items,
            |_| 1 << 20,
            |item| item * 2,
            |item, made| {
                taken.push((*item, made));
                ControlFlow::<()>::Continue(())
            },
        );
        assert_eq!(none, None);
        assert_eq!(taken, items.iter().map(|item| (*item, item * 2)).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_breaks_off_gets_no_more() {
        let items: Vec<u64> = (0..500).collect();
        let stop =
            |item: &u64, _| if *item == 7 { ControlFlow::Break(*item) } else { ControlFlow::Continue(()) };
        assert_eq!(fetch_ahead(&items, |_| WAITING, |_| (), stop), Some(7));
    }
}
