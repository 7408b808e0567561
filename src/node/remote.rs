//! Main's end of a session: an [`Endpoint`] whose host is at the other end of a stream.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::endpoint::{Endpoint, NodeError, NodeErrorKind};
use super::protocol::check;
use super::protocol::content::{self, Sender, StreamError};
use super::protocol::frame::{FrameError, Kind, decode, read_frame, write_value};
use super::protocol::handshake::{Hello, MainHello, Versions, decode_hello};
use super::protocol::message::{Need, Reply, Request, batches};
use super::protocol::tree::receive_tree;
use super::wire::Wire;
use crate::model::{Action, Digest, Outcome, Owner, ReloadOutcome, Tree};
use crate::reload::ReloadRequest;
use crate::snapshot::{Root, ScanSpec, Scanned};
use crate::transfer::{Received, Sink, Source, Wanted};

/// The program at the other end of a stream, as far as the stream does not tell: what ssh says of it.
///
/// It is dropped after the stream is closed.
pub trait Peer: Send {
    /// How it ended. Called when the stream has ended unexpectedly, and waits a moment for the answer.
    fn ended(&mut self) -> Ended;
}

/// How a program ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status, if it had one.
    pub status: Option<i32>,
    /// The last it wrote to stderr.
    pub words: String,
}

impl Ended {
    /// Its last line that says something; empty when there is none.
    #[must_use]
    pub fn last_line(&self) -> &str {
        self.words.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("")
    }
}

/// A node, for the time of one run.
///
/// Any error ends the session: what is asked afterwards is answered with that error again.
pub struct Remote {
    // The stream is closed before the peer is dropped, so that the agent ends by itself.
    wire: Wire,
    peer: Box<dyn Peer>,
    timeout: Duration,
    version: String,
    scanned: Vec<(String, Digest)>,
    /// Since when the agent is waited for, and how often it said since that it is at work.
    asked: Instant,
    alive: u32,
    over: Option<NodeError>,
}

/// Keep-alives an agent may send at any time; beyond these, twice as many as it should in that time.
const FREE_ALIVES: u32 = 16;

impl Remote {
    /// Meets the agent at the other end, within twice `timeout`.
    pub fn new(
        input: OwnedFd,
        output: OwnedFd,
        mut peer: Box<dyn Peer>,
        hello: &Hello,
        timeout: Duration,
    ) -> Result<Remote, NodeError> {
        let mut wire = Wire::new(input, output, timeout).map_err(|error| {
            NodeError::new(NodeErrorKind::Lost, format!("no stream to the node: {error}"))
        })?;
        // However it drips: a node that has not got through this by then will not get through a run.
        wire.allow(Some(timeout.saturating_mul(2)));
        super::banner::skip(&mut wire, &mut *peer, timeout)?;
        let mut remote = Remote {
            wire,
            peer,
            timeout,
            version: String::new(),
            scanned: Vec::new(),
            asked: Instant::now(),
            alive: 0,
            over: None,
        };
        remote.greet(hello)?;
        remote.wire.allow(None);
        Ok(remote)
    }

    /// The node's version of this package.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    fn greet(&mut self, hello: &Hello) -> Result<(), NodeError> {
        let mut payload = Vec::new();
        let theirs: Versions = match self.next(&mut payload).and_then(|kind| expect(Kind::Hello, kind)) {
            Ok(()) => decode_hello(&payload).map_err(|error| self.fail(error))?,
            Err(error) => return Err(self.fail(error)),
        };
        let version = Versions::common(&Versions::ours(), &theirs)?;
        let hello = MainHello {
            versions: Versions::ours(),
            hello: hello.clone(),
            timeout_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let welcomed = self.say(Kind::Hello, &hello).and_then(|()| self.answer());
        match welcomed.map_err(|error| self.fail(error))? {
            Reply::Welcome(chosen) if chosen == version => {
                self.version = check::text(&theirs.package);
                Ok(())
            }
            Reply::Welcome(chosen) => {
                let detail = format!("the node chose protocol {chosen} where both speak {version}");
                Err(NodeError::new(NodeErrorKind::Incompatible, detail))
            }
            other => Err(self.fail(unasked(&other, "a welcome"))),
        }
    }

