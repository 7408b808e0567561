//! Keep-alives: how an agent that is at work shows it.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::protocol::frame::{Kind, write_frame};

/// What the agent does; keep-alives depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// No request is open: no keep-alives.
    Idle = 0,
    /// At work: keep-alives as long as the progress counter moves. A filesystem that hangs must show as silence.
    Working = 1,
    /// A program runs that has a timeout of its own: keep-alives in any case.
    Waiting = 2,
}

/// The agent's output, and what it is doing.
pub(super) struct Heartbeat<'a, W> {
    output: Mutex<W>,
    activity: AtomicU8,
    progress: &'a AtomicU64,
}

impl<'a, W: Write> Heartbeat<'a, W> {
    pub(super) fn new(output: W, progress: &'a AtomicU64) -> Heartbeat<'a, W> {
        Heartbeat { output: Mutex::new(output), activity: AtomicU8::new(Activity::Idle as u8), progress }
    }

    /// The output, locked for whole frames: a keep-alive comes before or after what is written with it.
    pub(super) fn output(&self) -> MutexGuard<'_, W> {
        // A panic of the thread that held the lock has ended the session already.
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, activity: Activity) {
        self.count_progress();
        self.activity.store(activity as u8, Ordering::Relaxed);
    }

    /// Counts that something was done.
    pub(super) fn count_progress(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends keep-alives until the sender of `stop` is dropped. Sets `gone` when Main is not there any more: whatever is
    /// at work ends then.
    pub(super) fn run(&self, interval: Duration, stop: &Receiver<()>, gone: &AtomicBool) {
        let mut seen = 0;
        while stop.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            let before = std::mem::replace(&mut seen, self.progress.load(Ordering::Relaxed));
            let activity = self.activity.load(Ordering::Relaxed);
            let is_alive = activity == Activity::Waiting as u8
                || (activity == Activity::Working as u8 && seen != before);
            if !is_alive {
                continue;
            }
            let mut output = self.output();
            if write_frame(&mut *output, Kind::Alive, b"").and_then(|()| output.flush()).is_err() {
                gone.store(true, Ordering::Relaxed);
                return;
            }
        }
    }
}
