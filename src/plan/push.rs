//! Main → node: what each path of one edge shall become on the node.

use super::walk::walk;
use super::{Desired, EdgeInput, EdgePlan, Plan, Policy, diff, mtime};
use crate::model::{
    BlockedPath, Change, ChangeKind, ConflictPolicy, DeletePolicy, Entry, EntryProblem, Reason, RelPath,
    RelPathBuf, Side, Tree,
};

/// Plans a pushed directory. Its edges do not depend on each other.
#[must_use]
pub(crate) fn push(policy: &Policy, main: &Tree, edges: &[EdgeInput<'_>]) -> Plan {
    let edges = edges.iter().map(|edge| Push::plan(policy, main, edge)).collect();
    Plan { edges, ..Plan::default() }
}

struct Push<'a> {
    policy: &'a Policy,
    edge: &'a EdgeInput<'a>,
    desired: Desired,
    plan: EdgePlan,
    /// Nothing is done below this path: one end is not to be touched or cannot be seen there.
    opaque: Option<RelPathBuf>,
    /// Everything the node has below this path makes way for something of another type.
    cleared: Option<RelPathBuf>,
}

impl<'a> Push<'a> {
    fn plan(policy: &'a Policy, main: &Tree, edge: &'a EdgeInput<'a>) -> EdgePlan {
        let empty = Tree::default();
        let mut push = Push {
            policy,
            edge,
            desired: Desired::default(),
            plan: EdgePlan::default(),
            opaque: None,
            cleared: None,
        };
        walk(&[main, edge.base.unwrap_or(&empty), edge.node], |path, row| {
            push.path(path, row[0], row[1], row[2]);
        });
        let Push { mut desired, plan, .. } = push;
        let not_taken = desired.leave_out(policy.take, edge.node);
        desired.keep_non_empty_dirs(edge.node);
        let actions = diff::actions(edge.node, &desired);
        let changes = diff::changes(&actions, &desired, Side::Node);
        EdgePlan { actions, changes, not_taken, ..plan }
    }

    fn path(&mut self, path: &RelPath, main: Option<&Entry>, base: Option<&Entry>, node: Option<&Entry>) {
        if self.opaque.as_ref().is_some_and(|opaque| path.is_below(opaque)) {
            return;
        }
        if self.cleared.as_ref().is_some_and(|cleared| path.is_below(cleared)) {
            // Main has a file or link above, so it has nothing here.
            if node.is_some() {
                self.delete(path, Some(Reason::MakesWayForMains));
            }
            return;
        }
        if self.is_opaque(path, main, node) {
            self.opaque = Some(path.to_owned());
            return;
        }
        match (main, node) {
            (None, None) => {}
            (None, Some(node)) => self.not_on_main(path, base, node),
            (Some(main), None) => {
                // A node that lost a pushed file gets it again.
                let reason = base.map(|_| Reason::LostOnNode);
                self.put(path, main, ChangeKind::Create, reason);
            }
            (Some(main), Some(node)) => self.on_both(path, main, base, node),
        }
    }

    /// Whether this path, and all below it, is to be left alone; notes why.
    fn is_opaque(&mut self, path: &RelPath, main: Option<&Entry>, node: Option<&Entry>) -> bool {
        if matches!(main, Some(Entry::Excluded)) || matches!(node, Some(Entry::Excluded)) {
            return true;
        }
        match main {
            Some(Entry::Busy(busy)) => {
                self.note(path, ChangeKind::Hold, Reason::Busy(*busy));
                return true;
            }
            Some(Entry::Problem(problem)) => {
                self.skip(path, Side::Main, problem);
                return true;
            }
            _ => {}
        }
        match node {
            Some(Entry::Busy(busy)) => {
                self.note(path, ChangeKind::Hold, Reason::BusyOnNode(*busy));
                true
            }
            // A link or special file in the place of one of Main's is replaced; any other is the node's own.
            Some(Entry::Problem(EntryProblem::Special | EntryProblem::EscapingLink)) => main.is_none(),
            Some(Entry::Problem(problem)) => {
                self.skip(path, Side::Node, problem);
                true
            }
            _ => false,
        }
    }

