//! The story of a run: config → snapshot → plan → transfer → reload → report.
//!
//! Every node that is reached has a thread, and goes its way without the others; those that follow a store share a few:
//!
//! > open → push → reload what pushed directories alone name → join a round → reload the rest
//!
//! Only a round needs several nodes, since two-way directories are planned once over all nodes that are there. It is
//! told in `two_way.rs`. A dead, slow or full node delays none of the others: who is late has a round of its own.

mod apply;
mod base;
mod blobs;
mod conflicts;
mod edge;
mod guard;
mod halt;
mod machines;
mod main_side;
mod metered;
mod node_run;
mod origin;
mod permits;
mod push;
mod reloads;
mod rendezvous;
mod report;
pub mod restore;
mod room;
mod result;
mod spec;
mod survey;
mod sweep;
mod throttle;
mod timely;
mod two_way;
mod unkept;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::fault::{Point, reach};
use crate::model::escape::escape_for_people;
use crate::model::{Digest, Pruned, rfc3339};
use crate::node::{NodeError, NodeSession};
use crate::report::{NodeReport, Problem, Report, Stage, words};
use crate::state::{BegunRun, Ledger, StateDir};
use crate::threads::side_by_side;

use node_run::{Failure, NodeRun};
use origin::Origins;
use reloads::Kinds;
use rendezvous::Rendezvous;
use report::Part;

pub use main_side::{BlobSource, MainSide, MainStage};
pub use metered::{Phase, Progress, Silent};
pub use result::state_of;
pub(crate) use spec::FOLLOWER;
pub use spec::{DirectorySpec, EdgeSpec, NodeSpec, Options, Spec};
pub use survey::{FoundOnMain, Survey, Surveyed, survey};

/// Reaches nodes. Over ssh in earnest; a test may hand out sessions of its own.
pub trait Connect: Sync {
    /// A session with the agent of the node with this name.
    fn connect(&self, node: &str) -> Result<Box<dyn NodeSession>, NodeError>;

    /// A node's part in a run is over, which others may still be in, and this is what it came to. The session is between
    /// runs, and may be kept for a later one; `None`: it is lost, or there never was one.
    fn release(&self, node: &NodeReport, session: Option<Box<dyn NodeSession>>) {
        let _ = (node, session);
    }

    /// Whether the machine with this id is Main itself.
    fn is_main(&self, _machine: &str) -> bool {
        false
    }
}

/// What a run works with.
pub struct Environment<'a> {
    /// What earlier runs recorded. The caller holds its lock.
    pub state: &'a StateDir,
    /// The way to the nodes.
    pub connect: &'a dyn Connect,
    /// Main's own disk, or what stands for it.
    pub main: Mutex<Box<dyn MainSide>>,
    /// The clock.
    pub now: &'a (dyn Fn() -> SystemTime + Sync),
    /// A new ULID.
    pub new_id: &'a (dyn Fn() -> String + Sync),
    /// Follows the bytes on their way.
    pub progress: &'a dyn Progress,
    /// Set when a signal asks the run to end.
    pub stop: &'a AtomicBool,
    /// Where several runs of this process go on side by side, what they have in common; else each run has its own.
    pub shared: Option<&'a Shared>,
    /// Whether a reload of this kind that is due on this node is carried out now. Otherwise it stays owed to a later run,
    /// and the report does not speak of it.
    pub may_reload: &'a (dyn Fn(&str, &str) -> bool + Sync),
    /// Told when a round has changed a directory on Main, with the nodes that are about to get that. All others lack it.
    pub merged: &'a (dyn Fn(&str, &[String]) + Sync),
}

impl Environment<'_> {
    /// What this run has in common with others that go on beside it; else what it has alone, which `own` keeps.
    fn shared<'s>(&'s self, spec: &Spec, own: &'s mut Option<Shared>) -> anyhow::Result<&'s Shared> {
        Ok(match self.shared {
            Some(shared) => shared,
            None => own.insert(Shared::new(self.state, spec.bandwidth)?),
        })
    }
}

/// What runs have in common that go on side by side in one process.
pub struct Shared {
    ledger: Mutex<Ledger>,
    throttle: throttle::Throttle,
}

