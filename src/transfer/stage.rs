//! What is wanted → the stage: from this host itself where it can be, the rest from the source.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::own::OwnDir;
use super::source::{open_file, send_open};
use super::stager::{Basis, Stager, begun, create_part, is_staged, remove_part};
use super::sweep::left;
use super::{BlobRequest, Received, Seen, Signature, Sink as _, Source, signature, trash};
use crate::disk::Stamp;
use crate::model::{Digest, RelPath, Size};

/// Left free on the filesystem: a hundredth of it, but no more than this many bytes.
const MOST_MARGIN: u64 = 64 << 20;

/// Gets contents into the stage, where [`commit`](super::commit()) finds them by their digests.
///
/// BlobRequest from `source` is only what is not in the stage yet, nor elsewhere in the tree as it was
/// scanned, nor in the trash. A source that is lost on the way fails what it had not sent yet.
pub fn stage(own: &OwnDir, seen: &Seen<'_>, wanted: &[BlobRequest], source: &mut dyn Source) -> Received {
    let stage = own.stage();
    let mut results: HashMap<Digest, Result<(), String>> = HashMap::new();
    let mut missing: Vec<BlobRequest> = Vec::new();
    let mut room = Room::of(own);
    // As a rule nothing is: each content is looked for only where something may be found.
    let left = left(stage);
    for wanted in wanted {
        if results.contains_key(&wanted.digest) {
            continue;
        }
        let mut result = Ok(());
        let is_left = left.as_ref().is_none_or(|left| left.contains(&wanted.digest));
        if !is_left || !is_staged(stage, &wanted.digest, wanted.size) {
            let offset = if is_left { begun(stage, wanted) } else { 0 };
            result = room.take(wanted.size - offset);
            if result.is_ok() {
                missing.push(BlobRequest { offset, ..wanted.clone() });
            }
        }
        results.insert(wanted.digest, result);
    }

    if !missing.is_empty() {
        let copied = copy_own(own, seen, &missing);
        let mut copied = copied.iter();
        missing.retain(|_| copied.next().is_none_or(Result::is_err));
        for wanted in missing.iter_mut().filter(|wanted| wanted.offset > 0) {
            // A copy that failed took the part along.
            wanted.offset = begun(stage, wanted);
        }
    }
    if !missing.is_empty() {
        let (sent, received) = std::thread::scope(|scope| {
            let mut stager = Stager::new(own, &missing)
                .with_signatures(signatures(own, seen, &missing))
                .with_writers(scope);
            let sent = source.send(&missing, &mut stager);
            (sent, stager.finish())
        });
        for (wanted, received) in missing.iter().zip(received) {
            let received = match (&sent, received) {
                (Err(lost), Err(why)) => Err(format!("{why}: {lost:#}")),
                (_, received) => received,
            };
            results.insert(wanted.digest, received);
        }
    }
    wanted.iter().map(|wanted| results.get(&wanted.digest).cloned().unwrap_or(Ok(()))).collect()
}

/// What stands where wanted contents will, as far as it is worth comparing.
fn signatures(own: &OwnDir, seen: &Seen<'_>, wanted: &[BlobRequest]) -> Vec<Option<Basis>> {
    // A message holds the signature of some files, and no more.
    let mut left = signature::MAX_BASES;
    let basis = |wanted: &BlobRequest| {
        let size = seen.tree.get(&wanted.path)?.as_file()?.size;
        if left == 0 || !signature::is_worth_it(size, wanted.size) {
            return None;
        }
        left -= 1;
        let (file, stamp) = open_file(own.root(), wanted.path.as_bytes()).ok()?;
        if seen.stamp(&wanted.path) != Some(stamp) {
            return None;
        }
        let signature = Arc::new(Signature::of(&file, size, own.progress())?);
        Some(Basis { file, signature })
    };
    wanted.iter().map(basis).collect()
}

