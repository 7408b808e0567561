//! One pass: verify what is published, write that down, bring this node in step with it, upload what is new here, tell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context as _;
use ssh_key::{PrivateKey, PublicKey};

use super::config::Config;
use super::directories;
use super::had::Had;
use super::lost::{Asks, find_lost};
use super::machine::{Machine, OpenStore};
use super::passed::{Outcome, Passed, judge};
use super::pending::{Pending, SendTo};
use super::prefetch::prefetch;
use super::spec::{Asked, labels, spec, subscribed};
use super::trees::Trees;
use super::trusted::{Trusted, TrustedFile, pinned_key};
use super::upstream::{Draft, Upstream};
use super::verify::{Stopped, Verified, Verifier};
use crate::model::escape::clean;
use crate::node::{Accept, EpochLimit, NodeError, NodeSession};
use crate::record;
use crate::report::exit::{ALL_LOST, CONFLICT, IN_STEP, INCOMPATIBLE, PARTIAL, RELOAD, TAMPERED, TIMEOUT};
use crate::report::status::Scope;
use crate::report::{NodeReport, NodeState, Problem, Report, Stage};
use crate::site;
use crate::state::{Identity, StateDir};
use crate::store::{Asker, Objects, StoreError};
use crate::sync::{self, Connect, Environment, FOLLOWER, MainSide, Progress};

/// A node that follows a store.
#[derive(Clone)]
pub struct Follower {
    /// What may be touched on this node.
    pub(crate) accept: Accept,
    pub(crate) config: Config,
    pub(crate) machine: Machine,
    pub(crate) progress: Arc<dyn Progress + Send>,
    /// Once it is set, a pass ends at its next safe place.
    pub(crate) stop: Arc<AtomicBool>,
}

/// A publication as the Main of a run.
struct Opened {
    upstream: Upstream,
    /// What this node uploads, before and after the run.
    pending: Arc<Mutex<Pending>>,
    /// Trees of publications that this node keeps.
    trees: Trees,
    /// What is to be said of uploads that the store has lost.
    lost: Option<Problem>,
}

/// The place of what this node remembers, in its state directory.
const DIR: &str = "follow";

/// This host is the one node of its runs.
impl Connect for Follower {
    fn connect(&self, _: &str) -> Result<Box<dyn NodeSession>, NodeError> {
        Ok(Box::new(self.disk()))
    }
}

