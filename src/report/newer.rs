//! What is no news any more when a run is recorded, since a later one came to the same nodes and is recorded already.
//!
//! The daemon's runs overlap: one that waits for a slow node is recorded after others that came to its other nodes since.

use std::collections::{BTreeMap, BTreeSet};

use super::{NodeReport, NodeState, Report};

/// What later runs have recorded, node by node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newer {
    /// The nodes that they came to, or found lost.
    pub nodes: BTreeMap<String, NewerNode>,
}

/// What later runs have recorded of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewerNode {
    /// The directories that they looked at.
    pub directories: BTreeSet<String>,
    /// The reloads that they tell of.
    pub reloads: BTreeSet<String>,
}

impl Newer {
    /// Whether a later run came to a node.
    pub(super) fn has_node(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }

    /// Whether a later run looked at a directory on a node.
    pub(super) fn has(&self, node: &str, directory: &str) -> bool {
        self.nodes.get(node).is_some_and(|newer| newer.directories.contains(directory))
    }

    /// What a run can still tell that ended just now. A node of which nothing is left to tell has no directories in it.
    /// `is_lost` says which nodes the later runs lost.
    pub(super) fn leave_out(&self, report: &Report, is_lost: impl Fn(&str) -> bool) -> Report {
        let mut left = report.clone();
        for node in &mut left.nodes {
            if let Some(newer) = self.nodes.get(&node.name) {
                newer.leave_out(node, is_lost(&node.name));
            }
        }
        left.halted.retain_mut(|halted| {
            let was_for_all = halted.nodes.is_empty();
            halted.nodes.retain(|node| !self.has(node, &halted.directory));
            was_for_all || !halted.nodes.is_empty()
        });
        left.problems.retain(|problem| match (&problem.node, &problem.directory) {
            (Some(node), Some(directory)) => !self.has(node, directory),
            (Some(node), None) => !self.has_node(node),
            (None, _) => true,
        });
        left
    }
}

impl NewerNode {
    fn leave_out(&self, node: &mut NodeReport, is_lost_now: bool) {
        node.directories.retain(|directory| !self.directories.contains(&directory.name));
        node.reloads.retain(|reload| !self.reloads.contains(&reload.name));
        if is_lost_now || node.state.is_lost() || node.directories.is_empty() {
            // Whether it can be reached is known better by now. Once it returns all of it is looked at again.
            (node.state, node.error, node.interrupted) = (NodeState::Ok, None, false);
            node.directories.clear();
            node.reloads.clear();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::samples::{directory, node, report};
    use super::super::status::{Scope, Status};
    use super::super::{DirectoryReport, DirectoryState, Guard, Problem, Stage, samples};
    use super::*;
    use crate::model::{ReloadOutcome, ReloadState};

    fn reload(state: ReloadState) -> ReloadOutcome {
        ReloadOutcome { name: "dialplan".to_owned(), state, detail: None }
    }

    fn broken(name: &str) -> NodeReport {
        let broken = DirectoryReport { failed: 1, state: DirectoryState::Partial, ..directory("dialplan") };
        NodeReport {
            state: NodeState::Partial,
            directories: vec![broken, directory("moh")],
            reloads: vec![reload(ReloadState::Failed)],
            ..node(name)
        }
    }

    fn whole(name: &str) -> NodeReport {
        NodeReport {
            directories: vec![directory("dialplan")],
            reloads: vec![reload(ReloadState::Done)],
            ..node(name)
        }
    }

    fn lost(name: &str) -> NodeReport {
        let error = Some("no route".to_owned());
        NodeReport { state: NodeState::Unreachable, error, directories: vec![], ..node(name) }
    }

    /// What a run of `node` has recorded, for one that is recorded after it and came before.
    fn newer(node: &NodeReport) -> Newer {
        let recorded = NewerNode {
            directories: node.directories.iter().map(|directory| directory.name.clone()).collect(),
            reloads: node.reloads.iter().map(|reload| reload.name.clone()).collect(),
        };
        Newer { nodes: [(node.name.clone(), recorded)].into() }
    }

    /// The status after `earlier`, which is for mds1 and mds2 and recorded last, and `later`, which is for mds1 alone.
    fn after(earlier: &Report, later: NodeReport) -> Status {
        let (one, two) = (["mds1".to_owned()], ["mds1".to_owned(), "mds2".to_owned()]);
        let newer = newer(&later);
        let later = report(vec![later]);
        let scope = Scope { nodes: &one, ..Scope::default() };
        let status = Status::default().after(&later, later.exit_code(), scope);
        let scope = Scope { nodes: &two, directories: &[], newer: Some(&newer) };
        status.after(earlier, earlier.exit_code(), scope)
    }

    #[test]
    fn what_was_mended_meanwhile_is_not_broken_again() {
        let mut earlier = report(vec![broken("mds1"), node("mds2")]);
        earlier.halted = vec![samples::halted("dialplan", Guard::MaxDelete)];
        let detail = Problem::failure(Stage::Commit, "no room");
        let of = |name: &str| Some(name.to_owned());
        earlier.problems = vec![Problem { node: of("mds1"), directory: of("dialplan"), ..detail }];
        let status = after(&earlier, whole("mds1"));
        let states: Vec<_> =
            status.nodes.iter().map(|node| (&*node.name, node.state, node.exit_code)).collect();
        assert_eq!(states, [("mds1", NodeState::Ok, 0), ("mds2", NodeState::Ok, 0)]);
        assert!(status.nodes[0].owed.is_empty());
        assert_eq!((status.status_code, status.halted.len(), status.problems.len()), (0, 0, 0));
        let names: Vec<&str> = status.nodes[0].directories.iter().map(|directory| &*directory.name).collect();
        assert_eq!(names, ["moh", "dialplan"], "what it alone has looked at counts");
    }

    #[test]
    fn what_broke_meanwhile_stays_broken() {
        let mut later = broken("mds1");
        later.directories.truncate(1);
        let earlier = report(vec![whole("mds1"), node("mds2")]);
        let status = after(&earlier, later);
        assert_eq!((status.nodes[0].state, status.nodes[0].exit_code), (NodeState::Partial, 23));
        assert_eq!(status.nodes[0].reloads[0].state, ReloadState::Failed);
        assert_ne!(status.status_code, 0);
        assert_eq!(status.nodes[1].state, NodeState::Ok, "of the other node it tells all");
    }

    #[test]
    fn whether_a_node_is_there_is_what_the_later_run_says() {
        let status = after(&report(vec![lost("mds1"), node("mds2")]), whole("mds1"));
        assert_eq!((status.nodes[0].state, status.status_code), (NodeState::Ok, 0));
        let status = after(&report(vec![whole("mds1"), node("mds2")]), lost("mds1"));
        assert_eq!((status.nodes[0].state, status.status_code), (NodeState::Unreachable, 40));
        assert_eq!(status.nodes[0].error.as_deref(), Some("no route"));
    }

    #[test]
    fn a_run_for_all_nodes_leaves_the_later_facts_too() {
        let later = whole("mds1");
        let newer = newer(&later);
        let one = ["mds1".to_owned()];
        let later = report(vec![later]);
        let status = Status::default().after(&later, 0, Scope { nodes: &one, ..Scope::default() });
        let full = report(vec![lost("mds1"), node("mds2")]);
        let status = status.after(&full, full.exit_code(), Scope { newer: Some(&newer), ..Scope::default() });
        let names: Vec<_> = status.nodes.iter().map(|node| (&*node.name, node.state)).collect();
        assert_eq!(names, [("mds1", NodeState::Ok), ("mds2", NodeState::Ok)]);
    }
}
