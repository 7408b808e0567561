//! How much that is new to everybody a run takes from one node.
//!
//! What a plan names costs memory, and a user of one node can make as many files as that has inodes. What a node has
//! beyond the bound waits for the next run. So does what such a node has deleted: it may have been moved to where it is
//! new, and would be missing everywhere else until it is brought.

use super::Input;
use crate::model::{Entry, Tree};
use crate::plan::walk::walk;

/// Most paths that are new to everybody which a run takes from one node.
pub(crate) const MAX_NEW: usize = 50_000;

/// What a run still takes from each node.
pub(super) struct Intake {
    /// Edge by edge: how many new paths it may still bring; `None`: all that it has.
    left: Vec<Option<usize>>,
}

impl Intake {
    pub(super) fn of(input: Input<'_>) -> Intake {
        let empty = Tree::default();
        let max = input.policy.max_new;
        let is_over = |base: &Tree, node: &Tree| {
            let mut new = 0;
            // As a rule the node has fewer paths altogether.
            if node.len() > max {
                walk(&[input.main, base, node], |_, row| new += usize::from(is_new(row[0], row[1], row[2])));
            }
            new > max
        };
        let edges = input.edges.iter();
        let left = edges.map(|edge| is_over(edge.base.unwrap_or(&empty), edge.node).then_some(max)).collect();
        Intake { left }
    }

    /// Whether a path of this edge waits for another run. To be asked once for each path, in tree order.
    pub(super) fn puts_off(
        &mut self,
        index: usize,
        main: Option<&Entry>,
        base: Option<&Entry>,
        node: Option<&Entry>,
    ) -> bool {
        let Some(left) = &mut self.left[index] else { return false };
        if is_new(main, base, node) {
            let is_last = *left == 0;
            *left = left.saturating_sub(1);
            return is_last;
        }
        main.is_some() && base.is_some() && node.is_none()
    }
}

fn is_new(main: Option<&Entry>, base: Option<&Entry>, node: Option<&Entry>) -> bool {
    main.is_none() && base.is_none() && node.is_some_and(|node| !node.is_opaque())
}
