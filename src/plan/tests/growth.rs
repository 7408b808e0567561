//! What a user of any host can make longer must not make planning grow with its square.

use super::*;
use crate::model::steps::assert_grows_with;
use crate::plan::both::{Resolutions, both};
use crate::plan::push::push;
use crate::plan::{agree, intent, safety};

/// What Main, the base and the node have at the place with a number.
struct Shape {
    name: &'static str,
    main: fn(usize) -> String,
    base: fn(usize) -> String,
    node: fn(usize) -> String,
}

fn nothing(_: usize) -> String {
    String::new()
}

const SHAPES: [Shape; 13] = [
    Shape { name: "new on Main", main: |n| format!("f{n}={n}"), base: nothing, node: nothing },
    Shape { name: "new on a node", main: nothing, base: nothing, node: |n| format!("f{n}={n}") },
    Shape { name: "files of one content", main: nothing, base: nothing, node: |n| format!("f{n}=x") },
    Shape {
        name: "moved files of one content",
        main: |n| format!("to{n}=x"),
        base: |n| format!("f{n}=x"),
        node: |n| format!("f{n}=x"),
    },
    Shape {
        name: "moved on a node, by the same names",
        main: |n| format!("a{n}/ a{n}/f=x"),
        base: |n| format!("a{n}/ a{n}/f=x"),
        node: |n| format!("b{n}/ b{n}/f=x"),
    },
    Shape {
        name: "deleted on Main",
        main: nothing,
        base: |n| format!("d{n}/ d{n}/f={n}"),
        node: |n| format!("d{n}/ d{n}/f={n}"),
    },
    Shape {
        name: "deleted on a node",
        main: |n| format!("d{n}/ d{n}/f={n}"),
        base: |n| format!("d{n}/ d{n}/f={n}"),
        node: nothing,
    },
    Shape {
        name: "changed on both",
        main: |n| format!("f{n}=a"),
        base: |n| format!("f{n}=b"),
        node: |n| format!("f{n}=c"),
    },
    Shape {
        name: "files where directories were",
        main: |n| format!("d{n}=x"),
        base: |n| format!("d{n}/ d{n}/f={n}"),
        node: |n| format!("d{n}/ d{n}/f={n}"),
    },
    Shape {
        name: "directories where files were, with something excluded in them",
        main: |n| format!("d{n}=x"),
        base: |n| format!("d{n}=x"),
        node: |n| format!("d{n}/ d{n}/f={n} d{n}/x!"),
    },
    Shape { name: "links", main: nothing, base: nothing, node: |n| format!("l{n}>x") },
    Shape {
        name: "what cannot be read or is busy",
        main: |n| format!("b{n}~"),
        base: nothing,
        node: |n| format!("p{n}? s{n}%"),
    },
    Shape { name: "excluded", main: |n| format!("f{n}=x"), base: nothing, node: |n| format!("f{n}!") },
];

fn many(words: fn(usize) -> String, length: usize) -> Tree {
    tree(&(0..length).map(|number| words(number) + " ").collect::<String>())
}

/// All that planning does with one plan.
fn follow(plan: &Plan, main: &Tree, base: &Tree, node: &Tree) {
    let _ = (safety::token("moh", plan), safety::token_of_node("moh", "mds1", plan, 0));
    let most = MaxLoss::Percent(50);
    let _ = (safety::exceeds(most, plan, main, &[node]), safety::overwrites(most, plan, 0, main, &[node]));
    let _ = safety::added(plan, 0);
    let actions = &plan.edges[0].actions;
    let outcomes = vec![Some(Outcome::Done); actions.len()];
    let after = apply::apply_done(node, actions, &outcomes);
    let recorded = intent::intent(plan.main.iter().chain(actions), main, node);
    let _ = intent::recover_base(base, &recorded, main, &after);
    for direction in [crate::model::Direction::Push, crate::model::Direction::Both] {
        let _ = agree::agree(direction, Some(base), main, &after, &OwnerMap::default());
    }
}

#[test]
fn planning_grows_with_what_hosts_have_and_not_with_its_square() {
    for Shape { name, main, base, node } in SHAPES {
        let ways = [(false, false), (false, true), (true, true)];
        // Only conflicts are decided by hand.
        for (manual, two_way) in ways.into_iter().filter(|(manual, _)| !manual || name == "changed on both") {
            assert_grows_with(&format!("{name}, both ways: {two_way}, by hand: {manual}"), 400, |length| {
                let (main, base, node) = (many(main, length), many(base, length), many(node, length));
                move || {
                    let conflict = if manual { ConflictPolicy::Manual } else { ConflictPolicy::Main };
                    let policy = policy(DeletePolicy::Propagate, conflict);
                    let names = OwnerMap::default();
                    let edge = |name| EdgeInput {
                        name,
                        base: Some(&base),
                        same_rules: true,
                        node: &node,
                        names: &names,
                    };
                    let edges = [edge("mds1"), edge("mds2")];
                    let plan = match two_way {
                        true => both(&policy, None, &main, &names, &edges, &Resolutions::new()),
                        false => push(&policy, &main, &edges),
                    };
                    follow(&plan, &main, &base, &node);
                }
            });
        }
    }
}
