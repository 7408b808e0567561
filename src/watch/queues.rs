//! What each node has not confirmed yet, and which run is next. A node that is slow or away holds up no other: a run is for
//! those that are free, and what is due to the others stays with them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::backoff::backoff;
use super::dirt::Dirt;

/// The directories and the nodes that have a part in them.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Name, and whether nodes change it too.
    pub directories: Vec<(String, bool)>,
    /// Name, and the directories in which it has a part.
    pub nodes: Vec<(String, BTreeSet<String>)>,
}

/// A run that is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPlan {
    /// Names it in [`Queues::finished`].
    pub number: u64,
    pub nodes: Vec<String>,
    pub directories: Vec<String>,
}

/// How a run ended for a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeResult {
    /// It was lost, or never reached.
    pub lost: bool,
    /// Directories of which something failed or was not reached.
    pub failed: BTreeSet<String>,
    /// Directories with files that are not to be touched yet, and when they may be.
    pub held: BTreeMap<String, Duration>,
}

/// The queue of every node.
#[derive(Debug, Default)]
pub struct Queues {
    layout: Layout,
    nodes: BTreeMap<String, Queue>,
    runs: BTreeMap<u64, Flight>,
    last_number: u64,
}

#[derive(Debug, Default)]
struct Queue {
    is_up: bool,
    /// In how many runs it is, or is waited for.
    busy: u32,
    dirty: BTreeMap<String, Dirty>,
    /// Runs in a row in which something of a directory failed.
    failures: BTreeMap<String, u32>,
}

#[derive(Clone, Debug)]
struct Dirty {
    dirt: Dirt,
    since: Duration,
    /// It is not tried before.
    not_before: Duration,
}

/// A run that has begun.
#[derive(Debug, Default)]
struct Flight {
    directories: BTreeSet<String>,
    /// Its nodes that have not been released, and what was due to each of them when it began.
    nodes: BTreeMap<String, BTreeMap<String, Dirty>>,
    /// Whether it changes nothing, and so confirms nothing.
    dry_run: bool,
}

impl Queues {
    /// Queues of these nodes, all of them away and with nothing due.
    #[must_use]
    pub fn new(layout: Layout) -> Queues {
        let nodes = layout.nodes.iter().map(|(name, _)| (name.clone(), Queue::default())).collect();
        Queues { layout, nodes, ..Queues::default() }
    }

    /// Something may have changed in a directory: it is due to all nodes that have a part in it, or to `node` alone.
    pub fn mark(&mut self, now: Duration, directory: &str, node: Option<&str>, dirt: &Dirt) {
        self.mark_from(now, directory, node, dirt, now);
    }

    /// The same, but not before a moment.
    pub fn mark_from(
        &mut self,
        now: Duration,
        directory: &str,
        node: Option<&str>,
        dirt: &Dirt,
        not_before: Duration,
    ) {
        for (name, directories) in &self.layout.nodes {
            if node.is_some_and(|node| node != name) || !directories.contains(directory) {
                continue;
            }
            if let Some(queue) = self.nodes.get_mut(name) {
                let dirty = Dirty { dirt: dirt.clone(), since: now, not_before };
                queue.add(directory, dirty);
            }
        }
    }

    /// A directory without events is looked at again, but where it is to be tried later anyway.
    pub fn poll(&mut self, now: Duration, directory: &str) {
        let with_it = self.layout.nodes.iter().filter(|(_, directories)| directories.contains(directory));
        for (name, _) in with_it {
            if let Some(queue) = self.nodes.get_mut(name)
                && !queue.dirty.contains_key(directory)
            {
                queue.add(directory, Dirty { dirt: Dirt::whole(), since: now, not_before: now });
            }
        }
    }

    /// A node is connected. It may have missed anything while it was away, but for what a run looks at that waits for it.
    pub fn up(&mut self, now: Duration, node: &str) {
        let Some(queue) = self.nodes.get_mut(node) else { return };
        queue.is_up = true;
        queue.failures.clear();
        let waited_for = self.runs.values().filter(|run| run.nodes.contains_key(node) && !run.dry_run);
        let seen: BTreeSet<String> = waited_for.flat_map(|run| run.directories.iter().cloned()).collect();
        let all = self.layout.directories.iter().map(|(name, _)| name.clone());
        let missed: Vec<String> = all.filter(|name| !seen.contains(name)).collect();
        for directory in missed {
            self.mark(now, &directory, Some(node), &Dirt::whole());
        }
    }

    /// A node is not connected any more.
    pub fn down(&mut self, node: &str) {
        if let Some(queue) = self.nodes.get_mut(node) {
            queue.is_up = false;
        }
    }

