//! `xds-sync watch`: runs as soon as something changes, on sessions that are kept.
//!
//! A run of the daemon is the one of `sync`: the same snapshot, planner, guards, transfer, reloads and report, under the same
//! lock, which is held only while a run is under way. [`watch`](crate::watch) decides when one begins and for which nodes.
//! One thread decides, and waits for nothing but messages; each node's session, each run, Main's watches and each client
//! have a thread of their own.

pub(crate) mod control;
mod duty;
mod lane;
pub(crate) mod live;
mod main_watch;
mod order;
pub(crate) mod run;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::node::NodeError;
use crate::report::exit::IN_STEP;
use crate::state::{Lock, StateDir};
use crate::watch::{NodeResult, Seen};

use control::{Event, Request, SyncRequest};
use duty::Duty;
pub(crate) use duty::digest;

/// Longest wait for a message: systemd is told more often than that.
const BREATH: Duration = Duration::from_secs(10);
/// How long runs may take to end at their next safe place.
pub(crate) const ENDING: Duration = Duration::from_secs(4);

/// What the daemon needs of its machine.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) now: fn() -> SystemTime,
    pub(crate) new_id: fn() -> String,
    /// Time on a clock that nobody sets.
    pub(crate) monotonic: fn() -> Duration,
    /// A number from 0 to 1.
    pub(crate) chance: fn() -> f64,
    pub(crate) pid: u32,
    /// Tells systemd.
    pub(crate) notify: fn(&str),
    /// Whether this host is no master, and what it is instead.
    pub(crate) standby: fn() -> anyhow::Result<Option<String>>,
}

/// What reaches the daemon.
pub(crate) enum Message {
    /// It shall end.
    End,
    /// It shall read its configuration again.
    Reload,
    /// A client asks.
    Asked(Request, Sender<Event>),
    /// Something of its own threads, of a configuration that counts no more unless the number is right.
    Own(u64, Own),
}

/// What its own threads tell.
pub(crate) enum Own {
    SeenOnMain(Vec<Seen>),
    Seen(String, Vec<Seen>),
    /// A node is connected. Its directories that have to be polled, and why.
    Up(String, std::collections::BTreeMap<String, String>),
    Down(String, NodeError),
    /// A run is done with a node, and what it came to there.
    Released(u64, String, NodeResult),
    /// A round has changed a directory on Main; these nodes are about to get that.
    Merged(String, Vec<String>),
    Over(u64, Box<run::Over>),
    /// The nodes that discovery found.
    Found(Box<Config>),
}

/// Why a duty has ended.
enum End {
    Stopped,
    /// Another configuration counts from now on.
    Reload(Box<Config>),
    /// The first full run is over and nothing is left to do.
    Once(u8),
}

/// What outlasts a change of the configuration.
pub(crate) struct Daemon<'a> {
    pub(crate) machine: Machine,
    pub(crate) load: &'a dyn Fn() -> anyhow::Result<Config>,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) outbox: Sender<Message>,
    /// End when everything has been done once.
    pub(crate) once: bool,
}

impl Daemon<'_> {
    /// Serves until it is told to end; returns the exit code.
    pub(crate) fn serve(&self, config: Config, socket: &Path) -> anyhow::Result<u8> {
        let state = StateDir::open(&config.sync.state_dir)?;
        let _alone = self.be_alone(&state)?;
        if !self.once {
            let outbox = self.outbox.clone();
            control::listen(socket, move |request, answers| {
                // A daemon that has ended answers nobody.
                let _ = outbox.send(Message::Asked(request, answers));
            })?;
        }
        let since = (self.machine.now)();
        let (mut config, mut number, mut asked) = (config, 0, VecDeque::new());
        let mut before = None;
        loop {
            number += 1;
            let duty = match (Duty::begin(self, config.clone(), number, since), before.take()) {
                (Ok(duty), _) => duty,
                (Err(error), None) => return Err(error),
                (Err(error), Some(before)) => {
                    log::error!("reload: the configuration stays as it was: {error:#}");
                    config = before;
                    Duty::begin(self, config.clone(), number, since)?
                }
            };
            (self.machine.notify)("READY=1");
            let (end, left) = self.follow(duty, asked);
            asked = left;
            match end {
                End::Stopped => {
                    (self.machine.notify)("STOPPING=1");
                    return Ok(IN_STEP);
                }
                End::Once(code) => return Ok(code),
                End::Reload(new) => {
                    (self.machine.notify)(&format!(
                        "RELOADING=1\nMONOTONIC_USEC={}",
                        (self.machine.monotonic)().as_micros()
                    ));
                    before = Some(std::mem::replace(&mut config, *new));
                }
            }
        }
    }

    /// There is one daemon: a second one would connect to every node as well.
    fn be_alone(&self, state: &StateDir) -> anyhow::Result<Lock> {
        let path = state.path().join("watch.lock");
        Lock::take(&path, self.machine.pid)?.ok_or_else(|| {
            let pid = Lock::holder(&path).map(|pid| format!(": process {pid}")).unwrap_or_default();
            anyhow::anyhow!("`xds-sync watch` is running already{pid}")
        })
    }

    /// Hands messages to a duty until it ends. Also returns what was asked and not begun.
    fn follow(
        &self,
        mut duty: Duty<'_>,
        asked: VecDeque<(SyncRequest, Sender<Event>)>,
    ) -> (End, VecDeque<(SyncRequest, Sender<Event>)>) {
        duty.asked = asked;
        let mut breath = Duration::ZERO;
        let end = loop {
            if let Some(end) = duty.proceed() {
                break end;
            }
            let now = (self.machine.monotonic)();
            if now >= breath {
                (self.machine.notify)("WATCHDOG=1");
                breath = now + BREATH;
            }
            let due = duty.next_due().map_or(breath, |due| due.min(breath));
            let message = match self.inbox.recv_timeout(due.saturating_sub(now)) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => continue,
                // It has a sender of its own.
                Err(RecvTimeoutError::Disconnected) => break End::Stopped,
            };
            match message {
                Message::End => break End::Stopped,
                Message::Reload => match (self.load)() {
                    Ok(config) => {
                        log::info!("reload: the configuration was read again");
                        break End::Reload(Box::new(config));
                    }
                    Err(error) => {
                        log::error!("reload: the configuration stays as it was: {error:#}");
                        (self.machine.notify)("READY=1");
                    }
                },
                Message::Asked(Request::Status { .. }, answers) => {
                    // A client that has gone needs no answer.
                    let _ = answers.send(Event::Status(duty.live()));
                }
                Message::Asked(Request::Sync(request), answers) => {
                    if let Some(config) = duty.other_configuration(&request) {
                        duty.asked.push_back((request, answers));
                        break End::Reload(config);
                    }
                    duty.ask(request, answers);
                }
                Message::Own(number, own) if number == duty.number => duty.take(own),
                Message::Own(..) => {}
            }
        };
        let left = std::mem::take(&mut duty.asked);
        duty.end();
        (end, left)
    }
}
