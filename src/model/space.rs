//! Room on a filesystem.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::plan::{Action, Step};
use super::size::Size;

/// How much of a filesystem is left for who is not root: what is kept for root is to keep the host alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes of a block: every file takes whole ones.
    pub block: u64,
    pub blocks: u64,
    pub free_blocks: u64,
    /// Of how many files and directories; 0 where the filesystem makes as many as it has blocks for.
    pub inodes: u64,
    pub free_inodes: u64,
}

/// What is left free beside what a plan needs, of a large disk: logs and recordings go on growing meanwhile.
const MOST_SPARE_BYTES: u64 = 64 << 20;
/// The same for files and directories.
const MOST_SPARE_INODES: u64 = 16 * 1024;
/// What a name takes in its directory, and in that of the stage before.
const NAME: u64 = 128;

impl Space {
    /// Of a filesystem that does not say: writing to a full disk fails, and says so.
    pub const UNKNOWN: Space =
        Space { block: 1, blocks: u64::MAX, free_blocks: u64::MAX, inodes: 0, free_inodes: 0 };

    /// Bytes that are free.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.free_blocks.saturating_mul(self.block)
    }

    /// What a file of that size takes.
    #[must_use]
    pub fn need(&self, size: u64) -> Need {
        let block = self.block.max(1);
        Need { bytes: size.div_ceil(block).saturating_mul(block).saturating_add(NAME), inodes: 1 }
    }

    /// What an action makes anew.
    #[must_use]
    pub fn need_of(&self, action: &Action) -> Need {
        match (&action.step, &action.expected) {
            (Step::Put(Entry::File(file)), _) => self.need(file.size),
            (Step::Put(Entry::Dir(_)), None) => self.need(1),
            (Step::Put(Entry::Symlink(link)), _) => self.need(link.target.len() as u64),
            _ => Need::default(),
        }
    }

    /// Bytes that stay free: a hundredth of the disk, up to 64 MiB; on a disk that is nearly full half of what is free,
    /// so that small changes still find room.
    fn spare_bytes(&self) -> u64 {
        let size = self.blocks.saturating_mul(self.block);
        (size / 100).min(MOST_SPARE_BYTES).min(self.bytes() / 2)
    }

    fn spare_inodes(&self) -> u64 {
        (self.inodes / 100).min(MOST_SPARE_INODES).min(self.free_inodes / 2)
    }
}

/// What something takes of a filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    bytes: u64,
    inodes: u64,
}

impl Need {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Need) -> Need {
        Need {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

/// The room that is left on a filesystem while something is planned for it.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    space: Space,
    bytes: u64,
    /// `None` where they are not counted.
    inodes: Option<u64>,
}

impl Room {
    /// All but what stays free.
    #[must_use]
    pub fn of(space: Space) -> Room {
        Room {
            space,
            bytes: space.bytes() - space.spare_bytes(),
            inodes: (space.inodes > 0).then(|| space.free_inodes - space.spare_inodes()),
        }
    }

    /// Sets room aside, or says how much is lacking.
    pub fn take(&mut self, need: Need) -> Result<(), Shortage> {
        let Some(bytes) = self.bytes.checked_sub(need.bytes) else {
            let stays = self.space.spare_bytes();
            return Err(Shortage::Bytes {
                needed: need.bytes,
                free: self.bytes.saturating_add(stays),
                stays,
            });
        };
        let inodes = match self.inodes {
            Some(inodes) => Some(inodes.checked_sub(need.inodes).ok_or_else(|| {
                let stays = self.space.spare_inodes();
                Shortage::Inodes { needed: need.inodes, free: inodes.saturating_add(stays), stays }
            })?),
            None => None,
        };
        (self.bytes, self.inodes) = (bytes, inodes);
        Ok(())
    }

    /// Whether something would fit if nothing else was planned.
    #[must_use]
    pub fn is_ever_enough(&self, need: Need) -> bool {
        Room::of(self.space).take(need).is_ok()
    }
}

/// What is lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    Bytes { needed: u64, free: u64, stays: u64 },
    Inodes { needed: u64, free: u64, stays: u64 },
}