    /// Whether no run is under way for a directory.
    #[must_use]
    pub fn is_idle(&self, directory: &str) -> bool {
        !self.runs.values().any(|run| run.directories.contains(directory))
    }

    /// The next run that changes call for, if one can begin now: for all nodes that are free and to which anything is due.
    /// A run is for pushed directories or for two-way ones. Of the latter there is one at a time, since all of them change
    /// Main.
    pub fn next_run(&mut self, now: Duration, with_two_way: bool) -> Option<RunPlan> {
        let (nodes, directories) = self.candidates(now, with_two_way)?;
        Some(self.begin(nodes, directories, false))
    }

    /// Whether [`Queues::next_run`] has one.
    #[must_use]
    pub fn wants_run(&self, now: Duration, with_two_way: bool) -> bool {
        self.candidates(now, with_two_way).is_some()
    }

    /// Whether nothing is due to any node that is there, and nothing under way.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.runs.is_empty() && self.nodes.values().all(|queue| !queue.is_up || queue.dirty.is_empty())
    }

    fn candidates(&self, now: Duration, with_two_way: bool) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
        for two_way in [false, true] {
            if two_way && !with_two_way {
                continue;
            }
            if two_way && self.runs.values().any(|run| self.has_two_way(&run.directories)) {
                continue;
            }
            let kind: BTreeSet<String> = self.directories(two_way);
            let due = |queue: &Queue| queue.due(now, &kind);
            let free: Vec<(String, BTreeSet<String>)> = self
                .nodes
                .iter()
                .filter(|(_, queue)| queue.is_up && queue.busy == 0)
                .map(|(name, queue)| (name.clone(), due(queue)))
                .filter(|(_, due)| !due.is_empty())
                .collect();
            if free.is_empty() {
                continue;
            }
            let directories = free.iter().flat_map(|(_, due)| due.iter().cloned()).collect();
            let nodes = free.into_iter().map(|(name, _)| name).collect();
            return Some((nodes, directories));
        }
        None
    }

    /// Whether a run for these directories may begin beside those that are under way.
    #[must_use]
    pub fn may_begin(&self, directories: &BTreeSet<String>) -> bool {
        !self.has_two_way(directories) || !self.runs.values().any(|run| self.has_two_way(&run.directories))
    }

    /// A run that was asked for: for these nodes, free or not; empty lists mean all. A dry run confirms nothing.
    pub fn ask(&mut self, nodes: &[String], directories: &[String], dry_run: bool) -> RunPlan {
        let is_asked = |asked: &[String], name: &String| asked.is_empty() || asked.contains(name);
        let nodes = self.nodes.keys().filter(|name| is_asked(nodes, name)).cloned().collect();
        let all = self.layout.directories.iter().map(|(name, _)| name);
        let directories = all.filter(|name| is_asked(directories, name)).cloned().collect();
        self.begin(nodes, directories, dry_run)
    }

    fn begin(&mut self, nodes: BTreeSet<String>, directories: BTreeSet<String>, dry_run: bool) -> RunPlan {
        self.last_number += 1;
        let number = self.last_number;
        let mut flight = Flight { directories: directories.clone(), dry_run, ..Flight::default() };
        for name in &nodes {
            let Some(queue) = self.nodes.get_mut(name) else { continue };
            queue.busy += 1;
            let taken = directories.iter().filter(|_| !dry_run);
            let taken = taken.filter_map(|directory| queue.dirty.remove_entry(directory));
            flight.nodes.insert(name.clone(), taken.collect());
        }
        self.runs.insert(number, flight);
        let in_order = |names: &BTreeSet<String>, order: Vec<&String>| -> Vec<String> {
            order.into_iter().filter(|name| names.contains(*name)).cloned().collect()
        };
        RunPlan {
            number,
            nodes: in_order(&nodes, self.layout.nodes.iter().map(|(name, _)| name).collect()),
            directories: in_order(
                &directories,
                self.layout.directories.iter().map(|(name, _)| name).collect(),
            ),
        }
    }

    /// A run is done with a node, though others may hold it up. What the node has not confirmed stays due to it. `random` is
    /// from 0 to 1.
    pub fn released(&mut self, now: Duration, number: u64, node: &str, result: &NodeResult, random: f64) {
        let Some(flight) = self.runs.get_mut(&number) else { return };
        let Some(mut taken) = flight.nodes.remove(node) else { return };
        let Some(queue) = self.nodes.get_mut(node) else { return };
        queue.busy = queue.busy.saturating_sub(1);
        if !flight.dry_run {
            for directory in &flight.directories {
                queue.take_result(now, directory, taken.remove(directory), result, random);
            }
        }
    }

    /// A run is over. `left` is what became of those of its nodes that it did not release.
    pub fn finished(&mut self, now: Duration, number: u64, left: &NodeResult, random: f64) {
        let unreleased =
            self.runs.get(&number).map(|flight| flight.nodes.keys().cloned().collect::<Vec<_>>());
        for node in unreleased.into_iter().flatten() {
            self.released(now, number, &node, left, random);
        }
        self.runs.remove(&number);
    }

    /// How many runs have begun.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.last_number
    }

    /// When [`Queues::next_run`] may have another answer, if nothing else happens.
    #[must_use]
    pub fn next_due(&self, now: Duration) -> Option<Duration> {
        let free = self.nodes.values().filter(|queue| queue.is_up && queue.busy == 0);
        free.flat_map(|queue| queue.dirty.values()).map(|dirty| dirty.not_before).filter(|at| *at > now).min()
    }

    /// How many changes a node has not confirmed (`None`: it cannot be said), and for how long the oldest has waited.
    #[must_use]
    pub fn waiting(&self, now: Duration, node: &str) -> (Option<usize>, Option<Duration>) {
        let flying = self.runs.values().filter_map(|run| run.nodes.get(node)).flat_map(BTreeMap::values);
        let queued = self.nodes.get(node).into_iter().flat_map(|queue| queue.dirty.values());
        let all: Vec<&Dirty> = flying.chain(queued).collect();
        let count = all.iter().map(|dirty| dirty.dirt.len()).sum::<Option<usize>>();
        (count, all.iter().map(|dirty| now.saturating_sub(dirty.since)).max())
    }

    /// Whether anything of a directory is due to a node.
    #[must_use]
    pub fn is_due(&self, node: &str, directory: &str) -> bool {
        self.nodes.get(node).is_some_and(|queue| queue.dirty.contains_key(directory))
    }

    fn has_two_way(&self, directories: &BTreeSet<String>) -> bool {
        self.layout.directories.iter().any(|(name, two_way)| *two_way && directories.contains(name))
    }

    fn directories(&self, two_way: bool) -> BTreeSet<String> {
        let those = self.layout.directories.iter().filter(|(_, is_two_way)| *is_two_way == two_way);
        those.map(|(name, _)| name.clone()).collect()
    }

    /// How much is remembered, for tests of growth.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        let of = |dirty: &Dirty| dirty.dirt.len().unwrap_or(1);
        let queued = self.nodes.values().map(|queue| {
            queue.dirty.values().map(of).sum::<usize>() + queue.failures.len() + queue.dirty.len()
        });
        queued.sum::<usize>() + self.runs.len()
    }
}

