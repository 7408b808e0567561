//! What an administrator decides about a directory.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which way files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From Main to every node.
    Push,
    /// From whoever changed a file to everyone else.
    Both,
}

/// What a deletion does to the other ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeletePolicy {
    /// It goes to them, into their trash.
    Propagate,
    /// They keep the file.
    Keep,
    /// As propagate, and what only a node has is trashed too, never in a run without a base.
    Mirror,
}

/// Which content wins when several ends changed a path differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConflictPolicy {
    /// Main's, if Main changed it, else that of the first node in configured order.
    Main,
    /// The newest by mtime, ties by order.
    Newer,
    /// None until an administrator decides.
    Manual,
}

/// How many files an edge may lose in one run before the delete guard stops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxDelete {
    /// Over [`MaxDelete::FREE`] files *and* over this share of the files there.
    Percent(u8),
    /// Over this many files.
    Files(u64),
}

impl MaxDelete {
    /// With a percentage, so few deletions are never guarded: a small directory is often tidied.
    pub const FREE: u64 = 10;

    /// Whether losing `deleted` of `files` files is too much.
    #[must_use]
    pub fn exceeded(self, deleted: u64, files: u64) -> bool {
        match self {
            MaxDelete::Percent(percent) => {
                deleted > Self::FREE && u128::from(deleted) * 100 > u128::from(files) * u128::from(percent)
            }
            MaxDelete::Files(most) => deleted > most,
        }
    }
}

impl FromStr for MaxDelete {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<MaxDelete, Self::Err> {
        const EXPECTED: &str = "expected a percentage such as \"50%\" or a number of files such as \"200\"";
        match text.strip_suffix('%') {
            Some(number) => match number.trim().parse() {
                Ok(percent @ 0..=100) => Ok(MaxDelete::Percent(percent)),
                _ => Err(EXPECTED),
            },
            None => text.trim().parse().map(MaxDelete::Files).map_err(|_| EXPECTED),
        }
    }
}

/// How long replaced and deleted files are kept, and how much of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashKeep {
    /// What a run put into the trash longer ago goes, in seconds.
    pub seconds: u64,
    /// Of more than this the oldest goes.
    pub size: TrashMax,
}

impl TrashKeep {
    /// All stays.
    pub const FOREVER: TrashKeep = TrashKeep { seconds: u64::MAX, size: TrashMax::Unlimited };
}

/// How much the trash of one root may take on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrashMax {
    /// As much as comes together.
    Unlimited,
    /// This share of the filesystem's size.
    Percent(u8),
    /// That many bytes.
    Bytes(u64),
}

impl TrashMax {
    /// In bytes, on a filesystem of `size` bytes.
    #[must_use]
    pub fn bytes_of(self, size: u64) -> Option<u64> {
        match self {
            TrashMax::Unlimited => None,
            TrashMax::Percent(percent) => Some(size / 100 * u64::from(percent)),
            TrashMax::Bytes(bytes) => Some(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_the_disk() {
        assert_eq!(TrashMax::Percent(25).bytes_of(4000), Some(1000));
        assert_eq!(TrashMax::Percent(100).bytes_of(u64::MAX), Some(u64::MAX / 100 * 100));
        assert_eq!(TrashMax::Bytes(7).bytes_of(4000), Some(7));
        assert_eq!(TrashMax::Unlimited.bytes_of(4000), None);
    }

    #[test]
    fn a_percentage_guards_over_ten_files() {
        let half = MaxDelete::Percent(50);
        assert!(!half.exceeded(10, 10));
        assert!(half.exceeded(11, 11));
        assert!(!half.exceeded(50, 100));
        assert!(half.exceeded(51, 100));
        assert!(MaxDelete::Files(3).exceeded(4, 1000));
        assert!(!MaxDelete::Files(3).exceeded(3, 3));
    }

    #[test]
    fn reads_percent_and_count() {
        assert_eq!("50%".parse(), Ok(MaxDelete::Percent(50)));
        assert_eq!("200".parse(), Ok(MaxDelete::Files(200)));
        for bad in ["", "%", "101%", "-1", "half"] {
            assert!(bad.parse::<MaxDelete>().is_err(), "{bad}");
        }
    }
}
