//! Content on the way between Main and a node: counted, shown, and held to the bandwidth.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::node::{Endpoint, NodeError};
use crate::sync::lock;
use crate::transfer::{BlobRequest, Signature, Sink, Source};

/// Who is told of bytes on the way, for a bar on a terminal.
pub trait Progress: Sync {
    /// So many bytes more will move to or from a node.
    fn planned(&self, node: &str, bytes: u64);
    /// So many bytes have moved.
    fn moved(&self, node: &str, bytes: u64);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn planned(&self, _: &str, _: u64) {}
    fn moved(&self, _: &str, _: u64) {}
}

/// The bandwidth that all nodes share.
pub(super) struct Throttle {
    /// Bytes a second; `None`: unlimited.
    rate: Option<u64>,
    /// When the line is free again.
    free_at: Mutex<SystemTime>,
}

impl Throttle {
    pub(super) fn new(rate: Option<u64>) -> Throttle {
        Throttle { rate, free_at: Mutex::new(SystemTime::UNIX_EPOCH) }
    }

    /// How long `bytes` must wait at `now`. Whoever asks gets the next free slot, so nodes take turns.
    fn reserve(&self, now: SystemTime, bytes: usize) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let mut free_at = lock(&self.free_at);
        // A clock that was set back must not make the line wait for what it calls the future.
        let queued = free_at.duration_since(now).unwrap_or_default().min(MAX_QUEUE);
        *free_at = now + queued + takes;
        queued
    }
}

/// Longest queue of nodes for the line; each waits for the one chunk of every other.
const MAX_QUEUE: Duration = Duration::from_secs(60);

/// A source whose content crosses the wire.
pub(super) struct OnWire<'a> {
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

impl Source for OnWire<'_> {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        self.progress.planned(
            self.node,
            wanted.iter().map(|wanted| wanted.size - wanted.offset.min(wanted.size)).sum(),
        );
        let mut counted = Counted {
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

struct Counted<'a> {
    sink: &'a mut dyn Sink,
    node: &'a str,
    throttle: &'a Throttle,
    now: &'a (dyn Fn() -> SystemTime + Sync),
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    bytes: &'a mut u64,
}

impl Sink for Counted<'_> {
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

    /// Nothing but a few bytes crosses the wire.
    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        self.progress.moved(self.node, length);
        self.sink.copy(from, length)
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.sink.end(result)
    }
}

/// A host as a source of one directory's contents.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_while_the_line_is_busy_waits_for_its_turn() {
        let throttle = Throttle::new(Some(1000));
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(throttle.reserve(start, 500), Duration::ZERO);
        assert_eq!(throttle.reserve(start, 500), Duration::from_millis(500));
        assert_eq!(throttle.reserve(start + Duration::from_millis(250), 1), Duration::from_millis(750));
        assert_eq!(throttle.reserve(start + Duration::from_secs(9), 1), Duration::ZERO);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_line() {
        let throttle = Throttle::new(Some(1000));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(throttle.reserve(now, 1000), Duration::ZERO);
        assert_eq!(throttle.reserve(SystemTime::UNIX_EPOCH, 1000), MAX_QUEUE);
    }
}
