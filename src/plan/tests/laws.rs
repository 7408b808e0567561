//! What holds for all trees.

use proptest::prelude::*;

use super::*;
use crate::model::tree::tests::any_tree;
use crate::model::{Direction, Tree};
use crate::plan::agree::agree;
use crate::plan::both::{Resolutions, both};
use crate::plan::push::push;
use crate::plan::safety;

/// Without what a base never holds.
fn plain(tree: &Tree) -> Tree {
    let keep = |(path, entry): &(&RelPath, &Entry)| !is_covered(tree, path) && !entry.is_opaque();
    tree.iter().filter(keep).map(|(path, entry)| (path.to_owned(), entry.clone())).collect()
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let delete =
        prop_oneof![Just(DeletePolicy::Propagate), Just(DeletePolicy::Keep), Just(DeletePolicy::Mirror)];
    let conflict = prop_oneof![
        Just(ConflictPolicy::Main),
        Just(ConflictPolicy::Node),
        Just(ConflictPolicy::Newer),
        Just(ConflictPolicy::Manual)
    ];
    (delete, conflict).prop_map(|(delete, conflict)| policy(delete, conflict))
}

fn any_take() -> impl Strategy<Value = Take> {
    any::<[bool; 3]>().prop_map(|[create, update, delete]| Take { create, update, delete })
}

/// No action does what the node does not take.
fn takes_no_more(take: Take, tree: &Tree, actions: &[Action]) -> Result<(), TestCaseError> {
    let after = perform(tree, actions);
    walk::walk(&[tree, &after], |_, row| assert!(row[0] == row[1] || take.takes(row[0], row[1]), "{row:?}"));
    for action in actions {
        let is_move = matches!(action.step, Step::Move { .. });
        prop_assert!(!is_move || (take.create && take.delete), "{action:?}");
    }
    Ok(())
}

/// Whether a node has what it is to have: an owner without a name is its own affair.
fn is_like(wanted: &Tree, node: &Tree) -> bool {
    let names = OwnerMap::default();
    let has = |(path, want): (&RelPath, &Entry)| node.get(path).is_some_and(|have| names.matches(want, have));
    wanted.len() == node.len() && wanted.iter().all(has)
}

/// What both ends of one edge come to when it is planned again and again.
fn settled(
    policy: &Policy,
    direction: Direction,
    main: &Tree,
    base: Option<&Tree>,
    node: &Tree,
) -> (Tree, Tree) {
    let names = OwnerMap::default();
    let (mut main, mut base, mut node) = (main.clone(), base.cloned(), node.clone());
    // In a mirrored directory the first run may have no base.
    for _ in 0..2 {
        let edge =
            EdgeInput { name: "mds1", base: base.as_ref(), same_rules: true, node: &node, names: &names };
        let plan = match direction {
            Direction::Push => push(policy, &main, &[edge]),
            Direction::Both => both(policy, None, &main, &names, &[edge], &Resolutions::new()),
        };
        let (main_after, after) = (perform(&main, &plan.main), perform(&node, &plan.edges[0].actions));
        base = Some(agree(direction, base.as_ref(), &main_after, &after, &names));
        (main, node) = (main_after, after);
    }
    (main, node)
}

fn any_edges() -> impl Strategy<Value = Vec<(Option<Tree>, Tree)>> {
    let base = prop::option::of(any_tree().prop_map(|tree| plain(&tree)));
    prop::collection::vec((base, any_tree()), 1..4)
}

/// The actions that make `to` of `from`; neither has anything opaque.
fn difference(from: &Tree, to: &Tree) -> Vec<Action> {
    let mut desired = Desired::default();
    walk::walk(&[from, to], |path, row| {
        if row[0] != row[1] {
            desired.set(path, row[1].cloned(), ChangeKind::Update, None);
        }
    });
    desired.keep_non_empty_dirs(from);
    diff::actions(from, &desired)
}

/// Every action belongs to exactly one planned change, on the side and at the path that this change names. No node's
/// action is at a path that the same edge's plan only makes a note of, nor below one that is held or in conflict.
fn changes_stand_on_actions(plan: &Plan) -> Result<(), TestCaseError> {
    let mut on_main = vec![0; plan.main.len()];
    for edge in &plan.edges {
        let mut on_node = vec![0; edge.actions.len()];
        for planned in &edge.changes {
            let (actions, uses) = match planned.change.to {
                Side::Node => (&edge.actions, &mut on_node),
                Side::Main => (&plan.main, &mut on_main),
            };
            prop_assert!(planned.clearing.is_none_or(|clearing| clearing < planned.action));
            for index in planned.actions() {
                prop_assert_eq!(&actions[index].path, &planned.change.path);
                uses[index] += 1;
            }
        }
        prop_assert!(on_node.iter().all(|uses| *uses == 1), "{:#?}", edge);
        for note in edge.left.notes() {
            let waits = matches!(note.kind, ChangeKind::Hold | ChangeKind::Conflict);
            let touched = edge
                .actions
                .iter()
                .find(|action| action.path == note.path || (waits && action.path.is_below(&note.path)));
            prop_assert!(touched.is_none(), "{:?} but {:?}", note, touched);
        }
    }
    prop_assert!(on_main.iter().all(|uses| *uses == 1), "{:#?}", plan);
    Ok(())
}

