//! The single steps of a commit: putting in place, replacing, removing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::commit::Commit;
use super::source::{Part, stream};
use super::stager::{create, hash_zeros};
use super::swap::{Name, exchange, rename_new};
use crate::disk::{HeldRoot, Stamp};
use crate::fault::{self, Point, reach};
use crate::model::{Entry, File, Outcome, RelPath, RelPathBuf};

/// How often one path is given back to somebody who keeps changing it.
const MOST_TURNS: usize = 16;

/// A path that was looked at: the directory it is in, open, and what stands there.
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
        let now = Name::new(parent.as_fd(), &name).stat()?;
        Ok(At { parent, name, now })
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
        hash(&to, file.size, None)
    } else {
        hash(from, file.size, Some(&to))
    };
    let copied = copied.and_then(|digest| {
        to.set_len(file.size)?;
        fault::wrote(&to);
        Ok(if digest == file.digest.0 { Copied::Right } else { Copied::Other })
    });
    if !matches!(copied, Ok(Copied::Right)) {
        Name::new(stage, name.as_ref()).remove()?;
    }
    copied
}

/// Hashes a file, and writes what it reads to another.
fn hash(from: &std::fs::File, size: u64, to: Option<&std::fs::File>) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    stream::<io::Error>(from, 0, size, &mut |part| {
        match part {
            Part::Data(bytes) => {
                hasher.update(bytes);
                if let Some(to) = to {
                    to.write_all_at(bytes, at)?;
                }
                at += bytes.len() as u64;
            }
            Part::Hole(length) => {
                hash_zeros(&mut hasher, length);
                at += length;
            }
        }
        Ok(())
    })?;
    Ok(hasher.finalize())
}

impl Commit<'_> {
    /// Puts the ready files in place, once they are on disk.
    pub(super) fn put_ready(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        if ready.is_empty() {
            return;
        }
        let synced = reach(Point::ReadySync).and_then(|()| self.unsynced.sync(self.own));
        for ready in ready {
            let outcome = match &synced {
                Ok(()) => self.put_one(&ready).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}"))),
                Err(error) => Outcome::Failed(format!("could not be written to disk: {error}")),
            };
            if outcome != Outcome::Done && ready.staged != ready.file.digest.to_string() {
                // Only one more copy; where it is gone already, all the better.
                let _ = Name::new(self.own.stage(), ready.staged.as_ref()).remove();
            }
            self.done.outcomes[ready.index] = outcome;
        }
    }

    fn put_one(&mut self, ready: &Ready) -> anyhow::Result<Outcome> {
        let Some(at) = self.look(&ready.path, ready.expected.as_ref())? else { return Ok(Outcome::Changed) };
        let stage = self.own.stage();
        let new = Name::new(stage, ready.staged.as_ref());
        let outcome = self.place(new, &at, &ready.path, ready.expected.as_ref())?;
        if outcome != Outcome::Done {
            return Ok(outcome);
        }
        if let Some(stat) = at.name().stat()?.filter(|stat| stat.st_ino == ready.ino) {
            self.note_placed(&ready.path, &ready.file, Stamp::of(&stat));
        }
        match &ready.then_delete {
            Some((from, expected)) => match self.look(from, Some(expected))? {
                Some(at) => self.delete(&at, Some(expected), from),
                None => Ok(Outcome::Changed),
            },
            None => Ok(Outcome::Done),
        }
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
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Outcome::Changed,
                Err(error) => return Err(error.into()),
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
        let place = self.trash.place(path, &mut self.unsynced, |place| rename_new(new, place))?;
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
        let place = self.trash.place(path, &mut self.unsynced, |place| {
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
            let place = self.trash.place(path, &mut self.unsynced, |place| rename_new(at.name(), place));
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
