//! One blob to a file outside of every root.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustix::fs::Mode;

use super::own::OwnDir;
use super::read::open_file;
use super::swap::{Name, rename_new};
use super::{BlobRequest, ScannedTree, Source, metadata, stage};
use crate::disk::HeldRoot;
use crate::model::{File, Tree};

/// Writes a blob to `name` in `dir`, with mode and time of `file`, owned by who runs us: whole, verified and on
/// disk, or not at all. What stands there already is an error and stays.
///
/// It is staged in a directory of its own beside it, named by `unique`, as it would be in a root.
pub fn export(
    dir: &Path,
    name: &OsStr,
    unique: &str,
    file: &File,
    wanted: &BlobRequest,
    source: &mut dyn Source,
) -> anyhow::Result<()> {
    let held = HeldRoot::open(dir).with_context(|| dir.display().to_string())?;
    let to = Name::new(held.as_fd(), name);
    if to.stat()?.is_some() {
        bail!("something is there already, and stays");
    }
    let beside = dir.join(format!(".xds-sync-{unique}"));
    DirBuilder::new().mode(0o700).create(&beside)?;
    let made = make(&beside, to, file, wanted, source).and_then(|()| Ok(rustix::fs::fsync(&held)?));
    // Nobody else has a file in it.
    let removed = std::fs::remove_dir_all(&beside);
    made?;
    removed.with_context(|| format!("cannot remove {}", beside.display()))
}

fn make(
    beside: &Path,
    to: Name<'_>,
    file: &File,
    wanted: &BlobRequest,
    source: &mut dyn Source,
) -> anyhow::Result<()> {
    let own = OwnDir::ready(&HeldRoot::open(beside)?, &Arc::default())?;
    let (tree, stamps) = (Tree::default(), |_: &_| None);
    let seen = ScannedTree { tree: &tree, stamps: &stamps };
    stage(&own, &seen, std::slice::from_ref(wanted), source)
        .into_iter()
        .collect::<Result<(), _>>()
        .map_err(anyhow::Error::msg)?;
    let staged = wanted.digest.to_string();
    let (content, _) = open_file(own.stage(), staged.as_bytes())?;
    let mode = u32::from(file.meta.mode) & metadata::Mask::File as u32;
    rustix::fs::fchmod(&content, Mode::from_raw_mode(mode))?;
    metadata::set_mtime(&content, file.mtime)?;
    rustix::fs::fsync(&content)?;
    Ok(rename_new(Name::new(own.stage(), staged.as_ref()), to)?)
}
