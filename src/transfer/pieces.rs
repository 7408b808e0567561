//! A changed file as pieces, so that only those cross the wire which its former version has not.
//!
//! Files are cut where their content says so (FastCDC: Xia et al., IEEE TPDS 2020): what was inserted or
//! removed moves the cuts behind it along with the content. Two ends that cut differently send more than
//! they must, and nothing wrong: the whole content is verified in any case.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use fastcdc::v2020::AVERAGE_MAX;
use serde::{Deserialize, Serialize};

use super::cut::{STRETCH, cut};
use super::source::{Broken, Part, stream};
use super::{Sink, Wanted};

/// Smaller files are sooner sent than compared.
const LEAST_SIZE: u64 = 1 << 20;
/// About so many pieces has a large file: 160 KB that cross the wire, and a change of one byte costs a
/// four-thousandth of the file.
const PIECES: u64 = 8 * 1024;
/// Smallest average length of a piece: below, a piece costs more than it saves.
const LEAST_AVERAGE: usize = 16 * 1024;
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
        let places = self.places();
        let part = wanted.offset.min(wanted.size)..wanted.size;
        let mut at = part.start;
        let pieces = cut(file, part, self.average as usize, &AtomicU64::new(0))?;
        // Pieces that follow each other in both versions are copied in one go.
        let mut copy: Option<(u64, u64)> = None;
        for piece in pieces {
            let end = at + u64::from(piece.length);
            let found = places.get(&piece.digest).filter(|(_, length)| *length == u64::from(piece.length));
            copy = match (copy, found) {
                (Some((from, copied)), Some((next, length)))
                    if from + copied == *next && copied < MOST_COPIED =>
                {
                    Some((from, copied + length))
                }
                (before, found) => {
                    if let Some((from, length)) = before {
                        sink.copy(from, length).map_err(Broken::Sink)?;
                    }
                    found.copied()
                }
            };
            if copy.is_none() {
                stream(file, at, end, &mut |part| match part {
                    Part::Data(bytes) => sink.data(bytes).map_err(Broken::Sink),
                    Part::Hole(length) => sink.hole(length).map_err(Broken::Sink),
                })?;
            }
            at = end;
        }
        if let Some((from, length)) = copy {
            sink.copy(from, length).map_err(Broken::Sink)?;
        }
        Ok(())
    }
}
