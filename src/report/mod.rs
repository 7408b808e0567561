//! Stage 6: outcomes → people and machines.
//!
//! A run fills one [`Report`]; the printers here are pure functions of it. None of them decides anything: the value
//! says what a run did, and its exit code follows from it. The same structs are what `sync --json`, `status.json` and
//! the history are written from.

mod confirm;
pub mod exit;
mod follows;
pub(crate) mod json;
mod lines;
pub(crate) mod mail;
pub(crate) mod metrics;
mod newer;
pub(crate) mod overview;
pub(crate) mod page;
mod places;
mod remedy;
pub(crate) mod running;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod samples;
pub mod status;
pub(crate) mod status_text;
mod summary;
pub(crate) mod syslog;
pub(crate) mod text;
pub(crate) mod wording;
pub(crate) mod words;
pub(crate) mod wrong;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::escape::plain;
use crate::model::words::words as word_table;
use crate::model::{ChangeKind, NodeChange, NotTaken, RelPathBuf, ReloadOutcome, Side};

pub use confirm::{Confirmed, FailedChange, confirmed};
pub use follows::Follows;
pub use newer::{Newer, NewerNode};
pub(crate) use wording::Wording;

/// What one run did, or in a dry run what it would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The run's ULID.
    pub run: String,
    /// When it began.
    pub started: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Whether it stopped after planning.
    pub dry_run: bool,
    /// Every node that the run was for, in configured order.
    pub nodes: Vec<NodeReport>,
    /// Every change, ordered by node, directory and path.
    pub changes: Vec<NodeChange>,
    /// Directories, or edges of them, that a guard stopped.
    pub halted: Vec<Halted>,
    /// What went wrong beside that.
    pub problems: Vec<Problem>,
    /// Whether a signal ended it early.
    pub interrupted: bool,
}

/// One node's part in a run.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    pub name: String,
    /// The address it was reached at.
    pub address: String,
    pub state: NodeState,
    /// Why it could not take part, and what to do about it.
    pub error: Option<String>,
    /// Whether a signal has kept it from what it was to do.
    pub interrupted: bool,
    /// One for each directory that this node has a part in; empty where it was not reached.
    pub directories: Vec<DirectoryReport>,
    /// One for each reload that its directories name.
    pub reloads: Vec<ReloadOutcome>,
    /// Of one that follows the store, what it has told of itself.
    pub follows: Option<Follows>,
}

/// How far a node got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// In step, as far as no guard stopped a directory of all nodes.
    Ok,
    /// Something of it is not in step: an entry failed, an edge halted, a reload is owed.
    Partial,
    /// No connection, or it broke.
    Unreachable,
    /// Its sshd or its agent refused Main.
    Refused,
    /// Its agent speaks another version.
    Incompatible,
    /// It has no agent. Reported as `incompatible`: the remedy is the same.
    #[serde(rename(serialize = "incompatible"))]
    AgentMissing,
    /// It fell silent.
    Timeout,
}

impl NodeState {
    /// Whether the node was not reached, or not to the end.
    #[must_use]
    pub fn is_lost(self) -> bool {
        match self {
            NodeState::Ok | NodeState::Partial => false,
            NodeState::Unreachable
            | NodeState::Refused
            | NodeState::Incompatible
            | NodeState::AgentMissing
            | NodeState::Timeout => true,
        }
    }
}

/// One edge's part in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DirectoryReport {
    pub name: String,
    pub state: DirectoryState,
    /// Entries that were not there, on either end.
    pub created: u64,
    /// Entries whose content, metadata or name changed.
    pub updated: u64,
    /// Entries whose metadata alone changed; some of `updated`.
    pub metadata: u64,
    /// Entries that went to the trash.
    pub deleted: u64,
    /// Changes that were to be made and were not reached.
    pub planned: u64,
    /// Files held back as busy.
    pub held: u64,
    /// Paths that both ends changed differently, decided or not.
    pub conflicts: u64,
    /// Conflicts that wait for an administrator; some of `conflicts`. In the status only.
    #[serde(skip)]
    pub waiting: u64,
    /// Entries that could not be read, sent or put in place; the next run tries again.
    pub failed: u64,
    /// Bytes of content on the wire, in both directions.
    pub bytes: u64,
    /// What is not carried for as long as it stands there, see
    /// [`EntryProblem::is_standing`](crate::model::EntryProblem::is_standing). In the status only.
    #[serde(skip)]
    pub skipped: Vec<PathNote>,
    /// What the node alone has, if the run looked at that. In the status only.
    #[serde(skip)]
    pub own: Option<NodesOwn>,
    /// What the node does not take, as its administrator has decided.
    #[serde(skip_serializing_if = "NotTaken::is_empty")]
    pub not_taken: NotTaken,
}

/// Files of a pushed directory that only the node has, and that stay there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodesOwn {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub paths: Vec<RelPathBuf>,
}

/// A path that is left alone on an edge, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathNote {
    pub path: RelPathBuf,
    pub side: Side,
    pub reason: Option<String>,
}

/// How far an edge got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectoryState {
    /// Nothing was to be done.
    InStep,
    /// All that was to be done is done; in a dry run, there is something to do.
    Changed,
    /// Something failed or was not reached. Busy files and conflicts alone do not make it this.
    Partial,
    /// A guard stopped it; nothing was touched.
    Halted,
}

