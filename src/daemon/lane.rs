//! One node's session, kept from run to run: made, lent to runs, listened to in between, and made anew when it is lost.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use crate::node::{NodeError, NodeErrorKind, NodeSession};
use crate::snapshot::ScanSpec;
use crate::watch::Seen;

/// What a lane tells of its node.
pub(super) enum Told {
    /// It is connected. Its directories that have to be polled, and why.
    Up(BTreeMap<String, String>),
    /// It is not connected.
    Down(NodeError),
    /// Something has changed there.
    Seen(Vec<Seen>),
}

/// What a lane needs of its daemon.
pub(super) struct LaneWork<'a> {
    pub(super) connect: &'a dyn Fn() -> Result<Box<dyn NodeSession>, NodeError>,
    /// The directories that the node changes too.
    pub(super) watched: &'a [ScanSpec],
    pub(super) tell: &'a dyn Fn(Told),
    /// How long to wait after so many failures in a row.
    pub(super) pause: &'a dyn Fn(u32) -> Duration,
    pub(super) now: fn() -> Duration,
}

/// Between two requests to watch what could not be watched.
const WATCH_AGAIN: Duration = Duration::from_secs(60);
/// A session that lasted so long was no failure.
const LASTING: Duration = Duration::from_secs(30);

/// Where a node's session is.
pub(super) struct Lane {
    state: Mutex<State>,
    changed: Condvar,
    /// Ends the wait for what the node tells.
    wake: OwnedFd,
}

#[derive(Default)]
struct State {
    place: Place,
    /// Runs that wait for the session.
    wanted: u32,
    /// How often it could not be had, and why the last time.
    failures: u64,
    error: Option<NodeError>,
    is_over: bool,
}

#[derive(Default)]
enum Place {
    /// There is none.
    #[default]
    Nowhere,
    /// The lane has it.
    Here,
    /// A run may take it.
    Offered(Box<dyn NodeSession>),
    /// A run has it.
    Lent,
    /// A run is done with it; `None`: it is lost.
    Returned(Option<Box<dyn NodeSession>>),
}

