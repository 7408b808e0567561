//! One run of the daemon: the same as `sync` makes, on sessions that are kept.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::model::escape::clean;
use crate::model::{ChangeKind, ReloadState};
use crate::node::{NodeError, NodeErrorKind, NodeSession};
use crate::record;
use crate::report::exit::first_of;
use crate::report::status::Scope;
use crate::report::{DirectoryState, NodeReport, NodeState, Problem, Report, Stage, mail, summary_line};
use crate::site::store::{Asked, tell_tokens_once};
use crate::site::{Followers, Site};
use crate::state::{Lock, StateDir};
use crate::sync::{self, Connect, Environment, MainSide, Options, Progress, Spec};
use crate::watch::NodeResult;

use super::lane::Lane;
use super::order::{Order, Turns};

/// What the runs have in common that are under way at the same time. The lock is held as long as any of them is.
pub(super) struct Shared {
    pub(super) runs: sync::Shared,
    /// Held while a run leaves its record.
    recording: Mutex<()>,
    order: Mutex<Order>,
    state: StateDir,
    _lock: Lock,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Under the lock still: the next one that begins must not take this for one that was cut off.
        if let Err(error) = self.state.end_run() {
            log::error!("{error:#}");
        }
    }
}

impl Shared {
    pub(super) fn new(runs: sync::Shared, state: StateDir, lock: Lock) -> Arc<Shared> {
        Arc::new(Shared { runs, recording: Mutex::default(), order: Mutex::default(), state, _lock: lock })
    }
}

/// The store, where it stands beside nodes: what changes is due to it as well. No node can have this name.
pub(super) const STORE: &str = ":store";

/// The runs that are under way, if there are any.
pub(super) type UnderWay = Weak<Shared>;

/// After this time what could not be published is looked at again: a file that is being written, say.
const HELD: Duration = Duration::from_secs(2);

/// Asked with a node and a kind of reload.
pub(super) type MayReload = Box<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// Told a node, and what a run came to there.
pub(super) type Released = Box<dyn Fn(&str, NodeResult) + Send + Sync>;

/// Told a directory and nodes.
pub(super) type Merged = Box<dyn Fn(&str, &[String]) + Send + Sync>;

/// A run that begins.
pub(super) struct Running {
    pub(super) site: Arc<Site>,
    pub(super) shared: Arc<Shared>,
    pub(super) lanes: Arc<BTreeMap<String, Lane>>,
    pub(super) options: Options,
    /// That it looks at.
    pub(super) directories: Vec<String>,
    pub(super) progress: Arc<dyn Progress + Send>,
    /// Whether what has changed is due to the store too.
    pub(super) publishes: bool,
    /// Whether it is due to no node.
    pub(super) only_publishes: bool,
    /// Whether it leaves a record even where it found nothing to do: it was asked for, and by no event.
    pub(super) is_asked: bool,
    /// Whether its news are told as the cron job tells them.
    pub(super) is_for_cron: bool,
    /// Tells that a node is free again, and what the run came to there.
    pub(super) released: Released,
    /// See [`Environment::may_reload`].
    pub(super) may_reload: MayReload,
    /// See [`Environment::merged`].
    pub(super) merged: Merged,
}

/// How a run ended.
pub(crate) struct Over {
    pub(super) report: anyhow::Result<Report>,
    pub(super) exit_code: u8,
    /// What the cron job prints of it.
    pub(super) mail: Option<String>,
    /// Main's disk, for the next run.
    pub(super) main: Option<Box<dyn MainSide>>,
}

