//! Main's frames: asking an agent, and waiting for its answer.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::banner;
use super::endpoint::{NodeError, NodeErrorKind};
use super::protocol::check;
use super::protocol::content::{Sender, StreamError};
use super::protocol::frame::{FrameError, Kind, decode, read_frame, write_value};
use super::protocol::handshake::{Hello, MainHello, Versions, decode_hello};
use super::protocol::message::{Reply, Request};
use super::protocol::pack::Packer;
use super::wire::Wire;
use crate::transfer::{BlobRequest, Signature, Source};

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

/// A session with an agent. The first error ends it, and answers whatever is asked afterwards.
pub(super) struct Link {
    // The stream is closed before the peer is dropped, so that the agent ends by itself.
    wire: Wire,
    peer: Box<dyn Peer>,
    timeout: Duration,
    /// When it was last asked, and how often it said since that it is at work.
    asked: Instant,
    alive: u32,
    over: Option<NodeError>,
    packer: Packer,
}

/// Keep-alives an agent may send at any time; beyond these, twice as many as it should since it was asked.
const FREE_ALIVES: u32 = 16;
/// An agent says that it is at work this often in a timeout.
const ALIVES: u32 = 4;

impl Link {
    /// Waits for the agent to begin, and greets it, within twice `timeout`. Returns its package's version
    /// as well.
    pub(super) fn meet(
        input: OwnedFd,
        output: OwnedFd,
        mut peer: Box<dyn Peer>,
        hello: &Hello,
        timeout: Duration,
    ) -> Result<(Link, String), NodeError> {
        let no_stream =
            |error| NodeError::new(NodeErrorKind::Lost, format!("no stream to the node: {error}"));
        let mut wire = Wire::new(input, output, timeout).map_err(no_stream)?;
        // However it drips: a node that has not got through this by then will not get through a run.
        wire.allow(Some(timeout.saturating_mul(2)));
        banner::skip(&mut wire, &mut *peer, timeout)?;
        let mut link = Link {
            wire,
            peer,
            timeout,
            asked: Instant::now(),
            alive: 0,
            over: None,
            packer: Packer::default(),
        };
        let version = link.greet(hello)?;
        link.wire.allow(None);
        Ok((link, version))
    }

    fn greet(&mut self, hello: &Hello) -> Result<String, NodeError> {
        let mut payload = Vec::new();
        let theirs = match self.next(&mut payload) {
            Ok(Kind::Hello) => decode_hello(&payload),
            Ok(kind) => Err(FrameError::broken(format!("a {kind:?} frame where a hello was due"))),
            Err(error) => Err(error),
        };
        let theirs: Versions = self.check(theirs)?;
        let version = Versions::common(&Versions::ours(), &theirs)?;
        let hello = MainHello {
            versions: Versions::ours(),
            hello: hello.clone(),
            timeout_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let welcomed = self.say(Kind::Hello, &hello).and_then(|()| self.hear());
        match self.check(welcomed)? {
            Reply::Welcome(chosen) if chosen == version => Ok(check::text(&theirs.package)),
            Reply::Welcome(chosen) => {
                let detail = format!("the node chose protocol {chosen} where both speak {version}");
                Err(NodeError::new(NodeErrorKind::Incompatible, detail))
            }
            other => self.refuse(&other, "a welcome"),
        }
    }

    /// One question and its answer.
    pub(super) fn ask(&mut self, request: &Request) -> Result<Reply, NodeError> {
        self.request(request)?;
        self.answer()
    }

    /// A question alone.
    pub(super) fn request(&mut self, request: &Request) -> Result<(), NodeError> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        self.wire.allow(None);
        let said = self.say(Kind::Request, request);
        self.check(said)
    }

    /// The answer, or the next one, to what was asked.
    pub(super) fn answer(&mut self) -> Result<Reply, NodeError> {
        let heard = self.hear();
        self.check(heard)
    }

