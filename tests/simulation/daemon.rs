//! The daemon's part in a history: the real watches see what happens on every host, and the real queues decide which run
//! is next. Its threads and sessions are not here. A run ends before the next one begins, but for one that waits for a node
//! that has fallen silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use xds_sync::model::{Direction, ReloadState};
use xds_sync::node::{Endpoint as _, Local};
use xds_sync::report::{DirectoryState, NodeReport, NodeState, Report};
use xds_sync::state::StateDir;
use xds_sync::sync::{Options, Shared};
use xds_sync::watch::{Dirt, Gather, Layout, NodeResult, OwnWrites, Queues, RunPlan, Seen, Watches};

use super::check::lines;
use super::history::{DIRECTORIES, Edited, History, Ran};
use super::net::{Gate, Streams, words};
use super::script::{PUSH, Run};
use super::world::World;

/// Nothing takes so long, unless somebody waits for what does not come.
const LIMIT: Duration = Duration::from_secs(15);
/// How long a file without evidence is held back, as `world.rs` configures it.
const SETTLE: Duration = Duration::from_secs(2);
/// More turns than it needs until nothing is due.
const MOST_TURNS: usize = 20;
/// More runs than one turn needs.
const MOST_RUNS: usize = 30;

/// What its runs tell it beside their reports, and share with those who watch.
pub struct ByDaemon {
    /// By host.
    pub own: Vec<Arc<OwnWrites>>,
    /// What rounds changed on Main: a directory, and the nodes that got it.
    pub merged: Mutex<Vec<(String, Vec<String>)>>,
    /// What runs came to on nodes that they are done with.
    released: Mutex<Vec<(u64, NodeReport)>>,
    changed: Condvar,
}

impl ByDaemon {
    /// A run is done with a node.
    pub fn release(&self, number: u64, node: &NodeReport) {
        self.released.lock().unwrap().push((number, node.clone()));
        self.changed.notify_all();
    }

    /// Waits until a run is done with all its nodes but this one, or is over.
    fn await_others(&self, plan: &RunPlan, silent: &str, is_over: impl Fn() -> bool) -> Result<(), String> {
        let others = plan.nodes.iter().filter(|node| *node != silent).count();
        let is_waiting = |released: &mut Vec<(u64, NodeReport)>| {
            let done = |(number, node): &&(u64, NodeReport)| *number == plan.number && node.name != silent;
            !is_over() && released.iter().filter(done).count() < others
        };
        let waited = self.changed.wait_timeout_while(self.released.lock().unwrap(), LIMIT, is_waiting);
        match waited.unwrap().1.timed_out() {
            true => Err("a node that is silent holds up the others".to_owned()),
            false => Ok(()),
        }
    }
}

pub struct Daemon {
    queues: Queues,
    gathers: BTreeMap<usize, Gather>,
    watches: BTreeMap<usize, Watches>,
    by: Arc<ByDaemon>,
    /// The plans of runs that are not over.
    under_way: BTreeMap<u64, RunPlan>,
}

impl Daemon {
    fn start(world: &World) -> Daemon {
        let directories = world.config.directories.iter();
        let names: BTreeSet<String> = directories.clone().map(|directory| directory.name.clone()).collect();
        let layout = Layout {
            directories: directories
                .map(|directory| (directory.name.clone(), directory.direction == Direction::Both))
                .collect(),
            nodes: (1..=world.nodes).map(|node| (name(node), names.clone())).collect(),
        };
        let own = (0..=world.nodes).map(|_| Arc::default()).collect();
        let mut daemon = Daemon {
            queues: Queues::new(layout),
            gathers: BTreeMap::new(),
            watches: BTreeMap::new(),
            by: Arc::new(ByDaemon {
                own,
                merged: Mutex::default(),
                released: Mutex::default(),
                changed: Condvar::new(),
            }),
            under_way: BTreeMap::new(),
        };
        daemon.watch(world, 0);
        daemon
    }

