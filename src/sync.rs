//! The story of a run: config → snapshot → plan → transfer → reload → report.
//!
//! Every node has a thread, and goes through a run at its own pace: a dead, slow or full one delays none of
//! the others. Pushed directories are planned edge by edge. Both-ways directories are planned once over all
//! nodes that are there, so nodes meet in a *round*: the first begins when all have been looked at or given
//! up, or [`GRACE`] after the first one was ready; who comes later has a round of its own, as if it had been
//! away before.

mod carry;
mod conflicts;
mod joint;
mod main_side;
mod permits;
mod pushed;
mod reloads;
pub mod restore;
mod session;
mod tally;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::config::{Config, Directory, Node};
use crate::fault::{Point, reach};
use crate::model::TrashKeep;
use crate::model::escape::escape_for_people;
use crate::node::{Endpoint as _, Local, NodeError, NodeSession};
use crate::report::{Problem, Report};
use crate::state::{Ledger, StateDir};

use main_side::{MainSide, MainTree};
use session::Session;
use tally::Tally;

pub use tally::state_of;
pub use wire::{Progress, Silent};

/// How long nodes that are ready wait for the others before a both-ways directory is planned without them.
const GRACE: Duration = Duration::from_secs(3);

/// What was asked for on the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop after planning.
    pub dry_run: bool,
    /// Only these nodes; empty: all.
    pub nodes: Vec<String>,
    /// Only these directories; empty: all.
    pub directories: Vec<String>,
    /// Read every file again, whatever the hash caches say.
    pub checksum: bool,
    /// Reload whether due or not.
    pub reload_always: bool,
    /// Tokens of halted plans that may go ahead.
    pub accept: Vec<String>,
}

/// Reaches nodes. Over ssh in earnest; a test may hand out endpoints of its own.
pub trait Connect: Sync {
    /// A session with the node's agent, with no run open.
    fn connect(&self, node: &Node) -> Result<Box<dyn NodeSession>, NodeError>;
}

/// What a run stands on.
pub struct Site<'a> {
    /// The checked configuration, with discovered nodes.
    pub config: &'a Config,
    /// Whether these are all nodes there are. Where discovery has failed some may be missing, and what is known
    /// of them is kept.
    pub knows_all_nodes: bool,
    /// What was remembered. The caller holds its lock.
    pub state: &'a StateDir,
    /// The way to the nodes.
    pub connect: &'a dyn Connect,
    /// Main's own disk.
    pub main: Mutex<Local>,
    /// The clock.
    pub now: &'a (dyn Fn() -> SystemTime + Sync),
    /// A new ULID.
    pub new_id: &'a (dyn Fn() -> String + Sync),
    /// Who is told of bytes on the way.
    pub progress: &'a dyn Progress,
    /// Set when a signal asks the run to end.
    pub stop: &'a AtomicBool,
}

/// One run: the site, what was asked for, and what all threads share.
struct Run<'a> {
    site: &'a Site<'a>,
    options: &'a Options,
    id: String,
    ledger: Mutex<Ledger>,
    /// Main's directories, once they have been scanned.
    main: OnceLock<MainSide>,
    /// Main's both-ways directories, as far as this run has changed them.
    both: Mutex<BTreeMap<String, MainTree>>,
    throttle: wire::Throttle,
    /// Work with so many nodes at once.
    permits: permits::Permits,
    /// Tokens that have released a plan.
    used_tokens: Mutex<BTreeSet<String>>,
}

