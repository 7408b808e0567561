//! Contents from a root on this host's disk.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{BlobRequest, Signature, Sink, Source};
use crate::disk::{HeldRoot, Stamp, open_beneath};
use crate::model::RelPath;

/// Bytes handed on at a time: some system calls a file, and little memory.
pub(super) const CHUNK: usize = 256 * 1024;

/// How the files that a scan saw looked then; `None` for all else.
pub type Stamps = Arc<dyn Fn(&RelPath) -> Option<Stamp> + Send + Sync>;

/// Gives files of a root, as they were scanned. Clones give to several sinks at a time.
#[derive(Clone)]
pub struct LocalSource {
    root: HeldRoot,
    stamps: Stamps,
}

impl LocalSource {
    /// Gives what is below `root` and in `stamps`: what was not scanned, or was excluded, nobody gets.
    #[must_use]
    pub fn new(root: HeldRoot, stamps: Stamps) -> LocalSource {
        LocalSource { root, stamps }
    }

    fn open(&self, path: &RelPath) -> Result<(File, Stamp), String> {
        let seen = (self.stamps)(path).ok_or("it is not in the directory")?;
        let (file, stamp) = open_file(&self.root, path.as_bytes()).map_err(|error| error.to_string())?;
        if stamp == seen { Ok((file, stamp)) } else { Err("changed since it was scanned".to_owned()) }
    }
}

impl fmt::Debug for LocalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSource").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Source for LocalSource {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        for (index, wanted) in wanted.iter().enumerate() {
            sink.begin(index)?;
            let sent = match self.open(&wanted.path) {
                Ok((file, stamp)) => match sink.basis(index).filter(|_| !is_sparse(&file, wanted.size)) {
                    Some(basis) => send_changed(&file, stamp, wanted, &basis, sink)?,
                    None => send_open(&file, stamp, wanted, sink)?,
                },
                Err(why) => Err(why),
            };
            sink.end(sent)?;
        }
        Ok(())
    }
}

/// Streams an open file between the sink's `begin` and `end`; returns what the end shall be.
/// `Err` means that the sink is lost.
pub(super) fn send_open(
    file: &File,
    before: Stamp,
    wanted: &BlobRequest,
    sink: &mut dyn Sink,
) -> anyhow::Result<Result<(), String>> {
    send_by(file, before, wanted, &mut || {
        stream(file, wanted.offset, wanted.size, &mut |part| match part {
            Part::Data(bytes) => sink.data(bytes).map_err(Broken::Sink),
            Part::Hole(length) => sink.hole(length).map_err(Broken::Sink),
        })
    })
}

/// The same, for a sink that has a basis of it.
fn send_changed(
    file: &File,
    before: Stamp,
    wanted: &BlobRequest,
    basis: &Signature,
    sink: &mut dyn Sink,
) -> anyhow::Result<Result<(), String>> {
    send_by(file, before, wanted, &mut || basis.send(file, wanted, sink))
}

fn send_by(
    file: &File,
    before: Stamp,
    wanted: &BlobRequest,
    send: &mut dyn FnMut() -> Result<(), Broken>,
) -> anyhow::Result<Result<(), String>> {
    if before.size != wanted.size {
        return Ok(Err("changed since it was scanned".to_owned()));
    }
    match send() {
        Ok(()) => {}
        Err(Broken::Source(error)) => return Ok(Err(error.to_string())),
        Err(Broken::Sink(error)) => return Err(error),
    }
    match rustix::fs::fstat(file) {
        Ok(after) if Stamp::of(&after) == before => Ok(Ok(())),
        Ok(_) => Ok(Err("changed while it was sent".to_owned())),
        Err(error) => Ok(Err(io::Error::from(error).to_string())),
    }
}

/// Why a blob was not sent whole.
pub(super) enum Broken {
    /// It cannot be read.
    Source(io::Error),
    /// The sink is lost.
    Sink(anyhow::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Source(error)
    }
}

/// Opens a regular file below a held directory; nothing else, and over no symlink.
pub(super) fn open_file(dir: impl AsFd, path: &[u8]) -> io::Result<(File, Stamp)> {
    // O_NONBLOCK: to open a FIFO that somebody put here must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open_beneath(dir, path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(io::Error::other("is no longer a regular file"));
    }
    Ok((File::from(fd), Stamp::of(&stat)))
}

/// A stretch of a file.
pub(super) enum Part<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// That many zeros which take no room on disk.
    Hole(u64),
}

/// Reads a file from `offset` up to `size`, its holes as such. That it ends before is an error.
pub(super) fn stream<E: From<io::Error>>(
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
fn is_sparse(file: &File, size: u64) -> bool {
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
        // This filesystem does not tell its holes.
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
