//! The daemon under one configuration: what it knows, and what it does next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use crate::config::{Config, Directory};
use crate::model::escape::{clean, escape_for_people};
use crate::model::{Direction, rfc3339};
use crate::node::{Endpoint as _, Local, NodeError, NodeErrorKind, Watching};
use crate::report::text::{Style, Verbosity};
use crate::report::{json, text};
use crate::site::{Access, KnownNodes, Services, Site};
use crate::snapshot::ScanSpec;
use crate::state::{BegunRun, StateDir};
use crate::sync::{self, Options, Silent};
use crate::watch::{Coalesce, Dirt, Gather, Layout, Queues, RunPlan, Seen};

use super::control::{Event, Format, SyncRequest, Telling};
use super::lane::{Lane, LaneWork, Told};
use super::live::{Live, LiveNode, Polled};
use super::main_watch::MainWatch;
use super::run::{self, Over, Running, Shared, UnderWay};
use super::{Daemon, ENDING, End, Machine, Message, Own};

/// How often directories without events are looked at.
const POLL: Duration = Duration::from_secs(30);
/// Before the lock is tried again that another process holds.
const LOCK_AGAIN: Duration = Duration::from_millis(200);
/// Full runs of many Mains do not begin in the same second.
const JITTER: Duration = Duration::from_secs(5);
/// How often a full run finds Main's watches made anew; once a root was moved, sooner.
const WATCH_AGAIN: Duration = Duration::from_secs(10);

/// What runs ask of it too.
#[derive(Default)]
struct Core {
    /// By host; `None`: Main.
    gathers: BTreeMap<Option<String>, Gather>,
    queues: Queues,
    reloads: Coalesce,
}

impl Core {
    /// Whether changes of a directory wait that are not on a node yet.
    fn has_more(&self, node: &str, directory: &str) -> bool {
        self.queues.is_due(node, directory) || self.gathers.values().any(|gather| gather.has(directory))
    }
}

struct NodeState {
    since: Option<SystemTime>,
    error: Option<NodeError>,
    last_change: Option<SystemTime>,
    /// What was last said of it in the log.
    logged: Option<Option<NodeErrorKind>>,
}

/// Why a run is under way.
struct Begun {
    directories: Vec<String>,
    asked: Option<(SyncRequest, Sender<Event>)>,
    /// A full one, at the start or by the schedule.
    is_full: bool,
}

pub(super) struct Duty<'a> {
    daemon: &'a Daemon<'a>,
    pub(super) number: u64,
    since: SystemTime,
    config: Config,
    site: Arc<Site>,
    stop: Arc<AtomicBool>,
    core: Arc<Mutex<Core>>,
    lanes: Arc<BTreeMap<String, Lane>>,
    main_watch: Arc<MainWatch>,
    threads: Vec<JoinHandle<()>>,
    under_way: UnderWay,
    /// Main's disk, as often as runs went on side by side: each has caches in memory.
    mains: Vec<Local>,
    begun: BTreeMap<u64, Begun>,
    pub(super) asked: VecDeque<(SyncRequest, Sender<Event>)>,
    nodes: BTreeMap<String, NodeState>,
    polled: BTreeSet<Polled>,
    next_full: Option<Duration>,
    next_poll: Duration,
    lock_again: Duration,
    watch_main_again: Option<Duration>,
    /// What was last said of the role of this host.
    standby: Option<String>,
    /// The exit code of the first full run.
    first: Option<u8>,
    other_main: bool,
}