    /// Answers the agent with contents; it has these basis of them.
    pub(super) fn give(
        &mut self,
        source: &mut dyn Source,
        wanted: &[BlobRequest],
        signatures: Vec<Option<Arc<Signature>>>,
    ) -> Result<(), NodeError> {
        let mut sender = Sender::new(&mut self.wire, &mut self.packer).with_signatures(signatures);
        let sent = source.send(wanted, &mut sender);
        match sender.finish(sent) {
            Ok(()) => {
                let flushed = self.wire.flush();
                self.check(flushed.map_err(FrameError::Io))
            }
            Err(StreamError::Frame(error)) => Err(self.fail(error)),
            Err(StreamError::Own(error)) => Err(self.stop(&error)),
        }
    }

    /// The next frame that is no keep-alive.
    pub(super) fn next(&mut self, payload: &mut Vec<u8>) -> Result<Kind, FrameError> {
        loop {
            let kind = read_frame(&mut self.wire, payload)?
                .ok_or_else(|| FrameError::Io(io::ErrorKind::UnexpectedEof.into()))?;
            match kind {
                Kind::Alive => self.count_alive()?,
                Kind::Failed => {
                    let error: NodeError = decode(kind, payload)?;
                    self.over = Some(NodeError::new(error.kind, check::text(&error.detail)));
                    return Err(FrameError::broken("the agent gave up"));
                }
                kind => return Ok(kind),
            }
        }
    }

    fn count_alive(&mut self) -> Result<(), FrameError> {
        self.alive += 1;
        let timeouts = self.asked.elapsed().as_secs_f64() / self.timeout.as_secs_f64();
        if f64::from(self.alive) > f64::from(FREE_ALIVES) + f64::from(2 * ALIVES) * timeouts {
            return Err(FrameError::broken("a flood of keep-alives"));
        }
        Ok(())
    }

    fn say<T: Serialize>(&mut self, kind: Kind, value: &T) -> Result<(), FrameError> {
        self.asked = Instant::now();
        self.alive = 0;
        Ok(write_value(&mut self.wire, kind, value)?)
    }

    fn hear(&mut self) -> Result<Reply, FrameError> {
        let mut payload = Vec::new();
        match self.next(&mut payload)? {
            Kind::Reply => decode(Kind::Reply, &payload),
            kind => Err(FrameError::broken(format!("a {kind:?} frame where an answer was due"))),
        }
    }

    /// An answer that was not asked for.
    pub(super) fn refuse<T>(&mut self, reply: &Reply, due: &str) -> Result<T, NodeError> {
        Err(self.fail(FrameError::broken(format!("{} where {due} was due", reply.name()))))
    }

    /// Ends the session unless this is right.
    pub(super) fn check<T>(&mut self, checked: Result<T, FrameError>) -> Result<T, NodeError> {
        checked.map_err(|error| self.fail(error))
    }

    /// Ends the session, and says why.
    pub(super) fn fail(&mut self, error: FrameError) -> NodeError {
        // That Main can write no more says less than what the agent said before it ended.
        if matches!(&error, FrameError::Io(error) if error.kind() != io::ErrorKind::TimedOut) {
            self.wire.allow(Some(self.timeout));
            let mut payload = Vec::new();
            while self.over.is_none() && self.next(&mut payload).is_ok() {}
        }
        if let Some(over) = &self.over {
            return over.clone();
        }
        let (kind, detail) = match error {
            FrameError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                (NodeErrorKind::Timeout, format!("the node has been silent for {:?}", self.timeout))
            }
            FrameError::Io(error) => {
                let words = match self.peer.ended().last_line() {
                    "" => error.to_string(),
                    words => check::text(words),
                };
                (NodeErrorKind::Lost, format!("the connection to the agent ended: {words}"))
            }
            FrameError::Broken(rule) => (NodeErrorKind::Lost, format!("the node broke the protocol: {rule}")),
        };
        self.over.insert(NodeError::new(kind, detail)).clone()
    }

    /// Ends the session because this end cannot go on.
    pub(super) fn stop(&mut self, error: &anyhow::Error) -> NodeError {
        let over = NodeError::new(NodeErrorKind::Lost, format!("Main gave up: {error:#}"));
        self.over.insert(over).clone()
    }
}
