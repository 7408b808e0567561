//! A segment of a file → chunks, cut where the content says so.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};

use fastcdc::v2020::{FastCDC, MINIMUM_MAX};
use serde::{Deserialize, Serialize};

use crate::threads::{side_by_side, threads};

/// Length in bytes of what one thread cuts. The border between two segments is always the border of a chunk; where a
/// change moves bytes over it, some chunks around it are sent again.
pub(super) const SEGMENT: u64 = 64 << 20;
/// More threads than this only wait for the disk.
const MOST_THREADS: usize = 8;
/// Bytes read at a time, at least: few enough to stay in a processor's cache.
const BLOCK: usize = 1 << 20;

/// A part of a file, as long as its content says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) length: u32,
    /// The first half of its BLAKE3 digest. Two chunks with the same one would only be found out when the
    /// whole is verified.
    pub(super) digest: [u8; 16],
}

impl Chunk {
    fn of(bytes: &[u8]) -> io::Result<Chunk> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        Ok(Chunk { length, digest })
    }
}

/// The shortest and the longest chunk of some average length. A chunk cannot end within its first `average / 2`
/// bytes, so that these are not examined: that halves the time.
fn lengths(average: usize) -> (usize, usize) {
    ((average / 2).min(MINIMUM_MAX), longest(average))
}

/// The longest chunk of some average length.
pub(super) fn longest(average: usize) -> usize {
    average * 4
}

/// Cuts bytes in memory as [`cut`] does a file.
pub(super) fn cut_bytes(bytes: &[u8], average: usize) -> io::Result<Vec<Chunk>> {
    let (least, most) = lengths(average);
    let segments = bytes.chunks(usize::try_from(SEGMENT).unwrap_or(usize::MAX));
    let chunks = segments.flat_map(|segment| {
        let chunks = FastCDC::new(segment, least, average, most);
        chunks.map(|chunk| &segment[chunk.offset..chunk.offset + chunk.length])
    });
    chunks.map(Chunk::of).collect()
}

/// Cuts that part of a file into chunks of `average` bytes, none but the last of a segment shorter than a quarter of
/// that. `progress` grows meanwhile. That the file ends before is an error.
pub(super) fn cut(
    file: &File,
    part: Range<u64>,
    average: usize,
    progress: &AtomicU64,
) -> io::Result<Vec<Chunk>> {
    let segments: Vec<Range<u64>> = (part.start / SEGMENT..part.end.div_ceil(SEGMENT))
        .map(|at| (at * SEGMENT).max(part.start)..((at + 1) * SEGMENT).min(part.end))
        .collect();
    let cut = |segment: &Range<u64>| cut_segment(file, segment.clone(), average, progress);
    let mut chunks = Vec::new();
    for segment in side_by_side(&segments, threads(MOST_THREADS), cut) {
        chunks.extend(segment?);
    }
    Ok(chunks)
}

fn cut_segment(
    file: &File,
    segment: Range<u64>,
    average: usize,
    progress: &AtomicU64,
) -> io::Result<Vec<Chunk>> {
    let (least, most) = lengths(average);
    let mut buffer = vec![0; BLOCK.max(2 * most)];
    let mut chunks = Vec::new();
    // `buffer[..held]` is what lies before `at`, and is not cut yet.
    let (mut at, mut held) = (segment.start, 0);
    while at < segment.end || held > 0 {
        let room = buffer.len() - held;
        let length = usize::try_from(segment.end - at).unwrap_or(room).min(room);
        file.read_exact_at(&mut buffer[held..held + length], at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("is shorter than it was"),
            _ => error,
        })?;
        at += length as u64;
        held += length;
        let mut begin = 0;
        for chunk in FastCDC::new(&buffer[..held], least, average, most) {
            if at < segment.end && held - chunk.offset < most {
                // Where it is cut may depend on what follows.
                break;
            }
            begin = chunk.offset + chunk.length;
            chunks.push(Chunk::of(&buffer[chunk.offset..begin])?);
            progress.fetch_add(1, Ordering::Relaxed);
        }
        buffer.copy_within(begin..held, 0);
        held -= begin;
    }
    Ok(chunks)
}
