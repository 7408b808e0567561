//! Stage 3: bases and trees → a [`Plan`].
//!
//! Pure: no I/O, no clock, no log. A dry run is a run that stops after this stage.
//!
//! [`push`] and [`both`] decide what each path shall become on each host; [`diff`] makes ordered actions
//! of that, [`safety`] says when so much would go that somebody should look first, and [`agree`] says
//! what both ends of an edge have in common afterwards.

pub(crate) mod agree;
pub(crate) mod apply;
pub(crate) mod both;
pub(crate) mod diff;
pub(crate) mod intent;
pub(crate) mod kept;
pub(crate) mod left;
pub(crate) mod owners;
pub(crate) mod push;
pub(crate) mod safety;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;

use crate::model::{
    Action, ChangeKind, ConflictPolicy, DeletePolicy, Entry, MaxLoss, NotTaken, PlannedChange, Reason,
    RelPath, RelPathBuf, Take, Tree,
};

pub(crate) use left::Left;
pub(crate) use owners::OwnerMap;

/// What an administrator decided about the directory that is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What deletions do.
    pub(crate) delete: DeletePolicy,
    /// Who wins where several ends changed a path. In a pushed directory: whether what a node changed there is replaced by
    /// Main's.
    pub(crate) conflict: ConflictPolicy,
    /// Which changes the nodes take. Main takes everything.
    pub(crate) take: Take,
    /// When the delete guard stops a run.
    pub(crate) max_delete: MaxLoss,
    /// When what one node would overwrite elsewhere stops its part; both-ways directories only.
    pub(crate) max_change: MaxLoss,
    /// Most bytes that one node may bring in a run; `None`: unlimited. Both-ways directories only.
    pub(crate) max_add: Option<u64>,
    /// Most paths that are new to everybody which a run takes from one node; both-ways directories only.
    pub(crate) max_new: usize,
}

/// One edge as the planner sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EdgeInput<'a> {
    /// The node's name, for reasons that name a host.
    pub(crate) name: &'a str,
    /// What both ends last agreed on; `None` for a new, rebuilt or restored node.
    pub(crate) base: Option<&'a Tree>,
    /// Whether `base` was made under the exclusion rules that hold now. Otherwise what it does not name
    /// may just have been excluded then.
    pub(crate) same_rules: bool,
    /// What the node has.
    pub(crate) node: &'a Tree,
    /// Which owners the node can set.
    pub(crate) names: &'a OwnerMap,
}

/// What a run will do in one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// On Main; only in both-ways directories.
    pub(crate) main: Vec<Action>,
    /// For each path of `main` whose content comes from a node: the index of that edge.
    pub(crate) pulls: BTreeMap<RelPathBuf, usize>,
    /// For each path at which a host gets something that a node changed, and that Main did not have before: the index
    /// of that node's edge.
    pub(crate) sources: BTreeMap<RelPathBuf, usize>,
    /// Per edge, in the order given.
    pub(crate) edges: Vec<EdgePlan>,
    /// Paths that several ends changed differently.
    pub(crate) conflicts: Vec<Conflict>,
}

/// What a run will do on one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EdgePlan {
    /// On the node.
    pub(crate) actions: Vec<Action>,
    /// What these actions, and those of [`Plan::main`] whose content comes from this node, change; in tree order,
    /// those on Main last. Over all edges of a plan, every action belongs to exactly one of them.
    pub(crate) changes: Vec<PlannedChange>,
    pub(crate) left: Left,
    /// What the node does not take. It is no part of the actions, and is planned again by the next run.
    pub(crate) not_taken: NotTaken,
}

impl EdgePlan {
    /// Whether something is left to do, or to decide, even when every action is done.
    pub(crate) fn leaves_anything(&self) -> bool {
        self.left.is_open() || self.changes.iter().any(|planned| planned.change.kind.is_open())
    }
}

/// A path that several ends changed differently since their bases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Where.
    pub(crate) path: RelPathBuf,
    /// Whose version stays; `None` while it waits for an administrator.
    pub(crate) winner: Option<Host>,
    /// All versions, Main's first if it has one.
    pub(crate) versions: Vec<(Host, Entry)>,
    /// Those who changed it; the others have it as it was.
    pub(crate) changed: Vec<Host>,
}

/// One end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// Main.
    Main,
    /// The node of the edge with this index.
    Node(usize),
}

/// What shall stand at some paths of a host, and why, in tree order: the input of [`diff`].
#[derive(Clone, Debug, Default)]
struct Desired(Vec<(RelPathBuf, DesiredEntry)>);

#[derive(Clone, Debug)]
struct DesiredEntry {
    /// `None`: nothing.
    entry: Option<Entry>,
    kind: ChangeKind,
    reason: Option<Reason>,
}

impl Desired {
    fn set(&mut self, path: &RelPath, entry: Option<Entry>, kind: ChangeKind, reason: Option<Reason>) {
        let desired = (path.to_owned(), DesiredEntry { entry, kind, reason });
        // Paths are walked in tree order, as a rule.
        match self.0.last().is_some_and(|(last, _)| **last >= *path).then(|| self.position(path)) {
            None => self.0.push(desired),
            Some(Ok(at)) => self.0[at] = desired,
            Some(Err(at)) => self.0.insert(at, desired),
        }
    }

    fn get(&self, path: &RelPath) -> Option<&DesiredEntry> {
        self.position(path).ok().map(|at| &self.0[at].1)
    }

    /// Where a path is, or would be.
    fn position(&self, path: &RelPath) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(path))
    }

    /// Drops what the host with this tree does not take, and returns how much that is.
    fn leave_out(&mut self, take: Take, tree: &Tree) -> NotTaken {
        let mut not_taken = NotTaken::default();
        // Below what stays of another type than it was to be, nothing can come and nothing has to go.
        let mut other_type: Option<RelPathBuf> = None;
        self.0.retain(|(path, want)| {
            if other_type.as_ref().is_some_and(|dir| path.is_below(dir)) {
                return false;
            }
            let have = tree.get(path);
            let is_taken = take.takes(have, want.entry.as_ref());
            if !is_taken {
                not_taken.count(have, want.entry.as_ref());
                other_type = changes_type(have, want.entry.as_ref()).then(|| path.clone());
            }
            is_taken
        });
        not_taken
    }

    /// Keeps every directory of `tree` that would not be empty when it is removed.
    fn keep_non_empty_dirs(&mut self, tree: &Tree) {
        let mut is_kept = vec![false; self.0.len()];
        // Innermost first: a directory that is kept keeps those around it.
        for index in (0..self.0.len()).rev() {
            let (path, desired) = &self.0[index];
            let is_removed = |below: &RelPath| {
                self.position(below).is_ok_and(|at| self.0[at].1.entry.is_none() && !is_kept[at])
            };
            if desired.entry.is_none() && !tree.below(path).all(|(below, _)| is_removed(below)) {
                is_kept[index] = true;
            }
        }
        let mut is_kept = is_kept.into_iter();
        self.0.retain(|_| is_kept.next() != Some(true));
    }
}

/// Whether what stands must be removed before the desired entry can be put: only of two files or links can one take
/// the other's place in a single step.
fn changes_type(have: Option<&Entry>, want: Option<&Entry>) -> bool {
    let is_dir = |entry: &Entry| matches!(entry, Entry::Dir(_));
    match (have, want) {
        (Some(have), Some(want)) => is_dir(have) != is_dir(want),
        _ => false,
    }
}

/// What is no file is older than every file.
fn mtime(entry: &Entry) -> i64 {
    entry.as_file().map_or(i64::MIN, |file| file.mtime)
}
