//! The bandwidth that all nodes share.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::sync::lock;

/// Longest queue for the line. Each node waits for the one part of every other.
const MAX_QUEUE: Duration = Duration::from_secs(60);

pub(super) struct Throttle {
    /// Bytes a second; `None`: unlimited.
    rate: Option<u64>,
    /// When the line is free again.
    free_at: Mutex<SystemTime>,
}

impl Throttle {
    pub(super) fn new(rate: Option<u64>) -> Throttle {
        Throttle { rate, free_at: Mutex::new(SystemTime::UNIX_EPOCH) }
    }

    /// How long `bytes` must wait at `now`. Whoever asks gets the next free slot, so nodes take turns.
    pub(super) fn reserve(&self, now: SystemTime, bytes: usize) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let mut free_at = lock(&self.free_at);
        // A clock that was set back must not make the line wait for what it calls the future.
        let queued = free_at.duration_since(now).unwrap_or_default().min(MAX_QUEUE);
        *free_at = now + queued + takes;
        queued
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_while_the_line_is_busy_waits_for_its_turn() {
        let throttle = Throttle::new(Some(1000));
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(throttle.reserve(start, 500), Duration::ZERO);
        assert_eq!(throttle.reserve(start, 500), Duration::from_millis(500));
        assert_eq!(throttle.reserve(start + Duration::from_millis(250), 1), Duration::from_millis(750));
        assert_eq!(throttle.reserve(start + Duration::from_secs(9), 1), Duration::ZERO);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_line() {
        let throttle = Throttle::new(Some(1000));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(throttle.reserve(now, 1000), Duration::ZERO);
        assert_eq!(throttle.reserve(SystemTime::UNIX_EPOCH, 1000), MAX_QUEUE);
    }
}
