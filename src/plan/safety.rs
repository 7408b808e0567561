//! When so much would be deleted that somebody should look first.

use super::Plan;
use crate::model::{Action, Amount, Deletions, Entry, MaxDelete, Step, Tree};

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
pub(crate) fn deletions(tree: &Tree, actions: &[Action]) -> Deletions {
    Deletions { deleted: amount(deleted_files(actions)), all: amount(tree.iter().map(|(_, entry)| entry)) }
}

fn amount<'a>(entries: impl Iterator<Item = &'a Entry>) -> Amount {
    entries.filter_map(Entry::as_file).fold(Amount::default(), |amount, file| amount.and(file.size))
}

/// The first host, Main or an edge's node, that would lose too much: which of the edges (`None`: Main), and
/// what it would lose.
#[must_use]
pub(crate) fn exceeds(
    max: MaxDelete,
    plan: &Plan,
    main: &Tree,
    nodes: &[&Tree],
) -> Option<(Option<usize>, Deletions)> {
    let hosts = std::iter::once((None, main, &plan.main)).chain(
        plan.edges.iter().zip(nodes).enumerate().map(|(i, (edge, node))| (Some(i), *node, &edge.actions)),
    );
    hosts
        .map(|(host, tree, actions)| (host, deletions(tree, actions)))
        .find(|(_, lost)| max.exceeded(lost.deleted, lost.all))
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
    // 48 bits: short enough to type, and long enough that no other plan has the same by accident.
    hash.finalize().to_hex()[..12].to_owned()
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
