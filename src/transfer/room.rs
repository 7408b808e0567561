//! Room for blobs on the filesystem of a stage.

use std::io;

use super::own::OwnDir;
use crate::disk;
use crate::model::{Room, Shortage, Size, Space};

/// The room that is left for blobs.
pub(super) struct StageRoom {
    space: Space,
    room: Room,
    /// And where its disk is mounted.
    root: String,
}

impl StageRoom {
    pub(super) fn of(own: &OwnDir) -> StageRoom {
        let space = disk::space(own.stage());
        let mount = disk::mount_point(own.stage()).map(|mount| format!(" (mounted at {mount})"));
        let root = format!("{}{}", own.root().path().display(), mount.unwrap_or_default());
        StageRoom { space, room: Room::of(space), root }
    }

    /// Sets room for a file of `size` bytes aside, or says why there is none.
    pub(super) fn take(&mut self, size: u64) -> Result<(), String> {
        self.room.take(self.space.need(size)).map_err(|shortage| match shortage {
            Shortage::Bytes { free, stays, .. } => format!(
                "needs {}, {} free on {}, of which {} stay free",
                Size(size),
                Size(free),
                self.root,
                Size(stays)
            ),
            Shortage::Inodes { free, stays, .. } => format!(
                "needs an inode, {free} more files and directories fit on {}, of which {stays} stay free",
                self.root
            ),
        })
    }
}

/// Whether an error is that of a full disk, or of a quota.
pub(super) fn is_out_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why a file of `size` bytes does not fit any more, if it does not. Others may have taken what was free when the
/// transfer began; root, who could go on writing into what is kept for it, does not.
pub(super) fn is_full(own: &OwnDir, size: u64) -> Option<String> {
    let free = disk::space(own.stage()).bytes();
    (size > free).then(|| format!("No space left: needs {}, {} free", Size(size), Size(free)))
}