impl Shared {
    /// Reads the ledger. The caller holds the lock.
    pub fn new(state: &StateDir, bandwidth: Option<u64>) -> anyhow::Result<Shared> {
        let throttle = throttle::Throttle::new(bandwidth);
        Ok(Shared { ledger: Mutex::new(state.ledger()?), throttle })
    }
}

/// One run, as all its threads share it.
struct Run<'a> {
    env: &'a Environment<'a>,
    spec: &'a Spec,
    id: String,
    /// Of this Main.
    epoch: u64,
    ledger: &'a Mutex<Ledger>,
    origins: OnceLock<Origins>,
    /// Held by the round that plans and changes two-way directories on Main.
    turn: Mutex<()>,
    /// Blobs on their way to Main's stage, by directory.
    pulls: Mutex<BTreeMap<(String, Digest), two_way::Pull>>,
    throttle: &'a throttle::Throttle,
    /// Work with so many nodes at once.
    permits: permits::Permits,
    machines: machines::Machines,
    /// Tokens that have released a plan.
    used_tokens: Mutex<BTreeSet<String>>,
    /// What Main's own disk gave up, or did not take.
    on_main: Mutex<Vec<Problem>>,
}

/// The nodes of a run, where they wait for each other and where they end.
struct Cluster<'a> {
    lobby: Rendezvous<NodeRun<'a>>,
    /// What became of those that have ended.
    finished: Mutex<Vec<Part>>,
    dry_run: bool,
    /// Where sessions come from, and go back to.
    connect: &'a dyn Connect,
    /// The place of each in configured order, by name.
    order: HashMap<&'a str, usize>,
}

/// Carries out one run and reports how it went. What happens to one node or directory is in the report; `Err`
/// is Main's own state that could not be read.
pub fn run(env: &Environment<'_>, spec: &Spec) -> anyhow::Result<Report> {
    let started = (env.now)();
    let mut own = None;
    let shared = env.shared(spec, &mut own)?;
    let run = Run::new(env, spec, shared)?;
    lock(&env.main).begin(&run.id, spec.dry_run)?;
    let unended = if env.shared.is_some() { None } else { run.note_begin(started) };
    let cluster = Cluster::new(env.connect, spec);
    thread::scope(|scope| {
        scope.spawn(|| run.scan_main());
        let (followers, reached): (Vec<&NodeSpec>, Vec<&NodeSpec>) =
            spec.nodes.iter().partition(|node| node.is_follower);
        let (run, cluster) = (&run, &cluster);
        for node in reached {
            scope.spawn(move || cluster.hand_over(alone(run, node)));
        }
        // There may be very many, and none of them waits for a host.
        scope.spawn(move || {
            side_by_side(&followers, spec.parallel, |node| cluster.hand_over(alone(run, node)));
        });
        loop {
            let nodes = cluster.lobby.next();
            if nodes.is_empty() {
                break;
            }
            scope.spawn(move || two_way::round(run, cluster, scope, nodes));
        }
    });
    let mut report = run.report(started, &cluster);
    report.problems.extend(unended);
    Ok(report)
}

/// The part of a node's run that needs no other node.
fn alone<'a>(run: &Run<'a>, spec: &'a NodeSpec) -> NodeRun<'a> {
    let mut node = NodeRun::new(run.env, spec);
    node.step(|node| node.open(run));
    node.step(|node| push::push(run, node));
    node.step(|node| reloads::reload(run, node, Kinds::PushedAlone));
    if node.joins_round() {
        node.at(Phase::Waiting);
    }
    node
}

