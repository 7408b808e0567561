//! The steps of a commit that make something: a file, a directory, a symlink.

use std::io;
use std::sync::atomic::Ordering;

use anyhow::bail;
use rustix::fs::{AtFlags, FileType, Mode};

use super::blobs::{open_verified, temporary_name as making};
use super::commit::{Acted, Commit};
use super::metadata::{self, Mask};
use super::own::open_dir;
use super::place::{At, Copied, Ready, copy_content};
use super::source::open_file;
use super::swap::{Name, rename_new};
use crate::disk::Stamp;
use crate::fault::{Point, reach};
use crate::model::{Action, Entry, File, Meta, Outcome, RelPathBuf, Symlink};

/// An action that puts a file in place.
#[derive(Debug)]
pub(super) struct Put<'a> {
    pub(super) index: usize,
    pub(super) action: &'a Action,
    pub(super) file: &'a File,
    /// No action after this one needs its content.
    pub(super) last_use: bool,
}

/// A file in the stage, open.
pub(super) struct Staged {
    name: String,
    content: std::fs::File,
    stamp: Stamp,
}

impl Commit<'_> {
    /// Readies a file. `None`: what is at its path is not what was expected.
    pub(super) fn make(&self, put: &Put<'_>) -> anyhow::Result<Option<Ready>> {
        let Put { index, action, file, last_use } = *put;
        self.own.progress().fetch_add(1, Ordering::Relaxed);
        self.may_touch(&action.path)?;
        let Some(at) = self.look_to_put(&action.path, action.expected.as_ref())? else { return Ok(None) };
        if at.is_dir() {
            bail!("a directory is in the way");
        }
        let Some((content, stamp)) = open_verified(self.own, &file.digest, file.size)? else {
            bail!("its content did not arrive");
        };
        let mut staged = Staged { name: file.digest.to_string(), content, stamp };
        if !last_use {
            staged = self.copy(index, &staged.content, file)?;
        }
        self.make_ready(index, action, &at, file, staged, None).map(Some)
    }

    fn staged(&self, name: String) -> io::Result<Staged> {
        let (content, stamp) = open_file(self.own.stage(), name.as_bytes())?;
        Ok(Staged { name, content, stamp })
    }

    /// Copies a content into the stage once more, for one action alone.
    fn copy(&self, index: usize, content: &std::fs::File, file: &File) -> anyhow::Result<Staged> {
        let name = making(self.own, index);
        match copy_content(content, self.own.stage(), &name, file)? {
            Copied::Right => Ok(self.staged(name)?),
            Copied::Other => bail!("its content is not what was scanned"),
        }
    }

    /// Lets a copy of an open file be put in place with those of the stage.
    pub(super) fn put_copy(
        &mut self,
        index: usize,
        action: &Action,
        at: &At,
        content: &std::fs::File,
        file: &File,
        then_delete: Option<(RelPathBuf, Entry)>,
    ) -> anyhow::Result<Acted> {
        let staged = self.copy(index, content, file)?;
        let ready = self.make_ready(index, action, at, file, staged, then_delete)?;
        self.ready.push(ready);
        Ok(Acted::Later)
    }

    /// Gives a staged file all that it shall have.
    fn make_ready(
        &self,
        index: usize,
        action: &Action,
        at: &At,
        file: &File,
        staged: Staged,
        then_delete: Option<(RelPathBuf, Entry)>,
    ) -> anyhow::Result<Ready> {
        let Staged { name, content, stamp } = staged;
        // Nobody said whose it shall be: as the file that it replaces, or as the directory it is in.
        let fallback = match &at.now {
            Some(now) if FileType::from_raw_mode(now.st_mode).is_file() => *now,
            _ => rustix::fs::fstat(&at.parent)?,
        };
        metadata::set(&content, &file.meta, Mask::File, &fallback, &self.owners)?;
        metadata::set_mtime(&content, file.mtime)?;
        self.unsynced.add(&content);
        Ok(Ready {
            index,
            path: action.path.clone(),
            expected: action.expected.clone(),
            file: file.clone(),
            staged: name,
            ino: stamp.ino,
            then_delete,
        })
    }

    pub(super) fn put_dir(&mut self, index: usize, at: &At, meta: &Meta) -> anyhow::Result<Outcome> {
        if at.now.is_some() {
            if !at.is_dir() {
                bail!("something that is no directory is in the way");
            }
            return self.set_dir_meta(at, meta);
        }
        // Made where nobody sees it, so that it never stands there with another mode or owner.
        let name = making(self.own, index);
        let new = Name::new(self.own.stage(), name.as_ref());
        reach(Point::DirCreate)?;
        rustix::fs::mkdirat(new.dir, new.name, Mode::RWXU)?;
        let placed = self.ready_dir(new, at, meta).and_then(|()| Ok(rename_new(new, at.name())?));
        if let Err(error) = placed {
            let _ = rustix::fs::unlinkat(new.dir, new.name, AtFlags::REMOVEDIR);
            return changed_if_exists(error);
        }
        self.unsynced.add(&at.parent);
        Ok(Outcome::Done)
    }

    fn ready_dir(&mut self, new: Name<'_>, at: &At, meta: &Meta) -> anyhow::Result<()> {
        let dir = open_dir(new.dir, new.name.as_encoded_bytes())?;
        let fallback = rustix::fs::fstat(&at.parent)?;
        metadata::set(&dir, meta, Mask::Dir, &fallback, &self.owners)?;
        self.unsynced.add(&dir);
        Ok(())
    }

    pub(super) fn put_symlink(
        &mut self,
        index: usize,
        action: &Action,
        at: &At,
        link: &Symlink,
    ) -> anyhow::Result<Outcome> {
        if at.is_dir() {
            bail!("a directory is in the way");
        }
        if link.escapes(&action.path) {
            bail!("the symlink would lead out of the directory");
        }
        let name = making(self.own, index);
        let new = Name::new(self.own.stage(), name.as_ref());
        reach(Point::LinkCreate)?;
        rustix::fs::symlinkat(&*link.target, new.dir, new.name)?;
        let placed = self.place(new, at, &action.path, action.expected.as_ref());
        if new.stat()?.is_some() {
            new.remove()?;
        }
        placed
    }
}

/// Something came to stand there since we looked: that is left for the next run.
pub(super) fn changed_if_exists(error: anyhow::Error) -> anyhow::Result<Outcome> {
    match error.downcast_ref::<io::Error>() {
        Some(io) if io.kind() == io::ErrorKind::AlreadyExists => Ok(Outcome::Changed),
        _ => Err(error),
    }
}
