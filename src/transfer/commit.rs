//! Actions → the disk, in order, each of them all or nothing.
//!
//! Every action is checked against the host's own scan, looked at again, and then done in one step of
//! the kernel. New files get their mode, owner and time, and are on disk, before they are visible.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, bail};
use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Errno;

use super::Seen;
use super::durable::Unsynced;
use super::metadata::{self, Mask};
use super::own::OwnDir;
use super::place::{At, Copied, Ready, copy_content};
use super::source::open_file;
use super::stager::is_staged;
use super::swap::{Name, rename_new};
use super::sweep::making;
use super::trash::RunTrash;
use crate::disk::{OWN_DIR, Owners, Stamp};
use crate::model::{Action, Digest, Entry, File, Meta, Outcome, Problem, RelPath, RelPathBuf, Step, Symlink};

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// One for each action.
    pub outcomes: Vec<Outcome>,
    /// The files whose content is known to stand there now: a hash cache may remember them.
    pub placed: Vec<Placed>,
}

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

/// Carries out `actions`. Contents must be in the stage; what goes, goes to the trash of `run`, a ULID.
///
/// All that is told as done is on disk. `Err` means that nothing was touched.
pub fn commit(
    own: &OwnDir,
    run: &str,
    seen: &Seen<'_>,
    actions: &[Action],
    owners: &mut Owners,
) -> anyhow::Result<Committed> {
    let mut commit = Commit::new(own, run, seen, owners)?;
    commit.uses = uses(actions);
    commit.done.outcomes = vec![Outcome::Changed; actions.len()];
    for (index, action) in actions.iter().enumerate() {
        if action.step == Step::Delete {
            // What is deleted now may be deleted because those stand elsewhere by then.
            commit.put_ready();
        }
        match commit.act(index, action) {
            Ok(Acted::Ready) => {}
            Ok(Acted::Is(outcome)) => commit.done.outcomes[index] = outcome,
            Err(error) => commit.done.outcomes[index] = Outcome::Failed(format!("{error:#}")),
        }
    }
    commit.put_ready();
    Ok(commit.finish())
}

/// How many actions need each content.
fn uses(actions: &[Action]) -> HashMap<Digest, usize> {
    let mut uses = HashMap::new();
    for action in actions {
        if let Step::Put(Entry::File(file)) = &action.step {
            *uses.entry(file.digest).or_default() += 1;
        }
    }
    uses
}

pub(super) struct Commit<'a> {
    pub(super) own: &'a OwnDir,
    seen: &'a Seen<'a>,
    owners: &'a mut Owners,
    pub(super) trash: RunTrash<'a>,
    pub(super) unsynced: Unsynced,
    /// How many more actions need a content that is in the stage once.
    uses: HashMap<Digest, usize>,
    /// What was scanned and is no longer there, by our own doing.
    pub(super) gone: HashSet<RelPathBuf>,
    /// By inode, how files look whose other hard link we moved: that changes their ctime.
    pub(super) touched: HashMap<u64, Stamp>,
    /// Files that are complete in the stage, but not yet on disk.
    pub(super) ready: Vec<Ready>,
    pub(super) done: Committed,
}

/// How far an action came.
pub(super) enum Acted {
    Is(Outcome),
    /// It is done when the ready files are put in place.
    Ready,
}

