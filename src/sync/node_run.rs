//! One node's part in a run. Whatever ends it, an error or a panic, ends this node's part alone.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::model::escape::escape_for_people;
use crate::model::{ReloadOutcome, Side};
use crate::node::{Endpoint, MACHINE_FILE, NodeError, NodeErrorKind, NodeSession, READ_ONLY};
use crate::report::{NodeState, Problem, Stage};
use crate::sync::edge::{EdgeRun, EdgeState};
use crate::sync::lock;
use crate::sync::machines::Expected;
use crate::sync::result;
use crate::sync::spec::NodeSpec;
use crate::sync::{Environment, Phase, Run};

/// How long a run waits for one node, all waits together and reloads not counted: the other nodes have no run meanwhile. A
/// first copy that takes longer goes on in the next run.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A node in a run.
pub(super) struct NodeRun<'a> {
    pub(super) spec: &'a NodeSpec,
    pub(super) env: &'a Environment<'a>,
    /// `None` before the node is connected, and once its part has ended.
    session: Option<Box<dyn NodeSession>>,
    /// Its directories that this run is for, in configured order. Empty until it has been scanned.
    pub(super) edges: Vec<EdgeRun<'a>>,
    pub(super) reloads: Vec<ReloadOutcome>,
    pub(super) problems: Vec<Problem>,
    /// Why it could not take part to the end.
    pub(super) failure: Option<Failure>,
}

/// What ended a node's part early.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The node was lost, or never reached.
    Lost(NodeError),
    /// A signal ended the run.
    Interrupted,
    /// This program broke down, with these words.
    Internal(String),
}

impl<'a> NodeRun<'a> {
    pub(super) fn new(env: &'a Environment<'a>, spec: &'a NodeSpec) -> NodeRun<'a> {
        NodeRun {
            spec,
            env,
            session: None,
            edges: Vec::new(),
            reloads: Vec::new(),
            problems: Vec::new(),
            failure: None,
        }
    }

    /// Carries out one step, unless an earlier one has failed.
    pub(super) fn step(&mut self, step: impl FnOnce(&mut NodeRun<'a>) -> Result<(), NodeError>) {
        if self.failure.is_some() {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| step(self))) {
            Ok(Ok(())) => {}
            // Whatever breaks off then does so because the run is to end.
            Ok(Err(_)) if self.env.stop.load(Ordering::Relaxed) => self.fail(Failure::Interrupted),
            Ok(Err(error)) => self.fail(Failure::Lost(error)),
            Err(panic) => self.break_down(&*panic),
        }
    }

    /// This program has broken down at work for this node. What the panic leaves half done is not used again: the session
    /// is dropped, and what was about to become of every edge was recorded before it was touched.
    pub(super) fn break_down(&mut self, panic: &(dyn Any + Send)) {
        self.fail(Failure::Internal(words_of(panic)));
    }

    /// Ends the node's part, unless it has ended before.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        // The session may be what is broken.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(self.session.take())));
        drop(dropped);
    }

    /// Tells who waits what the node does now.
    pub(super) fn at(&self, phase: Phase) {
        self.env.progress.at(&self.spec.name, phase);
    }

    /// Connects to the node, and looks at all its directories.
    pub(super) fn open(&mut self, run: &Run<'_>) -> Result<(), NodeError> {
        self.at(Phase::Connecting);
        let mut permit = Some(run.permits.take());
        let expected = run.machines.expect(&self.spec.name);
        let mut session = run.env.connect.connect(&self.spec.name)?;
        // Whoever has all contents read again waits until they are.
        if !self.spec.edges.iter().any(|edge| edge.scan.checksum) {
            session.set_patience(PATIENCE.saturating_add(run.spec.reload_timeout));
        }
        session.begin(&run.id, run.spec.dry_run)?;
        self.check_machine(run, expected, session.machine(), || permit = None)?;
        let _permit = permit.unwrap_or_else(|| run.permits.take());
        self.at(Phase::Scanning);
        let specs: Vec<_> = self.spec.edges.iter().map(|edge| edge.scan.clone()).collect();
        let scanned = session.scan_all(&specs)?;
        let edges = self.spec.edges.iter().zip(scanned);
        let edges: Vec<_> = edges
            .map(|(edge, scanned)| {
                let news = session.news(&edge.scan.directory);
                EdgeRun::new(run, &self.spec.name, edge, (scanned, news))
            })
            .collect();
        if let Some(edge) = edges.iter().find(|edge| edge.is_ahead) {
            let detail = format!(
                "the node has had a later run of this Main in {} than this host knows of: this host is a copy of Main, or was \
                 restored from a backup; run `xds-sync init --takeover` on the one that is to be Main",
                edge.name()
            );
            return Err(NodeError::new(NodeErrorKind::Refused, detail));
        }
        self.edges = edges;
        self.session = Some(session);
        self.at(Phase::Working);
        Ok(())
    }