impl Follower {
    /// The node that `file`, its node.toml, speaks of.
    pub fn open(
        file: &Path,
        machine: Machine,
        progress: Arc<dyn Progress + Send>,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Follower> {
        let accept = Accept::read(file)?;
        let max_epoch = EpochLimit::at((machine.now)());
        let accept = Accept { max_epoch, machine: Some(site::machine()), ..accept };
        let config = Config::read(file)?.with_context(|| {
            format!(
                "this node follows no store: {} has neither [store] nor [follow]; see `man xds-sync-node`",
                file.display()
            )
        })?;
        Ok(Follower { accept, config, machine, progress, stop })
    }

    /// One pass, and its record. `Err`: something of this node itself, or another pass is under way
    /// ([`Locked`](site::Locked)).
    pub fn once(&self, asked: &Asked) -> anyhow::Result<Passed> {
        let state = self.state()?;
        let _lock = site::lock(&state, || false)?;
        let mut passed = self.pass(&state, asked)?;
        if !asked.dry_run {
            let has_files = passed.trusted.as_ref().is_some_and(|trusted| trusted.applied.is_some());
            self.tell(&passed, passed.state(has_files, false), 1);
            let is_news = passed.exit_code != IN_STEP || passed.did_something();
            self.record(&state, &mut passed, is_news);
        }
        Ok(passed)
    }

    /// Leaves a record of a pass: in the status alone, where it is no news. The caller holds the lock.
    pub(super) fn record(&self, state: &StateDir, passed: &mut Passed, is_news: bool) {
        let scope = Scope::default();
        match is_news {
            true => record::run(state, &mut passed.report, passed.exit_code, scope),
            false => record::uneventful(state, &passed.report, passed.exit_code, scope),
        }
        // The next one must not take this for one that was cut off.
        if let Err(error) = state.end_run() {
            log::error!("{error:#}");
        }
    }

    /// Where this node keeps what it remembers of following.
    pub(crate) fn dir(&self) -> PathBuf {
        self.accept.state_dir.join(DIR)
    }

    /// The state of its runs.
    pub(crate) fn state(&self) -> anyhow::Result<StateDir> {
        let state = StateDir::open(&self.dir())?;
        if state.identity()?.is_none() {
            // Whatever a root of this node has agreed on that is not on record, it was with another Main: an epoch that nothing
            // is later than has it merged without a base.
            state.save_identity(&Identity { id: (self.machine.new_id)(), epoch: u64::MAX })?;
        }
        Ok(state)
    }

    fn disk(&self) -> crate::node::Local {
        let progress: Arc<AtomicU64> = Arc::default();
        site::node_disk(&self.accept, self.machine.now, self.machine.new_id, &progress)
    }

    /// One pass, under the lock that the caller holds. `Err`: something of this node itself.
    pub(crate) fn pass(&self, state: &StateDir, asked: &Asked) -> anyhow::Result<Passed> {
        let started = (self.machine.now)();
        let file = TrustedFile::in_dir(&self.dir());
        let before = file.read()?;
        let pinned = pinned_key(&self.config.main_key)?;
        let verifier = Verifier { config: &self.config, clock: self.machine.now, dry_run: asked.dry_run };
        let passed = match verifier.verify(self.open_store(), &file, &pinned, before) {
            // Only what is new may be a replay.
            Ok(Verified { stale: Some(detail), trusted, .. }) if trusted.applied != Some(trusted.on()) => {
                return Ok(self.withheld(started, asked, &detail, trusted));
            }
            Ok(verified) => self.run(state, &file, verified, asked)?,
            Err(stopped) => Err(stopped),
        };
        match passed {
            Ok(passed) => Ok(passed),
            Err(Stopped { error: StoreError::Local(detail), .. }) => anyhow::bail!(detail),
            Err(stopped) => Ok(self.stopped(started, asked, stopped)),
        }
    }

    /// The store, for this node.
    pub(super) fn open_store(&self) -> Result<Arc<dyn Objects>, StoreError> {
        let Config { store, name, identity, .. } = &self.config;
        (self.machine.open)(store, Asker { name, identity, clock: self.machine.now })
    }

    /// Brings this node in step with a publication.
    fn run(
        &self,
        state: &StateDir,
        file: &TrustedFile,
        verified: Verified,
        asked: &Asked,
    ) -> anyhow::Result<Result<Passed, Stopped>> {
        let before = verified.trusted.clone();
        let mut trusted = before.clone();
        let has = before.applied == Some(before.on());
        let Opened { upstream, pending, trees, lost } =
            match self.open_publication(state, file, &verified, &mut trusted, asked)? {
                Ok(opened) => opened,
                Err(error) => return Ok(Err(Stopped::by(error, trusted))),
            };
        let spec = spec(&before, &self.config, asked);
        let fetched = match has {
            true => Ok(BTreeMap::new()),
            false => {
                let run = (self.machine.new_id)();
                prefetch(&mut self.disk(), &upstream, state, (&spec, asked), &run, &self.stop)
            }
        };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => return Ok(Err(Stopped::by(error, trusted))),
        };
        let failure = upstream.failure();
        // A pass that looks whether anything is new is no run whose beginning anybody asks for.
        let unsaid = has.then(|| sync::Shared::new(state, spec.bandwidth)).transpose()?;
        let mut report = sync::run(&self.environment(state, upstream, unsaid.as_ref()), &spec)?;
        add_bytes(&mut report, &fetched);
        report.halted.iter_mut().for_each(|halted| halted.of_follower = true);
        let mut failures: Vec<StoreError> =
            failure.lock().unwrap_or_else(PoisonError::into_inner).take().into_iter().collect();
        if !asked.dry_run {
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            failures.extend(self.upload(&mut pending, &verified, &mut trusted, &mut report).err());
        }
        let Verified { objects, stale, behind, .. } = verified;
        report.problems.extend(lost);
        report.problems.extend(behind);
        report.problems.extend(self.notes(&before, asked.dry_run));
        report.problems.extend(stale.as_ref().map(|detail| Problem::failure(Stage::Connect, detail)));
        let own = report.exit_code();
        for error in &failures {
            report.problems.push(Problem::failure(Stage::Transfer, clean(error.detail())));
        }
        let (exit_code, outcome) = judge(own, stale, failures, &report);
        if !asked.dry_run && matches!(own, IN_STEP | CONFLICT | RELOAD) && !report.interrupted {
            trusted.applied = Some(trusted.on());
            trees.keep_only(&before.head);
        }
        if !asked.dry_run && trusted != before {
            file.save(&trusted)?;
        }
        let store = Some(OpenStore(objects));
        Ok(Ok(Passed { report, exit_code, outcome, trusted: Some(trusted), store }))
    }

