//! What the daemon does next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Begun, Core, Duty, JITTER, LOCK_AGAIN, POLL};
use crate::daemon::control::{Event, SyncRequest, Telling};
use crate::daemon::run::{Running, STORE, Shared};
use crate::daemon::{End, Own};
use crate::model::escape::clean;
use crate::model::{Direction, rfc3339};
use crate::site::KnownNodes;
use crate::state::BegunRun;
use crate::sync::{self, Options, Silent};
use crate::watch::{Dirt, NodeResult, RunPlan};

impl Duty<'_> {
    /// Does what is due. `Some`: the duty is over.
    pub(in crate::daemon) fn proceed(&mut self) -> Option<End> {
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
    pub(in crate::daemon) fn next_due(&self) -> Option<Duration> {
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

    pub(super) fn schedule(&self, now: Duration) -> Option<Duration> {
        let time = (self.machine().now)();
        let next = self.config.schedule.next_after(time)?;
        Some(now + next.duration_since(time).unwrap_or_default() + JITTER.mul_f64((self.machine().chance)()))
    }

    pub(super) fn poll(&mut self, now: Duration) {
        self.next_poll = now + POLL;
        let polled: BTreeSet<String> = self.polled.iter().map(|polled| polled.directory.clone()).collect();
        let mut core = self.core();
        for directory in polled {
            core.queues.poll(now, &directory);
        }
        if !self.config.followers.is_empty() {
            // Nothing tells what they upload.
            let two_way = self.config.directories.iter().filter(|is| is.direction == Direction::Both);
            for directory in two_way {
                core.queues.mark(now, &directory.name, Some(STORE), &Dirt::whole());
            }
        }
    }

    /// Hands on to the queues what has been gathered.
    pub(super) fn take_gathered(&mut self, now: Duration) {
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
    pub(super) fn is_standby(&mut self) -> bool {
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
    pub(super) fn discover(&mut self) {
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
    pub(super) fn begin_full(&mut self) {
        if self.first.is_some() {
            self.watch_main();
        }
        let (sender, _) = std::sync::mpsc::channel();
        // Before what clients ask: the first run of all begins here.
        self.asked
            .push_front((SyncRequest { config: Some(String::new()), ..SyncRequest::default() }, sender));
    }

    /// Begins every run that can begin.
    pub(super) fn begin_runs(&mut self, now: Duration) {
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

    pub(super) fn begin_asked(
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
    pub(super) fn complete(
        &self,
        now: Duration,
    ) -> BTreeMap<(Option<String>, String), Vec<crate::model::RelPathBuf>> {
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
    pub(super) fn shared(&mut self) -> anyhow::Result<Option<Arc<Shared>>> {
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

    pub(super) fn start(&mut self, shared: &Arc<Shared>, plan: RunPlan, options: Options, begun: Begun) {
        let tell = Arc::new(self.teller());
        let RunPlan { number, nodes, directories } = plan;
        let (released, merged) = (Arc::clone(&tell), Arc::clone(&tell));
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
            directories: directories.clone(),
            only_publishes: nodes.iter().all(|node| node == STORE) && !nodes.is_empty(),
            publishes: nodes.iter().any(|node| node == STORE) && !options.dry_run,
            options: Options {
                nodes: options.nodes.into_iter().filter(|node| node != STORE).collect(),
                ..options
            },
            progress: match &begun.asked {
                Some((_, answers)) if !begun.is_full => Arc::new(Telling(Mutex::new(answers.clone()))),
                _ => Arc::new(Silent),
            },
            is_asked: begun.asked.is_some(),
            is_for_cron: begun.asked.as_ref().is_some_and(|(request, _)| request.cron),
            released: Box::new(move |node, result| released(Own::Released(number, node.to_owned(), result))),
            merged: Box::new(move |directory, members| {
                merged(Own::Merged(directory.to_owned(), members.to_vec()));
            }),
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
        let main = self.main_disk();
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
            let failed = directories.into_iter().collect();
            let now = self.now();
            self.core().queues.finished(now, number, &NodeResult { failed, ..NodeResult::default() }, 0.0);
        }
    }
}
