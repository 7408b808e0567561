//! Carrying out on a node what was planned for one edge, and recording what both ends have in common then.

use std::collections::BTreeMap;

use crate::model::{Action, Digest, Outcome};
use crate::node::{Endpoint, NodeError};
use crate::plan::{agree, apply};
use crate::report::Stage;
use crate::snapshot::tree_digest;
use crate::state::InStep;
use crate::sync::Run;
use crate::sync::base;
use crate::sync::blobs::{self, Missing};
use crate::sync::edge::{EdgeRun, EdgeState, View};
use crate::sync::guard::replaces;
use crate::sync::metered::Metered;
use crate::sync::origin::Origin;
use crate::sync::timely::{SENDING, Timely};
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
    let mut after = view.tree.as_ref().clone();
    let mut in_step = None;
    if is_idle {
        let plan = &edge.result.plan;
        let is_quiet = edge.scanned.settled && origin.settled && plan.notes.is_empty();
        if is_quiet && !plan.leaves_anything() {
            in_step = Some(InStep { main: edge.main_key(origin), node: edge.scanned.digest });
        }
    } else {
        let outcomes = put_in_place(run, session, edge, origin, &on_origin)?;
        after = apply::apply_done(&after, &edge.result.plan.actions, &outcomes);
        let all_done = outcomes.iter().all(|outcome| *outcome == Some(Outcome::Done));
        edge.result.on_node.outcomes = outcomes;
        if edge.result.plan.actions.iter().any(replaces) {
            edge.result.on_node.trashed = session.trashed(edge.name())?;
        }
        // What the node has now, by its own eyes: the truth for reloads, and proof that all went as planned.
        let now = session.scan(&edge.spec.rescan())?;
        edge.loaded = now.loaded;
        // What was not done is absent from `after` as well. The two are the same then, and something is left to do.
        let as_planned = all_done && now.digest == tree_digest(&after);
        if as_planned && now.settled && origin.settled && !edge.result.plan.leaves_anything() {
            in_step = Some(InStep { main: edge.main_key(origin), node: now.digest });
        }
    }
    edge.state = EdgeState::Done;
    let old = view.base.as_deref();
    let agreed = agree::agree(edge.directory().direction, old, &origin.tree, &after, &view.owners);
    let is_finished = in_step.is_some();
    base::store_base(run, session, edge, root, &agreed, in_step)?;
    if is_finished {
        clear_stage(run, session, edge)?;
    }
    Ok(())
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