impl Running {
    /// Carries it out.
    pub(super) fn carry_out(&self, main: Box<dyn MainSide>) -> Over {
        let sessions = Sessions {
            running: self,
            taken: Mutex::default(),
            turns: Mutex::default(),
            followers: self.followers(),
        };
        let mut environment = self.site.environment();
        environment.main = Mutex::new(main);
        let environment = Environment {
            connect: &sessions,
            shared: Some(&self.shared.runs),
            may_reload: &*self.may_reload,
            merged: &*self.merged,
            progress: &*self.progress,
            ..environment
        };
        let mut spec = self.site.spec(&self.options);
        if self.only_publishes {
            spec.nodes.clear();
        }
        if let Some(followers) = &sessions.followers {
            self.add_followers(followers, &mut spec);
        }
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut report = sync::run(&environment, &spec)?;
            report.problems.extend(self.site.problems(&spec));
            if let Some(followers) = &sessions.followers {
                self.site.hear(followers, &mut report);
            }
            let followers = sessions.followers.as_deref();
            let code = self.publishes.then(|| self.publish(&environment, followers, &mut report));
            Ok((report, code.unwrap_or_default()))
        }));
        let is_whole = ran.is_ok();
        let ran = ran.unwrap_or_else(|panic| Err(anyhow::anyhow!("it broke down: {}", words_of(&*panic))));
        let main = environment.main.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut exit_code = crate::report::exit::INTERNAL;
        let report = ran.map(|(mut report, code)| {
            exit_code = first_of(&[report.exit_code(), code]);
            self.record(&mut report, exit_code, &lock(&sessions.turns));
            report
        });
        let mail = report.as_ref().ok().filter(|_| self.is_for_cron).map(|report| self.mail(report));
        Over { report, exit_code, mail, main: is_whole.then_some(main) }
    }

    /// Adds those to what the run is to do that have uploaded something. A run for all nodes hears of the others too; there may
    /// be very many, and nothing is to be done for them.
    fn add_followers(&self, followers: &Followers, spec: &mut Spec) {
        let is_for_all = self.options.nodes.is_empty() && !self.only_publishes;
        let nodes = if is_for_all { Vec::new() } else { followers.with_uploads() };
        if is_for_all || !nodes.is_empty() {
            self.site.add_followers(spec, &Options { nodes, ..self.options.clone() });
        }
    }

    /// The nodes whose uploads are taken in before this run publishes, if it does.
    fn followers(&self) -> Option<Arc<Followers>> {
        let followers = if self.publishes { self.site.followers() } else { Ok(None) };
        followers.unwrap_or_else(|error| {
            // Nothing can be published then either, and that is told.
            log::debug!("what nodes uploaded is not taken in: {error:#}");
            None
        })
    }

    /// Publishes what the run has found on Main, and has taken in, and tells what is left to be published. Returns the exit
    /// code.
    fn publish(
        &self,
        environment: &Environment<'_>,
        followers: Option<&Followers>,
        report: &mut Report,
    ) -> u8 {
        let all = || self.site.config().directories.iter().map(|directory| directory.name.clone());
        let options =
            Options { hold_young: true, nodes: Vec::new(), directories: Vec::new(), ..self.options.clone() };
        let taken = followers.map(|followers| followers.settle(self.site.config())).transpose();
        let published = taken
            .and_then(|taken| self.site.publish_in(environment, &options, Asked::AfterRun, taken.as_ref()));
        let (code, result) = match published {
            Ok(mut publication) => {
                tell_tokens_once(&self.options.accept, &mut report.problems, &mut publication.problems);
                let held = publication.directories.iter().filter(|directory| directory.held > 0);
                let held = held.map(|directory| (directory.name.clone(), HELD)).collect();
                if publication.is_new {
                    log::info!("publication {} is made", publication.seq);
                }
                (publication.tell(report), NodeResult { held, ..NodeResult::default() })
            }
            Err(error) => {
                let code = crate::site::store::code_of(&error);
                let detail = format!("nothing was published: {error:#}");
                report.problems.push(Problem::failure(Stage::Publish, clean(&detail)));
                (code, NodeResult { failed: all().collect(), ..NodeResult::default() })
            }
        };
        (self.released)(STORE, result);
        code
    }

    /// What it came to on a node.
    fn result(&self, node: &NodeReport) -> NodeResult {
        let directories = &self.site.config().directories;
        let find = |name: &str| directories.iter().find(|directory| directory.name == name);
        let settle = |name: &str| find(name).map_or(Duration::ZERO, |directory| directory.settle);
        let names_reload = |name: &str, kind: &str| {
            find(name).is_some_and(|directory| directory.reload.iter().any(|is| is == kind))
        };
        result(node, &self.directories, settle, names_reload)
    }

    /// What is new of a run for whoever reads cron's mail.
    fn mail(&self, report: &Report) -> String {
        let (state, troubles) = (self.site.state(), mail::troubles(report));
        let (text, told) = mail::news(&troubles, &state.told(), self.site.now(), &summary_line(report));
        if let Err(error) = state.save_told(&told) {
            log::error!("{error:#}");
        }
        text
    }

    fn record(&self, report: &mut Report, exit_code: u8, turns: &Turns) {
        let _one_at_a_time = lock(&self.shared.recording);
        let mut nodes = self.options.nodes.clone();
        nodes.extend(self.only_publishes.then(|| STORE.to_owned()));
        if !nodes.is_empty() {
            // Nobody names those whose uploads are taken in.
            let others =
                report.nodes.iter().map(|node| &node.name).filter(|name| !self.options.nodes.contains(name));
            nodes.extend(others.cloned());
        }
        let newer = lock(&self.shared.order).newer(turns);
        let newer = Some(&newer).filter(|newer| !newer.nodes.is_empty());
        let scope = Scope { nodes: &nodes, directories: &self.options.directories, newer };
        if self.is_asked || is_worth_telling(report, exit_code) {
            record::run(self.site.state(), report, exit_code, scope);
        } else {
            record::uneventful(self.site.state(), report, exit_code, scope);
        }
        if !report.dry_run {
            lock(&self.shared.order).record(report, turns);
        }
    }
}

