//! The both-ways table, row by row.

use super::*;
use crate::model::Direction;
use crate::plan::both::{Resolutions, both};

/// Main, and (base, node) per edge, as they are after the plan was carried out.
struct After {
    main: Tree,
    nodes: Vec<Tree>,
    plan: Plan,
}

fn run(policy: Policy, main: &str, edges: &[(Option<&str>, &str)], resolutions: &Resolutions) -> After {
    let main = tree(main);
    let names = OwnerMap::default();
    let trees: Vec<_> = edges.iter().map(|(base, node)| (base.map(tree), tree(node))).collect();
    let node_names = ["mds1", "mds2", "mds3"];
    let edges: Vec<_> = trees
        .iter()
        .zip(node_names)
        .map(|((base, node), name)| EdgeInput {
            name,
            base: base.as_ref(),
            same_rules: true,
            node,
            names: &names,
        })
        .collect();
    let plan = both(&policy, None, &main, &names, &edges, resolutions);
    let nodes = edges.iter().zip(&plan.edges).map(|(edge, plan)| perform(edge.node, &plan.actions)).collect();
    After { main: perform(&main, &plan.main), nodes, plan }
}

macro_rules! both_cases {
    ($($name:ident: $delete:ident $conflict:ident, $main:literal, [$($edge:expr),*] => $after:literal, [$($node:literal),*], $conflicts:literal;)*) => {$(
        #[test]
        fn $name() {
            let policy = policy(DeletePolicy::$delete, ConflictPolicy::$conflict);
            let after = run(policy, $main, &[$($edge),*], &Resolutions::new());
            assert_eq!(after.main, tree($after), "Main: {:#?}", after.plan);
            assert_eq!(after.nodes, [$(tree($node)),*], "{:#?}", after.plan);
            assert_eq!(after.plan.conflicts.len(), $conflicts, "{:#?}", after.plan);
        }
    )*};
}