impl<'a> Cluster<'a> {
    fn new(connect: &'a dyn Connect, spec: &'a Spec) -> Cluster<'a> {
        Cluster {
            lobby: Rendezvous::new(spec.nodes.len()),
            finished: Mutex::default(),
            dry_run: spec.dry_run,
            connect,
            order: spec.nodes.iter().map(|node| &*node.name).zip(0..).collect(),
        }
    }

    /// Lets a node wait for a round, if it needs one.
    fn hand_over(&self, node: NodeRun<'a>) {
        if !node.joins_round() {
            self.finish(node);
        } else if let Err(node) = self.lobby.arrive(node) {
            self.finish(node);
        }
    }

    /// Ends a node's part.
    fn finish(&self, mut node: NodeRun<'a>) {
        node.step(NodeRun::end);
        let session = node.take_session();
        node.at(Phase::Done);
        let (env, spec) = (node.env, node.spec);
        let part = catch_unwind(AssertUnwindSafe(|| report::part(node, self.dry_run)));
        let part = part.unwrap_or_else(|_| self.lost(env, spec));
        self.connect.release(&part.node, session);
        lock(&self.finished).push(part);
        self.lobby.leave();
    }

    /// What becomes of a node whose thread did not come to its end.
    fn lost(&self, env: &'a Environment<'a>, spec: &'a NodeSpec) -> Part {
        let mut lost = NodeRun::new(env, spec);
        lost.fail(Failure::Internal("its thread was lost".to_owned()));
        report::part(lost, self.dry_run)
    }

    /// What every node of the run came to, in configured order, after all threads have ended.
    fn end(&self, env: &'a Environment<'a>, specs: &'a [NodeSpec]) -> Vec<Part> {
        let mut parts = std::mem::take(&mut *lock(&self.finished));
        let there: BTreeSet<String> = parts.iter().map(|part| part.node.name.clone()).collect();
        let lost = specs.iter().filter(|spec| !there.contains(&spec.name));
        parts.extend(lost.map(|spec| self.lost(env, spec)));
        parts.sort_by_key(|part| self.order.get(&*part.node.name));
        parts
    }

    /// Puts nodes into configured order.
    fn sort(&self, nodes: &mut [NodeRun<'a>]) {
        nodes.sort_by_key(|node| self.order.get(&*node.spec.name));
    }
}

