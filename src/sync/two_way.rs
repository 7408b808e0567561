//! Two-way directories. They are planned once over all nodes that are there together, a *round*: every end is held
//! against the base of its own edge, so that the order of nodes does not matter.
//!
//! What is new on nodes comes to Main first, and from Main it goes to everybody. Who comes too late for a round, or takes
//! too long to send what Main is to get, has a later one, as if it had been away before.

mod pull;
mod pulled;
mod round_plan;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, Scope};

use crate::model::{Action, Outcome};
use crate::node::NodeError;
use crate::plan::{apply as applied, intent, kept};
use crate::report::Stage;
use crate::snapshot::tree_digest;
use crate::sync::edge::{EdgeRun, EdgeState};
use crate::sync::node_run::{NodeRun, Parts};
use crate::sync::origin::{self, Origin};
use crate::sync::reloads::{self, Kinds};
use crate::sync::result::HostResult;
use crate::sync::{Cluster, Phase, Run, apply, base, blobs, conflicts, lock, unkept};

pub(super) use pulled::Pull;
use round_plan::RoundPlan;

/// Carries out a round, and ends the part of every node that was in it. A panic that is no single node's ends the part
/// of all of them.
pub(super) fn round<'scope, 'env, 'a>(
    run: &'env Run<'a>,
    cluster: &'env Cluster<'a>,
    scope: &'scope Scope<'scope, 'env>,
    mut nodes: Vec<NodeRun<'a>>,
) {
    let count = nodes.len();
    match catch_unwind(AssertUnwindSafe(|| carry_out(run, cluster, scope, &mut nodes))) {
        Ok(()) => {}
        Err(panic) => {
            nodes.iter_mut().for_each(|node| node.break_down(&*panic));
            // What was on its way to another thread at that moment does not come back.
            (nodes.len()..count).for_each(|_| cluster.lobby.leave());
        }
    }
    nodes.into_iter().for_each(|node| cluster.finish(node));
}

fn carry_out<'scope, 'env, 'a>(
    run: &'env Run<'a>,
    cluster: &'env Cluster<'a>,
    scope: &'scope Scope<'scope, 'env>,
    nodes: &mut Vec<NodeRun<'a>>,
) {
    let moving = moving(run, nodes);
    each(nodes, |node| look(run, node, &moving));

    // Until Main has changed no other round plans: it shall plan with what Main has then.
    let turn = lock(&run.turn);
    let plans = loop {
        cluster.sort(nodes);
        let plans = round_plan::plan(run, nodes, &moving);
        if !run.may_change() {
            break plans;
        }
        let expected = nodes.len();
        nodes.iter().for_each(|node| node.at(Phase::Working));
        *nodes = pull::pull(run, cluster, scope, std::mem::take(nodes), &plans);
        if nodes.len() == expected {
            break plans;
        }
        // Some are still sending. The others go on without them, and nothing may depend on what those have.
    };
    round_plan::assign(run, &plans, nodes);
    if run.may_change() {
        each(nodes, |node| record_intents(run, node, &plans));
        let merged: Vec<Option<Arc<Origin>>> = plans.iter().map(|plan| merge(run, plan, nodes)).collect();
        drop(turn);
        each(nodes, |node| bring(run, node, &plans, &merged));
    } else if run.spec.dry_run {
        each(nodes, |node| foresee(node, &plans));
    }
    each(nodes, |node| reloads::reload(run, node, Kinds::Rest));
}

/// Lets every node do something, side by side.
fn each<'a>(nodes: &mut [NodeRun<'a>], step: impl Fn(&mut NodeRun<'a>) -> Result<(), NodeError> + Sync) {
    let step = &step;
    thread::scope(|scope| {
        for node in nodes {
            scope.spawn(move || node.step(step));
        }
    });
}

/// The two-way directories in which any node of the round is not in step.
fn moving(run: &Run<'_>, nodes: &[NodeRun<'_>]) -> BTreeSet<String> {
    let open = nodes.iter().flat_map(|node| &node.edges);
    let open = open.filter(|edge| edge.is_open() && edge.directory().is_two_way());
    let moving = open.filter(|edge| match run.origins().standing(edge.name()) {
        Ok(main) => !edge.is_in_step(main.digest),
        Err(_) => false,
    });
    moving.map(|edge| edge.name().to_owned()).collect()
}

/// Fetches the trees of a node, where its directories are to be planned.
fn look(run: &Run<'_>, node: &mut NodeRun<'_>, moving: &BTreeSet<String>) -> Result<(), NodeError> {
    let _permit = run.permits.take();
    let Parts { session, edges, .. } = node.parts()?;
    for edge in edges.iter_mut().filter(|edge| edge.is_open() && edge.directory().is_two_way()) {
        if run.origins().standing(edge.name()).is_ok() && !moving.contains(edge.name()) {
            edge.in_step(run);
            apply::clear_stage(run, session, edge)?;
            continue;
        }
        match run.origins().get(run, edge.name()) {
            Ok(origin) => edge.view = Some(edge.look(session, &origin, true)?),
            Err(_) => edge.state = EdgeState::HaltedOnMain,
        }
    }
    Ok(())
}

