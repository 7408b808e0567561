//! Passes 2 and 3: what was decided path by path becomes a tree.

use super::{Decided, DecidedPath, Input};
use crate::model::{BlockedPath, Entry, Reason, RelPath, RelPathBuf, Side, Tree};

/// Pass 2: a directory lives while anything below it does, whoever deleted it.
///
/// Given I1. Guarantees I4.
pub(super) fn keep_parents(input: Input<'_>, paths: &mut [DecidedPath<'_>]) {
    // Backwards: in tree order all that is below a path follows it, so if anything below it lives, the path seen
    // last that does is one of those.
    let mut living: Option<&RelPath> = None;
    for DecidedPath { path, decided, edges } in paths.iter_mut().rev() {
        if !decided.lives() {
            if !living.is_some_and(|living| living.is_below(path)) {
                continue;
            }
            // At this point the path has a directory on each host that has anything below it.
            if let Decided::Becomes(goal) = decided {
                goal.entry = first_dir(input, path, edges);
            }
        }
        living = Some(path);
    }
}

/// The directory that Main has at the path, or the first node that takes part there.
fn first_dir(input: Input<'_>, path: &RelPath, edges: &[usize]) -> Option<Entry> {
    let nodes = edges.iter().map(|&index| input.edges[index].node);
    let entries = std::iter::once(input.main).chain(nodes).filter_map(|tree: &Tree| tree.get(path));
    entries.into_iter().find(|entry| matches!(entry, Entry::Dir(_))).cloned()
}

/// Pass 3: where a file or symlink won over a directory, nothing of the directory stays. Where something in the
/// directory has to stay, the file does not come; the paths that are returned are blocked on every edge.
///
/// Given I1 and I4. Guarantees I5.
pub(super) fn clear_below_files(input: Input<'_>, paths: &mut [DecidedPath<'_>]) -> Vec<BlockedPath> {
    let mut blocked = Vec::new();
    let mut index = 0;
    while index < paths.len() {
        if !becomes_leaf(&paths[index].decided) {
            index += 1;
            continue;
        }
        // At this point the paths up to `end` are those of a directory that makes way, if there is one.
        let end = index + 1 + count_below(&paths[index + 1..], paths[index].path);
        if let Some(kept) = first_kept(input, &paths[index..end]) {
            let (path, reason) = (paths[index].path.to_owned(), Reason::DirectoryInTheWay { kept });
            blocked.push(BlockedPath { path, side: Side::Node, reason });
            paths[index..end].iter_mut().for_each(|path| path.decided = Decided::Untouchable);
        } else {
            for DecidedPath { decided, .. } in &mut paths[index + 1..end] {
                if let Decided::Becomes(goal) = decided {
                    goal.entry = None;
                    goal.reason = Some(Reason::MakesWayForFile);
                }
            }
        }
        index = end;
    }
    blocked
}

fn becomes_leaf(decided: &Decided) -> bool {
    matches!(decided, Decided::Becomes(goal) if matches!(goal.entry, Some(Entry::File(_) | Entry::Symlink(_))))
}

fn count_below(paths: &[DecidedPath<'_>], dir: &RelPath) -> usize {
    paths.iter().take_while(|decided| decided.path.is_below(dir)).count()
}

/// The first path below that of `paths[0]` that has to stay: one that a host must not touch or cannot see, or one
/// that was decided to stay as it is. The others of `paths` are all that was decided below it.
fn first_kept(input: Input<'_>, paths: &[DecidedPath<'_>]) -> Option<RelPathBuf> {
    let (leaf, below) = paths.split_first()?;
    let trees = std::iter::once(input.main).chain(input.edges.iter().map(|edge| edge.node));
    let mut opaque = trees.filter_map(|tree| tree.below(leaf.path).find(|(_, entry)| entry.is_opaque()));
    if let Some((path, _)) = opaque.next() {
        return Some(path.to_owned());
    }
    let stays = below.iter().find(|path| !matches!(path.decided, Decided::Becomes(_)));
    stays.map(|path| path.path.to_owned())
}