    fn say<T: serde::Serialize>(&mut self, kind: Kind, value: &T) -> Result<(), FrameError> {
        self.asked = Instant::now();
        self.alive = 0;
        Ok(write_value(&mut self.wire, kind, value)?)
    }

    /// The next frame that is no keep-alive.
    fn next(&mut self, payload: &mut Vec<u8>) -> Result<Kind, FrameError> {
        loop {
            let kind = read_frame(&mut self.wire, payload)?
                .ok_or_else(|| FrameError::Io(io::ErrorKind::UnexpectedEof.into()))?;
            if kind != Kind::Alive {
                return Ok(kind);
            }
            self.alive += 1;
            // An agent says so four times in a timeout.
            let timeouts = self.asked.elapsed().as_secs_f64() / self.timeout.as_secs_f64();
            if f64::from(self.alive) > f64::from(FREE_ALIVES) + 8.0 * timeouts {
                return Err(FrameError::broken("a flood of keep-alives"));
            }
        }
    }

    fn answer(&mut self) -> Result<Reply, FrameError> {
        let mut payload = Vec::new();
        match self.next(&mut payload)? {
            Kind::Reply => decode(Kind::Reply, &payload),
            Kind::Failed => Err(self.failed(&payload)),
            kind => Err(FrameError::broken(format!("a {kind:?} frame where an answer was due"))),
        }
    }

    /// Remembers why the agent gives up.
    fn failed(&mut self, payload: &[u8]) -> FrameError {
        match decode::<NodeError>(Kind::Failed, payload) {
            Ok(error) => {
                self.over = Some(NodeError::new(error.kind, check::text(&error.detail)));
                FrameError::broken("the agent gave up")
            }
            Err(error) => error,
        }
    }

    /// Ends the session, and says why.
    fn fail(&mut self, error: FrameError) -> NodeError {
        if self.over.is_none()
            && matches!(&error, FrameError::Io(error) if error.kind() != io::ErrorKind::TimedOut)
        {
            self.last_words();
        }
        if let Some(over) = &self.over {
            return over.clone();
        }
        let over = match error {
            FrameError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                let timeout = self.timeout;
                NodeError::new(NodeErrorKind::Timeout, format!("the node has been silent for {timeout:?}"))
            }
            FrameError::Io(error) => {
                let words = match self.peer.ended().last_line() {
                    "" => error.to_string(),
                    words => check::text(words),
                };
                NodeError::new(NodeErrorKind::Lost, format!("the connection to the agent ended: {words}"))
            }
            FrameError::Broken(rule) => {
                NodeError::new(NodeErrorKind::Lost, format!("the node broke the protocol: {rule}"))
            }
        };
        self.over.insert(over).clone()
    }

    /// What the agent said before its stream ended: that Main can write no more says less.
    fn last_words(&mut self) {
        self.wire.allow(Some(self.timeout));
        let mut payload = Vec::new();
        while let Ok(kind) = self.next(&mut payload) {
            if kind == Kind::Failed {
                self.failed(&payload);
                return;
            }
        }
    }

    /// One question and its answer.
    fn ask(&mut self, request: &Request) -> Result<Reply, NodeError> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        self.wire.allow(None);
        self.say(Kind::Request, request).and_then(|()| self.answer()).map_err(|error| self.fail(error))
    }

    /// An answer that was not asked for.
    fn refuse<T>(&mut self, reply: &Reply, due: &str) -> Result<T, NodeError> {
        Err(self.fail(unasked(reply, due)))
    }

    fn check<T>(&mut self, checked: Result<T, FrameError>) -> Result<T, NodeError> {
        checked.map_err(|error| self.fail(error))
    }

    /// Sends what the agent says it needs of `wanted`, each content once at most.
    fn supply(
        &mut self,
        wanted: &[Wanted],
        needs: &[Need],
        sent: &mut HashSet<u32>,
        source: &mut dyn Source,
    ) -> Result<(), NodeError> {
        let mut needed = Vec::with_capacity(needs.len());
        for need in needs {
            let content = wanted.get(need.index as usize).filter(|content| need.offset <= content.size);
            match content {
                Some(content) if sent.insert(need.index) => {
                    needed.push(Wanted { offset: need.offset, ..content.clone() });
                }
                _ => return Err(self.fail(FrameError::broken("it needs what it was not offered"))),
            }
        }
        let mut sender = Sender::new(&mut self.wire);
        let sent = source.send(&needed, &mut sender);
        match sender.finish(sent) {
            Ok(()) => {}
            Err(StreamError::Frame(error)) => return Err(self.fail(error)),
            Err(StreamError::Own(error)) => return Err(self.stop(&error)),
        }
        // The agent is waited for from here on.
        self.asked = Instant::now();
        self.alive = 0;
        self.wire.flush().map_err(|error| self.fail(error.into()))
    }

    /// Ends the session because this end cannot go on.
    fn stop(&mut self, error: &anyhow::Error) -> NodeError {
        let over = NodeError::new(NodeErrorKind::Lost, format!("Main gave up: {error:#}"));
        self.over.insert(over).clone()
    }
}

