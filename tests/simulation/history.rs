//! Carries a script out, and looks at every step for what must never be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use xds_sync::node::Local;
use xds_sync::report::Report;
use xds_sync::state::StateDir;
use xds_sync::sync::{self, Options, Silent, Site};

use super::disk::{self, Listing, Thing};
use super::net::{Net, words};
use super::script::{BOTH, Fault, PUSH, Run, Script, Step};
use super::watch;
use super::world::{self, World, names_and_contents};

/// More runs than any cluster needs until nothing is left to do.
const MOST_RUNS: usize = 8;
const DIRECTORIES: [&str; 2] = ["conf", "rec"];

type Listings = BTreeMap<(usize, usize), Listing>;

pub struct History {
    world: World,
    /// A directory, a path and a content that stood nowhere any more when all were in step.
    buried: BTreeSet<(usize, String, u32)>,
    /// All that ever stood anywhere.
    ever: BTreeSet<(usize, String, u32)>,
    /// What was changed on a node itself.
    own: BTreeSet<(usize, usize, String)>,
    /// By directory and path: what each host's people did last since all were in step; `None`: deleted.
    changed: BTreeMap<(usize, String), BTreeMap<usize, Option<Thing>>>,
    /// Runs since all were in step.
    runs: usize,
    /// Whether anything ever went wrong: a killed run may have left contents in a stage.
    troubled: bool,
    /// A node lost its base: what it still has may come back.
    merged: bool,
    images: BTreeSet<usize>,
}

/// What a run came to. A killed Main has no report.
type Ran = Option<Report>;

impl History {
    pub fn new(script: &Script) -> History {
        History {
            world: World::new(script),
            buried: BTreeSet::new(),
            ever: BTreeSet::new(),
            own: BTreeSet::new(),
            changed: BTreeMap::new(),
            runs: 0,
            troubled: false,
            merged: false,
            images: BTreeSet::new(),
        }
    }

