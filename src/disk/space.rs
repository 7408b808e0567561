//! How much room a filesystem has.

use std::os::fd::AsFd;

use crate::model::Space;

/// The room on the filesystem of an open file or directory.
#[must_use]
pub fn space(on: impl AsFd) -> Space {
    rustix::fs::fstatvfs(on).map_or(Space::UNKNOWN, |disk| Space {
        block: disk.f_frsize,
        blocks: disk.f_blocks,
        free_blocks: disk.f_bavail,
        inodes: disk.f_files,
        free_inodes: disk.f_favail,
    })
}