impl<'a> Duty<'a> {
    /// Watches Main, and lets every node be connected with.
    pub(super) fn begin(
        daemon: &'a Daemon<'a>,
        config: Config,
        number: u64,
        since: SystemTime,
    ) -> anyhow::Result<Duty<'a>> {
        let machine = &daemon.machine;
        let stop = Arc::new(AtomicBool::new(false));
        let services = Services {
            now: Arc::new(machine.now),
            new_id: Arc::new(machine.new_id),
            progress: Arc::new(Silent),
            stop: Arc::clone(&stop),
        };
        let state = StateDir::open(&config.sync.state_dir)?;
        let site = Arc::new(Site::open_in(state, None, config.clone(), Access::Change, services)?);
        let core = Core { queues: Queues::new(layout(site.config())), ..Core::default() };
        let now = (machine.monotonic)();
        let lanes = site.config().nodes.iter().map(|node| Ok((node.name.clone(), Lane::new()?)));
        let lanes: std::io::Result<BTreeMap<String, Lane>> = lanes.collect();
        let new_node = || NodeState { since: None, error: None, last_change: None, logged: None };
        let nodes = site.config().nodes.iter().map(|node| (node.name.clone(), new_node())).collect();
        let mut duty = Duty {
            daemon,
            number,
            since,
            config,
            stop,
            core: Arc::new(Mutex::new(core)),
            lanes: Arc::new(lanes.context("no wake-up for a node's thread")?),
            main_watch: Arc::new(MainWatch::new().context("no wake-up for Main's watches")?),
            threads: Vec::new(),
            under_way: Weak::new(),
            mains: Vec::new(),
            begun: BTreeMap::new(),
            asked: VecDeque::new(),
            nodes,
            polled: BTreeSet::new(),
            next_full: Some(now),
            next_poll: now + POLL,
            lock_again: now,
            watch_main_again: None,
            standby: None,
            first: None,
            other_main: false,
            site,
        };
        duty.watch_main();
        duty.start_threads()?;
        Ok(duty)
    }

    fn start_threads(&mut self) -> anyhow::Result<()> {
        let tell = self.teller();
        let main_watch = Arc::clone(&self.main_watch);
        let thread = thread::Builder::new().name("main".to_owned());
        self.threads.push(thread.spawn(move || main_watch.run(|seen| tell(Own::SeenOnMain(seen))))?);
        for node in self.site.config().nodes.iter().map(|node| node.name.clone()) {
            let (tell, site, lanes) = (self.teller(), Arc::clone(&self.site), Arc::clone(&self.lanes));
            let watched = self.watched_on(&node);
            let machine = self.machine().clone();
            let thread = thread::Builder::new().name("node".to_owned());
            self.threads.push(thread.spawn(move || {
                let Some(lane) = lanes.get(&node) else { return };
                lane.run(&LaneWork {
                    connect: &|| site.connect(&node),
                    watched: &watched,
                    tell: &|told| {
                        tell(match told {
                            Told::Up(polled) => Own::Up(node.clone(), polled),
                            Told::Down(error) => Own::Down(node.clone(), error),
                            Told::Seen(seen) => Own::Seen(node.clone(), seen),
                        });
                    },
                    chance: machine.chance,
                    now: machine.monotonic,
                });
            })?);
        }
        Ok(())
    }

    fn machine(&self) -> &Machine {
        &self.daemon.machine
    }

    fn now(&self) -> Duration {
        (self.machine().monotonic)()
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends to this daemon's own loop.
    fn teller(&self) -> impl Fn(Own) + Send + Sync + 'static + use<> {
        let (outbox, number) = (Mutex::new(self.daemon.outbox.clone()), self.number);
        move |own| {
            let outbox = outbox.lock().unwrap_or_else(PoisonError::into_inner);
            // A daemon that has ended needs no more.
            let _ = outbox.send(Message::Own(number, own));
        }
    }

    /// The directories that a node changes too, as they are scanned there.
    fn watched_on(&self, node: &str) -> Vec<ScanSpec> {
        let config = self.site.config();
        let Some(node) = config.nodes.iter().find(|known| known.name == node) else { return Vec::new() };
        let two_way = config.directories.iter().filter(|directory| directory.direction == Direction::Both);
        let here = two_way.filter(|directory| directory.is_for(node));
        here.map(|directory| config.scan_spec(directory, Some(node), false)).collect()
    }

    /// Makes the watches on Main anew. What cannot be watched is polled, which is said once.
    fn watch_main(&mut self) {
        self.watch_main_again = None;
        let config = self.site.config();
        let specs: Vec<ScanSpec> =
            config.directories.iter().map(|directory| config.scan_spec(directory, None, false)).collect();
        let mut main = self.mains.pop().unwrap_or_else(|| self.site.main_disk());
        let watching = main.watch(&specs);
        self.mains.push(main);
        let Ok(Watching { roots, watches }) = watching else { return };
        let why = roots.into_iter().zip(&specs);
        let polled = why.filter_map(|(root, spec)| Some((spec.directory.clone(), root.err()?.to_string())));
        self.set_polled(None, polled.collect());
        self.main_watch.replace(watches);
    }

    fn set_polled(&mut self, node: Option<&str>, now: BTreeMap<String, String>) {
        let new: Vec<Polled> = now
            .into_iter()
            .map(|(directory, why)| Polled { node: node.map(str::to_owned), directory, why: clean(&why) })
            .collect();
        for polled in &new {
            if !self.polled.contains(polled) {
                let host = node.map_or_else(|| "Main".to_owned(), |node| escape_for_people(node.as_bytes()));
                log::warn!(
                    "{}: no events of {host}: {}; it is looked at every {} s instead",
                    polled.directory,
                    polled.why,
                    POLL.as_secs()
                );
            }
        }
        self.polled.retain(|polled| polled.node.as_deref() != node);
        self.polled.extend(new);
    }

    // --- what has happened --------------------------------------------------------------------------------

    pub(super) fn take(&mut self, own: Own) {
        match own {
            Own::SeenOnMain(seen) => self.see(None, seen),
            Own::Seen(node, seen) => self.see(Some(node), seen),
            Own::Up(node, polled) => self.up(&node, polled),
            Own::Down(node, error) => self.down(&node, error),
            Own::Released(run, node) => self.core().queues.released(run, &node),
            Own::Over(run, over) => self.over(run, *over),
            Own::Found(config) => self.found(&config),
        }
    }

    fn see(&mut self, host: Option<String>, seen: Vec<Seen>) {
        let now = self.now();
        let mut moved = false;
        {
            let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
            let gather = core.gathers.entry(host.clone()).or_default();
            for seen in seen {
                let known = self.config.directories.iter().find(|directory| directory.name == seen.root());
                // A node may name what it likes.
                let is_meant =
                    |directory: &&Directory| host.is_none() || directory.direction == Direction::Both;
                let Some(directory) = known.filter(is_meant) else { continue };
                match seen {
                    Seen::Path { root, path, kind } => {
                        gather.add(now, &root, &path, kind, directory.settle);
                    }
                    Seen::Whole { root } => gather.add_whole(now, &root),
                    Seen::Gone { root } => {
                        gather.add_whole(now, &root);
                        moved = true;
                    }
                }
            }
        }
        if moved && host.is_none() {
            self.watch_main_again = Some(now + WATCH_AGAIN / 10);
        }
    }

    fn up(&mut self, node: &str, polled: BTreeMap<String, String>) {
        let (now, time) = (self.now(), (self.machine().now)());
        self.set_polled(Some(node), polled);
        let Some(state) = self.nodes.get_mut(node) else { return };
        let is_new = state.since.is_none();
        if state.logged.is_some_and(|logged| logged.is_some()) {
            log::info!("{}: connected again", escape_for_people(node.as_bytes()));
        }
        (state.logged, state.error) = (Some(None), None);
        if is_new {
            state.since = Some(time);
            self.core().queues.up(now, node);
        }
    }

    fn down(&mut self, node: &str, error: NodeError) {
        self.core().queues.down(node);
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        let Some(state) = self.nodes.get_mut(node) else { return };
        // Once for each state, not for each attempt.
        if state.logged != Some(Some(error.kind)) {
            log::warn!(
                "{}: not connected, tried again and again: {}",
                escape_for_people(node.as_bytes()),
                clean(&error.detail)
            );
        }
        (state.logged, state.since, state.error) = (Some(Some(error.kind)), None, Some(error));
    }

    fn over(&mut self, run: u64, mut over: Over) {
        let Some(begun) = self.begun.remove(&run) else { return };
        self.mains.extend(over.main.take());
        let (now, chance) = (self.now(), (self.machine().chance)());
        let directories = &self.config.directories;
        let find = |name: &str| directories.iter().find(|directory| directory.name == name);
        let results = match &over.report {
            Ok(report) => {
                for change in &report.changes {
                    if let Some(node) = self.nodes.get_mut(&change.node) {
                        node.last_change = Some(report.started + report.duration);
                    }
                }
                run::results(
                    report,
                    &begun.directories,
                    |name| find(name).map_or(Duration::ZERO, |directory| directory.settle),
                    |name, kind| {
                        find(name).is_some_and(|directory| directory.reload.iter().any(|is| is == kind))
                    },
                )
            }
            Err(error) => {
                log::error!("run: {error:#}");
                let failed = begun.directories.iter().cloned().collect::<BTreeSet<_>>();
                let result = crate::watch::NodeResult { failed, ..Default::default() };
                self.nodes.keys().map(|node| (node.clone(), result.clone())).collect()
            }
        };
        self.core().queues.finished(now, run, &results, chance);
        if begun.is_full {
            self.first.get_or_insert(over.exit_code);
        }
        if let Some((request, answers)) = begun.asked {
            let answer = self.answer(&request, &over);
            // A client that has gone needs no answer.
            let _ = answers.send(answer);
        }
    }

    fn answer(&self, request: &SyncRequest, over: &Over) -> Event {
        let report = match &over.report {
            Ok(report) => report,
            Err(error) => return Event::Refused { why: clean(&format!("{error:#}")) },
        };
        let style = |verbosity, color| Style { verbosity, color };
        let style = match request.format {
            Format::Json => None,
            Format::Quiet => Some(style(Verbosity::Quiet, false)),
            Format::Normal => Some(style(Verbosity::Normal, false)),
            Format::Verbose => Some(style(Verbosity::Verbose, false)),
            Format::QuietColor => Some(style(Verbosity::Quiet, true)),
            Format::NormalColor => Some(style(Verbosity::Normal, true)),
            Format::VerboseColor => Some(style(Verbosity::Verbose, true)),
        };
        if let Some(mail) = over.mail.clone() {
            let (exit_code, differences) = (over.exit_code, report.has_differences());
            return Event::Done { exit_code, differences, failures: Vec::new(), output: mail };
        }
        let output = match style {
            None => json::render(report, over.exit_code),
            Some(style) => {
                let mut out = Vec::new();
                // Writing to memory does not fail.
                let _ = text::write(report, style, &mut out);
                String::from_utf8_lossy(&out).into_owned()
            }
        };
        Event::Done {
            exit_code: over.exit_code,
            differences: report.has_differences(),
            failures: self.site.nodes().failures().to_vec(),
            output,
        }
    }

    /// Discovery has answered, for a full run: where it found other nodes, all begins anew with these.
    fn found(&mut self, config: &Config) {
        if config.nodes != self.site.config().nodes {
            self.other_main = true;
        } else {
            self.begin_full();
        }
    }

    // --- what is asked ------------------------------------------------------------------------------------

    /// The configuration that a client means, where it is not the one that counts here but the one that the daemon would
    /// read now.
    pub(super) fn other_configuration(&self, request: &SyncRequest) -> Option<Box<Config>> {
        let meant = request.config.as_ref().filter(|meant| **meant != digest(&self.config))?;
        let config = (self.daemon.load)().ok()?;
        (digest(&config) == *meant).then(|| Box::new(config))
    }

    pub(super) fn ask(&mut self, request: SyncRequest, answers: Sender<Event>) {
        let is_other = request.config.as_ref().is_some_and(|meant| *meant != digest(&self.config));
        let config = self.site.config();
        let unknown = |asked: &[String], known: &[&str]| {
            asked
                .iter()
                .find(|name| !known.contains(&name.as_str()))
                .map(|name| escape_for_people(name.as_bytes()))
        };
        let nodes: Vec<&str> = config.nodes.iter().map(|node| &*node.name).collect();
        let directories: Vec<&str> = config.directories.iter().map(|directory| &*directory.name).collect();
        let refused = unknown(&request.nodes, &nodes)
            .or_else(|| unknown(&request.directories, &directories))
            .map(|name| Event::Refused { why: format!("unknown name: {name}") });
        let answer = if is_other { Some(Event::OtherConfiguration) } else { refused };
        match answer {
            // A client that has gone needs no answer.
            Some(answer) => drop(answers.send(answer)),
            None => self.asked.push_back((request, answers)),
        }
    }

    pub(super) fn live(&self) -> Live {
        let (now, time) = (self.now(), (self.machine().now)());
        let core = self.core();
        let node = |(name, state): (&String, &NodeState)| {
            let (queue, lag) = core.queues.waiting(now, name);
            LiveNode {
                name: name.clone(),
                connected_since: state.since.map(rfc3339),
                error: state.error.as_ref().map(|error| clean(&error.detail)),
                queue,
                lag_ms: lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
                last_change: state.last_change.map(rfc3339),
            }
        };
        Live {
            pid: self.machine().pid,
            since: rfc3339(self.since),
            next_run: self.next_full.map(|at| rfc3339(time + at.saturating_sub(now))),
            running: self.begun.len(),
            nodes: self.nodes.iter().map(node).collect(),
            polled: self.polled.iter().cloned().collect(),
        }
    }

    // --- what is next -------------------------------------------------------------------------------------

    /// Does what is due. `Some`: the duty is over.
    pub(super) fn proceed(&mut self) -> Option<End> {
        let now = self.now();
        if self.other_main {
            return Some(End::Reload(Box::new(self.config.clone())));
        }
        if self.watch_main_again.is_some_and(|at| at <= now) {
            self.watch_main();
        }
        if self.next_poll <= now {
            self.poll(now);
        }
        self.take_gathered(now);
        if self.is_standby() {
            self.next_full = self.next_full.map(|at| at.max(now + POLL));
            return None;
        }
        if self.next_full.is_some_and(|at| at <= now) {
            self.next_full = self.schedule(now);
            if self.config.discovery.is_used() && self.first.is_some() {
                self.discover();
            } else {
                self.begin_full();
            }
        }
        self.begin_runs(now);
        if self.daemon.once
            && let Some(code) = self.first
        {
            let core = self.core();
            let is_quiet = core.gathers.values().all(|gather| gather.next_due(|_| true).is_none());
            if core.queues.is_done() && self.asked.is_empty() && is_quiet {
                return Some(End::Once(code));
            }
        }
        None
    }

    /// When [`Duty::proceed`] has something to do, if nothing happens before.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let (now, core) = (self.now(), self.core());
        let gathered = core
            .gathers
            .values()
            .filter_map(|gather| gather.next_due(|directory| core.queues.is_idle(directory)));
        let waits_for_lock = core.queues.wants_run(now, true) || !self.asked.is_empty();
        let lock = (waits_for_lock && self.lock_again > now).then_some(self.lock_again);
        let others = [core.queues.next_due(now), core.reloads.next_due(), self.next_full, lock];
        let polls = (!self.polled.is_empty()).then_some(self.next_poll);
        gathered.chain(others.into_iter().flatten()).chain(polls).chain(self.watch_main_again).min()
    }

    fn schedule(&self, now: Duration) -> Option<Duration> {
        let time = (self.machine().now)();
        let next = self.config.schedule.next_after(time)?;
        Some(now + next.duration_since(time).unwrap_or_default() + JITTER.mul_f64((self.machine().chance)()))
    }

    fn poll(&mut self, now: Duration) {
        self.next_poll = now + POLL;
        let polled: BTreeSet<String> = self.polled.iter().map(|polled| polled.directory.clone()).collect();
        let mut core = self.core();
        for directory in polled {
            core.queues.poll(now, &directory);
        }
    }

    /// Hands on to the queues what has been gathered.
    fn take_gathered(&mut self, now: Duration) {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let Core { gathers, queues, reloads } = &mut *core;
        for gather in gathers.values_mut() {
            let taken = gather.take(now, |directory| queues.is_idle(directory));
            for (directory, dirt) in taken {
                queues.mark(now, &directory, None, &dirt);
            }
        }
        for (node, kind) in reloads.due(now) {
            let naming = self.config.directories.iter().filter(|directory| directory.reload.contains(&kind));
            naming.for_each(|directory| {
                queues.mark(now, &directory.name, Some(&node), &Dirt::default());
            });
        }
    }

    /// Whether this host may not act as Main now, which is said once.
    fn is_standby(&mut self) -> bool {
        let role = match (self.machine().standby)() {
            Ok(role) => role,
            Err(error) => Some(format!("{error:#}")),
        };
        if role != self.standby {
            match &role {
                Some(role) => log::warn!("this host is not the master ({}): nothing is done", clean(role)),
                None => {
                    log::info!("this host is the master again");
                    self.next_full = Some(self.now());
                }
            }
            self.standby.clone_from(&role);
        }
        role.is_some()
    }

    /// Asks discovery, beside all else.
    fn discover(&mut self) {
        let (tell, config, now) = (self.teller(), self.config.clone(), (self.machine().now)());
        let discovery = thread::Builder::new().name("discovery".to_owned());
        let started = discovery.spawn(move || match KnownNodes::find(config, now) {
            Ok(found) => tell(Own::Found(Box::new(found.config().clone()))),
            Err(error) => log::error!("discovery: {error:#}"),
        });
        match started {
            Ok(thread) => self.threads.push(thread),
            Err(error) => log::error!("discovery: {error}"),
        }
        self.threads.retain(|thread| !thread.is_finished());
    }

    /// A full run, as cron would start it.
    fn begin_full(&mut self) {
        if self.first.is_some() {
            self.watch_main();
        }
        let (sender, _) = std::sync::mpsc::channel();
        // Before what clients ask: the first run of all begins here.
        self.asked
            .push_front((SyncRequest { config: Some(String::new()), ..SyncRequest::default() }, sender));
    }

    /// Begins every run that can begin.
    fn begin_runs(&mut self, now: Duration) {
        if now < self.lock_again || (self.asked.is_empty() && !self.core().queues.wants_run(now, true)) {
            return;
        }
        let shared = match self.shared() {
            Ok(Some(shared)) => shared,
            Ok(None) => {
                self.lock_again = now + LOCK_AGAIN;
                return;
            }
            Err(error) => {
                log::error!("no run: {error:#}");
                self.lock_again = now + POLL;
                return;
            }
        };
        if self.other_main {
            return;
        }
        while let Some((request, _)) = self.asked.front() {
            let directories: BTreeSet<String> = match request.directories.is_empty() {
                true => self.config.directories.iter().map(|directory| directory.name.clone()).collect(),
                false => request.directories.iter().cloned().collect(),
            };
            if !self.core().queues.may_begin(&directories) {
                break;
            }
            if let Some((request, answers)) = self.asked.pop_front() {
                self.begin_asked(now, &shared, request, answers);
            }
        }
        // While a run that was asked for waits, no other that it waits for begins, or it would wait for ever.
        let with_two_way = self.asked.is_empty();
        loop {
            let plan = self.core().queues.next_run(now, with_two_way);
            let Some(plan) = plan else { return };
            let options = Options {
                nodes: plan.nodes.clone(),
                directories: plan.directories.clone(),
                complete: self.complete(now),
                hold_young: true,
                ..Options::default()
            };
            let begun = Begun { directories: plan.directories.clone(), asked: None, is_full: false };
            self.start(&shared, plan, options, begun);
        }
    }

    fn begin_asked(
        &mut self,
        now: Duration,
        shared: &Arc<Shared>,
        request: SyncRequest,
        answers: Sender<Event>,
    ) {
        // See `begin_full`: no client means the empty digest.
        let is_full = request.config.as_deref() == Some("");
        let options = Options {
            dry_run: request.dry_run,
            nodes: request.nodes.clone(),
            directories: request.directories.clone(),
            checksum: request.checksum,
            reload_always: request.reload,
            accept: request.accept_deletes.clone(),
            complete: self.complete(now),
            hold_young: is_full,
        };
        let plan = self.core().queues.ask(&request.nodes, &request.directories, request.dry_run);
        let begun = Begun { directories: plan.directories.clone(), asked: Some((request, answers)), is_full };
        self.start(shared, plan, options, begun);
    }

    /// Files that are known to be whole.
    fn complete(&self, now: Duration) -> BTreeMap<(Option<String>, String), Vec<crate::model::RelPathBuf>> {
        let core = self.core();
        let mut complete = BTreeMap::new();
        for (host, gather) in &core.gathers {
            for directory in &self.config.directories {
                let files = gather.complete(now, &directory.name);
                if !files.is_empty() {
                    complete.insert((host.clone(), directory.name.clone()), files);
                }
            }
        }
        complete
    }

    /// What runs that are under way have in common. `None`: another process holds the lock.
    fn shared(&mut self) -> anyhow::Result<Option<Arc<Shared>>> {
        if let Some(shared) = self.under_way.upgrade() {
            return Ok(Some(shared));
        }
        let state = self.site.state();
        let Some(lock) = state.lock(self.machine().pid)? else { return Ok(None) };
        self.site.nodes().remember(state);
        if state.identity()?.as_ref() != Some(self.site.identity()) {
            // `init --takeover`, say: sessions have to be made anew.
            self.other_main = true;
        }
        let runs = sync::Shared::new(state, self.config.sync.bandwidth)?;
        let begun = BegunRun { run: (self.machine().new_id)(), started: rfc3339((self.machine().now)()) };
        if let Some(BegunRun { run, started }) = state.begin_run(&begun)? {
            log::warn!(
                "the run {run} before this one, begun at {started}, did not end: it was killed, or this host went down"
            );
        }
        let shared = Shared::new(runs, state.clone(), lock);
        self.under_way = Arc::downgrade(&shared);
        Ok(Some(shared))
    }

    fn start(&mut self, shared: &Arc<Shared>, plan: RunPlan, options: Options, begun: Begun) {
        let tell = Arc::new(self.teller());
        let RunPlan { number, nodes, .. } = plan;
        let released = Arc::clone(&tell);
        let core = Arc::clone(&self.core);
        let monotonic = self.machine().monotonic;
        let is_a_persons = begun.asked.is_some() && !begun.is_full;
        let naming: Vec<(String, Vec<String>)> = {
            let directories = &self.config.directories;
            directories.iter().map(|directory| (directory.name.clone(), directory.reload.clone())).collect()
        };
        let running = Running {
            site: Arc::clone(&self.site),
            shared: Arc::clone(shared),
            lanes: Arc::clone(&self.lanes),
            options,
            progress: match &begun.asked {
                Some((_, answers)) if !begun.is_full => Arc::new(Telling(Mutex::new(answers.clone()))),
                _ => Arc::new(Silent),
            },
            is_asked: begun.asked.is_some(),
            is_for_cron: begun.asked.as_ref().is_some_and(|(request, _)| request.cron),
            released: Box::new(move |node| released(Own::Released(number, node.to_owned()))),
            may_reload: Box::new(move |node, kind| {
                let mut core = core.lock().unwrap_or_else(PoisonError::into_inner);
                if is_a_persons {
                    core.reloads.reload_now(monotonic(), node, kind);
                    return true;
                }
                let is_named = |names: &[String]| names.iter().any(|name| name == kind);
                let more = naming.iter().any(|(name, kinds)| is_named(kinds) && core.has_more(node, name));
                core.reloads.may_reload(monotonic(), node, kind, more)
            }),
        };
        let main = self.mains.pop().unwrap_or_else(|| self.site.main_disk());
        self.begun.insert(number, begun);
        let started = thread::Builder::new().name("run".to_owned()).spawn(move || {
            let over = running.carry_out(main);
            // The lock is given back before anybody is told.
            drop(running);
            tell(Own::Over(number, Box::new(over)));
        });
        if let Err(error) = started {
            log::error!("no thread for a run: {error}");
            self.begun.remove(&number);
            let lost = crate::watch::NodeResult { lost: true, ..Default::default() };
            let results = nodes.into_iter().map(|node| (node, lost.clone())).collect();
            let now = self.now();
            self.core().queues.finished(now, number, &results, 0.0);
        }
    }

    /// Ends everything in good order: runs at their next safe place, sessions, threads.
    pub(super) fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.main_watch.end();
        self.lanes.values().for_each(Lane::end);
        let until = self.now() + ENDING;
        while self.now() < until {
            self.threads.retain(|thread| !thread.is_finished());
            if self.threads.is_empty() && self.under_way.strong_count() == 0 {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Tells configurations apart.
pub(crate) fn digest(config: &Config) -> String {
    blake3::hash(format!("{config:?}").as_bytes()).to_hex().to_string()
}

fn layout(config: &Config) -> Layout {
    let directories = config.directories.iter();
    let names = |node| {
        let own = config.directories.iter().filter(|directory| directory.is_for(node));
        own.map(|directory| directory.name.clone()).collect()
    };
    Layout {
        directories: directories
            .map(|directory| (directory.name.clone(), directory.direction == Direction::Both))
            .collect(),
        nodes: config.nodes.iter().map(|node| (node.name.clone(), names(node))).collect(),
    }
}
