//! The files of a stage: what their names mean, and making, finding and naming them.
//!
//! `<digest>` holds a blob that was verified when it got that name, `<digest>.part` the beginning of one, and
//! `making.<number>` something that a commit is about to put in place. The first two outlive a run that was ended.
//! What such a run left is read again before it is reused: a disk that lost power may hold something else by now.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::BlobRequest;
use super::durable::Unsynced;
use super::hashing::hash_file;
use super::own::OwnDir;
use super::read::open_file;
use super::swap::Name;
use super::trash::names;
use crate::disk::Stamp;
use crate::fault::{Point, reach};
use crate::model::Digest;
use crate::model::steps::step;
use crate::threads::{side_by_side, threads};

/// Fewer small files than this are not worth a thread.
pub(super) const MANY: usize = 32;
/// More threads than this only wait for each other in the kernel.
pub(super) const MOST_THREADS: usize = 4;

/// How many threads that many small files are worth.
pub(super) fn threads_for(files: usize) -> usize {
    if files > MANY { threads(MOST_THREADS) } else { 1 }
}

/// What a name in the stage stands for.
pub(super) enum StageName {
    /// `<digest>` or `<digest>.part`.
    Blob(Digest),
    /// See [`temporary_name`].
    Temporary,
    /// Nothing that we put there.
    Foreign,
}

const TEMPORARY: &str = "making";

impl StageName {
    pub(super) fn of(name: &OsStr) -> StageName {
        let Ok(name) = std::str::from_utf8(name.as_bytes()) else { return StageName::Foreign };
        let (first, rest) = name.split_once('.').unwrap_or((name, ""));
        let digest = Digest::from_hex(first).filter(|digest| digest.to_string() == first);
        let is_number = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        match (digest, rest) {
            (Some(digest), "" | "part") if !name.ends_with('.') => StageName::Blob(digest),
            _ if is_number && first == TEMPORARY => StageName::Temporary,
            _ => StageName::Foreign,
        }
    }
}

/// The name under which a commit makes what its action with this number puts in place: a directory, a symlink, or
/// one more copy of a blob.
///
/// An earlier commit may have left something under it, which is removed as in a sweep.
pub(super) fn temporary_name(own: &OwnDir, action: usize) -> String {
    let name = format!("{TEMPORARY}.{action}");
    let left = Name::new(own.stage(), name.as_ref());
    // Where this fails, so does making it anew, which says why.
    if left.remove().is_err() {
        let _ = left.remove_empty_dir();
    }
    name
}

fn partial_name(digest: &Digest) -> String {
    format!("{digest}.part")
}

/// A new file that nobody else can open.
pub(super) fn create(stage: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(stage, name, flags, Mode::RUSR | Mode::WUSR)?))
}

/// A new, empty partial file; what had its name is dropped.
pub(super) fn create_partial(stage: BorrowedFd<'_>, digest: &Digest) -> io::Result<File> {
    reach(Point::StageCreate)?;
    let name = partial_name(digest);
    match create(stage, &name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_partial(stage, digest);
            create(stage, &name)
        }
        created => created,
    }
}

pub(super) fn open_partial(stage: BorrowedFd<'_>, digest: &Digest) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let partial = rustix::fs::openat(stage, partial_name(digest), flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&partial)?;
    let is_ours = FileType::from_raw_mode(stat.st_mode).is_file()
        && stat.st_nlink == 1
        && stat.st_uid == rustix::process::geteuid().as_raw();
    if !is_ours {
        // Writing to it could be writing to a file elsewhere.
        return Err(io::Error::other("what is in the stage is not ours"));
    }
    Ok(File::from(partial))
}

pub(super) fn remove_partial(stage: BorrowedFd<'_>, digest: &Digest) {
    // Where this fails, making the partial file anew fails too, and says why.
    let _ = rustix::fs::unlinkat(stage, partial_name(digest), AtFlags::empty());
}

/// How much of a blob an earlier run left, unverified.
pub(super) fn partial_len(stage: BorrowedFd<'_>, request: &BlobRequest) -> u64 {
    let length = open_partial(stage, &request.digest).and_then(|partial| Ok(partial.metadata()?.len()));
    length.ok().filter(|length| *length <= request.size).unwrap_or(0)
}