    /// Carries out the script; the error is what went wrong, and at which step.
    pub fn play(mut self, script: &Script) -> Result<(), String> {
        for (at, step) in script.steps.iter().enumerate() {
            self.step(step).map_err(|wrong| format!("step {at}, {step:?}:\n  {wrong}"))?;
        }
        self.last().map_err(|wrong| format!("at the end:\n  {wrong}"))
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Change { host, dir, op } => {
                let before = self.world.list(*host, *dir);
                self.world.edit(*host, *dir, op);
                self.note(*host, *dir, &before);
            }
            Step::Wait { seconds } => self.world.clock.advance(Duration::from_secs(*seconds)),
            Step::Run(run) => {
                self.run(run)?;
            }
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

    /// Takes down what somebody just changed on a host.
    fn note(&mut self, host: usize, dir: usize, before: &Listing) {
        let after = self.world.list(host, dir);
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

    /// A node's base is gone: whatever it has may come to stand again, and what its people did last may not.
    fn lost_base(&mut self, node: usize) {
        for by in self.changed.values_mut() {
            by.remove(&node);
        }
        self.merged = true;
        self.troubled = true;
        self.buried.clear();
    }

    /// One run of Main; checks what must hold after every run, however it ended.
    fn run(&mut self, run: &Run) -> Result<Ran, String> {
        self.go(run, &[])
    }

    fn go(&mut self, run: &Run, accept: &[String]) -> Result<Ran, String> {
        self.runs += 1;
        if !run.faults.is_empty() || !run.cuts.is_empty() {
            self.troubled = true;
        }
        for node in 1..=self.world.nodes {
            // With no reload on record, what a node has before its first run counts as loaded.
            let now = names_and_contents(&self.world.list(node, PUSH));
            self.world.loaded.lock().unwrap().entry(node).or_insert(now);
        }
        let calm = run.faults.is_empty() && run.cuts.is_empty();
        let told = if run.dry_first && calm { Some(self.dry_run(run)?) } else { None };
        let before = self.world.list_all();
        self.world.clock.advance(Duration::from_millis(10));
        let edited = Arc::new(Mutex::new(Vec::new()));
        let report = self.carry_out(run, accept, false, &edited)?;
        self.world.clock.advance(Duration::from_millis(10));
        let edited = std::mem::take(&mut *edited.lock().unwrap());
        // What people changed meanwhile did not come from the run.
        let mut lost_by_hand: BTreeSet<u32> = BTreeSet::new();
        let mut touched = BTreeSet::new();
        for (host, dir, was) in &edited {
            self.note_edit(*host, *dir, was);
            lost_by_hand.extend(numbers(was));
            touched.insert((*host, *dir));
        }
        let after = self.world.list_all();
        self.check_bases();
        check_contents(&after)?;
        check_excluded(&before, &after, &touched)?;
        self.check_nothing_lost(&before, &after, &lost_by_hand)?;
        if !touched.contains(&(0, PUSH)) && before[&(0, PUSH)] != after[&(0, PUSH)] {
            return Err("Main's pushed directory was changed by a run".to_owned());
        }
        if accept.is_empty() && edited.is_empty() {
            self.check_guard(&before, &after)?;
        }
        if let (Some(told), Some(report)) = (told, &report)
            && told.changes != report.changes
        {
            return Err(format!("a dry run said\n  {}\nand the run did\n  {}", lines(&told), lines(report)));
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

    fn note_edit(&mut self, host: usize, dir: usize, before: &Listing) {
        self.note(host, dir, before);
        // Which of a run's doings came before it is not known.
        self.runs += 1;
        self.buried.retain(|(of, ..)| *of != dir);
    }

    fn dry_run(&self, run: &Run) -> Result<Report, String> {
        let before = everything(&self.world);
        let report = self.carry_out(run, &[], true, &Arc::default())?;
        if everything(&self.world) != before {
            return Err("a dry run changed something".to_owned());
        }
        report.ok_or_else(|| "a dry run was killed".to_owned())
    }

    fn carry_out(
        &self,
        run: &Run,
        accept: &[String],
        dry_run: bool,
        edited: &Arc<Mutex<Vec<(usize, usize, Listing)>>>,
    ) -> Result<Ran, String> {
        let world = &self.world;
        let disk = {
            let (base, setup) = (world.base.clone(), world.setup.clone());
            let (clock, ids, loaded) = (world.clock.clone(), world.ids.clone(), Arc::clone(&world.loaded));
            Arc::new(move |node| {
                world::local(
                    base.clone(),
                    setup.clone(),
                    clock.clone(),
                    ids.clone(),
                    Arc::clone(&loaded),
                    node,
                )
            })
        };
        let in_order = world.setup.parallel >= world.nodes;
        let net = Net::new(run, world.nodes, in_order, dry_run, world.base.clone(), disk);
        let streams = Arc::clone(&net.streams);
        let hang_up = move || {
            for stream in &*streams.lock().unwrap() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        };
        let edit = {
            let (base, setup, clock) = (world.base.clone(), world.setup.clone(), world.clock.clone());
            let edited = Arc::clone(edited);
            move |host: usize, dir: usize, op: &super::script::Op| {
                let root = world::root(&base, &setup, host, dir);
                let carved = (dir == PUSH && setup.nested).then_some("rec");
                edited.lock().unwrap().push((host, dir, disk::list(&root, carved)));
                clock.advance(Duration::from_millis(200));
                world::edit(&root, clock.read(), op);
            }
        };
        let faults: Vec<Fault> = if dry_run { Vec::new() } else { run.faults.clone() };
        watch::begin(faults, Box::new(edit), Box::new(hang_up.clone()));
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let state = StateDir::open(&world.state_dir(0))?;
            let (clock, ids) = (world.clock.clone(), world.ids.clone());
            let site = Site {
                config: &world.config,
                state: &state,
                connect: &net,
                main: Mutex::new(Local::new(world.local(0))),
                now: &move || clock.read(),
                new_id: &move || ids.next(),
                progress: &Silent,
                stop: &AtomicBool::new(false),
            };
            let options = Options { dry_run, accept: accept.to_vec(), ..Options::default() };
            sync::run(&site, &options)
        }));
        hang_up();
        let broken = net.settle();
        let killed = watch::was_killed(0);
        for (host, gone) in watch::end() {
            disk::empty(&world.base.join(format!("h{host}")), &gone);
        }
        if let Some(broken) = broken.first() {
            return Err(broken.clone());
        }
        match ended {
            Ok(Ok(report)) => Ok(Some(report)),
            Ok(Err(error)) if run.faults.is_empty() => Err(format!("the run ended with {error:#}")),
            Ok(Err(_)) => Ok(None),
            // Where several threads end, what the first one ended with is not told.
            Err(panic) if killed || panic.is::<watch::Killed>() => Ok(None),
            Err(panic) => Err(format!("the run panicked: {}", words(&*panic))),
        }
    }

    /// Nodes and Main that do not agree on a base merge without one.
    fn check_bases(&mut self) {
        let state = StateDir::open(&self.world.state_dir(0)).unwrap();
        for node in 1..=self.world.nodes {
            for dir in [PUSH, BOTH] {
                let marker = fs::read_to_string(self.world.root(node, dir).join(".xds-sync/root.json"));
                let generation = marker.ok().and_then(|text| {
                    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
                    Some(value.get("generation")?.as_str()?.to_owned())
                });
                let name = format!("node{node}");
                let edges = [state.edge(DIRECTORIES[dir], &name), state.next_edge(DIRECTORIES[dir], &name)];
                let known =
                    edges.into_iter().filter_map(Result::ok).flatten().map(|edge| Some(edge.generation));
                if !known.collect::<Vec<_>>().contains(&generation) {
                    self.merged = true;
                    self.buried.retain(|(of, ..)| *of != dir);
                }
            }
        }
    }

    /// On every host, what stood there stands there still, or lies in that host's trash.
    fn check_nothing_lost(
        &self,
        before: &Listings,
        after: &Listings,
        by_hand: &BTreeSet<u32>,
    ) -> Result<(), String> {
        for ((host, dir), was) in before {
            let mut left = numbers(&after[&(*host, *dir)]);
            let gone = |left: &BTreeSet<u32>| {
                numbers(was).into_iter().find(|number| !left.contains(number) && !by_hand.contains(number))
            };
            if gone(&left).is_some() {
                left.extend(disk::trash(&self.world.root(*host, *dir)));
            }
            if let Some(number) = gone(&left) {
                let path = was.iter().find(|(_, seen)| seen.thing == Thing::File(number)).unwrap().0;
                return Err(format!(
                    "host {host} lost content {number} of {}/{path}: it is in neither tree nor trash",
                    DIRECTORIES[*dir]
                ));
            }
        }
        Ok(())
    }

    /// No run deletes more of a host's files than `max_delete` lets go unasked.
    fn check_guard(&self, before: &Listings, after: &Listings) -> Result<(), String> {
        for ((host, dir), was) in before {
            let now = &after[&(*host, *dir)];
            let still = numbers(now);
            let is_deleted = |(path, seen): &(&String, &disk::Seen)| match seen.thing {
                Thing::File(number) => !now.contains_key(*path) && !still.contains(&number),
                _ => false,
            };
            let deleted = was.iter().filter(is_deleted).count();
            let files = was.values().filter(|seen| matches!(seen.thing, Thing::File(_))).count();
            let too_many = match self.world.setup.max_delete {
                "3" => deleted > 3,
                _ => deleted > 10 && deleted * 2 > files,
            };
            if too_many {
                return Err(format!(
                    "{deleted} of {files} files of {} went on host {host}",
                    DIRECTORIES[*dir]
                ));
            }
        }
        Ok(())
    }

    /// Main without one of its directories: nothing is deleted anywhere.
    fn unmounted(&mut self, dir: usize) -> Result<(), String> {
        if self.ever.is_empty() || (dir == PUSH && self.world.setup.nested) {
            return Ok(());
        }
        let (root, away) = (self.world.root(0, dir), self.world.base.join("away"));
        let before = self.world.list_all();
        fs::rename(&root, &away).unwrap();
        fs::create_dir(&root).unwrap();
        let known = self.world.state_dir(0).join("ledger.json").exists();
        let ran = self.carry_out(&Run::default(), &[], false, &Arc::default());
        fs::remove_dir_all(&root).unwrap();
        fs::rename(&away, &root).unwrap();
        let report = ran?;
        for node in 1..=self.world.nodes {
            if known && self.world.list(node, dir) != before[&(node, dir)] {
                return Err(format!("node {node} was changed although Main's directory was not mounted"));
            }
        }
        if known && report.is_some_and(|report| report.exit_code() == 0) {
            return Err("nobody said that Main's directory was not mounted".to_owned());
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

    fn check_in_step(&mut self, report: &Report) -> Result<(), String> {
        // Files that cannot be carried because something that must stay is in their way.
        let in_the_way: BTreeSet<(usize, String)> = report
            .problems
            .iter()
            .filter(|problem| problem.fails)
            .map(|problem| {
                let dir = usize::from(problem.directory.as_deref() == Some("rec"));
                let path = problem.path.as_ref().map(|path| path.escaped()).unwrap_or_default();
                match problem.detail.contains("must stay") {
                    true => Ok((dir, path)),
                    false => Err(format!("a problem remains: {problem:?}")),
                }
            })
            .collect::<Result<_, String>>()?;
        if in_the_way.is_empty() && report.exit_code() != 0 {
            return Err(format!("nothing is left to do, and the exit code is {}", report.exit_code()));
        }
        let all = self.world.list_all();
        // Links that lead out are no one's to carry, and nothing is done where they stand.
        let stuck: BTreeSet<(usize, &String)> = all
            .iter()
            .flat_map(|((_, dir), listing)| listing.iter().map(move |(path, seen)| (*dir, path, seen)))
            .filter(|(_, path, seen)| !disk::is_carried(path, seen))
            .map(|(dir, path, _)| (dir, path))
            .collect();
        let related =
            |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/")) || b.starts_with(&format!("{a}/"));
        let free = |dir: usize, path: &str| {
            if stuck.iter().any(|(of, link)| *of == dir && related(link, path)) {
                return false;
            }
            let blocked = in_the_way.iter().any(|(of, above)| {
                *of == dir
                    && (path == above
                        || path.starts_with(&format!("{above}/"))
                        || above.starts_with(&format!("{path}/")))
            });
            !blocked && !disk::is_excluded(path)
        };
        self.check_pushed(&all, &free)?;
        self.check_both(&all, &free)?;
        self.check_buried(&all)?;
        self.check_loaded(&all)?;
        self.check_stages()?;
        let standing: BTreeSet<(usize, String, u32)> = all
            .iter()
            .flat_map(|((_, dir), listing)| {
                listing.iter().filter_map(move |(path, seen)| match seen.thing {
                    Thing::File(number) => Some((*dir, path.clone(), number)),
                    _ => None,
                })
            })
            .collect();
        self.buried = self.ever.difference(&standing).cloned().collect();
        if self.merged {
            // What a node without a base kept is its own from now on.
            for ((host, _), listing) in all.iter().filter(|((_, dir), _)| *dir == PUSH) {
                self.own.extend(listing.keys().map(|path| (*host, PUSH, path.clone())));
            }
        }
        self.changed.clear();
        self.runs = 0;
        self.merged = false;
        Ok(())
    }

    fn check_pushed(&self, all: &Listings, free: &dyn Fn(usize, &str) -> bool) -> Result<(), String> {
        let main = &all[&(0, PUSH)];
        for node in 1..=self.world.nodes {
            let has = &all[&(node, PUSH)];
            for (path, seen) in main.iter().filter(|(path, _)| free(PUSH, path)) {
                // An excluded child of the node keeps what Main has no directory for.
                if has.get(path) != Some(seen) {
                    return Err(format!("{path} is {:?} on node {node}, on Main {seen:?}", has.get(path)));
                }
            }
            for (path, seen) in has.iter().filter(|(path, _)| !main.contains_key(*path) && free(PUSH, path)) {
                let known = self.own.contains(&(node, PUSH, path.clone()));
                let keeps = self.world.setup.push_delete == "keep";
                let file = matches!(seen.thing, Thing::File(_));
                if file && !known && !keeps && !self.merged && self.buried_or_old(path, seen) {
                    return Err(format!("{path} was deleted on Main and is still on node {node}: {seen:?}"));
                }
            }
        }
        Ok(())
    }

    /// Whether a file was in the cluster before and should have gone.
    fn buried_or_old(&self, path: &str, seen: &disk::Seen) -> bool {
        // While a node had no base, it may have kept it; then it is the node's own from then on.
        match seen.thing {
            Thing::File(number) => self.ever.contains(&(PUSH, path.to_owned(), number)),
            _ => false,
        }
    }

    fn check_both(&self, all: &Listings, free: &dyn Fn(usize, &str) -> bool) -> Result<(), String> {
        let main = &all[&(0, BOTH)];
        // Excluded anywhere, left alone everywhere, with what is below.
        for node in 1..=self.world.nodes {
            let has = &all[&(node, BOTH)];
            for path in main.keys().chain(has.keys()).filter(|path| free(BOTH, path)) {
                let (on_main, on_node) = (main.get(path), has.get(path));
                let is_dir = |seen: Option<&disk::Seen>| seen.is_none_or(|seen| seen.thing == Thing::Dir);
                let keeps_excluded = |listing: &Listing| {
                    listing
                        .keys()
                        .any(|below| below.starts_with(&format!("{path}/")) && disk::is_excluded(below))
                };
                if is_dir(on_main)
                    && is_dir(on_node)
                    && all.iter().any(|((_, dir), listing)| *dir == BOTH && keeps_excluded(listing))
                {
                    continue;
                }
                if on_main != on_node {
                    return Err(format!(
                        "{path} of rec is {on_main:?} on Main and {on_node:?} on node {node}"
                    ));
                }
            }
        }
        self.check_last_change(all, free)
    }

    /// What one host alone changed since all were in step has reached everybody.
    fn check_last_change(&self, all: &Listings, free: &dyn Fn(usize, &str) -> bool) -> Result<(), String> {
        let related = |a: &str, b: &str| a.starts_with(&format!("{b}/")) || b.starts_with(&format!("{a}/"));
        for ((dir, path), by) in
            self.changed.iter().filter(|((dir, path), _)| *dir == BOTH && free(*dir, path))
        {
            let mixed = self.changed.keys().any(|(of, other)| of == dir && related(other, path));
            let stands_beside = all.iter().any(|((_, of), listing)| {
                of == dir && listing.keys().any(|other| related(other, path) && other.starts_with(&**path))
            });
            if self.merged || mixed || stands_beside || by.len() != 1 {
                continue;
            }
            let (host, last) = by.iter().next().unwrap();
            match last {
                // Lives as long as any child.
                Some(Thing::Dir) => {}
                Some(thing) => {
                    for ((on, _), listing) in all.iter().filter(|((_, of), _)| of == dir) {
                        let now = listing.get(path).map(|seen| &seen.thing);
                        if now != Some(thing) {
                            return Err(format!(
                                "host {host} made {path} of rec {thing:?}, and on host {on} it is {now:?}"
                            ));
                        }
                    }
                }
                None => {
                    let propagates = self.world.setup.both_delete == "propagate";
                    let stays = all.iter().any(|((_, of), listing)| of == dir && listing.contains_key(path));
                    if propagates && stays {
                        return Err(format!(
                            "host {host} deleted {path} of rec, and it still stands somewhere"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_buried(&self, all: &Listings) -> Result<(), String> {
        for ((host, dir), listing) in all {
            for (path, seen) in listing {
                if let Thing::File(number) = seen.thing
                    && self.buried.contains(&(*dir, path.clone(), number))
                {
                    return Err(format!(
                        "content {number} of {}/{path} had gone everywhere, and stands on host {host} again",
                        DIRECTORIES[*dir]
                    ));
                }
            }
        }
        Ok(())
    }

    /// What Asterisk has loaded on each node is what stands there.
    fn check_loaded(&self, all: &Listings) -> Result<(), String> {
        let loaded = self.world.loaded.lock().unwrap();
        for node in 1..=self.world.nodes {
            let now = names_and_contents(&all[&(node, PUSH)]);
            if loaded.get(&node) != Some(&now) {
                return Err(format!(
                    "node {node} has not loaded what it has: {:?} and {now:?}",
                    loaded.get(&node)
                ));
            }
        }
        Ok(())
    }

    fn check_stages(&self) -> Result<(), String> {
        if self.troubled {
            return Ok(());
        }
        for host in 0..=self.world.nodes {
            for dir in [PUSH, BOTH] {
                let left = disk::stage(&self.world.root(host, dir));
                if !left.is_empty() {
                    return Err(format!("in the stage of {} on host {host}: {left:?}", DIRECTORIES[dir]));
                }
            }
        }
        Ok(())
    }

    /// After all of it: in step, and once what killed runs left is old, it is swept up.
    fn last(&mut self) -> Result<(), String> {
        self.converge()?;
        self.world.clock.advance(Duration::from_secs(8 * 24 * 3600));
        for dir in [PUSH, BOTH] {
            let op = super::script::Op::Write { path: "last", content: 9_000 + u32::try_from(dir).unwrap() };
            let before = self.world.list(0, dir);
            self.world.edit(0, dir, &op);
            self.note(0, dir, &before);
        }
        self.converge()?;
        self.troubled = false;
        // Where nothing comes to Main, nothing is swept there.
        for host in 1..=self.world.nodes {
            for dir in [PUSH, BOTH] {
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

fn numbers(listing: &Listing) -> BTreeSet<u32> {
    listing
        .values()
        .filter_map(|seen| if let Thing::File(number) = seen.thing { Some(number) } else { None })
        .collect()
}

fn check_contents(all: &Listings) -> Result<(), String> {
    for ((host, dir), listing) in all {
        for (path, seen) in listing {
            if let Thing::Torn(what) = &seen.thing {
                return Err(format!("{}/{path} is torn on host {host}: {what}", DIRECTORIES[*dir]));
            }
        }
    }
    Ok(())
}

fn check_excluded(
    before: &Listings,
    after: &Listings,
    touched: &BTreeSet<(usize, usize)>,
) -> Result<(), String> {
    for (place, was) in before.iter().filter(|(place, _)| !touched.contains(place)) {
        let of = |listing: &Listing| -> Listing {
            listing
                .iter()
                .filter(|(path, _)| disk::is_excluded(path))
                .map(|(path, seen)| (path.clone(), seen.clone()))
                .collect()
        };
        let (was, now) = (of(was), of(&after[place]));
        if was != now {
            return Err(format!("excluded files of host {} changed from {was:?} to {now:?}", place.0));
        }
    }
    Ok(())
}

/// Everything on every host, what is ours included.
fn everything(world: &World) -> Listing {
    let mut all = Listing::new();
    for host in 0..=world.nodes {
        for dir in [PUSH, BOTH] {
            let root = world.root(host, dir);
            for (path, seen) in
                disk::list(&root, None).into_iter().chain(disk::list(&root.join(".xds-sync"), None))
            {
                all.insert(format!("{host} {dir} {path}"), seen);
            }
        }
    }
    all
}

pub fn lines(report: &Report) -> String {
    let changes = report
        .changes
        .iter()
        .map(|change| format!("{} {} {:?}", change.directory, change.node, change.change));
    let halted = report.halted.iter().map(|halted| format!("{halted:?}"));
    let problems = report.problems.iter().map(|problem| format!("{problem:?}"));
    changes.chain(halted).chain(problems).collect::<Vec<_>>().join("\n  ")
}
