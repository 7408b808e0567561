//! Pushed directories of one node, edge by edge: they do not depend on any other node.

use crate::model::ChangeKind;
use crate::node::NodeError;
use crate::plan::{intent, kept, push};
use crate::sync::edge::EdgeState;
use crate::sync::node_run::{NodeRun, Parts};
use crate::sync::{Run, apply, base, guard, reloads, result};

/// Plans and carries out every pushed directory of a node.
pub(super) fn push(run: &Run<'_>, node: &mut NodeRun<'_>) -> Result<(), NodeError> {
    let _permit = run.permits.take();
    for index in 0..node.edges.len() {
        if run.is_stopped() {
            return Ok(());
        }
        if node.edges[index].is_open() && !node.edges[index].directory().is_two_way() {
            push_edge(run, node, index)?;
        }
    }
    if run.spec.dry_run { node.refuse_if_read_only() } else { Ok(()) }
}

fn push_edge(run: &Run<'_>, node: &mut NodeRun<'_>, index: usize) -> Result<(), NodeError> {
    let Parts { session, edges, .. } = node.parts()?;
    let edge = &mut edges[index];
    let main = run.origins().standing(edge.name());
    if main.is_ok_and(|main| edge.is_in_step(main.digest)) {
        edge.in_step(run);
        return apply::clear_stage(run, session, edge);
    }
    let Ok(origin) = run.origins().get(run, edge.name()) else {
        edge.state = EdgeState::HaltedOnMain;
        return Ok(());
    };

    // At this point one end is not as it was when the edge was last in step.
    let view = edge.look(session, &origin, false)?;
    let directory = edge.directory();
    let mut plan = push::push(&directory.policy, &origin.tree, &[view.input(edge.node)]);
    plan.edges.iter_mut().for_each(|edge| kept::expect(&mut edge.actions, &view.found));
    let halts = guard::check(run, directory, &origin, &[edge.member(&view)], &plan);
    if let Some((_, halt)) = halts.into_iter().next() {
        edge.state = EdgeState::Halted(halt);
        return Ok(());
    }
    let plan = plan.edges.into_iter().next().unwrap_or_default();
    edge.result.own = Some(result::nodes_own(&origin.tree, &view.tree, &plan));
    edge.take_plan(run, plan);
    edge.result.waiting = edge.result.plan.left.number_of(ChangeKind::Conflict);
    if run.spec.dry_run {
        edge.loaded = edge.loaded_as_planned(&view);
        edge.state = EdgeState::Done;
        return Ok(());
    }

    // From here on the node is changed.
    reloads::before_changes(run, node);
    let Parts { session, edges, .. } = node.parts()?;
    let edge = &mut edges[index];
    let intent = intent::intent(&edge.result.plan.actions, &origin.tree, &view.tree);
    base::record_intent(run, session, edge, &view, &intent)?;
    if !edge.is_open() {
        return Ok(());
    }
    apply::apply(run, session, edge, &origin, &view, |_| true)
}
