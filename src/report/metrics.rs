//! The hub's metrics, in Prometheus' text format: the facts of the page, for alerts.
//!
//! Names and labels are few and stay as they are: who is asked about a node says its name, and nothing has a path in it.

use prometheus::{GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};

use super::DirectoryState;
use super::overview::Overview;
use super::status::NodeStatus;
use crate::model::read_rfc3339;

/// What begins every name.
const PREFIX: &str = "xds_sync_";
/// MIME type of [`render`].
pub(crate) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the hub knows of the cluster, and whether that is old; `None`: nothing.
pub(crate) type Known<'a> = Option<(&'a Overview, bool)>;

/// The metrics. `version` is the hub's own.
pub(crate) fn render(version: &str, known: Known<'_>) -> Result<String, prometheus::Error> {
    let page = Page { registry: Registry::new() };
    page.gauge("build_info", "Which xds-sync the hub is.", ["version"], [([version], 1.0)])?;
    let is_known = f64::from(u8::from(known.is_some()));
    page.single("status_readable", "Whether the hub can read what runs leave for it.", Some(is_known))?;
    if let Some((overview, is_old)) = known {
        page.cluster(overview, is_old)?;
        page.runs(overview)?;
        page.nodes(&overview.status.nodes)?;
        page.followers(&overview.status.nodes)?;
        page.directories(&overview.status.nodes)?;
    }
    TextEncoder::new().encode_to_string(&page.registry.gather())
}

struct Page {
    registry: Registry,
}

type Done = Result<(), prometheus::Error>;

