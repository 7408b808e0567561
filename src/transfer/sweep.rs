//! What killed runs left in the stage.

use std::io;
use std::os::fd::AsFd as _;

use super::blobs::StageName;
use super::durable::Unsynced;
use super::own::{OwnDir, STAGE_PATH};
use super::swap::Name;
use super::trash::{RunTrash, names};
use crate::disk::{HeldRoot, Stamp};
use crate::fault::{Point, reach};
use crate::model::Space;

/// How long blobs wait for a run that puts them in place, in nanoseconds: a week.
const KEEP: i64 = 7 * 24 * 3600 * 1_000_000_000;

/// Whether anything is in the stage of this root. A stage that cannot be read counts as empty: [`sweep`] says what is
/// wrong with it.
pub fn has_leftovers(root: &HeldRoot) -> bool {
    root.open_own(STAGE_PATH).is_ok_and(|stage| names(&stage).is_ok_and(|names| !names.is_empty()))
}

/// The room for a plan on a disk with this `space`: what lies in the stage is part of what the plan puts in place, or goes.
pub fn space_with_stage(root: &HeldRoot, space: Space) -> Space {
    let Ok(stage) = root.open_own(STAGE_PATH) else { return space };
    let mut all = space;
    for (name, is_dir) in names(&stage).unwrap_or_default() {
        let Ok(Some(stat)) = Name::new(stage.as_fd(), &name).stat() else { continue };
        if !is_dir {
            // The kernel counts in units of 512 bytes, whatever a block has.
            let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
            all.free_blocks = all.free_blocks.saturating_add(bytes / space.block.max(1)).min(all.blocks);
            all.free_inodes = all.free_inodes.saturating_add(1).min(all.inodes);
        }
    }
    all
}

/// Readies the stage for `run`. `now` is in nanoseconds since 1970.
///
/// Blobs and partial ones stay for a week: a run may have been cut off a moment ago. What a commit was just making
/// is removed, since all it was made of is still there. Anything else is not ours and goes to the trash of this run.
pub fn sweep(own: &OwnDir, run: &str, now: i64) -> anyhow::Result<()> {
    remove_leftovers(own, run, |blob| is_expired(blob, now))
}

/// Empties the stage at the end of `run`: as [`sweep`], but blobs and partial ones are removed whatever their age.
pub fn clear(own: &OwnDir, run: &str) -> anyhow::Result<()> {
    remove_leftovers(own, run, |_| Ok(true))
}

/// Drops all that is ours from the stage of a full disk, on which nothing can be made, not even a trash for the rest.
/// What cannot be removed is left for the next sweep.
pub(super) fn drop_blobs(own: &OwnDir) {
    for (name, is_dir) in names(own.stage()).unwrap_or_default() {
        let left = Name::new(own.stage(), &name);
        let is_ours = !is_dir && !matches!(StageName::of(&name), StageName::Foreign);
        if is_ours && reach(Point::SweepRemove).is_ok() {
            let _ = left.remove();
        }
    }
}

fn remove_leftovers(
    own: &OwnDir,
    run: &str,
    goes: impl Fn(Name<'_>) -> io::Result<bool>,
) -> anyhow::Result<()> {
    let trash = RunTrash::new(own, run)?;
    let unsynced = Unsynced::default();
    for (name, is_dir) in names(own.stage())? {
        let left = Name::new(own.stage(), &name);
        reach(Point::SweepRemove)?;
        match StageName::of(&name) {
            StageName::Blob(_) if !is_dir => {
                if goes(left)? {
                    left.remove()?;
                }
            }
            StageName::Temporary if !is_dir => left.remove()?,
            StageName::Temporary if left.remove_empty_dir()? => {}
            _ => trash.take_found(&name, &unsynced)?,
        }
    }
    Ok(unsynced.sync(own)?)
}

/// Whether a blob has waited for too long. `now` is in nanoseconds since 1970.
fn is_expired(blob: Name<'_>, now: i64) -> io::Result<bool> {
    let Some(stat) = blob.stat()? else { return Ok(false) };
    // The mtime may be the one that the file shall have; nobody sets a ctime.
    Ok(now.saturating_sub(Stamp::of(&stat).ctime) > KEEP)
}
