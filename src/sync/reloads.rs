//! Reloads of one node: what is owed, and done.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::ReloadPolicy;
use crate::fault::{Point, reach};
use crate::model::{Digest, Entry, RelPathBuf, ReloadOutcome, ReloadState};
use crate::node::NodeError;
use crate::reload::{ReloadRequest, select};
use crate::sync::main_side::MainDirectory;
use crate::sync::session::{EdgeView, Session};
use crate::sync::{Run, lock};

/// Every reload that a node's directories name.
fn kinds(edges: &[EdgeView<'_>]) -> BTreeSet<String> {
    edges.iter().flat_map(|edge| edge.directory.reload.iter().cloned()).collect()
}

/// Digests of the directories that name a reload.
fn digests(
    edges: &[EdgeView<'_>],
    kind: &str,
    digest: impl Fn(&EdgeView<'_>) -> Digest,
) -> BTreeMap<String, Digest> {
    let naming = edges.iter().filter(|edge| edge.directory.reload.iter().any(|name| name == kind));
    naming.map(|edge| (edge.directory.name.clone(), digest(edge))).collect()
}

/// Before the first change on a node: with no reload on record, what it has now counts as loaded. That is
/// remembered at once, for a run that is killed after its files are in place still owes their reload.
pub(super) fn before_changes(run: &Run<'_>, session: &Session<'_>) {
    let mut ledger = lock(&run.ledger);
    let mut added = false;
    for kind in kinds(&session.edges) {
        let before = digests(&session.edges, &kind, |edge| edge.scanned.loaded);
        added |= ledger.count_as_loaded(&session.node.name, &kind, &before);
    }
    if added && let Err(error) = run.site.state.save_ledger(&ledger) {
        log::warn!("cannot save the ledger: {error:#}");
    }
}

/// Carries out the reloads that are owed on a node, after all its files are in place.
pub(super) fn reload(run: &Run<'_>, session: &mut Session<'_>) -> Result<(), NodeError> {
    let always = run.options.reload_always || run.site.config.sync.reload == ReloadPolicy::Always;
    for kind in kinds(&session.edges) {
        let node = &session.node.name;
        let before = digests(&session.edges, &kind, |edge| edge.scanned.loaded);
        let after = digests(&session.edges, &kind, |edge| edge.loaded);
        let due = {
            let mut ledger = lock(&run.ledger);
            let owed = select::owed(ledger.loaded(node, &kind), &before, &after);
            if !owed {
                ledger.count_as_loaded(node, &kind, &before);
            }
            owed || always
        };
        let outcome = if due {
            let request = ReloadRequest {
                name: kind.clone(),
                files: files(run, session, &kind),
                timeout: timeout(run),
            };
            match reach(Point::Reload) {
                Ok(()) => session.endpoint.reload(&request)?,
                Err(error) => failed(&kind, &error),
            }
        } else {
            ReloadOutcome { name: kind.clone(), state: ReloadState::NotNeeded, detail: None }
        };
        let outcome = match outcome.state {
            ReloadState::Done => {
                reach(Point::Reloaded).map_or_else(|error| failed(&kind, &error), |()| outcome)
            }
            _ => outcome,
        };
        match outcome.state {
            // What came while Asterisk was loading may be loaded or not: then it is owed again.
            ReloadState::Done if look_again(run, session, &kind)? == after => {
                lock(&run.ledger).reloaded(&session.node.name, &kind, after);
            }
            ReloadState::Done => {}
            ReloadState::Failed | ReloadState::Owed => session.tally.reload_failed(),
            ReloadState::NotNeeded => {}
        }
        session.tally.node.reloads.push(outcome);
    }
    Ok(())
}

/// Digests of the directories that name a reload, as they are now.
fn look_again(
    run: &Run<'_>,
    session: &mut Session<'_>,
    kind: &str,
) -> Result<BTreeMap<String, Digest>, NodeError> {
    let mut now = BTreeMap::new();
    for edge in session.edges.iter().filter(|edge| edge.directory.reload.iter().any(|name| name == kind)) {
        let spec = run.site.config.scan_spec(edge.directory, Some(session.node), false);
        now.insert(edge.directory.name.clone(), session.endpoint.scan(&spec)?.loaded);
    }
    Ok(now)
}

fn failed(kind: &str, error: &std::io::Error) -> ReloadOutcome {
    ReloadOutcome { name: kind.to_owned(), state: ReloadState::Failed, detail: Some(error.to_string()) }
}

/// The files that Main has in the directories that name a reload.
fn files(run: &Run<'_>, session: &Session<'_>, kind: &str) -> Vec<(std::path::PathBuf, Vec<RelPathBuf>)> {
    let naming = session.edges.iter().filter(|edge| edge.directory.reload.iter().any(|name| name == kind));
    let files = |edge: &EdgeView<'_>| match run.main_side().get(edge.directory) {
        Some(MainDirectory::Scanned(main)) => {
            let files = main.tree.iter().filter(|(_, entry)| matches!(entry, Entry::File(_)));
            files.map(|(path, _)| path.to_owned()).collect()
        }
        _ => Vec::new(),
    };
    naming.map(|edge| (session.node.root_of(edge.directory).to_owned(), files(edge))).collect()
}

/// Longest time for a reload: it must end, one way or another, before the node counts as silent.
fn timeout(run: &Run<'_>) -> std::time::Duration {
    run.site.config.sync.timeout.mul_f32(0.6)
}