    /// Fails unless the machine behind the node's address is this node's, and no other's. `wait` is called before another
    /// node is waited for.
    fn check_machine(
        &self,
        run: &Run<'_>,
        expected: Expected<'_>,
        machine: Option<&str>,
        wait: impl FnOnce(),
    ) -> Result<(), NodeError> {
        let refused = |who: String, remedy: &str| {
            let detail = format!(
                "{who}: {remedy}. If they are two, and one was copied from the other with its disk, remove {MACHINE_FILE} in \
                 the state directory of the copy (/var/lib/xds-sync)"
            );
            Err(NodeError::new(NodeErrorKind::Refused, detail))
        };
        let name = &self.spec.name;
        if machine.is_some_and(|machine| run.env.connect.is_main(machine)) {
            return refused(
                format!("{name} is the same machine as Main"),
                "it is no node, take it out of the configuration",
            );
        }
        if let Err(other) = expected.is(machine, wait) {
            let other = escape_for_people(other.as_bytes());
            let remedy = "it is kept in step under that name, take the other one out of the configuration";
            return refused(format!("{name} is the same machine as {other}"), remedy);
        }
        if let Some(machine) = machine {
            lock(run.ledger).machines.insert(name.clone(), machine.to_owned());
        }
        Ok(())
    }

    /// Ends the node's run in good order: it holds no lock of any root any more.
    pub(super) fn end(&mut self) -> Result<(), NodeError> {
        self.session.as_mut().map_or(Ok(()), |session| session.end())
    }

    /// The session, if it is still whole.
    pub(super) fn take_session(&mut self) -> Option<Box<dyn NodeSession>> {
        self.session.take()
    }

    /// The node's session beside its edges.
    pub(super) fn parts(&mut self) -> Result<Parts<'_, 'a>, NodeError> {
        let session = self.session.as_mut().ok_or_else(not_connected)?;
        Ok(Parts { session: session.as_mut(), edges: &mut self.edges })
    }

    /// Whether a two-way directory of this node may have to be planned.
    pub(super) fn joins_round(&self) -> bool {
        self.failure.is_none()
            && self.edges.iter().any(|edge| edge.is_open() && edge.directory().is_two_way())
    }

    /// Whether nothing is left to do in a directory of this node, if it has a part in it.
    pub(super) fn has_finished(&self, directory: &str) -> bool {
        let is_in_step = |edge: &EdgeRun<'_>| {
            let is_recorded = || edge.record.as_ref().is_some_and(|record| record.in_step.is_some());
            (edge.state == EdgeState::InStep || is_recorded()) && edge.result.has_not_failed()
        };
        let has_part = self.spec.edges.iter().any(|edge| edge.directory.name == directory);
        !has_part
            || (self.failure.is_none()
                && self.edges.iter().any(|edge| edge.name() == directory && is_in_step(edge)))
    }

    /// How far the node got, for the report.
    pub(super) fn state(&self) -> NodeState {
        match &self.failure {
            Some(Failure::Lost(error)) => result::state_of(error.kind),
            Some(Failure::Internal(_) | Failure::Interrupted) => NodeState::Partial,
            None => NodeState::Ok,
        }
    }

    /// Whether a signal has kept the node from what it was to do.
    pub(super) fn is_interrupted(&self) -> bool {
        let is_left = || self.edges.iter().any(EdgeRun::is_open);
        match &self.failure {
            Some(Failure::Interrupted) => true,
            None => self.env.stop.load(Ordering::Relaxed) && is_left(),
            Some(Failure::Lost(_) | Failure::Internal(_)) => false,
        }
    }

    /// In a dry run: the node accepts no changes, and what it was to get will not be done.
    pub(super) fn refuse_if_read_only(&mut self) -> Result<(), NodeError> {
        let is_read_only = self.session.as_ref().is_some_and(|session| session.is_read_only());
        let mut is_changed = false;
        if is_read_only {
            for edge in &mut self.edges {
                let changes = &mut edge.result.plan.changes;
                let planned = changes.len();
                changes.retain(|planned| planned.change.to == Side::Main);
                is_changed |= changes.len() < planned;
            }
        }
        match is_changed {
            true => Err(NodeError::new(NodeErrorKind::Refused, READ_ONLY)),
            false => Ok(()),
        }
    }

    /// Something went wrong on the node that is no single edge's.
    pub(super) fn warn(&mut self, stage: Stage, detail: String) {
        self.problems
            .push(Problem { fails: false, ..result::problem(stage, Some(&self.spec.name), None, detail) });
    }
}

/// A node's session and edges, to be used side by side.
pub(super) struct Parts<'n, 'a> {
    pub(super) session: &'n mut dyn Endpoint,
    pub(super) edges: &'n mut Vec<EdgeRun<'a>>,
}

fn not_connected() -> NodeError {
    NodeError::new(NodeErrorKind::Lost, "the node is not connected")
}

/// What a panic was called with.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason given".to_owned())
}
