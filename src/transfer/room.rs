//! Room for blobs on the filesystem of a stage.

use super::own::OwnDir;
use crate::model::Size;

/// Left free on the filesystem: a hundredth of it, but no more than this many bytes.
const MOST_MARGIN: u64 = 64 << 20;

/// The room that is left for blobs.
pub(super) struct Room {
    free: u64,
    left: u64,
    root: String,
}

impl Room {
    pub(super) fn of(own: &OwnDir) -> Room {
        let root = own.root().path().display().to_string();
        let Ok(disk) = rustix::fs::fstatvfs(own.stage()) else {
            // Not known beforehand; writing to a full disk fails and says so.
            return Room { free: u64::MAX, left: u64::MAX, root };
        };
        // Blocks that are kept for root are for us when we are root.
        let blocks = if rustix::process::geteuid().is_root() { disk.f_bfree } else { disk.f_bavail };
        let free = blocks.saturating_mul(disk.f_frsize);
        let margin = (disk.f_blocks.saturating_mul(disk.f_frsize) / 100).min(MOST_MARGIN);
        Room { free, left: free.saturating_sub(margin), root }
    }

    /// Sets `size` bytes aside, or says why there is no room for them.
    pub(super) fn take(&mut self, size: u64) -> Result<(), String> {
        match self.left.checked_sub(size) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                Err(format!("needs {}, {} free on {}", Size(size), Size(self.left.min(self.free)), self.root))
            }
        }
    }
}
