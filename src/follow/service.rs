//! The service: when there is a pass, what systemd and `follow.json` are told, and how it ends.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::listen::{self, Known};
use super::message::Message;
use super::passed::Passed;
use super::run::Follower;
use super::spec::Asked;
use super::startup::Startup;
use crate::model::escape::clean;
use crate::report::exit::IN_STEP;
use crate::site;
use crate::state::{Lock, StateDir};

/// Systemd is told more often than this that the service lives.
const BREATH: Duration = Duration::from_secs(10);
/// By how much a poll is later by chance, at most.
const JITTER: f64 = 0.1;

/// What the service needs of its machine, beside what a pass needs.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    /// Time on a clock that nobody sets.
    pub(crate) monotonic: fn() -> Duration,
    /// A number from 0 to 1.
    pub(crate) chance: fn() -> f64,
    pub(crate) pid: u32,
    /// Tells systemd.
    pub(crate) notify: fn(&str),
}

/// A follower that stays.
pub(crate) struct Service {
    pub(crate) follower: Follower,
    pub(crate) clock: Clock,
    pub(crate) inbox: Receiver<Message>,
    /// The other end of it, for whoever listens for publications.
    pub(crate) outbox: Sender<Message>,
}

/// How far the service has come.
struct Course {
    startup: Startup,
    /// Whether it has had what is published, since it was started.
    has_succeeded: bool,
    /// Whether systemd was told that it is ready.
    is_ready: bool,
    /// What was said last in the log of what is wrong.
    said: Option<String>,
    /// What has been seen, for whoever listens.
    known: Known,
}

impl Course {
    /// The number of the attempt that has just ended.
    fn attempt(&self, has_failed: bool) -> u32 {
        self.startup.attempt() - u32::from(has_failed)
    }
}

/// What follows a word, if anything does.
fn told(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

impl Service {
    /// Serves until it is told to end; returns the exit code.
    pub(crate) fn serve(self) -> anyhow::Result<u8> {
        let state = self.follower.state()?;
        let _alone = self.be_alone(&state)?;
        let mut course = Course {
            startup: Startup::new(self.follower.config.startup),
            has_succeeded: false,
            is_ready: false,
            said: None,
            known: Known::default(),
        };
        // Before the first pass: what is published meanwhile is not missed.
        listen::start(&self.follower, &course.known, &self.outbox, self.clock.chance);
        self.follower.starting(course.startup.attempt());
        if course.startup.is_ready_at_once() {
            self.ready(&mut course, "ready at once; the files are fetched meanwhile");
        }
        while let Some((passed, lock)) = self.breathing(|| self.pass(&state)) {
            let pause = self.follow_up(&mut course, &state, passed);
            drop(lock);
            if self.is_ended_within(pause) {
                break;
            }
        }
        (self.clock.notify)("STOPPING=1");
        Ok(IN_STEP)
    }

    /// There is one such service: a second one would ask for everything as well.
    fn be_alone(&self, state: &StateDir) -> anyhow::Result<Lock> {
        let path = state.path().join("service.lock");
        let lock = Lock::take(&path, self.clock.pid)?;
        lock.ok_or_else(|| site::locked(&path).into())
    }

    /// One pass, and the lock under which its record is left. `None`: the service is to end.
    fn pass(&self, state: &StateDir) -> Option<(anyhow::Result<Passed>, Option<Lock>)> {
        let is_stopped = || self.follower.stop.load(Ordering::Relaxed);
        // Somebody may be doing one by hand.
        let passed = match site::lock(state, || !is_stopped()) {
            Ok(lock) => (self.follower.pass(state, &Asked::default()), Some(lock)),
            Err(error) => (Err(error), None),
        };
        (!is_stopped()).then_some(passed)
    }

    /// Tells everybody how a pass went. Returns how long to wait for the next one.
    fn follow_up(&self, course: &mut Course, state: &StateDir, passed: anyhow::Result<Passed>) -> Duration {
        let mut passed = match passed {
            Ok(passed) => passed,
            Err(error) => self.follower.broken(&clean(&format!("{error:#}"))),
        };
        let failed = if course.has_succeeded || passed.has_files() {
            course.has_succeeded = true;
            None
        } else {
            Some(course.startup.fail((self.clock.chance)()))
        };
        let is_waited_for = !course.is_ready && failed.is_none_or(|failed| !failed.gives_up_waiting);
        let standing = passed.state(course.has_succeeded, is_waited_for || course.startup.is_ready_at_once());
        if let Some(trusted) = &passed.trusted {
            course.known.set((trusted.epoch, trusted.head.seq));
        }
        self.follower.tell(&passed, standing, course.attempt(failed.is_some()));
        self.record(course, state, &mut passed);
        let why = passed.outcome.why().unwrap_or_default();
        match failed {
            None if !course.is_ready => self.ready(course, "ready"),
            Some(failed) if failed.gives_up_waiting => {
                log::error!("the host starts without what is published: {why}");
                self.ready(course, "ready, and DEGRADED: the host starts without what is published");
            }
            _ => (self.clock.notify)(&format!("STATUS={}{}", standing.word(), told(why))),
        }
        match failed {
            Some(failed) => failed.pause,
            None => self.follower.config.interval.mul_f64(1.0 + JITTER * (self.clock.chance)()),
        }
    }

    /// Leaves a record of a pass that did something, or met with something new.
    fn record(&self, course: &mut Course, state: &StateDir, passed: &mut Passed) {
        let why = passed.outcome.why().map(str::to_owned);
        let is_news = why != course.said || passed.did_something();
        self.follower.record(state, passed, is_news);
        if why != course.said {
            match &why {
                Some(why) => log::warn!("{why}"),
                None => log::info!("this node has what is published"),
            }
        }
        course.said = why;
    }

    /// Nobody waits for this service any longer.
    fn ready(&self, course: &mut Course, status: &str) {
        course.is_ready = true;
        (self.clock.notify)(&format!("READY=1\nSTATUS={status}"));
    }

    /// Waits for so long, or until something may be new. Whether the service is to end.
    fn is_ended_within(&self, pause: Duration) -> bool {
        let until = (self.clock.monotonic)() + pause;
        loop {
            (self.clock.notify)("WATCHDOG=1");
            let left = until.saturating_sub((self.clock.monotonic)());
            if left.is_zero() {
                return false;
            }
            match self.inbox.recv_timeout(left.min(BREATH)) {
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(Message::Hint) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Does something that takes long, while systemd is told that the service lives.
    fn breathing<T>(&self, work: impl FnOnce() -> T) -> T {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let notify = self.clock.notify;
        thread::scope(|scope| {
            scope.spawn(move || {
                while is_done.recv_timeout(BREATH) == Err(RecvTimeoutError::Timeout) {
                    notify("WATCHDOG=1");
                }
            });
            let made = work();
            drop(done);
            made
        })
    }
}
