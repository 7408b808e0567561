//! In which order runs came to nodes. They are recorded in the order in which they end, which is another one.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::{Newer, NewerNode, Report};

/// Of the runs that are under way at the same time. A node has one run at a time, so that the order in which runs are
/// done with it is the one in which they looked at it.
#[derive(Debug, Default)]
pub(super) struct Order {
    last: u64,
    recorded: BTreeMap<String, Recorded>,
}

/// What was recorded of a node, and the turn of the last run that told it.
#[derive(Debug, Default)]
struct Recorded {
    turn: u64,
    directories: BTreeMap<String, u64>,
    reloads: BTreeMap<String, u64>,
}

/// When a run was done with each of its nodes.
pub(super) type Turns = BTreeMap<String, u64>;

impl Order {
    /// The turn of a run that is done with a node now.
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// What runs have recorded that came later to the nodes of the one with these turns.
    pub(super) fn newer(&self, turns: &Turns) -> Newer {
        let node = |(name, turn): (&String, &u64)| {
            let recorded = self.recorded.get(name).filter(|recorded| recorded.turn > *turn)?;
            let later = |told: &BTreeMap<String, u64>| -> BTreeSet<String> {
                told.iter().filter(|(_, at)| *at > turn).map(|(name, _)| name.clone()).collect()
            };
            let (directories, reloads) = (later(&recorded.directories), later(&recorded.reloads));
            Some((name.clone(), NewerNode { directories, reloads }))
        };
        Newer { nodes: turns.iter().filter_map(node).collect() }
    }

    /// A run with these turns was recorded.
    pub(super) fn record(&mut self, report: &Report, turns: &Turns) {
        for node in &report.nodes {
            let Some(turn) = turns.get(&node.name).filter(|_| !node.interrupted) else { continue };
            let recorded = self.recorded.entry(node.name.clone()).or_default();
            recorded.turn = recorded.turn.max(*turn);
            let told = |told: &mut BTreeMap<String, u64>, name: &str| {
                let at = told.entry(name.to_owned()).or_default();
                *at = (*at).max(*turn);
            };
            node.directories.iter().for_each(|directory| told(&mut recorded.directories, &directory.name));
            node.reloads.iter().for_each(|reload| told(&mut recorded.reloads, &reload.name));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::report::samples::{node, report};

    #[test]
    fn a_run_that_ends_after_later_ones_is_told_what_is_no_news_any_more() {
        let mut order = Order::default();
        let turns = |order: &mut Order, names: &[&str]| -> Turns {
            names.iter().map(|name| ((*name).to_owned(), order.next())).collect()
        };
        let mut slow = turns(&mut order, &["mds1"]);
        let quick = turns(&mut order, &["mds1"]);
        assert_eq!(order.newer(&quick), Newer::default());
        order.record(&report(vec![node("mds1")]), &quick);
        slow.extend(turns(&mut order, &["mds2"]));
        let newer = order.newer(&slow);
        let names: Vec<&String> = newer.nodes.keys().collect();
        assert_eq!(names, ["mds1"]);
        assert_eq!(newer.nodes["mds1"].directories, ["moh".to_owned()].into());

        // Recorded late, it makes nothing older than it was.
        order.record(&report(vec![node("mds1"), node("mds2")]), &slow);
        let later = turns(&mut order, &["mds1", "mds2"]);
        assert_eq!(order.newer(&later), Newer::default());
        let between: Turns = [("mds1".to_owned(), quick["mds1"] - 1)].into();
        assert_eq!(order.newer(&between).nodes.len(), 1);
    }
}
