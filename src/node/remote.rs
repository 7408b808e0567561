//! Main's end of a session: an [`Endpoint`] whose host is at the other end of a stream.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::{Endpoint, KeyChange, NodeError};
use super::link::{Link, Peer};
use super::protocol::check;
use super::protocol::content::{self, StreamError};
use super::protocol::frame::FrameError;
use super::protocol::handshake::Hello;
use super::protocol::message::{Basis, Need, Reply, Request, batches};
use super::protocol::tree::{Likeness, receive_tree};
use crate::model::{
    Action, Digest, Entry, Outcome, Owner, RelPath, RelPathBuf, ReloadOutcome, TrashKeep, Tree,
};
use crate::reload::ReloadRequest;
use crate::snapshot::tree_digest;
use crate::snapshot::{Root, ScanSpec, Scanned};
use crate::transfer::trash::{MOST_LISTED, TrashEntry, TrashId};
use crate::transfer::{BlobRequest, MAX_BASES, Received, Signature, Sink, Source};

/// A node, for the time of one run.
///
/// Any error ends the session: what is asked afterwards is answered with that error again.
pub struct Remote {
    link: Link,
    version: String,
    scanned: Vec<(String, Digest)>,
    /// How many actions the last commit had, until it is asked what they put into the trash.
    committed: usize,
}

/// Most versions that one action puts into the trash: what stood at its path, and where it moved from.
const MOST_TRASHED_BY_ACTION: usize = 2;

impl Remote {
    /// Meets the agent at the other end. `timeout` is the longest silence from then on; until then, it
    /// has twice that.
    pub fn new(
        input: OwnedFd,
        output: OwnedFd,
        peer: Box<dyn Peer>,
        hello: &Hello,
        timeout: Duration,
    ) -> Result<Remote, NodeError> {
        let (link, version) = Link::meet(input, output, peer, hello, timeout)?;
        Ok(Remote { link, version, scanned: Vec::new(), committed: 0 })
    }

    /// The node's version of this package.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// What the agent says it needs of `wanted`, each content once at most.
fn needed(
    wanted: &[BlobRequest],
    needs: &[Need],
    given: &mut HashSet<u32>,
) -> Result<Vec<BlobRequest>, FrameError> {
    if needs.iter().filter(|need| need.basis.is_some()).count() > MAX_BASES {
        return Err(FrameError::broken(format!("more than {MAX_BASES} signatures at a time")));
    }
    let take = |need: &Need| {
        if need.basis.as_ref().is_some_and(|basis| !basis.is_sound()) {
            return None;
        }
        let content = wanted.get(need.index as usize).filter(|content| need.offset <= content.size)?;
        given.insert(need.index).then(|| BlobRequest { offset: need.offset, ..content.clone() })
    };
    let needed: Option<Vec<BlobRequest>> = needs.iter().map(take).collect();
    needed
        .filter(|needed| !needed.is_empty())
        .ok_or_else(|| FrameError::broken("it needs what it was not offered"))
}

fn counted<T>(items: &[T], due: usize) -> Result<(), FrameError> {
    if items.len() == due {
        return Ok(());
    }
    Err(FrameError::broken(format!("{} answers where {due} were due", items.len())))
}

impl Remote {
    /// The answer to a scan that was asked for.
    fn scanned(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        let mut scanned = match self.link.answer()? {
            Reply::Scanned(scanned) => scanned,
            other => return self.link.refuse(&other, "a scan"),
        };
        match &mut scanned.root {
            Root::Marked(marker) => {
                let ids = [Some(&marker.id), marker.generation.as_ref()];
                let checked = ids.into_iter().flatten().try_for_each(|id| check::id(id));
                self.link.check(checked)?;
            }
            Root::Unusable(why) => *why = check::text(why),
            Root::Missing | Root::Unmarked => {}
        }
        self.scanned.retain(|(directory, _)| *directory != spec.directory);
        self.scanned.push((spec.directory.clone(), scanned.digest));
        Ok(scanned)
    }

