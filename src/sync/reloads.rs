//! Reloads of one node: what is owed, and done. At most one of a kind per node and run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::fault::{Point, reach};
use crate::model::{Digest, Entry, RelPathBuf, ReloadOutcome, ReloadState};
use crate::node::{Endpoint, NodeError};
use crate::reload::{ReloadRequest, select};
use crate::report::Stage;
use crate::snapshot::Root;
use crate::sync::edge::EdgeRun;
use crate::sync::node_run::{NodeRun, Parts};
use crate::sync::{Run, lock};

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

/// Whether a directory names a reload. Of one that the node cannot look into nothing is known: neither that it changed,
/// nor that it did not.
fn names(edge: &EdgeRun<'_>, kind: &str) -> bool {
    !matches!(edge.scanned.root, Root::Unusable(_)) && edge.directory().reload.iter().any(|name| name == kind)
}

/// Digests of the directories that name a reload.
fn digests(
    edges: &[EdgeRun<'_>],
    kind: &str,
    digest: impl Fn(&EdgeRun<'_>) -> Digest,
) -> BTreeMap<String, Digest> {
    let naming = edges.iter().filter(|edge| names(edge, kind));
    naming.map(|edge| (edge.name().to_owned(), digest(edge))).collect()
}

/// Before the first change on a node: with no reload on record, what it has now counts as loaded. That is saved at
/// once, because a run that is killed after its files are in place still owes their reload.
pub(super) fn before_changes(run: &Run<'_>, node: &mut NodeRun<'_>) {
    let mut ledger = lock(run.ledger);
    let mut is_new = false;
    let kinds: BTreeSet<&String> = node.edges.iter().flat_map(|edge| &edge.directory().reload).collect();
    for kind in kinds {
        let before = digests(&node.edges, kind, |edge| edge.scanned.loaded);
        is_new |= ledger.count_as_loaded(&node.spec.name, kind, &before);
    }
    if is_new && let Err(error) = run.env.state.save_ledger(&ledger) {
        node.warn(Stage::State, format!("{error:#}"));
    }
}

/// Carries out the reloads that are owed on a node. The files of every directory that names one of them are in place.
pub(super) fn reload(run: &Run<'_>, node: &mut NodeRun<'_>, kinds: Kinds) -> Result<(), NodeError> {
    if run.spec.dry_run {
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
    let before = digests(&node.edges, kind, |edge| edge.scanned.loaded);
    let after = digests(&node.edges, kind, |edge| edge.loaded);
    let name = node.spec.name.clone();
    let is_due = {
        let mut ledger = lock(run.ledger);
        let is_owed = select::owed(ledger.loaded(&name, kind), &before, &after);
        if !is_owed {
            ledger.count_as_loaded(&name, kind, &before);
        }
        is_owed || run.spec.reload_always
    };
    if !is_due {
        return Ok(Some(outcome(kind, ReloadState::NotNeeded, None)));
    }
    if !run.spec.reload_always && !(run.env.may_reload)(&name, kind) {
        return Ok(None);
    }
    let Parts { session, edges, .. } = node.parts()?;
    let request = ReloadRequest {
        name: kind.to_owned(),
        files: files(run, edges, kind),
        timeout: run.spec.reload_timeout,
    };
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
        lock(run.ledger).reloaded(&name, kind, after);
    }
    Ok(Some(done))
}

fn outcome(kind: &str, state: ReloadState, detail: Option<String>) -> ReloadOutcome {
    ReloadOutcome { name: kind.to_owned(), state, detail }
}

/// Digests of the directories that name a reload, as they are now.
fn look_again(
    session: &mut dyn Endpoint,
    edges: &[EdgeRun<'_>],
    kind: &str,
) -> Result<BTreeMap<String, Digest>, NodeError> {
    let naming = edges.iter().filter(|edge| names(edge, kind));
    naming.map(|edge| Ok((edge.name().to_owned(), session.scan(&edge.spec.rescan())?.loaded))).collect()
}

/// The files that Main has in the directories that name a reload.
fn files(run: &Run<'_>, edges: &[EdgeRun<'_>], kind: &str) -> Vec<(PathBuf, Vec<RelPathBuf>)> {
    let files_of = |edge: &EdgeRun<'_>| -> Vec<RelPathBuf> {
        let Ok(origin) = run.origins().get(edge.name()) else { return Vec::new() };
        let files = origin.tree.iter().filter(|(_, entry)| matches!(entry, Entry::File(_)));
        files.map(|(path, _)| path.to_owned()).collect()
    };
    let naming = edges.iter().filter(|edge| names(edge, kind));
    naming.map(|edge| (edge.spec.scan.root.clone(), files_of(edge))).collect()
}