/// Whether a run that events called for did, or met with, anything that history and syslog should tell.
fn is_worth_telling(report: &Report, exit_code: u8) -> bool {
    let is_change = |kind| !matches!(kind, ChangeKind::Hold | ChangeKind::Skip);
    exit_code != 0
        || report.changes.iter().any(|change| is_change(change.kind))
        || !report.halted.is_empty()
        || !report.problems.is_empty()
        || report.nodes.iter().flat_map(|node| &node.reloads).any(|done| done.state != ReloadState::NotNeeded)
}

/// The kept sessions, as one run has them.
struct Sessions<'a> {
    running: &'a Running,
    taken: Mutex<BTreeSet<String>>,
    /// When the run was done with each node.
    turns: Mutex<Turns>,
    /// Nodes that no lane leads to.
    followers: Option<Arc<Followers>>,
}

impl Sessions<'_> {
    fn taken(&self) -> MutexGuard<'_, BTreeSet<String>> {
        lock(&self.taken)
    }
}

impl Connect for Sessions<'_> {
    fn connect(&self, node: &str) -> Result<Box<dyn NodeSession>, NodeError> {
        if let Some(followers) = self.followers.as_ref().filter(|followers| followers.has(node)) {
            return followers.connect(node);
        }
        let unknown = || NodeError::new(NodeErrorKind::Unreachable, format!("no node is named {node}"));
        let session = self.running.lanes.get(node).ok_or_else(unknown)?.take()?;
        self.taken().insert(node.to_owned());
        Ok(session)
    }

    fn is_main(&self, machine: &str) -> bool {
        self.running.site.is_main(machine)
    }

    fn release(&self, node: &NodeReport, session: Option<Box<dyn NodeSession>>) {
        let (running, name) = (self.running, &node.name);
        if self.followers.as_ref().is_some_and(|followers| followers.has(name)) {
            return;
        }
        // Before another run can have it.
        let turn = lock(&running.shared.order).next();
        lock(&self.turns).insert(name.clone(), turn);
        if self.taken().remove(name)
            && let Some(lane) = running.lanes.get(name)
        {
            lane.give_back(session);
        }
        (running.released)(name, running.result(node));
    }
}

impl Drop for Sessions<'_> {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.taken());
        left.iter().filter_map(|node| self.running.lanes.get(node)).for_each(|lane| lane.give_back(None));
    }
}

/// What a run for these directories came to on a node. `settle` is how long a file of a directory is held back,
/// `names_reload` whether a directory names a reload.
fn result(
    node: &NodeReport,
    directories: &[String],
    settle: impl Fn(&str) -> Duration,
    names_reload: impl Fn(&str, &str) -> bool,
) -> NodeResult {
    let mut result = NodeResult { lost: node.state.is_lost(), ..NodeResult::default() };
    for directory in &node.directories {
        if directory.state == DirectoryState::Partial {
            result.failed.insert(directory.name.clone());
        } else if directory.held > 0 {
            let settle = settle(&directory.name).max(Duration::from_secs(1));
            result.held.insert(directory.name.clone(), settle);
        }
    }
    let failed = node.reloads.iter().filter(|reload| reload.state == ReloadState::Failed);
    for reload in failed {
        let naming = directories.iter().filter(|directory| names_reload(directory, &reload.name));
        result.failed.extend(naming.cloned());
    }
    if node.state == NodeState::Partial && node.directories.is_empty() {
        result.failed.extend(directories.iter().cloned());
    }
    result
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason given".to_owned())
}
