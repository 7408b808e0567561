//! What killed runs left in the stage.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::AtFlags;

use super::durable::Unsynced;
use super::own::{OwnDir, STAGE_PATH};
use super::swap::Name;
use super::trash::{RunTrash, names};
use crate::disk::{HeldRoot, Stamp};
use crate::fault::{Point, reach};
use crate::model::Digest;

/// How long contents wait for a run that puts them in place, in nanoseconds: a week.
const KEEP: i64 = 7 * 24 * 3600 * 1_000_000_000;

/// Whether anything is in the stage of this root. A stage that cannot be read counts as empty: [`sweep`] says what is
/// wrong with it.
pub fn has_leftovers(root: &HeldRoot) -> bool {
    root.open_own(STAGE_PATH).is_ok_and(|stage| names(&stage).is_ok_and(|names| !names.is_empty()))
}

/// Readies the stage for `run`. `now` is in nanoseconds since 1970.
///
/// Contents and parts of contents stay for a week: a run may have been cut off a moment ago. What a
/// commit was just making goes, since all it was made of is still there. Anything else is nothing we
/// know: it goes to the trash of this run.
pub fn sweep(own: &OwnDir, run: &str, now: i64) -> anyhow::Result<()> {
    remove_leftovers(own, run, |content| is_expired(content, now))
}

/// Empties the stage at the end of `run`: as [`sweep`], but contents and parts of contents go whatever their age.
pub fn clear(own: &OwnDir, run: &str) -> anyhow::Result<()> {
    remove_leftovers(own, run, |_| Ok(true))
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
        match Leftover::of(&name) {
            Leftover::Content(_) if !is_dir => {
                if goes(left)? {
                    left.remove()?;
                }
            }
            Leftover::Making if !is_dir => left.remove()?,
            Leftover::Making if remove_empty(left)? => {}
            _ => trash.take_found(&name, &unsynced)?,
        }
    }
    Ok(unsynced.sync(own)?)
}

/// Whether a content has waited for too long. `now` is in nanoseconds since 1970.
fn is_expired(content: Name<'_>, now: i64) -> io::Result<bool> {
    let Some(stat) = content.stat()? else { return Ok(false) };
    // The mtime may be the one that the file shall have; nobody sets a ctime.
    Ok(now.saturating_sub(Stamp::of(&stat).ctime) > KEEP)
}

/// The contents of which anything is in the stage; `None` where it cannot be listed.
pub(super) fn left(stage: BorrowedFd<'_>) -> Option<HashSet<Digest>> {
    let content = |(name, _): &(OsString, bool)| match Leftover::of(name) {
        Leftover::Content(digest) => Some(digest),
        Leftover::Making | Leftover::Foreign => None,
    };
    Some(names(stage).ok()?.iter().filter_map(content).collect())
}

fn remove_empty(dir: Name<'_>) -> io::Result<bool> {
    match rustix::fs::unlinkat(dir.dir, dir.name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What a name in the stage stands for.
enum Leftover {
    /// `<digest>` or `<digest>.part`.
    Content(Digest),
    /// What [`making`] names.
    Making,
    /// Nothing we put there.
    Foreign,
}

impl Leftover {
    fn of(name: &OsStr) -> Leftover {
        let Ok(name) = std::str::from_utf8(name.as_bytes()) else { return Leftover::Foreign };
        let (first, rest) = name.split_once('.').unwrap_or((name, ""));
        let digest = Digest::from_hex(first).filter(|digest| digest.to_string() == first);
        let is_number = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        match (digest, rest) {
            (Some(digest), "" | "part") if !name.ends_with('.') => Leftover::Content(digest),
            _ if is_number && first == MAKING => Leftover::Making,
            _ => Leftover::Foreign,
        }
    }
}

const MAKING: &str = "making";

/// The name under which a commit makes what its action with this number puts in place: a directory, a
/// symlink, or one more copy of a content.
///
/// An earlier commit may have left something under it: that goes, as in a sweep.
pub(super) fn making(own: &OwnDir, action: usize) -> String {
    let name = format!("{MAKING}.{action}");
    let left = Name::new(own.stage(), name.as_ref());
    // Where this fails, so does making it anew, which says why.
    if left.remove().is_err() {
        let _ = remove_empty(left);
    }
    name
}
