//! Mode, owner, time and what a place gives beside them, set on an open file or directory as far as its disk takes them.
//!
//! What is in a file counts more than whose it is: an attribute that a disk refuses or ignores (a network filesystem
//! without root's rights, one that knows no owners, one that rounds times) is read back and told, and costs nothing else.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use rustix::fs::{FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::live::TreeName;
use crate::disk::acl::{self, Acl};
use crate::disk::{HeldRoot, Owners, Stamp};
use crate::fault::{Point, reach};
use crate::model::{Kept, Lacks, Meta, Owner};

/// What a mode may carry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mask {
    /// setuid, setgid and sticky are dropped: no peer can give a program another's rights.
    File = 0o777,
    /// setgid says which group new files get, sticky who may delete them.
    Dir = 0o3777,
}

impl Mask {
    fn of(self, mode: u32) -> u32 {
        mode & self as u32
    }
}

/// Where SELinux keeps the label of a file.
const LABEL: &str = "security.selinux";
/// No disk's times are coarser: FAT counts pairs of seconds.
const COARSEST: i64 = 2_000_000_000;

/// Gives what was made in the stage what it would have been given where it goes, as the kernel does for a file that is made
/// there; or what the file had that it replaces. Returns its access list. What the disk does not take stays as it is.
pub(super) fn inherit(fd: impl AsFd, mode: u16, mask: Mask, at: &TreeName) -> Option<Acl> {
    let replaced = open_replaced(at);
    let from = replaced.as_ref().map_or(at.parent.as_fd(), AsFd::as_fd);
    let label = acl::attribute(from, LABEL);
    if let Some(label) = label.filter(|label| acl::attribute(&fd, LABEL).as_ref() != Some(label)) {
        let _ = rustix::fs::fsetxattr(&fd, LABEL, &label, XattrFlags::empty());
    }
    let given = match &replaced {
        Some(replaced) => acl::access(replaced),
        None => acl::default(&at.parent),
    }?;
    let list = match (&replaced, mask) {
        (Some(_), _) => given.with_mode(mode.into()),
        (None, Mask::File) => given.made_with(mode.into()),
        (None, Mask::Dir) => {
            let _ = acl::set_default(&fd, &given);
            given.made_with(mode.into())
        }
    };
    acl::set_access(&fd, &list).ok().map(|()| list)
}

/// The regular file that was looked at. As a path only: whoever holds it open or may read it does not matter.
fn open_replaced(at: &TreeName) -> Option<std::os::fd::OwnedFd> {
    at.now.filter(|now| FileType::from_raw_mode(now.st_mode).is_file())?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&at.parent, &*at.name, flags, Mode::empty()).ok()?;
    at.is_inode(rustix::fs::fstat(&file).ok()?.st_ino).then_some(file)
}

/// Sets mode and owner of what has this access list. A part of the owner that is `None`, or a name this host does not
/// know, is as on `fallback`.
pub(super) fn set(
    fd: impl AsFd,
    meta: &Meta,
    mask: Mask,
    list: Option<&Acl>,
    fallback: &Stat,
    owners: &Mutex<&mut Owners>,
) -> anyhow::Result<()> {
    reach(Point::Metadata)?;
    let now = rustix::fs::fstat(&fd)?;
    // Without root's rights, what we make is ours, and nobody asked for anything else.
    let fallback = if rustix::process::geteuid().is_root() { fallback } else { &now };
    let (uid, gid) = ids(&meta.owner, owners);
    let (uid, gid) = (uid.unwrap_or(fallback.st_uid), gid.unwrap_or(fallback.st_gid));
    let is_other = (uid, gid) != (now.st_uid, now.st_gid);
    if is_other {
        let set = rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        as_far_as_it_goes(set).with_context(|| format!("its owner cannot be set to {:?}", meta.owner))?;
    }
    let mut mode = mask.of(meta.mode.into());
    let mut is_changed = false;
    if let Some(list) = list {
        let wanted = list.clone().with_mode(mode);
        mode = wanted.masked(mode);
        is_changed = wanted != *list;
        if is_changed {
            let _ = acl::set_access(&fd, &wanted);
        }
    }
    // A change of owner clears some bits (chown(2)).
    if is_other || is_changed || now.st_mode & 0o7777 != mode {
        let set = rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode));
        as_far_as_it_goes(set).context("its mode cannot be set")?;
    }
    Ok(())
}

