//! When so much would be deleted, overwritten or brought that somebody should look first.

use std::collections::BTreeSet;

use super::Plan;
use crate::model::{Action, Amount, Entry, Losses, MaxLoss, RelPath, Step, Tree};

/// Whether one end of an edge lost everything: a root that was wiped, not mounted or replaced looks just
/// like an administrator's deletion of every file, and is far more often the reason.
#[must_use]
pub(crate) fn emptied(base: Option<&Tree>, tree: &Tree) -> bool {
    base.is_some_and(Tree::has_content) && !tree.has_content()
}

/// The same for an end of a both-ways directory, where deleting the only recording there is must not stop a run.
#[must_use]
pub(crate) fn emptied_of_several(base: Option<&Tree>, tree: &Tree) -> bool {
    emptied(base, tree) && base.is_some_and(|base| base.files() > 1)
}

/// What these actions would delete on the host with this tree. Moves do not count.
#[must_use]
pub(crate) fn deletions(tree: &Tree, actions: &[Action]) -> Losses {
    Losses { lost: amount(deleted_files(actions)), all: amount(tree.iter().map(|(_, entry)| entry)) }
}

fn amount<'a>(entries: impl Iterator<Item = &'a Entry>) -> Amount {
    entries.filter_map(Entry::as_file).fold(Amount::default(), |amount, file| amount.and(file.size))
}

/// The first host, Main or an edge's node, that would lose too much: which of the edges (`None`: Main), and
/// what it would lose.
#[must_use]
pub(crate) fn exceeds(
    max: MaxLoss,
    plan: &Plan,
    main: &Tree,
    nodes: &[&Tree],
) -> Option<(Option<usize>, Losses)> {
    hosts(plan, main, nodes)
        .map(|(host, tree, actions)| (host, deletions(tree, actions)))
        .find(|(_, losses)| max.exceeded(*losses))
}

/// Every host of a plan, with its tree and what it is to do: Main, and the edges' nodes by their index.
fn hosts<'a>(
    plan: &'a Plan,
    main: &'a Tree,
    nodes: &'a [&'a Tree],
) -> impl Iterator<Item = (Option<usize>, &'a Tree, &'a [Action])> {
    let edges = plan.edges.iter().zip(nodes).enumerate();
    let nodes = edges.map(|(index, (edge, node))| (Some(index), *node, &*edge.actions));
    std::iter::once((None, main, &*plan.main)).chain(nodes)
}

/// What a node would bring: its own edge is that with index `source`.
pub(crate) fn added(plan: &Plan, source: usize) -> u64 {
    let puts = plan.main.iter().filter(|action| plan.pulls.get(&*action.path) == Some(&source));
    amount(puts.filter_map(Action::result)).bytes
}

/// The first host that would lose more than `max` to what the node with index `source` has changed: which of the edges
/// (`None`: Main), and what it would lose.
pub(crate) fn overwrites(
    max: MaxLoss,
    plan: &Plan,
    source: usize,
    main: &Tree,
    nodes: &[&Tree],
) -> Option<(Option<usize>, Losses)> {
    let losses = |(host, tree, actions): (_, &Tree, &[Action])| {
        let lost = amount(overwritten(plan, source, actions).filter_map(|action| action.expected.as_ref()));
        (host, Losses { lost, all: amount(tree.iter().map(|(_, entry)| entry)) })
    };
    hosts(plan, main, nodes).map(losses).find(|(_, losses)| max.exceeded(*losses))
}

/// The actions that replace a file by what a node has changed.
fn overwritten<'a>(plan: &'a Plan, source: usize, actions: &'a [Action]) -> impl Iterator<Item = &'a Action> {
    let is_from_it = move |action: &&Action| plan.sources.get(&*action.path) == Some(&source);
    let replaces = |action: &&Action| {
        matches!(action.expected, Some(Entry::File(_))) && !matches!(action.step, Step::SetMeta(_))
    };
    actions.iter().filter(is_from_it).filter(replaces)
}

/// The token that releases what a node brings and overwrites in this plan, and in no other: it is bound to the directory,
/// the node, and every path with the content before and after.
pub(crate) fn token_of_node(directory: &str, node: &str, plan: &Plan, source: usize) -> String {
    let all = plan.edges.iter().flat_map(|edge| &edge.actions).chain(&plan.main);
    let mut changes: Vec<_> = all
        .filter(|action| plan.sources.get(&*action.path) == Some(&source))
        .map(|action| (action.path.as_bytes(), digest(action.expected.as_ref()), digest(action.result())))
        .collect();
    changes.sort_unstable();
    changes.dedup();
    let mut hash = blake3::Hasher::new();
    for name in [directory, node] {
        hash.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
    }
    for (path, before, after) in changes {
        hash.update(&(path.len() as u64).to_le_bytes()).update(path);
        for digest in [before, after] {
            hash.update(&[u8::from(digest.is_some())]).update(digest.unwrap_or_default());
        }
    }
    short(&hash)
}

fn digest(entry: Option<&Entry>) -> Option<&[u8]> {
    entry.and_then(Entry::as_file).map(|file| &file.digest.0[..])
}

/// The token that releases the deletions of this plan and of no other: it is bound to the directory and to every
/// file that would be deleted, by path and content, on whichever host.
#[must_use]
pub(crate) fn token(directory: &str, plan: &Plan) -> String {
    let mut files: Vec<(&[u8], &Entry)> = plan
        .edges
        .iter()
        .flat_map(|edge| &edge.actions)
        .chain(&plan.main)
        .filter_map(|action| Some((action.path.as_bytes(), deleted_file(action)?)))
        .collect();
    files.sort_by_key(|(path, entry)| (*path, entry.as_file().map(|file| file.digest)));
    files.dedup_by(|a, b| a.0 == b.0 && a.1.same_content(b.1));
    let mut hash = blake3::Hasher::new();
    hash.update(directory.as_bytes());
    for (path, entry) in files {
        hash.update(&(path.len() as u64).to_le_bytes()).update(path);
        if let Some(file) = entry.as_file() {
            hash.update(&file.digest.0);
        }
    }
    short(&hash)
}

/// 48 bits: short enough to type, and long enough that no other plan has the same by accident.
fn short(hash: &blake3::Hasher) -> String {
    hash.finalize().to_hex()[..12].to_owned()
}

/// Every file that would be deleted on any host.
pub(crate) fn deleted_paths(plan: &Plan) -> BTreeSet<&RelPath> {
    let all = plan.edges.iter().flat_map(|edge| &edge.actions).chain(&plan.main);
    all.filter(|action| deleted_file(action).is_some()).map(|action| &*action.path).collect()
}

/// Every path at which any host would get what the node with index `source` has changed.
pub(crate) fn paths_of_node(plan: &Plan, source: usize) -> BTreeSet<&RelPath> {
    plan.sources.iter().filter(|(_, from)| **from == source).map(|(path, _)| &**path).collect()
}

/// Whether any action deletes a file. Moves do not count.
#[must_use]
pub(crate) fn deletes(actions: &[Action]) -> bool {
    deleted_files(actions).next().is_some()
}

fn deleted_files(actions: &[Action]) -> impl Iterator<Item = &Entry> {
    actions.iter().filter_map(deleted_file)
}

fn deleted_file(action: &Action) -> Option<&Entry> {
    match (&action.step, &action.expected) {
        (Step::Delete, Some(entry @ Entry::File(_))) => Some(entry),
        _ => None,
    }
}
