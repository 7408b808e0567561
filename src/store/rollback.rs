//! An older publication, published anew.

use super::head::HeadDirectory;
use super::holder::{Holder, Record, Standing};
use super::{StoreError, chain, publish};
use crate::model::Direction;

/// Publishes what pushed directories had in publication `seq`. Two-way directories stay as they are: what nodes have
/// recorded since is nothing to be taken back.
pub fn rollback(holder: &Holder, standing: Standing, seq: u64) -> Result<Record, StoreError> {
    holder.check_held(&standing)?;
    let Some((newest, _)) = &standing.head else {
        return Err(StoreError::Local("nothing was published yet".to_owned()));
    };
    let old = chain::head(&*holder.objects, &standing.keys, seq)?.ok_or_else(|| {
        StoreError::Local(format!(
            "there is no publication {seq} any more: `xds-sync store list` shows those that are there"
        ))
    })?;
    let both = |directory: &&HeadDirectory| directory.direction == Direction::Both;
    let pushed = old.0.directories.iter().filter(|directory| !both(directory));
    let directories: Vec<HeadDirectory> = newest
        .directories
        .iter()
        .filter(|directory| both(directory))
        .chain(pushed.filter(|old| !newest.directory(&old.name).is_some_and(|new| both(&new))))
        .cloned()
        .collect();
    for directory in &directories {
        publish::read_tree(&*holder.objects, directory)?;
    }
    let groups = newest.groups.clone();
    publish::put_head(holder, standing, groups, directories, &format!("rollback:{seq}"))
}
