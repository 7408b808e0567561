//! A changed file as pieces, so that only those cross the wire which its former version has not.
//!
//! Files are cut where their content says so (FastCDC: Xia et al., IEEE TPDS 2020): what was inserted or
//! removed moves the cuts behind it along with the content. Two ends that cut differently send more than
//! they must, and nothing wrong: the whole content is verified in any case.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use fastcdc::v2020::AVERAGE_MAX;
use serde::{Deserialize, Serialize};

use super::cut::{STRETCH, cut, cut_bytes};
use super::source::{Broken, Part, stream};
use super::{Sink, Wanted};

/// Smaller files are sooner sent than compared.
const LEAST_SIZE: u64 = 1 << 20;
/// The same for bytes in memory, which cost no reading.
const LEAST_BYTES: usize = 32 * 1024;
/// What has grown beyond that is cut into longer pieces than its former version was, and so sent whole: whoever cuts
/// holds all pieces.
const MOST_GROWTH: usize = 64;
/// About so many pieces has a large file: 160 KB that cross the wire, and a change of one byte costs a
/// four-thousandth of the file.
const PIECES: u64 = 8 * 1024;
/// Smallest average length of a piece: below, a piece costs more than it saves.
const LEAST_AVERAGE: usize = 4 * 1024;
/// Most pieces of one file, whatever its content: none but the last of each stretch of the largest file is shorter
/// than a quarter of the average.
const MOST_PIECES: usize = (4 * PIECES + PIECES * AVERAGE_MAX as u64 / STRETCH + 1) as usize;
/// Most bytes of the former version in one go, so that whoever copies them can say that it lives.
const MOST_COPIED: u64 = 8 << 20;

/// A file as pieces, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pieces {
    /// Their average length in bytes, by which the file was cut.
    average: u32,
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    length: u32,
    /// The first half of its BLAKE3 digest. Two pieces with the same one would only be found out when the
    /// whole is verified.
    digest: [u8; 16],
}

/// Whether files of these sizes are worth comparing.
pub(super) fn is_worth_it(former: u64, size: u64) -> bool {
    former >= LEAST_SIZE && size >= LEAST_SIZE && average_of(former) <= AVERAGE_MAX
}

fn average_of(size: u64) -> usize {
    usize::try_from(size / PIECES)
        .unwrap_or(usize::MAX)
        .max(LEAST_AVERAGE)
        .checked_next_power_of_two()
        .unwrap_or(usize::MAX)
}

impl Piece {
    pub(super) fn of(bytes: &[u8]) -> io::Result<Piece> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        Ok(Piece { length, digest })
    }
}

impl Pieces {
    /// Those of a file of `size` bytes; `None` where it cannot be read. `progress` grows meanwhile.
    pub(super) fn of(file: &File, size: u64, progress: &AtomicU64) -> Option<Pieces> {
        let average = average_of(size);
        let pieces = cut(file, 0..size, average, progress).ok()?;
        Some(Pieces { average: u32::try_from(average).ok()?, pieces })
    }

    /// Those of bytes in memory; `None` where there are too few to be worth it.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Pieces> {
        let average = average_of(bytes.len() as u64);
        let pieces = (bytes.len() >= LEAST_BYTES).then(|| cut_bytes(bytes, average).ok())??;
        Some(Pieces { average: u32::try_from(average).ok()?, pieces })
    }

    /// Whether they can be those of a file: a peer may send anything.
    #[must_use]
    pub fn are_sound(&self) -> bool {
        let average = self.average as usize;
        average.is_power_of_two()
            && (LEAST_AVERAGE..=AVERAGE_MAX).contains(&average)
            && self.pieces.len() <= MOST_PIECES
            && average_of(self.length()) == average
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.length)).sum()
    }

    /// By which a later version of so many bytes is cut.
    fn average_for(&self, size: u64) -> usize {
        (self.average as usize).max(average_of(size) / MOST_GROWTH).min(AVERAGE_MAX)
    }

    /// Where each is: offset and length.
    fn places(&self) -> HashMap<[u8; 16], (u64, u64)> {
        let mut at = 0;
        let mut places = HashMap::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let length = u64::from(piece.length);
            places.insert(piece.digest, (at, length));
            at += length;
        }
        places
    }

    /// Streams a file from the offset of `wanted` on: what these pieces have as a copy of theirs.
    pub(super) fn send(&self, file: &File, wanted: &Wanted, sink: &mut dyn Sink) -> Result<(), Broken> {
        let part = wanted.offset.min(wanted.size)..wanted.size;
        let pieces = cut(file, part.clone(), self.average_for(wanted.size), &AtomicU64::new(0))?;
        for run in self.runs(part.start, &pieces) {
            match run {
                Run::Copy { from, length } => sink.copy(from, length).map_err(Broken::Sink)?,
                Run::New(new) => stream(file, new.start, new.end, &mut |part| match part {
                    Part::Data(bytes) => sink.data(bytes).map_err(Broken::Sink),
                    Part::Hole(length) => sink.hole(length).map_err(Broken::Sink),
                })?,
            }
        }
        Ok(())
    }

    /// Gives bytes in memory in the same way.
    fn send_bytes(&self, bytes: &[u8], sink: &mut dyn Sink) -> anyhow::Result<()> {
        let pieces = cut_bytes(bytes, self.average_for(bytes.len() as u64))?;
        for run in self.runs(0, &pieces) {
            match run {
                Run::Copy { from, length } => sink.copy(from, length)?,
                // All of it is in memory, so that its offsets are numbers of this machine.
                Run::New(new) => sink.data(&bytes[usize::try_from(new.start)?..usize::try_from(new.end)?])?,
            }
        }
        Ok(())
    }

    /// A later version, of which `pieces` are those from `start` on: what of it is here, and what is new.
    fn runs(&self, start: u64, pieces: &[Piece]) -> Vec<Run> {
        let places = self.places();
        let mut runs = Vec::new();
        let mut at = start;
        for piece in pieces {
            let size = u64::from(piece.length);
            let found = places.get(&piece.digest).filter(|(_, length)| *length == size);
            match (runs.last_mut(), found) {
                // Pieces that follow each other in both versions are copied in one go.
                (Some(Run::Copy { from, length }), Some((next, _)))
                    if *from + *length == *next && *length < MOST_COPIED =>
                {
                    *length += size;
                }
                (_, Some((from, _))) => runs.push(Run::Copy { from: *from, length: size }),
                (Some(Run::New(new)), None) => new.end = at + size,
                (_, None) => runs.push(Run::New(at..at + size)),
            }
            at += size;
        }
        runs
    }
}

/// A stretch of a later version.
enum Run {
    /// Bytes of the former version.
    Copy { from: u64, length: u64 },
    /// Bytes of its own.
    New(Range<u64>),
}

/// Gives bytes in memory as the content of index 0: what the sink has of a former version as a copy of that.
pub fn send_bytes(bytes: &[u8], sink: &mut dyn Sink) -> anyhow::Result<()> {
    sink.begin(0)?;
    match sink.former(0) {
        Some(former) => former.send_bytes(bytes, sink)?,
        None => sink.data(bytes)?,
    }
    sink.end(Ok(()))
}
