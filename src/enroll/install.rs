//! World-readable files that commands write: configuration, cron job, published keys and downloads.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::durable::{self, Options};

/// What [`install`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Installed {
    /// There was no file.
    Made,
    /// There was another file.
    Replaced,
    /// Nothing was written.
    Kept,
}

/// Writes a file that everybody may read, if it is not there already with this content and mode 0644: cron refuses a
/// file that others can write.
pub(crate) fn install(path: &Path, content: &[u8]) -> anyhow::Result<Installed> {
    let before = durable::read(path).with_context(|| format!("reading {}", path.display()))?;
    let is_public = || fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o777 == 0o644);
    if before.as_deref() == Some(content) && is_public() {
        return Ok(Installed::Kept);
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    // While it is written its name begins with a dot: cron and the configuration ignore such files.
    durable::replace(path, content, Options::PUBLIC)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(if before.is_some() { Installed::Replaced } else { Installed::Made })
}
