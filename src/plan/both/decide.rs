//! Pass 1: what each path becomes, looked at by itself.
//!
//! Given: trees and bases, in which only directories have anything below them. Guarantees I1, I2 and I3.

use super::intake::Intake;
use super::{Decided, DecidedPath, Goal, Input, metadata};
use crate::model::{
    BlockedPath, Change, ChangeKind, ConflictPolicy, DeletePolicy, Entry, EntryProblem, Reason, RelPath,
    RelPathBuf, Side, Tree,
};
use crate::plan::walk::walk;
use crate::plan::{Conflict, EdgePlan, Host, mtime};

/// What pass 1 finds.
pub(super) struct Decisions<'a> {
    /// In tree order.
    pub(super) paths: Vec<DecidedPath<'a>>,
    /// What is noted, has failed and is skipped on each edge; nothing else yet.
    pub(super) plans: Vec<EdgePlan>,
    pub(super) conflicts: Vec<Conflict>,
}

/// `empty` is an empty tree, for edges without a base.
pub(super) fn decide<'a>(input: Input<'a>, empty: &'a Tree) -> Decisions<'a> {
    let mut trees = vec![input.main];
    for edge in input.edges {
        trees.push(edge.base.unwrap_or(empty));
        trees.push(edge.node);
    }
    let edges = input.edges.len();
    let mut decider = Decider {
        input,
        found: Decisions {
            paths: Vec::new(),
            plans: vec![EdgePlan::default(); edges],
            conflicts: Vec::new(),
        },
        opaque: None,
        opaque_on: vec![None; edges],
        intake: Intake::of(input),
        put_off: None,
    };
    walk(&trees, |path, row| decider.path(path, row));
    decider.found
}

struct Decider<'a> {
    input: Input<'a>,
    found: Decisions<'a>,
    /// Nothing is decided below this path.
    opaque: Option<RelPathBuf>,
    /// Edge by edge: at and below this path the edge does not take part.
    opaque_on: Vec<Option<RelPathBuf>>,
    intake: Intake,
    /// The last path that waits for another run.
    put_off: Option<&'a RelPath>,
}

/// One path as every host that takes part has it.
struct Row<'r, 'a> {
    path: &'r RelPath,
    main: Option<&'a Entry>,
    edges: Vec<Ends<'a>>,
}

struct Ends<'a> {
    index: usize,
    base: Option<&'a Entry>,
    node: Option<&'a Entry>,
}

/// Whether some host keeps it out. `ends`: for each edge the base's entry and the node's.
fn is_excluded(main: Option<&Entry>, ends: &[Option<&Entry>]) -> bool {
    matches!(main, Some(Entry::Excluded))
        || ends.chunks(2).any(|edge| matches!(edge[1], Some(Entry::Excluded)))
}

fn same(a: Option<&Entry>, b: Option<&Entry>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.same_content(b),
        _ => false,
    }
}

