//! Digests of whole files, read with their holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::read::{Part, stream};
pub(super) use crate::disk::holes::hash_zeros;
use crate::model::Digest;

/// The digest of a file of `size` bytes; `progress` is called for each part that is read.
pub(super) fn hash_file(file: &File, size: u64, progress: &mut dyn FnMut()) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    stream::<io::Error>(file, 0, size, &mut |part| {
        progress();
        match part {
            Part::Data(bytes) => _ = hasher.update(bytes),
            Part::Hole(length) => hash_zeros(&mut hasher, length),
        }
        Ok(())
    })?;
    Ok(Digest(hasher.finalize().into()))
}

/// The same, writing what is read to another file; a hole stays one there.
pub(super) fn hash_and_copy(from: &File, size: u64, to: &File) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    stream::<io::Error>(from, 0, size, &mut |part| {
        match part {
            Part::Data(bytes) => {
                hasher.update(bytes);
                to.write_all_at(bytes, at)?;
                at += bytes.len() as u64;
            }
            Part::Hole(length) => {
                hash_zeros(&mut hasher, length);
                at += length;
            }
        }
        Ok(())
    })?;
    Ok(Digest(hasher.finalize().into()))
}
