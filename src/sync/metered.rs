//! Blobs on their way between Main and a node: counted, shown, and held to the bandwidth.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::node::{Endpoint, NodeError};
use crate::sync::Run;
use crate::sync::throttle::Throttle;
use crate::transfer::{BlobRequest, Signature, Sink, Source};

/// What a host is doing in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Main waits for an answer, or for its turn: only so many nodes are worked with at once.
    Connecting,
    /// It looks at its directories.
    Scanning,
    /// What differs is being brought in step.
    Working,
    /// It waits for other nodes, with which two-way directories are planned.
    Waiting,
    /// Its Asterisk is loading.
    Reloading,
    /// Its part is over, whether it went well or not.
    Done,
}

/// Follows a run on its way, for who waits for it. All of it is plain data, so that it can be passed on.
pub trait Progress: Sync {
    /// A host, Main or a node, begins with something else.
    fn at(&self, host: &str, phase: Phase);
    /// So many bytes more will move to or from a node.
    fn planned(&self, node: &str, bytes: u64);
    /// So many bytes have moved.
    fn moved(&self, node: &str, bytes: u64);
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn at(&self, _: &str, _: Phase) {}
    fn planned(&self, _: &str, _: u64) {}
    fn moved(&self, _: &str, _: u64) {}
}

/// A source whose blobs cross the wire.
pub(super) struct Metered<'a> {
    pub(super) source: &'a mut dyn Source,
    pub(super) node: &'a str,
    pub(super) throttle: &'a Throttle,
    pub(super) now: &'a (dyn Fn() -> SystemTime + Sync),
    pub(super) progress: &'a dyn Progress,
    /// Set when a signal asks the run to end: what is staged by then stays, and the next run goes on there.
    pub(super) stop: &'a AtomicBool,
    /// Bytes so far.
    pub(super) bytes: u64,
}

impl<'a> Metered<'a> {
    /// The blobs of `source` on their way to or from a node of this run.
    pub(super) fn new(run: &'a Run<'_>, node: &'a str, source: &'a mut dyn Source) -> Metered<'a> {
        Metered {
            source,
            node,
            throttle: run.throttle,
            now: run.env.now,
            progress: run.env.progress,
            stop: run.env.stop,
            bytes: 0,
        }
    }
}

impl Source for Metered<'_> {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        self.progress.planned(
            self.node,
            wanted.iter().map(|wanted| wanted.size - wanted.offset.min(wanted.size)).sum(),
        );
        let mut counted = MeteredSink {
            sink,
            node: self.node,
            throttle: self.throttle,
            now: self.now,
            progress: self.progress,
            stop: self.stop,
            bytes: &mut self.bytes,
        };
        self.source.send(wanted, &mut counted)
    }
}

struct MeteredSink<'a> {
    sink: &'a mut dyn Sink,
    node: &'a str,
    throttle: &'a Throttle,
    now: &'a (dyn Fn() -> SystemTime + Sync),
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    bytes: &'a mut u64,
}

impl Sink for MeteredSink<'_> {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        self.sink.begin(index)
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            anyhow::bail!("interrupted by a signal");
        }
        thread::sleep(self.throttle.reserve((self.now)(), bytes.len()));
        self.sink.data(bytes)?;
        *self.bytes += bytes.len() as u64;
        self.progress.moved(self.node, bytes.len() as u64);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.progress.moved(self.node, length);
        self.sink.hole(length)
    }

    fn basis(&self, index: usize) -> Option<Arc<Signature>> {
        self.sink.basis(index)
    }

    /// A copy of the basis: only its place and length cross the wire.
    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        self.progress.moved(self.node, length);
        self.sink.copy(from, length)
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.sink.end(result)
    }
}

/// A host as a source of one directory's blobs.
pub(super) struct FromEndpoint<'a> {
    pub(super) endpoint: &'a mut dyn Endpoint,
    pub(super) directory: &'a str,
    /// Why the host was lost, when it was.
    pub(super) lost: Option<NodeError>,
}

impl Source for FromEndpoint<'_> {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        self.endpoint.send(self.directory, wanted, sink).map_err(|error| {
            self.lost = Some(error.clone());
            error.into()
        })
    }
}
