//! Both ways: what each path shall become on Main and on every reachable node, planned once for all.
//!
//! Each end's entry is held against the base of its own edge, so a node that was away is judged by what it
//! last agreed on, and the result does not depend on the order in which nodes come. Main's entry can be old
//! news on one edge and new on another (to a node that was away); where a node changed the very version
//! that Main still has, that change supersedes Main's.

use std::collections::BTreeMap;

use super::walk::walk;
use super::{Conflict, EdgeInput, EdgePlan, Host, NO_REASON, OwnerMap, Plan, Policy, Wishes, diff};
use crate::model::{
    Change, ChangeKind, ConflictPolicy, DeletePolicy, Entry, EntryProblem, RelPath, RelPathBuf, Side, Step,
    Tree,
};

/// An administrator's decisions on conflicts: path → whose version stays.
pub type Resolutions = BTreeMap<RelPathBuf, Host>;

/// Plans a both-ways directory over all edges together.
#[must_use]
pub fn both(
    policy: &Policy,
    main: &Tree,
    main_names: &OwnerMap,
    edges: &[EdgeInput<'_>],
    resolutions: &Resolutions,
) -> Plan {
    let empty = Tree::default();
    let mut trees = vec![main];
    for edge in edges {
        trees.push(edge.base.unwrap_or(&empty));
        trees.push(edge.node);
    }
    let mut both = Both {
        policy,
        main,
        main_names,
        edges,
        resolutions,
        paths: Vec::new(),
        plans: vec![EdgePlan::default(); edges.len()],
        conflicts: Vec::new(),
        opaque: None,
        opaque_edges: vec![None; edges.len()],
    };
    walk(&trees, |path, row| both.path(path, row));
    both.keep_inhabited();
    both.clear_below_files();
    both.plan()
}

struct Both<'a> {
    policy: &'a Policy,
    main: &'a Tree,
    main_names: &'a OwnerMap,
    edges: &'a [EdgeInput<'a>],
    resolutions: &'a Resolutions,
    /// What was decided, in tree order.
    paths: Vec<Decided>,
    plans: Vec<EdgePlan>,
    conflicts: Vec<Conflict>,
    /// Nothing is done at and below this path, on any edge.
    opaque: Option<RelPathBuf>,
    /// The same, edge by edge.
    opaque_edges: Vec<Option<RelPathBuf>>,
}

/// What a path shall be everywhere.
struct Decided {
    path: RelPathBuf,
    /// `None`: it stays as it is, on every host.
    outcome: Option<Outcome>,
    /// Edges that take part at this path.
    active: Vec<usize>,
}

struct Outcome {
    /// What shall stand; `None`: nothing.
    entry: Option<Entry>,
    /// Whose content that is.
    source: Host,
    /// Whose own change is overruled.
    losers: Vec<Host>,
    reason: Option<String>,
    /// What to make of it, should a directory have to live on although it was deleted.
    dir: Option<Entry>,
}

/// One path as every host has it.
struct Row<'r, 'a> {
    path: &'r RelPath,
    main: Option<&'a Entry>,
    /// Index of the edge, base, node; only edges that take part.
    edges: Vec<(usize, Option<&'a Entry>, Option<&'a Entry>)>,
}

fn same(a: Option<&Entry>, b: Option<&Entry>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.same_content(b),
        _ => false,
    }
}

