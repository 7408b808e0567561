//! One host's end of its edges.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Action, Entry, Outcome, Owner, RelPath, RelPathBuf, ReloadOutcome, TrashKeep, Tree};
use crate::reload::ReloadRequest;
use crate::snapshot::{ScanSpec, Scanned};
use crate::transfer::trash::{TrashEntry, TrashId};
use crate::transfer::{BlobRequest, Received, Sink, Source};

/// What a run asks of a host: Main's own disk, or a node behind its agent.
///
/// One run's calls for a directory come in this order: `scan`, then, where there is something to do,
/// `tree`, `prepare`, `stage`/`send`, `commit`, `agree`. Every method but `scan`, `tree`, `known_owners`,
/// `send` and those that read the trash changes the host. `Err` means that the host is lost for this run; what fails for one entry
/// is in the value.
pub trait Endpoint: Send {
    /// Looks at a directory and keeps its tree until the session ends.
    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError>;

    /// Looks at several directories, one after the other.
    fn scan_all(&mut self, specs: &[ScanSpec]) -> Result<Vec<Scanned>, NodeError> {
        specs.iter().map(|spec| self.scan(spec)).collect()
    }

    /// The tree of the last scan of `directory`. What it has in common with `like` need not cross a wire.
    fn tree(&mut self, directory: &str, like: Option<&Arc<Tree>>) -> Result<Arc<Tree>, NodeError>;

    /// Of each owner, what this host can set: names it does not know become `None`.
    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError>;

    /// Readies a root for changes by `run` (a ULID): makes it if it is missing, marks it if it is unmarked,
    /// sweeps the leftovers of killed runs from its stage into its trash, deletes the trash that `trash` keeps
    /// no longer. Returns the marker's id.
    fn prepare(
        &mut self,
        directory: &str,
        run: &str,
        trash: &TrashKeep,
    ) -> Result<Result<String, String>, NodeError>;

    /// Gets contents into the stage of `directory`: first from what the host has itself (its stage, the
    /// tree as scanned, its trash), the rest from `source`.
    fn stage(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        source: &mut dyn Source,
    ) -> Result<Received, NodeError>;

    /// Streams contents of `directory` into `sink`.
    fn send(&mut self, directory: &str, wanted: &[BlobRequest], sink: &mut dyn Sink)
    -> Result<(), NodeError>;

    /// Carries out actions, in order; contents must be staged. One outcome for each.
    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError>;

    /// Writes the generation of the base that this end now agrees on into its marker.
    fn agree(&mut self, directory: &str, generation: &str) -> Result<Result<(), String>, NodeError>;

    /// What the last commit of `directory` put into its trash; told once.
    fn trashed(&mut self, directory: &str) -> Result<Vec<TrashEntry>, NodeError>;

    /// Every version of `path`, and of what was below it, in the trash of `directory`; the oldest run first.
    fn versions(
        &mut self,
        directory: &str,
        path: &RelPath,
    ) -> Result<Result<Vec<TrashEntry>, String>, NodeError>;

    /// What lies at `paths` in the trash of `directory`, as it would stand in its tree: read now, for its
    /// digest. One for each.
    fn recall(
        &mut self,
        directory: &str,
        id: &TrashId,
        paths: &[RelPathBuf],
    ) -> Result<Vec<Result<Entry, String>>, NodeError>;

    /// Streams contents from the trash of `directory` into `sink`.
    fn send_trashed(
        &mut self,
        directory: &str,
        id: &TrashId,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError>;

    /// Runs a reload and verifies it.
    fn reload(&mut self, request: &ReloadRequest) -> Result<ReloadOutcome, NodeError>;

    /// Lets Main in with another key. Main's own disk has nothing to let in.
    fn replace_key(&mut self, _: &KeyChange) -> Result<Result<(), String>, NodeError> {
        Ok(Err("nobody is let in here by a key".to_owned()))
    }
}

/// Another key for Main, as the holder of the one it has vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// The key that Main has, in OpenSSH's format.
    pub old: String,
    /// The one that it will have.
    pub new: String,
    /// The old key's signature of both: an SSH signature (PROTOCOL.sshsig) in PEM.
    pub vouched: String,
    /// Whether the old one is to go now; else both are let in.
    pub drop_old: bool,
}

/// Why a host cannot take part in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeError {
    /// What a caller chooses by: the node's state and exit code.
    pub kind: NodeErrorKind,
    /// What and where and what to do, for people; one line.
    pub detail: String,
}

/// The classes of [`NodeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeErrorKind {
    /// No connection: name, route, port.
    Unreachable,
    /// The node's sshd or agent said no: key, host key, epoch, root not accepted.
    Refused,
    /// The node has no `xds-sync`.
    AgentMissing,
    /// Both ends speak, but no common version.
    Incompatible,
    /// It fell silent.
    Timeout,
    /// The connection ended, or the peer broke the protocol.
    Lost,
}

impl NodeError {
    /// An error of this kind.
    pub fn new(kind: NodeErrorKind, detail: impl Into<String>) -> NodeError {
        NodeError { kind, detail: detail.into() }
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for NodeError {}