    /// Main's directories are watched by itself, a node's two-way ones by its agent.
    fn watch(&mut self, world: &World, host: usize) {
        let node = host.checked_sub(1).map(|index| &world.config.nodes[index]);
        let is_watched =
            |directory: &&xds_sync::config::Directory| host == 0 || directory.direction == Direction::Both;
        let watched = world.config.directories.iter().filter(is_watched);
        let specs: Vec<_> = watched.map(|directory| world.config.scan_spec(directory, node, false)).collect();
        let mut local = Local::new(world.local(host)).sharing(Arc::clone(&self.by.own[host]));
        let watching = local.watch(&specs).unwrap();
        assert!(watching.roots.iter().all(Result::is_ok), "{:?}", watching.roots);
        self.watches.extend(watching.watches.map(|watches| (host, watches)));
    }

    fn set_up(&mut self, world: &World, node: usize, is_up: bool) {
        if !is_up {
            self.down(node);
        } else if !self.watches.contains_key(&node) {
            self.watch(world, node);
            self.queues.up(now(world), &name(node));
        }
    }

    /// The agent ends with its session, and so do its watches.
    fn down(&mut self, node: usize) {
        self.queues.down(&name(node));
        self.watches.remove(&node);
    }

    /// Takes what has happened, and hands on what is worth a run.
    fn see(&mut self, world: &World) {
        let at = now(world);
        for (host, watches) in &mut self.watches {
            let gather = self.gathers.entry(*host).or_default();
            for seen in watches.read().unwrap() {
                match seen {
                    Seen::Path { root, path, kind } => gather.add(at, &root, &path, kind, SETTLE),
                    Seen::Whole { root } | Seen::Gone { root } => gather.add_whole(at, &root),
                }
            }
        }
    }

    fn take(&mut self, world: &World) {
        for (directory, dirt) in
            self.gathers.values_mut().flat_map(|gather| gather.take(now(world), |_| true))
        {
            self.queues.mark(now(world), &directory, None, &dirt);
        }
    }

    /// The next run, and how it is to be made.
    fn next_run(&mut self, world: &World) -> Option<(RunPlan, Options)> {
        let plan = self.queues.next_run(now(world), true)?;
        self.under_way.insert(plan.number, plan.clone());
        let mut complete = BTreeMap::new();
        for (host, gather) in &self.gathers {
            for directory in DIRECTORIES {
                let whole = gather.complete(now(world), directory);
                complete
                    .insert((host.checked_sub(1).map(|index| name(index + 1)), directory.to_owned()), whole);
            }
        }
        let options = Options {
            nodes: plan.nodes.clone(),
            directories: plan.directories.clone(),
            complete,
            hold_young: true,
            ..Options::default()
        };
        Some((plan, options))
    }

    /// Takes what runs have told while they were under way.
    fn hear(&mut self, world: &World) {
        let at = now(world);
        for (directory, members) in self.by.merged.lock().unwrap().drain(..) {
            for node in (1..=world.nodes).map(name).filter(|node| !members.contains(node)) {
                self.queues.mark(at, &directory, Some(&node), &Dirt::whole());
            }
        }
        let released = std::mem::take(&mut *self.by.released.lock().unwrap());
        for (number, node) in released {
            let Some(plan) = self.under_way.get(&number) else { continue };
            let result = result(&node, plan);
            self.queues.released(at, number, &node.name, &result, 0.0);
            if result.lost {
                self.down(super::daemon::number(&node.name));
            }
        }
    }

    fn finish(&mut self, world: &World, plan: &RunPlan, report: Option<&Report>) {
        self.hear(world);
        self.under_way.remove(&plan.number);
        let left = match report {
            Some(_) => NodeResult { lost: true, ..NodeResult::default() },
            None => {
                NodeResult { failed: plan.directories.iter().cloned().collect(), ..NodeResult::default() }
            }
        };
        self.queues.finished(now(world), plan.number, &left, 0.0);
    }

