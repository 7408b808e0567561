//! Requested blobs → the stage: from this host itself where it has them, the rest from the source.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::blobs::{self, InStage, create_partial, partial_len, remove_partial};
use super::local_blobs::LocalBlobs;
use super::own::OwnDir;
use super::read::open_file;
use super::room::StageRoom;
use super::signature::{MAX_BASES, is_worth_it};
use super::source::send_open;
use super::stager::{Basis, Stager};
use super::{BlobRequest, Received, ScannedTree, Signature, Sink as _, Source};
use crate::model::Digest;

/// Gets blobs into the stage, where [`commit`](super::commit()) finds them by their digests.
///
/// `source` is asked only for what is not in the stage yet, nor elsewhere in the tree as it was scanned, nor in the
/// trash. Whatever is reused is read and verified. A source that is lost on the way fails what it had not sent yet.
pub fn stage(
    own: &OwnDir,
    seen: &ScannedTree<'_>,
    requests: &[BlobRequest],
    source: &mut dyn Source,
) -> Received {
    let (mut results, mut missing) = missing(own, requests);
    if !missing.is_empty() {
        let copied = copy_local(own, seen, &missing);
        let mut copied = copied.iter();
        missing.retain(|_| copied.next().is_none_or(Result::is_err));
        for request in missing.iter_mut().filter(|request| request.offset > 0) {
            // A copy that failed took the partial file along.
            request.offset = partial_len(own.stage(), request);
        }
    }
    if !missing.is_empty() {
        let received = fetch(own, seen, &missing, source);
        results.extend(missing.iter().map(|request| request.digest).zip(received));
    }
    requests.iter().map(|request| results.get(&request.digest).cloned().unwrap_or(Ok(()))).collect()
}

/// Each blob that the stage does not have, once and with what it has of it; and for every blob whether it is there or
/// has room.
fn missing(
    own: &OwnDir,
    requests: &[BlobRequest],
) -> (HashMap<Digest, Result<(), String>>, Vec<BlobRequest>) {
    let in_stage = blobs::find(own, requests);
    let mut room = StageRoom::of(own);
    let (mut results, mut missing) = (HashMap::new(), Vec::new());
    for request in requests {
        if results.contains_key(&request.digest) {
            continue;
        }
        let offset = match in_stage.get(&request.digest) {
            Some(InStage::Whole) => {
                results.insert(request.digest, Ok(()));
                continue;
            }
            Some(InStage::Partial(length)) => *length,
            None => 0,
        };
        let has_room = room.take(request.size.saturating_sub(offset));
        if has_room.is_ok() {
            missing.push(BlobRequest { offset, ..request.clone() });
        }
        results.insert(request.digest, has_room);
    }
    (results, missing)
}

/// Gets blobs from the source.
fn fetch(own: &OwnDir, seen: &ScannedTree<'_>, missing: &[BlobRequest], source: &mut dyn Source) -> Received {
    let (sent, received) = std::thread::scope(|scope| {
        let bases = bases(own, seen, missing);
        let mut stager = Stager::new(own, missing).with_bases(bases).with_writers(scope);
        let sent = source.send(missing, &mut stager);
        (sent, stager.finish())
    });
    let Err(lost) = sent else { return received };
    received.into_iter().map(|received| received.map_err(|why| format!("{why}: {lost:#}"))).collect()
}

/// What stands where requested blobs will, as far as it is worth comparing.
fn bases(own: &OwnDir, seen: &ScannedTree<'_>, requests: &[BlobRequest]) -> Vec<Option<Basis>> {
    let mut left = MAX_BASES;
    let basis = |request: &BlobRequest| {
        let size = seen.tree.get(&request.path)?.as_file()?.size;
        if left == 0 || !is_worth_it(size, request.size) {
            return None;
        }
        left -= 1;
        let (file, stamp) = open_file(own.root(), request.path.as_bytes()).ok()?;
        if seen.stamp(&request.path) != Some(stamp) {
            return None;
        }
        let signature = Arc::new(Signature::of(&file, size, own.progress())?);
        Some(Basis { file, signature })
    };
    requests.iter().map(basis).collect()
}

/// Copies what this host has anyway; `Err` for what it has not, or no longer.
fn copy_local(own: &OwnDir, seen: &ScannedTree<'_>, requests: &[BlobRequest]) -> Received {
    let local = LocalBlobs::new(own, seen, requests);
    let mut stager = Stager::new(own, requests);
    for (index, request) in requests.iter().enumerate() {
        let copied = if request.offset > 0 && request.offset == request.size {
            // All of it was left in the stage, and has only to be verified.
            stager.begin_at(index, request.offset).and_then(|()| stager.end(Ok(())))
        } else {
            let Some((file, stamp)) = local.open(request) else { continue };
            let cloned = request.offset == 0 && request.size > 0 && clone(own.stage(), &file, request);
            let offset = if cloned { request.size } else { request.offset };
            let request = BlobRequest { offset, ..request.clone() };
            stager.begin_at(index, offset).and_then(|()| {
                let sent = send_open(&file, stamp, &request, &mut stager)?;
                stager.end(sent)
            })
        };
        if copied.is_err() {
            break;
        }
    }
    stager.finish()
}

/// Lets the partial file share its blocks with `file`, on filesystems that can.
fn clone(stage: BorrowedFd<'_>, file: &File, request: &BlobRequest) -> bool {
    let Ok(partial) = create_partial(stage, &request.digest) else { return false };
    let cloned = rustix::fs::ioctl_ficlone(&partial, file).is_ok()
        && partial.metadata().is_ok_and(|now| now.len() == request.size);
    if !cloned {
        remove_partial(stage, &request.digest);
    }
    cloned
}