impl DirectoryReport {
    /// An edge on which nothing has happened yet.
    #[must_use]
    pub fn new(name: &str) -> DirectoryReport {
        DirectoryReport {
            name: name.to_owned(),
            state: DirectoryState::InStep,
            created: 0,
            updated: 0,
            metadata: 0,
            deleted: 0,
            planned: 0,
            held: 0,
            conflicts: 0,
            waiting: 0,
            failed: 0,
            bytes: 0,
            skipped: Vec::new(),
            own: None,
            not_taken: NotTaken::default(),
        }
    }

    /// Counts `number` changes of a kind.
    pub fn count(&mut self, kind: ChangeKind, number: u64) {
        match kind {
            ChangeKind::Create => self.created += number,
            ChangeKind::Update | ChangeKind::Rename | ChangeKind::Drift => self.updated += number,
            ChangeKind::Metadata => {
                self.updated += number;
                self.metadata += number;
            }
            ChangeKind::Delete => self.deleted += number,
            ChangeKind::Conflict => self.conflicts += number,
            ChangeKind::Hold => self.held += number,
            ChangeKind::Skip => {}
        }
        if kind.is_difference() && self.state == DirectoryState::InStep {
            self.state = DirectoryState::Changed;
        }
    }

    /// Counts what could not be done.
    pub fn count_failed(&mut self, number: u64) {
        self.failed += number;
        self.is_partial_if(number > 0);
    }

    /// Counts what was not reached.
    pub fn count_planned(&mut self, number: u64) {
        self.planned += number;
        self.is_partial_if(number > 0);
    }

    fn is_partial_if(&mut self, partial: bool) {
        if partial && self.state != DirectoryState::Halted {
            self.state = DirectoryState::Partial;
        }
    }
}

/// What a guard stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Halted {
    pub directory: String,
    pub guard: Guard,
    /// What it saw: counts, paths, what is expected.
    pub detail: String,
    /// What releases exactly this plan; none where no token can.
    pub token: Option<String>,
    /// The nodes whose edges stopped; empty when the directory stopped for all.
    pub nodes: Vec<String>,
    /// Some of the paths that would be deleted, overwritten or brought.
    #[serde(default)]
    pub paths: Vec<RelPathBuf>,
    /// What is gone on Main and still stands on nodes: all that would be deleted is at or below these paths. Empty where
    /// Main has it.
    #[serde(default)]
    pub restore: Vec<RelPathBuf>,
    /// Whether it is of a run of a node that follows the store: it is decided there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_follower: bool,
}

/// What stops a run that would lose or bring suspiciously much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Guard {
    /// Main's root is not there.
    RootMissing,
    /// Main's root has lost its marker: something else is mounted, or nothing.
    RootUnmarked,
    /// Main's root has the marker of another root.
    RootReplaced,
    /// Main's root is no directory, or cannot be read.
    RootUnusable,
    /// One end has become empty.
    Emptied,
    /// More than `max_delete` would be deleted.
    MaxDelete,
    /// A node would overwrite more than `max_change` elsewhere.
    MaxChange,
    /// A node would bring more than `max_add`.
    MaxAdd,
    /// Less room than the plan needs.
    FreeSpace,
    /// The root is missing on a node that had it.
    NodeRootMissing,
    /// The root of a node is not the one that was synchronised before.
    NodeRootReplaced,
}

word_table!(Guard {
    RootMissing => "root_missing",
    RootUnmarked => "root_unmarked",
    RootReplaced => "root_replaced",
    RootUnusable => "root_unusable",
    Emptied => "emptied",
    MaxDelete => "max_delete",
    MaxChange => "max_change",
    MaxAdd => "max_add",
    FreeSpace => "free_space",
    NodeRootMissing => "node_root_missing",
    NodeRootReplaced => "node_root_replaced",
});

/// What went wrong, beside halted directories and lost nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub stage: Stage,
    /// On which node; none: on Main.
    pub node: Option<String>,
    pub directory: Option<String>,
    pub path: Option<RelPathBuf>,
    /// What, for people; one line.
    pub detail: String,
    /// Whether the run is incomplete because of it; otherwise it is a warning.
    #[serde(default)]
    pub fails: bool,
}

/// What a run was doing when something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Stage {
    Config,
    Discovery,
    Connect,
    Scan,
    Plan,
    Transfer,
    Commit,
    Reload,
    State,
    History,
    /// Into the store.
    Publish,
    /// A bug: the thread of a node panicked.
    Internal,
}

word_table!(Stage {
    Config => "config",
    Discovery => "discovery",
    Connect => "connect",
    Scan => "scan",
    Plan => "plan",
    Transfer => "transfer",
    Commit => "commit",
    Reload => "reload",
    State => "state",
    History => "history",
    Publish => "publish",
    Internal => "internal",
});

impl Problem {
    /// A problem that leaves the run incomplete.
    #[must_use]
    pub fn failure(stage: Stage, detail: impl Into<String>) -> Problem {
        let detail = plain(&detail.into());
        Problem { stage, node: None, directory: None, path: None, detail, fails: true }
    }

    /// A problem that does not.
    #[must_use]
    pub fn warning(stage: Stage, detail: impl Into<String>) -> Problem {
        Problem { fails: false, ..Problem::failure(stage, detail) }
    }
}

/// The whole run in one line.
pub(crate) fn summary_line(report: &Report) -> String {
    summary::summary(report)
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One line of JSON with a newline at its end.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    // Serialising fails only for maps whose keys are no text and for writers that fail; there is neither here.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}
