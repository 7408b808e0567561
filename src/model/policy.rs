//! What an administrator decides about a directory.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::entry::Entry;

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
    /// That of the first node in configured order that changed it, whatever Main has.
    Node,
    /// The newest by mtime, ties by order.
    Newer,
    /// None until an administrator decides.
    Manual,
}

/// Which changes a node takes. What it does not take stays as it is there, and is offered again by every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Take {
    /// What is not there.
    pub create: bool,
    /// What is there and differs.
    pub update: bool,
    /// What is to go.
    pub delete: bool,
}

impl Take {
    /// Everything.
    pub const ALL: Take = Take { create: true, update: true, delete: true };

    /// Whether an entry may become another one. What is of another type there, a file where a directory was, is a deletion
    /// and a creation as well.
    #[must_use]
    pub fn takes(self, have: Option<&Entry>, want: Option<&Entry>) -> bool {
        let is_dir = |entry: &Entry| matches!(entry, Entry::Dir(_));
        match (have, want) {
            (None, None) => true,
            (None, Some(_)) => self.create,
            (Some(_), None) => self.delete,
            (Some(have), Some(want)) => self.update && (is_dir(have) == is_dir(want) || self == Take::ALL),
        }
    }
}

/// How many changes a node has not taken, because it is not to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotTaken {
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
}

impl NotTaken {
    /// Counts an entry that does not become another one.
    pub fn count(&mut self, have: Option<&Entry>, want: Option<&Entry>) {
        match (have, want) {
            (None, None) => {}
            (None, Some(_)) => self.created += 1,
            (Some(_), None) => self.deleted += 1,
            (Some(_), Some(_)) => self.updated += 1,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == NotTaken::default()
    }
}

/// Files, and the bytes that are in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Number of files.
    pub files: u64,
    /// Their sizes together.
    pub bytes: u64,
}

impl Amount {
    /// With one more file.
    #[must_use]
    pub fn and(self, bytes: u64) -> Amount {
        Amount { files: self.files + 1, bytes: self.bytes.saturating_add(bytes) }
    }
}

/// What actions would delete or overwrite of a host's files. Moves do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Losses {
    /// What goes.
    pub lost: Amount,
    /// What there is.
    pub all: Amount,
}

/// How much a host may lose in one run, by deletions or by overwriting, before a guard stops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxLoss {
    /// Over [`MaxLoss::FREE`] files *and* over this share of the files there, or of their bytes.
    Percent(u8),
    /// Over this many files.
    Files(u64),
}

impl MaxLoss {
    /// With a percentage, so few losses are never guarded: a small directory is often tidied.
    pub const FREE: u64 = 10;

    /// Whether this is too much to lose.
    #[must_use]
    pub fn exceeded(self, losses: Losses) -> bool {
        let Losses { lost, all } = losses;
        match self {
            MaxLoss::Percent(percent) => {
                let over =
                    |part: u64, all: u64| u128::from(part) * 100 > u128::from(all) * u128::from(percent);
                lost.files > Self::FREE && (over(lost.files, all.files) || over(lost.bytes, all.bytes))
            }
            MaxLoss::Files(most) => lost.files > most,
        }
    }
}

impl std::fmt::Display for MaxLoss {
    /// As [`MaxLoss::from_str`] reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MaxLoss::Percent(percent) => write!(f, "{percent}%"),
            MaxLoss::Files(most) => write!(f, "{most}"),
        }
    }
}

impl FromStr for MaxLoss {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<MaxLoss, Self::Err> {
        const EXPECTED: &str = "expected a percentage such as \"50%\" or a number of files such as \"200\"";
        match text.strip_suffix('%') {
            Some(number) => match number.trim().parse() {
                Ok(percent @ 0..=100) => Ok(MaxLoss::Percent(percent)),
                _ => Err(EXPECTED),
            },
            None => text.trim().parse().map(MaxLoss::Files).map_err(|_| EXPECTED),
        }
    }
}

/// How long replaced and deleted files are kept, and how much of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashKeep {
    /// What a run put into the trash longer ago goes, in seconds.
    pub seconds: u64,
    /// What is younger than this never goes to make room, in seconds.
    pub min_seconds: u64,
    /// Of more than this the oldest goes.
    pub size: TrashMax,
}

impl TrashKeep {
    /// All stays.
    pub const FOREVER: TrashKeep =
        TrashKeep { seconds: u64::MAX, min_seconds: u64::MAX, size: TrashMax::Unlimited };
}

/// What a trash gave up before its time to make room, and what it could not give up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Versions that were deleted for good.
    pub files: u64,
    /// What they took on the disk.
    pub bytes: u64,
    /// When the run that put the oldest of them there started, in milliseconds since 1970.
    pub oldest_ms: u64,
    /// By how many bytes the trash is still beyond its limit: what is left is too young to go.
    pub excess: u64,
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
        let half = MaxLoss::Percent(50);
        let amount = |files, bytes| Amount { files, bytes };
        for (lost, all, exceeded) in [
            (amount(10, 10), amount(10, 10), false),
            (amount(11, 11), amount(11, 11), true),
            (amount(50, 50), amount(100, 100), false),
            (amount(51, 1), amount(100, 100), true),
            (amount(11, 51), amount(100, 100), true),
            (amount(10, 100), amount(100, 100), false),
            (amount(11, 0), amount(100, 0), false),
        ] {
            assert_eq!(half.exceeded(Losses { lost, all }), exceeded, "{lost:?} of {all:?}");
        }
        let losses = |lost, all| Losses { lost, all };
        assert!(MaxLoss::Files(3).exceeded(losses(amount(4, 4), amount(1000, 1000))));
        assert!(!MaxLoss::Files(3).exceeded(losses(amount(3, 3), amount(3, 3))));
    }

    #[test]
    fn reads_percent_and_count() {
        assert_eq!("50%".parse(), Ok(MaxLoss::Percent(50)));
        assert_eq!("200".parse(), Ok(MaxLoss::Files(200)));
        for text in ["50%", "200"] {
            assert_eq!(text.parse::<MaxLoss>().map(|loss| loss.to_string()), Ok(text.to_owned()));
        }
        for bad in ["", "%", "101%", "-1", "half"] {
            assert!(bad.parse::<MaxLoss>().is_err(), "{bad}");
        }
    }
}
