//! The daemon's part in a history: the real watches see what happens on every host, and the real queues decide which run
//! is next. Its threads and sessions are not here: a run ends before the next one begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use xds_sync::model::{Direction, ReloadState};
use xds_sync::node::{Endpoint as _, Local};
use xds_sync::report::{DirectoryState, NodeReport, NodeState, Report};
use xds_sync::sync::Options;
use xds_sync::watch::{Dirt, Gather, Layout, NodeResult, OwnWrites, Queues, RunPlan, Seen, Watches};

use super::check::lines;
use super::history::{DIRECTORIES, History};
use super::script::{PUSH, Run};
use super::world::World;

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
}

pub struct Daemon {
    queues: Queues,
    gathers: BTreeMap<usize, Gather>,
    watches: BTreeMap<usize, Watches>,
    by: ByDaemon,
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
            by: ByDaemon { own, merged: Mutex::default() },
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

    fn finish(&mut self, world: &World, plan: &RunPlan, report: Option<&Report>) {
        let at = now(world);
        for (directory, members) in self.by.merged.lock().unwrap().drain(..) {
            for node in (1..=world.nodes).map(name).filter(|node| !members.contains(node)) {
                self.queues.mark(at, &directory, Some(&node), &Dirt::whole());
            }
        }
        let failed =
            NodeResult { failed: plan.directories.iter().cloned().collect(), ..NodeResult::default() };
        let results: BTreeMap<String, NodeResult> = match report {
            Some(report) => report.nodes.iter().map(|node| (node.name.clone(), result(node, plan))).collect(),
            None => plan.nodes.iter().map(|node| (node.clone(), failed.clone())).collect(),
        };
        self.queues.finished(at, plan.number, &results, 0.0);
        for (node, _) in results.iter().filter(|(_, result)| result.lost) {
            self.down(number(node));
        }
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
                daemon.queues.finished(now(&self.world), busy.number, &BTreeMap::new(), 0.0);
                continue;
            };
            let report = self.go_with(&trouble, &options, Some(&daemon.by))?;
            if super::watch::was_killed(0) {
                // The next one begins with a full run.
                return Ok(());
            }
            daemon.finish(&self.world, &plan, report.as_ref());
            trouble = Run::default();
        }
        if let Some(busy) = busy {
            daemon.queues.finished(now(&self.world), busy.number, &BTreeMap::new(), 0.0);
        }
        self.daemon = Some(daemon);
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