/// Copies what this host has anyway; `Err` for what it has not, or no longer.
fn copy_own(own: &OwnDir, seen: &Seen<'_>, wanted: &[BlobRequest]) -> Received {
    let finds = Finds::new(own, seen, wanted);
    let mut stager = Stager::new(own, wanted);
    for (index, wanted) in wanted.iter().enumerate() {
        let Some((file, stamp)) = finds.open(wanted) else { continue };
        let cloned = wanted.offset == 0 && wanted.size > 0 && clone(own.stage(), &file, wanted);
        let offset = if cloned { wanted.size } else { wanted.offset };
        let wanted = BlobRequest { offset, ..wanted.clone() };
        let copied = stager.begin_at(index, offset).and_then(|()| {
            let sent = send_open(&file, stamp, &wanted, &mut stager)?;
            stager.end(sent)
        });
        if copied.is_err() {
            break;
        }
    }
    stager.finish()
}

/// Lets the part share its blocks with `file`, on filesystems that can.
fn clone(stage: BorrowedFd<'_>, file: &File, wanted: &BlobRequest) -> bool {
    let Ok(part) = create_part(stage, &wanted.digest) else { return false };
    let cloned = rustix::fs::ioctl_ficlone(&part, file).is_ok()
        && part.metadata().is_ok_and(|now| now.len() == wanted.size);
    if !cloned {
        remove_part(stage, &wanted.digest);
    }
    cloned
}

/// Where this host has wanted contents.
struct Finds<'a> {
    own: &'a OwnDir,
    seen: &'a Seen<'a>,
    in_tree: HashMap<Digest, &'a RelPath>,
    in_trash: HashMap<Digest, trash::Trashed>,
}

impl<'a> Finds<'a> {
    fn new(own: &'a OwnDir, seen: &'a Seen<'a>, wanted: &[BlobRequest]) -> Finds<'a> {
        let mut left: HashSet<Digest> = wanted.iter().map(|wanted| wanted.digest).collect();
        let mut in_tree = HashMap::new();
        for (path, entry) in seen.tree.iter() {
            if let Some(file) = entry.as_file()
                && left.remove(&file.digest)
            {
                in_tree.insert(file.digest, path);
            }
        }
        let in_trash = if left.is_empty() { HashMap::new() } else { trash::find(own, &left) };
        Finds { own, seen, in_tree, in_trash }
    }

    fn open(&self, wanted: &BlobRequest) -> Option<(File, Stamp)> {
        if let Some(path) = self.in_tree.get(&wanted.digest)
            && let Ok((file, stamp)) = open_file(self.own.root(), path.as_bytes())
            && self.seen.stamp(path) == Some(stamp)
        {
            return Some((file, stamp));
        }
        let trashed = self.in_trash.get(&wanted.digest)?;
        let (file, stamp) = trashed.open(self.own.root()).ok()?;
        (stamp.size == wanted.size).then_some((file, stamp))
    }
}

/// The room that is left for contents.
struct Room {
    free: u64,
    left: u64,
    root: String,
}

impl Room {
    fn of(own: &OwnDir) -> Room {
        let root = own.root().path().display().to_string();
        let Ok(disk) = rustix::fs::fstatvfs(own.stage()) else {
            // It does not say; a disk that is full will.
            return Room { free: u64::MAX, left: u64::MAX, root };
        };
        // Blocks that are kept for root are for us when we are root.
        let blocks = if rustix::process::geteuid().is_root() { disk.f_bfree } else { disk.f_bavail };
        let free = blocks.saturating_mul(disk.f_frsize);
        let margin = (disk.f_blocks.saturating_mul(disk.f_frsize) / 100).min(MOST_MARGIN);
        Room { free, left: free.saturating_sub(margin), root }
    }

    fn take(&mut self, size: u64) -> Result<(), String> {
        match self.left.checked_sub(size) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                Err(format!("needs {}, {} free on {}", Size(size), Size(self.left.min(self.free)), self.root))
            }
        }
    }
}
