//! The single steps of a commit: putting in place, replacing, removing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::Ordering;

use anyhow::anyhow;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::blobs::create;
use super::commit::{Commit, failed};
use super::hashing::{hash_and_copy, hash_file};
use super::own::OwnDir;
use super::put::{Put, changed_if_exists};
use super::swap::{Name, exchange, rename_new};
use super::writers::threads_for;
use crate::disk::{HeldRoot, Stamp};
use crate::fault::{self, Point, reach};
use crate::model::{Entry, File, Outcome, RelPath, RelPathBuf};
use crate::threads::side_by_side;

/// How often one path is given back to somebody who keeps changing it.
const MOST_TURNS: usize = 16;

/// A path: the directory it is in, open, and what stands there, as far as that was looked at.
#[derive(Debug)]
pub(super) struct At {
    pub(super) parent: OwnedFd,
    pub(super) name: OsString,
    pub(super) now: Option<Stat>,
}

impl At {
    pub(super) fn open(root: &HeldRoot, path: &RelPath) -> io::Result<At> {
        let parent = root.open_parent(path)?;
        let name = OsStr::from_bytes(path.name()).to_owned();
        Ok(At { parent, name, now: None })
    }

    pub(super) fn name(&self) -> Name<'_> {
        Name::new(self.parent.as_fd(), &self.name)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.now.is_some_and(|now| FileType::from_raw_mode(now.st_mode).is_dir())
    }

    pub(super) fn is_inode(&self, ino: u64) -> bool {
        self.now.is_some_and(|now| now.st_ino == ino)
    }
}

/// A file in the stage that has all it shall have.
#[derive(Debug)]
pub(super) struct Ready {
    /// Of the action.
    pub(super) index: usize,
    pub(super) path: RelPathBuf,
    pub(super) expected: Option<Entry>,
    pub(super) file: File,
    /// Its name in the stage.
    pub(super) staged: String,
    pub(super) ino: u64,
    /// Of a move that is done as a copy: where from.
    pub(super) then_delete: Option<(RelPathBuf, Entry)>,
}

impl Ready {
    fn staged<'a>(&'a self, own: &'a OwnDir) -> Name<'a> {
        Name::new(own.stage(), self.staged.as_ref())
    }

    /// How it stands at a path, if it does.
    fn stamp_at(&self, at: &At) -> io::Result<Option<Stamp>> {
        let now = at.name().stat()?;
        Ok(now.filter(|now| now.st_ino == self.ino).map(|now| Stamp::of(&now)))
    }
}

/// How a copy came out.
pub(super) enum Copied {
    Right,
    /// It has another content than it should.
    Other,
}

/// Copies an open file into the stage; shares its blocks where the filesystem can.
pub(super) fn copy_content(
    from: &std::fs::File,
    stage: BorrowedFd<'_>,
    name: &str,
    file: &File,
) -> io::Result<Copied> {
    reach(Point::CopyCreate)?;
    let to = create(stage, name)?;
    let copied = if rustix::fs::ioctl_ficlone(&to, from).is_ok() {
        hash_file(&to, file.size, &mut || ())
    } else {
        hash_and_copy(from, file.size, &to)
    };
    let copied = copied.and_then(|digest| {
        to.set_len(file.size)?;
        fault::wrote(&to);
        Ok(if digest == file.digest { Copied::Right } else { Copied::Other })
    });
    if !matches!(copied, Ok(Copied::Right)) {
        Name::new(stage, name.as_ref()).remove()?;
    }
    copied
}