impl<'a> Commit<'a> {
    pub(super) fn new(
        own: &'a OwnDir,
        run: &'a str,
        seen: &'a Seen<'a>,
        owners: &'a mut Owners,
    ) -> anyhow::Result<Commit<'a>> {
        Ok(Commit {
            own,
            seen,
            owners,
            trash: RunTrash::new(own, run)?,
            unsynced: Unsynced::default(),
            uses: HashMap::new(),
            gone: HashSet::new(),
            touched: HashMap::new(),
            ready: Vec::new(),
            done: Committed::default(),
        })
    }

    fn act(&mut self, index: usize, action: &Action) -> anyhow::Result<Acted> {
        let only_use = match &action.step {
            Step::Put(Entry::File(file)) => self.uses.get_mut(&file.digest).is_none_or(|uses| {
                *uses = uses.saturating_sub(1);
                *uses == 0
            }),
            _ => false,
        };
        self.may_touch(&action.path)?;
        let Some(at) = self.look(&action.path, action.expected.as_ref())? else {
            return Ok(Acted::Is(Outcome::Changed));
        };
        match &action.step {
            Step::Put(Entry::File(file)) => self.put_file(index, action, &at, file, only_use),
            Step::Put(Entry::Dir(meta)) => self.put_dir(index, &at, meta).map(Acted::Is),
            Step::Put(Entry::Symlink(link)) => self.put_symlink(index, action, &at, link).map(Acted::Is),
            Step::SetMeta(entry) => self.set_meta(index, action, &at, entry),
            Step::Move { from, from_expected, entry } => {
                self.move_file(index, action, &at, from, from_expected, entry)
            }
            Step::Delete => self.delete(&at, action.expected.as_ref(), &action.path).map(Acted::Is),
            Step::Put(entry) => bail!("cannot be made: {entry:?}"),
        }
    }

    /// Whether a path is for us to change, whatever the peer thinks: not what is ours, and not what the
    /// rules keep out or could not be seen, nor below it.
    fn may_touch(&self, path: &RelPath) -> anyhow::Result<()> {
        if path.names().any(|name| name == OWN_DIR.as_bytes()) {
            bail!("belongs to xds-sync itself");
        }
        for (depth, path) in std::iter::once(path).chain(path.ancestors()).enumerate() {
            match self.scanned(path) {
                Some(Entry::Problem(Problem::Special | Problem::EscapingLink)) if depth == 0 => {}
                Some(entry) if entry.is_opaque() => bail!("is to be left alone"),
                _ => {}
            }
        }
        Ok(())
    }

    /// What the scan saw at a path, as far as we have not removed it since.
    fn scanned(&self, path: &RelPath) -> Option<&Entry> {
        self.seen.tree.get(path).filter(|_| !self.gone.contains(path))
    }

    /// Looks at a path again. `None` when it is not as `expected`, which must be what the scan saw.
    pub(super) fn look(&self, path: &RelPath, expected: Option<&Entry>) -> anyhow::Result<Option<At>> {
        if self.scanned(path) != expected {
            return Ok(None);
        }
        let at = match At::open(self.own.root(), path) {
            Ok(at) => at,
            // The directory it was in is gone, or something else by now.
            Err(error) if is_no_way(&error) && self.was_dir(path.parent()) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_same = match (expected, &at.now) {
            (None, None) => true,
            (Some(Entry::Dir(_)), Some(now)) => self.is_same_dir(path, now),
            (Some(_), Some(now)) => self.is_same(path, now),
            _ => false,
        };
        Ok(is_same.then_some(at))
    }

    fn was_dir(&self, parent: Option<&RelPath>) -> bool {
        parent.is_none_or(|parent| matches!(self.scanned(parent), Some(Entry::Dir(_))))
    }

    /// A directory's times change with what is in it.
    fn is_same_dir(&self, path: &RelPath, now: &Stat) -> bool {
        let now = Stamp::of(now);
        self.seen.stamp(path).is_some_and(|seen| (seen.ino, seen.mode) == (now.ino, now.mode))
    }

    fn is_same(&self, path: &RelPath, now: &Stat) -> bool {
        let now = Stamp::of(now);
        let is_touched =
            |seen: Stamp| seen.same_but_for_ctime(&now) && self.touched.get(&now.ino) == Some(&now);
        self.seen.stamp(path).is_some_and(|seen| seen == now || is_touched(seen))
    }

    fn put_file(
        &mut self,
        index: usize,
        action: &Action,
        at: &At,
        file: &File,
        only_use: bool,
    ) -> anyhow::Result<Acted> {
        if at.is_dir() {
            bail!("a directory is in the way");
        }
        let mut staged = file.digest.to_string();
        if !is_staged(self.own.stage(), &file.digest, file.size) {
            bail!("its content did not arrive");
        }
        if !only_use {
            let (content, _) = open_file(self.own.stage(), staged.as_bytes())?;
            staged = self.copy(index, &content, file)?;
        }
        self.make_ready(index, action, at, file, staged, None)
    }

    /// Copies a content into the stage once more, for one action alone.
    fn copy(&mut self, index: usize, content: &std::fs::File, file: &File) -> anyhow::Result<String> {
        let name = making(index);
        match copy_content(content, self.own.stage(), &name, file)? {
            Copied::Right => Ok(name),
            Copied::Other => bail!("its content is not what was scanned"),
        }
    }

    /// Gives a staged file all that it shall have; it is put in place when that is on disk.
    fn make_ready(
        &mut self,
        index: usize,
        action: &Action,
        at: &At,
        file: &File,
        staged: String,
        then_delete: Option<(RelPathBuf, Entry)>,
    ) -> anyhow::Result<Acted> {
        let (content, _) = open_file(self.own.stage(), staged.as_bytes())?;
        // Nobody said whose it shall be: as the file that it replaces, or as the directory it is in.
        let fallback = match &at.now {
            Some(now) if FileType::from_raw_mode(now.st_mode).is_file() => *now,
            _ => rustix::fs::fstat(&at.parent)?,
        };
        metadata::set(&content, &file.meta, Mask::File, &fallback, self.owners)?;
        metadata::set_mtime(&content, file.mtime)?;
        self.unsynced.add(&content);
        self.ready.push(Ready {
            index,
            path: action.path.clone(),
            expected: action.expected.clone(),
            file: file.clone(),
            staged,
            then_delete,
        });
        Ok(Acted::Ready)
    }

    fn put_dir(&mut self, index: usize, at: &At, meta: &Meta) -> anyhow::Result<Outcome> {
        if at.now.is_some() {
            if !at.is_dir() {
                bail!("something that is no directory is in the way");
            }
            return self.set_dir_meta(at, meta);
        }
        // Made where nobody sees it, so that it never stands there with another mode or owner.
        let name = making(index);
        let new = Name::new(self.own.stage(), name.as_ref());
        rustix::fs::mkdirat(new.dir, new.name, Mode::RWXU)?;
        let placed = self.ready_dir(new, at, meta).and_then(|()| Ok(rename_new(new, at.name())?));
        if let Err(error) = placed {
            let _ = rustix::fs::unlinkat(new.dir, new.name, rustix::fs::AtFlags::REMOVEDIR);
            return changed_if_exists(error);
        }
        self.unsynced.add(&at.parent);
        Ok(Outcome::Done)
    }

    fn ready_dir(&mut self, new: Name<'_>, at: &At, meta: &Meta) -> anyhow::Result<()> {
        let dir = super::own::open_dir(new.dir, new.name.as_encoded_bytes())?;
        let fallback = rustix::fs::fstat(&at.parent)?;
        metadata::set(&dir, meta, Mask::Dir, &fallback, self.owners)?;
        self.unsynced.add(&dir);
        Ok(())
    }

    fn put_symlink(
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
        let name = making(index);
        let new = Name::new(self.own.stage(), name.as_ref());
        rustix::fs::symlinkat(&*link.target, new.dir, new.name)?;
        let placed = self.place(new, at, &action.path, action.expected.as_ref());
        if new.stat()?.is_some() {
            new.remove()?;
        }
        placed
    }

    fn set_meta(&mut self, index: usize, action: &Action, at: &At, entry: &Entry) -> anyhow::Result<Acted> {
        if !action.expected.as_ref().is_some_and(|expected| expected.same_content(entry)) {
            bail!("its content would have to change too");
        }
        match entry {
            Entry::Dir(meta) => self.set_dir_meta(at, meta).map(Acted::Is),
            Entry::File(file) => self.set_file_meta(index, action, at, file),
            // A symlink has neither mode nor owner that anybody carries.
            _ => Ok(Acted::Is(Outcome::Done)),
        }
    }

    fn set_dir_meta(&mut self, at: &At, meta: &Meta) -> anyhow::Result<Outcome> {
        let dir = super::own::open_dir(&at.parent, at.name.as_encoded_bytes())?;
        let now = rustix::fs::fstat(&dir)?;
        if !at.is_inode(now.st_ino) {
            return Ok(Outcome::Changed);
        }
        metadata::set(&dir, meta, Mask::Dir, &now, self.owners)?;
        self.unsynced.add(&dir);
        Ok(Outcome::Done)
    }

    fn set_file_meta(
        &mut self,
        index: usize,
        action: &Action,
        at: &At,
        file: &File,
    ) -> anyhow::Result<Acted> {
        let Some(open) = self.open_as_seen(at)? else { return Ok(Acted::Is(Outcome::Changed)) };
        let now = rustix::fs::fstat(&open)?;
        if now.st_nlink > 1 {
            // Its other names, which may lie outside of the root, keep what they have.
            let staged = self.copy(index, &open, file)?;
            return self.make_ready(index, action, at, file, staged, None);
        }
        metadata::set(&open, &file.meta, Mask::File, &now, self.owners)?;
        let set_time = Stamp::of(&now).mtime != file.mtime;
        if set_time {
            metadata::set_mtime(&open, file.mtime)?;
        }
        self.unsynced.add(&open);
        if !set_time {
            // With a time that we set ourselves, a write of just now would not show: read it again then.
            self.note_placed(&action.path, file, metadata::stamp(&open)?);
        }
        Ok(Acted::Is(Outcome::Done))
    }

    fn move_file(
        &mut self,
        index: usize,
        action: &Action,
        at: &At,
        from: &RelPathBuf,
        from_expected: &Entry,
        entry: &Entry,
    ) -> anyhow::Result<Acted> {
        let Entry::File(file) = entry else { bail!("only files are moved") };
        if !from_expected.same_content(entry) {
            bail!("its content is not that of {}", from.for_people());
        }
        let from_text = || from.for_people();
        self.may_touch(from).with_context(from_text)?;
        let Some(source) = self.look(from, Some(from_expected)).with_context(from_text)? else {
            return Ok(Acted::Is(Outcome::Changed));
        };
        let Some(open) = self.open_as_seen(&source)? else { return Ok(Acted::Is(Outcome::Changed)) };
        let now = rustix::fs::fstat(&open)?;
        if at.now.is_some() || now.st_nlink > 1 {
            // Not one rename: the old version must be kept, or the file's other names.
            let staged = self.copy(index, &open, file)?;
            let then_delete = Some((from.clone(), from_expected.clone()));
            return self.make_ready(index, action, at, file, staged, then_delete);
        }
        metadata::set(&open, &file.meta, Mask::File, &now, self.owners)?;
        let set_time = Stamp::of(&now).mtime != file.mtime;
        if set_time {
            metadata::set_mtime(&open, file.mtime)?;
        }
        self.unsynced.add(&open);
        if let Err(error) = rename_new(source.name(), at.name()) {
            return changed_if_exists(error.into()).map(Acted::Is);
        }
        self.unsynced.add(&source.parent);
        self.unsynced.add(&at.parent);
        if !at.name().is(now.st_ino) {
            // Another file had come to `from`: it goes back. Where it cannot, it stands here, whole.
            let _ = rename_new(at.name(), source.name());
            return Ok(Acted::Is(Outcome::Changed));
        }
        self.gone.insert(from.clone());
        let stamp = metadata::stamp(&open)?;
        if (stamp.size, stamp.mtime) != (file.size, file.mtime) {
            return Ok(Acted::Is(Outcome::Changed));
        }
        if !set_time {
            self.note_placed(&action.path, file, stamp);
        }
        Ok(Acted::Is(Outcome::Done))
    }

    /// Opens the file that was looked at; `None` when it is another by now.
    fn open_as_seen(&self, at: &At) -> anyhow::Result<Option<std::fs::File>> {
        let Some(now) = &at.now else { return Ok(None) };
        if !FileType::from_raw_mode(now.st_mode).is_file() {
            return Ok(None);
        }
        let (open, stamp) = open_file(&at.parent, at.name.as_encoded_bytes())?;
        Ok((stamp == Stamp::of(now)).then_some(open))
    }

    pub(super) fn note_placed(&mut self, path: &RelPathBuf, file: &File, stamp: Stamp) {
        if (stamp.size, stamp.mtime) == (file.size, file.mtime) {
            self.done.placed.push(Placed { path: path.clone(), stamp, digest: file.digest });
        }
    }

    fn finish(mut self) -> Committed {
        // Without its index, the trash is only slower to find contents in.
        let _ = self.trash.save_index(&mut self.unsynced);
        if let Err(error) = self.unsynced.sync(self.own.stage()) {
            for outcome in self.done.outcomes.iter_mut().filter(|outcome| **outcome == Outcome::Done) {
                *outcome = Outcome::Failed(format!("could not be written to disk: {error}"));
            }
        }
        self.done
    }
}

fn is_no_way(error: &std::io::Error) -> bool {
    let ways = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    ways.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Something came to stand there since we looked: that is left for the next run.
fn changed_if_exists(error: anyhow::Error) -> anyhow::Result<Outcome> {
    match error.downcast_ref::<std::io::Error>() {
        Some(io) if io.kind() == std::io::ErrorKind::AlreadyExists => Ok(Outcome::Changed),
        _ => Err(error),
    }
}
