//! The steps of a commit that keep a content: metadata alone, and moves.

use std::fs;

use anyhow::{Context as _, bail};
use rustix::fs::FileType;

use super::commit::{Acted, Commit};
use super::metadata::{self, Mask};
use super::own::open_dir;
use super::place::At;
use super::put::changed_if_exists;
use super::source::open_file;
use super::swap::rename_new;
use crate::disk::Stamp;
use crate::model::{Action, Entry, File, Meta, Outcome, RelPathBuf};

impl Commit<'_> {
    pub(super) fn set_meta(
        &mut self,
        index: usize,
        action: &Action,
        at: &At,
        entry: &Entry,
    ) -> anyhow::Result<Acted> {
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

    pub(super) fn set_dir_meta(&mut self, at: &At, meta: &Meta) -> anyhow::Result<Outcome> {
        let dir = open_dir(&at.parent, at.name.as_encoded_bytes())?;
        let now = rustix::fs::fstat(&dir)?;
        if !at.is_inode(now.st_ino) {
            return Ok(Outcome::Changed);
        }
        metadata::set(&dir, meta, Mask::Dir, &now, &self.owners)?;
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
            return self.put_copy(index, action, at, &open, file, None);
        }
        metadata::set(&open, &file.meta, Mask::File, &now, &self.owners)?;
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

    pub(super) fn move_file(
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
            let then_delete = Some((from.clone(), from_expected.clone()));
            return self.put_copy(index, action, at, &open, file, then_delete);
        }
        metadata::set(&open, &file.meta, Mask::File, &now, &self.owners)?;
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
    fn open_as_seen(&self, at: &At) -> anyhow::Result<Option<fs::File>> {
        let Some(now) = &at.now else { return Ok(None) };
        if !FileType::from_raw_mode(now.st_mode).is_file() {
            return Ok(None);
        }
        let (open, stamp) = open_file(&at.parent, at.name.as_encoded_bytes())?;
        Ok((stamp == Stamp::of(now)).then_some(open))
    }
}
