//! File contents on the wire, in either direction: for each blob that is wanted `Begin`, any number of `Data`,
//! `Packed`, `Hole` and `Copy`, and `End`.

use std::io::{self, Write};
use std::sync::Arc;

use super::check;
use super::frame::{FrameError, Kind, decode, write_frame, write_value};
use super::limits::MAX_DATA;
use super::pack::{Packer, unpack};
use crate::transfer::{BlobRequest, Signature, Sink};

/// Why not all blobs were transferred.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// The stream failed, or the peer broke the protocol.
    Frame(FrameError),
    /// This end's own source or sink failed.
    Own(anyhow::Error),
}

impl From<FrameError> for StreamError {
    fn from(error: FrameError) -> StreamError {
        StreamError::Frame(error)
    }
}

impl From<anyhow::Error> for StreamError {
    fn from(error: anyhow::Error) -> StreamError {
        StreamError::Own(error)
    }
}

/// A sink that sends blobs to the peer.
pub(crate) struct Sender<'a> {
    output: &'a mut dyn Write,
    packer: &'a mut Packer,
    /// The signature of the basis that the receiver has, by the index of the blob.
    signatures: Vec<Option<Arc<Signature>>>,
    /// Why the stream has failed: the source passes on only that it did.
    failed: Option<io::Error>,
}

impl<'a> Sender<'a> {
    pub(crate) fn new(output: &'a mut dyn Write, packer: &'a mut Packer) -> Sender<'a> {
        Sender { output, packer, signatures: Vec::new(), failed: None }
    }

    /// For a receiver that has a basis with these signatures.
    pub(crate) fn with_signatures(self, signatures: Vec<Option<Arc<Signature>>>) -> Sender<'a> {
        Sender { signatures, ..self }
    }

    /// To be called when the source has returned. Tells errors of the stream from those of the source.
    pub(crate) fn finish(self, sent: anyhow::Result<()>) -> Result<(), StreamError> {
        match self.failed {
            Some(failed) => Err(FrameError::Io(failed).into()),
            None => Ok(sent?),
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
        write(self.output).map_err(|error| {
            self.failed = Some(error);
            anyhow::anyhow!("the stream has failed")
        })
    }
}

impl Sink for Sender<'_> {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        self.write(|output| write_value(output, Kind::Begin, &(index as u64)))
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        bytes.chunks(MAX_DATA).try_for_each(|piece| match self.packer.pack(piece) {
            Some(packed) => self.write(|output| write_frame(output, Kind::Packed, &packed)),
            None => self.write(|output| write_frame(output, Kind::Data, piece)),
        })
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.write(|output| write_value(output, Kind::Hole, &length))
    }

    fn basis(&self, index: usize) -> Option<Arc<Signature>> {
        self.signatures.get(index)?.clone()
    }

    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        self.write(|output| write_value(output, Kind::Copy, &(from, length)))
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.write(|output| write_value(output, Kind::End, &result.map_err(check::clip)))
    }
}

/// Receives every blob that is wanted, in order, into `sink`; `next` reads a frame. A peer that sends others,
/// or more bytes than they have, breaks the protocol.
pub(crate) fn receive(
    wanted: &[BlobRequest],
    sink: &mut dyn Sink,
    next: &mut dyn FnMut(&mut Vec<u8>) -> Result<Kind, FrameError>,
) -> Result<(), StreamError> {
    for (index, wanted) in wanted.iter().enumerate() {
        let size = wanted.size.saturating_sub(wanted.offset);
        receive_one(index, size, &|| wanted.path.for_people().to_string(), sink, next)?;
    }
    Ok(())
}

/// Reads the frame that begins the blob with this index.
fn expect_begin(
    index: usize,
    payload: &mut Vec<u8>,
    next: &mut dyn FnMut(&mut Vec<u8>) -> Result<Kind, FrameError>,
) -> Result<(), StreamError> {
    let expected = format!("expected the begin of blob {index}");
    let kind = next(payload)?;
    if kind != Kind::Begin {
        return Err(FrameError::broken(format!("{expected}, got a {kind:?} frame")).into());
    }
    let begun: u64 = decode(kind, payload)?;
    if begun != index as u64 {
        return Err(FrameError::broken(format!("{expected}, got that of {begun}")).into());
    }
    Ok(())
}

/// Receives one blob of at most `size` bytes; `name` is for people.
pub(crate) fn receive_one(
    index: usize,
    size: u64,
    name: &dyn Fn() -> String,
    sink: &mut dyn Sink,
    next: &mut dyn FnMut(&mut Vec<u8>) -> Result<Kind, FrameError>,
) -> Result<(), StreamError> {
    let mut payload = Vec::new();
    expect_begin(index, &mut payload, next)?;
    sink.begin(index)?;
    let basis = sink.basis(index).map_or(0, |basis| basis.length());
    let mut left = size;
    let mut take = |length: u64| {
        left = left
            .checked_sub(length)
            .filter(|_| length > 0)
            .ok_or_else(|| FrameError::broken(format!("more bytes than {} has", name())))?;
        Ok::<(), FrameError>(())
    };
    loop {
        let kind = next(&mut payload)?;
        match kind {
            Kind::Data => {
                take(payload.len() as u64)?;
                sink.data(&payload)?;
            }
            Kind::Packed => {
                let bytes = unpack(&payload).map_err(|error| {
                    FrameError::broken(format!("packed data that cannot be unpacked: {error}"))
                })?;
                take(bytes.len() as u64)?;
                sink.data(&bytes)?;
            }
            Kind::Hole => {
                let length = decode(kind, &payload)?;
                take(length)?;
                sink.hole(length)?;
            }
            Kind::Copy => {
                let (from, length): (u64, u64) = decode(kind, &payload)?;
                if from.checked_add(length).is_none_or(|end| end > basis) {
                    return Err(FrameError::broken("a copy from beyond the end of the basis").into());
                }
                take(length)?;
                sink.copy(from, length)?;
            }
            Kind::End => {
                let result: Result<(), String> = decode(kind, &payload)?;
                return Ok(sink.end(result.map_err(|why| check::text(&why)))?);
            }
            _ => {
                return Err(FrameError::broken(format!(
                    "expected more of a blob or its end, got a {kind:?} frame"
                ))
                .into());
            }
        }
    }
}