    /// Sends one request for these contents, and takes them.
    fn receive(
        &mut self,
        request: &Request,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        self.link.request(request)?;
        match content::receive(wanted, sink, &mut |payload| self.link.next(payload)) {
            Ok(()) => {}
            Err(StreamError::Frame(error)) => return Err(self.link.fail(error)),
            Err(StreamError::Own(error)) => return Err(self.link.stop(&error)),
        }
        match self.link.answer()? {
            Reply::Sent => Ok(()),
            other => self.link.refuse(&other, "the end of contents"),
        }
    }

    /// Entries of its trash, `most` of them at most; or why it cannot read it.
    fn trash(
        &mut self,
        request: &Request,
        most: usize,
    ) -> Result<Result<Vec<TrashEntry>, String>, NodeError> {
        let mut all = Vec::new();
        let mut reply = self.link.ask(request)?;
        loop {
            let more = match reply {
                Reply::Trash { entries, more } if !entries.is_empty() || !more => {
                    all.extend(entries);
                    more
                }
                Reply::TrashUnread(why) if all.is_empty() => return Ok(Err(check::text(&why))),
                other => return self.link.refuse(&other, "its trash"),
            };
            if all.len() > most {
                return Err(self.link.fail(FrameError::broken("more lies in its trash than can")));
            }
            if !more {
                return Ok(Ok(all));
            }
            reply = self.link.ask(&Request::MoreTrash)?;
        }
    }

    fn outcomes(&mut self, request: &Request) -> Result<Vec<Outcome>, NodeError> {
        let clean = |outcome| match outcome {
            Outcome::Failed(why) => Outcome::Failed(check::text(&why)),
            other => other,
        };
        match self.link.ask(request)? {
            Reply::Outcomes(answer) => Ok(answer.into_iter().map(clean).collect()),
            other => self.link.refuse(&other, "outcomes"),
        }
    }
}

impl Endpoint for Remote {
    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        self.link.request(&Request::Scan(spec.clone()))?;
        self.scanned(spec)
    }

    /// The node gets all questions at once: what they cost is one round trip. Its answers are short, so
    /// that neither end waits for the other to read.
    fn scan_all(&mut self, specs: &[ScanSpec]) -> Result<Vec<Scanned>, NodeError> {
        for spec in specs {
            self.link.request(&Request::Scan(spec.clone()))?;
        }
        specs.iter().map(|spec| self.scanned(spec)).collect()
    }

    fn tree(&mut self, directory: &str, like: Option<&Arc<Tree>>) -> Result<Arc<Tree>, NodeError> {
        let told = self.scanned.iter().find(|(name, _)| name == directory).map(|(_, told)| *told);
        if let Some(like) = like
            && told == Some(tree_digest(like))
        {
            return Ok(Arc::clone(like));
        }
        let like = like.map(|like| Likeness::of(like)).unwrap_or_default();
        let request = Request::Tree { directory: directory.to_owned(), basis: like.signature.clone() };
        let length = match self.link.ask(&request)? {
            Reply::Tree(length) => length,
            other => return self.link.refuse(&other, "a tree"),
        };
        let received = receive_tree(length, &like, &mut |payload| self.link.next(payload));
        let (tree, digest) = self.link.check(received)?;
        match self.link.answer()? {
            Reply::Sent => {}
            other => return self.link.refuse(&other, "the end of a tree"),
        }
        if told != Some(digest) {
            return Err(self
                .link
                .fail(FrameError::broken(format!("the tree of {directory} is not the one it scanned"))));
        }
        Ok(Arc::new(tree))
    }

    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError> {
        let mut known = Vec::with_capacity(owners.len());
        for batch in batches(owners) {
            let answer = match self.link.ask(&Request::KnownOwners(batch.to_vec()))? {
                Reply::Owners(answer) => answer,
                other => return self.link.refuse(&other, "owners"),
            };
            self.link.check(counted(&answer, batch.len()))?;
            let less = |had: Option<&str>, has: Option<&str>| has.is_none() || has == had;
            let subset =
                |(had, has): (&Owner, &Owner)| less(had.user(), has.user()) && less(had.group(), has.group());
            if !batch.iter().zip(&answer).all(subset) {
                return Err(self.link.fail(FrameError::broken("an owner that nobody asked about")));
            }
            known.extend(answer);
        }
        Ok(known)
    }

