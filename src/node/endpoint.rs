//! One host's end of its edges.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::{Attempt, NodeError, NodeErrorKind, Refusal};
use crate::model::{
    Action, Entry, Meta, Outcome, Owner, Pruned, RelPath, RelPathBuf, ReloadOutcome, Space, TrashKeep, Tree,
};
use crate::reload::ReloadRequest;
use crate::snapshot::{ScanSpec, Scanned};
use crate::transfer::trash::{TrashEntry, TrashId, TrashSize};
use crate::transfer::{BlobRequest, Received, Sink, Source};
use crate::watch::{Seen, Watches};

/// What a run asks of a host: Main's own disk ([`Local`](super::Local)), or a node behind its agent
/// ([`Remote`](super::Remote)).
///
/// # Runs
///
/// A session carries any number of runs, one after the other. [`begin`](Endpoint::begin) opens a run and
/// [`end`](Endpoint::end) closes it; every other method belongs to the run that is open. Between runs a
/// session is idle: it holds no lock, no tree and no stage, and only the caches of file digests stay. Whoever
/// drops a session need not end its run first.
///
/// Within a run the calls for one directory come in this order: `scan`; then, where there is something to do, `tree`,
/// `prepare`, `stage` or `send`, `commit`, `trashed` and `agree`, and at last `clear_stage`. A directory may be scanned and prepared again at any
/// time. From `prepare` to `end` the host holds the lock of the directory's root, so that no other process of xds-sync
/// changes anything there.
///
/// # Errors
///
/// What fails for one entry, or is refused for one directory, is in the returned value ([`Attempt`],
/// [`Outcome`], [`Received`]), and the session goes on.
///
/// `Err` means that the session is over. Nothing more may be asked of a `Remote`: it answers every further
/// call with the same error, and the only thing left to do is to drop it. Unless a method says otherwise
/// nothing is known about how much of the call was carried out. What the host holds afterwards is always
/// whole: an action is done or not done, contents that had arrived are in the stage, from which a later run
/// takes or sweeps them, and a marker has its old generation or the new one. The locks end with the agent's
/// process, which finishes what it is doing first, so the next `prepare` may have to wait for some seconds.
///
/// `Local` returns `Err` only when it is called out of order, or to pass on the error of the other end of a
/// transfer (`stage`, `send`). It may be used further; `begin` starts afresh.
///
/// # Waiting and cancelling
///
/// Every call blocks. The host speaks first only to tell what changes below roots that it was asked to watch; that is
/// kept until [`changes`](Endpoint::changes) asks for it. To cancel a call another thread shuts the connection down; the
/// call then returns `Lost`, and the session is over as described above.
pub trait Endpoint: Send {
    /// Sets how long the caller waits for this host from now on, all waits together; then the session is over. However
    /// slowly a node goes on, it cannot hold up a run for ever. Nobody waits for `Local`.
    fn set_patience(&mut self, _: Duration) {}

    /// Opens a run, named by its id (a ULID). A run that is still open is ended first. In a dry run the host
    /// changes nothing, whatever else it is asked.
    ///
    /// A node checks here which Main it obeys: a session that was idle may have been outlived by a takeover.
    /// After `Err` no run is open and the host holds nothing.
    fn begin(&mut self, run: &str, dry_run: bool) -> Result<(), NodeError>;

    /// The id of the machine that the host is, as it told when the run began; `None`: it has none yet, or does not say.
    fn machine(&self) -> Option<&str> {
        None
    }

    /// Closes the run: releases the locks of all roots and forgets all trees and stages. Does nothing when no
    /// run is open. After `Err` the locks are released no later than when the agent's process has ended.
    fn end(&mut self) -> Result<(), NodeError>;