/// Gives a root that was just made mode and owner, as far as this host and its disk know them.
pub(crate) fn set_root_meta(root: &HeldRoot, meta: &Meta, owners: &mut Owners) -> anyhow::Result<()> {
    let now = rustix::fs::fstat(root)?;
    set(root, meta, Mask::Dir, acl::access(root).as_ref(), &now, &Mutex::new(owners))
}

/// Sets the time of modification, in nanoseconds since 1970.
pub(super) fn set_mtime(fd: impl AsFd, mtime: i64) -> anyhow::Result<()> {
    reach(Point::Mtime)?;
    let now = rustix::fs::fstat(&fd)?;
    let times = Timestamps {
        // As it is, and not left out: libfuse 2 does nothing when it is given one time alone.
        last_access: Timespec { tv_sec: now.st_atime, tv_nsec: now.st_atime_nsec.try_into().unwrap_or(0) },
        last_modification: Timespec {
            tv_sec: mtime.div_euclid(1_000_000_000),
            tv_nsec: mtime.rem_euclid(1_000_000_000),
        },
    };
    as_far_as_it_goes(rustix::fs::futimens(fd, &times)).context("its time cannot be set")
}

/// What a disk refuses to set it may refuse for good; that it is full or broken is for now, and nothing is put on it.
fn as_far_as_it_goes(set: rustix::io::Result<()>) -> io::Result<()> {
    match set {
        Err(error @ (Errno::IO | Errno::NOSPC | Errno::NOMEM | Errno::INTR)) => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What the disk keeps instead of what was set, if it is anything else. A directory has no time that is carried.
pub(super) fn read_back(
    fd: impl AsFd,
    meta: &Meta,
    mask: Mask,
    mtime: Option<i64>,
    owners: &Mutex<&mut Owners>,
) -> anyhow::Result<Option<Kept>> {
    let now = rustix::fs::fstat(&fd)?;
    let (wanted, shown) = (mask.of(meta.mode.into()), mask.of(now.st_mode));
    let stamp = Stamp::of(&now);
    let (uid, gid) = ids(&meta.owner, owners);
    let owner = uid.is_some_and(|uid| uid != now.st_uid) || gid.is_some_and(|gid| gid != now.st_gid);
    // As a rule it is all as it was set.
    if !owner && shown == wanted && mtime.is_none_or(|mtime| mtime == stamp.mtime) {
        return Ok(None);
    }
    let list = acl::access(&fd);
    let mode = match (&list, mask) {
        (Some(list), Mask::Dir) => list.unmasked(shown),
        _ => shown,
    };
    let expected = list.map_or(wanted, |list| match mask {
        Mask::Dir => wanted,
        Mask::File => list.masked(wanted),
    });
    let off = mtime.map_or(0, |mtime| mtime.saturating_sub(stamp.mtime));
    let lacks = Lacks { mode: mode != expected, owner, time: off.saturating_abs() >= COARSEST };
    if !owner && mode == wanted && off == 0 {
        return Ok(None);
    }
    let owner = owners.lock().unwrap_or_else(PoisonError::into_inner).of(now.st_uid, now.st_gid);
    // The mask leaves twelve bits.
    let meta = Meta { mode: mode as u16, owner };
    Ok(Some(Kept { meta, mtime: stamp.mtime, lacks }))
}

/// The ids of an owner's names, as far as this host knows them.
fn ids(owner: &Owner, owners: &Mutex<&mut Owners>) -> (Option<u32>, Option<u32>) {
    let mut owners = owners.lock().unwrap_or_else(PoisonError::into_inner);
    let uid = owner.user().and_then(|user| owners.uid(user));
    (uid, owner.group().and_then(|group| owners.gid(group)))
}

/// The stamp of what is open.
pub(super) fn stamp(fd: impl AsFd) -> anyhow::Result<Stamp> {
    Ok(Stamp::of(&rustix::fs::fstat(fd)?))
}
