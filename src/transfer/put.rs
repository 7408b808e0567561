//! What makes something new in a tree: a file, a directory, a symlink. All of it is made in the stage first.

use std::fs;
use std::io;
use std::sync::atomic::Ordering;

use anyhow::bail;
use rustix::fs::{AtFlags, FileType, Mode};

use super::blobs::{create, open_verified, temporary_name};
use super::hashing::{hash_and_copy, hash_file};
use super::live::TreeName;
use super::metadata::{self, Mask};
use super::own::{OwnDir, open_dir};
use super::read::open_file;
use super::swap::{Name, rename_new};
use super::tree_writer::{TreeWriter, changed_if_exists};
use crate::disk::{Stamp, acl};
use crate::fault::{self, Point, reach};
use crate::model::{Action, Entry, File, Kept, Meta, Outcome, RelPathBuf, Symlink};

/// An action that puts a file in place, and its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct PutFile<'a> {
    pub(super) index: usize,
    pub(super) action: &'a Action,
    pub(super) file: &'a File,
}

/// A file in the stage, open.
struct StagedFile {
    name: String,
    content: fs::File,
    stamp: Stamp,
}

/// A file in the stage that has all it shall have.
#[derive(Debug)]
pub(super) struct ReadyFile {
    /// Of the action.
    pub(super) index: usize,
    pub(super) path: RelPathBuf,
    pub(super) expected: Option<Entry>,
    /// With the time that the disk keeps.
    pub(super) file: File,
    /// What the disk keeps instead of what it was given.
    kept: Option<Kept>,
    /// Its name in the stage.
    pub(super) staged: String,
    ino: u64,
    /// Of a move that is done as a copy: where from.
    pub(super) then_delete: Option<(RelPathBuf, Entry)>,
}

impl ReadyFile {
    pub(super) fn staged<'a>(&'a self, own: &'a OwnDir) -> Name<'a> {
        Name::new(own.stage(), self.staged.as_ref())
    }

    /// How it stands at a path, if it does.
    pub(super) fn stamp_at(&self, at: &TreeName) -> io::Result<Option<Stamp>> {
        let now = at.name().stat()?;
        Ok(now.filter(|now| now.st_ino == self.ino).map(|now| Stamp::of(&now)))
    }
}

/// Readies a staged blob. `None`: what is at its path is not what was expected.
///
/// The stage has a blob once: an action that is not the last to need it gets a copy.
pub(super) fn ready_blob(
    tree: &TreeWriter<'_>,
    put: &PutFile<'_>,
    is_last_use: bool,
) -> anyhow::Result<Option<ReadyFile>> {
    let PutFile { index, action, file } = *put;
    tree.own.progress().fetch_add(1, Ordering::Relaxed);
    tree.live.may_touch(&action.path)?;
    let Some(at) = tree.live.look_to_put(&action.path, action.expected.as_ref())? else { return Ok(None) };
    if at.is_dir() {
        bail!("a directory is in the way");
    }
    let Some((content, stamp)) = open_verified(tree.own, &file.digest, file.size)? else {
        bail!("its content did not arrive");
    };
    let staged = if is_last_use {
        StagedFile { name: file.digest.to_string(), content, stamp }
    } else {
        copy_into_stage(tree.own, index, &content, file)?
    };
    make_ready(tree, put, &at, staged, None).map(Some)
}

/// Readies a copy of an open file, to be put in place with those of the stage.
pub(super) fn ready_copy(
    tree: &TreeWriter<'_>,
    put: &PutFile<'_>,
    at: &TreeName,
    content: &fs::File,
    then_delete: Option<(RelPathBuf, Entry)>,
) -> anyhow::Result<ReadyFile> {
    let staged = copy_into_stage(tree.own, put.index, content, put.file)?;
    make_ready(tree, put, at, staged, then_delete)
}

/// Copies an open file into the stage for one action alone; shares its blocks where the filesystem can.
fn copy_into_stage(
    own: &OwnDir,
    index: usize,
    content: &fs::File,
    file: &File,
) -> anyhow::Result<StagedFile> {
    let name = temporary_name(own, index);
    reach(Point::CopyCreate)?;
    let copy = create(own.stage(), &name)?;
    let digest = if rustix::fs::ioctl_ficlone(&copy, content).is_ok() {
        hash_file(&copy, file.size, &mut || ())
    } else {
        hash_and_copy(content, file.size, &copy)
    };
    let copied = digest.and_then(|digest| {
        copy.set_len(file.size)?;
        fault::wrote(&copy);
        Ok(digest == file.digest)
    });
    if !matches!(copied, Ok(true)) {
        Name::new(own.stage(), name.as_ref()).remove()?;
    }
    if !copied? {
        bail!("its content is not what was scanned");
    }
    let (content, stamp) = open_file(own.stage(), name.as_bytes())?;
    Ok(StagedFile { name, content, stamp })
}

