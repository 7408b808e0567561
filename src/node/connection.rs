//! Main's end of a connection to an agent: requests, and the wait for their answers.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::banner;
use super::byte_stream::ByteStream;
use super::error::{NodeError, NodeErrorKind};
use super::peer::Peer;
use super::protocol::check;
use super::protocol::content::{Sender, StreamError};
use super::protocol::frame::{FrameError, Kind, decode, read_frame, write_value};
use super::protocol::handshake::{Hello, MainHello, Versions, decode_hello};
use super::protocol::message::{Changed, Reply, Request};
use super::protocol::pack::Packer;
use crate::transfer::{BlobRequest, Signature, Source};
use crate::watch::Seen;

/// A connection to an agent. The first error ends the session, and is the answer to whatever is asked afterwards.
pub(super) struct AgentConnection {
    // Fields are dropped in this order: the stream is closed first, so that the agent ends by itself.
    stream: ByteStream,
    peer: Box<dyn Peer>,
    timeout: Duration,
    /// When the last request was sent.
    asked: Instant,
    /// Keep-alives that have arrived since.
    keep_alives: u32,
    /// When the session began, and how often the agent has told since that something has changed.
    began: Instant,
    told: u32,
    /// What it told, until it is asked for.
    changed: Vec<Seen>,
    /// How long Main waits for the node in all, where that has a limit.
    patience: Option<Duration>,
    /// Why the session is over.
    over: Option<NodeError>,
    packer: Packer,
}

/// Most changes that are kept until they are asked for. Beyond it anything may have changed.
const MOST_CHANGED: usize = 4096;
/// Times that an agent may tell of changes at once, and then a second; it gathers what happens meanwhile.
const FREE_CHANGES: f64 = 100.0;
const CHANGES_PER_SECOND: f64 = 40.0;

/// Keep-alives that an agent may send at any time. Beyond these it may send twice as many as it should have
/// since it was asked.
const FREE_KEEP_ALIVES: u32 = 16;
/// How many keep-alives an agent that is at work sends within the timeout.
const KEEP_ALIVES_PER_TIMEOUT: u32 = 4;

impl AgentConnection {
    /// Waits for the agent to begin and shakes hands with it, all within twice `timeout`. Also returns the
    /// version of the agent's package.
    pub(super) fn handshake(
        input: OwnedFd,
        output: OwnedFd,
        mut peer: Box<dyn Peer>,
        hello: &Hello,
        timeout: Duration,
    ) -> Result<(AgentConnection, String), NodeError> {
        let mut stream = ByteStream::new(input, output, timeout).map_err(|error| {
            NodeError::new(NodeErrorKind::Lost, format!("no stream to the node: {error}"))
        })?;
        // A hard deadline: a node from which bytes only trickle in would never get through a run.
        stream.set_deadline(Some(timeout.saturating_mul(2)));
        banner::skip(&mut stream, &mut *peer, timeout)?;
        let mut connection = AgentConnection {
            stream,
            peer,
            timeout,
            asked: Instant::now(),
            keep_alives: 0,
            began: Instant::now(),
            told: 0,
            changed: Vec::new(),
            patience: None,
            over: None,
            packer: Packer::default(),
        };
        let version = connection.exchange_hellos(hello)?;
        connection.stream.set_deadline(None);
        Ok((connection, version))
    }

    fn exchange_hellos(&mut self, hello: &Hello) -> Result<String, NodeError> {
        let mut payload = Vec::new();
        let theirs = match self.next_frame(&mut payload) {
            Ok(Kind::Hello) => decode_hello(&payload),
            Ok(kind) => Err(FrameError::broken(format!("expected a hello, got a {kind:?} frame"))),
            Err(error) => Err(error),
        };
        let theirs: Versions = self.check(theirs)?;
        let version = Versions::common(&Versions::ours(), &theirs)?;
        let hello = MainHello {
            versions: Versions::ours(),
            hello: hello.clone(),
            timeout_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let welcome = self.send(Kind::Hello, &hello).and_then(|()| self.receive());
        match self.check(welcome)? {
            Reply::Welcome(chosen) if chosen == version => Ok(check::text(&theirs.package)),
            Reply::Welcome(chosen) => {
                let detail = format!("the node chose protocol {chosen}, expected {version}");
                Err(NodeError::new(NodeErrorKind::Incompatible, detail))
            }
            other => self.unexpected(&other, "a welcome"),
        }
    }

    /// Sets how long Main waits for the node from now on, all waits together.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = Some(patience);
        self.stream.set_patience(patience);
    }

