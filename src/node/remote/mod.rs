//! Main's end of a session: an [`Endpoint`] whose host is at the other end of a stream.

mod blobs;
mod trash;

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::connection::AgentConnection;
use super::endpoint::{Describe, Description, Endpoint, KeyChange, MainKeys, PreparedRoot, Watching};
use super::error::{Attempt, NodeError};
use super::peer::Peer;
use super::protocol::check;
use super::protocol::frame::FrameError;
use super::protocol::handshake::Hello;
use super::protocol::limits::MAX_WATCHED;
use super::protocol::message::{Lines, Reply, Request, batches};
use super::protocol::tree::{Likeness, receive_tree};
use crate::model::{Action, Digest, Meta, Outcome, Owner, ReloadOutcome, TrashKeep, Tree};
use crate::reload::ReloadRequest;
use crate::snapshot::{Root, ScanSpec, Scanned, tree_digest};
use crate::transfer::trash::TrashEntry;
use crate::transfer::{BlobRequest, Received, Sink, Source};
use crate::watch::Seen;

/// A node.
pub struct Remote {
    connection: AgentConnection,
    version: String,
    /// Whether the node accepts no changes.
    read_only: bool,
    /// Of the run that is open.
    machine: Option<String>,
    /// What the node said about each directory in this run.
    directories: HashMap<String, RemoteDirectory>,
}

#[derive(Default)]
struct RemoteDirectory {
    /// The digest of the tree of its last scan.
    digest: Option<Digest>,
    /// How many actions the last commit had, until it is asked what they put into the trash.
    committed: usize,
}

/// Most versions that one action puts into the trash: what stood at its path, and where it moved from.
const MAX_TRASHED_BY_ACTION: usize = 2;

impl Remote {
    /// Shakes hands with the agent at the other end. `timeout` is the longest silence from then on; the
    /// handshake itself may take twice that.
    pub fn new(
        input: OwnedFd,
        output: OwnedFd,
        peer: Box<dyn Peer>,
        hello: &Hello,
        timeout: Duration,
    ) -> Result<Remote, NodeError> {
        let (connection, version) = AgentConnection::handshake(input, output, peer, hello, timeout)?;
        Ok(Remote { connection, version, read_only: false, machine: None, directories: HashMap::new() })
    }

    /// The node's version of this package.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Waits for the answer to a scan that was requested.
    fn scan_answer(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        let mut scanned = match self.connection.answer()? {
            Reply::Scanned(scanned) => scanned,
            other => return self.connection.unexpected(&other, "a scan"),
        };
        scanned.mount = check::text(&scanned.mount);
        match &mut scanned.root {
            Root::Marked(marker) => {
                let ids = [Some(&marker.id), marker.generation.as_ref()];
                let checked = ids.into_iter().flatten().try_for_each(|id| check::id(id));
                self.connection.check(checked)?;
            }
            Root::Unusable(why) => *why = check::text(why),
            Root::Missing | Root::Unmarked => {}
        }
        self.directories.entry(spec.directory.clone()).or_default().digest = Some(scanned.digest);
        Ok(scanned)
    }

    fn outcomes(&mut self, request: &Request) -> Result<Vec<Outcome>, NodeError> {
        let answer = match self.connection.call(request)? {
            Reply::Outcomes(answer) => answer,
            other => return self.connection.unexpected(&other, "outcomes"),
        };
        let kept = answer.iter().filter_map(|outcome| match outcome {
            Outcome::Kept(kept) => Some(&kept.meta),
            _ => None,
        });
        let checked = kept.into_iter().try_for_each(check::meta);
        self.connection.check(checked)?;
        let clean = answer.into_iter().map(|outcome| match outcome {
            Outcome::Failed(why) => Outcome::Failed(check::text(&why)),
            other => other,
        });
        Ok(clean.collect())
    }
}

fn check_count<T>(items: &[T], expected: usize) -> Result<(), FrameError> {
    if items.len() == expected {
        return Ok(());
    }
    Err(FrameError::broken(format!("expected {expected} answers, got {}", items.len())))
}

impl Endpoint for Remote {
    fn set_patience(&mut self, patience: Duration) {
        self.connection.set_patience(patience);
    }