/// Two sizes as texts; in bytes where they would look the same otherwise.
fn told_apart(a: u64, b: u64) -> (String, String) {
    match (Size(a).to_string(), Size(b).to_string()) {
        (rounded, same) if rounded == same && a != b => (format!("{a} bytes"), format!("{b} bytes")),
        texts => texts,
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shortage::Bytes { needed, free, stays } => {
                let usable = free.saturating_sub(*stays);
                let (needed, usable) = told_apart(*needed, usable);
                let (free, stays) = (Size(*free), Size(*stays));
                write!(
                    f,
                    "{needed} are needed and {usable} can be used: {free} are free, of which {stays} stay free"
                )
            }
            Shortage::Inodes { needed, free, stays } => write!(
                f,
                "room for {needed} more files and directories is needed (inodes) and there is room for {free}, \
                 of which {stays} stay free"
            ),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A disk of 10 GiB with room for 1,000,000 files.
    fn disk(free: u64, free_inodes: u64) -> Space {
        Space {
            block: 4096,
            blocks: 10 * GIB / 4096,
            free_blocks: free / 4096,
            inodes: 1_000_000,
            free_inodes,
        }
    }

    #[test]
    fn files_take_whole_blocks_and_their_names_some_bytes() {
        let space = disk(GIB, 1000);
        for (size, bytes) in [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)] {
            assert_eq!(space.need(size), Need { bytes: bytes + NAME, inodes: 1 });
        }
        assert_eq!(Space { block: 0, ..space }.need(3).bytes, 3 + NAME, "a peer may send any number");
        assert_eq!(Space::UNKNOWN.need(u64::MAX).bytes, u64::MAX);
    }

    #[test]
    fn a_part_of_every_disk_stays_free_and_small_changes_still_go() {
        let fits = |space, bytes| Room::of(space).take(Need { bytes, inodes: 1 });
        let half = GIB / 2;
        assert_eq!(fits(disk(half, 1000), half - MOST_SPARE_BYTES), Ok(()));
        assert_eq!(
            fits(disk(half, 1000), half).unwrap_err().to_string(),
            "512.0 MiB are needed and 448.0 MiB can be used: 512.0 MiB are free, of which 64.0 MiB stay free"
        );
        assert_eq!(
            fits(disk(half, 1000), half - MOST_SPARE_BYTES + 1).unwrap_err().to_string(),
            "469762049 bytes are needed and 469762048 bytes can be used: 512.0 MiB are free, of which 64.0 MiB stay free"
        );
        // With less than that free, half of it may be taken.
        let mib = 1 << 20;
        assert_eq!(fits(disk(mib, 1000), mib / 2), Ok(()));
        assert!(fits(disk(mib, 1000), mib / 2 + 1).is_err());
        assert!(fits(disk(0, 1000), 1).is_err());
        // A small disk keeps a hundredth.
        let small = Space { blocks: 100 * mib / 4096, ..disk(50 * mib, 1000) };
        assert_eq!(fits(small, 49 * mib), Ok(()));
        assert!(fits(small, 49 * mib + 1).is_err());
        assert_eq!(fits(Space::UNKNOWN, GIB), Ok(()));
    }

    #[test]
    fn inodes_are_room_too() {
        let mut room = Room::of(disk(GIB, 1000));
        for _ in 0..500 {
            room.take(Need { bytes: 0, inodes: 1 }).unwrap();
        }
        assert_eq!(
            room.take(Need { bytes: 0, inodes: 1 }).unwrap_err().to_string(),
            "room for 1 more files and directories is needed (inodes) and there is room for 500, of which 500 stay free"
        );
        assert!(room.is_ever_enough(Need { bytes: 0, inodes: 500 }));
        let uncounted = Space { inodes: 0, free_inodes: 0, ..disk(GIB, 0) };
        assert!(Room::of(uncounted).take(Need { bytes: 0, inodes: 1 }).is_ok());
    }
}