/// Records what is about to become of a node's edges, before Main or the node changes.
fn record_intents(run: &Run<'_>, node: &mut NodeRun<'_>, plans: &[RoundPlan]) -> Result<(), NodeError> {
    let Parts { session, edges, .. } = node.parts()?;
    for plan in plans {
        let Some(edge) = planned(edges, plan) else { continue };
        let Some(view) = edge.view.clone() else { continue };
        let actions = plan.plan.main.iter().chain(&edge.result.plan.actions);
        let intent = intent::intent(actions, &plan.origin.tree, &view.tree);
        base::record_intent(run, session, edge, &view, &intent)?;
    }
    Ok(())
}

/// Puts in place on Main what a plan says, and looks at Main again. `None` where Main's directory cannot be used
/// any more.
fn merge(run: &Run<'_>, plan: &RoundPlan, nodes: &mut [NodeRun<'_>]) -> Option<Arc<Origin>> {
    conflicts::record(run, &plan.directory, &plan.plan, &plan.members);
    let actions = &plan.plan.main;
    if actions.is_empty() {
        return Some(Arc::clone(&plan.origin));
    }
    let name = &plan.directory.name;
    let (outcomes, trashed) = {
        let mut main = lock(&run.env.main);
        let committed = blobs::commit_present(
            actions,
            |action| plan.missing(run, action),
            |present| main.commit(name, present),
        );
        let lost = |error: NodeError| vec![Some(Outcome::Failed(error.detail)); actions.len()];
        (committed.unwrap_or_else(lost), main.trashed(name))
    };
    pulled::forget(run, name);
    (run.env.merged)(name, &plan.members);
    let after = applied::apply_done(&plan.origin.tree, actions, &outcomes);
    let found = kept::apply_kept(&plan.origin.found, actions, &outcomes);
    let all_done = outcomes.iter().all(|outcome| outcome.as_ref().is_some_and(Outcome::is_done));
    // By its own eyes: only what is there as planned may be recorded as in step.
    let origin = origin::scan(run, &plan.directory).map(|now| {
        let settled = all_done && now.settled && now.digest == tree_digest(&found);
        Arc::new(Origin { tree: Arc::new(after), found: Arc::new(found), settled, ..now })
    });
    unkept::warn_on_main(run, name, actions, &outcomes);
    let (trashed, problem) = match trashed {
        Ok(trashed) => (trashed, None),
        Err(error) => (Vec::new(), Some(error.detail)),
    };
    let result = Arc::new(HostResult { outcomes, trashed });
    for node in nodes {
        if let Some(edge) = planned(&mut node.edges, plan) {
            edge.result.on_main = Some(Arc::clone(&result));
            if let Some(detail) = &problem {
                edge.result.warn(Stage::Commit, detail.clone());
            }
        }
    }
    match origin {
        Ok(origin) => {
            run.origins().set(name, Arc::clone(&origin));
            Some(origin)
        }
        Err(halt) => {
            run.origins().halt(name, halt);
            None
        }
    }
}

/// In a dry run: what will have come of the plans on a node.
fn foresee(node: &mut NodeRun<'_>, plans: &[RoundPlan]) -> Result<(), NodeError> {
    for plan in plans {
        if let Some(edge) = planned(&mut node.edges, plan)
            && let Some(view) = &edge.view
        {
            edge.loaded = edge.loaded_as_planned(view);
        }
    }
    node.refuse_if_read_only()
}

/// Brings a node what the plans say, from Main.
fn bring(
    run: &Run<'_>,
    node: &mut NodeRun<'_>,
    plans: &[RoundPlan],
    merged: &[Option<Arc<Origin>>],
) -> Result<(), NodeError> {
    let _permit = run.permits.take();
    for (plan, origin) in plans.iter().zip(merged) {
        if run.is_stopped() {
            return Ok(());
        }
        let Some(edge) = planned(&mut node.edges, plan) else { continue };
        let (Some(origin), Some(view)) = (origin, edge.view.take()) else { continue };
        if !edge.result.plan.actions.is_empty() {
            reloads::before_changes(run, node);
        }
        let Parts { session, edges, .. } = node.parts()?;
        let Some(edge) = planned(edges, plan) else { continue };
        // What Main did not get cannot go on to this node. Main's own outcome says why.
        let on_origin = |action: &Action| match blobs::needed(action) {
            Some(file) => {
                let main = origin.tree.get(&action.path).and_then(|entry| entry.as_file());
                main.is_some_and(|main| main.digest == file.digest)
            }
            None => true,
        };
        apply::apply(run, session, edge, origin, &view, on_origin)?;
    }
    Ok(())
}

/// The edge of a node that takes part in a plan.
fn planned<'e, 'a>(edges: &'e mut [EdgeRun<'a>], plan: &RoundPlan) -> Option<&'e mut EdgeRun<'a>> {
    let edge = edges.iter_mut().find(|edge| edge.name() == plan.directory.name)?;
    (edge.is_open() && plan.member(edge.node).is_some()).then_some(edge)
}