/// Carries out one run and tells how it went. What happens to one node or directory is in the report; `Err`
/// is Main's own state that could not be read or written.
pub fn run<'a>(site: &'a Site<'a>, options: &'a Options) -> anyhow::Result<Report> {
    let started = (site.now)();
    let run = Run {
        site,
        options,
        id: (site.new_id)(),
        ledger: Mutex::new(site.state.ledger()?),
        main: OnceLock::new(),
        both: Mutex::default(),
        throttle: wire::Throttle::new(site.config.sync.bandwidth),
        permits: permits::Permits::new(site.config.sync.parallel),
        used_tokens: Mutex::default(),
    };
    let nodes: Vec<&Node> =
        site.config.nodes.iter().filter(|node| run.is_asked(&options.nodes, &node.name)).collect();

    lock(&site.main).begin(&run.id, options.dry_run)?;
    let mut tallies = thread::scope(|scope| {
        let (ready, sessions) = channel();
        for node in &nodes {
            let (run, ready) = (&run, ready.clone());
            scope.spawn(move || {
                // The receiver lives until every sender is gone.
                let opened = {
                    let _permit = run.permits.take();
                    session::open(run, node)
                };
                let _ = ready.send(opened);
            });
        }
        drop(ready);
        scope.spawn(|| run.main_side());
        rounds(&run, &sessions)
    });
    lock(&site.main).end()?;
    let place = |tally: &Tally| nodes.iter().position(|node| node.name == tally.node.name);
    tallies.sort_by_key(place);

    let mut problems: Vec<Problem> = Vec::new();
    if !options.dry_run {
        let mut ledger = lock(&run.ledger);
        if site.knows_all_nodes {
            ledger.forget_nodes_except(site.config.nodes.iter().map(|node| node.name.as_str()));
        }
        let met = reach(Point::Ledger).map_err(anyhow::Error::from);
        if let Err(error) = met.and_then(|()| site.state.save_ledger(&ledger)) {
            problems.push(tally::problem("state", None, None, &format!("{error:#}")));
        }
    }
    let used = lock(&run.used_tokens);
    for token in options.accept.iter().filter(|token| !used.contains(*token)) {
        let detail =
            format!("the token {} releases no plan of this run", escape_for_people(token.as_bytes()));
        problems.push(Problem { fails: false, ..tally::problem("plan", None, None, &detail) });
    }
    drop(used);
    let duration = (site.now)().duration_since(started).unwrap_or_default();
    let mut report = Report {
        run: run.id.clone(),
        started,
        duration,
        dry_run: options.dry_run,
        nodes: Vec::new(),
        changes: Vec::new(),
        halted: Vec::new(),
        problems,
        interrupted: run.is_stopped(),
    };
    if let Some(main) = run.main.get() {
        main.report(&mut report);
    }
    tallies.into_iter().for_each(|tally| tally.report(&mut report));
    Ok(report)
}

/// Gathers sessions into rounds as they become ready, and carries the rounds out side by side.
fn rounds<'a>(run: &Run<'a>, sessions: &Receiver<Result<Session<'a>, Box<Tally>>>) -> Vec<Tally> {
    thread::scope(|scope| {
        let mut tallies = Vec::new();
        let mut rounds = Vec::new();
        let mut over = false;
        while !over {
            let mut gathered = Vec::new();
            let mut wait = None;
            loop {
                let next = match wait {
                    None => sessions.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(wait) => sessions.recv_timeout(wait),
                };
                match next {
                    Ok(Ok(session)) => {
                        gathered.push(session);
                        wait = Some(GRACE);
                    }
                    Ok(Err(lost)) => tallies.push(*lost),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => {
                        over = true;
                        break;
                    }
                }
            }
            if !gathered.is_empty() {
                rounds.push(scope.spawn(|| joint::round(run, gathered)));
            }
        }
        for round in rounds {
            match round.join() {
                Ok(done) => tallies.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        tallies
    })
}

impl Run<'_> {
    fn is_asked(&self, asked: &[String], name: &str) -> bool {
        asked.is_empty() || asked.iter().any(|asked| asked == name)
    }

    /// The directories that this run is for, in configured order.
    fn directories(&self) -> impl Iterator<Item = &Directory> {
        let all = &self.site.config.directories;
        all.iter().filter(|directory| self.is_asked(&self.options.directories, &directory.name))
    }

    /// Main's side: whoever comes first scans it, the others wait. Should that thread break down, the next one
    /// does so too, instead of waiting for ever.
    fn main_side(&self) -> &MainSide {
        self.main.get_or_init(|| main_side::scan(self))
    }

    /// Whether an administrator lets the plan with this token go ahead.
    fn is_accepted(&self, token: &str) -> bool {
        let accepted = self.options.accept.iter().any(|accepted| accepted == token);
        if accepted {
            lock(&self.used_tokens).insert(token.to_owned());
        }
        accepted
    }

    fn is_stopped(&self) -> bool {
        self.site.stop.load(Ordering::Relaxed)
    }

    fn trash_keep(&self) -> TrashKeep {
        let sync = &self.site.config.sync;
        TrashKeep { seconds: sync.trash_keep.as_secs(), size: sync.trash_max }
    }
}

/// The guard of a mutex, whatever happened to another thread that held it: what it guards is changed in
/// single steps, so it is whole.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