    fn prepare(
        &mut self,
        directory: &str,
        run: &str,
        trash: &TrashKeep,
    ) -> Result<Result<String, String>, NodeError> {
        let (directory, run) = (directory.to_owned(), run.to_owned());
        let request = Request::Prepare { directory, run, trash: *trash };
        match self.link.ask(&request)? {
            Reply::Prepared(Ok(id)) => {
                self.link.check(check::id(&id))?;
                Ok(Ok(id))
            }
            Reply::Prepared(Err(why)) => Ok(Err(check::text(&why))),
            other => self.link.refuse(&other, "a marker"),
        }
    }

    fn stage(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        source: &mut dyn Source,
    ) -> Result<Received, NodeError> {
        let mut received = Received::with_capacity(wanted.len());
        for batch in batches(wanted) {
            let request = Request::Stage { directory: directory.to_owned(), wanted: batch.to_vec() };
            let mut reply = self.link.ask(&request)?;
            let mut given = HashSet::new();
            let answer = loop {
                match reply {
                    Reply::Need(needs) => {
                        let needed = self.link.check(needed(batch, &needs, &mut given))?;
                        let signatures = needs.into_iter().map(|need| need.basis).collect();
                        self.link.give(source, &needed, signatures)?;
                    }
                    Reply::Received(answer) => break answer,
                    other => return self.link.refuse(&other, "what it received"),
                }
                reply = self.link.answer()?;
            };
            self.link.check(counted(&answer, batch.len()))?;
            received.extend(answer.into_iter().map(|item| item.map_err(|why| check::text(&why))));
        }
        Ok(received)
    }

