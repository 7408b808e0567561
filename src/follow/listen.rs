//! Listens for publications, where a hub or a broker tells of them: a hint for the service to look, and nothing more. Whatever is
//! missed here the slow poll finds.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::message::Message;
use super::run::Follower;
use crate::model::escape::clean;
use crate::store::events::Events;

/// How long one question waits for its answer.
const LONGEST: Duration = Duration::from_secs(55);
/// After a hint, and before the question that follows one that failed: by then the service has looked, as a rule.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Between questions that fail again and again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The newest publication that the service has seen, by epoch and number; zeros: none yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<(u64, u64)>>);

impl Known {
    pub(super) fn set(&self, known: (u64, u64)) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn get(&self) -> (u64, u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens until the service ends, in threads of their own that nobody waits for.
pub(super) fn start(follower: &Follower, known: &Known, outbox: &Sender<Message>, chance: fn() -> f64) {
    let start = |name: &str, listen: Box<dyn FnOnce() + Send>| {
        // Without it there is the slow poll.
        drop(thread::Builder::new().name(name.to_owned()).spawn(listen));
    };
    let (hub, out) = (follower.clone(), outbox.clone());
    let known = known.clone();
    start("listen", Box::new(move || to_hub(&hub, &known, &out, chance)));
    if let Some(events) = follower.config.events.clone() {
        let (follower, outbox) = (follower.clone(), outbox.clone());
        start("events", Box::new(move || to_events(&follower, &events, &outbox, chance)));
    }
}

/// Many nodes lose their hub or broker at the same moment, and shall not come back at one.
fn pause_for(pause: Duration, chance: fn() -> f64) {
    thread::sleep(pause.mul_f64(1.0 + chance()));
}

/// Asks the hub again and again; any other store tells nothing.
fn to_hub(follower: &Follower, known: &Known, outbox: &Sender<Message>, chance: fn() -> f64) {
    let mut pause = SHORTEST_PAUSE;
    // What was known when the service was last told.
    let mut told = None;
    while !follower.stop.load(Ordering::Relaxed) {
        let heard = follower.open_store().and_then(|store| match store.can_wait() {
            true => store.wait(known.get(), LONGEST).map(Some),
            false => Ok(None),
        });
        pause = match heard {
            Ok(None) => return,
            Ok(Some(false)) => {
                pause = SHORTEST_PAUSE;
                continue;
            }
            Ok(Some(true)) if outbox.send(Message::Hint).is_err() => return,
            Ok(Some(true)) => {
                // A service that could not take what it was told of has its own pauses.
                let is_stuck = told.replace(known.get()) == Some(known.get());
                if is_stuck { (pause * 2).min(LONGEST_PAUSE) } else { SHORTEST_PAUSE }
            }
            // The service meets with it as well, and says so.
            Err(_) => (pause * 2).min(LONGEST_PAUSE),
        };
        pause_for(pause, chance);
    }
}

/// Hears what a broker, or a program, tells. Whoever may speak there can make this node look at the store, once a second.
fn to_events(follower: &Follower, events: &Events, outbox: &Sender<Message>, chance: fn() -> f64) {
    let mut pause = SHORTEST_PAUSE;
    let mut said = None;
    while !follower.stop.load(Ordering::Relaxed) {
        let mut hint = || {
            pause = SHORTEST_PAUSE;
            if outbox.send(Message::Hint).is_err() {
                return ControlFlow::Break(());
            }
            thread::sleep(SHORTEST_PAUSE);
            ControlFlow::Continue(())
        };
        match events.listen(&mut hint) {
            Ok(()) => return,
            Err(error) => {
                let why = clean(error.detail());
                if said.as_ref() != Some(&why) {
                    log::warn!("{why}; the store is looked at every interval");
                    said = Some(why);
                }
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        pause_for(pause, chance);
    }
}
