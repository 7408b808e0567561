//! One content to a place outside of every root.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::own::open_dir;
use super::source::open_file;
use super::stager::{Stager, remove_part};
use super::swap::{Name, rename_new};
use super::{Source, Wanted, metadata};
use crate::model::File;

/// Writes a content to `name` in `dir`, with mode and time of `file`, owned by who runs us: whole, verified and on
/// disk, or not at all. What stands there already is an error and stays.
///
/// It is made in a directory of its own beside it, named by `unique`.
pub fn export(
    dir: &Path,
    name: &OsStr,
    unique: &str,
    file: &File,
    wanted: &Wanted,
    source: &mut dyn Source,
) -> anyhow::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty()).context("the directory that it is to be in")?;
    let to = Name::new(dir.as_fd(), name);
    if to.stat()?.is_some() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
    }
    let stage_name = format!(".xds-sync-{unique}");
    rustix::fs::mkdirat(&dir, &*stage_name, Mode::RWXU)?;
    let stage = open_dir(&dir, stage_name.as_bytes())?;
    let staged = wanted.digest.to_string();
    let mut made = || -> anyhow::Result<()> {
        let mut stager = Stager::new(stage.as_fd(), std::slice::from_ref(wanted));
        let sent = source.send(std::slice::from_ref(wanted), &mut stager);
        let received = stager.finish().pop().unwrap_or_else(|| Err("it was not sent".to_owned()));
        sent?;
        received.map_err(anyhow::Error::msg)?;
        let (content, _) = open_file(&stage, staged.as_bytes())?;
        let mode = u32::from(file.meta.mode) & metadata::Mask::File as u32;
        rustix::fs::fchmod(&content, Mode::from_raw_mode(mode))?;
        metadata::set_mtime(&content, file.mtime)?;
        rustix::fs::fsync(&content)?;
        rename_new(Name::new(stage.as_fd(), staged.as_ref()), to)?;
        Ok(rustix::fs::fsync(&dir)?)
    };
    let made = made();
    // What is left of one that failed; nobody else knows this directory.
    remove_part(stage.as_fd(), &wanted.digest);
    let _ = Name::new(stage.as_fd(), staged.as_ref()).remove();
    let _ = rustix::fs::unlinkat(&dir, &*stage_name, AtFlags::REMOVEDIR);
    made
}
