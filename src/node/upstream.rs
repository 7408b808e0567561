//! Main as an agent's endpoint sees it: a source and a sink of contents.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::agent::lost;
use super::endpoint::{NodeError, NodeErrorKind};
use super::protocol::content::{self, Sender, StreamError};
use super::protocol::frame::{FrameError, Kind, MAX_DATA, read_frame, write_value};
use super::protocol::message::{Need, Reply};
use super::protocol::pack::Packer;
use super::pulse::Pulse;
use crate::model::{Digest, RelPath};
use crate::transfer::{BlobRequest, Signature, Sink, Source};

/// Contents that Main has.
pub(super) struct FromMain<'a, W> {
    /// Which of the wanted that Main offered has this path and content.
    offered: HashMap<(&'a RelPath, Digest), u32>,
    input: &'a mut dyn Read,
    pulse: &'a Pulse<'a, W>,
    /// Why the session is to end, whatever the endpoint makes of it.
    pub(super) failed: Option<NodeError>,
}

impl<'a, W: Write> FromMain<'a, W> {
    pub(super) fn new(
        wanted: &'a [BlobRequest],
        input: &'a mut dyn Read,
        pulse: &'a Pulse<'a, W>,
    ) -> FromMain<'a, W> {
        let key = |content: &'a BlobRequest| (&*content.path, content.digest);
        let offered = wanted.iter().map(key).zip(0..).collect();
        FromMain { offered, input, pulse, failed: None }
    }

    fn receive(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> Result<(), StreamError> {
        let need = |(at, content): (usize, &BlobRequest)| {
            let index = self.offered.get(&(&*content.path, content.digest))?;
            Some(Need { index: *index, offset: content.offset, basis: sink.basis(at) })
        };
        let needs: Option<Vec<Need>> = wanted.iter().enumerate().map(need).collect();
        let needs = needs.ok_or_else(|| anyhow::anyhow!("Main has not offered what is wanted"))?;
        {
            let mut output = self.pulse.output();
            write_value(&mut *output, Kind::Reply, &Reply::Need(needs))
                .and_then(|()| output.flush())
                .map_err(FrameError::Io)?;
        }
        content::receive(wanted, sink, &mut |payload| {
            self.pulse.progress();
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
                // Main is in the middle of sending: what follows cannot be understood any more.
                let detail = format!("the node cannot take contents: {error:#}");
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

/// Contents for Main. Each frame has the output for itself, so that keep-alives come between.
pub(super) struct ToMain<'a, W> {
    pulse: &'a Pulse<'a, W>,
    packer: Packer,
    /// What Main has of a basis of each file that it asked for; shorter where it has none.
    signatures: Vec<Option<Arc<Signature>>>,
    /// Why Main gets no more.
    pub(super) failed: Option<FrameError>,
}

impl<'a, W: Write> ToMain<'a, W> {
    pub(super) fn new(pulse: &'a Pulse<'a, W>) -> ToMain<'a, W> {
        ToMain { pulse, packer: Packer::default(), signatures: Vec::new(), failed: None }
    }

    /// For a Main that has these bases.
    pub(super) fn with_signatures(self, signatures: Vec<Option<Arc<Signature>>>) -> ToMain<'a, W> {
        ToMain { signatures, ..self }
    }
}

impl<W: Write> ToMain<'_, W> {
    fn with(&mut self, send: impl FnOnce(&mut Sender<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.pulse.progress();
        let mut output = self.pulse.output();
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
