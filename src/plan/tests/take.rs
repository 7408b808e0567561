//! What a node takes, and whose version stays, row by row: the same words in pushed and in both-ways directories.

use super::*;
use crate::model::{Direction, NotTaken};
use crate::plan::agree::agree;
use crate::plan::both::{Resolutions, both};
use crate::plan::push::push;

/// From words such as `create,update`.
fn take(words: &str) -> Take {
    let has = |word| words.split(',').any(|known| known == word);
    Take { create: has("create"), update: has("update"), delete: has("delete") }
}

/// One edge, and how often it is planned.
struct Edge {
    direction: Direction,
    main: Tree,
    base: Option<Tree>,
    node: Tree,
}

impl Edge {
    fn new(direction: Direction, main: &str, base: Option<&str>, node: &str) -> Edge {
        Edge { direction, main: tree(main), base: base.map(tree), node: tree(node) }
    }

    /// Plans it, and carries that out.
    fn run(&mut self, conflict: ConflictPolicy, take: Take) -> EdgePlan {
        let policy = Policy { take, ..policy(DeletePolicy::Propagate, conflict) };
        let names = OwnerMap::default();
        let edge = EdgeInput {
            name: "mds1",
            base: self.base.as_ref(),
            same_rules: true,
            node: &self.node,
            names: &names,
        };
        let mut plan = match self.direction {
            Direction::Push => push(&policy, &self.main, &[edge]),
            Direction::Both => both(&policy, None, &self.main, &names, &[edge], &Resolutions::new()),
        };
        self.main = perform(&self.main, &plan.main);
        self.node = perform(&self.node, &plan.edges[0].actions);
        self.base = Some(agree(self.direction, self.base.as_ref(), &self.main, &self.node, &names));
        plan.edges.remove(0)
    }
}

fn not_taken(created: u64, updated: u64, deleted: u64) -> NotTaken {
    NotTaken { created, updated, deleted }
}

const BOTH: [Direction; 2] = [Direction::Push, Direction::Both];

#[test]
fn what_is_not_taken_is_left_counted_and_comes_later() {
    for direction in BOTH {
        for (takes, node, left) in [
            ("create,update,delete", "a=2 d/ d/n=1", not_taken(0, 0, 0)),
            ("create,update", "a=2 d/ d/n=1 gone=1", not_taken(0, 0, 1)),
            ("create,delete", "a=1 d/ d/n=1", not_taken(0, 1, 0)),
            ("update,delete", "a=2", not_taken(2, 0, 0)),
            ("", "a=1 gone=1", not_taken(2, 1, 1)),
        ] {
            let main = "a=2 d/ d/n=1";
            let mut edge = Edge::new(direction, main, Some("a=1 gone=1"), "a=1 gone=1");
            // Again and again.
            for _ in 0..2 {
                assert_eq!(
                    edge.run(ConflictPolicy::Main, take(takes)).not_taken,
                    left,
                    "{direction:?} {takes}"
                );
                assert_eq!((&edge.node, &edge.main), (&tree(node), &tree(main)), "{direction:?} {takes}");
            }
            assert!(edge.run(ConflictPolicy::Main, Take::ALL).not_taken.is_empty());
            assert_eq!((&edge.node, &edge.main), (&tree(main), &tree(main)), "{direction:?} {takes}");
        }
    }
}

#[test]
fn a_recording_that_main_deleted_does_not_come_back_from_where_it_stays() {
    let mut edge = Edge::new(Direction::Both, "", Some("call=1"), "call=1");
    for _ in 0..3 {
        edge.run(ConflictPolicy::Main, take("create,update"));
        assert_eq!((&edge.main, &edge.node), (&tree(""), &tree("call=1")));
    }
    // Somebody goes on with it there: that is a change, and beats the deletion as ever.
    edge.node = tree("call=2");
    edge.run(ConflictPolicy::Main, take("create,update"));
    assert_eq!(edge.main, tree("call=2"));
}

#[test]
fn what_a_node_changes_goes_to_main_whatever_it_takes() {
    let mut edge = Edge::new(Direction::Both, "a=1 b=1", Some("a=1 b=1"), "a=2 new=1");
    assert!(edge.run(ConflictPolicy::Main, take("")).not_taken.is_empty());
    assert_eq!((&edge.main, &edge.node), (&tree("a=2 new=1"), &tree("a=2 new=1")));
}

#[test]
fn what_changes_its_type_is_taken_wholly_or_not_at_all() {
    for direction in BOTH {
        for (main, base) in [("x/ x/a=1 x/b/", "x=1"), ("x=1", "x/ x/a=1 x/b/")] {
            for takes in ["create,update", "create,delete", "update,delete"] {
                let mut edge = Edge::new(direction, main, Some(base), base);
                let plan = edge.run(ConflictPolicy::Main, take(takes));
                assert_eq!(edge.node, tree(base), "{direction:?} {main} {takes}");
                assert_eq!(plan.not_taken, not_taken(0, 1, 0), "{direction:?} {main} {takes}");
            }
        }
    }
}

#[test]
fn a_directory_stays_for_what_stays_in_it() {
    for direction in BOTH {
        let mut edge = Edge::new(direction, "", Some("d/ d/a=1"), "d/ d/a=1");
        assert_eq!(edge.run(ConflictPolicy::Main, take("create,update")).not_taken, not_taken(0, 0, 2));
        assert_eq!(edge.node, tree("d/ d/a=1"));
    }
}

/// The word means the same in both kinds of directories: whose version stands on the node in the end.
#[test]
fn a_policy_means_the_same_whichever_way_files_go() {
    for direction in BOTH {
        for (conflict, node, conflicts) in [
            (ConflictPolicy::Main, "a=2@5", 0),
            (ConflictPolicy::Node, "a=3@4", 0),
            (ConflictPolicy::Newer, "a=2@5", 0),
            (ConflictPolicy::Manual, "a=3@4", 1),
        ] {
            let mut edge = Edge::new(direction, "a=2@5", Some("a=1"), "a=3@4");
            for _ in 0..2 {
                let plan = edge.run(conflict, Take::ALL);
                let waits = plan.left.number_of(ChangeKind::Conflict);
                assert_eq!(waits, conflicts, "{direction:?} {conflict:?}");
                assert_eq!(edge.node, tree(node), "{direction:?} {conflict:?}");
            }
        }
        let mut edge = Edge::new(direction, "a=2@5", Some("a=1"), "a=3@6");
        edge.run(ConflictPolicy::Newer, Take::ALL);
        assert_eq!(edge.node, tree("a=3@6"), "{direction:?}");
    }
    // Main's own stays Main's in a pushed directory, and comes once the node's version may go.
    let mut edge = Edge::new(Direction::Push, "a=2", Some("a=1"), "a=3");
    assert_eq!(edge.run(ConflictPolicy::Node, Take::ALL).left.skipped().count(), 1);
    assert_eq!(edge.main, tree("a=2"));
    edge.run(ConflictPolicy::Main, Take::ALL);
    assert_eq!(edge.node, tree("a=2"));
}

#[test]
fn what_stays_of_another_type_stays_with_all_below_it() {
    for (main, node) in [("x/ x/a=1", "x=2"), ("x=1", "x/ x/own=1")] {
        let mut edge = Edge::new(Direction::Push, main, None, node);
        edge.run(ConflictPolicy::Node, Take::ALL);
        assert_eq!(edge.node, tree(node));
    }
}
