//! Carries a script out, and looks at every step for what must never be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use xds_sync::node::Local;
use xds_sync::report::{NodeReport, Report};
use xds_sync::state::StateDir;
use xds_sync::sync::{self, Environment, Options, Silent, Spec};

use super::check::{check_contents, check_excluded, everything, lines, numbers};
use super::daemon::{ByDaemon, Daemon};
use super::disk::{self, Listing, Thing};
use super::net::{self, Gate, Net, Streams, words};
use super::script::{BOTH, Fault, PUSH, Run, Script, Setting, Step};
use super::watch;
use super::world::{self, World, names_and_contents};

/// More runs than any cluster needs until nothing is left to do.
const MOST_RUNS: usize = 8;
pub(super) const DIRECTORIES: [&str; 2] = ["conf", "rec"];

pub(super) type Listings = BTreeMap<(usize, usize), Listing>;

pub struct History {
    pub(super) world: World,
    /// A directory, a path and a content that stood nowhere any more when all were in step.
    pub(super) buried: BTreeSet<(usize, String, u32)>,
    /// All that ever stood anywhere.
    pub(super) ever: BTreeSet<(usize, String, u32)>,
    /// What was changed on a node itself.
    pub(super) own: BTreeSet<(usize, usize, String)>,
    /// By directory and path: what each host's people did last since all were in step; `None`: deleted.
    pub(super) changed: BTreeMap<(usize, String), BTreeMap<usize, Option<Thing>>>,
    /// Whether anything ever went wrong: a killed run may have left file content in a stage.
    pub(super) troubled: bool,
    /// A node lost its base: what it still has may come back.
    pub(super) merged: bool,
    pub(super) images: BTreeSet<usize>,
    /// Host, directory and path of what came into a directory by a change of the configuration since the last run.
    uncovered: BTreeSet<(usize, usize, String)>,
    /// Nodes answer in the opposite order.
    backwards: bool,
    /// While it lives.
    pub(super) daemon: Option<Daemon>,
}

/// What stands at the paths of each host's directories.
pub type Stands = BTreeMap<(usize, usize), BTreeMap<String, Thing>>;

/// What people did to a host's directory while a run was on its way: what stood there before, and after that where no run
/// was at work just then.
pub(super) type Edited = Arc<Mutex<Vec<(usize, usize, Listing, Option<Listing>)>>>;

/// What a run came to. A killed Main has no report.
pub(super) type Ran = Option<Report>;

/// What runs came to that were checked together.
pub(super) trait Reported {
    /// The report, where there is one run alone.
    fn report(&self) -> Option<&Report> {
        None
    }
}

impl Reported for () {}

impl Reported for Report {
    fn report(&self) -> Option<&Report> {
        Some(self)
    }
}

impl History {
    pub fn new(script: &Script, backwards: bool) -> History {
        History {
            world: World::new(script),
            buried: BTreeSet::new(),
            ever: BTreeSet::new(),
            own: BTreeSet::new(),
            changed: BTreeMap::new(),
            troubled: false,
            merged: false,
            images: BTreeSet::new(),
            uncovered: BTreeSet::new(),
            backwards,
            daemon: None,
        }
    }