impl Page {
    /// One gauge, for each of these values of its labels; none without any.
    fn gauge<'v, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        values: impl IntoIterator<Item = ([&'v str; N], f64)>,
    ) -> Done {
        let gauge = GaugeVec::new(Opts::new(format!("{PREFIX}{name}"), help), &labels)?;
        for (labels, value) in values {
            gauge.with_label_values(&labels).set(value);
        }
        self.registry.register(Box::new(gauge))
    }

    fn single(&self, name: &str, help: &str, value: Option<f64>) -> Done {
        self.gauge(name, help, [], value.map(|value| ([], value)))
    }

    /// A gauge of each node that has it.
    fn of_nodes(
        &self,
        nodes: &[NodeStatus],
        (name, help): (&str, &str),
        value: impl Fn(&NodeStatus) -> Option<f64>,
    ) -> Done {
        self.gauge(name, help, ["node"], nodes.iter().filter_map(|node| Some(([&*node.name], value(node)?))))
    }

    fn cluster(&self, overview: &Overview, is_old: bool) -> Done {
        let status = &overview.status;
        let failures = status.problems.iter().filter(|problem| problem.fails).count();
        for (name, help, value) in [
            (
                "status_stale",
                "1 where no run has ended for too long: all else is how it was then.",
                Some(f64::from(u8::from(is_old))),
            ),
            (
                "status_exit_code",
                "The exit code of 'xds-sync status': 0 when all is well.",
                Some(f64::from(status.status_code)),
            ),
            (
                "last_success_timestamp_seconds",
                "End of the last run over everything that left everything in step.",
                seconds(overview.last_success.as_deref()),
            ),
            (
                "halted_directories",
                "Directories, or nodes' parts of them, that a guard has halted.",
                Some(status.halted.len() as f64),
            ),
            ("problems", "What else went wrong in the last run.", Some(failures as f64)),
            (
                "store_publication",
                "The newest publication in the store.",
                overview.published.map(|seq| seq as f64),
            ),
        ] {
            self.single(name, help, value)?;
        }
        Ok(())
    }

    fn runs(&self, overview: &Overview) -> Done {
        let run = overview.last_run.as_ref();
        let is_run = |value: f64| run.map(|_| value);
        let milliseconds = run.map_or(0, |run| run.duration_ms) as f64;
        let ended = seconds(overview.status.ended.as_deref());
        self.single("last_run_end_timestamp_seconds", "When the last run ended.", ended)?;
        self.single("last_run_duration_seconds", "How long it took.", is_run(milliseconds / 1000.0))?;
        let code = run.map(|run| f64::from(run.exit_code));
        self.single("last_run_exit_code", "How it ended: 0 when all was in step.", code)?;
        let bytes = run.map(|run| run.bytes as f64);
        self.single("last_run_transferred_bytes", "What it had on the wire.", bytes)?;
        let name = |name: &str| format!("{PREFIX}{name}");
        let runs = Opts::new(name("runs_total"), "Runs that have ended, by exit code.");
        let runs = IntCounterVec::new(runs, &["exit_code"])?;
        for (code, number) in &overview.totals.runs {
            runs.with_label_values(&[code.to_string()]).inc_by(*number);
        }
        self.registry.register(Box::new(runs))?;
        let bytes = Opts::new(name("transferred_bytes_total"), "What runs had on the wire.");
        let bytes = IntCounterVec::new(bytes, &[])?;
        bytes.with_label_values::<&str>(&[]).inc_by(overview.totals.bytes);
        self.registry.register(Box::new(bytes))
    }

    fn nodes(&self, nodes: &[NodeStatus]) -> Done {
        let yes = |is: bool| Some(f64::from(u8::from(is)));
        self.of_nodes(nodes, ("node_up", "Whether the node was reached to the end."), |node| {
            yes(!node.state.is_lost())
        })?;
        self.of_nodes(nodes, ("node_in_step", "Whether nothing is wrong with the node."), |node| {
            yes(node.is_well())
        })?;
        let help = "The node's own exit code: 0 in step, 41 unreachable or refused, 42 a reload is owed.";
        self.of_nodes(nodes, ("node_exit_code", help), |node| Some(f64::from(node.exit_code)))?;
        let help = "When the node's state began.";
        self.of_nodes(nodes, ("node_state_since_timestamp_seconds", help), |node| {
            seconds(Some(&node.since))
        })?;
        let help = "When the node was in step last; absent: never.";
        self.of_nodes(nodes, ("node_last_success_timestamp_seconds", help), |node| {
            seconds(node.last_success.as_deref())
        })?;
        self.of_nodes(nodes, ("node_owed_reloads", "Reloads that are due there."), |node| {
            Some(node.owed.len() as f64)
        })
    }

    fn followers(&self, nodes: &[NodeStatus]) -> Done {
        let help = "Of a node that follows the store: when it told how it is.";
        self.of_nodes(nodes, ("follower_seen_timestamp_seconds", help), |node| {
            seconds(node.follows.as_ref()?.seen.as_deref())
        })?;
        let help = "The publication that it has wholly; 0: none.";
        self.of_nodes(nodes, ("follower_publication", help), |node| Some(node.follows.as_ref()?.seq as f64))?;
        let help = "How many publications it was behind when it told that.";
        self.of_nodes(nodes, ("follower_lag_publications", help), |node| {
            let follows = node.follows.as_ref()?;
            follows.seen.as_ref()?;
            Some(follows.newest.saturating_sub(follows.seq) as f64)
        })
    }

    fn directories(&self, nodes: &[NodeStatus]) -> Done {
        let edges = || nodes.iter().flat_map(|node| node.directories.iter().map(move |edge| (node, edge)));
        let labels = ["node", "directory"];
        let of = |value: fn(&super::status::DirectoryStatus) -> u64| {
            edges().map(move |(node, edge)| ([&*node.name, &*edge.name], value(edge) as f64))
        };
        let halted = of(|edge| u64::from(edge.state == DirectoryState::Halted));
        self.gauge("directory_halted", "Whether a guard has halted the directory there.", labels, halted)?;
        let held = of(|edge| edge.held);
        self.gauge("directory_held_files", "Files that are still being written.", labels, held)?;
        let failed = of(|edge| edge.failed);
        self.gauge("directory_failed_entries", "What failed and is tried again.", labels, failed)?;
        let waiting = of(|edge| edge.waiting);
        self.gauge("directory_conflicts", "Conflicts that wait for a decision.", labels, waiting)
    }
}

/// A moment as Prometheus has it.
fn seconds(time: Option<&str>) -> Option<f64> {
    let passed = read_rfc3339(time?)?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(passed.as_secs_f64())
}

#[cfg(test)]
mod tests;
