//! Reloads of one node: what is owed, and done. At most one of a kind per node and run.

use std::collections::BTreeSet;

use crate::fault::{Point, reach};
use crate::model::{Digest, ReloadOutcome, ReloadState};
use crate::node::{Endpoint, NodeError};
use crate::reload::ReloadRequest;
use crate::reload::select::{self, Looks};
use crate::report::Stage;
use crate::snapshot::Root;
use crate::sync::edge::{EdgeRun, EdgeState};
use crate::sync::node_run::{NodeRun, Parts};
use crate::sync::{Phase, Run, lock};

/// Which reloads of a node are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinds {
    /// Those that pushed directories alone name: all files that they depend on are in place before any round.
    PushedAlone,
    /// Those that a two-way directory names as well.
    Rest,
}

impl Kinds {
    fn of(self, edges: &[EdgeRun<'_>]) -> BTreeSet<String> {
        let kinds = |two_way: bool| -> BTreeSet<String> {
            let edges = edges.iter().filter(|edge| edge.directory().is_two_way() == two_way);
            edges.flat_map(|edge| edge.directory().reload.iter().cloned()).collect()
        };
        match self {
            Kinds::PushedAlone => &kinds(false) - &kinds(true),
            Kinds::Rest => kinds(true),
        }
    }
}

/// The edges of the directories that name a reload.
fn naming<'e, 'a>(edges: &'e [EdgeRun<'a>], kind: &str) -> impl Iterator<Item = &'e EdgeRun<'a>> {
    edges.iter().filter(move |edge| edge.directory().reload.iter().any(|name| name == kind))
}

/// The edges that owe a reload what changed in them. One that was stopped does not: nothing of it is touched, and that
/// includes what Asterisk has loaded of it. Of one that the node cannot look into nothing is known.
fn looked_at<'e, 'a>(edges: &'e [EdgeRun<'a>], kind: &str) -> impl Iterator<Item = &'e EdgeRun<'a>> {
    naming(edges, kind).filter(|edge| match &edge.state {
        EdgeState::Halted(_) | EdgeState::HaltedOnMain => false,
        EdgeState::Open | EdgeState::InStep | EdgeState::Done | EdgeState::Failed => {
            !matches!(edge.scanned.root, Root::Unusable(_))
        }
    })
}

/// What the directories that owe a reload look like.
fn looks(edges: &[EdgeRun<'_>], kind: &str, digest: impl Fn(&EdgeRun<'_>) -> Digest) -> Looks {
    looked_at(edges, kind).map(|edge| (edge.name().to_owned(), digest(edge))).collect()
}

/// Before changes on a node: with no reload on record, what it has now counts as loaded; what differs from the record is
/// owed, also if this run restores it. That is saved at once, because a run that is killed after its files are in place
/// still owes their reload.
pub(super) fn before_changes(run: &Run<'_>, node: &mut NodeRun<'_>) {
    if node.spec.is_follower {
        return;
    }
    let name = &node.spec.name;
    let kinds: BTreeSet<&String> = node.edges.iter().flat_map(|edge| &edge.directory().reload).collect();
    let mut is_new = false;
    {
        let mut ledger = lock(run.ledger);
        for kind in kinds {
            // As it is now: a reload may have been done in this run.
            let before = looks(&node.edges, kind, |edge| edge.loaded);
            is_new |= ledger.count_as_loaded(name, kind, &before);
            let record = ledger.loaded(name, kind).cloned();
            let is_owed = |(directory, was): &(&String, &Digest)| {
                select::is_owed(record.as_ref(), directory, Some(*was))
            };
            let owed = before.iter().filter(is_owed).map(|(directory, _)| directory);
            is_new |= ledger.owe_reload(name, kind, owed);
        }
    }
    if is_new {
        save(run, node);
    }
}

fn save(run: &Run<'_>, node: &mut NodeRun<'_>) {
    let saved = run.env.state.save_ledger(&lock(run.ledger));
    if let Err(error) = saved {
        node.warn(Stage::State, format!("{error:#}"));
    }
}

/// Carries out the reloads that are owed on a node. The files of every directory that names one of them are in place.
pub(super) fn reload(run: &Run<'_>, node: &mut NodeRun<'_>, kinds: Kinds) -> Result<(), NodeError> {
    // A follower sees to its own.
    if node.spec.is_follower {
        return Ok(());
    }
    let _permit = run.permits.take();
    for kind in kinds.of(&node.edges) {
        let outcome = reload_one(run, node, &kind)?;
        node.reloads.extend(outcome);
    }
    Ok(())
}

