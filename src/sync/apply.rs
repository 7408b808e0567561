//! Carrying out on a node what was planned for one edge, and recording what both ends have in common then.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Action, Digest, KeptTrees, Outcome, Tree};
use crate::node::{Endpoint, NodeError};
use crate::plan::{agree, apply, kept};
use crate::report::Stage;
use crate::snapshot::tree_digest;
use crate::state::InStep;
use crate::sync::base;
use crate::sync::blobs::{self, Missing};
use crate::sync::edge::{EdgeRun, EdgeState, View};
use crate::sync::guard::replaces;
use crate::sync::metered::Metered;
use crate::sync::origin::Origin;
use crate::sync::timely::{SENDING, Timely};
use crate::sync::{Run, unkept};
use crate::transfer::BlobRequest;

/// Carries out the plan of an edge. Actions for which `on_origin` says no are left for a later run: what they need has
/// not come to Main.
pub(super) fn apply(
    run: &Run<'_>,
    session: &mut dyn Endpoint,
    edge: &mut EdgeRun<'_>,
    origin: &Origin,
    view: &View,
    on_origin: impl Fn(&Action) -> bool,
) -> Result<(), NodeError> {
    let is_idle = edge.result.plan.actions.is_empty();
    let mut root = edge.record.as_ref().map(|record| record.root.clone());
    if !is_idle || root.is_none() || edge.scanned.leftovers {
        root = base::prepare(run, session, edge)?;
    }
    let Some(root) = root else { return Ok(()) };
    let (mut after, mut found) = (Arc::clone(&view.tree), Arc::clone(&view.found));
    let mut in_step = None;
    // What a node does not take is told by every run, so it is planned anew.
    let is_all_taken = edge.result.plan.not_taken.is_empty();
    if is_idle {
        let plan = &edge.result.plan;
        let is_quiet = edge.scanned.settled && origin.settled && plan.left.notes().is_empty();
        if is_quiet && !plan.leaves_anything() {
            in_step = Some(InStep { main: edge.main_key(origin.digest), node: edge.scanned.digest });
        }
    } else {
        let outcomes = put_in_place(run, session, edge, origin, &on_origin)?;
        let actions = &edge.result.plan.actions;
        after = Arc::new(apply::apply_done(&after, actions, &outcomes));
        found = Arc::new(kept::apply_kept(&found, actions, &outcomes));
        unkept::warn_on_node(run, edge, &outcomes);
        let all_done = outcomes.iter().all(|outcome| outcome.as_ref().is_some_and(Outcome::is_done));
        edge.result.on_node.outcomes = outcomes;
        if edge.result.plan.actions.iter().any(replaces) {
            edge.result.on_node.trashed = session.trashed(edge.name())?;
        }
        // What the node has now, by its own eyes: the truth for reloads, and proof that all went as planned.
        let now = session.scan(&edge.spec.rescan())?;
        edge.loaded = now.loaded;
        // What was not done is absent from `found` as well. The two are the same then, and something is left to do.
        let as_planned = all_done && now.digest == tree_digest(&found);
        if as_planned && now.settled && origin.settled && !edge.result.plan.leaves_anything() {
            in_step = Some(InStep { main: edge.main_key(origin.digest), node: now.digest });
        }
    }
    let is_finished = in_step.is_some();
    let in_step = in_step.filter(|_| is_all_taken);
    edge.state = EdgeState::Done;
    let old = view.base.as_deref();
    let agreed = agree::agree(edge.directory().direction, old, &origin.tree, &after, &view.owners);
    let kept = KeptTrees {
        main: kept_of(&agreed, &origin.tree, &origin.found, view),
        node: kept_of(&agreed, &after, &found, view),
    };
    base::store_base(run, session, edge, root, (&agreed, &kept), in_step)?;
    if kept == KeptTrees::default() {
        unkept::forget(run, edge.name(), edge.node);
    }
    if is_finished {
        clear_stage(run, session, edge)?;
    }
    Ok(())
}

/// What a disk is known to make of entries of the next base. As a rule it keeps what it is given.
fn kept_of(agreed: &Tree, given: &Arc<Tree>, found: &Arc<Tree>, view: &View) -> Tree {
    if Arc::ptr_eq(given, found) { Tree::default() } else { kept::kept(agreed, given, found, &view.owners) }
}

/// Empties the stage of a directory in which nothing is left to do: what a run that was cut off has left there is of no
/// use any more.
pub(super) fn clear_stage(
    run: &Run<'_>,
    session: &mut dyn Endpoint,
    edge: &mut EdgeRun<'_>,
) -> Result<(), NodeError> {
    if !edge.scanned.leftovers || run.spec.dry_run || base::prepare(run, session, edge)?.is_none() {
        return Ok(());
    }
    if let Err(refusal) = session.clear_stage(edge.name())? {
        edge.result.fail(Stage::Commit, refusal.to_string());
    }
    Ok(())
}

/// Stages and commits. One outcome for each action, `None` where it was not reached.
fn put_in_place(
    run: &Run<'_>,
    session: &mut dyn Endpoint,
    edge: &mut EdgeRun<'_>,
    origin: &Origin,
    on_origin: &impl Fn(&Action) -> bool,
) -> Result<Vec<Option<Outcome>>, NodeError> {
    let requests = blobs::requests(edge.result.plan.actions.iter().filter(|action| on_origin(action)));
    let missing = stage(run, session, edge, origin, &requests)?;
    let lacks = |action: &Action| match on_origin(action) {
        true => missing.get(&blobs::needed(action)?.digest).cloned(),
        false => Some(Missing::NotReached),
    };
    let name = edge.name();
    blobs::commit_present(&edge.result.plan.actions, lacks, |present| session.commit(name, present))
}

/// Gets blobs onto a node. Returns those that did not arrive, and why.
fn stage(
    run: &Run<'_>,
    session: &mut dyn Endpoint,
    edge: &mut EdgeRun<'_>,
    origin: &Origin,
    requests: &[BlobRequest],
) -> Result<BTreeMap<Digest, Missing>, NodeError> {
    if requests.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut source = (origin.source)();
    let mut source = Timely::new(&mut *source, run.env.now, SENDING);
    let mut wire = Metered::new(run, edge.node, &mut source);
    let received = session.stage(edge.name(), requests, &mut wire);
    edge.result.bytes += wire.bytes;
    let late = source.late;
    let mut missing = blobs::failed(requests, received?);
    if !late.is_empty() {
        let (number, time) = (late.len(), humantime::format_duration(SENDING));
        let detail =
            format!("{number} files were not begun to be sent within {time}; the next run goes on with them");
        edge.result.warn(Stage::Transfer, detail);
        missing.extend(late.into_iter().map(|digest| (digest, Missing::NotReached)));
    }
    Ok(missing)
}
