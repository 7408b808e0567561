//! What killed runs left in the stage.

use super::blobs::StageName;
use super::durable::Unsynced;
use super::own::OwnDir;
use super::swap::Name;
use super::trash::{RunTrash, names};
use crate::disk::Stamp;
use crate::fault::{Point, reach};

/// How long blobs wait for a run that puts them in place, in nanoseconds: a week.
const KEEP: i64 = 7 * 24 * 3600 * 1_000_000_000;

/// Readies the stage for `run`. `now` is in nanoseconds since 1970.
///
/// Blobs and partial ones stay for a week: a run may have been cut off a moment ago. What a commit was just making
/// is removed, since all it was made of is still there. Anything else is not ours and goes to the trash of this run.
pub fn sweep(own: &OwnDir, run: &str, now: i64) -> anyhow::Result<()> {
    let trash = RunTrash::new(own, run)?;
    let unsynced = Unsynced::default();
    for (name, is_dir) in names(own.stage())? {
        let left = Name::new(own.stage(), &name);
        reach(Point::SweepRemove)?;
        match StageName::of(&name) {
            StageName::Blob(_) if !is_dir => {
                let Some(stat) = left.stat()? else { continue };
                // The mtime may be the one that the file shall have; nobody sets a ctime.
                if now.saturating_sub(Stamp::of(&stat).ctime) > KEEP {
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