    /// Sends a request and waits for its answer.
    pub(super) fn call(&mut self, request: &Request) -> Result<Reply, NodeError> {
        self.request(request)?;
        self.answer()
    }

    /// Sends a request. Its answer has to be received later.
    pub(super) fn request(&mut self, request: &Request) -> Result<(), NodeError> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        self.stream.set_deadline(None);
        let sent = self.send(Kind::Request, request);
        self.check(sent)
    }

    /// Waits for the next answer to what was requested.
    pub(super) fn answer(&mut self) -> Result<Reply, NodeError> {
        let received = self.receive();
        self.check(received)
    }

    /// Sends the blobs that the agent needs, and of which it has a basis with these signatures.
    pub(super) fn send_blobs(
        &mut self,
        source: &mut dyn Source,
        wanted: &[BlobRequest],
        signatures: Vec<Option<Arc<Signature>>>,
    ) -> Result<(), NodeError> {
        let mut sender = Sender::new(&mut self.stream, &mut self.packer).with_signatures(signatures);
        let sent = source.send(wanted, &mut sender);
        match sender.finish(sent) {
            Ok(()) => {
                let flushed = self.stream.flush();
                self.check(flushed.map_err(FrameError::Io))
            }
            Err(StreamError::Frame(error)) => Err(self.fail(error)),
            Err(StreamError::Own(error)) => Err(self.abort(&error)),
        }
    }

    /// Waits for the next frame that is no keep-alive.
    pub(super) fn next_frame(&mut self, payload: &mut Vec<u8>) -> Result<Kind, FrameError> {
        loop {
            let kind = read_frame(&mut self.stream, payload)?
                .ok_or_else(|| FrameError::Io(io::ErrorKind::UnexpectedEof.into()))?;
            match kind {
                Kind::Alive => self.count_keep_alive()?,
                Kind::Changed => self.take_changed(payload)?,
                Kind::Failed => {
                    let error: NodeError = decode(kind, payload)?;
                    self.over = Some(NodeError { detail: check::text(&error.detail), ..error });
                    return Err(FrameError::broken("the agent gave up"));
                }
                kind => return Ok(kind),
            }
        }
    }

    /// Waits, while nothing is asked, until the agent has told of changes or `wake` is readable.
    pub(super) fn changes(&mut self, wake: BorrowedFd<'_>) -> Result<Vec<Seen>, NodeError> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        while self.changed.is_empty() {
            match self.stream.wait_idle(wake) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(self.fail(error.into())),
            }
            self.stream.set_deadline(None);
            let received = self.idle_frame();
            self.check(received)?;
        }
        Ok(std::mem::take(&mut self.changed))
    }

    /// Takes a frame that answers nothing.
    fn idle_frame(&mut self) -> Result<(), FrameError> {
        let mut payload = Vec::new();
        let kind = read_frame(&mut self.stream, &mut payload)?
            .ok_or_else(|| FrameError::Io(io::ErrorKind::UnexpectedEof.into()))?;
        match kind {
            Kind::Changed => self.take_changed(&payload),
            // One that was on its way when the last answer was sent.
            Kind::Alive => self.count_keep_alive(),
            Kind::Failed => {
                let error: NodeError = decode(kind, &payload)?;
                self.over = Some(NodeError { detail: check::text(&error.detail), ..error });
                Err(FrameError::broken("the agent gave up"))
            }
            kind => Err(FrameError::broken(format!("expected nothing but changes, got a {kind:?} frame"))),
        }
    }

    fn take_changed(&mut self, payload: &[u8]) -> Result<(), FrameError> {
        self.told += 1;
        let may_tell = FREE_CHANGES + CHANGES_PER_SECOND * self.began.elapsed().as_secs_f64();
        if f64::from(self.told) > may_tell {
            return Err(FrameError::broken("a flood of changes"));
        }
        let Changed(changed) = decode(Kind::Changed, payload)?;
        self.changed.extend(changed);
        if self.changed.len() > MOST_CHANGED {
            let roots: BTreeSet<String> = self.changed.drain(..).map(|seen| seen.root().to_owned()).collect();
            let whole = roots.into_iter().take(MOST_CHANGED).map(|root| Seen::Whole { root });
            self.changed.extend(whole);
        }
        Ok(())
    }

    fn count_keep_alive(&mut self) -> Result<(), FrameError> {
        self.keep_alives += 1;
        let timeouts = self.asked.elapsed().as_secs_f64() / self.timeout.as_secs_f64();
        let due = f64::from(KEEP_ALIVES_PER_TIMEOUT) * timeouts;
        if f64::from(self.keep_alives) > f64::from(FREE_KEEP_ALIVES) + 2.0 * due {
            return Err(FrameError::broken("a flood of keep-alives"));
        }
        Ok(())
    }

    fn send<T: Serialize>(&mut self, kind: Kind, value: &T) -> Result<(), FrameError> {
        self.asked = Instant::now();
        self.keep_alives = 0;
        Ok(write_value(&mut self.stream, kind, value)?)
    }

    fn receive(&mut self) -> Result<Reply, FrameError> {
        let mut payload = Vec::new();
        match self.next_frame(&mut payload)? {
            Kind::Reply => decode(Kind::Reply, &payload),
            kind => Err(FrameError::broken(format!("expected an answer, got a {kind:?} frame"))),
        }
    }

    /// Ends the session because the agent answered something else than it was asked.
    pub(super) fn unexpected<T>(&mut self, reply: &Reply, expected: &str) -> Result<T, NodeError> {
        Err(self.fail(FrameError::broken(format!("expected {expected}, got {}", reply.name()))))
    }

    /// Ends the session if this is an error.
    pub(super) fn check<T>(&mut self, checked: Result<T, FrameError>) -> Result<T, NodeError> {
        checked.map_err(|error| self.fail(error))
    }

    /// Ends the session with an error of the stream or of the agent.
    pub(super) fn fail(&mut self, error: FrameError) -> NodeError {
        // An error of the stream says little, and the agent may have sent the reason before it ended: read on.
        if matches!(&error, FrameError::Io(error) if error.kind() != io::ErrorKind::TimedOut) {
            self.stream.set_deadline(Some(self.timeout));
            let mut payload = Vec::new();
            while self.over.is_none() && self.next_frame(&mut payload).is_ok() {}
        }
        if let Some(over) = &self.over {
            return over.clone();
        }
        let (kind, detail) = match error {
            FrameError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                let patience = self.patience.filter(|_| self.stream.is_out_of_patience());
                let detail = match patience.map(humantime::format_duration) {
                    Some(patience) => format!(
                        "Main has waited for the node for {patience} in this run; what has arrived stays, and the next \
                         run goes on from there"
                    ),
                    None => format!("the node has been silent for {:?}", self.timeout),
                };
                (NodeErrorKind::Timeout, detail)
            }
            FrameError::Io(error) => {
                let reason = match self.peer.ended().last_line() {
                    "" => error.to_string(),
                    line => check::text(line),
                };
                (NodeErrorKind::Lost, format!("the connection to the agent ended: {reason}"))
            }
            FrameError::Broken(rule) => (NodeErrorKind::Lost, format!("the node broke the protocol: {rule}")),
        };
        self.over.insert(NodeError::new(kind, detail)).clone()
    }

    /// Ends the session because of an error of this end.
    pub(super) fn abort(&mut self, error: &anyhow::Error) -> NodeError {
        let over = NodeError::new(NodeErrorKind::Lost, format!("Main gave up: {error:#}"));
        self.over.insert(over).clone()
    }
}
