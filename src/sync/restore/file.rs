//! Writes one file from a trash to a place of the administrator's choice.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::model::File;
use crate::transfer::{BlobRequest, Source, export};

/// Writes a file to `to`, which must not exist, with its mode and time: whole, verified and on disk, or not at all.
/// `run` is a unique name.
pub(super) fn write(
    to: &Path,
    run: &str,
    file: &File,
    request: &BlobRequest,
    source: &mut dyn Source,
) -> anyhow::Result<()> {
    let Some(name) = to.file_name() else { bail!("{} does not name a file", to.display()) };
    let dir = match to.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    export(dir, name, run, file, request, source).with_context(|| format!("cannot write {}", to.display()))
}