impl Lane {
    pub(super) fn new() -> std::io::Result<Lane> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Lane { state: Mutex::default(), changed: Condvar::new(), wake })
    }

    /// The session, for a run. Where there is none, one more attempt is made to connect at once, and awaited.
    pub(super) fn take(&self) -> Result<Box<dyn NodeSession>, NodeError> {
        let mut state = self.lock();
        let before = state.failures;
        state.wanted += 1;
        self.wake();
        let taken = loop {
            if state.is_over {
                break Err(ending());
            }
            if matches!(state.place, Place::Offered(_)) {
                if let Place::Offered(session) = std::mem::replace(&mut state.place, Place::Lent) {
                    break Ok(session);
                }
            } else if state.failures > before && matches!(state.place, Place::Nowhere) {
                break Err(state.error.clone().unwrap_or_else(ending));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.wanted -= 1;
        taken
    }

    /// Gives a session back that was taken. `None`: it is lost.
    pub(super) fn give_back(&self, session: Option<Box<dyn NodeSession>>) {
        let mut state = self.lock();
        if matches!(state.place, Place::Lent) {
            state.place = Place::Returned(session);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Ends the lane: whoever waits is told, and its thread ends once no run has the session.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.wake();
    }

    /// The lane's thread.
    pub(super) fn run(&self, work: &LaneWork<'_>) {
        let mut failures = 0;
        loop {
            if self.lock().is_over {
                return;
            }
            let began = (work.now)();
            let error = match (work.connect)() {
                Ok(session) => self.keep(session, work),
                Err(error) => error,
            };
            let lasted = (work.now)().saturating_sub(began);
            failures = if lasted > LASTING { 1 } else { failures + 1 };
            {
                let mut state = self.lock();
                state.place = Place::Nowhere;
                state.failures += 1;
                state.error = Some(error.clone());
            }
            self.changed.notify_all();
            (work.tell)(Told::Down(error));
            let pause = (work.pause)(failures);
            let is_waiting = |state: &mut State| state.wanted == 0 && !state.is_over;
            drop(self.changed.wait_timeout_while(self.lock(), pause, is_waiting));
        }
    }

    /// Keeps a session until it is lost; why.
    fn keep(&self, mut session: Box<dyn NodeSession>, work: &LaneWork<'_>) -> NodeError {
        let mut polled = match watch(&mut *session, work.watched) {
            Ok(polled) => polled,
            Err(error) => return error,
        };
        let mut asked = (work.now)();
        self.lock().place = Place::Here;
        (work.tell)(Told::Up(polled.clone()));
        loop {
            // What it holds does not matter, only that it is empty again.
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            let (is_over, is_wanted) = {
                let state = self.lock();
                (state.is_over, state.wanted > 0)
            };
            if is_over {
                return ending();
            }
            if is_wanted {
                session = match self.lend(session) {
                    Some(session) => session,
                    None => return NodeError::new(NodeErrorKind::Lost, "the node was lost in a run"),
                };
                let again = !polled.is_empty() && (work.now)().saturating_sub(asked) > WATCH_AGAIN;
                if again {
                    asked = (work.now)();
                    match watch(&mut *session, work.watched) {
                        Ok(now) if now != polled => {
                            polled = now;
                            (work.tell)(Told::Up(polled.clone()));
                        }
                        Ok(_) => {}
                        Err(error) => return error,
                    }
                }
                continue;
            }
            match session.changes(self.wake.as_fd()) {
                Ok(seen) if seen.is_empty() => {}
                Ok(seen) => {
                    if seen.iter().any(|seen| matches!(seen, Seen::Gone { .. })) {
                        // It is watched again once a run has been there.
                        asked = Duration::ZERO;
                        polled.extend(
                            seen.iter().map(|seen| (seen.root().to_owned(), "it was moved".to_owned())),
                        );
                    }
                    (work.tell)(Told::Seen(seen));
                }
                Err(error) => return error,
            }
        }
    }

    /// Lets a run have the session; returns it when the run is done with it.
    fn lend(&self, session: Box<dyn NodeSession>) -> Option<Box<dyn NodeSession>> {
        let mut state = self.lock();
        state.place = Place::Offered(session);
        self.changed.notify_all();
        loop {
            match std::mem::replace(&mut state.place, Place::Here) {
                Place::Returned(session) => return session,
                // Nobody has come for it, and nobody will.
                Place::Offered(session) if state.is_over || state.wanted == 0 => return Some(session),
                other => state.place = other,
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
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

/// Has a node watch its directories. Which of them have to be polled, and why.
fn watch(session: &mut dyn NodeSession, specs: &[ScanSpec]) -> Result<BTreeMap<String, String>, NodeError> {
    if specs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let watching = session.watch(specs)?;
    let named = specs.iter().map(|spec| spec.directory.clone()).zip(watching.roots);
    Ok(named.filter_map(|(name, root)| Some((name, root.err()?.to_string()))).collect())
}

fn ending() -> NodeError {
    NodeError::new(NodeErrorKind::Lost, "the service is ending")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::thread;

    use super::*;
    use crate::watch::backoff;

    /// An hour and more, in which every pause passes at once.
    #[test]
    fn a_node_that_is_away_for_an_hour_is_tried_less_and_less_often_and_told_each_time() {
        const TRIES: usize = 20;
        let (lane, pauses, told) = (Lane::new().unwrap(), Mutex::new(Vec::new()), Mutex::new(0));
        let elapsed = || pauses.lock().unwrap().iter().sum::<Duration>();
        thread::scope(|scope| {
            scope.spawn(|| {
                lane.run(&LaneWork {
                    connect: &|| Err(NodeError::new(NodeErrorKind::Unreachable, "no route")),
                    watched: &[],
                    tell: &|_| {
                        *told.lock().unwrap() += 1;
                        if *told.lock().unwrap() == TRIES {
                            lane.end();
                        }
                    },
                    pause: &|failures| {
                        pauses.lock().unwrap().push(backoff(failures, 0.0));
                        Duration::ZERO
                    },
                    now: || Duration::ZERO,
                });
            });
        });
        let seconds: Vec<u64> = pauses.lock().unwrap().iter().map(Duration::as_secs).collect();
        assert_eq!(seconds[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(seconds[10..].iter().all(|pause| *pause == 300), "{seconds:?}");
        assert!(elapsed() > Duration::from_secs(3600) && *told.lock().unwrap() == TRIES);
        assert_eq!(lane.take().err().unwrap().detail, "the service is ending", "whoever waits is told");
    }
}
