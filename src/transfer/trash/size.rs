//! How much a trash has.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::AtFlags;
use serde::{Deserialize, Serialize};

use super::id::run_time;
use super::{names, runs};
use crate::disk::HeldRoot;
use crate::transfer::own::{TRASH_PATH, open_dir};

/// What is in a trash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashSize {
    /// Versions.
    pub files: u64,
    /// What they take on the disk.
    pub bytes: u64,
    /// When the oldest of them was put there, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
}

/// Looks through a root's trash. `progress` grows with every file.
pub fn size(root: &HeldRoot, progress: &AtomicU64) -> io::Result<TrashSize> {
    let trash = match root.open_own(TRASH_PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TrashSize::default()),
        opened => opened?,
    };
    let runs = runs(trash.as_fd())?;
    let mut size =
        TrashSize { oldest_ms: runs.first().and_then(|run| run_time(run)), ..TrashSize::default() };
    for run in runs {
        add(&mut size, trash.as_fd(), run.as_bytes(), progress)?;
    }
    Ok(size)
}

fn add(size: &mut TrashSize, trash: BorrowedFd<'_>, path: &[u8], progress: &AtomicU64) -> io::Result<()> {
    let dir = open_dir(trash, path)?;
    let mut dirs = Vec::new();
    for (name, is_dir) in names(&dir)? {
        if is_dir {
            dirs.push(name);
            continue;
        }
        let stat = rustix::fs::statat(&dir, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        size.files += 1;
        // Blocks are counted in 512 bytes, whatever the filesystem's own are (stat(2)).
        size.bytes += u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        progress.fetch_add(1, Ordering::Relaxed);
    }
    drop(dir);
    for name in dirs {
        add(size, trash, &[path, b"/", name.as_encoded_bytes()].concat(), progress)?;
    }
    Ok(())
}