both_cases! {
    in_step: Propagate Main, "a=1", [(Some("a=1"), "a=1")] => "a=1", ["a=1"], 0;
    new_on_main: Propagate Main, "a=1", [(Some(""), ""), (Some(""), "")] => "a=1", ["a=1", "a=1"], 0;
    new_on_node: Propagate Main, "", [(Some(""), "d/ d/a=1"), (Some(""), "")] => "d/ d/a=1", ["d/ d/a=1", "d/ d/a=1"], 0;
    changed_on_node: Propagate Main, "a=1", [(Some("a=1"), "a=1"), (Some("a=1"), "a=2")] => "a=2", ["a=2", "a=2"], 0;
    deleted_on_main: Propagate Main, "b=1", [(Some("a=1 b=1"), "a=1 b=1")] => "b=1", ["b=1"], 0;
    deleted_on_node: Propagate Main, "a=1", [(Some("a=1"), ""), (Some("a=1"), "a=1")] => "", ["", ""], 0;
    deleted_and_kept: Keep Main, "a=1", [(Some("a=1"), ""), (Some("a=1"), "a=1")] => "a=1", ["a=1", "a=1"], 0;
    deleted_on_main_and_kept: Keep Main, "", [(Some("a=1"), ""), (Some("a=1"), "a=1")] => "a=1", ["a=1", "a=1"], 0;
    deleted_everywhere_stays_deleted: Keep Main, "", [(Some("a=1"), "")] => "", [""], 0;
    change_beats_deletion: Propagate Main, "", [(Some("a=1"), "a=2")] => "a=2", ["a=2"], 0;
    change_on_main_beats_deletion: Propagate Main, "a=2", [(Some("a=1"), ""), (Some("a=1"), "a=1")] => "a=2", ["a=2", "a=2"], 0;
    same_change_twice: Propagate Main, "a=2", [(Some("a=1"), "a=2"), (Some("a=1"), "a=1")] => "a=2", ["a=2", "a=2"], 0;
    conflict_main_wins: Propagate Main, "a=2", [(Some("a=1"), "a=3"), (Some("a=1"), "a=1")] => "a=2", ["a=2", "a=2"], 1;
    conflict_first_node_wins: Propagate Main, "a=1", [(Some("a=1"), "a=2@1"), (Some("a=1"), "a=3@9")] => "a=2@1", ["a=2@1", "a=2@1"], 1;
    conflict_newer_wins: Propagate Newer, "a=1", [(Some("a=1"), "a=2@1"), (Some("a=1"), "a=3@9")] => "a=3@9", ["a=3@9", "a=3@9"], 1;
    conflict_newer_tie_goes_by_order: Propagate Newer, "a=1", [(Some("a=1"), "a=2@9"), (Some("a=1"), "a=3@9")] => "a=2@9", ["a=2@9", "a=2@9"], 1;
    conflict_node_wins: Propagate Node, "a=2@9", [(Some("a=1"), "a=1"), (Some("a=1"), "a=3")] => "a=3", ["a=3", "a=3"], 1;
    conflict_first_node_wins_over_main: Propagate Node, "a=4", [(Some("a=1"), "a=2"), (Some("a=1"), "a=3")] => "a=2", ["a=2", "a=2"], 1;
    conflict_waits: Propagate Manual, "a=2 b=1", [(Some("a=1"), "a=3"), (Some("a=1"), "a=1")] => "a=2 b=1", ["a=3 b=1", "a=1 b=1"], 1;
    union_without_base: Propagate Main, "a=1", [(None, "b=1"), (Some("a=1"), "a=1")] => "a=1 b=1", ["a=1 b=1", "a=1 b=1"], 0;
    union_conflict: Propagate Main, "a=1", [(None, "a=2")] => "a=1", ["a=1"], 1;
    returning_node_does_not_resurrect: Propagate Main, "b=1", [(Some("b=1"), "b=1"), (Some("a=1 b=1"), "a=1 b=1")] => "b=1", ["b=1", "b=1"], 0;
    returning_node_changed_what_was_deleted: Propagate Main, "", [(Some(""), ""), (Some("a=1"), "a=2")] => "a=2", ["a=2", "a=2"], 0;
    change_supersedes_mains_old_news: Propagate Main, "a=2", [(Some("a=2"), "a=3"), (Some("a=1"), "a=1")] => "a=3", ["a=3", "a=3"], 0;
    deletion_supersedes_mains_old_news: Propagate Main, "a=2", [(Some("a=2"), ""), (Some("a=1"), "a=1")] => "", ["", ""], 0;
    deletion_reaches_a_new_node: Propagate Main, "a=1", [(Some("a=1"), ""), (None, "")] => "", ["", ""], 0;
    busy_on_node_skips_that_edge: Propagate Main, "a=2", [(Some("a=1"), "a~"), (Some("a=1"), "a=1")] => "a=2", ["a~", "a=2"], 0;
    busy_on_main_skips_all: Propagate Main, "a~", [(Some("a=1"), "a=2"), (Some("a=1"), "a=1")] => "a~", ["a=2", "a=1"], 0;
    excluded_anywhere_stays: Propagate Main, "a=2", [(Some("a=1"), "a!"), (Some("a=1"), "a=1")] => "a=2", ["a!", "a=1"], 0;
    directory_lives_while_a_child_does: Propagate Main, "", [(Some("d/ d/a=1"), "d/ d/a=1 d/late=1")] => "d/ d/late=1", ["d/ d/late=1"], 0;
    directory_goes_with_its_last_child: Propagate Main, "", [(Some("d/ d/a=1"), "d/ d/a=1")] => "", [""], 0;
    directory_with_busy_child_stays: Propagate Main, "", [(Some("d/ d/a=1"), "d/ d/a=1 d/new~")] => "", ["d/ d/new~"], 0;
    directory_deleted_on_main_stays_where_something_is_excluded: Propagate Main, "", [(Some("d/ d/s/ d/a=1"), "d/ d/s/ d/s/x! d/a=1"), (Some("d/ d/s/ d/a=1"), "d/ d/s/ d/a=1")] => "", ["d/ d/s/ d/s/x!", ""], 0;
    directory_deleted_on_a_node_stays_where_something_is_excluded: Propagate Main, "d/ d/x! d/a=1", [(Some("d/ d/a=1"), ""), (Some("d/ d/a=1"), "d/ d/a=1")] => "d/ d/x!", ["", ""], 0;
    directory_with_something_excluded_comes_back_with_something_new: Propagate Main, "", [(Some("d/"), "d/ d/x! d/new=1"), (Some("d/"), "d/")] => "d/ d/new=1", ["d/ d/x! d/new=1", "d/ d/new=1"], 0;
    empty_directory_is_carried: Propagate Main, "", [(Some(""), "d/"), (Some(""), "")] => "d/", ["d/", "d/"], 0;
    metadata_of_node: Propagate Main, "a=1", [(Some("a=1"), "a=1+600"), (Some("a=1"), "a=1")] => "a=1+600", ["a=1+600", "a=1+600"], 0;
    metadata_on_both_sides: Propagate Main, "a=1+640", [(Some("a=1"), "a=1+600")] => "a=1+640", ["a=1+640"], 0;
    file_against_directory: Propagate Main, "p=1", [(Some(""), "p/ p/a=2")] => "p=1", ["p=1"], 1;
    directory_against_file: Propagate Main, "p/ p/a=2", [(Some(""), "p=1")] => "p/ p/a=2", ["p/ p/a=2"], 1;
    file_does_not_replace_excluded: Propagate Main, "p=1", [(Some(""), "p/ p/x!")] => "p=1", ["p/ p/x!"], 1;
    moved_on_node: Propagate Main, "a=1", [(Some("a=1"), "b=1"), (Some("a=1"), "a=1")] => "b=1", ["b=1", "b=1"], 0;
}

