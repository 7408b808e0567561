//! What a trash keeps no longer, and deleting it for good.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::id::run_time;
use super::{names, runs};
use crate::disk::open_beneath;
use crate::fault::{Point, reach};
use crate::model::{Pruned, TrashKeep, TrashMax};
use crate::transfer::own::{OwnDir, open_dir};

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Beside the runs: the time up to which ages have been counted here, in milliseconds since 1970.
const CLOCK: &str = "clock";
/// A clock of so many bytes is none.
const MOST_CLOCK: u64 = 64;

/// Deletes for good what is kept no longer: what old runs put into the trash, then, version by version, the oldest of the
/// rest until no more is left than may be. What `current` put there stays. `now_ms` counts since 1970; see [`believed`].
///
/// What is not named by a run is not ours to delete.
pub fn prune(own: &OwnDir, current: &str, now_ms: u64, keep: &TrashKeep) -> io::Result<Pruned> {
    let runs = runs(own.trash())?;
    let now_ms = believed(own, runs.iter().filter(|run| *run != current), now_ms);
    let (expired, kept): (Vec<String>, Vec<String>) =
        runs.into_iter().partition(|run| run != current && age_ms(run, now_ms) / 1000 > keep.seconds);
    for run in expired {
        remove(own, &run)?;
    }
    let Some(most) = most_bytes(own, keep.size)? else { return Ok(Pruned::default()) };
    let bytes = kept.iter().map(|run| bytes_below(own.trash(), run.as_bytes()));
    let all = bytes.sum::<io::Result<u64>>()?;
    let mut pruned = Pruned { excess: all.saturating_sub(most), ..Pruned::default() };
    let may_go = |run: &&String| *run != current && age_ms(run, now_ms) / 1000 >= keep.min_seconds;
    for run in kept.iter().filter(may_go) {
        if pruned.excess == 0 {
            break;
        }
        shrink_run(own, run, &mut pruned)?;
    }
    Ok(pruned)
}

/// The time as far as this host's clock is believed: a clock that is ahead for one run must not make everything old. From
/// one run to the next it goes on by at most a day; the first time, from the newest of the runs that are there.
fn believed<'r>(own: &OwnDir, runs: impl Iterator<Item = &'r String>, now_ms: u64) -> u64 {
    let counted = read_clock(own.trash());
    let newest = || runs.filter_map(|run| run_time(run)).max();
    let Some(last) = counted.or_else(newest) else { return now_ms };
    let believed = now_ms.min(last.saturating_add(DAY_MS));
    if counted.is_none_or(|counted| believed > counted) {
        // Where it cannot be written, everything stays young for longer.
        let _ = write_clock(own.trash(), believed);
    }
    believed
}

fn read_clock(trash: BorrowedFd<'_>) -> Option<u64> {
    let file =
        open_beneath(trash, CLOCK.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).ok()?;
    let mut text = String::new();
    File::from(file).take(MOST_CLOCK).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

fn write_clock(trash: BorrowedFd<'_>, now_ms: u64) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK;
    let file = open_beneath(trash, CLOCK.as_bytes(), flags, Mode::RUSR | Mode::WUSR)?;
    File::from(file).write_all(format!("{now_ms}\n").as_bytes())
}

/// How long ago a run started. A clock that went back makes nothing old.
fn age_ms(run: &str, now_ms: u64) -> u64 {
    run_time(run).map_or(0, |started| now_ms.saturating_sub(started))
}

/// Deletes versions of a run until the trash is within its limit, and the run with the last of them.
fn shrink_run(own: &OwnDir, run: &str, pruned: &mut Pruned) -> io::Result<()> {
    let files = pruned.files;
    let mut is_empty = true;
    // A file beside the versions is the index, which goes with the last of them.
    for (version, is_dir) in sorted(own.trash(), run.as_bytes())? {
        if is_dir {
            let path = [run.as_bytes(), b"/", version.as_encoded_bytes()].concat();
            is_empty &= shrink(own.trash(), &path, pruned)?;
        }
    }
    if files == 0 && pruned.files > 0 {
        pruned.oldest_ms = run_time(run).unwrap_or(0);
    }
    if is_empty { remove(own, run) } else { Ok(()) }
}

/// Deletes what is below `path` until the trash is within its limit. Whether nothing but empty directories is left.
fn shrink(trash: BorrowedFd<'_>, path: &[u8], pruned: &mut Pruned) -> io::Result<bool> {
    let mut is_empty = true;
    for (name, is_dir) in sorted(trash, path)? {
        let below = [path, b"/", name.as_encoded_bytes()].concat();
        if is_dir {
            is_empty &= shrink(trash, &below, pruned)?;
        } else if pruned.excess == 0 {
            is_empty = false;
        } else {
            // Opened anew for each name, so that however deep it lies, few descriptors are open at a time.
            let dir = open_dir(trash, path)?;
            let bytes = bytes_of(&dir, &name)?;
            reach(Point::PruneRemove)?;
            rustix::fs::unlinkat(&dir, &*name, AtFlags::empty())?;
            pruned.files += 1;
            pruned.bytes = pruned.bytes.saturating_add(bytes);
            pruned.excess = pruned.excess.saturating_sub(bytes);
        }
    }
    Ok(is_empty)
}

fn sorted(trash: BorrowedFd<'_>, path: &[u8]) -> io::Result<Vec<(OsString, bool)>> {
    let mut names = names(open_dir(trash, path)?)?;
    names.sort_unstable();
    Ok(names)
}

fn remove(own: &OwnDir, run: &str) -> io::Result<()> {
    remove_below(own.trash(), run.as_bytes())?;
    Ok(rustix::fs::unlinkat(own.trash(), run, AtFlags::REMOVEDIR)?)
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
            bytes = bytes.saturating_add(bytes_of(&dir, &name)?);
        }
    }
    drop(dir);
    for name in dirs {
        bytes = bytes.saturating_add(bytes_below(trash, &[path, b"/", name.as_encoded_bytes()].concat())?);
    }
    Ok(bytes)
}

/// What a file takes on the disk.
fn bytes_of(dir: impl AsFd, name: &OsStr) -> io::Result<u64> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    // Blocks are counted in 512 bytes, whatever the filesystem's own are (stat(2)).
    Ok(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
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
