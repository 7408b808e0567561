//! The push table, row by row.

use super::*;
use crate::plan::push::push;

struct Case {
    main: &'static str,
    base: Option<&'static str>,
    node: &'static str,
    delete: DeletePolicy,
}

/// Plans one edge, carries it out, and tells what was said, what failed and what the node has then.
fn run(case: &Case) -> (Vec<String>, u64, Tree) {
    let (main, node, base) = (tree(case.main), tree(case.node), case.base.map(tree));
    let names = OwnerMap::default();
    let edge = EdgeInput { name: "mds1", base: base.as_ref(), same_rules: true, node: &node, names: &names };
    let plan = push(&policy(case.delete, ConflictPolicy::Main), &main, &[edge]);
    let after = perform(&node, &plan.edges[0].actions);
    let left = &plan.edges[0].left;
    (told(&plan.edges[0]), left.failed().count() + left.skipped().count(), after)
}

macro_rules! push_cases {
    ($($name:ident: $main:literal, $base:expr, $node:literal, $delete:ident => $told:expr, $after:literal;)*) => {$(
        #[test]
        fn $name() {
            let case = Case { main: $main, base: $base, node: $node, delete: DeletePolicy::$delete };
            let (said, _, after) = run(&case);
            let expected: &[&str] = &$told;
            assert_eq!(said, expected);
            assert_eq!(after, tree($after));
        }
    )*};
}

push_cases! {
    in_step: "a=1", Some("a=1"), "a=1", Propagate => [], "a=1";
    equal_without_base: "a=1", None, "a=1", Propagate => [], "a=1";
    created: "d/ d/a=1", Some(""), "", Propagate => ["create d", "create d/a"], "d/ d/a=1";
    updated: "a=2", Some("a=1"), "a=1", Propagate => ["update a"], "a=2";
    drifted: "a=1", Some("a=1"), "a=9", Propagate => ["drift a"], "a=1";
    drifted_and_updated: "a=2", Some("a=1"), "a=9", Propagate => ["drift a"], "a=2";
    different_without_base: "a=1", None, "a=9", Propagate => ["drift a"], "a=1";
    lost_on_node: "a=1", Some("a=1"), "", Propagate => ["create a"], "a=1";
    mode_alone: "a=1+600", Some("a=1"), "a=1", Propagate => ["metadata a"], "a=1+600";
    mtime_alone: "a=1@7", Some("a=1"), "a=1", Propagate => ["metadata a"], "a=1@7";
    deleted: "b=1", Some("a=1 b=1"), "a=1 b=1", Propagate => ["delete a"], "b=1";
    deleted_and_kept: "b=1", Some("a=1 b=1"), "a=1 b=1", Keep => [], "a=1 b=1";
    deleted_but_drifted: "b=1", Some("a=1 b=1"), "a=9 b=1", Propagate => ["drift a"], "a=9 b=1";
    deleted_but_drifted_mirror: "b=1", Some("a=1 b=1"), "a=9 b=1", Mirror => ["drift a"], "a=9 b=1";
    extra: "a=1", Some("a=1"), "a=1 own=1", Propagate => [], "a=1 own=1";
    extra_keep: "a=1", Some("a=1"), "a=1 own=1", Keep => [], "a=1 own=1";
    extra_mirror: "a=1", Some("a=1"), "a=1 own=1", Mirror => ["delete own"], "a=1";
    extra_mirror_without_base: "a=1", None, "a=1 own=1", Mirror => [], "a=1 own=1";
    excluded_on_node: "x=1", Some(""), "x!", Propagate => [], "x!";
    excluded_on_main: "x!", Some("x=1"), "x=1", Propagate => [], "x=1";
    excluded_in_deleted_directory: "", Some("d/ d/a=1"), "d/ d/a=1 d/x!", Propagate => ["delete d/a"], "d/ d/x!";
    deleted_directory: "b=1", Some("b=1 d/ d/e/ d/e/a=1"), "b=1 d/ d/e/ d/e/a=1", Propagate
        => ["delete d", "delete d/e", "delete d/e/a"], "b=1";
    own_file_in_deleted_directory: "b=1", Some("b=1 d/ d/a=1"), "b=1 d/ d/a=1 d/own=1", Propagate
        => ["delete d/a"], "b=1 d/ d/own=1";
    busy_on_main: "a~", Some("a=1"), "a=1", Propagate => ["hold a"], "a=1";
    busy_on_node: "a=2", Some("a=1"), "a~", Propagate => ["hold a"], "a~";
    unreadable_directory_on_main: "d?", Some("d/ d/a=1"), "d/ d/a=1", Propagate => [], "d/ d/a=1";
    special_on_node: "a=1", Some(""), "a%", Propagate => ["drift a"], "a=1";
    own_special_on_node: "", Some(""), "a%", Propagate => [], "a%";
    special_on_main: "a%", Some("a=1"), "a=1", Propagate => [], "a=1";
    file_becomes_directory: "a/ a/b=1", Some("a=1"), "a=1", Propagate => ["update a", "create a/b"], "a/ a/b=1";
    directory_becomes_file: "a=1", Some("a/ a/b=2"), "a/ a/b=2 a/own=3", Propagate
        => ["update a", "delete a/b", "delete a/own"], "a=1";
    directory_with_excluded_stays: "a=1", Some("a/ a/b=2"), "a/ a/b=2 a/x!", Propagate => [], "a/ a/b=2 a/x!";
    link_becomes_file: "a=1", Some("a>b"), "a>b", Propagate => ["update a"], "a=1";
    link_changes: "a>c", Some("a>b"), "a>b", Propagate => ["update a"], "a>c";
    moved: "new/ new/a=1", Some("old/ old/a=1"), "old/ old/a=1", Propagate
        => ["create new", "rename new/a", "delete old"], "new/ new/a=1";
    copied_is_no_move: "a=1 b=1", Some("a=1"), "a=1", Propagate => ["create b"], "a=1 b=1";
    swapped_content: "a=2 b=1", Some("a=1 b=2"), "a=1 b=2", Propagate => ["update a", "update b"], "a=2 b=1";
}

#[test]
fn what_cannot_be_read_on_main_is_named() {
    let case = Case { main: "a? b%", base: Some("a=1"), node: "a=1", delete: DeletePolicy::Propagate };
    assert_eq!(run(&case).1, 2);
}

#[test]
fn what_was_excluded_before_is_not_mirrored_away() {
    let (main, base, node, names) = (tree("a=1"), tree("a=1"), tree("a=1 own=1"), OwnerMap::default());
    let edge = EdgeInput { name: "mds1", base: Some(&base), same_rules: false, node: &node, names: &names };
    let plan = push(&policy(DeletePolicy::Mirror, ConflictPolicy::Main), &main, &[edge]);
    assert_eq!(plan.edges[0].actions, []);
}

#[test]
fn an_owner_the_node_does_not_know_is_no_difference() {
    let owned = |user| {
        let meta = Meta { mode: 0o644, owner: Owner::new(user, Some("root")) };
        Tree::from_iter([(RelPathBuf::new(*b"d").unwrap(), Entry::Dir(meta))])
    };
    let names = OwnerMap { unknown_users: ["asterisk".to_owned()].into(), ..OwnerMap::default() };
    let (main, node) = (owned(Some("asterisk")), owned(Some("root")));
    let edge = EdgeInput { name: "mds1", base: None, same_rules: true, node: &node, names: &names };
    assert_eq!(push(&propagate(), &main, &[edge]).edges[0].actions, []);
}