#[test]
fn changes_name_where_they_come_from() {
    let after = run(propagate(), "b=1", &[(Some("b=1"), "b=1"), (Some("b=1"), "a=1")], &Resolutions::new());
    assert_eq!(told(&after.plan.edges[0]), ["rename a"].map(str::to_owned));
    assert_eq!(told(&after.plan.edges[1]), ["< rename a"].map(str::to_owned));
    let after = run(propagate(), "", &[(Some(""), ""), (Some(""), "a=1")], &Resolutions::new());
    assert_eq!(after.plan.pulls, BTreeMap::from([(RelPathBuf::new(*b"a").unwrap(), 1)]));
}

#[test]
fn metadata_comes_from_the_node_that_changed_it() {
    let edges = [(Some("a=1"), "a=1"), (Some("a=1"), "a=1+600")];
    let after = run(propagate(), "a=1", &edges, &Resolutions::new());
    assert_eq!(told(&after.plan.edges[0]), ["metadata a"]);
    assert_eq!(told(&after.plan.edges[1]), ["< metadata a"]);
}

#[test]
fn the_loser_of_a_conflict_is_told() {
    let after = run(propagate(), "a=2", &[(Some("a=1"), "a=3"), (Some("a=1"), "a=1")], &Resolutions::new());
    assert_eq!(told(&after.plan.edges[0]), ["conflict a"]);
    assert_eq!(told(&after.plan.edges[1]), ["update a"]);
    let conflict = &after.plan.conflicts[0];
    assert_eq!((conflict.winner, conflict.versions.len()), (Some(Host::Main), 3));
}

#[test]
fn a_decision_settles_a_waiting_conflict() {
    let manual = policy(DeletePolicy::Propagate, ConflictPolicy::Manual);
    let decided = Resolutions::from([(RelPathBuf::new(*b"a").unwrap(), Host::Node(0))]);
    let after = run(manual, "a=2", &[(Some("a=1"), "a=3"), (Some("a=1"), "a=1")], &decided);
    assert_eq!((after.main, after.nodes), (tree("a=3"), vec![tree("a=3"), tree("a=3")]));
}

fn meta(mode: u16, user: &str) -> Meta {
    Meta { mode, owner: Owner::new(Some(user), Some(user)) }
}

