//! Which roots of other directories lie inside this one.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::disk::resolved;
use crate::model::RelPathBuf;

/// The paths below `root` that are other directories' roots.
///
/// A root may be named over symlinks, as XiVO's are (`/var/lib/xivo/sounds/recordings` leads to
/// `/var/lib/asterisk/sounds/custom`), so that it can lie inside this one as it is written, as the
/// kernel resolves it, or as a symlink in a resolved directory: all three are carved out.
pub(super) fn carved(root: &Path, other_roots: &[PathBuf]) -> Vec<RelPathBuf> {
    let real_root = resolved(root);
    let mut carved = BTreeSet::new();
    for other in other_roots {
        let link = match (other.parent(), other.file_name()) {
            (Some(parent), Some(name)) => resolved(parent).join(name),
            _ => other.clone(),
        };
        for (base, path) in [(root, other), (&real_root, &resolved(other)), (&real_root, &link)] {
            let Ok(below) = path.strip_prefix(base) else { continue };
            // Empty where both are the same place: that is no nesting.
            let below: PathBuf = below.components().collect();
            let Ok(below) = RelPathBuf::new(below.as_os_str().as_bytes()) else { continue };
            carved.insert(below);
        }
    }
    carved.into_iter().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_way_to_lie_inside() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        std::fs::create_dir_all(base.join("real/sounds/inner")).unwrap();
        std::fs::create_dir_all(base.join("custom")).unwrap();
        symlink(base.join("real/sounds"), base.join("sounds")).unwrap();
        symlink(base.join("custom"), base.join("real/sounds/recordings")).unwrap();
        for (root, other, expected) in [
            ("real/sounds", "real/sounds/inner", Some("inner")),
            // Both by the same symlink, or one of them.
            ("sounds", "sounds/inner", Some("inner")),
            ("sounds", "real/sounds/inner", Some("inner")),
            ("real/sounds", "sounds/inner", Some("inner")),
            // A symlink inside that leads away is in this tree as that symlink.
            ("sounds", "sounds/recordings", Some("recordings")),
            ("sounds", "real/sounds/recordings", Some("recordings")),
            ("real/sounds", "sounds/recordings", Some("recordings")),
            // Not there yet.
            ("sounds", "real/sounds/new/er", Some("new/er")),
            // The same, above, beside.
            ("sounds", "real/sounds", None),
            ("sounds", "real", None),
            ("real/sounds", "real/sounds2", None),
            ("sounds", "custom", None),
        ] {
            let carved = carved(&base.join(root), &[base.join(other)]);
            let expected: Vec<_> =
                expected.iter().map(|path| RelPathBuf::new(path.as_bytes()).unwrap()).collect();
            assert_eq!(carved, expected, "{other} in {root}");
        }
    }
}
