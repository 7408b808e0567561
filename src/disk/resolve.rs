//! Where a path leads, as far as it exists.

use std::path::{Path, PathBuf};

/// The path with the symlinks of that part of it that exists followed: XiVO's `/var/lib/xivo/moh` is
/// `/var/lib/asterisk/moh`, whether or not what is asked for below it is there yet.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    for existing in path.ancestors() {
        if let Ok(real) = existing.canonicalize() {
            // `existing` is an ancestor of `path`, so the rest is there.
            return path.strip_prefix(existing).map_or_else(|_| real.clone(), |rest| real.join(rest));
        }
    }
    path.to_owned()
}