    /// A flag that another thread sets once nobody waits for the call that is under way: it returns soon then, and
    /// what it returns means nothing. A host that has no use for it leaves it alone.
    fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::default()
    }

    /// Has the host watch these directories from now on, and no others, also between runs. Belongs to no run. After `Err`
    /// some of them may be watched.
    fn watch(&mut self, specs: &[ScanSpec]) -> Result<Watching, NodeError> {
        let cannot = |_: &ScanSpec| Err(Refusal::new("this host cannot watch directories"));
        Ok(Watching { roots: specs.iter().map(cannot).collect(), watches: None })
    }

    /// Waits, between runs, until something has changed below a root that is watched, and returns what; or until `wake` is
    /// readable.
    fn changes(&mut self, wake: BorrowedFd<'_>) -> Result<Vec<Seen>, NodeError> {
        wait_for(wake)?;
        Ok(Vec::new())
    }

    /// Whether the host has said, as the run began, that it accepts no changes.
    fn is_read_only(&self) -> bool {
        false
    }

    /// Scans a directory and keeps its tree until the next scan of it, or the end of the run. Changes nothing
    /// but the cache of digests. After `Err` the tree of an earlier scan may or may not have been replaced.
    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError>;

    /// Scans several directories, one after the other. After `Err` some of them were scanned.
    fn scan_all(&mut self, specs: &[ScanSpec]) -> Result<Vec<Scanned>, NodeError> {
        specs.iter().map(|spec| self.scan(spec)).collect()
    }

    /// The tree of the last scan of `directory`. What it has in common with `like` need not cross a wire.
    /// Changes nothing.
    fn tree(&mut self, directory: &str, like: Option<&Arc<Tree>>) -> Result<Arc<Tree>, NodeError>;

    /// How what the last scan of `directory` found is to be understood.
    fn news(&self, directory: &str) -> News {
        let _ = directory;
        News::Tree
    }

    /// What both ends had in common before the host's changes, where it knows that better than Main, who may have `base` on
    /// record. `None`: it does not.
    fn common(&self, directory: &str, base: Option<&Tree>) -> Option<Tree> {
        let _ = (directory, base);
        None
    }

    /// Of each owner, what this host can set: names that it does not know become `None`. Changes nothing.
    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError>;

    /// Makes a scanned root ready for changes by this run: takes its lock, makes it if it is missing, with the mode and owner
    /// of `root` as far as this host and its disk know them, marks it if it is
    /// unmarked, sweeps the leftovers of earlier runs out of its stage, and deletes what `trash` says
    /// need not be kept any longer. Returns the marker's id, and what the trash gave up.
    ///
    /// Preparing a directory again in the same run returns the same and does nothing else, also after it
    /// was scanned again. If its root is another directory by then, it is prepared like any other. After a
    /// refusal, or `Err`, some of these steps may have been done; each of them is harmless on its own.
    fn prepare(
        &mut self,
        directory: &str,
        trash: &TrashKeep,
        root: Option<&Meta>,
    ) -> Result<Attempt<PreparedRoot>, NodeError>;

    /// Removes everything from the stage of a prepared directory, whatever its age. What this program did not put there goes
    /// to the trash of this run. For a directory in which this run has nothing left to do: contents that are staged and
    /// not committed are lost. After a refusal, or `Err`, some of it may be gone.
    fn clear_stage(&mut self, directory: &str) -> Result<Attempt<()>, NodeError>;

    /// Gets contents into the stage of a prepared directory: first from what the host has itself (its stage, the
    /// tree as scanned, its trash), the rest from `source`. After `Err` the contents that had arrived, whole or in part, are in
    /// the stage for a later run.
    fn stage(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        source: &mut dyn Source,
    ) -> Result<Received, NodeError>;

    /// Streams contents of `directory`, as it was scanned, into `sink`. Changes nothing. After `Err` the sink may have
    /// got some of them, the last one without its end.
    fn send(&mut self, directory: &str, wanted: &[BlobRequest], sink: &mut dyn Sink)
    -> Result<(), NodeError>;

    /// Carries out actions in a prepared directory, in order; contents must be staged. One outcome for each.
    /// After `Err` any number of the actions may have been done: the next scan tells.
    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError>;

    /// Writes the generation of the base that this end now agrees on into the marker of a scanned directory.
    /// After `Err` it has the old generation or this one.
    fn agree(&mut self, directory: &str, generation: &str) -> Result<Attempt<()>, NodeError>;

    /// What the last commit in `directory` put into its trash. It is returned once: after that, or after
    /// `Err`, it can only be found by looking through the trash.
    fn trashed(&mut self, directory: &str) -> Result<Vec<TrashEntry>, NodeError>;

    /// Runs a reload and verifies it. After `Err` it may have been run: it stays owed.
    fn reload(&mut self, request: &ReloadRequest) -> Result<ReloadOutcome, NodeError>;
}