/// Gives partial files, whose digests were verified, the names of their digests, once all of `unsynced` is on disk.
pub(super) fn publish(own: &OwnDir, digests: &[&Digest], unsynced: &Unsynced) -> io::Result<()> {
    let stage = own.stage();
    reach(Point::StageSync)?;
    unsynced.sync(own)?;
    for digest in digests {
        reach(Point::StageRename)?;
        rustix::fs::renameat(stage, partial_name(digest), stage, digest.to_string())?;
    }
    reach(Point::StageDirSync)?;
    rustix::fs::fsync(stage)?;
    own.mark_verified(digests.iter().copied());
    Ok(())
}

/// Opens a blob that was verified while the stage was held by us. `None`: there is none of that digest and size.
pub(super) fn open_verified(own: &OwnDir, digest: &Digest, size: u64) -> io::Result<Option<(File, Stamp)>> {
    if !own.is_verified(digest) {
        return Ok(None);
    }
    match open_file(own.stage(), digest.to_string().as_bytes()) {
        Ok((file, stamp)) => Ok((stamp.size == size).then_some((file, stamp))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the stage has of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InStage {
    /// All of it, verified.
    Whole,
    /// So many bytes of its beginning, unverified; maybe all.
    Partial(u64),
}

/// What the stage has of each requested blob; nothing of those that are not in the result. Whole blobs that an
/// earlier run left are read, and removed where they are damaged.
pub(super) fn find(own: &OwnDir, requests: &[BlobRequest]) -> HashMap<Digest, InStage> {
    // As a rule there is nothing: each blob is looked for only where something may be found.
    let wanted: HashMap<Digest, &BlobRequest> =
        requests.iter().map(|request| (request.digest, request)).collect();
    let names = own.may_have(wanted.keys().copied(), || names_of_blobs(own)).ok();
    let is_there = |digest: &Digest| names.as_ref().is_none_or(|names| names.contains(digest));
    let may_be_there: Vec<&BlobRequest> =
        wanted.values().copied().inspect(|_| step()).filter(|request| is_there(&request.digest)).collect();
    let found = side_by_side(&may_be_there, threads_for(may_be_there.len()), |request| look(own, request));
    let found = may_be_there.iter().zip(found);
    found.filter_map(|(request, found)| Some((request.digest, found?))).collect()
}

/// The blobs that the stage has by its names.
fn names_of_blobs(own: &OwnDir) -> io::Result<HashSet<Digest>> {
    let digest = |name: &OsStr| {
        step();
        match StageName::of(name) {
            StageName::Blob(digest) => Some(digest),
            StageName::Temporary | StageName::Foreign => None,
        }
    };
    Ok(names(own.stage())?.iter().filter_map(|(name, _)| digest(name)).collect())
}

fn look(own: &OwnDir, request: &BlobRequest) -> Option<InStage> {
    let is_whole = match open_verified(own, &request.digest, request.size) {
        Ok(Some(_)) => true,
        _ => is_undamaged(own, request),
    };
    if is_whole {
        own.mark_verified([&request.digest]);
        return Some(InStage::Whole);
    }
    match partial_len(own.stage(), request) {
        0 => None,
        length => Some(InStage::Partial(length)),
    }
}

/// Whether a blob of an earlier run is what its name says; one that is not is removed.
fn is_undamaged(own: &OwnDir, request: &BlobRequest) -> bool {
    let name = request.digest.to_string();
    let digest = || -> io::Result<Option<Digest>> {
        let (file, stamp) = open_file(own.stage(), name.as_bytes())?;
        // What has another name elsewhere would be given its mode and owner there as well.
        if stamp.size != request.size || rustix::fs::fstat(&file)?.st_nlink != 1 {
            return Ok(None);
        }
        let mut progress = || _ = own.progress().fetch_add(1, Ordering::Relaxed);
        hash_file(&file, stamp.size, &mut progress).map(Some)
    };
    match digest() {
        Ok(Some(digest)) if digest == request.digest => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        _ => {
            // A directory or what cannot be removed stays; the blob's name will not be given then, and that says why.
            let _ = Name::new(own.stage(), name.as_ref()).remove();
            false
        }
    }
}
