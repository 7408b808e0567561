//! What keeps a file's content: metadata alone, and moves.

use std::fs;

use anyhow::{Context as _, bail};
use rustix::fs::FileType;

use super::live::TreeName;
use super::metadata::{self, Mask};
use super::put::{PutFile, ReadyFile, as_kept, ready_copy, set_dir_meta};
use super::read::open_file;
use super::swap::rename_new;
use super::tree_writer::{TreeWriter, changed_if_exists};
use crate::disk::{Stamp, acl};
use crate::model::{Action, Entry, File, Kept, Outcome, Step};

/// How far an action came.
pub(super) enum Altered {
    Is(Outcome),
    /// A copy is put in place instead, with the other files of the stage.
    ByCopy(Box<ReadyFile>),
}

pub(super) fn set_meta(
    tree: &mut TreeWriter<'_>,
    index: usize,
    action: &Action,
    at: &TreeName,
    entry: &Entry,
) -> anyhow::Result<Altered> {
    if !action.expected.as_ref().is_some_and(|expected| expected.same_content(entry)) {
        bail!("its content would have to change too");
    }
    match entry {
        Entry::Dir(meta) => set_dir_meta(tree, at, meta).map(Altered::Is),
        Entry::File(file) => set_file_meta(tree, &PutFile { index, action, file }, at),
        // A symlink has neither mode nor owner that anybody carries.
        _ => Ok(Altered::Is(Outcome::Done)),
    }
}

fn set_file_meta(tree: &mut TreeWriter<'_>, put: &PutFile<'_>, at: &TreeName) -> anyhow::Result<Altered> {
    let Some(open) = open_as_seen(at)? else { return Ok(Altered::Is(Outcome::Changed)) };
    let now = rustix::fs::fstat(&open)?;
    if now.st_nlink > 1 {
        // Its other names, which may lie outside of the root, keep what they have.
        return ready_copy(tree, put, at, &open, None).map(Box::new).map(Altered::ByCopy);
    }
    let file = put.file;
    let SetFile { set_time, kept } = set_file(tree, &open, &now, file)?;
    tree.unsynced.add(&open);
    if !set_time {
        // With a time that we set ourselves, a write of just now would not show: read it again then.
        tree.note_placed(&put.action.path, file, metadata::stamp(&open)?);
    }
    Ok(Altered::Is(as_kept(Outcome::Done, kept.as_ref())))
}

struct SetFile {
    /// Whether its time had to be set.
    set_time: bool,
    /// What the disk keeps instead of what it was given.
    kept: Option<Kept>,
}

/// Gives a file in the tree mode, owner and time.
fn set_file(
    tree: &TreeWriter<'_>,
    open: &fs::File,
    now: &rustix::fs::Stat,
    file: &File,
) -> anyhow::Result<SetFile> {
    metadata::set(open, &file.meta, Mask::File, acl::access(open).as_ref(), now, &tree.owners)?;
    let set_time = Stamp::of(now).mtime != file.mtime;
    if set_time {
        metadata::set_mtime(open, file.mtime)?;
    }
    let kept = metadata::read_back(open, &file.meta, Mask::File, Some(file.mtime), &tree.owners)?;
    Ok(SetFile { set_time, kept })
}

pub(super) fn move_file(
    tree: &mut TreeWriter<'_>,
    index: usize,
    action: &Action,
    at: &TreeName,
) -> anyhow::Result<Altered> {
    let Step::Move { from, from_expected, entry } = &action.step else { bail!("it is not to be moved") };
    let Entry::File(file) = entry else { bail!("only files are moved") };
    if !from_expected.same_content(entry) {
        bail!("its content is not that of {}", from.for_people());
    }
    let from_text = || from.for_people();
    tree.live.may_touch(from).with_context(from_text)?;
    let Some(source) = tree.live.look(from, Some(from_expected)).with_context(from_text)? else {
        return Ok(Altered::Is(Outcome::Changed));
    };
    let Some(open) = open_as_seen(&source)? else { return Ok(Altered::Is(Outcome::Changed)) };
    let now = rustix::fs::fstat(&open)?;
    if at.now.is_some() || now.st_nlink > 1 {
        // Not one rename: the old version must be kept, or the file's other names.
        let then_delete = Some((from.clone(), Entry::clone(from_expected)));
        return ready_copy(tree, &PutFile { index, action, file }, at, &open, then_delete)
            .map(Box::new)
            .map(Altered::ByCopy);
    }
    let SetFile { set_time, kept } = set_file(tree, &open, &now, file)?;
    tree.unsynced.add(&open);
    if let Err(error) = rename_new(source.name(), at.name()) {
        return changed_if_exists(error.into()).map(Altered::Is);
    }
    tree.unsynced.add(&source.parent);
    tree.unsynced.add(&at.parent);
    if !at.name().is(now.st_ino) {
        // Another file had come to `from`: it goes back. Where it cannot, it stands here, whole.
        let _ = rename_new(at.name(), source.name());
        return Ok(Altered::Is(Outcome::Changed));
    }
    tree.live.mark_gone(from);
    let stamp = metadata::stamp(&open)?;
    if (stamp.size, stamp.mtime) != (file.size, kept.as_ref().map_or(file.mtime, |kept| kept.mtime)) {
        return Ok(Altered::Is(Outcome::Changed));
    }
    if !set_time {
        tree.note_placed(&action.path, file, stamp);
    }
    Ok(Altered::Is(as_kept(Outcome::Done, kept.as_ref())))
}

/// Opens the file that was looked at; `None` when it is another by now.
fn open_as_seen(at: &TreeName) -> anyhow::Result<Option<fs::File>> {
    let Some(now) = &at.now else { return Ok(None) };
    if !FileType::from_raw_mode(now.st_mode).is_file() {
        return Ok(None);
    }
    let (open, stamp) = open_file(&at.parent, at.name.as_encoded_bytes())?;
    Ok((stamp == Stamp::of(now)).then_some(open))
}
