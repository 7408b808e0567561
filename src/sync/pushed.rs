//! Pushed directories of one node, edge by edge.

use crate::config::Directory;
use crate::model::{Deletions, Tree};
use crate::node::NodeError;
use crate::plan::{EdgeInput, Plan, Policy, intent, push, safety};
use crate::report::{Guard, words};
use crate::sync::carry::{self, Job};
use crate::sync::session::{self, EdgeView, Session};
use crate::sync::{Run, reloads};

/// Plans and carries out every pushed directory of a node.
pub(super) fn push_all(run: &Run<'_>, session: &mut Session<'_>) -> Result<(), NodeError> {
    for index in 0..session.edges.len() {
        if run.is_stopped() {
            return Ok(());
        }
        if carry::is_pushed(&session.edges[index]) {
            push_one(run, session, index)?;
        }
    }
    Ok(())
}

fn push_one(run: &Run<'_>, session: &mut Session<'_>, index: usize) -> Result<(), NodeError> {
    let edge = &mut session.edges[index];
    let tally = &mut session.tally;
    let Some(main) = session::main_tree(run, edge, tally) else { return Ok(()) };
    if edge.is_in_step(main) {
        let known = session::known_skips(run, &session.node.name, &edge.directory.name);
        tally.skipped(edge.directory, &known, &known);
        return Ok(());
    }
    let endpoint = session.endpoint.as_mut();
    let (node_tree, base) = edge.trees(endpoint, &main.tree, tally)?;
    let base = base.as_deref();
    let names = session::names(endpoint, edge.directory, &[&main.tree])?;
    let view = EdgeInput {
        name: &session.node.name,
        base,
        same_rules: edge.same_rules(),
        node: &node_tree,
        names: &names,
    };
    let plan = push::push(&policy(edge.directory), &main.tree, &[view]);
    let stop = guard(run, edge, &plan, base, &main.tree, &node_tree);
    if let Some((guard, detail, token)) = stop {
        edge.closed = true;
        tally.halt(edge.directory, guard, detail, Some(token));
        return Ok(());
    }
    if !carry::has_room(edge, tally, &plan.edges[0]) {
        return Ok(());
    }
    carry::tell(run, edge, tally, &plan.edges[0]);
    if run.options.dry_run {
        return Ok(());
    }
    reloads::before_changes(run, session);
    let Session { node, endpoint, edges, tally } = session;
    let plan = &plan.edges[0];
    let edge = &mut edges[index];
    carry::set_out(
        run,
        endpoint.as_mut(),
        edge,
        tally,
        base,
        &intent::intent(&plan.actions, &main.tree, &node_tree),
    )?;
    let job = Job { node, main, node_tree: &node_tree, names: &names, base, plan, complete: true };
    carry::carry(run, endpoint.as_mut(), edge, tally, &job)
}

pub(super) fn policy(directory: &Directory) -> Policy {
    Policy { delete: directory.delete, conflict: directory.conflict, max_delete: directory.max_delete }
}

/// Whether so much would go that somebody should look first; the guard, what it saw, and the token that
/// releases just this plan.
fn guard(
    run: &Run<'_>,
    edge: &EdgeView<'_>,
    plan: &Plan,
    base: Option<&Tree>,
    main: &Tree,
    node: &Tree,
) -> Option<(Guard, String, String)> {
    let deletions = safety::deletions(node, &plan.edges[0].actions);
    let Deletions { deleted, all } = deletions;
    let path = edge.directory.path.display();
    let (guard, detail) = if deleted.files > 0 && safety::emptied(base, main) {
        (Guard::Emptied, format!("{path} has become empty; {} files would be deleted", deleted.files))
    } else if edge.directory.max_delete.exceeded(deleted, all) {
        (Guard::MaxDelete, words::deletions(deletions))
    } else {
        return None;
    };
    let token = safety::token(&edge.directory.name, plan);
    (!run.is_accepted(&token)).then_some((guard, detail, token))
}