    /// Carries out the script. Returns what stands where then; the error is what went wrong, and at which step.
    pub fn play(mut self, script: &Script) -> Result<Stands, String> {
        for (at, step) in script.steps.iter().enumerate() {
            self.step(step).map_err(|wrong| format!("step {at}, {step:?}:\n  {wrong}"))?;
        }
        self.last().map_err(|wrong| format!("at the end:\n  {wrong}"))?;
        let all = self.world.list_all();
        Ok(all
            .into_iter()
            .map(|(place, listing)| (place, names_and_contents(&self.world.setup, &listing)))
            .collect())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Change { host, dir, op } => {
                if !self.world.setup.directories().contains(dir) {
                    return Ok(());
                }
                let before = self.world.list(*host, *dir);
                self.world.edit(*host, *dir, op);
                self.record_change(*host, *dir, &before);
            }
            Step::Wait { seconds } => self.world.clock.advance(Duration::from_secs(*seconds)),
            Step::Run(run) => {
                self.run(run)?;
            }
            Step::Turn(run) => self.turn(run)?,
            Step::Settle => self.settle()?,
            Step::Configure(setting) => self.configure(*setting),
            Step::Converge => self.converge()?,
            Step::Image { node } => {
                let image = self.world.base.join(format!("image{node}"));
                let _ = fs::remove_dir_all(&image);
                disk::copy(&self.world.base.join(format!("h{node}")), &image);
                self.images.insert(*node);
            }
            Step::Restore { node } => {
                let here = self.world.base.join(format!("h{node}"));
                let image = self.world.base.join(format!("image{node}"));
                if self.images.contains(node) {
                    fs::remove_dir_all(&here).unwrap();
                    disk::copy(&image, &here);
                    self.lost_base(*node);
                }
            }
            Step::NewDisk { node, dir } => {
                let root = self.world.root(*node, *dir);
                let keep = self.world.root(*node, BOTH);
                for entry in fs::read_dir(&root).unwrap().flatten() {
                    if entry.path() != keep {
                        disk::remove(&entry.path());
                    }
                }
                self.lost_base(*node);
            }
            Step::Stands { dir, path, content } => {
                for host in 0..=self.world.nodes {
                    let now = self.world.list(host, *dir).remove(*path).map(|seen| seen.thing);
                    if now != content.map(Thing::File) {
                        return Err(format!("on host {host} it is {now:?}"));
                    }
                }
            }
            Step::StandsOn { host, dir, path, content } => {
                let now = self.world.list(*host, *dir).remove(*path).map(|seen| seen.thing);
                if now != Some(Thing::File(*content)) {
                    return Err(format!("it is {now:?}"));
                }
            }
            Step::Unmounted { dir } => self.unmounted(*dir)?,
            Step::DamagedBase { node, dir } => {
                let path = self.world.state_dir(0).join(format!("edges/{}/node{node}", DIRECTORIES[*dir]));
                if let Ok(edge) = fs::read(&path) {
                    fs::write(&path, &edge[..edge.len() / 2]).unwrap();
                    self.lost_base(*node);
                }
            }
        }
        Ok(())
    }

    /// Records what somebody just changed on a host.
    fn record_change(&mut self, host: usize, dir: usize, before: &Listing) {
        let after = self.world.list(host, dir);
        self.record_between(host, dir, before, &after);
    }

    fn record_between(&mut self, host: usize, dir: usize, before: &Listing, after: &Listing) {
        let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for path in paths {
            if before.get(path) == after.get(path) {
                continue;
            }
            let now = after.get(path).map(|seen| seen.thing.clone());
            if let Some(Thing::File(number)) = now {
                self.buried.remove(&(dir, path.clone(), number));
                self.ever.insert((dir, path.clone(), number));
            }
            if host > 0 {
                self.own.insert((host, dir, path.clone()));
            }
            self.changed.entry((dir, path.clone())).or_default().insert(host, now);
        }
    }

    /// What belongs to a directory from now on may have been there unseen: nothing is known of how it must end, but
    /// that the next run deletes nothing of it on a node that alone has it.
    fn configure(&mut self, setting: Setting) {
        let before = self.world.list_all();
        self.world.configure(setting);
        // It begins anew.
        self.daemon = None;
        for ((host, dir), listing) in self.world.list_all() {
            let known = before.get(&(host, dir));
            let is_new = |path: &String| {
                let was_excluded = matches!(setting, Setting::BakExcluded(false)) && path.ends_with(".bak");
                was_excluded || known.is_some_and(|known| !known.contains_key(path))
            };
            self.uncovered.extend(listing.into_keys().filter(is_new).map(|path| (host, dir, path)));
        }
        self.changed.clear();
        self.buried.clear();
        self.merged = true;
    }

    /// What came into a directory by a change of the configuration stands on nodes that alone have it.
    fn check_uncovered(&self, before: &Listings, after: &Listings) -> Result<(), String> {
        for (host, dir, path) in &self.uncovered {
            let stood = |host: usize| before.get(&(host, *dir)).and_then(|listing| listing.get(path));
            let stands = after.get(&(*host, *dir)).is_some_and(|listing| listing.contains_key(path));
            let is_file = stood(*host).is_some_and(|seen| matches!(seen.thing, Thing::File(_)));
            let others = (0..=self.world.nodes).filter(|other| other != host);
            if is_file && !stands && others.into_iter().all(|other| stood(other).is_none()) {
                return Err(format!(
                    "{}/{path} was deleted on node {host} by the first run that it belonged to",
                    DIRECTORIES[*dir]
                ));
            }
        }
        Ok(())
    }

    /// A node's base is gone: whatever it has may come to stand again, and what its people did last may not.
    fn lost_base(&mut self, node: usize) {
        for by in self.changed.values_mut() {
            by.remove(&node);
        }
        // Its machine has begun anew as well, or looks at the whole of it.
        self.daemon = None;
        self.merged = true;
        self.troubled = true;
        self.buried.clear();
    }

    /// One run of Main; checks what must hold after every run, however it ended.
    fn run(&mut self, run: &Run) -> Result<Ran, String> {
        self.go(run, &[])
    }

    pub(super) fn go(&mut self, run: &Run, accept: &[String]) -> Result<Ran, String> {
        self.go_with(run, &Options { accept: accept.to_vec(), ..Options::default() }, None)
    }

    /// A run of the daemon, or of a process of its own.
    pub(super) fn go_with(
        &mut self,
        run: &Run,
        options: &Options,
        by: Option<(&ByDaemon, u64)>,
    ) -> Result<Ran, String> {
        self.checked(run, options, by.is_some(), |history, edited| {
            history.carry_out(run, options, by, edited)
        })
    }

    /// Checks what must hold after a run, or some that were under way at the same time.
    pub(super) fn checked<T>(
        &mut self,
        run: &Run,
        options: &Options,
        by_daemon: bool,
        go: impl FnOnce(&History, &Edited) -> Result<Option<T>, String>,
    ) -> Result<Option<T>, String>
    where
        T: Reported,
    {
        if !run.faults.is_empty() || !run.cuts.is_empty() {
            self.troubled = true;
        }
        for node in 1..=self.world.nodes {
            // With no reload on record, what a node has before its first run counts as loaded.
            let now = names_and_contents(&self.world.setup, &self.world.list(node, PUSH));
            self.world.loaded.lock().unwrap().entry(node).or_insert(now);
        }
        let calm = run.faults.is_empty() && run.cuts.is_empty();
        let planned = if run.dry_first && calm && !by_daemon { Some(self.dry_run(run)?) } else { None };
        let before = self.world.list_all();
        self.world.clock.advance(Duration::from_millis(10));
        let edited = Arc::new(Mutex::new(Vec::new()));
        let report = go(self, &edited)?;
        self.world.clock.advance(Duration::from_millis(10));
        let edited = std::mem::take(&mut *edited.lock().unwrap());
        // What people changed meanwhile did not come from the run.
        let mut lost_by_hand: BTreeSet<u32> = BTreeSet::new();
        let mut touched = BTreeSet::new();
        for (host, dir, was, then) in &edited {
            self.record_edit((*host, *dir), was, then.as_ref());
            lost_by_hand.extend(numbers(was));
            touched.insert((*host, *dir));
        }
        let after = self.world.list_all();
        self.check_bases();
        check_contents(&after)?;
        check_excluded(&self.world.setup, &before, &after, &touched)?;
        self.check_nothing_lost(&before, &after, &lost_by_hand)?;
        if !touched.contains(&(0, PUSH)) && before[&(0, PUSH)] != after[&(0, PUSH)] {
            return Err("Main's pushed directory was changed by a run".to_owned());
        }
        if options.accept.is_empty() && edited.is_empty() {
            self.check_guard(&before, &after)?;
            self.check_uncovered(&before, &after)?;
        }
        // From then on it is as everything else.
        if report.is_some() {
            self.uncovered.clear();
        }
        if let (Some(planned), Some(report)) = (planned, report.as_ref().and_then(Reported::report))
            && lines(&planned) != lines(report)
        {
            return Err(format!(
                "a dry run printed\n  {}\nand the run did\n  {}",
                lines(&planned),
                lines(report)
            ));
        }
        for ((_, dir), listing) in &after {
            for (path, seen) in listing {
                if let Thing::File(number) = seen.thing {
                    self.ever.insert((*dir, path.clone(), number));
                }
            }
        }
        Ok(report)
    }

    fn record_edit(&mut self, (host, dir): (usize, usize), before: &Listing, after: Option<&Listing>) {
        match after {
            Some(after) => self.record_between(host, dir, before, after),
            None => self.record_change(host, dir, before),
        }
        // Which of a run's doings came before it is not known.
        self.buried.retain(|(of, ..)| *of != dir);
    }

    fn dry_run(&self, run: &Run) -> Result<Report, String> {
        let before = everything(&self.world);
        let options = Options { dry_run: true, ..Options::default() };
        let report = self.carry_out(run, &options, None, &Arc::default())?;
        if everything(&self.world) != before {
            return Err("a dry run changed something".to_owned());
        }
        report.ok_or_else(|| "a dry run was killed".to_owned())
    }

    fn carry_out(
        &self,
        run: &Run,
        options: &Options,
        by: Option<(&ByDaemon, u64)>,
        edited: &Edited,
    ) -> Result<Ran, String> {
        let streams = Streams::default();
        let run = if self.backwards {
            Run { order: run.order.iter().rev().copied().collect(), ..run.clone() }
        } else {
            run.clone()
        };
        let faults = if options.dry_run { Vec::new() } else { run.faults.clone() };
        self.begin(faults, &streams, edited);
        // Nobody opens a gate for one that is alone.
        let run = Run { silent: None, ..run };
        let ended = self.launch(&run, options, by, (&streams, &Arc::default()), None);
        self.end();
        ended
    }

    /// From now on these faults happen in the runs that are under way.
    pub(super) fn begin(&self, faults: Vec<Fault>, streams: &Streams, edited: &Edited) {
        let world = &self.world;
        let edit = {
            let (base, setup, clock) = (world.base.clone(), world.setup.clone(), world.clock.clone());
            let edited = Arc::clone(edited);
            move |host: usize, dir: usize, op: &super::script::Op| {
                let root = world::root(&base, &setup, host, dir);
                if !setup.directories().contains(&dir) {
                    return;
                }
                edited.lock().unwrap().push((host, dir, disk::list(&root, setup.carved(dir)), None));
                clock.advance(Duration::from_millis(200));
                world::edit(&root, clock.read(), op);
            }
        };
        let streams = Arc::clone(streams);
        watch::begin(faults, world.setup.exchange, Box::new(edit), Box::new(move || net::hang_up(&streams)));
    }

    /// No run is under way any more.
    pub(super) fn end(&self) {
        for (host, gone) in watch::end() {
            disk::empty(&self.world.base.join(format!("h{host}")), &gone);
        }
    }

    /// Makes a run, which may be one of several.
    pub(super) fn launch(
        &self,
        run: &Run,
        options: &Options,
        by: Option<(&ByDaemon, u64)>,
        (streams, gate): (&Streams, &Arc<Gate>),
        shared: Option<&sync::Shared>,
    ) -> Result<Ran, String> {
        let world = &self.world;
        let own = by.map(|(by, _)| by.own.clone());
        let own = move |host: usize| own.as_ref().map_or_else(Arc::default, |own| Arc::clone(&own[host]));
        let disk = {
            let (base, setup) = (world.base.clone(), world.setup.clone());
            let (clock, ids, loaded) = (world.clock.clone(), world.ids.clone(), Arc::clone(&world.loaded));
            let own = own.clone();
            Arc::new(move |node| {
                let options = world::local(
                    base.clone(),
                    setup.clone(),
                    clock.clone(),
                    ids.clone(),
                    Arc::clone(&loaded),
                    node,
                );
                (options, own(node))
            })
        };
        let mut run = run.clone();
        if world.setup.parallel < world.nodes || by.is_some() {
            run.order.clear();
        }
        let released = |node: &NodeReport| {
            if let Some((by, number)) = by {
                by.release(number, node);
            }
        };
        let place = (world.base.clone(), world.clock.clone(), disk as net::Disk);
        let net = Net::new(&run, place, (Arc::clone(streams), Arc::clone(gate)), &released);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let state = StateDir::open(&world.state_dir(0))?;
            let (clock, ids) = (world.clock.clone(), world.ids.clone());
            let environment = Environment {
                state: &state,
                connect: &net,
                main: Mutex::new(Box::new(Local::new(world.local(0)).sharing(own(0)))),
                now: &move || clock.read(),
                new_id: &move || ids.next(),
                progress: &Silent,
                stop: &AtomicBool::new(false),
                shared,
                may_reload: &|_, _| true,
                merged: &|directory, members| {
                    if let Some((by, _)) = by {
                        by.merged.lock().unwrap().push((directory.to_owned(), members.to_vec()));
                    }
                },
            };
            sync::run(&environment, &Spec::new(&world.config, options, true))
        }));
        net.hang_up();
        let broken = net.settle();
        let killed = watch::was_killed(0);
        if let Some(broken) = broken.first() {
            return Err(broken.clone());
        }
        match ended {
            // A thread that was killed is one node's failure, and the others have gone on to their ends.
            Ok(Ok(_)) if killed => Ok(None),
            Ok(Ok(report)) => Ok(Some(report)),
            Ok(Err(error)) if run.faults.is_empty() => Err(format!("the run ended with {error:#}")),
            Ok(Err(_)) => Ok(None),
            // Where several threads end, what the first one ended with is lost.
            Err(panic) if killed || panic.is::<watch::Killed>() => Ok(None),
            Err(panic) => Err(format!("the run panicked: {}", words(&*panic))),
        }
    }

    /// Main without one of its directories: nothing is deleted anywhere.
    fn unmounted(&mut self, dir: usize) -> Result<(), String> {
        let setup = &self.world.setup;
        if self.ever.is_empty() || (dir == PUSH && setup.nested) || !setup.directories().contains(&dir) {
            return Ok(());
        }
        let (root, away) = (self.world.root(0, dir), self.world.base.join("away"));
        let before = self.world.list_all();
        fs::rename(&root, &away).unwrap();
        fs::create_dir(&root).unwrap();
        let known = self.world.state_dir(0).join("ledger.json").exists();
        self.daemon = None;
        let ran = self.carry_out(&Run::default(), &Options::default(), None, &Arc::default());
        fs::remove_dir_all(&root).unwrap();
        fs::rename(&away, &root).unwrap();
        let report = ran?;
        for node in 1..=self.world.nodes {
            if known && self.world.list(node, dir) != before[&(node, dir)] {
                return Err(format!("node {node} was changed although Main's directory was not mounted"));
            }
        }
        if known && report.is_some_and(|report| report.exit_code() == 0) {
            return Err("it was not reported that Main's directory was not mounted".to_owned());
        }
        Ok(())
    }

    /// Runs until nothing is left to do; then all must be as it was meant.
    fn converge(&mut self) -> Result<(), String> {
        self.world.clock.advance(Duration::from_secs(30));
        let mut accept = Vec::new();
        let mut last = None;
        for _ in 0..MOST_RUNS {
            let order = (0..self.world.nodes).rev().collect();
            let run = Run { order, ..Run::default() };
            let report = self.go(&run, &accept)?.ok_or("a run without a fault was killed")?;
            accept = report.halted.iter().filter_map(|halted| halted.token.clone()).collect();
            let quiet = report.changes.is_empty() && report.halted.is_empty();
            if quiet {
                let bytes =
                    report.nodes.iter().flat_map(|node| &node.directories).map(|dir| dir.bytes).sum::<u64>();
                if bytes > 0 {
                    return Err(format!("{bytes} bytes were sent although nothing changed"));
                }
                return self.check_in_step(&report);
            }
            last = Some(report);
        }
        let last = last.map(|report| lines(&report)).unwrap_or_default();
        Err(format!("still not in step after {MOST_RUNS} runs; the last one:\n  {last}"))
    }

    /// After all of it: in step, and once what killed runs left is old, it is swept up.
    fn last(&mut self) -> Result<(), String> {
        self.converge()?;
        self.world.clock.advance(Duration::from_secs(8 * 24 * 3600));
        for dir in self.world.setup.directories().iter().copied() {
            let op = super::script::Op::Write { path: "last", content: 9_000 + u32::try_from(dir).unwrap() };
            let before = self.world.list(0, dir);
            self.world.edit(0, dir, &op);
            self.record_change(0, dir, &before);
        }
        self.converge()?;
        self.troubled = false;
        // Where nothing comes to Main, nothing is swept there.
        for host in 1..=self.world.nodes {
            for dir in self.world.setup.directories().iter().copied() {
                let left = disk::stage(&self.world.root(host, dir));
                if !left.is_empty() {
                    return Err(format!(
                        "in the stage of {} on host {host} for ever: {left:?}",
                        DIRECTORIES[dir]
                    ));
                }
            }
        }
        Ok(())
    }
}