    /// Opens a publication as the Main of a run.
    fn open_publication(
        &self,
        state: &StateDir,
        file: &TrustedFile,
        verified: &Verified,
        trusted: &mut Trusted,
        asked: &Asked,
    ) -> anyhow::Result<Result<Opened, StoreError>> {
        let Verified { objects, area, is_first, trusted: before, .. } = verified;
        let (node, taken) = (&*self.config.name, before.taken());
        let mut pending = Pending::read(&self.dir())?;
        pending.forget(taken, asked.dry_run);
        let asks =
            Asks { objects: &**objects, area, node, file, is_first: *is_first, dry_run: asked.dry_run };
        let (listed, lost) = match find_lost(state, &asks, &mut pending, trusted)? {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let last = [listed, taken, trusted.uploaded, pending.last()].into_iter().max().unwrap_or(0);
        let pending = Arc::new(Mutex::new(pending));
        let draft = Draft {
            cluster: before.head.cluster.clone(),
            node: node.to_owned(),
            seq: last + 1,
            on: trusted.on(),
            identity: self.config.identity.clone(),
            now: self.machine.now,
        };
        let trees = Trees::in_dir(&self.dir());
        let mut upstream =
            Upstream::new(Arc::clone(objects), area.clone(), draft, Arc::clone(&pending), trees.clone());
        let has = before.applied == Some(before.on());
        for directory in subscribed(before, &self.config) {
            if let Err(error) = upstream.add(directory, has) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(Opened { upstream, pending, trees, lost }))
    }

    /// Puts into the store what waits to be uploaded.
    fn upload(
        &self,
        pending: &mut Pending,
        verified: &Verified,
        trusted: &mut Trusted,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let sent = pending.send(&SendTo {
            objects: &*verified.objects,
            area: &verified.area,
            node: &self.config.name,
            identity: &self.config.identity,
            taken: verified.trusted.taken(),
        });
        let sent = sent.map_err(|error| error.while_doing("uploading"))?;
        trusted.uploaded = sent.last.unwrap_or(0).max(trusted.uploaded);
        report.problems.extend(sent.foreign.map(|number| self.foreign(number)));
        Ok(())
    }

    /// What there is to say of how this node and what is published go together.
    fn notes(&self, trusted: &Trusted, dry_run: bool) -> Vec<Problem> {
        let (had, now) = (Had::in_dir(&self.dir()), subscribed(trusted, &self.config));
        let mut notes: Vec<Problem> = self.unknown(trusted).into_iter().collect();
        notes.extend(had.missing(&trusted.head, &now, labels(trusted, &self.config)));
        notes.extend(directories::unknown(&self.config.directories, &now));
        if !dry_run {
            had.keep(&now);
        }
        notes
    }

    fn environment<'a>(
        &'a self,
        state: &'a StateDir,
        upstream: Upstream,
        shared: Option<&'a sync::Shared>,
    ) -> Environment<'a> {
        let main: Box<dyn MainSide> = Box::new(upstream);
        Environment {
            state,
            connect: self,
            main: Mutex::new(main),
            now: &self.machine.now,
            new_id: &self.machine.new_id,
            progress: &*self.progress,
            stop: &self.stop,
            shared,
            may_reload: &|_, _| true,
            merged: &|_, _| (),
        }
    }

    /// Somebody uploads under this node's name, with its key.
    fn foreign(&self, number: u64) -> Problem {
        let (name, identity) = (&self.config.name, self.config.identity.display());
        let detail = format!(
            "the upload {number} in the store is not this node's: two nodes may have the name {name} and its key, as where a machine \
             was copied. What was recorded here is uploaded under the next number, and nothing is lost. On one of them take [store] and \
             [follow] out of node.toml, remove {identity} and {}, and run `xds-sync join --store` with a name of its own",
            self.dir().display()
        );
        Problem::failure(Stage::Transfer, detail)
    }

    /// What Main does not know of this node, and so takes nothing of what it records.
    fn unknown(&self, trusted: &Trusted) -> Option<Problem> {
        let name = &self.config.name;
        let add = "as `via = \"store\"` and `key = …` of a [[node]] there; until then nothing that is recorded here is taken in";
        let main = clean(&trusted.head.main);
        let Some(node) = &trusted.own else {
            let detail = format!("{main} does not know {name}: add it {add}");
            return Some(Problem::warning(Stage::Config, detail));
        };
        let own = PrivateKey::read_openssh_file(&self.config.identity).ok()?;
        let known = PublicKey::from_openssh(&node.key).ok()?;
        (own.public_key().key_data() != known.key_data()).then(|| {
            let detail = format!(
                "{main} knows another key of {name} than {}: put the right one {add}",
                self.config.identity.display()
            );
            Problem::warning(Stage::Config, detail)
        })
    }

    /// A pass that came to nothing because of something of this node itself.
    pub(super) fn broken(&self, detail: &str) -> Passed {
        let started = (self.machine.now)();
        let mut report = self.report_of(started, &Asked::default(), NodeState::Partial, detail.to_owned());
        report.problems.push(Problem::failure(Stage::State, detail));
        let outcome = Outcome::Degraded(detail.to_owned());
        Passed { report, exit_code: PARTIAL, outcome, trusted: None, store: None }
    }

    /// The report of a pass that did nothing.
    fn stopped(&self, started: SystemTime, asked: &Asked, stopped: Stopped) -> Passed {
        let Stopped { error, trusted } = stopped;
        let detail = clean(error.detail());
        let (state, exit_code, outcome) = match &error {
            StoreError::Tampered(_) => (NodeState::Refused, TAMPERED, Outcome::Refused(detail.clone())),
            StoreError::Refused(_) | StoreError::Held { .. } => {
                (NodeState::Refused, ALL_LOST, Outcome::Refused(detail.clone()))
            }
            StoreError::Incompatible(_) => {
                (NodeState::Incompatible, INCOMPATIBLE, Outcome::Refused(detail.clone()))
            }
            StoreError::Unreachable(_) | StoreError::Local(_) => {
                (NodeState::Unreachable, ALL_LOST, Outcome::Unreachable(detail.clone()))
            }
        };
        let report = self.report_of(started, asked, state, detail);
        Passed { report, exit_code, outcome, trusted: trusted.map(|trusted| *trusted), store: None }
    }

    /// The report of a pass that found nothing but what may be a replay.
    fn withheld(&self, started: SystemTime, asked: &Asked, detail: &str, trusted: Trusted) -> Passed {
        let report = self.report_of(started, asked, NodeState::Timeout, detail.to_owned());
        let outcome = Outcome::Stale(detail.to_owned());
        Passed { report, exit_code: TIMEOUT, outcome, trusted: Some(trusted), store: None }
    }

    fn report_of(&self, started: SystemTime, asked: &Asked, state: NodeState, error: String) -> Report {
        let node = NodeReport {
            name: self.config.name.clone(),
            address: FOLLOWER.to_owned(),
            state,
            error: Some(error),
            interrupted: false,
            directories: Vec::new(),
            reloads: Vec::new(),
            follows: None,
        };
        Report {
            run: (self.machine.new_id)(),
            started,
            duration: (self.machine.now)().duration_since(started).unwrap_or_default(),
            dry_run: asked.dry_run,
            nodes: vec![node],
            changes: Vec::new(),
            halted: Vec::new(),
            problems: Vec::new(),
            interrupted: false,
        }
    }
}

/// Adds what came before the run to what came in it.
fn add_bytes(report: &mut Report, fetched: &BTreeMap<String, u64>) {
    for directory in report.nodes.iter_mut().flat_map(|node| &mut node.directories) {
        directory.bytes += fetched.get(&directory.name).copied().unwrap_or(0);
    }
}
