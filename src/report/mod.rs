//! Stage 6: outcomes → people and machines.
//!
//! A run fills one [`Report`]; the printers here are pure functions of it. None of them decides anything:
//! what a run did stands in the value, and so does its exit code.

pub mod exit;
pub mod json;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod samples;
pub mod status;
mod status_text;
pub mod syslog;
pub mod text;
pub(crate) mod words;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::{NodeChange, RelPathBuf, ReloadOutcome, Side};

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
    /// Every change, ordered by directory, node and path.
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
    /// Its name.
    pub name: String,
    /// The address it was reached at.
    pub address: String,
    /// How far it got.
    pub state: NodeState,
    /// Why it could not take part, and what to do about it.
    pub error: Option<String>,
    /// One for each directory that this node has a part in; empty where it was not reached.
    pub directories: Vec<DirectoryReport>,
    /// One for each reload that its directories name.
    pub reloads: Vec<ReloadOutcome>,
}

/// How far a node got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// In step, as far as no guard stopped a directory of all nodes.
    Ok,
    /// Something of it is not: an entry failed, an edge halted, a reload is owed.
    Partial,
    /// No connection, or it broke.
    Unreachable,
    /// Its sshd or its agent said no.
    Refused,
    /// Its agent speaks another version.
    Incompatible,
    /// It has no agent. Told as `incompatible`: the remedy is the same.
    #[serde(rename(serialize = "incompatible"))]
    AgentMissing,
    /// It fell silent.
    Timeout,
}

/// One edge's part in a run.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectoryReport {
    /// The directory's name.
    pub name: String,
    /// How far it got.
    pub state: DirectoryState,
    /// Entries that were not there, on either end.
    pub created: u64,
    /// Entries whose content, metadata or name changed.
    pub updated: u64,
    /// Entries that went to the trash.
    pub deleted: u64,
    /// Files held back as busy.
    pub held: u64,
    /// Paths that both ends changed differently, decided or not.
    pub conflicts: u64,
    /// Conflicts that wait for an administrator; some of `conflicts`.
    pub waiting: u64,
    /// Entries that could not be read, sent or put in place; the next run tries again.
    pub failed: u64,
    /// Bytes of content on the wire, in both directions.
    pub bytes: u64,
    /// What is never carried, see [`model::EntryProblem::is_standing`](crate::model::EntryProblem::is_standing).
    pub skipped: Vec<Skipped>,
}

/// A standing skip.
#[derive(Clone, Debug, PartialEq)]
pub struct Skipped {
    /// Where.
    pub path: RelPathBuf,
    /// On which end.
    pub side: Side,
    /// Why it is not carried.
    pub reason: String,
}

/// How far an edge got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectoryState {
    /// Nothing was to be done.
    InStep,
    /// All that was to be done is done; in a dry run, there is something to do.
    Changed,
    /// Some entries failed. Busy files and conflicts alone do not make it this.
    Partial,
    /// A guard stopped it; nothing was touched.
    Halted,
}

/// What a guard stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Halted {
    /// The directory.
    pub directory: String,
    /// Which guard.
    pub guard: Guard,
    /// What it saw: counts, paths, what is expected.
    pub detail: String,
    /// What releases exactly this plan; none where no token can.
    pub token: Option<String>,
    /// The nodes whose edges stopped; empty when the directory stopped for all.
    pub nodes: Vec<String>,
}

/// What stops a run that would delete suspiciously much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// More than `max_delete` would go.
    MaxDelete,
    /// Less room than the plan needs.
    FreeSpace,
    /// The root is missing on a node that had it.
    NodeRootMissing,
}

/// What went wrong, beside halted directories and lost nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// `config`, `discovery`, `connect`, `scan`, `plan`, `transfer`, `commit`, `reload`, `state`
    /// or `history`.
    pub stage: &'static str,
    /// On which node; none: on Main.
    pub node: Option<String>,
    /// In which directory.
    pub directory: Option<String>,
    /// At which path of it.
    pub path: Option<RelPathBuf>,
    /// What, for people; one line.
    pub detail: String,
    /// Whether the run is incomplete by it; otherwise it is a warning. A failed discovery decides by
    /// itself, see [`Report::exit_code`].
    pub fails: bool,
}

/// One line of JSON with a newline at its end.
fn to_json(value: &impl Serialize) -> String {
    // Only maps whose keys are no text and writers that fail could fail, and there is neither.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}
