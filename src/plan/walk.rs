//! Several trees at once.

use crate::model::{Entry, RelPath, Tree};

/// Visits every path that is in any of the trees, in tree order, with what each tree has there.
pub(super) fn walk<'a>(trees: &[&'a Tree], mut visit: impl FnMut(&'a RelPath, &[Option<&'a Entry>])) {
    let mut at = vec![0; trees.len()];
    let mut row = vec![None; trees.len()];
    let heads = |at: &[usize]| trees.iter().zip(at).map(|(tree, at)| tree.at(*at)).collect::<Vec<_>>();
    loop {
        let heads = heads(&at);
        let Some(path) = heads.iter().flatten().map(|(path, _)| *path).min() else { return };
        for (index, head) in heads.iter().enumerate() {
            row[index] = head.filter(|(this, _)| *this == path).map(|(_, entry)| entry);
            at[index] += usize::from(row[index].is_some());
        }
        visit(path, &row);
    }
}