/// Gives a staged file all that it shall have.
fn make_ready(
    tree: &TreeWriter<'_>,
    put: &PutFile<'_>,
    at: &TreeName,
    staged: StagedFile,
    then_delete: Option<(RelPathBuf, Entry)>,
) -> anyhow::Result<ReadyFile> {
    let StagedFile { name, content, stamp } = staged;
    // Nobody said whose it shall be: as the file that it replaces, or as the directory it is in.
    let fallback = match &at.now {
        Some(now) if FileType::from_raw_mode(now.st_mode).is_file() => *now,
        _ => rustix::fs::fstat(&at.parent)?,
    };
    let File { meta, mtime, .. } = put.file;
    let list = metadata::inherit(&content, meta.mode, Mask::File, at);
    metadata::set(&content, meta, Mask::File, list.as_ref(), &fallback, &tree.owners)?;
    metadata::set_mtime(&content, *mtime)?;
    let kept = metadata::read_back(&content, meta, Mask::File, Some(*mtime), &tree.owners)?;
    tree.unsynced.add(&content);
    Ok(ReadyFile {
        index: put.index,
        path: put.action.path.clone(),
        expected: put.action.expected.clone(),
        file: File { mtime: kept.as_ref().map_or(*mtime, |kept| kept.mtime), ..put.file.clone() },
        kept,
        staged: name,
        ino: stamp.ino,
        then_delete,
    })
}

/// Puts a ready file in place; how it stands there then.
pub(super) fn put_ready(
    tree: &mut TreeWriter<'_>,
    ready: &ReadyFile,
) -> anyhow::Result<(Outcome, Option<Stamp>)> {
    tree.own.progress().fetch_add(1, Ordering::Relaxed);
    let expected = ready.expected.as_ref();
    let Some(at) = tree.live.look_to_put(&ready.path, expected)? else { return Ok((Outcome::Changed, None)) };
    let mut outcome = tree.place(ready.staged(tree.own), &at, &ready.path, expected)?;
    if outcome != Outcome::Done {
        return Ok((outcome, None));
    }
    let stamp = ready.stamp_at(&at)?;
    if let Some((from, expected)) = &ready.then_delete {
        outcome = match tree.live.look(from, Some(expected))? {
            Some(at) => tree.delete(&at, Some(expected), from)?,
            None => Outcome::Changed,
        };
    }
    Ok((as_kept(outcome, ready.kept.as_ref()), stamp))
}

/// The outcome of an action whose attributes the disk keeps like this.
pub(super) fn as_kept(outcome: Outcome, kept: Option<&Kept>) -> Outcome {
    match (outcome, kept) {
        (Outcome::Done, Some(kept)) => Outcome::Kept(Box::new(kept.clone())),
        (outcome, _) => outcome,
    }
}

pub(super) fn put_dir(
    tree: &mut TreeWriter<'_>,
    index: usize,
    at: &TreeName,
    meta: &Meta,
) -> anyhow::Result<Outcome> {
    if at.now.is_some() {
        if !at.is_dir() {
            bail!("something that is no directory is in the way");
        }
        return set_dir_meta(tree, at, meta);
    }
    // Made where nobody sees it, so that it never stands there with another mode or owner.
    let name = temporary_name(tree.own, index);
    let new = Name::new(tree.own.stage(), name.as_ref());
    reach(Point::DirCreate)?;
    rustix::fs::mkdirat(new.dir, new.name, Mode::RWXU)?;
    let kept = match ready_dir(tree, new, at, meta).and_then(|kept| {
        rename_new(new, at.name())?;
        Ok(kept)
    }) {
        Ok(kept) => kept,
        Err(error) => {
            let _ = rustix::fs::unlinkat(new.dir, new.name, AtFlags::REMOVEDIR);
            return changed_if_exists(error);
        }
    };
    tree.unsynced.add(&at.parent);
    Ok(as_kept(Outcome::Done, kept.as_ref()))
}

fn ready_dir(
    tree: &mut TreeWriter<'_>,
    new: Name<'_>,
    at: &TreeName,
    meta: &Meta,
) -> anyhow::Result<Option<Kept>> {
    let dir = open_dir(new.dir, new.name.as_encoded_bytes())?;
    let fallback = rustix::fs::fstat(&at.parent)?;
    let list = metadata::inherit(&dir, meta.mode, Mask::Dir, at);
    metadata::set(&dir, meta, Mask::Dir, list.as_ref(), &fallback, &tree.owners)?;
    tree.unsynced.add(&dir);
    metadata::read_back(&dir, meta, Mask::Dir, None, &tree.owners)
}

pub(super) fn put_symlink(
    tree: &mut TreeWriter<'_>,
    index: usize,
    action: &Action,
    at: &TreeName,
    link: &Symlink,
) -> anyhow::Result<Outcome> {
    if at.is_dir() {
        bail!("a directory is in the way");
    }
    if link.escapes(&action.path) {
        bail!("the symlink would lead out of the directory");
    }
    let name = temporary_name(tree.own, index);
    let new = Name::new(tree.own.stage(), name.as_ref());
    reach(Point::LinkCreate)?;
    rustix::fs::symlinkat(&*link.target, new.dir, new.name)?;
    let placed = tree.place(new, at, &action.path, action.expected.as_ref());
    if new.stat()?.is_some() {
        new.remove()?;
    }
    placed
}

/// Sets mode and owner of the directory that was looked at.
pub(super) fn set_dir_meta(tree: &mut TreeWriter<'_>, at: &TreeName, meta: &Meta) -> anyhow::Result<Outcome> {
    let dir = open_dir(&at.parent, at.name.as_encoded_bytes())?;
    let now = rustix::fs::fstat(&dir)?;
    if !at.is_inode(now.st_ino) {
        return Ok(Outcome::Changed);
    }
    let list = acl::access(&dir);
    metadata::set(&dir, meta, Mask::Dir, list.as_ref(), &now, &tree.owners)?;
    tree.unsynced.add(&dir);
    let kept = metadata::read_back(&dir, meta, Mask::Dir, None, &tree.owners)?;
    Ok(as_kept(Outcome::Done, kept.as_ref()))
}
