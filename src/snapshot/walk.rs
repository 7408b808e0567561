//! All directories of a root, listed by several threads, handed out in tree order.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::list::{Listed, Lister, Next, join, unreadable};
use crate::disk::Stamp;
use crate::model::{Entry, RelPath};

/// Directories waiting to be listed, for each of which a further thread pays: starting one costs about as much as listing
/// a small directory.
const MANY: usize = 8;

/// Takes one entry of the tree; whether it is a file that still needs its digest.
pub(super) type Take<'a> = dyn FnMut(&RelPath, Entry, Option<Stamp>, bool) + 'a;

/// Why a root was not listed.
pub(super) enum Unlisted {
    /// This entry stands for the root.
    Instead(Entry),
    /// The scan is over its budget, or nobody waits for it.
    Over,
}

/// Lists everything below the root, and hands it to `take` in tree order.
pub(super) fn walk(lister: &Lister, take: &mut Take) -> Result<(), Unlisted> {
    let walk = Walk { lister, state: Mutex::default(), changed: Condvar::new() };
    thread::scope(|scope| {
        let _close = Close(&walk);
        let mut helpers = 0;
        let mut path = Vec::new();
        walk.lock().todo.push(Vec::new());
        let mut open = match walk.take(b"") {
            Listed::Items(items) => vec![(0, items)],
            Listed::Gone => return Err(Unlisted::Instead(unreadable(rustix::io::Errno::NOENT))),
            Listed::Instead(entry) => return Err(Unlisted::Instead(entry)),
            Listed::Over => return Err(Unlisted::Over),
        };
        while let Some((dir_end, items)) = open.last_mut() {
            let dir_end = *dir_end;
            path.truncate(dir_end);
            let Some((name, item)) = items.next() else {
                open.pop();
                continue;
            };
            if dir_end > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            // The listing refused all other paths.
            let Ok(at) = RelPath::new(&path) else { continue };
            if item.next != Next::List {
                take(at, item.entry, item.stamp, item.next == Next::Hash);
                continue;
            }
            while helpers + 1 < lister.threads && walk.lock().todo.len() >= (helpers + 1) * MANY {
                helpers += 1;
                scope.spawn(|| walk.help());
            }
            match walk.take(&path) {
                Listed::Items(items) => {
                    take(at, items.unmasked(item.entry), item.stamp, false);
                    open.push((path.len(), items));
                }
                Listed::Instead(entry) => take(at, entry, item.stamp, false),
                Listed::Gone => {}
                Listed::Over => return Err(Unlisted::Over),
            }
        }
        Ok(())
    })
}

struct Walk<'a> {
    lister: &'a Lister<'a>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Directories to list, next last. Depth first, so that what is listed is soon handed out and memory
    /// holds few listings.
    todo: Vec<Vec<u8>>,
    done: HashMap<Vec<u8>, Listed>,
    /// No more directories will be asked for.
    closed: bool,
}

impl Walk<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The listing of a directory that was put on the list: who waits for one works on the list.
    fn take(&self, dir: &[u8]) -> Listed {
        let mut state = self.lock();
        loop {
            if let Some(listed) = state.done.remove(dir) {
                return listed;
            }
            if state.closed {
                // A helper panicked; the scope passes that on.
                return Listed::Gone;
            }
            state = match state.todo.pop() {
                Some(next) => {
                    drop(state);
                    self.work(next)
                }
                None => self.wait(state),
            };
        }
    }

    fn help(&self) {
        let _close = Close(self);
        let mut state = self.lock();
        while !state.closed {
            state = match state.todo.pop() {
                Some(next) => {
                    drop(state);
                    self.work(next)
                }
                None => self.wait(state),
            };
        }
    }

    fn work(&self, dir: Vec<u8>) -> MutexGuard<'_, State> {
        self.lister.working.fetch_add(1, Ordering::Relaxed);
        let listed = self.lister.list(&dir);
        self.lister.working.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.lock();
        if let Listed::Items(items) = &listed {
            state.todo.extend(items.dirs_backwards().map(|name| join(&dir, name)));
        }
        state.done.insert(dir, listed);
        self.changed.notify_all();
        state
    }
}

/// Ends the walk for all threads, also when one of them unwinds: none waits for ever.
struct Close<'a>(&'a Walk<'a>);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}
