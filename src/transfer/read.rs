//! Opening files below a held directory.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags};

pub(super) use crate::disk::holes::{CHUNK, Part, is_sparse, stream};
use crate::disk::{Stamp, open_beneath};

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
    let fd = open_beneath(dir, path, flags, Mode::empty()).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(error.kind(), "is held open by another process (a lease)")
        }
        _ => error,
    })?;
    let stat = rustix::fs::fstat(&fd)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(io::Error::other("is no longer a regular file"));
    }
    Ok((File::from(fd), Stamp::of(&stat)))
}
