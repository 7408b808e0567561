//! The single steps that change a tree: putting in place, replacing, removing.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Mutex;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::ScannedTree;
use super::durable::Unsynced;
use super::live::{LiveTree, TreeName};
use super::own::OwnDir;
use super::swap::{Name, exchange, rename_new};
use super::trash::{RunTrash, TrashEntry, TrashId, TrashName, Trashed};
use crate::disk::{Owners, Stamp};
use crate::fault::{Point, reach};
use crate::model::{Digest, Entry, File, Outcome, RelPath, RelPathBuf};

/// How often one path is given back to somebody who keeps changing it.
const MOST_TURNS: usize = 16;

/// A file that was put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where.
    pub path: RelPathBuf,
    /// As it stands there.
    pub stamp: Stamp,
    /// Its content.
    pub digest: Digest,
}

/// Changes the tree of a root, one step of the kernel at a time, and keeps account of it.
pub(super) struct TreeWriter<'a> {
    pub(super) own: &'a OwnDir,
    run: &'a str,
    pub(super) live: LiveTree<'a>,
    pub(super) owners: Mutex<&'a mut Owners>,
    trash: RunTrash<'a>,
    pub(super) unsynced: Unsynced,
    /// See [`Committed`](super::Committed).
    placed: Vec<Placed>,
    trashed: Vec<TrashEntry>,
}

impl<'a> TreeWriter<'a> {
    pub(super) fn new(
        own: &'a OwnDir,
        run: &'a str,
        seen: &'a ScannedTree<'a>,
        owners: &'a mut Owners,
    ) -> anyhow::Result<TreeWriter<'a>> {
        Ok(TreeWriter {
            own,
            run,
            live: LiveTree::new(own.root(), seen),
            owners: Mutex::new(owners),
            trash: RunTrash::new(own, run)?,
            unsynced: Unsynced::default(),
            placed: Vec::new(),
            trashed: Vec::new(),
        })
    }

    /// What was put in place, what went to the trash, and whether all of that is on disk.
    pub(super) fn finish(mut self) -> (Vec<Placed>, Vec<TrashEntry>, io::Result<()>) {
        // Without its index, the trash is only slower to find blobs in.
        let _ = self.trash.save_index(&self.unsynced);
        let synced = reach(Point::CommitSync).and_then(|()| self.unsynced.sync(self.own));
        (self.placed, self.trashed, synced.and_then(|()| reach(Point::CommitTold)))
    }

    pub(super) fn note_placed(&mut self, path: &RelPathBuf, file: &File, stamp: Stamp) {
        if (stamp.size, stamp.mtime) == (file.size, file.mtime) {
            self.placed.push(Placed { path: path.clone(), stamp, digest: file.digest });
        }
    }

    /// Notes what has gone to the trash: what the scan saw at `path`, and now looks like `caught`.
    pub(super) fn note_trashed(
        &mut self,
        place: &TrashName,
        path: &RelPath,
        expected: Option<&Entry>,
        caught: &Stat,
    ) {
        let stamp = Stamp::of(caught);
        self.live.mark_touched(stamp);
        if let Some(Entry::File(file)) = expected {
            self.trash.note(place, path, &file.digest);
        }
        if let Ok(id) = TrashId::new(self.run, place.version()) {
            self.trashed.push(TrashEntry::of(Trashed { id, path: path.to_owned() }, caught));
        }
    }

    /// Lets what stands in the stage as `new` stand at a path instead of what was looked at there.
    pub(super) fn place(
        &mut self,
        new: Name<'_>,
        at: &TreeName,
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
        at: &TreeName,
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
        at: &TreeName,
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
        at: &TreeName,
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
        self.live.mark_gone(path);
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

/// Something came to stand there since we looked: that is left for the next run.
pub(super) fn changed_if_exists(error: anyhow::Error) -> anyhow::Result<Outcome> {
    match error.downcast_ref::<io::Error>() {
        Some(io) if io.kind() == io::ErrorKind::AlreadyExists => Ok(Outcome::Changed),
        _ => Err(error),
    }
}
