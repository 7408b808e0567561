//! Markers in Main's roots, so that a run knows a root from what might be mounted, or not be mounted, in its place.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::config::Directory;
use crate::disk::Found;
use crate::disk::marker::Marker;
use crate::state::{Ledger, StateDir};

/// What became of one root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    /// There is no such directory yet.
    NoDirectory,
    /// It had no marker and got one.
    Made,
    /// It has the right marker.
    Kept,
    /// It is accepted as the right one from now on.
    Adopted,
    /// It has the marker of another root and was left alone.
    AnotherRoot,
    /// It had a marker before and has none now; it was left alone.
    MarkerGone,
}

/// Marks the root of `directory` unless it has a marker. With `adopt`, whatever root is there is the right one from
/// now on. The caller holds the lock of a run.
pub(crate) fn mark(
    state: &StateDir,
    directory: &Directory,
    adopt: bool,
    new_id: impl FnOnce() -> String,
) -> anyhow::Result<Marked> {
    let mut ledger = state.ledger()?;
    let marked = mark_root(&directory.name, &directory.path, &mut ledger, adopt, new_id)
        .with_context(|| format!("marking {}: {}", directory.name, directory.path.display()))?;
    if marked == Marked::Adopted {
        state.save_ledger(&ledger)?;
    }
    Ok(marked)
}

fn mark_root(
    name: &str,
    path: &Path,
    ledger: &mut Ledger,
    adopt: bool,
    new_id: impl FnOnce() -> String,
) -> anyhow::Result<Marked> {
    let root = match Found::root(path)? {
        Found::Root(root) => root,
        // A directory that nobody has made yet is no mistake; one that is to be adopted must be there.
        Found::Missing(_) if !adopt => return Ok(Marked::NoDirectory),
        Found::Missing(_) => bail!("there is no such directory"),
    };
    let known = ledger.roots.get(name);
    let present = Marker::read(&root)?;
    if !adopt {
        match (&present, known) {
            (Some(marker), Some(known)) if *known != marker.id => return Ok(Marked::AnotherRoot),
            (Some(_), _) => return Ok(Marked::Kept),
            (None, Some(_)) => return Ok(Marked::MarkerGone),
            (None, None) => {}
        }
    }
    let id = match present {
        Some(marker) => marker.id,
        None => {
            let marker = Marker { id: new_id(), generation: None };
            marker.write(&root)?;
            marker.id
        }
    };
    if !adopt {
        return Ok(Marked::Made);
    }
    ledger.roots.insert(name.to_owned(), id);
    Ok(Marked::Adopted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::disk::HeldRoot;

    #[test]
    fn a_root_is_marked_once_and_another_one_only_when_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("moh");
        let mut ledger = Ledger::default();
        let mut mark = |adopt| mark_root("moh", &path, &mut ledger, adopt, || "01NEW".to_owned());
        assert_eq!(mark(false).unwrap(), Marked::NoDirectory);
        assert!(mark(true).is_err());

        std::fs::create_dir(&path).unwrap();
        assert_eq!(mark(false).unwrap(), Marked::Made);
        assert_eq!(mark(false).unwrap(), Marked::Kept);
        assert_eq!(mark(true).unwrap(), Marked::Adopted);

        std::fs::remove_dir_all(path.join(".xds-sync")).unwrap();
        assert_eq!(mark(false).unwrap(), Marked::MarkerGone);
        assert!(!path.join(".xds-sync").exists());
        assert_eq!(mark(true).unwrap(), Marked::Adopted);
        let root = HeldRoot::open(&path).unwrap();
        let id = Marker::read(&root).unwrap().unwrap().id;
        assert_eq!(ledger.roots.get("moh"), Some(&id));

        Marker { id: "another".to_owned(), generation: None }.write(&root).unwrap();
        let marked = mark_root("moh", &path, &mut ledger, false, || "01NEW".to_owned()).unwrap();
        assert_eq!(marked, Marked::AnotherRoot);
    }
}
