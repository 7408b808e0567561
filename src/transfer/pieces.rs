//! A changed file as pieces, so that only those cross the wire which its former version has not.
//!
//! Files are cut where their content says so (FastCDC: Xia et al., IEEE TPDS 2020): what was inserted or
//! removed moves the cuts behind it along with the content. Two ends that cut differently send more than
//! they must, and nothing wrong: the whole content is verified in any case.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};

use fastcdc::v2020::{AVERAGE_MAX, StreamCDC};
use serde::{Deserialize, Serialize};

use super::source::Broken;
use super::{Sink, Wanted};

/// Smaller files are sooner sent than compared.
const LEAST_SIZE: u64 = 1 << 20;
/// About so many pieces has a large file: 160 KB that cross the wire, and a change of one byte costs a
/// four-thousandth of the file.
const PIECES: u64 = 8 * 1024;
/// Smallest average length of a piece: below, a piece costs more than it saves.
const LEAST_AVERAGE: usize = 16 * 1024;
/// Most pieces of one file, whatever its content: none but the last is shorter than a quarter of the average.
const MOST_PIECES: usize = 4 * PIECES as usize + 1;
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
struct Piece {
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

fn digest_of(bytes: &[u8]) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    digest
}

/// Cuts what follows in a file.
fn cut(
    file: impl io::Read,
    average: usize,
    each: &mut dyn FnMut(&[u8]) -> Result<(), Broken>,
) -> Result<(), Broken> {
    for piece in StreamCDC::new(file, average / 4, average, average * 4) {
        each(&piece.map_err(io::Error::from)?.data)?;
    }
    Ok(())
}

impl Pieces {
    /// Those of a file of `size` bytes; `None` where it cannot be read. `progress` grows meanwhile.
    pub(super) fn of(mut file: &File, size: u64, progress: &AtomicU64) -> Option<Pieces> {
        let average = average_of(size);
        let mut pieces = Pieces { average: u32::try_from(average).ok()?, pieces: Vec::new() };
        file.seek(SeekFrom::Start(0)).ok()?;
        let done = cut(file.take(size), average, &mut |bytes| {
            let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            pieces.pieces.push(Piece { length, digest: digest_of(bytes) });
            progress.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        done.is_ok().then_some(pieces)
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
    pub(super) fn send(&self, mut file: &File, wanted: &Wanted, sink: &mut dyn Sink) -> Result<(), Broken> {
        let places = self.places();
        file.seek(SeekFrom::Start(wanted.offset))?;
        let due = wanted.size.saturating_sub(wanted.offset);
        let mut sent = 0;
        // Pieces that follow each other in both versions are copied in one go.
        let mut copy: Option<(u64, u64)> = None;
        cut(file.take(due), self.average as usize, &mut |bytes| {
            let found = places.get(&digest_of(bytes)).filter(|(_, length)| *length == bytes.len() as u64);
            sent += bytes.len() as u64;
            copy = match (copy, found) {
                (Some((from, copied)), Some((at, length)))
                    if from + copied == *at && copied < MOST_COPIED =>
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
                sink.data(bytes).map_err(Broken::Sink)?;
            }
            Ok(())
        })?;
        if let Some((from, length)) = copy {
            sink.copy(from, length).map_err(Broken::Sink)?;
        }
        if sent != due {
            return Err(io::Error::other("is shorter than it was").into());
        }
        Ok(())
    }
}