    fn begin(&mut self, run: &str, dry_run: bool) -> Result<(), NodeError> {
        self.directories.clear();
        match self.connection.call(&Request::Begin { run: run.to_owned(), dry_run })? {
            Reply::Begun { machine, read_only } => {
                self.read_only = read_only;
                self.connection.check(machine.as_deref().map_or(Ok(()), check::id))?;
                self.machine = machine;
                Ok(())
            }
            other => self.connection.unexpected(&other, "the begin of a run"),
        }
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn machine(&self) -> Option<&str> {
        self.machine.as_deref()
    }

    fn end(&mut self) -> Result<(), NodeError> {
        self.directories.clear();
        match self.connection.call(&Request::End)? {
            Reply::Ended => Ok(()),
            other => self.connection.unexpected(&other, "the end of a run"),
        }
    }

    fn watch(&mut self, specs: &[ScanSpec]) -> Result<Watching, NodeError> {
        let specs = &specs[..specs.len().min(MAX_WATCHED)];
        let roots = match self.connection.call(&Request::Watch(specs.to_vec()))? {
            Reply::Watching(roots) => roots,
            other => return self.connection.unexpected(&other, "what it watches"),
        };
        self.connection.check(check_count(&roots, specs.len()))?;
        let roots = roots.into_iter().map(|root| root.map_err(check::refusal)).collect();
        Ok(Watching { roots, watches: None })
    }

    fn changes(&mut self, wake: BorrowedFd<'_>) -> Result<Vec<Seen>, NodeError> {
        self.connection.changes(wake)
    }

    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        self.connection.request(&Request::Scan(spec.clone()))?;
        self.scan_answer(spec)
    }

    /// The node gets all requests at once, so that they cost one round trip. Its answers are short: neither end
    /// waits for the other to read.
    fn scan_all(&mut self, specs: &[ScanSpec]) -> Result<Vec<Scanned>, NodeError> {
        for spec in specs {
            self.connection.request(&Request::Scan(spec.clone()))?;
        }
        specs.iter().map(|spec| self.scan_answer(spec)).collect()
    }

    fn tree(&mut self, directory: &str, like: Option<&Arc<Tree>>) -> Result<Arc<Tree>, NodeError> {
        let scanned = self.directories.get(directory).and_then(|directory| directory.digest);
        if let Some(like) = like
            && scanned == Some(tree_digest(like))
        {
            return Ok(Arc::clone(like));
        }
        let like = like.map(|like| Likeness::of(like)).unwrap_or_default();
        let request = Request::Tree { directory: directory.to_owned(), basis: like.signature.clone() };
        let length = match self.connection.call(&request)? {
            Reply::Tree(length) => length,
            other => return self.connection.unexpected(&other, "a tree"),
        };
        let received = receive_tree(length, &like, &mut |payload| self.connection.next_frame(payload));
        let (tree, digest) = self.connection.check(received)?;
        match self.connection.answer()? {
            Reply::Sent => {}
            other => return self.connection.unexpected(&other, "the end of a tree"),
        }
        if scanned != Some(digest) {
            let rule = format!("the tree of {directory} is not the one it scanned");
            return Err(self.connection.fail(FrameError::broken(rule)));
        }
        Ok(Arc::new(tree))
    }

    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError> {
        let mut known = Vec::with_capacity(owners.len());
        for batch in batches(owners) {
            let answer = match self.connection.call(&Request::KnownOwners(batch.to_vec()))? {
                Reply::Owners(answer) => answer,
                other => return self.connection.unexpected(&other, "owners"),
            };
            self.connection.check(check_count(&answer, batch.len()))?;
            if !batch.iter().zip(&answer).all(|(asked, known)| is_reduced(asked, known)) {
                let rule = "an owner that was not asked about";
                return Err(self.connection.fail(FrameError::broken(rule)));
            }
            known.extend(answer);
        }
        Ok(known)
    }

    fn prepare(
        &mut self,
        directory: &str,
        trash: &TrashKeep,
        root: Option<&Meta>,
    ) -> Result<Attempt<PreparedRoot>, NodeError> {
        let request =
            Request::Prepare { directory: directory.to_owned(), trash: *trash, root: root.cloned() };
        match self.connection.call(&request)? {
            Reply::Prepared(Ok(root)) => {
                self.connection.check(check::id(&root.id))?;
                Ok(Ok(root))
            }
            Reply::Prepared(Err(refusal)) => Ok(Err(check::refusal(refusal))),
            other => self.connection.unexpected(&other, "a marker"),
        }
    }