impl<'a> Run<'a> {
    fn new(env: &'a Environment<'a>, spec: &'a Spec, shared: &'a Shared) -> anyhow::Result<Run<'a>> {
        let mut machines = lock(&shared.ledger).machines.clone();
        if let Some(all) = &spec.all_nodes {
            machines.retain(|node, _| all.contains(node));
        }
        Ok(Run {
            env,
            spec,
            id: (env.new_id)(),
            epoch: env.state.identity()?.map_or(0, |identity| identity.epoch),
            machines: machines::Machines::new(spec.nodes.iter().map(|node| node.name.clone()), machines),
            ledger: &shared.ledger,
            origins: OnceLock::new(),
            turn: Mutex::default(),
            pulls: Mutex::default(),
            throttle: &shared.throttle,
            permits: permits::Permits::new(spec.parallel),
            used_tokens: Mutex::default(),
            on_main: Mutex::default(),
        })
    }

    /// Says that the run begins, on record and in the log, so that it is not invisible while it lasts, nor when it is
    /// killed. Returns what is to be said of a run before that did not end.
    fn note_begin(&self, started: SystemTime) -> Option<Problem> {
        let before = if self.spec.dry_run {
            Ok(self.env.state.begun_run())
        } else {
            log::info!("run {} begins", self.id);
            self.env.state.begin_run(&BegunRun { run: self.id.clone(), started: rfc3339(started) })
        };
        match before {
            Ok(before) => before.map(|BegunRun { run, started }| {
                let detail = format!(
                    "the run {run} before this one, begun at {started}, did not end: it was killed, or this host went down"
                );
                Problem::warning(Stage::State, detail)
            }),
            Err(error) => Some(Problem::warning(Stage::State, format!("{error:#}"))),
        }
    }

    /// Main's side: whoever comes first scans it, the others wait. Should that thread break down, the next one
    /// scans instead of waiting for ever.
    fn origins(&self) -> &Origins {
        self.origins.get_or_init(|| Origins::scan(self))
    }

    /// Scans Main meanwhile. A panic is not lost: it comes again in the first node that needs Main.
    fn scan_main(&self) {
        self.env.progress.at(&self.spec.main, Phase::Scanning);
        let _ = catch_unwind(AssertUnwindSafe(|| self.origins()));
        self.env.progress.at(&self.spec.main, Phase::Done);
    }

    /// Whether an administrator lets the plan with this token go ahead.
    fn is_accepted(&self, token: &str) -> bool {
        let accepted = self.spec.accept.iter().any(|accepted| accepted == token);
        if accepted {
            lock(&self.used_tokens).insert(token.to_owned());
        }
        accepted || self.spec.released.iter().any(|released| released == token)
    }

    /// Reports what Main's trash of a directory gave up, if anything.
    fn warn_of_pruned(&self, directory: &str, pruned: &Pruned) {
        if let Some(detail) = words::pruned(pruned) {
            let problem = Problem::warning(Stage::Commit, detail);
            lock(&self.on_main).push(Problem { directory: Some(directory.to_owned()), ..problem });
        }
    }

    fn is_stopped(&self) -> bool {
        self.env.stop.load(Ordering::Relaxed)
    }

    /// Whether what is planned is carried out.
    fn may_change(&self) -> bool {
        !self.spec.dry_run && !self.is_stopped()
    }

    /// The report, from what every node has come to.
    fn report(self, started: SystemTime, cluster: &Cluster<'a>) -> Report {
        let mut report = Report {
            run: self.id.clone(),
            started,
            duration: (self.env.now)().duration_since(started).unwrap_or_default(),
            dry_run: self.spec.dry_run,
            nodes: Vec::new(),
            changes: Vec::new(),
            halted: Vec::new(),
            problems: Vec::new(),
            interrupted: self.is_stopped(),
        };
        let parts = cluster.end(self.env, &self.spec.nodes);
        report.problems.extend(self.end_on_main(&parts));
        report.problems.append(&mut lock(&self.on_main));
        report.problems.extend(self.save_ledger());
        report.problems.extend(self.unused_tokens());
        // A scan that was broken off because the run is to end looks like a directory that cannot be used.
        let halted_on_main = self.origins.get().filter(|_| !self.is_stopped()).map(Origins::halted);
        for (directory, halt) in halted_on_main.unwrap_or_default() {
            report.halted.push(halt.told(&directory, Vec::new()));
        }
        parts.into_iter().for_each(|part| part.add_to(&mut report));
        report
    }

    /// Whether no node that exists is left out of this run.
    fn is_for_all_nodes(&self) -> bool {
        self.spec.all_nodes.as_ref().is_some_and(|all| all.len() == self.spec.nodes.len())
    }

    /// Ends the run on Main's own disk, in good order.
    fn end_on_main(&self, parts: &[Part]) -> Vec<Problem> {
        let swept = catch_unwind(AssertUnwindSafe(|| sweep::sweep_stages(self, parts)));
        let ended = lock(&self.env.main).end().err();
        let failure = |error: NodeError| Problem::failure(Stage::State, error.detail);
        swept.unwrap_or_default().into_iter().chain(ended.map(failure)).collect()
    }

    fn save_ledger(&self) -> Option<Problem> {
        if self.spec.dry_run {
            return None;
        }
        let mut ledger = lock(self.ledger);
        if let Some(all) = &self.spec.all_nodes {
            ledger.forget_nodes_except(all.iter().map(String::as_str));
        }
        let keep = Duration::from_secs(self.spec.trash.seconds);
        ledger.forget_decided_before((self.env.now)().checked_sub(keep).unwrap_or(SystemTime::UNIX_EPOCH));
        let met = reach(Point::Ledger).map_err(anyhow::Error::from);
        let saved = met.and_then(|()| self.env.state.save_ledger(&ledger));
        saved.err().map(|error| Problem::failure(Stage::State, format!("{error:#}")))
    }

    /// One warning for each token that has released nothing.
    fn unused_tokens(&self) -> Vec<Problem> {
        let used = lock(&self.used_tokens);
        let unused = self.spec.accept.iter().filter(|token| !used.contains(*token));
        unused.map(|token| unused_token(token)).collect()
    }
}

/// What is said of a token that has released nothing.
pub(crate) fn unused_token(token: &str) -> Problem {
    let token = escape_for_people(token.as_bytes());
    Problem::warning(Stage::Plan, format!("the token {token} releases no plan of this run"))
}

/// The guard of a mutex, whatever happened to another thread that held it: what it guards is changed in
/// single steps, so it is whole.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
