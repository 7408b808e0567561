//! What a client of the control socket asks for.

use std::sync::mpsc::Sender;

use super::{Duty, NodeState, digest};
use crate::config::Config;
use crate::daemon::control::{Event, SyncRequest};
use crate::daemon::live::{Live, LiveNode};
use crate::model::escape::{clean, escape_for_people};
use crate::model::rfc3339;

impl Duty<'_> {
    /// The configuration that a client means, where it is not the one that counts here but the one that the daemon would
    /// read now.
    pub(in crate::daemon) fn other_configuration(&self, request: &SyncRequest) -> Option<Box<Config>> {
        let meant = request.config.as_ref().filter(|meant| **meant != digest(&self.config))?;
        let config = (self.daemon.load)().ok()?;
        (digest(&config) == *meant).then(|| Box::new(config))
    }

    pub(in crate::daemon) fn ask(&mut self, request: SyncRequest, answers: Sender<Event>) {
        let is_other = request.config.as_ref().is_some_and(|meant| *meant != digest(&self.config));
        let config = self.site.config();
        let unknown = |asked: &[String], known: &[&str]| {
            asked
                .iter()
                .find(|name| !known.contains(&name.as_str()))
                .map(|name| escape_for_people(name.as_bytes()))
        };
        let nodes: Vec<&str> = config.nodes.iter().map(|node| &*node.name).collect();
        let directories: Vec<&str> = config.directories.iter().map(|directory| &*directory.name).collect();
        let refused = unknown(&request.nodes, &nodes)
            .or_else(|| unknown(&request.directories, &directories))
            .map(|name| Event::Refused { why: format!("unknown name: {name}") });
        let answer = if is_other { Some(Event::OtherConfiguration) } else { refused };
        match answer {
            // A client that has gone needs no answer.
            Some(answer) => drop(answers.send(answer)),
            None => self.asked.push_back((request, answers)),
        }
    }

    pub(in crate::daemon) fn live(&self) -> Live {
        let (now, time) = (self.now(), (self.machine().now)());
        let core = self.core();
        let node = |(name, state): (&String, &NodeState)| {
            let (queue, lag) = core.queues.waiting(now, name);
            LiveNode {
                name: name.clone(),
                connected_since: state.since.map(rfc3339),
                error: state.error.as_ref().map(|error| clean(&error.detail)),
                queue,
                lag_ms: lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
                last_change: state.last_change.map(rfc3339),
            }
        };
        Live {
            pid: self.machine().pid,
            since: rfc3339(self.since),
            next_run: self.next_full.map(|at| rfc3339(time + at.saturating_sub(now))),
            running: self.begun.len(),
            runs: core.queues.begun(),
            nodes: self.nodes.iter().map(node).collect(),
            polled: self.polled.iter().cloned().collect(),
        }
    }
}
