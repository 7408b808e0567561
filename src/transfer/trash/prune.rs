//! Which runs' trash is deleted for good, and deleting it.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::AtFlags;

use super::id::run_time;
use super::{names, runs};
use crate::fault::{Point, reach};
use crate::model::{TrashKeep, TrashMax};
use crate::transfer::own::{OwnDir, open_dir};

/// Deletes for good what is kept no longer: what old runs put into the trash, then of the rest the oldest, until
/// no more is left than may be. What `current` put there stays. `now_ms` counts since 1970.
///
/// What is not named by a run is not ours to delete.
pub fn prune(own: &OwnDir, current: &str, now_ms: u64, keep: &TrashKeep) -> io::Result<()> {
    let mut kept = Vec::new();
    for run in runs(own.trash())? {
        if run != current && is_old(&run, now_ms, keep.seconds) {
            remove(own, &run)?;
        } else {
            kept.push(run);
        }
    }
    let Some(most) = most_bytes(own, keep.size)? else { return Ok(()) };
    let sized = kept.into_iter().map(|run| Ok((bytes_below(own.trash(), run.as_bytes())?, run)));
    let sized: Vec<(u64, String)> = sized.collect::<io::Result<_>>()?;
    too_much(&sized, current, most).into_iter().try_for_each(|run| remove(own, run))
}

fn remove(own: &OwnDir, run: &str) -> io::Result<()> {
    remove_below(own.trash(), run.as_bytes())?;
    Ok(rustix::fs::unlinkat(own.trash(), run, AtFlags::REMOVEDIR)?)
}

/// Whether a run started longer ago than trash is kept. A clock that went back makes nothing old.
fn is_old(run: &str, now_ms: u64, keep_secs: u64) -> bool {
    let age = run_time(run).map_or(0, |started| now_ms.saturating_sub(started));
    age / 1000 > keep_secs
}

/// Which runs' trash goes so that at most `most` bytes are left. `runs` has the oldest first.
fn too_much<'r>(runs: &'r [(u64, String)], current: &str, most: u64) -> Vec<&'r str> {
    let mut left = runs.iter().map(|(bytes, _)| *bytes).fold(0, u64::saturating_add);
    let mut go = Vec::new();
    for (bytes, run) in runs.iter().filter(|(bytes, run)| *bytes > 0 && run != current) {
        if left <= most {
            break;
        }
        left -= bytes;
        go.push(&**run);
    }
    go
}

/// The limit in bytes; none where the trash cannot be beyond it.
fn most_bytes(own: &OwnDir, max: TrashMax) -> io::Result<Option<u64>> {
    if max == TrashMax::Unlimited {
        return Ok(None);
    }
    let disk = rustix::fs::fstatvfs(own.trash())?;
    let size = disk.f_blocks.saturating_mul(disk.f_frsize);
    let used = disk.f_blocks.saturating_sub(disk.f_bfree).saturating_mul(disk.f_frsize);
    // A disk that holds less in all need not be searched.
    Ok(max.bytes_of(size).filter(|most| used > *most))
}

/// What files below `path` take on the disk.
fn bytes_below(trash: BorrowedFd<'_>, path: &[u8]) -> io::Result<u64> {
    let dir = open_dir(trash, path)?;
    let mut dirs = Vec::new();
    let mut bytes: u64 = 0;
    for (name, is_dir) in names(&dir)? {
        if is_dir {
            dirs.push(name);
        } else {
            let stat = rustix::fs::statat(&dir, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
            // Blocks are counted in 512 bytes, whatever the filesystem's own are (stat(2)).
            bytes = bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        }
    }
    drop(dir);
    for name in dirs {
        bytes = bytes.saturating_add(bytes_below(trash, &[path, b"/", name.as_encoded_bytes()].concat())?);
    }
    Ok(bytes)
}

/// Empties the directory at `path` below `trash`.
fn remove_below(trash: BorrowedFd<'_>, path: &[u8]) -> io::Result<()> {
    let dir = open_dir(trash, path)?;
    let mut dirs = Vec::new();
    for (name, is_dir) in names(&dir)? {
        if is_dir {
            dirs.push(name);
        } else {
            reach(Point::PruneRemove)?;
            rustix::fs::unlinkat(&dir, &*name, AtFlags::empty())?;
        }
    }
    drop(dir);
    for name in dirs {
        remove_below(trash, &[path, b"/", name.as_encoded_bytes()].concat())?;
        let dir = open_dir(trash, path)?;
        rustix::fs::unlinkat(&dir, &*name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDEST: &str = "01KQ0000000000000000000001";
    const OLD: &str = "01KQ0000000000000000000002";
    const NOW: &str = "01KQ0000000000000000000003";

    #[test]
    fn the_oldest_goes_until_little_enough_is_left_and_never_what_this_run_put_there() {
        let runs = |sizes: [u64; 3]| {
            [OLDEST, OLD, NOW].iter().zip(sizes).map(|(run, size)| (size, (*run).to_owned()))
        };
        for (sizes, current, most, go) in [
            ([10, 10, 10], NOW, 30, &[][..]),
            ([10, 10, 10], NOW, 29, &[OLDEST][..]),
            ([10, 10, 10], NOW, 20, &[OLDEST][..]),
            ([10, 10, 10], NOW, 19, &[OLDEST, OLD][..]),
            ([10, 10, 10], NOW, 0, &[OLDEST, OLD][..]),
            ([1, 100, 10], NOW, 50, &[OLDEST, OLD][..]),
            ([0, 100, 10], NOW, 50, &[OLD][..]),
            // A clock that went back: this run is not the newest.
            ([10, 10, 10], OLDEST, 5, &[OLD, NOW][..]),
            ([u64::MAX, 1, 1], NOW, 5, &[OLDEST][..]),
        ] {
            let runs: Vec<_> = runs(sizes).collect();
            assert_eq!(too_much(&runs, current, most), go, "{sizes:?} {most}");
        }
    }
}
