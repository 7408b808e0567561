//! Pass 4: what was decided, as actions of each host.
//!
//! Given I1 to I5. Guarantees I6 and I7.

use std::collections::BTreeMap;

use super::{Decided, DecidedPath, Goal, Input, metadata};
use crate::model::{ChangeKind, Entry, RelPath, RelPathBuf, Side, Step, Tree};
use crate::plan::{Desired, EdgePlan, Host, OwnerMap, Plan, diff};

/// The plan: what every host is to do, and from which edges it gets what is new.
pub(super) fn assign(input: Input<'_>, paths: &[DecidedPath<'_>], mut plans: Vec<EdgePlan>) -> Plan {
    let mut on_main = Desired::default();
    let mut on_nodes = vec![Desired::default(); input.edges.len()];
    let mut sources: BTreeMap<&RelPath, usize> = BTreeMap::new();
    for DecidedPath { path, decided, edges } in paths {
        let Decided::Becomes(goal) = decided else { continue };
        if desire(&mut on_main, path, goal, Host::Main, input.main, input.main_names) {
            sources.insert(path, source_edge(input, path, goal, edges));
        }
        for &index in edges {
            let edge = &input.edges[index];
            desire(&mut on_nodes[index], path, goal, Host::Node(index), edge.node, edge.names);
        }
    }
    for ((desired, edge), plan) in on_nodes.iter_mut().zip(input.edges).zip(&mut plans) {
        plan.not_taken = desired.leave_out(input.policy.take, edge.node);
        desired.keep_non_empty_dirs(edge.node);
        plan.actions = diff::actions(edge.node, desired);
        plan.changes = diff::changes(&plan.actions, desired, Side::Node);
    }
    on_main.keep_non_empty_dirs(input.main);
    let main = diff::actions(input.main, &on_main);
    for change in diff::changes(&main, &on_main, Side::Main) {
        let from = sources.get(&*change.change.path).copied().unwrap_or_default();
        if let Some(plan) = plans.get_mut(from) {
            plan.changes.push(change);
        }
    }
    let pulls = main.iter().filter_map(|action| match (&action.step, sources.get(&*action.path)?) {
        (Step::Put(Entry::File(_)), index) => Some((action.path.clone(), *index)),
        _ => None,
    });
    let pulls = pulls.collect();
    Plan { main, pulls, sources: brought(paths), edges: plans, conflicts: Vec::new() }
}

/// The paths that become something which only nodes have, with the edge it comes from.
fn brought(paths: &[DecidedPath<'_>]) -> BTreeMap<RelPathBuf, usize> {
    let brought = paths.iter().filter_map(|path| match &path.decided {
        Decided::Becomes(Goal { entry: Some(_), source: Host::Node(index), .. }) => {
            Some((path.path.to_owned(), *index))
        }
        _ => None,
    });
    brought.collect()
}

/// The edge that a change of Main's comes from.
///
/// Where Main is the source of the content, it gets only the metadata of a node that has the content too.
fn source_edge(input: Input<'_>, path: &RelPath, goal: &Goal, edges: &[usize]) -> usize {
    let main = input.main.get(path);
    let has_goal = |index: &&usize| {
        let node = input.edges[**index].node.get(path);
        node.map(|node| metadata::of_node(node, main)) == goal.entry
    };
    match goal.source {
        Host::Node(index) => index,
        Host::Main => edges.iter().find(has_goal).copied().unwrap_or_default(),
    }
}

/// Sets what a host shall have at a path, unless it has that already; whether anything was set.
fn desire(
    desired: &mut Desired,
    path: &RelPath,
    goal: &Goal,
    host: Host,
    tree: &Tree,
    names: &OwnerMap,
) -> bool {
    let kind = match (&goal.entry, tree.get(path)) {
        (None, None) => return false,
        (Some(want), Some(have)) if names.matches(want, have) => return false,
        (Some(want), Some(have)) if want.same_content(have) => ChangeKind::Metadata,
        _ if goal.losers.contains(&host) => ChangeKind::Conflict,
        (None, Some(_)) => ChangeKind::Delete,
        (Some(_), None) => ChangeKind::Create,
        (Some(_), Some(_)) => ChangeKind::Update,
    };
    let reason = goal.reason.clone().filter(|_| kind != ChangeKind::Metadata);
    desired.set(path, goal.entry.as_ref().map(|want| names.adapt(want)), kind, reason);
    true
}
