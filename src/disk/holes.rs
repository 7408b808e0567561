//! Reading files, their holes as such.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;

use rustix::io::Errno;

/// Bytes handed on at a time: some system calls a file, and little memory.
pub const CHUNK: usize = 256 * 1024;

/// A range of a file.
pub enum Part<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// That many zeros which take no room on disk.
    Hole(u64),
}

/// Reads a file from `offset` up to `size`, its holes as such. That it ends before is an error.
pub fn stream<E: From<io::Error>>(
    mut file: &File,
    offset: u64,
    size: u64,
    take: &mut dyn FnMut(Part<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let sparse = is_sparse(file, size);
    let mut buffer = vec![0; usize::try_from(size.saturating_sub(offset)).unwrap_or(CHUNK).clamp(1, CHUNK)];
    let mut at = offset;
    while at < size {
        let mut end = size;
        if sparse {
            let data = next_data(file, at, size)?;
            if data > at {
                take(Part::Hole(data - at))?;
                at = data;
                continue;
            }
            end = next_hole(file, at, size)?;
        }
        file.seek(SeekFrom::Start(at))?;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(CHUNK).min(buffer.len());
            let length = match file.read(&mut buffer[..most]) {
                Ok(0) => return Err(io::Error::other("is shorter than it was").into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            take(Part::Data(&buffer[..length]))?;
            at += length as u64;
        }
    }
    Ok(())
}

/// Whether a file has holes. One that cannot be asked has none; reading it fails as well.
pub fn is_sparse(file: &File, size: u64) -> bool {
    // Blocks are counted in 512 bytes, whatever the filesystem's own are (stat(2)).
    let blocks = rustix::fs::fstat(file).map_or(u64::MAX, |stat| u64::try_from(stat.st_blocks).unwrap_or(0));
    blocks.saturating_mul(512) < size
}

/// Where the next data at or after `at` is; `size` when there is none.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<u64> {
    match rustix::fs::seek(file.as_fd(), rustix::fs::SeekFrom::Data(at)) {
        Ok(data) => Ok(data.min(size)),
        // A hole up to the end (lseek(2)); a file that was cut short meanwhile looks the same, and is
        // found out by its stamp and its digest.
        Err(Errno::NXIO) => Ok(size),
        // This filesystem does not report holes.
        Err(Errno::INVAL) => Ok(at),
        Err(error) => Err(error.into()),
    }
}

/// Where the data at `at` ends.
fn next_hole(file: &File, at: u64, size: u64) -> io::Result<u64> {
    match rustix::fs::seek(file.as_fd(), rustix::fs::SeekFrom::Hole(at)) {
        Ok(hole) => Ok(hole.min(size)),
        Err(Errno::INVAL | Errno::NXIO) => Ok(size),
        Err(error) => Err(error.into()),
    }
}

/// As if that many zeros had been read.
pub fn hash_zeros(hasher: &mut blake3::Hasher, length: u64) {
    static ZEROS: [u8; CHUNK] = [0; CHUNK];
    let mut left = length;
    while left > 0 {
        let zeros = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        hasher.update(&ZEROS[..zeros]);
        left -= zeros as u64;
    }
}