    fn send(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        let mut first = 0;
        for batch in batches(wanted) {
            let bases = bases(sink, first, batch.len());
            let mut signatures = vec![None; batch.len()];
            for Basis { index, signature } in &bases {
                signatures[*index as usize] = Some(Arc::clone(signature));
            }
            let request = Request::Send { directory: directory.to_owned(), wanted: batch.to_vec(), bases };
            self.receive(&request, batch, &mut Shifted { sink: &mut *sink, first, signatures })?;
            first += batch.len();
        }
        Ok(())
    }

    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError> {
        let mut outcomes = Vec::with_capacity(actions.len());
        let mut parts = batches(actions).peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            let request = Request::Commit { directory: directory.to_owned(), actions: part.to_vec(), last };
            let answer = self.outcomes(&request)?;
            if !last {
                self.link.check(counted(&answer, 0))?;
            }
            outcomes.extend(answer);
        }
        while outcomes.len() < actions.len() {
            let answer = self.outcomes(&Request::Outcomes)?;
            if answer.is_empty() {
                self.link.check(counted(&outcomes, actions.len()))?;
            }
            outcomes.extend(answer);
        }
        self.link.check(counted(&outcomes, actions.len()))?;
        self.committed = actions.len();
        Ok(outcomes)
    }

    fn agree(&mut self, directory: &str, generation: &str) -> Result<Result<(), String>, NodeError> {
        let request = Request::Agree { directory: directory.to_owned(), generation: generation.to_owned() };
        match self.link.ask(&request)? {
            Reply::Agreed(agreed) => Ok(agreed.map_err(|why| check::text(&why))),
            other => self.link.refuse(&other, "an agreement"),
        }
    }

    fn trashed(&mut self, directory: &str) -> Result<Vec<TrashEntry>, NodeError> {
        let most = std::mem::take(&mut self.committed).saturating_mul(MOST_TRASHED_BY_ACTION);
        let trash = self.trash(&Request::Trashed(directory.to_owned()), most)?;
        let trash = trash.unwrap_or_default();
        let checked = trash.iter().try_for_each(|entry| check::path(&entry.place.path));
        self.link.check(checked)?;
        Ok(trash)
    }

    fn versions(
        &mut self,
        directory: &str,
        path: &RelPath,
    ) -> Result<Result<Vec<TrashEntry>, String>, NodeError> {
        let request = Request::Versions { directory: directory.to_owned(), path: path.to_owned() };
        let trash = self.trash(&request, MOST_LISTED)?;
        if let Ok(entries) = &trash {
            let checked = entries.iter().try_for_each(|entry| check::trash_entry(entry, path));
            self.link.check(checked)?;
        }
        Ok(trash)
    }

    fn recall(
        &mut self,
        directory: &str,
        id: &TrashId,
        paths: &[RelPathBuf],
    ) -> Result<Vec<Result<Entry, String>>, NodeError> {
        let mut recalled = Vec::with_capacity(paths.len());
        for batch in batches(paths) {
            let (directory, id, paths) = (directory.to_owned(), id.clone(), batch.to_vec());
            let answer = match self.link.ask(&Request::Recall { directory, id, paths })? {
                Reply::Recalled(answer) => answer,
                other => return self.link.refuse(&other, "what lies in its trash"),
            };
            self.link.check(counted(&answer, batch.len()))?;
            for (path, item) in batch.iter().zip(answer) {
                if let Ok(entry) = &item {
                    self.link.check(check::recalled(path, entry))?;
                }
                recalled.push(item.map_err(|why| check::text(&why)));
            }
        }
        Ok(recalled)
    }

    fn send_trashed(
        &mut self,
        directory: &str,
        id: &TrashId,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        let mut first = 0;
        for batch in batches(wanted) {
            let (directory, id, wanted) = (directory.to_owned(), id.clone(), batch.to_vec());
            let request = Request::SendTrashed { directory, id, wanted };
            self.receive(&request, batch, &mut Shifted { sink: &mut *sink, first, signatures: Vec::new() })?;
            first += batch.len();
        }
        Ok(())
    }

    fn reload(&mut self, request: &ReloadRequest) -> Result<ReloadOutcome, NodeError> {
        match self.link.ask(&Request::Reload(request.clone()))? {
            Reply::Reloaded(outcome) if outcome.name == request.name => {
                Ok(ReloadOutcome { detail: outcome.detail.map(|detail| check::text(&detail)), ..outcome })
            }
            other => self.link.refuse(&other, "that reload"),
        }
    }

    fn replace_key(&mut self, change: &KeyChange) -> Result<Result<(), String>, NodeError> {
        match self.link.ask(&Request::ReplaceKey(change.clone()))? {
            Reply::KeyReplaced(replaced) => Ok(replaced.map_err(|why| check::text(&why))),
            other => self.link.refuse(&other, "a key"),
        }
    }
}

/// What the sink has of bases of some of what is asked for, as many as a request may have.
fn bases(sink: &dyn Sink, first: usize, count: usize) -> Vec<Basis> {
    let basis = |(at, index): (usize, u32)| Some(Basis { index, signature: sink.basis(at)? });
    (first..first + count).zip(0..).filter_map(basis).take(MAX_BASES).collect()
}

/// A batch's contents, numbered as in the whole list.
struct Shifted<'a> {
    sink: &'a mut dyn Sink,
    first: usize,
    /// Of the bases that went with the request: the node may refer to them and to no others.
    signatures: Vec<Option<Arc<Signature>>>,
}

impl Sink for Shifted<'_> {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        self.sink.begin(self.first + index)
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.sink.data(bytes)
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.sink.hole(length)
    }

    fn basis(&self, index: usize) -> Option<Arc<Signature>> {
        self.signatures.get(index)?.clone()
    }

    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        self.sink.copy(from, length)
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.sink.end(result)
    }
}
