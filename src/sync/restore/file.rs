//! One content from a trash into a file of an administrator's choice.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::model::File;
use crate::transfer::{BlobRequest, Source, export};

/// Writes a content to `to`, which must not be there, with its mode and time: whole, verified and on disk, or
/// not at all. `run` is a name that nothing else has.
pub(super) fn write(
    to: &Path,
    run: &str,
    file: &File,
    wanted: &BlobRequest,
    source: &mut dyn Source,
) -> anyhow::Result<()> {
    let Some(name) = to.file_name() else { bail!("{} is no name of a file", to.display()) };
    let dir = match to.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    export(dir, name, run, file, wanted, source).with_context(|| format!("cannot write {}", to.display()))
}
