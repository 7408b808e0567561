//! What disks keep instead of what they were given: times that they round, modes and owners that they do not take.
//!
//! A base has what was given. Where a disk still has what it made of that, nobody has changed anything: it is planned as if
//! the disk had kept what it was given.

use std::collections::BTreeMap;

use super::OwnerMap;
use super::walk::walk;
use crate::model::{Action, Outcome, Step, Tree};

/// A tree as it would be had its disk kept what it was given; `kept` is what it is known to make of entries of the base.
/// `None`: it is as it is.
#[must_use]
pub(crate) fn as_given(tree: &Tree, base: Option<&Tree>, kept: &Tree) -> Option<Tree> {
    let given = kept.iter().filter_map(|(path, entry)| {
        let given = base?.get(path).filter(|given| given.same_content(entry))?;
        (tree.get(path) == Some(entry)).then(|| (path.to_owned(), Some(given.clone())))
    });
    let given: BTreeMap<_, _> = given.collect();
    (!given.is_empty()).then(|| tree.with(&given))
}

/// Actions that were planned with a tree as it was given, for a host that has `tree`: it compares what it finds.
pub(crate) fn expect(actions: &mut [Action], tree: &Tree) {
    for action in actions {
        if let (Some(expected), Some(found)) = (&mut action.expected, tree.get(&action.path)) {
            expected.clone_from(found);
        }
        if let Step::Move { from, from_expected, .. } = &mut action.step
            && let Some(found) = tree.get(from)
        {
            **from_expected = found.clone();
        }
    }
}

/// The tree after those actions that were carried out, as its disk keeps it.
#[must_use]
pub(crate) fn apply_kept(tree: &Tree, actions: &[Action], outcomes: &[Option<Outcome>]) -> Tree {
    let mut changes = BTreeMap::new();
    for (action, outcome) in actions.iter().zip(outcomes) {
        let Some(outcome) = outcome.as_ref().filter(|outcome| outcome.is_done()) else { continue };
        if let Step::Move { from, .. } = &action.step {
            changes.insert(from.clone(), None);
        }
        changes.insert(action.path.clone(), action.result().map(|planned| outcome.result(planned)));
    }
    if changes.is_empty() { tree.clone() } else { tree.with(&changes) }
}

/// What a disk is known to make of entries of a base: where it has something else than it was given, and what it was given
/// is what both ends have agreed on.
#[must_use]
pub(crate) fn kept(agreed: &Tree, given: &Tree, found: &Tree, names: &OwnerMap) -> Tree {
    let mut kept = Tree::default();
    walk(&[agreed, given, found], |path, row| {
        if let [Some(agreed), Some(given), Some(found)] = row
            && given != found
            && given.same_content(found)
            && agreed.same_content(given)
            && names.matches(agreed, given)
        {
            // The walk is in tree order.
            let _ = kept.push(path, (*found).clone());
        }
    });
    kept
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::tree;
    use super::*;
    use crate::model::{Entry, Kept, Lacks, RelPathBuf};

    fn entry(tree: &Tree) -> Entry {
        tree.iter().next().unwrap().1.clone()
    }

    #[test]
    fn what_a_disk_makes_of_a_time_is_no_change_until_somebody_changes_it() {
        let names = OwnerMap::default();
        let (given, rounded) = (tree("a=1@1234 d/ d/b=2@99"), tree("a=1@1000 d/ d/b=2@99"));
        let known = kept(&given, &given, &rounded, &names);
        assert_eq!(known, tree("a=1@1000"));
        assert_eq!(as_given(&rounded, Some(&given), &known), Some(given.clone()));
        for (now, base) in [
            // Somebody has set its time, or its mode, or written to it.
            ("a=1@2000 d/ d/b=2@99", Some(&given)),
            ("a=1@1000+600 d/ d/b=2@99", Some(&given)),
            ("a=3@1000 d/ d/b=2@99", Some(&given)),
            ("d/ d/b=2@99", Some(&given)),
            // It was given something else, or nothing is known of it.
            ("a=1@1000 d/ d/b=2@99", Some(&tree("a=2@1234"))),
            ("a=1@1000 d/ d/b=2@99", None),
        ] {
            assert_eq!(as_given(&tree(now), base, &known), None, "{now} {base:?}");
        }
        // What was not agreed on is not known.
        assert_eq!(kept(&tree("a=1@77"), &given, &rounded, &names), Tree::default());
    }

    #[test]
    fn a_host_is_told_to_expect_what_it_has() {
        let given = entry(&tree("a=1@1234"));
        let rounded = tree("a=1@1000 b=2@1000");
        let path = |path: &str| RelPathBuf::new(path.as_bytes()).unwrap();
        let mut actions = [
            Action { path: path("a"), expected: Some(given.clone()), step: Step::Delete },
            Action {
                path: path("c"),
                expected: None,
                step: Step::Move {
                    from: path("b"),
                    from_expected: Box::new(given.clone()),
                    entry: given.clone(),
                },
            },
        ];
        expect(&mut actions, &rounded);
        assert_eq!(actions[0].expected.as_ref(), rounded.get(&path("a")));
        assert!(
            matches!(&actions[1].step, Step::Move { from_expected, .. } if Some(&**from_expected) == rounded.get(&path("b")))
        );
        assert_eq!(actions[1].expected, None);
    }

    #[test]
    fn what_was_done_stands_as_the_disk_keeps_it() {
        let (given, rounded) = (tree("a=1@1234"), tree("a=1@1000+755"));
        let file = entry(&rounded).as_file().unwrap().clone();
        let kept = Kept { meta: file.meta.clone(), mtime: file.mtime, lacks: Lacks::default() };
        let put =
            Action { path: RelPathBuf::new(*b"a").unwrap(), expected: None, step: Step::Put(entry(&given)) };
        for (outcome, after) in [
            (Some(Outcome::Kept(Box::new(kept))), &rounded),
            (Some(Outcome::Done), &given),
            (Some(Outcome::Changed), &Tree::default()),
            (None, &Tree::default()),
        ] {
            assert_eq!(&apply_kept(&Tree::default(), std::slice::from_ref(&put), &[outcome]), after);
        }
    }
}
