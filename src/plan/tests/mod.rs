//! Small named trees, and the laws that hold for all.

#![allow(clippy::unwrap_used, clippy::panic)]

mod both;
mod growth;
mod intent;
mod laws;
mod push;
mod take;

use std::collections::BTreeMap;

use super::*;
use crate::model::{Busy, Change, Digest, EntryProblem, File, Meta, Outcome, Owner, Side, Step, Symlink};

/// A tree from words: `d/` a directory, `a=1` a file with content `1` (`a=1@5` modified at 5, `a=1+600`
/// with mode 600), `l>a` a link, `x!` excluded, `b~` busy, `p?` unreadable, `s%` special.
pub(super) fn tree(words: &str) -> Tree {
    words.split_whitespace().map(entry).collect()
}

fn entry(word: &str) -> (RelPathBuf, Entry) {
    // The first sign after the last slash tells the kind; a slash at the end is a directory's.
    let (path, sign, rest) = if let Some(path) = word.strip_suffix('/') {
        (path, '/', "")
    } else {
        let name = word.rfind('/').map_or(0, |slash| slash + 1);
        let at = name + word[name..].find(['=', '>', '!', '~', '?', '%']).unwrap_or_else(|| panic!("{word}"));
        (&word[..at], char::from(word.as_bytes()[at]), &word[at + 1..])
    };
    let meta = |mode| Meta { mode, owner: Owner::default() };
    let entry = match sign {
        '/' => Entry::Dir(meta(0o755)),
        '>' => Entry::Symlink(Symlink { target: rest.as_bytes().into() }),
        '!' => Entry::Excluded,
        '~' => Entry::Busy(Busy::Open),
        '?' => Entry::Problem(EntryProblem::Unreadable("EIO".into())),
        '%' => Entry::Problem(EntryProblem::Special),
        _ => {
            let (rest, mode) = rest
                .split_once('+')
                .map_or((rest, 0o644), |(rest, mode)| (rest, u16::from_str_radix(mode, 8).unwrap()));
            let (content, mtime) =
                rest.split_once('@').map_or((rest, 0), |(content, mtime)| (content, mtime.parse().unwrap()));
            let digest = Digest(blake3::hash(content.as_bytes()).into());
            Entry::File(File { size: content.len() as u64, mtime, digest, meta: meta(mode) })
        }
    };
    (RelPathBuf::new(path.as_bytes()).unwrap(), entry)
}

pub(super) fn policy(delete: DeletePolicy, conflict: ConflictPolicy) -> Policy {
    Policy {
        delete,
        conflict,
        take: Take::ALL,
        max_delete: MaxLoss::Percent(50),
        max_change: MaxLoss::Percent(50),
        max_add: None,
        max_new: usize::MAX,
    }
}

pub(super) fn propagate() -> Policy {
    policy(DeletePolicy::Propagate, ConflictPolicy::Main)
}

/// Does actions one by one as a host would, and fails where the host would find something else than it was
/// told to expect, a missing parent, or a directory that is not empty.
pub(super) fn perform(tree: &Tree, actions: &[Action]) -> Tree {
    let mut now: BTreeMap<RelPathBuf, Entry> =
        tree.iter().map(|(path, entry)| (path.to_owned(), entry.clone())).collect();
    for action in actions {
        assert_eq!(now.get(&action.path), action.expected.as_ref(), "{action:?}");
        if let Step::Move { from, from_expected, .. } = &action.step {
            assert_eq!(now.remove(from).as_ref(), Some(&**from_expected), "{action:?}");
        }
        match action.result() {
            Some(entry) => {
                if let Some(parent) = action.path.parent() {
                    assert!(matches!(now.get(parent), Some(Entry::Dir(_))), "no parent: {action:?}");
                }
                let is_dir = |entry: &Entry| matches!(entry, Entry::Dir(_));
                assert!(now.get(&action.path).is_none_or(|old| is_dir(old) == is_dir(entry)), "{action:?}");
                now.insert(action.path.clone(), entry.clone());
            }
            None => {
                assert!(!now.keys().any(|path| path.is_below(&action.path)), "not empty: {action:?}");
                now.remove(&action.path);
            }
        }
    }
    let after = Tree::from_iter(now);
    assert_eq!(apply::apply_done(tree, actions, &vec![Some(Outcome::Done); actions.len()]), after);
    after
}

/// What a plan reports: `kind path`, with `<` for changes to Main.
pub(super) fn told(edge: &EdgePlan) -> Vec<String> {
    let kind = |change: &Change| format!("{:?}", change.kind).to_lowercase();
    let side = |change: &Change| if change.to == Side::Main { "< " } else { "" };
    let mut changes: Vec<&Change> = edge.changes.iter().map(|planned| &planned.change).collect();
    changes.extend(edge.left.notes());
    changes.sort_by_key(|change| (change.to, &change.path));
    changes
        .into_iter()
        .map(|change| format!("{}{} {}", side(change), kind(change), change.path.escaped()))
        .collect()
}

pub(super) fn is_covered(tree: &Tree, path: &RelPath) -> bool {
    let opaque = |path: &RelPath| tree.get(path).is_some_and(Entry::is_opaque);
    opaque(path) || path.ancestors().any(opaque)
}
