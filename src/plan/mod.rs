//! Stage 3: bases and trees → a [`Plan`].
//!
//! Pure: no I/O, no clock, no log. A dry run is a run that stops after this stage.
//!
//! [`push`] and [`both`] decide what each path shall become on each host; [`diff`] makes ordered actions
//! of that, [`safety`] says when so much would go that somebody should look first, and [`agree`] says
//! what both ends of an edge have in common afterwards.

pub mod agree;
pub mod apply;
pub mod both;
pub mod diff;
pub mod intent;
pub mod names;
pub mod push;
pub mod safety;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;

use crate::model::{
    Action, Change, ChangeKind, ConflictPolicy, DeletePolicy, Entry, MaxDelete, RelPathBuf, Side, Tree,
};

pub use names::OwnerMap;

/// What an administrator decided about the directory that is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What deletions do.
    pub delete: DeletePolicy,
    /// Who wins conflicts; both-ways directories only.
    pub conflict: ConflictPolicy,
    /// When the delete guard stops a run.
    pub max_delete: MaxDelete,
}

/// One edge as the planner sees it.
#[derive(Clone, Copy, Debug)]
pub struct EdgeInput<'a> {
    /// The node's name, for reasons.
    pub name: &'a str,
    /// What both ends last agreed on; `None` for a new, rebuilt or restored node.
    pub base: Option<&'a Tree>,
    /// Whether `base` was made under the exclusion rules that hold now. Otherwise what it does not name
    /// may just have been excluded then.
    pub same_rules: bool,
    /// What the node has.
    pub node: &'a Tree,
    /// Which owners the node can set.
    pub names: &'a OwnerMap,
}

/// What a run will do in one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// On Main; only in both-ways directories.
    pub main: Vec<Action>,
    /// For each path of `main` whose content comes from a node: the index of that edge.
    pub pulls: BTreeMap<RelPathBuf, usize>,
    /// Per edge, in the order given.
    pub edges: Vec<EdgePlan>,
    /// Paths that several ends changed differently.
    pub conflicts: Vec<Conflict>,
}

/// What a run will do on one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgePlan {
    /// On the node.
    pub actions: Vec<Action>,
    /// The same told to people, and what is held, skipped or decided; in tree order, those to Main last.
    pub changes: Vec<Change>,
    /// Entries left alone because they cannot be read or are in each other's way.
    pub failed: Vec<(RelPathBuf, Side, String)>,
    /// Standing skips: facts of the site that are told once, see
    /// [`EntryProblem::is_standing`](crate::model::EntryProblem::is_standing).
    pub skipped: Vec<(RelPathBuf, Side, String)>,
}

/// A path that several ends changed differently since their bases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Where.
    pub path: RelPathBuf,
    /// Whose version stays; `None` while it waits for an administrator.
    pub winner: Option<Host>,
    /// All versions, Main's first if it has one.
    pub versions: Vec<(Host, Entry)>,
}

/// One end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// Main.
    Main,
    /// The node of the edge with this index.
    Node(usize),
}

/// What shall stand at some paths of a host, and why: the input of [`diff`].
#[derive(Clone, Debug, Default)]
struct Wishes(BTreeMap<RelPathBuf, Wish>);

#[derive(Clone, Debug)]
struct Wish {
    /// `None`: nothing.
    entry: Option<Entry>,
    kind: ChangeKind,
    reason: Option<String>,
}

impl Wishes {
    fn set(
        &mut self,
        path: &crate::model::RelPath,
        entry: Option<Entry>,
        kind: ChangeKind,
        reason: Option<&str>,
    ) {
        self.0.insert(path.to_owned(), Wish { entry, kind, reason: reason.map(str::to_owned) });
    }

    /// Drops the wishes to remove a directory of `tree` in which something would be left.
    fn spare_inhabited(&mut self, tree: &Tree) {
        let doomed: Vec<RelPathBuf> =
            self.0.iter().filter(|(_, wish)| wish.entry.is_none()).map(|(path, _)| path.clone()).collect();
        // Innermost first: a directory that is spared keeps those around it.
        for path in doomed.iter().rev() {
            let gone = |(below, _): (&crate::model::RelPath, &Entry)| {
                self.0.get(below).is_some_and(|wish| wish.entry.is_none())
            };
            if !tree.below(path).all(gone) {
                self.0.remove(path);
            }
        }
    }
}

/// The words for a change of a kind that speaks for itself.
const NO_REASON: Option<&str> = None;