impl<'a> Decider<'a> {
    /// `entries`: Main's, and for each edge that of the base and that of the node.
    fn path(&mut self, path: &'a RelPath, entries: &[Option<&'a Entry>]) {
        if self.opaque.as_ref().is_some_and(|opaque| path.is_below(opaque)) {
            return;
        }
        let main = entries[0];
        let untouchable = if self.is_unseen(path, main) {
            Some(Decided::Untouchable)
        } else {
            is_excluded(main, &entries[1..]).then_some(Decided::Excluded)
        };
        if let Some(decided) = untouchable {
            self.opaque = Some(path.to_owned());
            self.push(path, decided, Vec::new());
            return;
        }
        if self.is_put_off(path, entries) {
            return;
        }
        let mut edges = Vec::with_capacity(self.input.edges.len());
        for index in 0..self.input.edges.len() {
            let (base, node) = (entries[1 + 2 * index], entries[2 + 2 * index]);
            if !self.is_opaque_on(index, path, node) {
                edges.push(Ends { index, base, node });
            }
        }
        let row = Row { path, main, edges };
        if row.is_empty() {
            return;
        }
        let decided = self.decide(&row);
        if matches!(decided, Decided::Waiting) {
            self.opaque = Some(path.to_owned());
        }
        self.push(path, decided, row.edges.iter().map(|ends| ends.index).collect());
    }

    fn push(&mut self, path: &'a RelPath, decided: Decided, edges: Vec<usize>) {
        self.found.paths.push(DecidedPath { path, decided, edges });
    }

    /// Whether the path waits for another run. Nothing is done then at it and below it on any host.
    fn is_put_off(&mut self, path: &'a RelPath, entries: &[Option<&'a Entry>]) -> bool {
        let (mut is_put_off, max) = (false, self.input.policy.max_new);
        for index in 0..self.input.edges.len() {
            let (base, node) = (entries[1 + 2 * index], entries[2 + 2 * index]);
            if self.intake.puts_off(index, entries[0], base, node) {
                self.note(index, path, Side::Main, ChangeKind::Hold, Reason::TooManyAtOnce { max });
                is_put_off = true;
            }
        }
        if is_put_off {
            self.opaque = Some(path.to_owned());
            // One of a directory is enough for what has to be known of it, which is that it is not empty.
            if self.put_off.is_none_or(|last| last.parent() != path.parent()) {
                self.push(path, Decided::Untouchable, Vec::new());
            }
            self.put_off = Some(path);
        }
        is_put_off
    }

    /// Whether it is not known what Main has.
    fn is_unseen(&mut self, path: &RelPath, main: Option<&Entry>) -> bool {
        match main {
            Some(Entry::Busy(busy)) => {
                for index in 0..self.input.edges.len() {
                    self.note(index, path, Side::Node, ChangeKind::Hold, Reason::Busy(*busy));
                }
                true
            }
            Some(Entry::Problem(problem)) => {
                for index in 0..self.input.edges.len() {
                    self.skip(index, path, Side::Main, problem);
                }
                true
            }
            _ => false,
        }
    }

    /// Whether the edge does not take part, because it is not known what its node has.
    fn is_opaque_on(&mut self, index: usize, path: &RelPath, node: Option<&Entry>) -> bool {
        if self.opaque_on[index].as_ref().is_some_and(|opaque| path.is_below(opaque)) {
            return true;
        }
        match node {
            Some(Entry::Busy(busy)) => {
                self.note(index, path, Side::Main, ChangeKind::Hold, Reason::Busy(*busy));
            }
            Some(Entry::Problem(problem)) => self.skip(index, path, Side::Node, problem),
            _ => return false,
        }
        self.opaque_on[index] = Some(path.to_owned());
        true
    }

    /// Decides by the contents that changed against the base of their own edge.
    ///
    /// At this point no entry of the row is opaque.
    fn decide(&mut self, row: &Row<'_, 'a>) -> Decided {
        let mut deleted = false;
        let mut superseded = false;
        let mut main_changed = false;
        let mut changed: Vec<(Host, &Entry)> = Vec::new();
        for ends in &row.edges {
            let main_differs = !same(row.main, ends.base);
            let node_differs = !same(ends.node, ends.base);
            main_changed |= main_differs;
            superseded |= ends.base.is_some() && !main_differs && node_differs;
            // Without an entry in the base nothing can have been deleted.
            deleted |= ends.base.is_some()
                && ((main_differs && row.main.is_none()) || (node_differs && ends.node.is_none()));
            if let (true, Some(node)) = (node_differs, ends.node) {
                changed.push((Host::Node(ends.index), node));
            }
        }
        if let (true, false, Some(main)) = (main_changed, superseded, row.main) {
            changed.insert(0, (Host::Main, main));
        }
        let Some(&(first, content)) = changed.first() else {
            return self.without_changes(row, deleted);
        };
        if !changed.iter().all(|(_, other)| other.same_content(content)) {
            return self.settle_conflict(row, &changed);
        }
        // At this point all who changed it made the same of it.
        Decided::Becomes(Goal {
            entry: Some(self.with_latest_meta(row, content)),
            source: row.holder(content).unwrap_or(first),
            losers: Vec::new(),
            reason: deleted.then(|| Reason::ChangeBeatsDeletion { changed_on: self.input.host_name(first) }),
        })
    }

    /// At this point no host has a content that is new to its edge.
    fn without_changes(&mut self, row: &Row<'_, 'a>, deleted: bool) -> Decided {
        let left: Vec<_> = row.all().collect();
        let (source, entry) = match left.first() {
            Some(&first) if !deleted || self.input.policy.delete == DeletePolicy::Keep => first,
            // Every host has deleted it, or is about to.
            _ => {
                let source = row.deleter();
                return Decided::Becomes(Goal { entry: None, source, losers: Vec::new(), reason: None });
            }
        };
        if !left.iter().all(|(_, other)| other.same_content(entry)) {
            // Nodes that were away for different times have different versions of what Main deleted.
            return self.settle_conflict(row, &left);
        }
        Decided::Becomes(Goal {
            entry: Some(self.with_latest_meta(row, entry)),
            source,
            losers: Vec::new(),
            reason: deleted.then_some(Reason::KeptByPolicy),
        })
    }

    /// At this point the contents in `changed` are not all the same. Main's comes first if Main changed it, then the
    /// nodes' in configured order.
    fn settle_conflict(&mut self, row: &Row<'_, 'a>, changed: &[(Host, &Entry)]) -> Decided {
        let winner = match (self.input.resolutions.get(row.path), self.input.policy.conflict) {
            (Some(host), _) => row.all().find(|(this, _)| this == host),
            (None, ConflictPolicy::Main) => changed.first().copied(),
            (None, ConflictPolicy::Node) => {
                let of_node = changed.iter().find(|(host, _)| *host != Host::Main);
                of_node.or(changed.first()).copied()
            }
            // Of several that are equally new max_by_key takes the last one, so the first comes last.
            (None, ConflictPolicy::Newer) => {
                changed.iter().rev().max_by_key(|(_, entry)| mtime(entry)).copied()
            }
            (None, ConflictPolicy::Manual) => None,
        };
        self.found.conflicts.push(Conflict {
            path: row.path.to_owned(),
            winner: winner.map(|(host, _)| host),
            versions: row.all().map(|(host, entry)| (host, entry.clone())).collect(),
            changed: changed.iter().map(|(host, _)| *host).collect(),
        });
        let Some((source, content)) = winner else {
            for ends in &row.edges {
                self.note(ends.index, row.path, Side::Node, ChangeKind::Conflict, Reason::ConflictWaits);
            }
            return Decided::Waiting;
        };
        let losers = changed.iter().filter(|(_, other)| !other.same_content(content));
        Decided::Becomes(Goal {
            entry: Some(self.with_latest_meta(row, content)),
            source: row.holder(content).unwrap_or(source),
            losers: losers.map(|(host, _)| *host).collect(),
            reason: Some(Reason::ConflictDecided { winner: self.input.host_name(source) }),
        })
    }

    /// `content` with the mode and mtime that changed last: Main's, unless only a node changed them. See [`metadata`] for
    /// what a node may not change.
    fn with_latest_meta(&self, row: &Row<'_, '_>, content: &Entry) -> Entry {
        let of_main = row.main.filter(|main| main.same_content(content));
        for ends in &row.edges {
            let names = self.input.edges[ends.index].names;
            let (Some(node), Some(base)) = (ends.node.filter(|node| node.same_content(content)), ends.base)
            else {
                continue;
            };
            let node_changed = base.same_content(content) && !names.matches(base, node);
            let main_unchanged = of_main.is_some_and(|main| main == base);
            if node_changed && main_unchanged {
                return metadata::of_node(node, row.main);
            }
        }
        of_main.cloned().unwrap_or_else(|| metadata::of_node(content, row.main))
    }

    fn note(&mut self, index: usize, path: &RelPath, to: Side, kind: ChangeKind, reason: Reason) {
        let (path, reason) = (path.to_owned(), Some(reason));
        self.found.plans[index].left.note(Change { path, to, kind, bytes: 0, is_dir: false, reason });
    }

    fn skip(&mut self, index: usize, path: &RelPath, side: Side, problem: &EntryProblem) {
        let reason = Reason::Problem(problem.clone());
        self.found.plans[index].left.block(BlockedPath { path: path.to_owned(), side, reason });
    }
}

impl<'a> Row<'_, 'a> {
    /// Whether nobody who takes part has something here, or had.
    fn is_empty(&self) -> bool {
        self.main.is_none() && self.edges.iter().all(|ends| ends.base.is_none() && ends.node.is_none())
    }

    /// Every host that has something here, Main first.
    fn all(&self) -> impl Iterator<Item = (Host, &'a Entry)> {
        let nodes = self.edges.iter().filter_map(|ends| Some((Host::Node(ends.index), ends.node?)));
        self.main.map(|main| (Host::Main, main)).into_iter().chain(nodes)
    }

    /// Who can give a content: Main rather than a node, an earlier node rather than a later one.
    fn holder(&self, content: &Entry) -> Option<Host> {
        self.all().find(|(_, entry)| entry.same_content(content)).map(|(host, _)| host)
    }

    /// The first node that no longer has what its base has; Main if there is none.
    fn deleter(&self) -> Host {
        let deleter = self.edges.iter().find(|ends| ends.base.is_some() && ends.node.is_none());
        deleter.map_or(Host::Main, |ends| Host::Node(ends.index))
    }
}
