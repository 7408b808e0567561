//! One blob to a file outside of every root.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustix::fs::{AtFlags, Dir, Mode, fstat, mkdirat, unlinkat};

use super::own::{OwnDir, STAGE, TRASH};
use super::read::open_file;
use super::swap::{Name, rename_new};
use super::{BlobRequest, ScannedTree, Source, metadata, stage};
use crate::disk::{HeldRoot, OWN_DIR};
use crate::model::{File, Tree};

/// Writes a blob to `name` in `dir`, with mode and time of `file`, owned by who runs us: whole, verified and on
/// disk, or not at all. What stands there already is an error and stays.
///
/// It is staged in a directory of its own beside it, named by `unique`, as it would be in a root. Somebody else's
/// directory may be written in by others: both are held from the beginning to the end.
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
    let beside = OsString::from(format!(".xds-sync-{unique}"));
    mkdirat(&held, &*beside, Mode::RWXU)?;
    let private = held.dir(&beside)?;
    if fstat(&private)?.st_uid != rustix::process::geteuid().as_raw() {
        bail!("{} was replaced", private.path().display());
    }
    let made = make(&private, to, file, wanted, source).and_then(|()| Ok(rustix::fs::fsync(&held)?));
    let removed = remove(&held, &beside, &private);
    made?;
    removed.with_context(|| format!("cannot remove {}", private.path().display()))
}

/// Removes the directory that a blob was staged in.
fn remove(held: &HeldRoot, name: &OsStr, private: &HeldRoot) -> io::Result<()> {
    let own = private.dir(OWN_DIR.as_ref())?;
    for part in [STAGE, TRASH] {
        let dir = match own.dir(part.as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            dir => dir?,
        };
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                unlinkat(&dir, entry.file_name(), AtFlags::empty())?;
            }
        }
        unlinkat(&own, part, AtFlags::REMOVEDIR)?;
    }
    unlinkat(private, OWN_DIR, AtFlags::REMOVEDIR)?;
    // Another one under this name goes only if it is empty.
    Ok(unlinkat(held, name, AtFlags::REMOVEDIR)?)
}

fn make(
    private: &HeldRoot,
    to: Name<'_>,
    file: &File,
    wanted: &BlobRequest,
    source: &mut dyn Source,
) -> anyhow::Result<()> {
    let own = OwnDir::ready(private, &Arc::default())?;
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