impl Commit<'_> {
    /// Readies the files of the stage, and puts them in place once they are on disk.
    pub(super) fn put_ready(&mut self) {
        // Copies first: who needs a content last takes it, and gives it a mode that may forbid to read it.
        let mut puts = std::mem::take(&mut self.puts);
        puts.sort_by_key(|put| put.last_use);
        let (copies, last) = puts.split_at(puts.partition_point(|put| !put.last_use));
        self.make_all(copies);
        self.make_all(last);
        let ready = std::mem::take(&mut self.ready);
        if ready.is_empty() {
            return;
        }
        if let Err(error) = reach(Point::ReadySync).and_then(|()| self.unsynced.sync(self.own)) {
            let failed = || anyhow!("could not be written to disk: {error}");
            ready.iter().for_each(|ready| self.note_put(ready, Err(failed())));
            return;
        }
        // One by one: the kernel renames one file of a filesystem at a time, and threads would only wait for it.
        for ready in ready {
            let put = self.put(&ready);
            self.note_put(&ready, put);
        }
    }

    fn make_all(&mut self, puts: &[Put<'_>]) {
        let made = side_by_side(puts, threads_for(puts.len()), |put| self.make(put));
        for (put, made) in puts.iter().zip(made) {
            match made {
                Ok(Some(ready)) => self.ready.push(ready),
                Ok(None) => self.done.outcomes[put.index] = Outcome::Changed,
                Err(error) => self.done.outcomes[put.index] = failed(&error),
            }
        }
    }

    fn note_put(&mut self, ready: &Ready, put: anyhow::Result<(Outcome, Option<Stamp>)>) {
        let (outcome, stamp) = put.unwrap_or_else(|error| (failed(&error), None));
        if let Some(stamp) = stamp {
            self.note_placed(&ready.path, &ready.file, stamp);
        }
        if outcome != Outcome::Done && ready.staged != ready.file.digest.to_string() {
            // Only one more copy; where it is gone already, all the better.
            let _ = Name::new(self.own.stage(), ready.staged.as_ref()).remove();
        }
        self.done.outcomes[ready.index] = outcome;
    }

    fn put(&mut self, ready: &Ready) -> anyhow::Result<(Outcome, Option<Stamp>)> {
        self.own.progress().fetch_add(1, Ordering::Relaxed);
        let expected = ready.expected.as_ref();
        let Some(at) = self.look_to_put(&ready.path, expected)? else { return Ok((Outcome::Changed, None)) };
        let mut outcome = self.place(ready.staged(self.own), &at, &ready.path, expected)?;
        if outcome != Outcome::Done {
            return Ok((outcome, None));
        }
        let stamp = ready.stamp_at(&at)?;
        if let Some((from, expected)) = &ready.then_delete {
            outcome = match self.look(from, Some(expected))? {
                Some(at) => self.delete(&at, Some(expected), from)?,
                None => Outcome::Changed,
            };
        }
        Ok((outcome, stamp))
    }

    /// Lets what stands in the stage as `new` stand at a path instead of what was looked at there.
    pub(super) fn place(
        &mut self,
        new: Name<'_>,
        at: &At,
        path: &RelPath,
        expected: Option<&Entry>,
    ) -> anyhow::Result<Outcome> {
        let outcome = match &at.now {
            None => match rename_new(new, at.name()) {
                Ok(()) => Outcome::Done,
                Err(error) => return changed_if_exists(error.into()),
            },
            Some(old) => self.replace(new, at, &Stamp::of(old), path, expected)?,
        };
        self.unsynced.add(&at.parent);
        Ok(outcome)
    }

    /// The new one waits at the old one's place in the trash; then both change places at once. So the old
    /// one is at every moment either here or there, and whatever came here since we looked is caught too.
    /// Killed in between, the trash has a version that never stood here: one too many, never one too few.
    fn replace(
        &mut self,
        new: Name<'_>,
        at: &At,
        old: &Stamp,
        path: &RelPath,
        expected: Option<&Entry>,
    ) -> anyhow::Result<Outcome> {
        // Held open, so that its number does not become another file's.
        let held = rustix::fs::openat(new.dir, new.name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        let ours = rustix::fs::fstat(&held)?.st_ino;
        let place = self.trash.place(path, &self.unsynced, |place| rename_new(new, place))?;
        let trashed = place.name();
        match exchange(trashed, at.name()) {
            Ok(true) => {}
            Ok(false) => {
                rename_new(trashed, new)?;
                return self.replace_by_link(new, at, old, path, expected);
            }
            Err(error) => {
                rename_new(trashed, new)?;
                // It went away since we looked.
                let is_gone = error.kind() == io::ErrorKind::NotFound;
                return if is_gone { Ok(Outcome::Changed) } else { Err(error.into()) };
            }
        }
        reach(Point::Exchanged)?;
        let caught = trashed.stat()?;
        if let Some(caught) = caught.filter(|caught| Stamp::of(caught).same_but_for_ctime(old)) {
            self.note_trashed(&place, path, expected, &caught);
            return Ok(Outcome::Done);
        }
        // Somebody was faster: what he put here comes back.
        give_back(trashed, at.name(), Some((ours, new)))?;
        Ok(Outcome::Changed)
    }

    /// The same where the filesystem cannot exchange: the old one gets a second name in the trash, then
    /// the new one is renamed over it.
    pub(super) fn replace_by_link(
        &mut self,
        new: Name<'_>,
        at: &At,
        old: &Stamp,
        path: &RelPath,
        expected: Option<&Entry>,
    ) -> anyhow::Result<Outcome> {
        let place = self.trash.place(path, &self.unsynced, |place| {
            reach(Point::TrashLink)?;
            // Without AT_SYMLINK_FOLLOW: of a symlink the link itself.
            Ok(rustix::fs::linkat(at.parent.as_fd(), &*at.name, place.dir, place.name, AtFlags::empty())?)
        })?;
        let linked = place.name().stat()?;
        let Some(linked) = linked.filter(|linked| Stamp::of(linked).same_but_for_ctime(old)) else {
            // It has one name too many now. That one stays: the other may be gone by this time.
            return Ok(Outcome::Changed);
        };
        reach(Point::RenameOver)?;
        rustix::fs::renameat(new.dir, new.name, at.parent.as_fd(), &*at.name)?;
        let now = place.name().stat()?.unwrap_or(linked);
        self.note_trashed(&place, path, expected, &now);
        Ok(Outcome::Done)
    }

    /// Removes what was looked at: a directory when it is empty, all else into the trash.
    pub(super) fn delete(
        &mut self,
        at: &At,
        expected: Option<&Entry>,
        path: &RelPath,
    ) -> anyhow::Result<Outcome> {
        let Some(old) = at.now.as_ref().map(Stamp::of) else { return Ok(Outcome::Changed) };
        if at.is_dir() {
            reach(Point::DirRemove)?;
            match rustix::fs::unlinkat(&at.parent, &*at.name, AtFlags::REMOVEDIR) {
                Ok(()) => {}
                // Something has come into it, or stays in it; or it has gone.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::NOENT) => {
                    return Ok(Outcome::Changed);
                }
                Err(error) => return Err(io::Error::from(error).into()),
            }
        } else {
            let place = self.trash.place(path, &self.unsynced, |place| rename_new(at.name(), place));
            let place = match place {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Changed),
                place => place?,
            };
            let caught = place.name().stat()?;
            let Some(caught) = caught.filter(|caught| Stamp::of(caught).same_but_for_ctime(&old)) else {
                give_back(place.name(), at.name(), None)?;
                return Ok(Outcome::Changed);
            };
            self.note_trashed(&place, path, expected, &caught);
        }
        self.unsynced.add(&at.parent);
        self.gone.insert(path.to_owned());
        Ok(Outcome::Done)
    }
}

/// Lets what was caught in the trash by mistake stand at its place again, and ours, if it is there now,
/// in the stage.
///
/// Should others have put yet another thing there by then, that one stays, and the one before it in the
/// trash; but never a directory, which may hold anything, as long as there is another way.
fn give_back(trashed: Name<'_>, at: Name<'_>, ours: Option<(u64, Name<'_>)>) -> io::Result<()> {
    for turn in 0..MOST_TURNS {
        match rename_new(trashed, at) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done,
        }
        let is_dir = |stat: Stat| FileType::from_raw_mode(stat.st_mode).is_dir();
        let ours_is_there = turn == 0 && ours.is_some_and(|(ino, _)| at.is(ino));
        if !ours_is_there && !trashed.stat()?.is_some_and(is_dir) {
            return Ok(());
        }
        match exchange(trashed, at) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        if let Some((ino, new)) = ours
            && trashed.is(ino)
        {
            return rename_new(trashed, new);
        }
    }
    Ok(())
}