impl Queue {
    fn add(&mut self, directory: &str, new: Dirty) {
        match self.dirty.get_mut(directory) {
            Some(dirty) => {
                dirty.dirt.merge(&new.dirt);
                dirty.since = dirty.since.min(new.since);
                dirty.not_before = dirty.not_before.min(new.not_before);
            }
            None => {
                self.dirty.insert(directory.to_owned(), new);
            }
        }
    }

    /// The directories, of these, that may be looked at now.
    fn due(&self, now: Duration, kind: &BTreeSet<String>) -> BTreeSet<String> {
        let due = self.dirty.iter().filter(|(name, dirty)| kind.contains(*name) && dirty.not_before <= now);
        due.map(|(name, _)| name.clone()).collect()
    }

    fn take_result(
        &mut self,
        now: Duration,
        directory: &str,
        before: Option<Dirty>,
        result: &NodeResult,
        random: f64,
    ) {
        let since = before.as_ref().map_or(now, |dirty| dirty.since);
        let again = |dirt: Dirt, not_before: Duration| Dirty { dirt, since, not_before };
        if result.lost {
            // Once it is back everything is due. It may be so by now: then nobody has said it of what this run was to look at.
            let missed = self.is_up.then(|| again(Dirt::whole(), now));
            if let Some(due) = before.or(missed) {
                self.add(directory, due);
            }
        } else if result.failed.contains(directory) {
            let failures = self.failures.entry(directory.to_owned()).or_default();
            *failures = failures.saturating_add(1);
            let pause = backoff(*failures, random);
            let dirt = before.map_or_else(Dirt::whole, |before| before.dirt);
            self.add(directory, again(dirt, now + pause));
        } else if let Some(pause) = result.held.get(directory) {
            let times = self.failures.entry(directory.to_owned()).or_default();
            *times = times.saturating_add(1);
            let pause = (*pause).max(backoff(*times, 0.0));
            self.add(directory, again(Dirt::whole(), now + pause));
        } else {
            self.failures.remove(directory);
        }
    }
}
