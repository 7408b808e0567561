//! Reading and replacing the file itself.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};

use crate::durable::{self, Options};

/// What [`change`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// There was no file.
    Made,
    /// There was another one.
    Replaced,
    /// Nothing was written: the file was as it should be.
    Kept,
}

/// The file's bytes; empty when there is none.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = durable::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(bytes.unwrap_or_default())
}

/// Replaces the file by what `edit` returns, in one step: sshd never reads half of it. Its owner and mode stay,
/// except that group and others lose the right to write, with which sshd would refuse it. A missing file is made
/// (0600), and so is the directory it is in (0700), both for the owner of the home directory.
pub(crate) fn change(
    path: &Path,
    edit: impl Fn(&[u8]) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Changed> {
    let path = &target(path)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    if !dir.exists() {
        // Where nothing is to be written, no directory is made for it.
        if edit(&[])?.is_empty() {
            return Ok(Changed::Kept);
        }
        make_dir(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    // Of several who edit the file at the same time, none undoes what another has done.
    let _lock = lock(dir).with_context(|| format!("locking {}", dir.display()))?;
    let before = read(path)?;
    let after = edit(&before)?;
    if after == before {
        return Ok(Changed::Kept);
    }
    let old = fs::metadata(path).ok();
    replace(path, old.as_ref(), &after).with_context(|| format!("writing {}", path.display()))?;
    Ok(if old.is_some() { Changed::Replaced } else { Changed::Made })
}

/// Where the path is a symlink, the file that it leads to: the symlink stays.
fn target(path: &Path) -> anyhow::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {
            path.canonicalize().with_context(|| format!("{} is a symlink that leads nowhere", path.display()))
        }
        Ok(metadata) if !metadata.is_file() => bail!("{} is not a regular file", path.display()),
        _ => Ok(path.to_owned()),
    }
}

fn replace(path: &Path, old: Option<&fs::Metadata>, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let owner = match old {
        Some(old) => (old.uid(), old.gid()),
        None => fs::metadata(dir).map(|dir| (dir.uid(), dir.gid()))?,
    };
    let mode = old.map_or(0o600, |old| old.mode() & 0o7755);
    durable::replace(path, content, Options { mode, owner: Some(owner), ..Options::PRIVATE })
}

/// The lock of whoever edits a file in this directory. It is released with the descriptor, however that comes about.
fn lock(dir: &Path) -> io::Result<File> {
    let open = File::open(dir)?;
    flock(&open, FlockOperation::LockExclusive)?;
    Ok(open)
}

/// Makes `.ssh` for the owner of the home directory that it is in.
fn make_dir(dir: &Path) -> io::Result<()> {
    let home = dir.parent().unwrap_or(Path::new("/"));
    match DirBuilder::new().mode(0o700).create(dir) {
        // Another process has just made it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    let home = fs::metadata(home)?;
    durable::set_owner(&File::open(dir)?, (home.uid(), home.gid()))
}

/// Where sshd looks for the keys of the user with this home directory.
#[must_use]
pub(crate) fn path_below(home: &Path) -> PathBuf {
    home.join(".ssh/authorized_keys")
}