    fn not_on_main(&mut self, path: &RelPath, base: Option<&Entry>, node: &Entry) {
        let Some(base) = base else {
            let known_extra = self.edge.base.is_some() && self.edge.same_rules;
            if self.policy.delete == DeletePolicy::Mirror && known_extra {
                self.delete(path, Some(Reason::NotOnMain));
            }
            return;
        };
        match self.policy.delete {
            DeletePolicy::Keep => {}
            DeletePolicy::Propagate | DeletePolicy::Mirror if base.same_content(node) => {
                self.delete(path, None);
            }
            DeletePolicy::Propagate | DeletePolicy::Mirror => {
                self.note(path, ChangeKind::Drift, Reason::KeptAsNodesOwn);
            }
        }
    }

    fn on_both(&mut self, path: &RelPath, main: &Entry, base: Option<&Entry>, node: &Entry) {
        if main.same_content(node) {
            if !self.edge.names.matches(main, node) {
                self.put(path, main, ChangeKind::Metadata, None);
            }
            return;
        }
        let is_nodes_own = !base.is_some_and(|base| base.same_content(node));
        if is_nodes_own && !node.is_opaque() && self.nodes_stays(path, main, node) {
            self.opaque = Some(path.to_owned());
            return;
        }
        if matches!(node, Entry::Dir(_)) {
            // At this point Main has a file or link where the node has a directory.
            if let Some(kept) = first_kept(self.edge.node, path) {
                let reason = Reason::NodeDirectoryInTheWay { kept: kept.to_owned() };
                self.plan.left.block(BlockedPath { path: path.to_owned(), side: Side::Node, reason });
                self.opaque = Some(path.to_owned());
                return;
            }
            self.cleared = Some(path.to_owned());
        }
        match (is_nodes_own, node) {
            (true, Entry::Problem(problem)) => {
                self.put(path, main, ChangeKind::Drift, Some(Reason::ReplacesProblem(problem.clone())));
            }
            (true, _) => self.put(path, main, ChangeKind::Drift, Some(Reason::ChangedOnNode)),
            (false, _) => self.put(path, main, ChangeKind::Update, None),
        }
    }

    /// Whether what a node has made of a path stays there, although Main has something else; notes why.
    fn nodes_stays(&mut self, path: &RelPath, main: &Entry, node: &Entry) -> bool {
        let stays = match self.policy.conflict {
            ConflictPolicy::Main => return false,
            ConflictPolicy::Node => true,
            ConflictPolicy::Newer => mtime(node) > mtime(main),
            ConflictPolicy::Manual => {
                self.note(path, ChangeKind::Conflict, Reason::ConflictWaitsOnNode);
                return true;
            }
        };
        if stays {
            let (path, reason) = (path.to_owned(), Reason::NodesStays);
            self.plan.left.block(BlockedPath { path, side: Side::Node, reason });
        }
        stays
    }

    fn put(&mut self, path: &RelPath, main: &Entry, kind: ChangeKind, reason: Option<Reason>) {
        self.desired.set(path, Some(self.edge.names.adapt(main)), kind, reason);
    }

    fn delete(&mut self, path: &RelPath, reason: Option<Reason>) {
        self.desired.set(path, None, ChangeKind::Delete, reason);
    }

    fn note(&mut self, path: &RelPath, kind: ChangeKind, reason: Reason) {
        let (path, reason) = (path.to_owned(), Some(reason));
        self.plan.left.note(Change { path, to: Side::Node, kind, bytes: 0, is_dir: false, reason });
    }

    fn skip(&mut self, path: &RelPath, side: Side, problem: &EntryProblem) {
        let reason = Reason::Problem(problem.clone());
        self.plan.left.block(BlockedPath { path: path.to_owned(), side, reason });
    }
}

/// The first path below `dir` that must not be removed with it.
fn first_kept<'a>(tree: &'a Tree, dir: &'a RelPath) -> Option<&'a RelPath> {
    tree.below(dir).find(|(_, entry)| must_stay(entry)).map(|(path, _)| path)
}

fn must_stay(entry: &Entry) -> bool {
    match entry {
        Entry::Excluded | Entry::Busy(_) => true,
        Entry::Problem(problem) => !matches!(problem, EntryProblem::Special | EntryProblem::EscapingLink),
        Entry::Dir(_) | Entry::File(_) | Entry::Symlink(_) => false,
    }
}
