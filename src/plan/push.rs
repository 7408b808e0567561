//! Main → node: what each path of one edge shall become on the node.

use super::walk::walk;
use super::{EdgeInput, EdgePlan, NO_REASON, Plan, Policy, Wishes, diff};
use crate::model::{Change, ChangeKind, DeletePolicy, Entry, EntryProblem, RelPath, RelPathBuf, Side, Tree};

/// Plans a pushed directory. Its edges do not depend on each other.
#[must_use]
pub fn push(policy: &Policy, main: &Tree, edges: &[EdgeInput<'_>]) -> Plan {
    let edges = edges.iter().map(|edge| Push::plan(policy, main, edge)).collect();
    Plan { edges, ..Plan::default() }
}

struct Push<'a> {
    policy: &'a Policy,
    edge: &'a EdgeInput<'a>,
    wishes: Wishes,
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
            wishes: Wishes::default(),
            plan: EdgePlan::default(),
            opaque: None,
            cleared: None,
        };
        walk(&[main, edge.base.unwrap_or(&empty), edge.node], |path, row| {
            push.path(path, row[0], row[1], row[2]);
        });
        push.wishes.spare_inhabited(edge.node);
        let actions = diff::actions(edge.node, &push.wishes);
        let mut plan = push.plan;
        plan.changes.extend(diff::changes(&actions, &push.wishes, Side::Node));
        plan.changes.sort_by(|a, b| a.path.cmp(&b.path));
        plan.actions = actions;
        plan
    }

    fn path(&mut self, path: &RelPath, main: Option<&Entry>, base: Option<&Entry>, node: Option<&Entry>) {
        if self.opaque.as_ref().is_some_and(|opaque| path.is_below(opaque)) {
            return;
        }
        if self.cleared.as_ref().is_some_and(|cleared| path.is_below(cleared)) {
            // Main has a file or link above: there is nothing of Main's here.
            if node.is_some() {
                self.wishes.set(path, None, ChangeKind::Delete, Some("makes way for Main's"));
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
                let lost = base.map(|_| "deleted on the node");
                self.wish(path, main, ChangeKind::Create, lost);
            }
            (Some(main), Some(node)) => self.on_both(path, main, base, node),
        }
    }

    /// Whether this path, and all below it, is to be left alone; reports why.
    fn is_opaque(&mut self, path: &RelPath, main: Option<&Entry>, node: Option<&Entry>) -> bool {
        if matches!(main, Some(Entry::Excluded)) || matches!(node, Some(Entry::Excluded)) {
            return true;
        }
        match main {
            Some(Entry::Busy(busy)) => {
                self.report(path, Side::Node, ChangeKind::Hold, busy.to_string());
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
                self.report(path, Side::Node, ChangeKind::Hold, format!("on the node: {busy}"));
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
                self.wishes.set(path, None, ChangeKind::Delete, Some("not on Main"));
            }
            return;
        };
        match self.policy.delete {
            DeletePolicy::Keep => {}
            DeletePolicy::Propagate | DeletePolicy::Mirror if base.same_content(node) => {
                self.wishes.set(path, None, ChangeKind::Delete, NO_REASON);
            }
            DeletePolicy::Propagate | DeletePolicy::Mirror => {
                let kept = "deleted on Main, changed on the node: kept as the node's own";
                self.report(path, Side::Node, ChangeKind::Drift, kept.to_owned());
            }
        }
    }

    fn on_both(&mut self, path: &RelPath, main: &Entry, base: Option<&Entry>, node: &Entry) {
        if main.same_content(node) {
            if !self.edge.names.satisfied(main, node) {
                self.wish(path, main, ChangeKind::Metadata, NO_REASON);
            }
            return;
        }
        if matches!(node, Entry::Dir(_)) {
            // At this point Main has a file or link where the node has a directory.
            if let Some(kept) = first_kept(self.edge.node, path) {
                let why = format!(
                    "the node has a directory here, with {} in it, which must stay",
                    kept.for_people()
                );
                self.plan.failed.push((path.to_owned(), Side::Node, why));
                self.opaque = Some(path.to_owned());
                return;
            }
            self.cleared = Some(path.to_owned());
        }
        let own = !base.is_some_and(|base| base.same_content(node));
        match (own, node) {
            (true, Entry::Problem(problem)) => {
                self.wish(
                    path,
                    main,
                    ChangeKind::Drift,
                    Some(&format!("replaces what is on the node: {problem}")),
                );
            }
            (true, _) => {
                let reason = "changed on the node; its version is in the node's trash";
                self.wish(path, main, ChangeKind::Drift, Some(reason));
            }
            (false, _) => self.wish(path, main, ChangeKind::Update, NO_REASON),
        }
    }

    fn wish(&mut self, path: &RelPath, main: &Entry, kind: ChangeKind, reason: Option<&str>) {
        self.wishes.set(path, Some(self.edge.names.adapt(main)), kind, reason);
    }

    fn report(&mut self, path: &RelPath, to: Side, kind: ChangeKind, reason: String) {
        self.plan.changes.push(Change { path: path.to_owned(), to, kind, bytes: 0, reason: Some(reason) });
    }

    fn skip(&mut self, path: &RelPath, side: Side, problem: &EntryProblem) {
        let list = if problem.is_standing() { &mut self.plan.skipped } else { &mut self.plan.failed };
        list.push((path.to_owned(), side, problem.to_string()));
    }
}

/// Something below `dir` that must not be removed with it.
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
