//! What a run that was cut off had done, and what people did since.

use super::*;
use crate::plan::intent::{intent, recover_base};

fn put(path: &str, content: &str) -> Action {
    let (path, entry) = entry(&format!("{path}={content}"));
    Action { path, expected: None, step: Step::Put(entry) }
}

/// `a` was `before` when the run set out to make it `g`; now it is something else.
fn base_of_a(base: &str, before: (&str, &str), now: (&str, &str)) -> Tree {
    let intent = intent(&[put("a", "g")], &tree(before.0), &tree(before.1));
    recover_base(&tree(base), &intent, &tree(now.0), &tree(now.1))
}

#[test]
fn who_came_to_the_goal_and_who_was_changed_since() {
    for (what, base, before, now, expected) in [
        ("nothing was done yet", "a=0", ("a=g", "a=0"), ("a=g", "a=0"), "a=0"),
        ("both came to it", "a=0", ("a=g", "a=0"), ("a=g", "a=g"), "a=0"),
        ("Main has it, and the node's people went on", "a=0", ("a=0", "a=g"), ("a=g", "a=n"), "a=g"),
        ("the node has it, and Main's people went on", "a=0", ("a=g", "a=0"), ("a=m", "a=g"), "a=g"),
        ("the node has it, and Main's people deleted it", "", ("a=g", ""), ("", "a=g"), "a=g"),
        ("Main has it, and the node's people deleted it", "", ("", "a=g"), ("a=g", ""), "a=g"),
        ("Main has it, and the node never had it", "", ("a=g", ""), ("a=g", ""), ""),
        ("Main never had it", "", ("", "a=g"), ("", "a=g"), ""),
        ("the loser of a conflict has not gone yet", "a=0", ("a=g", "a=l"), ("a=g", "a=l"), "a=0"),
        ("both were changed since", "a=0", ("a=g", "a=0"), ("a=m", "a=n"), "a=0"),
        ("nobody sees what the node has", "a=0", ("a=g", "a=0"), ("a=g", "a~"), "a=0"),
        ("nobody sees what Main has", "a=0", ("a=g", "a=0"), ("a?", "a=g"), "a=0"),
    ] {
        assert_eq!(base_of_a(base, before, now), tree(expected), "{what}");
    }
}

#[test]
fn what_goes_directories_and_what_is_left_alone_are_no_goals() {
    let (main, node) = (tree("d/ e/ e/x~"), tree("d/ d/old=1"));
    let delete = |path: &str| {
        let (path, expected) = entry(path);
        Action { path, expected: Some(expected), step: Step::Delete }
    };
    let (path, dir) = entry("e/");
    let made = Action { path, expected: None, step: Step::Put(dir) };
    let intent = intent(&[delete("d/old=1"), made, put("e/x", "1"), put("d/new", "1")], &main, &node);
    assert_eq!(intent.goal, tree("d/new=1"));
    assert_eq!((intent.main, intent.node), (Tree::default(), Tree::default()));
}
