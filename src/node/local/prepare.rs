//! Making a root ready for the changes of a run.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{Local, in_root};
use crate::disk::marker::Marker;
use crate::disk::{HeldRoot, MissingRoot, OWN_DIR};
use crate::model::{Meta, Pruned, TrashKeep};
use crate::node::endpoint::PreparedRoot;
use crate::snapshot::Root;
use crate::transfer::{self, OwnDir};

/// A root that this run may change. It is locked for other processes as long as this exists.
#[derive(Debug)]
pub(super) struct Prepared {
    own: OwnDir,
    /// The id in its marker.
    id: String,
    /// By how many bytes its trash is beyond its limit.
    excess: u64,
}

impl Prepared {
    pub(super) fn own(&self) -> &OwnDir {
        &self.own
    }

    /// Whether it is this directory, and not another that has taken its place since.
    pub(super) fn is_of(&self, scanned: Option<&HeldRoot>) -> bool {
        scanned.is_some_and(|scanned| scanned.is(self.own.root()))
    }
}

impl Local {
    pub(super) fn prepare_root(
        &mut self,
        directory: &str,
        trash: &TrashKeep,
        root: Option<&Meta>,
    ) -> anyhow::Result<PreparedRoot> {
        let scanned = self.scanned(directory)?;
        if let Some(prepared) = &scanned.prepared {
            let root = prepared.own.root();
            return match read_marker(root)? {
                Some(marker) if marker.id == prepared.id => {
                    // What was given up is told once.
                    let pruned = Pruned { excess: prepared.excess, ..Pruned::default() };
                    Ok(PreparedRoot { id: marker.id, pruned })
                }
                _ => bail!("{}", in_root(root, "its marker has just changed")),
            };
        }
        let seen = scanned.snapshot.root.clone();
        let held = match (&seen, &scanned.snapshot.held) {
            (Root::Unusable(why), _) => bail!("{why}"),
            (_, Some(held)) => held.clone(),
            (_, None) => match &scanned.snapshot.missing {
                Some(missing) => self.make_root(&missing.clone(), root)?,
                None => bail!("{} is missing", scanned.root.display()),
            },
        };
        let marker = read_marker(&held)?;
        // This comes before a marker is written: what others may have planted in our directory is refused here.
        let own = OwnDir::ready(&held, &self.options.progress)?;
        let id = match (&seen, marker) {
            (Root::Marked(seen), Some(marker)) if seen.id == marker.id => marker.id,
            (Root::Marked(_), _) => bail!("{}", in_root(&held, "its marker has just changed")),
            (_, Some(marker)) => marker.id,
            (_, None) => {
                let marker = Marker { id: (self.options.new_id)(), generation: None };
                marker.write(&held).with_context(|| in_root(&held, "cannot be marked"))?;
                marker.id
            }
        };
        if own.was_taken_back() {
            log::warn!("taken back: {}: somebody had changed its owner", held.path().join(OWN_DIR).display());
        }
        self.remember(held.path(), own.identity());
        let pruned = self.clean(&own, &held, trash)?;
        if let Some(scanned) = self.directories.get_mut(directory) {
            scanned.prepared = Some(Arc::new(Prepared { own, id: id.clone(), excess: pruned.excess }));
        }
        Ok(PreparedRoot { id, pruned })
    }

    /// Makes a root that is missing. Directories above it that are missing as well are root's: nobody has said whose else.
    fn make_root(&mut self, missing: &MissingRoot, meta: Option<&Meta>) -> anyhow::Result<HeldRoot> {
        let held = missing.make()?;
        if let Some(meta) = meta {
            transfer::set_root_meta(&held, meta, &mut self.owners)
                .with_context(|| in_root(&held, "was made"))?;
        }
        Ok(held)
    }

    fn clean(&self, own: &OwnDir, held: &HeldRoot, trash: &TrashKeep) -> anyhow::Result<Pruned> {
        let run = self.changing_run()?;
        let now = self.since_epoch();
        let swept = match own.was_taken_back() {
            true => transfer::clear_stage(own, run),
            false => transfer::sweep(own, run, nanoseconds(now)),
        };
        swept.with_context(|| in_root(held, "its stage cannot be swept"))?;
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        transfer::trash::prune(own, run, now_ms, trash)
            .with_context(|| in_root(held, "its old trash cannot be deleted"))
    }

    /// Removes everything from the stage of a prepared root.
    pub(super) fn clear(&self, prepared: &Prepared) -> anyhow::Result<()> {
        transfer::clear_stage(&prepared.own, self.changing_run()?)
            .with_context(|| in_root(prepared.own.root(), "its stage cannot be cleared"))
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn read_marker(held: &HeldRoot) -> anyhow::Result<Option<Marker>> {
    Marker::read(held).with_context(|| in_root(held, "its marker cannot be read"))
}
