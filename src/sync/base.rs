//! What is recorded of an edge on both ends: its base, and what a run is about to make of it.

use crate::fault::{Point, reach};
use crate::model::{Intent, KeptTrees, Tree};
use crate::node::{Attempt, Endpoint, NodeError, PreparedRoot};
use crate::report::{Stage, words};
use crate::snapshot::Root;
use crate::state::{EdgeHeader, EdgeRecord, InStep};
use crate::sync::Run;
use crate::sync::edge::{EdgeRun, EdgeState, View};
use crate::sync::guard::{self, replaces};

/// Makes the node's root ready for changes, and returns its id. `None`: the node refused, and the edge has failed; or there
/// is no room for what the plan would put into the trash, and it is halted.
pub(super) fn prepare(
    run: &Run<'_>,
    session: &mut dyn Endpoint,
    edge: &mut EdgeRun<'_>,
) -> Result<Option<String>, NodeError> {
    // Main's own, should the node's have to be made.
    let root = run.origins().standing(edge.name()).ok().and_then(|main| main.root);
    Ok(match session.prepare(edge.name(), &run.spec.trash, root.as_ref())? {
        Attempt::Ok(PreparedRoot { id, pruned }) => {
            if let Some(warning) = words::pruned(&pruned) {
                edge.result.warn(Stage::Commit, warning);
            }
            if pruned.excess > 0 && edge.result.plan.actions.iter().any(replaces) {
                let halt = guard::trash_is_full(&edge.spec.scan, pruned.excess);
                edge.state = EdgeState::Halted(halt);
                return Ok(None);
            }
            Some(id)
        }
        Attempt::Err(refusal) => {
            edge.fail(Stage::Commit, refusal.to_string());
            None
        }
    })
}

/// Records what this run is about to make of an edge, before either end is touched. Should the run be cut off, the next
/// one tells by it what this one did from what people did since. Where that cannot be recorded the edge has failed.
pub(super) fn record_intent(
    run: &Run<'_>,
    session: &mut dyn Endpoint,
    edge: &mut EdgeRun<'_>,
    view: &View,
    intent: &Intent,
) -> Result<(), NodeError> {
    if intent.goal.is_empty() {
        return Ok(());
    }
    let header = match &edge.record {
        Some(old) => EdgeHeader {
            root: old.root.clone(),
            generation: old.generation.clone(),
            rules: old.rules,
            agreed: old.agreed,
            in_step: None,
        },
        None => {
            let Some(root) = prepare(run, session, edge)? else { return Ok(()) };
            let generation = match &edge.scanned.root {
                Root::Marked(marker) => marker.generation.clone(),
                Root::Missing | Root::Unmarked | Root::Unusable(_) => None,
            };
            EdgeHeader { root, generation, rules: edge.rules(), agreed: edge.tells_base, in_step: None }
        }
    };
    let empty = Tree::default();
    let base = view.base.as_deref().unwrap_or(&empty);
    let kept = edge.record.as_ref().and_then(|old| old.kept().ok()).unwrap_or_default();
    let record = EdgeRecord::new(header, base, &kept, Some(intent));
    let (state, name, node) = (run.env.state, edge.name(), edge.node);
    let saved = match edge.unconfirmed {
        // The node has noted this record already: it is the one that holds.
        true => state.promote_edge(name, node),
        false => Ok(()),
    };
    let saved = saved.and_then(|()| Ok(reach(Point::Intent)?));
    match saved.and_then(|()| state.save_edge(name, node, &record)) {
        Ok(()) => {
            edge.unconfirmed = false;
            edge.record = Some(record);
        }
        Err(error) => edge.fail(Stage::State, format!("{error:#}")),
    }
    Ok(())
}

/// Records on both ends what they agree on now, if that is anything new.
pub(super) fn store_base(
    run: &Run<'_>,
    session: &mut dyn Endpoint,
    edge: &mut EdgeRun<'_>,
    root: String,
    (base, kept): (&Tree, &KeptTrees),
    in_step: Option<InStep>,
) -> Result<(), NodeError> {
    let rules = edge.rules();
    let is_same = |old: &&EdgeRecord| {
        let same_base = || old.base().is_ok_and(|known| known == *base);
        let same_kept = || old.kept().is_ok_and(|known| known == *kept);
        old.agreed
            && old.root == root
            && old.rules == rules
            && old.intent().is_none()
            && same_base()
            && same_kept()
    };
    let same = edge.record.as_ref().filter(is_same);
    if same.is_some_and(|old| old.in_step == in_step) {
        return Ok(());
    }
    let generation = same.and_then(|old| old.generation.clone());
    let is_kept = generation.is_some();
    let generation = generation.unwrap_or_else(|| (run.env.new_id)());
    let header = EdgeHeader { root, generation: Some(generation.clone()), rules, agreed: true, in_step };
    let record = EdgeRecord::new(header, base, kept, None);
    if let Err(error) = save(run, edge, &record, is_kept) {
        edge.result.fail(Stage::State, format!("{error:#}"));
        return Ok(());
    }
    if !is_kept && !agree(run, session, edge, &generation)? {
        return Ok(());
    }
    edge.record = Some(record);
    Ok(())
}

/// Saves a record on Main: under its own name where the node has its generation already, else beside the old one. Main
/// has both until the node has noted the new generation: whenever either end stops, the node's marker tells which of
/// them holds.
fn save(run: &Run<'_>, edge: &mut EdgeRun<'_>, record: &EdgeRecord, is_kept: bool) -> anyhow::Result<()> {
    let (state, name, node) = (run.env.state, edge.name(), edge.node);
    if edge.unconfirmed {
        // The record that holds must not be overwritten by one that may come to nothing.
        state.promote_edge(name, node)?;
        edge.unconfirmed = false;
    }
    if is_kept {
        return state.save_edge(name, node, record);
    }
    state.save_next_edge(name, node, record)?;
    Ok(reach(Point::Agree)?)
}

/// Lets the node note a new generation. Whether it did.
fn agree(
    run: &Run<'_>,
    session: &mut dyn Endpoint,
    edge: &mut EdgeRun<'_>,
    generation: &str,
) -> Result<bool, NodeError> {
    if let Err(refusal) = session.agree(edge.name(), generation)? {
        edge.result.fail(Stage::State, refusal.to_string());
        return Ok(false);
    }
    edge.unconfirmed = true;
    let met = reach(Point::Agreed).map_err(anyhow::Error::from);
    match met.and_then(|()| run.env.state.promote_edge(edge.name(), edge.node)) {
        Ok(()) => edge.unconfirmed = false,
        Err(error) => edge.result.fail(Stage::State, format!("{error:#}")),
    }
    Ok(true)
}
