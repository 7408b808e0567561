//! Main's own directories: scanned once, for all nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Directory;
use crate::model::{Digest, Tree};
use crate::node::Endpoint as _;
use crate::report::{Guard, Halted, Report};
use crate::snapshot::Root;
use crate::sync::{Run, lock};

/// Main's directories by name.
pub(super) struct MainSide(BTreeMap<String, MainDirectory>);

/// One of Main's directories as it was scanned, or why it is left alone on all nodes.
pub(super) enum MainDirectory {
    Scanned(MainTree),
    Halted(Guard, String),
}

#[derive(Clone)]
pub(super) struct MainTree {
    pub(super) tree: Arc<Tree>,
    pub(super) digest: Digest,
    pub(super) settled: bool,
    /// Bytes free on its filesystem.
    pub(super) free: u64,
}

impl MainSide {
    pub(super) fn get(&self, directory: &Directory) -> Option<&MainDirectory> {
        self.0.get(&directory.name)
    }

    pub(super) fn report(&self, report: &mut Report) {
        for (directory, side) in &self.0 {
            if let MainDirectory::Halted(guard, detail) = side {
                let (directory, detail) = (directory.clone(), detail.clone());
                report.halted.push(Halted {
                    directory,
                    guard: *guard,
                    detail,
                    token: None,
                    nodes: Vec::new(),
                });
            }
        }
    }
}

/// Scans all directories that the run is for, and holds their roots against what is remembered of them.
pub(super) fn scan(run: &Run<'_>) -> MainSide {
    MainSide(run.directories().map(|directory| (directory.name.clone(), scan_one(run, directory))).collect())
}

/// Scans one of Main's directories.
pub(super) fn scan_one(run: &Run<'_>, directory: &Directory) -> MainDirectory {
    let mut main = lock(&run.site.main);
    let spec = run.site.config.scan_spec(directory, None, run.options.checksum);
    let scanned = match main.scan(&spec) {
        Ok(scanned) => scanned,
        Err(error) => return MainDirectory::Halted(Guard::RootUnusable, error.detail),
    };
    let known = lock(&run.ledger).roots.get(&directory.name).cloned();
    if let Err((guard, detail)) = check_root(directory, &scanned.root, known.as_deref()) {
        return MainDirectory::Halted(guard, detail);
    }
    if !run.options.dry_run && known.is_none() {
        match main.prepare(&directory.name, &run.trash_keep()) {
            Ok(Ok(id)) => {
                lock(&run.ledger).roots.insert(directory.name.clone(), id);
            }
            Ok(Err(why)) => return MainDirectory::Halted(Guard::RootUnusable, why.to_string()),
            Err(error) => return MainDirectory::Halted(Guard::RootUnusable, error.detail),
        }
    }
    match main.tree(&directory.name, None) {
        Ok(tree) => MainDirectory::Scanned(MainTree {
            tree,
            digest: scanned.digest,
            settled: scanned.settled,
            free: scanned.free,
        }),
        Err(error) => MainDirectory::Halted(Guard::RootUnusable, error.detail),
    }
}

/// Whether the root is the one that was synchronised before. `known` is its id, if it ever was.
pub(super) fn check_root(
    directory: &Directory,
    root: &Root,
    known: Option<&str>,
) -> Result<(), (Guard, String)> {
    let path = directory.path.display();
    let adopt = format!("if the present one is right, run 'xds-sync init --adopt {}'", directory.name);
    match (root, known) {
        (Root::Missing, _) => {
            Err((Guard::RootMissing, format!("{path} does not exist; is its disk mounted?")))
        }
        (Root::Unusable(why), _) => Err((Guard::RootUnusable, format!("{path}: {why}"))),
        (Root::Unmarked, None) | (Root::Marked(_), None) => Ok(()),
        (Root::Unmarked, Some(_)) => Err((
            Guard::RootUnmarked,
            format!(
                "{path} has lost its marker .xds-sync/root.json: another disk may be mounted there; {adopt}"
            ),
        )),
        (Root::Marked(marker), Some(known)) if marker.id == known => Ok(()),
        (Root::Marked(_), Some(_)) => Err((
            Guard::RootReplaced,
            format!("{path} is not the directory that was synchronised before; {adopt}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::marker::Marker;

    #[test]
    fn only_the_known_root_or_a_new_one_may_go_on() {
        let directory = Directory::built_in_moh();
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
            let found = check_root(&directory, &root, known).err().map(|(guard, _)| guard);
            assert_eq!(found, guard, "{root:?} {known:?}");
        }
    }
}
