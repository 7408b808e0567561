//! What the daemon makes of what has happened.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Duty, WATCH_AGAIN};
use crate::config::{Config, Directory};
use crate::daemon::Own;
use crate::daemon::control::{Event, Format, SyncRequest};
use crate::daemon::run::{self, Over};
use crate::model::Direction;
use crate::model::escape::{clean, escape_for_people};
use crate::node::NodeError;
use crate::report::text::{Style, Verbosity};
use crate::report::{json, text};
use crate::watch::{Dirt, NodeResult, Seen};

impl Duty<'_> {
    pub(in crate::daemon) fn take(&mut self, own: Own) {
        match own {
            Own::SeenOnMain(seen) => self.see(None, seen),
            Own::Seen(node, seen) => self.see(Some(node), seen),
            Own::Up(node, polled) => self.up(&node, polled),
            Own::Down(node, error) => self.down(&node, error),
            Own::Released(run, node, result) => self.released(run, &node, &result),
            Own::Merged(directory, members) => self.merged(&directory, &members),
            Own::Over(run, over) => self.over(run, *over),
            Own::Found(config) => self.found(&config),
        }
    }

    pub(super) fn see(&mut self, host: Option<String>, seen: Vec<Seen>) {
        let now = self.now();
        let mut moved = false;
        {
            let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
            let gather = core.gathers.entry(host.clone()).or_default();
            for seen in seen {
                let known = self.config.directories.iter().find(|directory| directory.name == seen.root());
                // A node may name what it likes.
                let is_meant =
                    |directory: &&Directory| host.is_none() || directory.direction == Direction::Both;
                let Some(directory) = known.filter(is_meant) else { continue };
                match seen {
                    Seen::Path { root, path, kind } => {
                        gather.add(now, &root, &path, kind, directory.settle);
                    }
                    Seen::Whole { root } => gather.add_whole(now, &root),
                    Seen::Gone { root } => {
                        gather.add_whole(now, &root);
                        moved = true;
                    }
                }
            }
        }
        if moved && host.is_none() {
            self.watch_main_again = Some(now + WATCH_AGAIN / 10);
        }
    }

    /// What has come to Main is due to all nodes that were not in that round, and is to be published. Main's events do not tell it: they are of our
    /// own making.
    fn merged(&mut self, directory: &str, members: &[String]) {
        let now = self.now();
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        for node in self.nodes.keys().filter(|node| !members.contains(*node)) {
            core.queues.mark(now, directory, Some(node), &Dirt::whole());
        }
        if self.site.config().store.is_some() {
            core.queues.mark(now, directory, Some(run::STORE), &Dirt::whole());
        }
    }

    pub(super) fn up(&mut self, node: &str, polled: BTreeMap<String, String>) {
        let (now, time) = (self.now(), (self.machine().now)());
        self.set_polled(Some(node), polled);
        let Some(state) = self.nodes.get_mut(node) else { return };
        let is_new = state.since.is_none();
        if state.logged.is_some_and(|logged| logged.is_some()) {
            log::info!("{}: connected again", escape_for_people(node.as_bytes()));
        }
        (state.logged, state.error) = (Some(None), None);
        if is_new {
            state.since = Some(time);
            self.core().queues.up(now, node);
        }
    }

    pub(super) fn down(&mut self, node: &str, error: NodeError) {
        self.core().queues.down(node);
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        let Some(state) = self.nodes.get_mut(node) else { return };
        // Once for each state, not for each attempt.
        if state.logged != Some(Some(error.kind)) {
            log::warn!(
                "{}: not connected, tried again and again: {}",
                escape_for_people(node.as_bytes()),
                clean(&error.detail)
            );
        }
        (state.logged, state.since, state.error) = (Some(Some(error.kind)), None, Some(error));
    }

    /// What is due to the node again, or later, does not wait for the other nodes of the run.
    fn released(&mut self, run: u64, node: &str, result: &NodeResult) {
        let (now, chance) = (self.now(), (self.machine().chance)());
        self.core().queues.released(now, run, node, result, chance);
    }

    pub(super) fn over(&mut self, run: u64, mut over: Over) {
        let Some(begun) = self.begun.remove(&run) else { return };
        self.mains.extend(over.main.take());
        let (now, chance) = (self.now(), (self.machine().chance)());
        let left = match &over.report {
            Ok(report) => {
                for change in &report.changes {
                    if let Some(node) = self.nodes.get_mut(&*change.node) {
                        node.last_change = Some(report.started + report.duration);
                    }
                }
                NodeResult { lost: true, ..NodeResult::default() }
            }
            Err(error) => {
                log::error!("run: {error:#}");
                // Also to nodes that are there: not again at once.
                NodeResult { failed: begun.directories.into_iter().collect(), ..NodeResult::default() }
            }
        };
        self.core().queues.finished(now, run, &left, chance);
        if begun.is_full {
            self.first.get_or_insert(over.exit_code);
        }
        if let Some((request, answers)) = begun.asked {
            let answer = self.answer(&request, &over);
            // A client that has gone needs no answer.
            let _ = answers.send(answer);
        }
    }

    pub(super) fn answer(&self, request: &SyncRequest, over: &Over) -> Event {
        let report = match &over.report {
            Ok(report) => report,
            Err(error) => return Event::Refused { why: clean(&format!("{error:#}")) },
        };
        let style = |verbosity, color| Style { verbosity, color };
        let style = match request.format {
            Format::Json => None,
            Format::Quiet => Some(style(Verbosity::Quiet, false)),
            Format::Normal => Some(style(Verbosity::Normal, false)),
            Format::Verbose => Some(style(Verbosity::Verbose, false)),
            Format::QuietColor => Some(style(Verbosity::Quiet, true)),
            Format::NormalColor => Some(style(Verbosity::Normal, true)),
            Format::VerboseColor => Some(style(Verbosity::Verbose, true)),
        };
        if let Some(mail) = over.mail.clone() {
            let (exit_code, differences) = (over.exit_code, report.has_differences());
            return Event::Done { exit_code, differences, failures: Vec::new(), output: mail };
        }
        let output = match style {
            None => json::render(report, over.exit_code),
            Some(style) => {
                let mut out = Vec::new();
                // Writing to memory does not fail.
                let _ = text::write(report, style, &mut out);
                String::from_utf8_lossy(&out).into_owned()
            }
        };
        Event::Done {
            exit_code: over.exit_code,
            differences: report.has_differences(),
            failures: self.site.nodes().failures().to_vec(),
            output,
        }
    }

    /// Discovery has answered, for a full run: where it found other nodes, all begins anew with these.
    pub(super) fn found(&mut self, config: &Config) {
        if config.nodes != self.site.config().nodes {
            self.other_main = true;
        } else {
            self.begin_full();
        }
    }
}
