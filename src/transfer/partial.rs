//! A blob on its way into the stage.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use super::BlobRequest;
use super::blobs::{create_partial, open_partial};
use super::hashing::hash_zeros;
use super::own::OwnDir;
use super::read::CHUNK;
use crate::fault::{self, Point, reach};
use crate::model::Digest;

/// The open file of a blob that is not whole yet, hashed as far as it goes.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    hasher: Box<blake3::Hasher>,
    length: u64,
}

impl Partial {
    pub(super) fn create(stage: BorrowedFd<'_>, digest: &Digest) -> io::Result<Partial> {
        Ok(Partial { file: create_partial(stage, digest)?, hasher: Box::default(), length: 0 })
    }

    /// Goes on behind the first `length` bytes of what an earlier run left. They are read, so that the digest of the
    /// whole tells whether they are right.
    pub(super) fn resume(own: &OwnDir, digest: &Digest, length: u64) -> io::Result<Partial> {
        let file = open_partial(own.stage(), digest)?;
        let mut hasher = Box::new(blake3::Hasher::new());
        let mut left = (&file).take(length);
        let mut buffer = vec![0; CHUNK];
        let mut read = 0;
        loop {
            match left.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    read += count as u64;
                    own.progress().fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if read < length {
            return Err(io::Error::other("the partial file in the stage is shorter than it was"));
        }
        // A hole is only skipped: what may lie behind must not show through it.
        file.set_len(length)?;
        Ok(Partial { file, hasher, length })
    }

    /// How many bytes it has.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        fault::wrote(&self.file);
        reach(Point::StageWrite)?;
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// The next `length` bytes are zero, and take no room.
    pub(super) fn skip(&mut self, length: u64) {
        hash_zeros(&mut self.hasher, length);
        self.length += length;
    }

    /// The file, if it holds all that was asked for and nothing else.
    pub(super) fn verified(self, request: &BlobRequest) -> Result<File, String> {
        if self.length != request.size {
            return Err(truncated(self.length, request.size));
        }
        if self.hasher.finalize() != request.digest.0 {
            return Err(digest_mismatch());
        }
        // A hole at its end was only skipped so far.
        self.file.set_len(request.size).map_err(|error| error.to_string())?;
        Ok(self.file)
    }
}

pub(super) fn truncated(received: u64, size: u64) -> String {
    format!("expected {size} bytes, got {received}")
}

pub(super) fn digest_mismatch() -> String {
    "its content is not what was announced: it changed meanwhile".to_owned()
}
