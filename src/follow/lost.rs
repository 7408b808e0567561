//! Uploads that the store has lost before Main took them in: with the store itself, which was made anew, or because somebody has
//! removed them.

use std::collections::BTreeSet;

use super::pending::Pending;
use super::trusted::{Trusted, TrustedFile};
use crate::report::{Problem, Stage};
use crate::state::StateDir;
use crate::store::names::Area;
use crate::store::{Objects, StoreError};

/// What is asked for its uploads, and by whom.
pub(super) struct Asks<'a> {
    pub(super) objects: &'a dyn Objects,
    pub(super) area: &'a Area,
    /// This node's name.
    pub(super) node: &'a str,
    /// Where it is kept what this node trusts.
    pub(super) file: &'a TrustedFile,
    /// Whether this node has never verified anything before.
    pub(super) is_first: bool,
    pub(super) dry_run: bool,
}

/// The number of the last upload that the store has of this node, where that is needed, and what is to be said of those that
/// it has lost.
pub(super) fn find_lost(
    state: &StateDir,
    asks: &Asks<'_>,
    pending: &mut Pending,
    trusted: &mut Trusted,
) -> anyhow::Result<Result<(u64, Option<Problem>), StoreError>> {
    let has = trusted.applied == Some(trusted.on());
    // Uploads are lost with a store alone, and one that was made anew begins with another publication.
    let may_be_lost = !has && pending.last() > 0;
    if !asks.is_first && !may_be_lost {
        return Ok(Ok((0, None)));
    }
    let there = match uploads(asks.objects, asks.area) {
        Ok(there) => there,
        Err(error) => return Ok(Err(error)),
    };
    let listed = there.last().copied().unwrap_or(0);
    let problem = match pending.lost(&there, &trusted.head.cluster) {
        Some(_) if asks.dry_run => return Ok(Err(dry_without(asks.objects))),
        Some(lost) => Some(begin_anew(state, asks, pending, trusted, (lost, listed))?),
        None => None,
    };
    Ok(Ok((listed, problem)))
}

/// Uploads that Main has not taken in are not in the store any more. Where later ones are there, they are put back as they
/// were signed; else what was uploaded is no longer counted as Main's, and what this node has is told once more.
fn begin_anew(
    state: &StateDir,
    asks: &Asks<'_>,
    pending: &mut Pending,
    trusted: &mut Trusted,
    (lost, listed): (u64, u64),
) -> anyhow::Result<Problem> {
    let taken = trusted.taken();
    if listed > taken && !pending.is_of_another(&trusted.head.cluster) {
        pending.send_again();
    } else {
        for directory in pending.directories() {
            // Without a record both ends are merged, and nothing is deleted. It goes before the uploads: cut off between
            // the two, the next pass comes here again.
            state.remove_edge(&directory, asks.node)?;
        }
        // Main reads on from what it has taken in: a number that is left out would hold up all that come after it.
        trusted.uploaded = taken;
        asks.file.save(trusted)?;
        pending.drop_all()?;
    }
    let detail = format!(
        "the store has lost what this node uploaded, from upload {lost} on, before Main had taken it in: it is uploaded once \
             more; deletions that were among it are not"
    );
    Ok(Problem::warning(Stage::Transfer, detail))
}

/// Why a dry run cannot tell what the next pass will do.
fn dry_without(objects: &dyn Objects) -> StoreError {
    StoreError::Unreachable(format!(
        "{} has lost what this node uploaded before Main had taken it in: the next pass merges both ends anew, and deletes \
         nothing; only then can a dry run tell more",
        objects.place()
    ))
}

/// The numbers of the uploads that a store has of a node.
fn uploads(objects: &dyn Objects, area: &Area) -> Result<BTreeSet<u64>, StoreError> {
    let listed = objects.list(&area.uploads())?;
    Ok(listed.iter().filter_map(|name| area.upload_in(name)).collect())
}