/// `None`: it is due, and left to a later run.
fn reload_one(run: &Run<'_>, node: &mut NodeRun<'_>, kind: &str) -> Result<Option<ReloadOutcome>, NodeError> {
    let before = looks(&node.edges, kind, |edge| edge.scanned.loaded);
    let after = looks(&node.edges, kind, |edge| edge.loaded);
    let name = node.spec.name.clone();
    let is_due = {
        let mut ledger = lock(run.ledger);
        let is_owed = select::owed(ledger.loaded(&name, kind), &before, &after);
        if !is_owed && !run.spec.dry_run {
            ledger.count_as_loaded(&name, kind, &before);
        }
        is_owed || (run.spec.reload_always && !after.is_empty())
    };
    if !is_due {
        return Ok(Some(not_due(run, node, kind)));
    }
    // Owed from before it is tried: Asterisk carries out a reload that fails, and one whose run is killed.
    if !run.spec.dry_run && lock(run.ledger).owe_reload(&name, kind, after.keys()) {
        save(run, node);
    }
    if let Some(edge) = naming(&node.edges, kind).find(|edge| is_absent(edge)) {
        let detail = format!("not while {} is missing on {name}", edge.spec.scan.root.display());
        return Ok(Some(outcome(kind, ReloadState::Owed, Some(detail))));
    }
    if run.spec.dry_run {
        return Ok(Some(outcome(kind, ReloadState::Owed, None)));
    }
    if !run.spec.reload_always && !(run.env.may_reload)(&name, kind) {
        return Ok(None);
    }
    node.at(Phase::Reloading);
    let Parts { session, edges, .. } = node.parts()?;
    let roots = looked_at(edges, kind).map(|edge| edge.spec.scan.root.clone()).collect();
    let request = ReloadRequest { name: kind.to_owned(), roots, timeout: run.spec.reload_timeout };
    let done = match reach(Point::Reload) {
        Ok(()) => session.reload(&request)?,
        Err(error) => outcome(kind, ReloadState::Failed, Some(error.to_string())),
    };
    if done.state != ReloadState::Done {
        return Ok(Some(done));
    }
    if let Err(error) = reach(Point::Reloaded) {
        return Ok(Some(outcome(kind, ReloadState::Failed, Some(error.to_string()))));
    }
    // What came while Asterisk was loading may be loaded or not: then the reload is owed again.
    if look_again(session, edges, kind)? == after {
        lock(run.ledger).reloaded(&name, kind, after, done.detail.clone());
    }
    Ok(Some(done))
}

/// A reload that nothing calls for in this run. It may be owed for a directory that was stopped. What was warned of when
/// it last succeeded is still so.
fn not_due(run: &Run<'_>, node: &NodeRun<'_>, kind: &str) -> ReloadOutcome {
    let (ledger, name) = (lock(run.ledger), &node.spec.name);
    let record = ledger.loaded(name, kind);
    let is_owed = |edge: &&EdgeRun<'_>| record.is_some_and(|record| record.get(edge.name()) == Some(&None));
    match naming(&node.edges, kind).find(is_owed) {
        Some(edge) => outcome(kind, ReloadState::Owed, Some(format!("not while {} is stopped", edge.name()))),
        None => outcome(kind, ReloadState::NotNeeded, ledger.reload_warning(name, kind).cloned()),
    }
}

/// Whether an edge has lost the directory that Asterisk has loaded: then Asterisk must go on with what it has.
fn is_absent(edge: &EdgeRun<'_>) -> bool {
    matches!((&edge.scanned.root, &edge.state), (Root::Missing, EdgeState::Halted(_)))
}

fn outcome(kind: &str, state: ReloadState, detail: Option<String>) -> ReloadOutcome {
    ReloadOutcome { name: kind.to_owned(), state, detail }
}

/// What the directories that owe a reload look like now.
fn look_again(session: &mut dyn Endpoint, edges: &[EdgeRun<'_>], kind: &str) -> Result<Looks, NodeError> {
    looked_at(edges, kind)
        .map(|edge| Ok((edge.name().to_owned(), session.scan(&edge.spec.rescan())?.loaded)))
        .collect()
}
