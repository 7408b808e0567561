//! Which machine each node of a run turns out to be. Under two names one machine would be two ends of the same edges, each of
//! which takes the base from the other: what was deleted would come back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex};

use crate::sync::lock;

/// The machines of a run's nodes, as they become known.
pub(super) struct Machines {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    /// The nodes of this run that are still on their way.
    awaited: BTreeSet<String>,
    /// Nodes of this run → the machine that each turned out to be, if it told.
    met: BTreeMap<String, Option<String>>,
    /// Machine → the node that it belongs to: of an earlier run, until this one knows better.
    owners: BTreeMap<String, String>,
}

impl Machines {
    /// `known` are the machines that nodes were in earlier runs, without nodes that are no longer configured.
    pub(super) fn new(nodes: impl Iterator<Item = String>, known: BTreeMap<String, String>) -> Machines {
        let owners = known.into_iter().map(|(node, machine)| (machine, node)).collect();
        let inner = Inner { awaited: nodes.collect(), met: BTreeMap::new(), owners };
        Machines { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    /// A node is about to be reached. Whatever becomes of that, the others learn of it.
    pub(super) fn expect<'m>(&'m self, node: &'m str) -> Expected<'m> {
        Expected { machines: self, node }
    }

    fn meet(&self, node: &str, machine: Option<&str>) {
        let mut inner = lock(&self.inner);
        inner.awaited.remove(node);
        inner.met.entry(node.to_owned()).or_insert_with(|| machine.map(str::to_owned));
        self.changed.notify_all();
    }

    /// Whether the machine is this node's; else the node whose it is. Where another node had it before, what that one is now
    /// is waited for: addresses may have been exchanged. `wait` is called before that.
    fn claim(&self, node: &str, machine: &str, wait: impl FnOnce()) -> Result<(), String> {
        self.meet(node, Some(machine));
        let mut wait = Some(wait);
        let mut inner = lock(&self.inner);
        while let Some(owner) = inner.owners.get(machine).filter(|owner| *owner != node).cloned() {
            if inner.met.get(&owner).is_some_and(|met| met.as_deref().is_some_and(|met| met != machine)) {
                break;
            }
            if !inner.awaited.contains(&owner) {
                return Err(owner);
            }
            if let Some(wait) = wait.take() {
                wait();
            }
            inner = self.changed.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        inner.owners.insert(machine.to_owned(), node.to_owned());
        Ok(())
    }
}

/// A node on its way.
pub(super) struct Expected<'m> {
    machines: &'m Machines,
    node: &'m str,
}

impl Expected<'_> {
    /// It is here, on this machine. See [`Machines::claim`].
    pub(super) fn is(self, machine: Option<&str>, wait: impl FnOnce()) -> Result<(), String> {
        match machine {
            Some(machine) => self.machines.claim(self.node, machine, wait),
            // It does not say, and is dropped.
            None => Ok(()),
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.machines.meet(self.node, None);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn known(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(node, machine)| ((*node).to_owned(), (*machine).to_owned())).collect()
    }

    /// What becomes of nodes that arrive in this order.
    fn arrive<'a>(
        before: &[(&str, &str)],
        arriving: &[(&'a str, Option<&str>)],
    ) -> Vec<(&'a str, Result<(), String>)> {
        let machines = Machines::new(arriving.iter().map(|(node, _)| (*node).to_owned()), known(before));
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (node, machine) in arriving {
                let (expected, (waits, waiting)) = (machines.expect(node), std::sync::mpsc::channel());
                let done = waits.clone();
                threads.push(scope.spawn(move || {
                    let claimed = expected.is(*machine, || {
                        let _ = waits.send(());
                    });
                    let _ = done.send(());
                    (*node, claimed)
                }));
                // The next one comes when this one has its answer, or waits.
                let _ = waiting.recv();
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn a_machine_is_one_node_s() {
        let other = |name: &str| Err(name.to_owned());
        for (before, arriving, expected) in [
            // The first to come has it, and keeps it from then on.
            (&[][..], &[("b", Some("X")), ("a", Some("X"))][..], vec![Ok(()), other("b")]),
            (&[("b", "X")], &[("a", Some("X")), ("b", Some("X"))], vec![other("b"), Ok(())]),
            // Also while its owner is away, or not in this run.
            (&[("b", "X")], &[("a", Some("X")), ("b", None)], vec![other("b"), Ok(())]),
            (&[("b", "X")], &[("a", Some("X"))], vec![other("b")]),
            // Two that exchanged their addresses, or moved on.
            (&[("a", "X"), ("b", "Y")], &[("a", Some("Y")), ("b", Some("X"))], vec![Ok(()), Ok(())]),
            (&[("b", "X")], &[("a", Some("X")), ("b", Some("Z"))], vec![Ok(()), Ok(())]),
            // One that does not say is left alone.
            (&[("b", "X")], &[("a", None), ("b", None)], vec![Ok(()), Ok(())]),
        ] {
            let became: Vec<_> = arrive(before, arriving).into_iter().map(|(_, claimed)| claimed).collect();
            assert_eq!(became, expected, "{before:?} {arriving:?}");
        }
    }
}
