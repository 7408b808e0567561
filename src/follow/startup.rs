//! When a follower that starts tries to get its files, and when it says that it is ready. Pure.
//!
//! A host whose Asterisk must not start without its files blocks until they are there (`sync`), though not for ever: then it
//! starts with what it has, and says so loudly. One that starts with what it has anyway (`async`) is ready at once. Either
//! way it goes on trying until it has succeeded once.

use std::time::Duration;

/// Who waits for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// What starts after this service waits until the files are there, or for one attempt and `retries` more.
    Sync,
    /// Nobody waits.
    Async,
}

/// `[follow.startup]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    /// Attempts after the first one that somebody waits for.
    pub(crate) retries: u32,
    /// After the first attempt; twice as long after each that follows.
    pub(crate) retry_pause: Duration,
    /// No pause is longer.
    pub(crate) retry_max: Duration,
}

/// A start that is under way.
#[derive(Debug)]
pub(crate) struct Startup {
    options: Options,
    /// How many attempts have failed.
    failed: u32,
    pause: Duration,
}

/// What follows an attempt that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Nobody waits any longer, from now on: the host starts with the files that it has.
    pub(crate) gives_up_waiting: bool,
    /// The next attempt is after this pause.
    pub(crate) pause: Duration,
}

/// By how much a pause is made longer by chance, at most: followers that lost their store together do not come back together.
const JITTER: f64 = 0.1;

impl Startup {
    pub(crate) fn new(options: Options) -> Startup {
        Startup { options, failed: 0, pause: options.retry_pause.min(options.retry_max) }
    }

    /// Whether nobody waits for the first attempt.
    pub(crate) fn is_ready_at_once(&self) -> bool {
        self.options.mode == Mode::Async
    }

    /// The number of the attempt that is under way, from 1 on.
    pub(crate) fn attempt(&self) -> u32 {
        self.failed.saturating_add(1)
    }

    /// How many attempts somebody waits for, at most.
    pub(crate) fn awaited(&self) -> Option<u32> {
        (self.options.mode == Mode::Sync).then(|| self.options.retries.saturating_add(1))
    }

    /// The attempt that was under way has failed. `chance` is a number from 0 to 1.
    pub(crate) fn fail(&mut self, chance: f64) -> Failed {
        self.failed = self.failed.saturating_add(1);
        let longest = self.options.retry_max;
        let pause = self.pause.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0)).min(longest);
        self.pause = self.pause.saturating_mul(2).min(longest);
        Failed { gives_up_waiting: self.awaited() == Some(self.failed), pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn options(mode: Mode) -> Options {
        Options { mode, retries: 3, retry_pause: 2 * SECOND, retry_max: 10 * SECOND }
    }

    #[test]
    fn somebody_waits_for_one_attempt_and_the_retries() {
        let mut startup = Startup::new(options(Mode::Sync));
        assert!(!startup.is_ready_at_once());
        assert_eq!((startup.attempt(), startup.awaited()), (1, Some(4)));
        let steps: Vec<Failed> = (0..6).map(|_| startup.fail(0.0)).collect();
        let pauses: Vec<u64> = steps.iter().map(|step| step.pause.as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 10, 10, 10], "doubled, up to the longest");
        let gives_up: Vec<bool> = steps.iter().map(|step| step.gives_up_waiting).collect();
        assert_eq!(gives_up, [false, false, false, true, false, false], "once, after 1 + 3 attempts");
        assert_eq!(startup.attempt(), 7, "it goes on all the same");
    }

    #[test]
    fn without_retries_the_first_attempt_is_the_last_that_is_waited_for() {
        let mut startup = Startup::new(Options { retries: 0, ..options(Mode::Sync) });
        assert!(startup.fail(0.0).gives_up_waiting);
        assert!(!startup.fail(0.0).gives_up_waiting);
    }

    #[test]
    fn who_is_ready_at_once_tries_for_ever() {
        let quarter = Duration::from_secs(15);
        let asynchronous = Options { retry_pause: quarter, retry_max: 3600 * SECOND, ..options(Mode::Async) };
        let mut startup = Startup::new(asynchronous);
        assert!(startup.is_ready_at_once());
        let pauses: Vec<u64> = (0..12).map(|_| startup.fail(0.0).pause.as_secs()).collect();
        assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
        assert!((0..100).all(|_| !startup.fail(0.0).gives_up_waiting));
    }

    #[test]
    fn chance_makes_a_pause_longer_and_never_longer_than_the_longest() {
        let mut startup = Startup::new(options(Mode::Async));
        assert_eq!(startup.fail(1.0).pause, Duration::from_millis(2200));
        // What chance has added is not doubled.
        assert_eq!(startup.fail(0.5).pause, Duration::from_millis(4200));
        assert_eq!(
            startup.fail(7.0).pause,
            Duration::from_millis(8800),
            "what is no chance is held to be one"
        );
        assert_eq!(startup.fail(1.0).pause, 10 * SECOND);
    }
}
