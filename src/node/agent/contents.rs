//! Main as the host behind an agent sees it: a source and a sink of blobs.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::error::lost;
use crate::model::{Digest, RelPath};
use crate::node::error::{NodeError, NodeErrorKind};
use crate::node::heartbeat::Heartbeat;
use crate::node::protocol::content::{self, Sender, StreamError};
use crate::node::protocol::frame::{FrameError, Kind, read_frame, write_value};
use crate::node::protocol::limits::MAX_DATA;
use crate::node::protocol::message::{Need, Reply};
use crate::node::protocol::pack::Packer;
use crate::transfer::{BlobRequest, Signature, Sink, Source};

/// Blobs that Main has.
pub(super) struct FromMain<'a, W> {
    /// The index of each blob in Main's offer, by path and digest.
    offered: HashMap<(&'a RelPath, Digest), u32>,
    input: &'a mut dyn Read,
    heartbeat: &'a Heartbeat<'a, W>,
    /// Why the session has to end, whatever the host makes of it.
    pub(super) failed: Option<NodeError>,
}

impl<'a, W: Write> FromMain<'a, W> {
    pub(super) fn new(
        wanted: &'a [BlobRequest],
        input: &'a mut dyn Read,
        heartbeat: &'a Heartbeat<'a, W>,
    ) -> FromMain<'a, W> {
        let offered = wanted.iter().map(|blob| (&*blob.path, blob.digest)).zip(0..).collect();
        FromMain { offered, input, heartbeat, failed: None }
    }

    fn receive(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> Result<(), StreamError> {
        let needs: Option<Vec<Need>> = wanted
            .iter()
            .enumerate()
            .map(|(at, blob)| {
                let index = self.offered.get(&(&*blob.path, blob.digest))?;
                Some(Need { index: *index, offset: blob.offset, basis: sink.basis(at) })
            })
            .collect();
        let needs =
            needs.ok_or_else(|| anyhow::anyhow!("the host wants a blob that Main has not offered"))?;
        {
            let mut output = self.heartbeat.output();
            write_value(&mut *output, Kind::Reply, &Reply::Need(needs))
                .and_then(|()| output.flush())
                .map_err(FrameError::Io)?;
        }
        content::receive(wanted, sink, &mut |payload| {
            self.heartbeat.count_progress();
            read_frame(self.input, payload)?
                .ok_or_else(|| FrameError::Io(io::ErrorKind::UnexpectedEof.into()))
        })
    }
}

impl<W: Write> Source for FromMain<'_, W> {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        match self.receive(wanted, sink) {
            Ok(()) => Ok(()),
            Err(StreamError::Own(error)) => {
                // Main goes on sending blobs where an answer of this end would have to be: there is no way back.
                let detail = format!("the node cannot receive files: {error:#}");
                self.failed = Some(NodeError::new(NodeErrorKind::Lost, detail));
                Err(error)
            }
            Err(StreamError::Frame(error)) => {
                let failed = lost(error);
                self.failed = Some(failed.clone());
                Err(failed.into())
            }
        }
    }
}

/// Blobs for Main. The output is locked for one frame at a time, so that keep-alives come in between.
pub(super) struct ToMain<'a, W> {
    heartbeat: &'a Heartbeat<'a, W>,
    packer: Packer,
    /// The signature of the basis that Main has of each blob; shorter where it has none.
    signatures: Vec<Option<Arc<Signature>>>,
    /// Why nothing more can be sent.
    pub(super) failed: Option<FrameError>,
}

impl<'a, W: Write> ToMain<'a, W> {
    pub(super) fn new(heartbeat: &'a Heartbeat<'a, W>) -> ToMain<'a, W> {
        ToMain { heartbeat, packer: Packer::default(), signatures: Vec::new(), failed: None }
    }

    /// For a Main that has bases with these signatures, by the index of the blob.
    pub(super) fn with_signatures(self, signatures: Vec<Option<Arc<Signature>>>) -> ToMain<'a, W> {
        ToMain { signatures, ..self }
    }
}

impl<W: Write> ToMain<'_, W> {
    fn with(&mut self, send: impl FnOnce(&mut Sender<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.heartbeat.count_progress();
        let mut output = self.heartbeat.output();
        let mut sender = Sender::new(&mut *output, &mut self.packer);
        let sent = send(&mut sender);
        match sender.finish(sent) {
            Ok(()) => Ok(()),
            Err(StreamError::Own(error)) => Err(error),
            Err(StreamError::Frame(error)) => {
                self.failed = Some(error);
                Err(anyhow::anyhow!("Main is gone"))
            }
        }
    }
}

impl<W: Write> Sink for ToMain<'_, W> {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        self.with(|sender| sender.begin(index))
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        bytes.chunks(MAX_DATA).try_for_each(|piece| self.with(|sender| sender.data(piece)))
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.with(|sender| sender.hole(length))
    }

    fn basis(&self, index: usize) -> Option<Arc<Signature>> {
        self.signatures.get(index)?.clone()
    }

    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        self.with(|sender| sender.copy(from, length))
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.with(|sender| sender.end(result))
    }
}