/// A tree with one entry for each path.
fn with(entries: &[(&str, Entry)]) -> Tree {
    entries.iter().map(|(path, entry)| (RelPathBuf::new(path.as_bytes()).unwrap(), entry.clone())).collect()
}

#[test]
fn what_a_node_sends_locks_nobody_out() {
    let names = OwnerMap::default();
    let file = |content: &str, meta: Meta| match entry(&format!("f={content}")).1 {
        Entry::File(file) => Entry::File(File { meta, ..file }),
        _ => unreachable!(),
    };
    let asterisk = || meta(0o755, "asterisk");
    let base = with(&[("d", Entry::Dir(asterisk())), ("d/f", file("1", meta(0o644, "asterisk")))]);
    let node = with(&[
        ("d", Entry::Dir(meta(0o500, "root"))),
        ("d/f", file("1", meta(0o040, "root"))),
        ("d/new", Entry::Dir(meta(0o500, "root"))),
        ("d/new/f", file("2", meta(0, "root"))),
        ("top", Entry::Dir(meta(0o500, "root"))),
    ]);
    let wanted = |top: Meta| {
        with(&[
            ("d", Entry::Dir(asterisk())),
            ("d/f", file("1", meta(0o640, "asterisk"))),
            ("d/new", Entry::Dir(asterisk())),
            ("d/new/f", file("2", meta(0o600, "root"))),
            ("top", Entry::Dir(top)),
        ])
    };
    let edges = [EdgeInput { name: "mds1", base: Some(&base), same_rules: true, node: &node, names: &names }];
    for (root, top) in [
        (None, meta(0o700, "root")),
        // Where the root is nobody's but root's, it says nothing about who is to write there.
        (Some(meta(0o755, "root")), meta(0o700, "root")),
        (Some(meta(0o2775, "asterisk")), meta(0o2775, "asterisk")),
    ] {
        let plan = both(&propagate(), root.as_ref(), &base, &names, &edges, &Resolutions::new());
        assert_eq!(perform(&base, &plan.main), wanted(top.clone()), "{root:?}");
        assert_eq!(perform(&node, &plan.edges[0].actions), wanted(top), "{root:?}");
    }
}

#[test]
fn what_a_node_overwrites_elsewhere_is_counted_with_it() {
    let files = |content: &str| -> String { (0..30).map(|n| format!("{n}={n}{content} ")).collect() };
    let (old, new) = (files("old"), files("new"));
    let trees = [(Some(&*old), &*new), (Some(&*old), &*old)];
    let after = run(propagate(), &old, &trees, &Resolutions::new());
    let (main, nodes) = (tree(&old), [tree(&new), tree(&old)]);
    let nodes: Vec<&Tree> = nodes.iter().collect();
    let half = MaxLoss::Percent(50);
    let (host, losses) = safety::overwrites(half, &after.plan, 0, &main, &nodes).unwrap();
    assert_eq!((host, losses.lost.files, losses.all.files), (None, 30, 30), "Main first");
    assert_eq!(safety::overwrites(half, &after.plan, 1, &main, &nodes), None, "it brought nothing");
    let bytes: u64 = (0..30).map(|n| format!("{n}new").len() as u64).sum();
    assert_eq!(safety::added(&after.plan, 0), bytes);
    assert!(safety::exceeds(half, &after.plan, &main, &nodes).is_none(), "nothing is deleted");

    let token = |node, plan| safety::token_of_node("moh", node, plan, 0);
    assert_ne!(token("mds1", &after.plan), token("mds2", &after.plan));
    let another = new.replace("7new", "8new");
    let other = run(propagate(), &old, &[(Some(&*old), &*another), trees[1]], &Resolutions::new());
    assert_ne!(token("mds1", &after.plan), token("mds1", &other.plan), "another content is another plan");
    // Who was away does not change what the node is asked about.
    let alone = run(propagate(), &old, &trees[..1], &Resolutions::new());
    assert_eq!(token("mds1", &after.plan), token("mds1", &alone.plan));

    // What Main has changed itself is nobody's.
    let pushed = run(propagate(), &new, &[(Some(&*old), &*old)], &Resolutions::new());
    assert_eq!(safety::overwrites(half, &pushed.plan, 0, &tree(&new), &[&tree(&old)]), None);
}

