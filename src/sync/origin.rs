//! Main's side of every directory: what is pushed, and what two-way changes are merged into.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::model::{Digest, Meta, Space, Tree};
use crate::node::NodeError;
use crate::report::Guard;
use crate::snapshot::{Root, Scanned};
use crate::sync::halt::Halt;
use crate::sync::main_side::{BlobSource, MainSide};
use crate::sync::spec::DirectorySpec;
use crate::sync::{Run, lock};

/// A directory as it stands on the side that decides: its tree, and where its blobs come from.
#[derive(Clone)]
pub(super) struct Origin {
    /// As if its disk had kept what it was given: what is planned with.
    pub(super) tree: Arc<Tree>,
    /// As it is.
    pub(super) found: Arc<Tree>,
    pub(super) digest: Digest,
    /// Whether nothing in it was held back as busy.
    pub(super) settled: bool,
    /// The room on its filesystem.
    pub(super) free: Space,
    /// Whether an earlier run has left anything in its stage.
    pub(super) leftovers: bool,
    /// Mode and owner of its root.
    pub(super) root: Option<Meta>,
    pub(super) source: BlobSource,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// What of an origin is known without its tree.
#[derive(Clone)]
pub(super) struct Standing {
    pub(super) digest: Digest,
    pub(super) leftovers: bool,
    pub(super) root: Option<Meta>,
}

/// How much of an origin a run has had to know.
#[derive(Clone)]
enum Known {
    Whole(Arc<Origin>),
    /// Its tree takes time to read, and only an edge that is not in step needs it.
    Scanned(Arc<Scanned>, Option<Meta>),
}

/// Main's directories by name. What a round changes on Main replaces what was scanned.
pub(super) struct Origins(Mutex<BTreeMap<String, Result<Known, Halt>>>);

impl Origins {
    /// Scans every directory that the run is for.
    pub(super) fn scan(run: &Run<'_>) -> Origins {
        let scanned = run.spec.directories.iter();
        Origins(Mutex::new(scanned.map(|directory| (directory.name.clone(), look(run, directory))).collect()))
    }

    fn known(&self, directory: &str) -> Result<Known, Halt> {
        let unknown = || Err(Halt::new(Guard::RootUnusable, format!("{directory} was not scanned on Main")));
        lock(&self.0).get(directory).cloned().unwrap_or_else(unknown)
    }

    /// What can be told of a directory at once, or why it is left alone on all nodes.
    pub(super) fn standing(&self, directory: &str) -> Result<Standing, Halt> {
        Ok(match self.known(directory)? {
            Known::Whole(origin) => {
                Standing { digest: origin.digest, leftovers: origin.leftovers, root: origin.root.clone() }
            }
            Known::Scanned(scanned, root) => {
                Standing { digest: scanned.digest, leftovers: scanned.leftovers, root }
            }
        })
    }

    /// One directory, or why it is left alone on all nodes.
    pub(super) fn get(&self, run: &Run<'_>, directory: &str) -> Result<Arc<Origin>, Halt> {
        let scanned = match self.known(directory)? {
            Known::Whole(origin) => return Ok(origin),
            Known::Scanned(scanned, _) => scanned,
        };
        let origin = of_scan(&mut **lock(&run.env.main), directory, &scanned);
        let origin = origin.map(Arc::new).map_err(unusable);
        // What a round has made of it meanwhile stays.
        if let Some(known @ Ok(Known::Scanned(..))) = lock(&self.0).get_mut(directory) {
            *known = origin.clone().map(Known::Whole);
        }
        origin
    }

    /// Records what a round made of a directory.
    pub(super) fn set(&self, directory: &str, origin: Arc<Origin>) {
        lock(&self.0).insert(directory.to_owned(), Ok(Known::Whole(origin)));
    }

    /// From now on a directory is left alone on all nodes.
    pub(super) fn halt(&self, directory: &str, halt: Halt) {
        lock(&self.0).insert(directory.to_owned(), Err(halt));
    }

