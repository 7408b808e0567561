//! How an agent that is at work says so.

use std::io::Write;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::protocol::frame::{Kind, write_frame};

/// What keep-alives depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing was asked: there is nothing to say.
    Idle = 0,
    /// At work, as far as the counter moves: a filesystem that hangs must show as silence.
    Working = 1,
    /// A program runs that has a timeout of its own.
    Waiting = 2,
}

/// The agent's output, and whether it is at work.
pub(super) struct Pulse<'a, W> {
    output: Mutex<W>,
    mode: AtomicU8,
    progress: &'a AtomicU64,
}

impl<'a, W: Write> Pulse<'a, W> {
    pub(super) fn new(output: W, progress: &'a AtomicU64) -> Pulse<'a, W> {
        Pulse { output: Mutex::new(output), mode: AtomicU8::new(Mode::Idle as u8), progress }
    }

    /// The output, for whole frames: a keep-alive comes before or after what is written with it.
    pub(super) fn output(&self) -> MutexGuard<'_, W> {
        // Whoever panicked with it is not the one who asks now, and its session has ended.
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, mode: Mode) {
        self.progress();
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// Something was done.
    pub(super) fn progress(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends keep-alives until `stop` is closed.
    pub(super) fn beat(&self, every: Duration, stop: &Receiver<()>) {
        let mut seen = 0;
        while stop.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            let before = std::mem::replace(&mut seen, self.progress.load(Ordering::Relaxed));
            let mode = self.mode.load(Ordering::Relaxed);
            let at_work = mode == Mode::Waiting as u8 || (mode == Mode::Working as u8 && seen != before);
            if !at_work {
                continue;
            }
            let mut output = self.output();
            if write_frame(&mut *output, Kind::Alive, b"").and_then(|()| output.flush()).is_err() {
                // Main is gone; the session sees it by itself.
                return;
            }
        }
    }
}
