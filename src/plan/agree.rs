//! What both ends of an edge have in common after a run: its next base.

use super::OwnerMap;
use super::walk::walk;
use crate::model::{Direction, Entry, RelPath, Tree};

/// The next base of an edge, from the trees as they are after the run's confirmed actions.
///
/// A path advances only where both ends now have the same. Elsewhere the old base stays, so that the
/// next run judges by it again; except for what has become the node's own, and what is excluded, which no
/// base holds.
#[must_use]
pub(crate) fn agree(
    direction: Direction,
    base: Option<&Tree>,
    main: &Tree,
    node: &Tree,
    names: &OwnerMap,
) -> Tree {
    let empty = Tree::default();
    let mut agreed = Tree::default();
    // What an opaque entry covers is as unknown as the entry.
    let mut opaque: Option<(&RelPath, bool)> = None;
    walk(&[base.unwrap_or(&empty), main, node], |path, row| {
        let [base, main, node] = [row[0], row[1], row[2]];
        if let Some((dir, excluded)) = opaque
            && path.is_below(dir)
        {
            if let (false, Some(base)) = (excluded, base) {
                let _ = agreed.push(path, base.clone());
            }
            return;
        }
        let ends = [main, node];
        let excluded = ends.iter().flatten().any(|entry| matches!(entry, Entry::Excluded));
        if ends.iter().flatten().any(|entry| entry.is_opaque()) {
            opaque = Some((path, excluded));
        }
        let next = match (main, node) {
            _ if excluded => None,
            (Some(main), Some(node)) if names.matches(main, node) && !main.is_opaque() => Some(main),
            (None, None) => None,
            (None, Some(node)) if direction == Direction::Push => {
                // Still in the base's state: a deletion that was kept, halted or failed. Otherwise it is
                // the node's own from now on.
                base.filter(|base| node.is_opaque() || base.same_content(node))
            }
            _ => base,
        };
        if let Some(next) = next {
            // The walk is in tree order.
            let _ = agreed.push(path, next.clone());
        }
    });
    agreed
}
