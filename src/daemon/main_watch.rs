//! The watches on Main's own directories, and the thread that reads them.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use crate::watch::{Seen, Watches};

/// The watches that count, shared with the thread that reads them.
pub(super) struct MainWatch {
    state: Mutex<State>,
    wake: OwnedFd,
}

#[derive(Default)]
struct State {
    new: Option<Option<Watches>>,
    is_over: bool,
}

impl MainWatch {
    pub(super) fn new() -> std::io::Result<MainWatch> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(MainWatch { state: Mutex::default(), wake })
    }

    /// From now on these watches count. What the old ones have seen is told all the same.
    pub(super) fn replace(&self, watches: Option<Watches>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).new = Some(watches);
        self.wake();
    }

    pub(super) fn end(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        self.wake();
    }

    /// The thread: tells what happens until [`MainWatch::end`].
    pub(super) fn run(&self, tell: impl Fn(Vec<Seen>)) {
        let mut watches: Option<Watches> = None;
        loop {
            let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
            fds.extend(watches.iter().map(|watches| PollFd::new(watches, PollFlags::IN)));
            let again = watches.as_ref().and_then(Watches::again_after);
            match poll(&mut fds, again.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                // Without it nothing more is seen; full runs go on.
                Err(_) => return,
            }
            drop(fds);
            if let Some(watches) = &mut watches {
                let seen = watches.read().unwrap_or_default();
                if !seen.is_empty() {
                    tell(seen);
                }
            }
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.is_over {
                return;
            }
            if let Some(new) = state.new.take()
                && let Some(old) = std::mem::replace(&mut watches, new)
            {
                tell(old.rest());
            }
        }
    }

    fn wake(&self) {
        // It fails where it is awake already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}