    /// The directories that are left alone on all nodes, and why.
    pub(super) fn halted(&self) -> Vec<(String, Halt)> {
        let all = lock(&self.0);
        all.iter().filter_map(|(name, known)| Some((name.clone(), known.as_ref().err()?.clone()))).collect()
    }
}

fn unusable(error: NodeError) -> Halt {
    Halt::new(Guard::RootUnusable, error.detail)
}

/// Scans one of Main's directories.
pub(super) fn scan(run: &Run<'_>, directory: &DirectorySpec) -> Result<Origin, Halt> {
    let mut main = lock(&run.env.main);
    let scanned = scan_checked(&mut **main, run, directory)?;
    of_scan(&mut **main, &directory.name, &scanned).map_err(unusable)
}

/// The same, without the tree where that takes time.
fn look(run: &Run<'_>, directory: &DirectorySpec) -> Result<Known, Halt> {
    let mut main = lock(&run.env.main);
    let scanned = scan_checked(&mut **main, run, directory)?;
    if main.has_tree_at_hand(&directory.name) {
        let origin = of_scan(&mut **main, &directory.name, &scanned).map_err(unusable)?;
        return Ok(Known::Whole(Arc::new(origin)));
    }
    let root = main.root_meta(&directory.name);
    Ok(Known::Scanned(Arc::new(scanned), root))
}

/// Scans one of Main's directories, and holds its root against the one that was synchronised before.
fn scan_checked(main: &mut dyn MainSide, run: &Run<'_>, directory: &DirectorySpec) -> Result<Scanned, Halt> {
    let scanned = main.scan(&directory.scan).map_err(unusable)?;
    let known = lock(run.ledger).roots.get(&directory.name).cloned();
    check_root(directory, &scanned.root, known.as_deref())?;
    if !run.spec.dry_run && known.is_none() {
        let root = main.prepare(&directory.name, &run.spec.trash, None).map_err(unusable)?;
        let root = root.map_err(|why| Halt::new(Guard::RootUnusable, why.to_string()))?;
        run.warn_of_pruned(&directory.name, &root.pruned);
        lock(run.ledger).roots.entry(directory.name.clone()).or_insert(root.id);
    }
    Ok(scanned)
}

/// What the last scan of a directory saw.
fn of_scan(main: &mut dyn MainSide, directory: &str, scanned: &Scanned) -> Result<Origin, NodeError> {
    let source = main.source(directory)?;
    let tree = main.tree(directory, None)?;
    Ok(Origin {
        found: Arc::clone(&tree),
        tree,
        digest: scanned.digest,
        settled: scanned.settled,
        free: scanned.free,
        leftovers: scanned.leftovers,
        root: main.root_meta(directory),
        source,
    })
}

/// Whether a root of Main's is the one that was synchronised before. `known` is its id, if it ever was.
pub(super) fn check_root(directory: &DirectorySpec, root: &Root, known: Option<&str>) -> Result<(), Halt> {
    let path = directory.scan.root.display();
    let (guard, detail) = match (root, known) {
        (Root::Unmarked | Root::Marked(_), None) => return Ok(()),
        (Root::Marked(marker), Some(known)) if marker.id == known => return Ok(()),
        (Root::Missing, _) => (Guard::RootMissing, format!("{path} does not exist; is its disk mounted?")),
        (Root::Unusable(why), _) => (Guard::RootUnusable, format!("{path}: {why}")),
        (Root::Unmarked, Some(_)) => (
            Guard::RootUnmarked,
            format!("{path} has lost its marker .xds-sync/root.json: another disk may be mounted there"),
        ),
        (Root::Marked(_), Some(_)) => {
            (Guard::RootReplaced, format!("{path} is not the directory that was synchronised before"))
        }
    };
    Err(Halt::new(guard, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::marker::Marker;
    use crate::sync::spec::tests::directory;

    #[test]
    fn only_the_known_root_or_a_new_one_may_go_on() {
        let directory = directory("moh");
        let marked = |id: &str| Root::Marked(Marker { id: id.to_owned(), generation: None });
        for (root, known, guard) in [
            (Root::Unmarked, None, None),
            (marked("A"), None, None),
            (marked("A"), Some("A"), None),
            (marked("B"), Some("A"), Some(Guard::RootReplaced)),
            (Root::Unmarked, Some("A"), Some(Guard::RootUnmarked)),
            (Root::Missing, None, Some(Guard::RootMissing)),
            (Root::Missing, Some("A"), Some(Guard::RootMissing)),
            (Root::Unusable("EIO".to_owned()), None, Some(Guard::RootUnusable)),
        ] {
            let found = check_root(&directory, &root, known).err().map(|halt| halt.guard);
            assert_eq!(found, guard, "{root:?} {known:?}");
        }
    }
}
