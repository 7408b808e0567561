//! Mode, owner and time, set on an open file or directory.

use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use rustix::fs::{Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};

use super::own::permissions;
use crate::disk::{Owners, Stamp};
use crate::fault::{Point, reach};
use crate::model::Meta;

/// What a mode may carry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mask {
    /// setuid, setgid and sticky are dropped: no peer can give a program another's rights.
    File = 0o777,
    /// setgid says which group new files get, sticky who may delete them.
    Dir = 0o3777,
}

/// Sets mode and owner. A part of the owner that is `None`, or a name this host does not know, is as on
/// `fallback`.
pub(super) fn set(
    fd: impl AsFd,
    meta: &Meta,
    mask: Mask,
    fallback: &Stat,
    owners: &Mutex<&mut Owners>,
) -> anyhow::Result<()> {
    reach(Point::Metadata)?;
    let now = rustix::fs::fstat(&fd)?;
    // Without root's rights, what we make is ours, and nobody asked for anything else.
    let fallback = if rustix::process::geteuid().is_root() { fallback } else { &now };
    let (uid, gid) = {
        let mut owners = owners.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = meta.owner.user().and_then(|user| owners.uid(user));
        let gid = meta.owner.group().and_then(|group| owners.gid(group));
        (uid.unwrap_or(fallback.st_uid), gid.unwrap_or(fallback.st_gid))
    };
    let is_other = (uid, gid) != (now.st_uid, now.st_gid);
    if is_other {
        rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .with_context(|| format!("its owner cannot be set to {:?}", meta.owner))?;
    }
    let mode = Mode::from_raw_mode(u32::from(meta.mode) & mask as u32);
    // A change of owner clears some bits (chown(2)).
    if is_other || permissions(&now) != mode {
        rustix::fs::fchmod(&fd, mode).context("its mode cannot be set")?;
    }
    Ok(())
}

/// Sets the time of modification, in nanoseconds since 1970.
pub(super) fn set_mtime(fd: impl AsFd, mtime: i64) -> anyhow::Result<()> {
    reach(Point::Mtime)?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: mtime.div_euclid(1_000_000_000),
            tv_nsec: mtime.rem_euclid(1_000_000_000),
        },
    };
    rustix::fs::futimens(fd, &times).context("its time cannot be set")
}

/// The stamp of what is open.
pub(super) fn stamp(fd: impl AsFd) -> anyhow::Result<Stamp> {
    Ok(Stamp::of(&rustix::fs::fstat(fd)?))
}