const NODES: [&str; 3] = ["mds1", "mds2", "mds3"];

fn edges<'a>(trees: &'a [(Option<Tree>, Tree)], names: &'a OwnerMap) -> Vec<EdgeInput<'a>> {
    trees
        .iter()
        .zip(NODES)
        .map(|((base, node), name)| EdgeInput { name, base: base.as_ref(), same_rules: true, node, names })
        .collect()
}

/// No action at or below what is opaque. In a pushed directory a special file in the place of one of Main's
/// is the exception: it makes way.
fn leaves_opaque_alone(tree: &Tree, actions: &[Action], pushed: bool) -> Result<(), TestCaseError> {
    let special = |path: &RelPath| matches!(tree.get(path), Some(Entry::Problem(EntryProblem::Special)));
    for action in actions {
        let moved_from = match &action.step {
            Step::Move { from, .. } => Some(from),
            _ => None,
        };
        for path in [&action.path].into_iter().chain(moved_from) {
            let makes_way = pushed && (special(path) || path.ancestors().any(special));
            prop_assert!(makes_way || !is_covered(tree, path), "{action:?}");
        }
    }
    Ok(())
}

/// Every content that is no longer where it was is in an action that trashes or moves it.
fn loses_nothing(before: &Tree, after: &Tree, actions: &[Action]) -> Result<(), TestCaseError> {
    for (path, entry) in before.iter() {
        if !entry.is_opaque() && after.get(path).is_none_or(|now| !now.same_content(entry)) {
            let kept = actions.iter().any(|action| match &action.step {
                Step::Move { from, from_expected, .. } if &**from == path => **from_expected == *entry,
                _ => &*action.path == path && action.expected.as_ref() == Some(entry),
            });
            prop_assert!(kept, "{path:?} {entry:?} is lost");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn apply_undoes_diff(a in any_tree(), b in any_tree()) {
        let (a, b) = (plain(&a), plain(&b));
        let actions = difference(&a, &b);
        // `perform` holds that `apply_done` comes to the same.
        prop_assert_eq!(&perform(&a, &actions), &b);
    }

    #[test]
    fn push_settles_in_one_run(policy in any_policy(), main in any_tree(), trees in any_edges()) {
        let names = OwnerMap::default();
        let edges = edges(&trees, &names);
        let plan = push(&policy, &main, &edges);
        changes_stand_on_actions(&plan)?;
        for (edge, done) in edges.iter().zip(&plan.edges) {
            let after = perform(edge.node, &done.actions);
            leaves_opaque_alone(edge.node, &done.actions, true)?;
            loses_nothing(edge.node, &after, &done.actions)?;
            let base = agree(Direction::Push, edge.base, &main, &after, &names);
            let again = push(&policy, &main, &[EdgeInput { base: Some(&base), node: &after, ..*edge }]);
            // Without a base nothing is mirrored away; the next run has one.
            let next = &again.edges[0];
            prop_assert!(
                next.actions.is_empty() || (policy.delete == DeletePolicy::Mirror), "{:?}", next
            );
        }
    }

    #[test]
    fn both_settles_in_one_run(policy in any_policy(), main in any_tree(), trees in any_edges()) {
        let names = OwnerMap::default();
        let edges = edges(&trees, &names);
        let plan = both(&policy, None, &main, &names, &edges, &Resolutions::new());
        changes_stand_on_actions(&plan)?;
        let main_after = perform(&main, &plan.main);
        leaves_opaque_alone(&main, &plan.main, false)?;
        loses_nothing(&main, &main_after, &plan.main)?;
        let mut trees_after = Vec::new();
        for (edge, done) in edges.iter().zip(&plan.edges) {
            let after = perform(edge.node, &done.actions);
            leaves_opaque_alone(edge.node, &done.actions, false)?;
            loses_nothing(edge.node, &after, &done.actions)?;
            let base = agree(Direction::Both, edge.base, &main_after, &after, &names);
            trees_after.push((Some(base), after));
        }
        // A host that could not be seen at some path may have kept others from settling there; once all
        // can be seen and every conflict is decided, nothing is left to do.
        let opaque = std::iter::once(&main).chain(trees.iter().map(|(_, node)| node))
            .any(|tree| tree.iter().any(|(_, entry)| entry.is_opaque()));
        if !opaque && policy.conflict != ConflictPolicy::Manual {
            let again = both(&policy, None, &main_after, &names, &self::edges(&trees_after, &names), &Resolutions::new());
            prop_assert!(again.main.is_empty() && again.edges.iter().all(|edge| edge.actions.is_empty()), "{again:#?}");
            for (_, node) in &trees_after {
                prop_assert!(is_like(&main_after, node), "{node:?} is not {main_after:?}");
            }
        }
    }

    #[test]
    fn without_conflicts_the_order_of_nodes_does_not_matter(
        policy in any_policy(), main in any_tree(), trees in any_edges()
    ) {
        let names = OwnerMap::default();
        let reversed: Vec<_> = trees.iter().rev().cloned().collect();
        let plan = both(&policy, None, &main, &names, &edges(&trees, &names), &Resolutions::new());
        let other = both(&policy, None, &main, &names, &edges(&reversed, &names), &Resolutions::new());
        if plan.conflicts.is_empty() {
            prop_assert!(other.conflicts.is_empty());
            let content = |tree: &Tree| -> Vec<_> {
                tree.iter().map(|(path, entry)| (path.to_owned(), entry.as_file().map(|file| file.digest))).collect()
            };
            prop_assert_eq!(content(&perform(&main, &plan.main)), content(&perform(&main, &other.main)));
            for (index, (_, node)) in trees.iter().enumerate() {
                let there = perform(node, &plan.edges[index].actions);
                let here = perform(node, &other.edges[trees.len() - 1 - index].actions);
                prop_assert_eq!(content(&there), content(&here));
            }
        }
    }

    #[test]
    fn a_token_releases_one_set_of_deletions(main in any_tree(), trees in any_edges()) {
        let names = OwnerMap::default();
        let plan = push(&propagate(), &main, &edges(&trees, &names));
        let token = safety::token("moh", &plan);
        prop_assert_ne!(&token, &safety::token("sounds", &plan));
        let mut fewer = plan.clone();
        let file = |action: &Action| action.step == Step::Delete && matches!(action.expected, Some(Entry::File(_)));
        for edge in &mut fewer.edges {
            edge.actions.retain(|action| !file(action));
        }
        if plan.edges.iter().any(|edge| edge.actions.iter().any(file)) {
            prop_assert_ne!(&token, &safety::token("moh", &fewer));
        }
    }
}

proptest! {
    // Each case makes many plans.
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_node_gets_nothing_that_it_does_not_take(
        policy in any_policy(), take in any_take(), main in any_tree(), trees in any_edges()
    ) {
        let (policy, names) = (Policy { take, ..policy }, OwnerMap::default());
        let edges = edges(&trees, &names);
        let pushed = push(&policy, &main, &edges);
        let round = both(&policy, None, &main, &names, &edges, &Resolutions::new());
        for plan in [&pushed, &round] {
            changes_stand_on_actions(plan)?;
            for (edge, done) in edges.iter().zip(&plan.edges) {
                takes_no_more(take, edge.node, &done.actions)?;
            }
        }
        // What nodes do not take makes no difference to Main.
        let all = both(&Policy { take: Take::ALL, ..policy }, None, &main, &names, &edges, &Resolutions::new());
        prop_assert_eq!(round.main, all.main);
    }

    /// Whatever was not taken for a time comes, or goes, once it is taken, as if it had been taken all the time; and nothing
    /// of it has gone back to Main.
    #[test]
    fn what_was_not_taken_is_offered_again(
        policy in any_policy(), take in any_take(), main in any_tree(), trees in any_edges(),
        direction in prop_oneof![Just(Direction::Push), Just(Direction::Both)]
    ) {
        let (base, node) = (trees[0].0.as_ref(), &trees[0].1);
        let (main, node) = (plain(&main), plain(node));
        let expected = settled(&policy, direction, &main, base, &node);
        let names = OwnerMap::default();
        let (mut main, mut base, mut node) = (main, base.cloned(), node);
        let restricted = Policy { take, ..policy };
        for _ in 0..2 {
            let edge =
                EdgeInput { name: "mds1", base: base.as_ref(), same_rules: true, node: &node, names: &names };
            let plan = match direction {
                Direction::Push => push(&restricted, &main, &[edge]),
                Direction::Both => both(&restricted, None, &main, &names, &[edge], &Resolutions::new()),
            };
            let (main_after, after) = (perform(&main, &plan.main), perform(&node, &plan.edges[0].actions));
            base = Some(agree(direction, base.as_ref(), &main_after, &after, &names));
            (main, node) = (main_after, after);
        }
        prop_assert_eq!(&main, &expected.0);
        let (_, node) = settled(&policy, direction, &main, base.as_ref(), &node);
        prop_assert!(is_like(&expected.1, &node), "{node:?} is not {:?}", expected.1);
    }
}
