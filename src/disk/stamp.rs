//! How a change of a file shows on its own host without reading it.

use rustix::fs::{Stat, Statx};

/// What `stat` says that moves when a file is changed or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Inode number.
    pub ino: u64,
    /// Change time, nanoseconds since 1970. Nobody can set it back.
    pub ctime: i64,
    /// Modification time, nanoseconds since 1970.
    pub mtime: i64,
    /// Bytes.
    pub size: u64,
    /// Type and permission bits.
    pub mode: u32,
}

impl Stamp {
    /// From a `stat` of the entry itself, not of what a symlink points to.
    #[must_use]
    pub fn of(stat: &Stat) -> Stamp {
        Stamp {
            ino: stat.st_ino,
            ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
            mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode,
        }
    }

    /// From a `statx` of the entry itself, with the basic fields asked for; the same as from its `stat`.
    #[must_use]
    pub fn of_statx(stat: &Statx) -> Stamp {
        Stamp {
            ino: stat.stx_ino,
            ctime: nanoseconds(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            mtime: nanoseconds(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            size: stat.stx_size,
            mode: stat.stx_mode.into(),
        }
    }

    /// Whether both are the same file, as far as it was only renamed, linked or unlinked in between: that
    /// moves the change time alone.
    #[must_use]
    pub fn same_but_for_ctime(&self, other: &Stamp) -> bool {
        Stamp { ctime: other.ctime, ..*self } == *other
    }
}

/// Seconds and nanoseconds as one number; times beyond the years 1677 to 2262 are cut to these.
fn nanoseconds(seconds: i64, nanos: impl TryInto<i64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos.try_into().unwrap_or(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustix::fs::{AtFlags, StatxFlags};

    use super::*;

    #[test]
    fn stat_and_statx_give_the_same_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "x").unwrap();
        let stat = rustix::fs::lstat(&path).unwrap();
        let statx =
            rustix::fs::statx(rustix::fs::CWD, &path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        assert_eq!(Stamp::of(&stat), Stamp::of_statx(&statx.unwrap()));
    }
}
