//! What tells the directory that we have made in a root from any other.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags, statx};
use serde::{Deserialize, Serialize};

/// A root and the directory of ours in it, by what nobody can give to another directory: numbers come again, and with them
/// another time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnIdentity {
    root: Birth,
    own: Birth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Birth {
    inode: u64,
    seconds: i64,
    nanoseconds: u32,
}

impl OwnIdentity {
    /// `None` on a filesystem that does not know when something was made.
    pub fn of(root: impl AsFd, own: impl AsFd) -> Option<OwnIdentity> {
        Some(OwnIdentity { root: birth(root)?, own: birth(own)? })
    }
}

fn birth(dir: impl AsFd) -> Option<Birth> {
    let asked = StatxFlags::INO | StatxFlags::BTIME;
    let stat = statx(dir, c"", AtFlags::EMPTY_PATH, asked).ok()?;
    let knows = StatxFlags::from_bits_retain(stat.stx_mask).contains(asked);
    let (seconds, nanoseconds) = (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec);
    knows.then_some(Birth { inode: stat.stx_ino, seconds, nanoseconds })
}
