//! Where a path leads, as far as it exists.

use std::path::{Path, PathBuf};

use super::walk::Walk;

/// The path with the symlinks of that part of it that exists followed: XiVO's `/var/lib/xivo/moh` is
/// `/var/lib/asterisk/moh`, whether or not what is asked for below it is there yet. Where a symlink may not be
/// followed, the path as it is written.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    match Walk::to(path) {
        Ok(walk) => walk.real().join(walk.rest.iter().collect::<PathBuf>()),
        Err(_) => path.to_owned(),
    }
}