fn expect(due: Kind, kind: Kind) -> Result<(), FrameError> {
    if kind == due {
        return Ok(());
    }
    Err(FrameError::broken(format!("a {kind:?} frame where a {due:?} was due")))
}

fn unasked(reply: &Reply, due: &str) -> FrameError {
    FrameError::broken(format!("{} where {due} was due", reply.name()))
}

fn counted<T>(items: &[T], due: usize) -> Result<(), FrameError> {
    if items.len() == due {
        return Ok(());
    }
    Err(FrameError::broken(format!("{} answers where {due} were due", items.len())))
}

impl Endpoint for Remote {
    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        let mut scanned = match self.ask(&Request::Scan(spec.clone()))? {
            Reply::Scanned(scanned) => scanned,
            other => return self.refuse(&other, "a scan"),
        };
        match &mut scanned.root {
            Root::Marked(marker) => {
                let ids = [Some(&marker.id), marker.generation.as_ref()];
                let checked = ids.into_iter().flatten().try_for_each(|id| check::id(id));
                self.check(checked)?;
            }
            Root::Unusable(why) => *why = check::text(why),
            Root::Missing | Root::Unmarked => {}
        }
        self.scanned.retain(|(directory, _)| *directory != spec.directory);
        self.scanned.push((spec.directory.clone(), scanned.digest));
        Ok(scanned)
    }

    fn tree(&mut self, directory: &str) -> Result<Tree, NodeError> {
        let length = match self.ask(&Request::Tree(directory.to_owned()))? {
            Reply::Tree(length) => length,
            other => return self.refuse(&other, "a tree"),
        };
        let received = receive_tree(length, &mut |payload| self.next(payload));
        let (tree, digest) = self.check(received)?;
        let told = self.scanned.iter().find(|(name, _)| name == directory);
        if told.is_none_or(|(_, told)| *told != digest) {
            return Err(
                self.fail(FrameError::broken(format!("the tree of {directory} is not the one it scanned")))
            );
        }
        Ok(tree)
    }

    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError> {
        let mut known = Vec::with_capacity(owners.len());
        for batch in batches(owners) {
            let answer = match self.ask(&Request::KnownOwners(batch.to_vec()))? {
                Reply::Owners(answer) => answer,
                other => return self.refuse(&other, "owners"),
            };
            self.check(counted(&answer, batch.len()))?;
            let less = |had: Option<&str>, has: Option<&str>| has.is_none() || has == had;
            let subset =
                |(had, has): (&Owner, &Owner)| less(had.user(), has.user()) && less(had.group(), has.group());
            if !batch.iter().zip(&answer).all(subset) {
                return Err(self.fail(FrameError::broken("an owner that nobody asked about")));
            }
            known.extend(answer);
        }
        Ok(known)
    }

    fn prepare(
        &mut self,
        directory: &str,
        run: &str,
        trash_keep: u64,
    ) -> Result<Result<String, String>, NodeError> {
        let request = Request::Prepare { directory: directory.to_owned(), run: run.to_owned(), trash_keep };
        match self.ask(&request)? {
            Reply::Prepared(Ok(id)) => {
                self.check(check::id(&id))?;
                Ok(Ok(id))
            }
            Reply::Prepared(Err(why)) => Ok(Err(check::text(&why))),
            other => self.refuse(&other, "a marker"),
        }
    }

    fn stage(
        &mut self,
        directory: &str,
        wanted: &[Wanted],
        source: &mut dyn Source,
    ) -> Result<Received, NodeError> {
        let mut received = Received::with_capacity(wanted.len());
        for batch in batches(wanted) {
            let request = Request::Stage { directory: directory.to_owned(), wanted: batch.to_vec() };
            let mut reply = self.ask(&request)?;
            let mut sent = HashSet::new();
            let answer = loop {
                match reply {
                    Reply::Need(needs) if !needs.is_empty() => {
                        self.supply(batch, &needs, &mut sent, source)?;
                    }
                    Reply::Received(answer) => break answer,
                    other => return self.refuse(&other, "what it received"),
                }
                reply = self.answer().map_err(|error| self.fail(error))?;
            };
            self.check(counted(&answer, batch.len()))?;
            received.extend(answer.into_iter().map(|item| item.map_err(|why| check::text(&why))));
        }
        Ok(received)
    }

    fn send(&mut self, directory: &str, wanted: &[Wanted], sink: &mut dyn Sink) -> Result<(), NodeError> {
        let mut first = 0;
        for batch in batches(wanted) {
            if let Some(over) = &self.over {
                return Err(over.clone());
            }
            self.wire.allow(None);
            let request = Request::Send { directory: directory.to_owned(), wanted: batch.to_vec() };
            self.say(Kind::Request, &request).map_err(|error| self.fail(error))?;
            let mut sink = Shifted { sink: &mut *sink, first };
            let received = content::receive(batch, &mut sink, &mut |payload| {
                let kind = self.next(payload)?;
                // Contents are progress: only between them an agent may say that it is at work.
                self.asked = Instant::now();
                self.alive = 0;
                match kind {
                    Kind::Failed => Err(self.failed(payload)),
                    kind => Ok(kind),
                }
            });
            match received {
                Ok(()) => {}
                Err(StreamError::Frame(error)) => return Err(self.fail(error)),
                Err(StreamError::Own(error)) => return Err(self.stop(&error)),
            }
            match self.answer().map_err(|error| self.fail(error))? {
                Reply::Sent => {}
                other => return self.refuse(&other, "the end of contents"),
            }
            first += batch.len();
        }
        Ok(())
    }

    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError> {
        let mut outcomes = Vec::with_capacity(actions.len());
        for batch in batches(actions) {
            let request = Request::Commit { directory: directory.to_owned(), actions: batch.to_vec() };
            let answer = match self.ask(&request)? {
                Reply::Outcomes(answer) => answer,
                other => return self.refuse(&other, "outcomes"),
            };
            self.check(counted(&answer, batch.len()))?;
            outcomes.extend(answer.into_iter().map(|outcome| match outcome {
                Outcome::Failed(why) => Outcome::Failed(check::text(&why)),
                other => other,
            }));
        }
        Ok(outcomes)
    }

    fn agree(&mut self, directory: &str, generation: &str) -> Result<Result<(), String>, NodeError> {
        let request = Request::Agree { directory: directory.to_owned(), generation: generation.to_owned() };
        match self.ask(&request)? {
            Reply::Agreed(agreed) => Ok(agreed.map_err(|why| check::text(&why))),
            other => self.refuse(&other, "an agreement"),
        }
    }

    fn reload(&mut self, request: &ReloadRequest) -> Result<ReloadOutcome, NodeError> {
        match self.ask(&Request::Reload(request.clone()))? {
            Reply::Reloaded(outcome) if outcome.name == request.name => {
                Ok(ReloadOutcome { detail: outcome.detail.map(|detail| check::text(&detail)), ..outcome })
            }
            other => self.refuse(&other, "that reload"),
        }
    }
}

/// A batch's contents, numbered as in the whole list.
struct Shifted<'a> {
    sink: &'a mut dyn Sink,
    first: usize,
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

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.sink.end(result)
    }
}