/// What each of some runs, one after the other, makes of Main and the nodes, when a run takes two new paths of a node.
fn runs(main: &str, edges: &[(&str, &str)]) -> Vec<String> {
    let policy = Policy { max_new: 2, ..propagate() };
    let told = |tree: &Tree| tree.iter().map(|(path, _)| path.escaped()).collect::<Vec<_>>().join(" ");
    let mut main = tree(main);
    let mut edges: Vec<(Tree, Tree)> = edges.iter().map(|(base, node)| (tree(base), tree(node))).collect();
    let names = OwnerMap::default();
    let mut states = Vec::new();
    loop {
        let inputs: Vec<_> = edges
            .iter()
            .map(|(base, node)| EdgeInput {
                name: "mds",
                base: Some(base),
                same_rules: true,
                node,
                names: &names,
            })
            .collect();
        let plan = both(&policy, None, &main, &names, &inputs, &Resolutions::new());
        let open = plan.edges.iter().any(EdgePlan::leaves_anything);
        let nodes: Vec<Tree> =
            edges.iter().zip(&plan.edges).map(|((_, node), plan)| perform(node, &plan.actions)).collect();
        main = perform(&main, &plan.main);
        edges = edges
            .into_iter()
            .zip(nodes)
            .map(|((base, _), node)| (agree::agree(Direction::Both, Some(&base), &main, &node, &names), node))
            .collect();
        let nodes: Vec<String> = edges.iter().map(|(_, node)| told(node)).collect();
        states.push(format!("{} | {}", told(&main), nodes.join(" | ")));
        if !open {
            return states;
        }
    }
}

#[test]
fn more_new_files_than_a_run_takes_of_a_node_come_in_later_ones() {
    assert_eq!(
        runs("m=1", &[("m=1", "a=1 b=1 c=1 d=1 e=1 m=1"), ("m=1", "m=1 n=1")]),
        [
            "a b m n | a b c d e m n | a b m n",
            "a b c d m n | a b c d e m n | a b c d m n",
            "a b c d e m n | a b c d e m n | a b c d e m n",
        ],
        "the other node's are not held up"
    );
    assert_eq!(
        runs("m=1", &[("m=1", "d/ d/a=1 d/b=1 d/c=1 e/ m=2")]),
        [
            "d d/a m | d d/a d/b d/c e m",
            "d d/a d/b d/c m | d d/a d/b d/c e m",
            "d d/a d/b d/c e m | d d/a d/b d/c e m"
        ],
    );
}

#[test]
fn what_is_moved_by_the_thousands_is_missing_nowhere_meanwhile() {
    assert_eq!(
        runs(
            "d/ d/a=1 d/b=2 d/c=3",
            &[
                ("d/ d/a=1 d/b=2 d/c=3", "e/ e/a=1 e/b=2 e/c=3"),
                ("d/ d/a=1 d/b=2 d/c=3", "d/ d/a=1 d/b=2 d/c=3")
            ]
        ),
        [
            "d d/a d/b d/c e e/a | e e/a e/b e/c | d d/a d/b d/c e e/a",
            "e e/a e/b e/c | e e/a e/b e/c | e e/a e/b e/c",
        ]
    );
}

#[test]
fn a_file_does_not_replace_a_directory_of_which_something_waits() {
    let names = OwnerMap::default();
    let (main, base, node) = (tree("p=1"), tree(""), tree("p/ p/a=1 p/b=1 p/c=1"));
    let edge = EdgeInput { name: "mds1", base: Some(&base), same_rules: true, node: &node, names: &names };
    let policy = Policy { max_new: 2, ..propagate() };
    let plan = both(&policy, None, &main, &names, &[edge], &Resolutions::new());
    assert_eq!(plan.edges[0].actions, []);
    assert_eq!(plan.edges[0].left.failed().count(), 1);
}
