//! Tells Main what changes below the roots that it asked to watch, whatever else the session is about.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use crate::node::heartbeat::Heartbeat;
use crate::node::protocol::frame::{Kind, write_value};
use crate::node::protocol::limits::MAX_LIST;
use crate::node::protocol::message::Changed;
use crate::watch::{Seen, Watches};

/// Between two tellings what happens is gathered.
const PAUSE: Duration = Duration::from_millis(50);
/// Most bytes of paths that are told at a time. Beyond it anything may have changed.
const MOST_BYTES: usize = 1024 * 1024;

/// The watches of a session, which its own thread reads.
pub(super) struct Watcher {
    state: Mutex<State>,
    changed: Condvar,
    /// Ends a wait for events.
    wake: OwnedFd,
}

#[derive(Default)]
struct State {
    /// Watches that the thread has not taken yet.
    new: Option<Option<Watches>>,
    is_over: bool,
}

/// Ends the watcher's thread, however the session ends.
pub(super) struct End<'a>(&'a Watcher);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.wake();
    }
}

impl Watcher {
    pub(super) fn new() -> io::Result<Watcher> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Watcher { state: Mutex::default(), changed: Condvar::new(), wake })
    }

    /// From now on these watches count, and no earlier ones.
    pub(super) fn replace(&self, watches: Option<Watches>) {
        self.lock().new = Some(watches);
        self.wake();
    }

    pub(super) fn end_when_dropped(&self) -> End<'_> {
        End(self)
    }

    /// Tells what happens until the session ends, or Main is gone.
    pub(super) fn run<W: Write>(&self, heartbeat: &Heartbeat<'_, W>) {
        let mut watches: Option<Watches> = None;
        let mut left = Vec::new();
        loop {
            {
                let mut state = self.lock();
                while watches.is_none() && state.new.is_none() && !state.is_over {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.is_over {
                    return;
                }
                if let Some(new) = state.new.take()
                    && let Some(old) = std::mem::replace(&mut watches, new)
                {
                    left = old.rest();
                }
            }
            let Some(known) = &mut watches else { continue };
            if left.is_empty() && self.wait(known).is_err() {
                watches = None;
                continue;
            }
            let mut seen = std::mem::take(&mut left);
            seen.extend(known.read().unwrap_or_default());
            if seen.is_empty() {
                continue;
            }
            let mut output = heartbeat.output();
            let told = write_value(&mut *output, Kind::Changed, &Changed(bounded(seen)));
            if told.and_then(|()| output.flush()).is_err() {
                return;
            }
            drop(output);
            self.pause();
        }
    }

    /// Waits until there may be something to tell, or [`Watcher::wake`] was called.
    fn wait(&self, watches: &Watches) -> Result<(), Errno> {
        let mut fds = [PollFd::new(watches, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        match poll(&mut fds, watches.again_after().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        // What it holds does not matter, only that it is empty again.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        Ok(())
    }

    fn pause(&self) {
        let is_waiting = |state: &mut State| state.new.is_none() && !state.is_over;
        let waited = self.changed.wait_timeout_while(self.lock(), PAUSE, is_waiting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn wake(&self) {
        self.changed.notify_all();
        // It fails where it is awake already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What fits into one message.
fn bounded(seen: Vec<Seen>) -> Vec<Seen> {
    let bytes = |seen: &Seen| match seen {
        Seen::Path { path, .. } => path.as_bytes().len(),
        Seen::Whole { .. } | Seen::Gone { .. } => 0,
    };
    if seen.len() <= MAX_LIST && seen.iter().map(bytes).sum::<usize>() <= MOST_BYTES {
        return seen;
    }
    let is_gone =
        |root: &str| seen.iter().any(|seen| matches!(seen, Seen::Gone { root: gone } if gone == root));
    let roots: BTreeSet<&str> = seen.iter().map(Seen::root).collect();
    let whole = |root: &str| {
        let root = root.to_owned();
        if is_gone(&root) { Seen::Gone { root } } else { Seen::Whole { root } }
    };
    roots.into_iter().map(whole).collect()
}