impl<'a> Both<'a> {
    fn path(&mut self, path: &RelPath, row: &[Option<&'a Entry>]) {
        if self.opaque.as_ref().is_some_and(|opaque| path.is_below(opaque)) {
            return;
        }
        let main = row[0];
        if self.is_opaque_everywhere(path, main, &row[1..]) {
            self.stop_everywhere(path);
            return;
        }
        let mut edges = Vec::with_capacity(self.edges.len());
        for index in 0..self.edges.len() {
            let (base, node) = (row[1 + 2 * index], row[2 + 2 * index]);
            if !self.is_opaque_on(index, path, node) {
                edges.push((index, base, node));
            }
        }
        let row = Row { path, main, edges };
        let outcome = self.decide(&row);
        let active = row.edges.iter().map(|(index, ..)| *index).collect();
        self.paths.push(Decided { path: path.to_owned(), outcome, active });
    }

    fn stop_everywhere(&mut self, path: &RelPath) {
        self.opaque = Some(path.to_owned());
        // It is there, and whatever is around it must stay.
        self.paths.push(Decided { path: path.to_owned(), outcome: None, active: Vec::new() });
    }

    fn is_opaque_everywhere(&mut self, path: &RelPath, main: Option<&Entry>, row: &[Option<&Entry>]) -> bool {
        match main {
            Some(Entry::Busy(busy)) => {
                for index in 0..self.edges.len() {
                    self.report(index, path, Side::Node, ChangeKind::Hold, busy.to_string());
                }
                true
            }
            Some(Entry::Problem(problem)) => {
                for index in 0..self.edges.len() {
                    self.skip(index, path, Side::Main, problem);
                }
                true
            }
            Some(Entry::Excluded) => true,
            _ => row.chunks(2).any(|edge| matches!(edge[1], Some(Entry::Excluded))),
        }
    }

    fn is_opaque_on(&mut self, index: usize, path: &RelPath, node: Option<&Entry>) -> bool {
        if self.opaque_edges[index].as_ref().is_some_and(|opaque| path.is_below(opaque)) {
            return true;
        }
        match node {
            Some(Entry::Busy(busy)) => {
                self.report(index, path, Side::Main, ChangeKind::Hold, busy.to_string());
            }
            Some(Entry::Problem(problem)) => self.skip(index, path, Side::Node, problem),
            _ => return false,
        }
        self.opaque_edges[index] = Some(path.to_owned());
        true
    }

    /// What the path shall be, by the contents that changed against the base of their own edge.
    fn decide(&mut self, row: &Row<'_, '_>) -> Option<Outcome> {
        let mut deleted = false;
        let mut superseded = false;
        let mut main_changed = false;
        let mut changed: Vec<(Host, &Entry)> = Vec::new();
        for &(index, base, node) in &row.edges {
            let main_differs = !same(row.main, base);
            let node_differs = !same(node, base);
            main_changed |= main_differs;
            superseded |= base.is_some() && !main_differs && node_differs;
            // Without an entry in the base nothing can have been deleted.
            deleted |=
                base.is_some() && ((main_differs && row.main.is_none()) || (node_differs && node.is_none()));
            if let (true, Some(node)) = (node_differs, node) {
                changed.push((Host::Node(index), node));
            }
        }
        if let (true, false, Some(main)) = (main_changed, superseded, row.main) {
            changed.insert(0, (Host::Main, main));
        }
        let dir = row.all().map(|(_, entry)| entry).find(|entry| matches!(entry, Entry::Dir(_))).cloned();

        let Some(&(first, content)) = changed.first() else {
            return self.without_changes(row, deleted, dir);
        };
        if changed.iter().all(|(_, other)| other.same_content(content)) {
            let beats =
                deleted.then(|| format!("changed {}, which beats a deletion elsewhere", self.place(first)));
            let source = row.holder(content).unwrap_or(first);
            let entry = Some(self.with_latest_meta(row, content));
            return Some(Outcome { entry, source, losers: Vec::new(), reason: beats, dir });
        }
        self.settle_conflict(row, &changed, dir)
    }

    /// At this point no end has a content that is new to its edge.
    fn without_changes(&mut self, row: &Row<'_, '_>, deleted: bool, dir: Option<Entry>) -> Option<Outcome> {
        let left: Vec<_> = row.all().collect();
        let (host, entry) = match left.first() {
            Some(&first) if !deleted || self.policy.delete == DeletePolicy::Keep => first,
            // Gone on every end, or about to be.
            _ => {
                return Some(Outcome {
                    entry: None,
                    source: row.deleter(),
                    losers: Vec::new(),
                    reason: None,
                    dir,
                });
            }
        };
        if !left.iter().all(|(_, other)| other.same_content(entry)) {
            // Nodes that were away for different times have different versions of what Main deleted.
            return self.settle_conflict(row, &left, dir);
        }
        let reason = deleted.then(|| "deleted elsewhere, and this directory keeps".to_owned());
        let entry = Some(self.with_latest_meta(row, entry));
        Some(Outcome { entry, source: host, losers: Vec::new(), reason, dir })
    }

    fn settle_conflict(
        &mut self,
        row: &Row<'_, '_>,
        changed: &[(Host, &Entry)],
        dir: Option<Entry>,
    ) -> Option<Outcome> {
        let newest = |&(_, entry): &&(Host, &Entry)| entry.as_file().map_or(i64::MIN, |file| file.mtime);
        let winner = match (self.resolutions.get(row.path), self.policy.conflict) {
            (Some(host), _) => row.all().find(|(this, _)| this == host),
            // Main's comes first if Main changed it, then the nodes' in configured order.
            (None, ConflictPolicy::Main) => changed.first().copied(),
            // Of equal ones max_by_key takes the last.
            (None, ConflictPolicy::Newer) => changed.iter().rev().max_by_key(newest).copied(),
            (None, ConflictPolicy::Manual) => None,
        };
        let versions = row.all().map(|(host, entry)| (host, entry.clone())).collect();
        self.conflicts.push(Conflict {
            path: row.path.to_owned(),
            winner: winner.map(|(host, _)| host),
            versions,
        });
        let Some((source, content)) = winner else {
            self.opaque = Some(row.path.to_owned());
            for &(index, ..) in &row.edges {
                let waits = "changed on several hosts; waits for a decision, see 'xds-sync conflicts'";
                self.report(index, row.path, Side::Node, ChangeKind::Conflict, waits.to_owned());
            }
            return None;
        };
        let losers =
            changed.iter().filter(|(_, other)| !other.same_content(content)).map(|(host, _)| *host).collect();
        let reason = Some(format!("changed on several hosts; the version {} stays", self.place(source)));
        let entry = Some(self.with_latest_meta(row, content));
        Some(Outcome { entry, source: row.holder(content).unwrap_or(source), losers, reason, dir })
    }

    /// `content` with the mode, owner and mtime that changed last: Main's, unless only a node changed them.
    fn with_latest_meta(&self, row: &Row<'_, '_>, content: &Entry) -> Entry {
        let of_main = row.main.filter(|main| main.same_content(content));
        for &(index, base, node) in &row.edges {
            let names = self.edges[index].names;
            let (Some(node), Some(base)) = (node.filter(|node| node.same_content(content)), base) else {
                continue;
            };
            let node_changed = base.same_content(content) && !names.satisfied(base, node);
            let main_unchanged = of_main.is_some_and(|main| main == base);
            if node_changed && main_unchanged {
                return node.clone();
            }
        }
        of_main.unwrap_or(content).clone()
    }

    /// A directory exists while any child lives, whoever deleted it.
    fn keep_inhabited(&mut self) {
        // From the end: of all that lives, the last one seen comes soonest after a path, so if anything
        // lives below the path, it is that.
        let mut living: Option<RelPathBuf> = None;
        for decided in self.paths.iter_mut().rev() {
            let inhabited = living.as_ref().is_some_and(|living| living.is_below(&decided.path));
            if let Some(outcome) = &mut decided.outcome
                && outcome.entry.is_none()
            {
                if !inhabited {
                    continue;
                }
                outcome.entry = outcome.dir.take();
            }
            living = Some(decided.path.clone());
        }
    }

    /// Where a file or link won over a directory, nothing of the directory stays.
    fn clear_below_files(&mut self) {
        let mut winner: Option<(RelPathBuf, bool)> = None;
        for index in 0..self.paths.len() {
            let path = self.paths[index].path.clone();
            match &winner {
                Some((file, clear)) if path.is_below(file) => {
                    let decided = &mut self.paths[index];
                    match (clear, &mut decided.outcome) {
                        (true, Some(outcome)) => {
                            outcome.entry = None;
                            outcome.reason = Some("makes way for a file".to_owned());
                        }
                        (_, outcome) => *outcome = None,
                    }
                    continue;
                }
                _ => {}
            }
            let entry = self.paths[index].outcome.as_ref().and_then(|outcome| outcome.entry.as_ref());
            if !matches!(entry, Some(Entry::File(_) | Entry::Symlink(_))) {
                continue;
            }
            let kept = std::iter::once(self.main)
                .chain(self.edges.iter().map(|edge| edge.node))
                .find_map(|tree| tree.below(&path).find(|(_, entry)| entry.is_opaque()))
                .map(|(kept, _)| kept)
                .or_else(|| self.undecided_below(index))
                .map(RelPath::for_people);
            if let Some(kept) = &kept {
                let why = format!("a file here would replace a directory with {kept} in it, which must stay");
                for edge in 0..self.edges.len() {
                    self.plans[edge].failed.push((path.clone(), Side::Node, why.clone()));
                }
                self.paths[index].outcome = None;
            }
            winner = Some((path, kept.is_none()));
        }
    }

    /// A path below that of `paths[index]` that stays as it is, such as one whose conflict waits.
    fn undecided_below(&self, index: usize) -> Option<&RelPath> {
        let (this, rest) = self.paths.get(index..)?.split_first()?;
        let mut below = rest.iter().take_while(|decided| decided.path.is_below(&this.path));
        below.find(|decided| decided.outcome.is_none()).map(|decided| &*decided.path)
    }

    fn plan(mut self) -> Plan {
        let mut to_main = Wishes::default();
        let mut to_nodes = vec![Wishes::default(); self.edges.len()];
        let mut sources: BTreeMap<RelPathBuf, Host> = BTreeMap::new();
        for decided in &self.paths {
            let Some(outcome) = &decided.outcome else { continue };
            let path = &*decided.path;
            let wish = |wishes: &mut Wishes, host: Host, tree: &Tree, names: &OwnerMap| {
                let have = tree.get(path);
                let kind = match (&outcome.entry, have) {
                    (None, None) => return false,
                    (Some(entry), Some(have)) if names.satisfied(entry, have) => return false,
                    (Some(entry), Some(have)) if entry.same_content(have) => ChangeKind::Metadata,
                    _ if outcome.losers.contains(&host) => ChangeKind::Conflict,
                    (None, Some(_)) => ChangeKind::Delete,
                    (Some(_), None) => ChangeKind::Create,
                    (Some(_), Some(_)) => ChangeKind::Update,
                };
                let reason = outcome.reason.as_deref().filter(|_| kind != ChangeKind::Metadata);
                let entry = outcome.entry.as_ref().map(|entry| names.adapt(entry));
                wishes.set(path, entry, kind, reason.or(NO_REASON));
                true
            };
            if wish(&mut to_main, Host::Main, self.main, self.main_names) {
                sources.insert(path.to_owned(), outcome.source);
            }
            for &index in &decided.active {
                let edge = &self.edges[index];
                wish(&mut to_nodes[index], Host::Node(index), edge.node, edge.names);
            }
        }
        to_main.spare_inhabited(self.main);
        let main = diff::actions(self.main, &to_main);
        let mut pulls = BTreeMap::new();
        for action in &main {
            if let (Step::Put(Entry::File(_)), Some(Host::Node(index))) =
                (&action.step, sources.get(&*action.path))
            {
                pulls.insert(action.path.clone(), *index);
            }
        }
        for (index, mut wishes) in to_nodes.into_iter().enumerate() {
            wishes.spare_inhabited(self.edges[index].node);
            let plan = &mut self.plans[index];
            plan.actions = diff::actions(self.edges[index].node, &wishes);
            plan.changes.extend(diff::changes(&plan.actions, &wishes, Side::Node));
            plan.changes.sort_by(|a, b| (a.to, &a.path).cmp(&(b.to, &b.path)));
        }
        for change in diff::changes(&main, &to_main, Side::Main) {
            let from = match sources.get(&*change.path) {
                Some(Host::Node(index)) => *index,
                _ => 0,
            };
            if let Some(plan) = self.plans.get_mut(from) {
                plan.changes.push(change);
            }
        }
        Plan { main, pulls, edges: self.plans, conflicts: self.conflicts }
    }

    /// Where a host's version is, for a reason.
    fn place(&self, host: Host) -> String {
        match host {
            Host::Main => "on Main".to_owned(),
            Host::Node(index) => format!("on {}", self.edges[index].name),
        }
    }

    fn report(&mut self, index: usize, path: &RelPath, to: Side, kind: ChangeKind, reason: String) {
        let change = Change { path: path.to_owned(), to, kind, bytes: 0, reason: Some(reason) };
        self.plans[index].changes.push(change);
    }

    fn skip(&mut self, index: usize, path: &RelPath, side: Side, problem: &EntryProblem) {
        let plan = &mut self.plans[index];
        let list = if problem.is_standing() { &mut plan.skipped } else { &mut plan.failed };
        list.push((path.to_owned(), side, problem.to_string()));
    }
}

impl<'a> Row<'_, 'a> {
    /// Every host that has something here, Main first.
    fn all(&self) -> impl Iterator<Item = (Host, &'a Entry)> {
        let nodes = self.edges.iter().filter_map(|&(index, _, node)| Some((Host::Node(index), node?)));
        self.main.map(|main| (Host::Main, main)).into_iter().chain(nodes)
    }

    /// Who can give a content: Main rather than a node, an earlier node rather than a later one.
    fn holder(&self, content: &Entry) -> Option<Host> {
        self.all().find(|(_, entry)| entry.same_content(content)).map(|(host, _)| host)
    }

    /// The first node that has lost what its base has, for a report.
    fn deleter(&self) -> Host {
        let lost =
            |&&(_, base, node): &&(usize, Option<&Entry>, Option<&Entry>)| base.is_some() && node.is_none();
        self.edges.iter().find(lost).map_or(Host::Main, |(index, ..)| Host::Node(*index))
    }
}
