//! A changed file as chunks, so that only those cross the wire which its basis has not.
//!
//! Files are cut where their content says so (FastCDC: Xia et al., IEEE TPDS 2020): what was inserted or
//! removed moves the cuts behind it along with the content. Two ends that cut differently send more than
//! they must, and nothing wrong: the whole content is verified in any case.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use fastcdc::v2020::AVERAGE_MAX;
use serde::{Deserialize, Serialize};

use super::chunker::{Chunk, SEGMENT, cut, cut_bytes, longest};
use super::read::{Broken, Part, stream};
use super::{BlobRequest, Sink};

/// Smaller files are sent faster than they are compared.
const LEAST_SIZE: u64 = 1 << 20;
/// The same for bytes in memory, which cost no reading.
const LEAST_BYTES: usize = 32 * 1024;
/// A file that has grown by more than this factor is cut into longer chunks than its basis was, and so sent whole: all
/// its chunks are held in memory.
const MOST_GROWTH: usize = 64;
/// About so many chunks has a large file: 160 KB that cross the wire, and a change of one byte costs a
/// four-thousandth of the file.
const CHUNKS: u64 = 8 * 1024;
/// Smallest average length of a chunk: below, a chunk costs more than it saves.
const LEAST_AVERAGE: usize = 4 * 1024;
/// Most chunks of one file, whatever its content: none but the last of each segment of the largest file is shorter
/// than a quarter of the average.
const MAX_CHUNKS: usize = (4 * CHUNKS + CHUNKS * AVERAGE_MAX as u64 / SEGMENT + 1) as usize;
/// Most signatures in one message: with the most chunks that a file may have, so many fit.
pub const MAX_BASES: usize = 8;
/// Most bytes of the basis that are copied in one go, so that the sink reports progress in between.
const MOST_COPIED: u64 = 8 << 20;

/// A file as chunks, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Their average length in bytes, by which the file was cut.
    average: u32,
    chunks: Vec<Chunk>,
}

/// Whether files of these sizes are worth comparing.
pub(super) fn is_worth_it(basis: u64, size: u64) -> bool {
    basis >= LEAST_SIZE && size >= LEAST_SIZE && average_of(basis) <= AVERAGE_MAX
}

fn average_of(size: u64) -> usize {
    usize::try_from(size / CHUNKS)
        .unwrap_or(usize::MAX)
        .max(LEAST_AVERAGE)
        .checked_next_power_of_two()
        .unwrap_or(usize::MAX)
}

impl Signature {
    /// That of a file of `size` bytes; `None` where it cannot be read. `progress` grows meanwhile.
    pub(super) fn of(file: &File, size: u64, progress: &AtomicU64) -> Option<Signature> {
        let average = average_of(size);
        let chunks = cut(file, 0..size, average, progress).ok()?;
        Some(Signature { average: u32::try_from(average).ok()?, chunks })
    }

    /// That of bytes in memory; `None` where there are too few to be worth it.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Signature> {
        let average = average_of(bytes.len() as u64);
        let chunks = (bytes.len() >= LEAST_BYTES).then(|| cut_bytes(bytes, average).ok())??;
        Some(Signature { average: u32::try_from(average).ok()?, chunks })
    }

    /// Whether it can be that of a file: a peer may send anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let average = self.average as usize;
        average.is_power_of_two()
            && (LEAST_AVERAGE..=AVERAGE_MAX).contains(&average)
            && self.chunks.len() <= MAX_CHUNKS
            && self.chunks.iter().all(|chunk| (1..=longest(average)).contains(&(chunk.length as usize)))
            && average_of(self.length()) == average
    }

    /// Most bytes of a sound one in a message: of each chunk the digest, and its length as a number of up to 28 bits.
    pub const MAX_ENCODED: usize = 16 + MAX_CHUNKS * (16 + 4);

    /// Length of the file in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum()
    }

    /// By which a later version of so many bytes is cut.
    fn average_for(&self, size: u64) -> usize {
        (self.average as usize).max(average_of(size) / MOST_GROWTH).min(AVERAGE_MAX)
    }

    /// Where each is: offset and length.
    fn places(&self) -> HashMap<[u8; 16], (u64, u64)> {
        let mut at = 0;
        let mut places = HashMap::with_capacity(self.chunks.len());
        for chunk in &self.chunks {
            let length = u64::from(chunk.length);
            places.insert(chunk.digest, (at, length));
            at += length;
        }
        places
    }

    /// Streams a file from the offset of `request` on: what these chunks have as a copy of theirs.
    pub(super) fn send(&self, file: &File, request: &BlobRequest, sink: &mut dyn Sink) -> Result<(), Broken> {
        let part = request.offset.min(request.size)..request.size;
        let chunks = cut(file, part.clone(), self.average_for(request.size), &AtomicU64::new(0))?;
        for extent in self.extents(part.start, &chunks) {
            match extent {
                Extent::Copy { from, length } => sink.copy(from, length).map_err(Broken::Sink)?,
                Extent::New(new) => stream(file, new.start, new.end, &mut |part| match part {
                    Part::Data(bytes) => sink.data(bytes).map_err(Broken::Sink),
                    Part::Hole(length) => sink.hole(length).map_err(Broken::Sink),
                })?,
            }
        }
        Ok(())
    }

    /// Gives bytes in memory in the same way.
    fn send_bytes(&self, bytes: &[u8], sink: &mut dyn Sink) -> anyhow::Result<()> {
        let chunks = cut_bytes(bytes, self.average_for(bytes.len() as u64))?;
        for extent in self.extents(0, &chunks) {
            match extent {
                Extent::Copy { from, length } => sink.copy(from, length)?,
                // All of it is in memory, so that its offsets are numbers of this machine.
                Extent::New(new) => {
                    sink.data(&bytes[usize::try_from(new.start)?..usize::try_from(new.end)?])?;
                }
            }
        }
        Ok(())
    }

    /// A later version, of which `chunks` are those from `start` on: what of it is here, and what is new.
    fn extents(&self, start: u64, chunks: &[Chunk]) -> Vec<Extent> {
        let places = self.places();
        let mut extents = Vec::new();
        let mut at = start;
        for chunk in chunks {
            let size = u64::from(chunk.length);
            let found = places.get(&chunk.digest).filter(|(_, length)| *length == size);
            match (extents.last_mut(), found) {
                // Chunks that follow each other in both versions are copied in one go.
                (Some(Extent::Copy { from, length }), Some((next, _)))
                    if *from + *length == *next && *length < MOST_COPIED =>
                {
                    *length += size;
                }
                (_, Some((from, _))) => extents.push(Extent::Copy { from: *from, length: size }),
                (Some(Extent::New(new)), None) => new.end = at + size,
                (_, None) => extents.push(Extent::New(at..at + size)),
            }
            at += size;
        }
        extents
    }
}

/// A segment of a later version.
enum Extent {
    /// Bytes of the basis.
    Copy { from: u64, length: u64 },
    /// Bytes of its own.
    New(Range<u64>),
}

/// Sends bytes in memory as the blob of index 0: what the sink has of a basis as a copy of that.
pub fn send_bytes(bytes: &[u8], sink: &mut dyn Sink) -> anyhow::Result<()> {
    sink.begin(0)?;
    match sink.basis(0) {
        Some(basis) => basis.send_bytes(bytes, sink)?,
        None => sink.data(bytes)?,
    }
    sink.end(Ok(()))
}