    fn clear_stage(&mut self, directory: &str) -> Result<Attempt<()>, NodeError> {
        match self.connection.call(&Request::ClearStage(directory.to_owned()))? {
            Reply::StageCleared(cleared) => Ok(cleared.map_err(check::refusal)),
            other => self.connection.unexpected(&other, "a cleared stage"),
        }
    }

    fn stage(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        source: &mut dyn Source,
    ) -> Result<Received, NodeError> {
        self.stage_blobs(directory, wanted, source)
    }

    fn send(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        self.request_blobs(directory, wanted, sink)
    }

    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError> {
        let mut outcomes = Vec::with_capacity(actions.len());
        let mut parts = batches(actions).peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            let request = Request::Commit { directory: directory.to_owned(), actions: part.to_vec(), last };
            let answer = self.outcomes(&request)?;
            if !last {
                self.connection.check(check_count(&answer, 0))?;
            }
            outcomes.extend(answer);
        }
        while outcomes.len() < actions.len() {
            let answer = self.outcomes(&Request::Outcomes)?;
            if answer.is_empty() {
                self.connection.check(check_count(&outcomes, actions.len()))?;
            }
            outcomes.extend(answer);
        }
        self.connection.check(check_count(&outcomes, actions.len()))?;
        self.directories.entry(directory.to_owned()).or_default().committed = actions.len();
        Ok(outcomes)
    }

    fn agree(&mut self, directory: &str, generation: &str) -> Result<Attempt<()>, NodeError> {
        let request = Request::Agree { directory: directory.to_owned(), generation: generation.to_owned() };
        match self.connection.call(&request)? {
            Reply::Agreed(agreed) => Ok(agreed.map_err(check::refusal)),
            other => self.connection.unexpected(&other, "an agreement"),
        }
    }

    fn trashed(&mut self, directory: &str) -> Result<Vec<TrashEntry>, NodeError> {
        let actions = self.directories.get_mut(directory).map(|known| std::mem::take(&mut known.committed));
        let most = actions.unwrap_or_default().saturating_mul(MAX_TRASHED_BY_ACTION);
        let trash = self.trash_entries(&Request::Trashed(directory.to_owned()), most)?;
        let trash = trash.unwrap_or_default();
        let checked = trash.iter().try_for_each(|entry| check::path(&entry.place.path));
        self.connection.check(checked)?;
        Ok(trash)
    }

    fn reload(&mut self, request: &ReloadRequest) -> Result<ReloadOutcome, NodeError> {
        match self.connection.call(&Request::Reload(request.clone()))? {
            Reply::Reloaded(outcome) if outcome.name == request.name => {
                Ok(ReloadOutcome { detail: outcome.detail.map(|detail| check::text(&detail)), ..outcome })
            }
            other => self.connection.unexpected(&other, "the outcome of that reload"),
        }
    }
}

impl MainKeys for Remote {
    fn replace_key(&mut self, change: &KeyChange) -> Result<Attempt<Vec<String>>, NodeError> {
        match self.connection.call(&Request::ReplaceKey(change.clone()))? {
            Reply::KeyReplaced(Ok(Lines(lines))) => {
                Ok(Ok(lines.iter().map(|line| check::text(line)).collect()))
            }
            Reply::KeyReplaced(Err(refusal)) => Ok(Err(check::refusal(refusal))),
            other => self.connection.unexpected(&other, "a key"),
        }
    }
}

impl Describe for Remote {
    fn describe(&mut self, roots: &[PathBuf]) -> Result<Description, NodeError> {
        match self.connection.call(&Request::Describe(roots.to_vec()))? {
            Reply::Described(described) => {
                self.connection.check(check_count(&described.roots, roots.len()))?;
                let roots = described.roots.into_iter().map(|root| root.map_err(check::refusal)).collect();
                Ok(Description { version: self.version.clone(), roots, ..described })
            }
            other => self.connection.unexpected(&other, "a description"),
        }
    }
}

/// Whether `known` is `asked` with at most some of its names taken away.
fn is_reduced(asked: &Owner, known: &Owner) -> bool {
    let is_less = |asked: Option<&str>, known: Option<&str>| known.is_none() || known == asked;
    is_less(asked.user(), known.user()) && is_less(asked.group(), known.group())
}