    /// When it has something to do, if nothing happens; `None`: nothing is left.
    fn next_due(&self, world: &World) -> Option<Duration> {
        let gathered = self.gathers.values().filter_map(|gather| gather.next_due(|_| true));
        gathered.chain(self.queues.next_due(now(world))).min()
    }
}

/// As the daemon sees a report.
fn result(node: &NodeReport, plan: &RunPlan) -> NodeResult {
    let mut result = NodeResult { lost: node.state.is_lost(), ..NodeResult::default() };
    for directory in &node.directories {
        if directory.state == DirectoryState::Partial {
            result.failed.insert(directory.name.clone());
        } else if directory.held > 0 {
            result.held.insert(directory.name.clone(), SETTLE);
        }
    }
    let reload_failed = node.reloads.iter().any(|reload| reload.state == ReloadState::Failed);
    if reload_failed || (node.state == NodeState::Partial && node.directories.is_empty()) {
        result.failed.extend(plan.directories.iter().cloned());
    }
    result
}

fn name(node: usize) -> String {
    format!("node{node}")
}

fn number(node: &str) -> usize {
    node.trim_start_matches("node").parse().unwrap()
}

fn now(world: &World) -> Duration {
    Duration::from_millis(world.clock.millis())
}

impl History {
    /// The daemon does what is due, while some nodes are away and things go wrong in its first run. Where there is none it
    /// starts.
    pub(super) fn turn(&mut self, run: &Run) -> Result<(), String> {
        let mut daemon = self.daemon.take().unwrap_or_else(|| Daemon::start(&self.world));
        for node in 1..=self.world.nodes {
            daemon.set_up(&self.world, node, !run.away.contains(&node));
        }
        daemon.see(&self.world);
        // The burst is over.
        self.world.clock.advance(Duration::from_millis(2500));
        daemon.take(&self.world);
        // One node is busy with something else at first: the others do not wait for it.
        let conf = [DIRECTORIES[PUSH].to_owned()];
        let mut busy = run.order.first().map(|index| daemon.queues.ask(&[name(index + 1)], &conf, true));
        let mut trouble = run.clone();
        trouble.order.clear();
        for _ in 0..MOST_RUNS {
            let Some((plan, options)) = daemon.next_run(&self.world) else {
                let Some(busy) = busy.take() else { break };
                daemon.queues.finished(now(&self.world), busy.number, &NodeResult::default(), 0.0);
                continue;
            };
            if trouble.silent.is_some_and(|(silent, _)| self.may_wait_for(&name(silent), &plan)) {
                self.overlap(&mut daemon, &trouble, (plan, options))?;
                trouble = Run::default();
                if super::watch::was_killed(0) {
                    return Ok(());
                }
                continue;
            }
            let by = Arc::clone(&daemon.by);
            let report = self.go_with(&trouble, &options, Some((&by, plan.number)))?;
            if super::watch::was_killed(0) {
                // The next one begins with a full run.
                return Ok(());
            }
            daemon.finish(&self.world, &plan, report.as_ref());
            trouble = Run::default();
        }
        if let Some(busy) = busy {
            daemon.queues.finished(now(&self.world), busy.number, &NodeResult::default(), 0.0);
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Whether other runs can be made while this one waits for a node: in a round nodes wait for each other, and where a run
    /// is at work with few nodes at a time the silent one is one of these.
    fn may_wait_for(&self, silent: &str, plan: &RunPlan) -> bool {
        plan.nodes.iter().any(|node| node == silent)
            && plan.directories == [DIRECTORIES[PUSH]]
            && self.world.setup.parallel >= self.world.nodes
    }

    /// A run with a node that falls silent in it, and those that the daemon makes before that node goes on.
    fn overlap(
        &mut self,
        daemon: &mut Daemon,
        run: &Run,
        (plan, options): (RunPlan, Options),
    ) -> Result<(), String> {
        let silent = run.silent.map(|(node, _)| name(node)).unwrap_or_default();
        self.checked(run, &options, true, |history, edited| {
            let (world, by) = (&history.world, Arc::clone(&daemon.by));
            let (streams, gate) = (Streams::default(), Arc::new(Gate::default()));
            let state = StateDir::open(&world.state_dir(0)).map_err(|error| format!("{error:#}"))?;
            let shared = Shared::new(&state, None).map_err(|error| format!("{error:#}"))?;
            let is_over = AtomicBool::new(false);
            let launch = |run: &Run, options: &Options, number| {
                history.launch(run, options, Some((&by, number)), (&streams, &gate), Some(&shared))
            };
            history.begin(run.faults.clone(), &streams, edited);
            let ended = thread::scope(|scope| {
                let first = scope.spawn(|| {
                    let ended = launch(run, &options, plan.number);
                    is_over.store(true, Ordering::Relaxed);
                    // Whoever waits has looked, or will.
                    drop(by.released.lock().unwrap());
                    by.changed.notify_all();
                    ended
                });
                let others = by
                    .await_others(&plan, &silent, || is_over.load(Ordering::Relaxed))
                    .and_then(|()| history.go_on_beside(daemon, run, edited, &launch));
                gate.open();
                let first = first.join().map_err(|panic| words(&*panic))?;
                others.and(first)
            });
            history.end();
            daemon.finish(world, &plan, ended?.as_ref());
            Ok(Some(()))
        })?;
        Ok(())
    }

    /// What the daemon does while a run of its waits for a node: people change files, and runs are made for the others.
    fn go_on_beside(
        &self,
        daemon: &mut Daemon,
        run: &Run,
        edited: &Edited,
        launch: &dyn Fn(&Run, &Options, u64) -> Result<Ran, String>,
    ) -> Result<(), String> {
        let world = &self.world;
        daemon.hear(world);
        for (host, dir, op) in &run.meanwhile {
            if world.setup.directories().contains(dir) {
                let before = world.list(*host, *dir);
                world.edit(*host, *dir, op);
                let after = world.list(*host, *dir);
                edited.lock().unwrap().push((*host, *dir, before, Some(after)));
            }
        }
        daemon.see(world);
        // The burst is over, and what was held back may be looked at again.
        world.clock.advance(Duration::from_millis(2500));
        daemon.take(world);
        let later = Run { faults: run.faults.clone(), ..Run::default() };
        for _ in 0..MOST_RUNS {
            if super::watch::was_killed(0) {
                break;
            }
            let Some((plan, options)) = daemon.next_run(world) else { break };
            let report = launch(&later, &options, plan.number)?;
            daemon.finish(world, &plan, report.as_ref());
        }
        Ok(())
    }

    /// All nodes are there and nothing fails, until nothing is due. Then a full run finds nothing that the daemon should
    /// have known of.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.world.clock.advance(Duration::from_secs(30));
        for _ in 0..MOST_TURNS {
            self.turn(&Run::default())?;
            let Some(daemon) = &self.daemon else { return Err("the daemon was killed by nobody".to_owned()) };
            let Some(due) = daemon.next_due(&self.world) else { break };
            let wait = due.saturating_sub(now(&self.world));
            self.world.clock.advance(wait + Duration::from_millis(1));
        }
        if self.daemon.as_ref().is_none_or(|daemon| daemon.next_due(&self.world).is_some()) {
            // Something fails again and again, and is told in each report.
            return Ok(());
        }
        let drifted = self.own.iter().any(|(_, dir, _)| *dir == PUSH);
        let report = self.go(&Run::default(), &[])?.ok_or("a run without a fault was killed")?;
        let is_news = |name: &str| !(drifted && name == DIRECTORIES[PUSH]);
        let mut missed = report.clone();
        missed.problems.clear();
        missed.changes.retain(|change| is_news(&change.directory));
        match missed.changes.is_empty() {
            true => Ok(()),
            false => Err(format!("nothing was due, and a full run did\n  {}", lines(&missed))),
        }
    }
}