/// What a host tells by a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// What it has. What became of that shows against what is recorded of it.
    Tree,
    /// What it has, and what both ends had in common: nothing that is recorded of it is as good.
    Changes,
    /// That it has changed nothing. Whatever Main has for it comes to it in another way.
    Nothing,
}

/// What became of a request to watch directories.
#[derive(Debug)]
pub struct Watching {
    /// For each of them, why it has to be polled instead.
    pub roots: Vec<Attempt<()>>,
    /// Where this host's own disk tells what happens; a node tells it by [`Endpoint::changes`].
    pub watches: Option<Watches>,
}

fn wait_for(wake: BorrowedFd<'_>) -> Result<(), NodeError> {
    let mut fds = [PollFd::new(&wake, PollFlags::IN)];
    match rustix::event::poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(NodeError::new(NodeErrorKind::Lost, std::io::Error::from(error).to_string())),
    }
}

/// A root that is ready for changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedRoot {
    /// The id in its marker.
    pub id: String,
    /// What its trash gave up for want of room.
    pub pruned: Pruned,
}

/// The trash of a host's directories, for `restore`. Changes nothing. Belongs to an open run, and to
/// directories that were scanned in it; the same holds after `Err` as for [`Endpoint`].
pub trait TrashReader {
    /// Every version of `path`, and of what was below it, in the trash of `directory`; the oldest run first.
    fn versions(&mut self, directory: &str, path: &RelPath) -> Result<Attempt<Vec<TrashEntry>>, NodeError>;

    /// What lies at `paths` in the trash of `directory`, as it would stand in its tree: read now, for its
    /// digest. One for each.
    fn recall(
        &mut self,
        directory: &str,
        id: &TrashId,
        paths: &[RelPathBuf],
    ) -> Result<Vec<Attempt<Entry>>, NodeError>;

    /// Streams contents from the trash of `directory` into `sink`.
    fn send_trashed(
        &mut self,
        directory: &str,
        id: &TrashId,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError>;
}

/// The keys by which a node lets its Main in.
pub trait MainKeys {
    /// Lets Main in with another key. Returns the keys that this program lets in then, a line of text for each. Belongs to
    /// an open run. After `Err` the node lets in the old key, the
    /// new one, or both.
    fn replace_key(&mut self, change: &KeyChange) -> Result<Attempt<Vec<String>>, NodeError>;
}

/// What a host tells of itself, for `nodes check`. Belongs to no run, and changes nothing.
pub trait Describe {
    /// Its version and clock, and the room and the trash of these roots, in the same order.
    fn describe(&mut self, roots: &[PathBuf]) -> Result<Description, NodeError>;
}

/// A host by its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Its version of this package.
    pub version: String,
    /// Milliseconds since 1970 by its clock.
    pub now_ms: u64,
    /// Whether it lets Main change nothing.
    pub read_only: bool,
    /// One for each root, or why it is not to be had.
    pub roots: Vec<Attempt<RootDescription>>,
}

/// A root by the words of its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDescription {
    /// The room on its disk.
    pub space: Space,
    /// What its trash takes; `None`: there is no root yet.
    pub trash: Option<TrashSize>,
}

/// All that a session with a node offers.
pub trait NodeSession: Endpoint + TrashReader + MainKeys + Describe {}

impl<T: Endpoint + TrashReader + MainKeys + Describe> NodeSession for T {}

/// Another key for Main, signed by the holder of the one that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// The key that Main has, in OpenSSH's format.
    pub old: String,
    /// The key that it will have.
    pub new: String,
    /// The old key's signature of both: an SSH signature (PROTOCOL.sshsig) in PEM.
    pub signature: String,
    /// Whether the old key is to go now; else both are let in.
    pub drop_old: bool,
}
