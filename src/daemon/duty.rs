//! The daemon under one configuration: what it knows, and what it does next.

mod asked;
mod due;
mod happened;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use crate::config::Config;
use crate::daemon::control::{Event, SyncRequest};
use crate::daemon::lane::{Lane, LaneWork, Told};
use crate::daemon::live::Polled;
use crate::daemon::main_watch::MainWatch;
use crate::daemon::run::{STORE, UnderWay};
use crate::daemon::{Daemon, ENDING, Machine, Message, Own};
use crate::model::Direction;
use crate::model::escape::{clean, escape_for_people};
use crate::node::{NodeError, NodeErrorKind, Watching};
use crate::site::{self, Access, Services, Site};
use crate::snapshot::ScanSpec;
use crate::sync::{MainSide, Silent};
use crate::watch::{Coalesce, Gather, Layout, OwnWrites, Queues, backoff};

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
    mains: Vec<Box<dyn MainSide>>,
    /// What all of them have put in place.
    own_writes: Arc<OwnWrites>,
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
        let state = site::state_of(&config)?;
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
            own_writes: Arc::default(),
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
        if duty.config.store.is_some() {
            // It is always there; where it is not, what is due is tried again.
            duty.core().queues.up(now, STORE);
        }
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
                    pause: &|failures| backoff(failures, (machine.chance)()),
                    now: machine.monotonic,
                });
            })?);
        }
        Ok(())
    }

    /// Main's disk, for a run or a watch.
    fn main_disk(&mut self) -> Box<dyn MainSide> {
        self.mains.pop().unwrap_or_else(|| self.site.main_disk(&self.own_writes))
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
        let mut main = self.main_disk();
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
    let all: BTreeSet<String> = config.directories.iter().map(|directory| directory.name.clone()).collect();
    let names = |node| {
        let own = config.directories.iter().filter(|directory| directory.is_for(node));
        own.map(|directory| directory.name.clone()).collect()
    };
    Layout {
        directories: directories
            .map(|directory| (directory.name.clone(), directory.direction == Direction::Both))
            .collect(),
        nodes: config
            .nodes
            .iter()
            .map(|node| (node.name.clone(), names(node)))
            .chain(config.store.iter().map(|_| (STORE.to_owned(), all.clone())))
            .collect(),
    }
}
