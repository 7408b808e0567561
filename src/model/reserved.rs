//! Names that are never synchronised, whatever the configuration says.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

/// Our own directory inside every root: marker, stage and trash. Never part of a tree.
pub const OWN_DIR: &str = ".xds-sync";
/// Names beginning so are a media server's own, in every directory.
const OVERRIDE_PREFIX: &[u8] = b"xds_override";

/// Whether nothing of this name is ever synchronised, nor what lies below it.
#[must_use]
pub fn is_reserved(name: &[u8]) -> bool {
    name == OWN_DIR.as_bytes() || name.starts_with(OVERRIDE_PREFIX)
}

/// What filesystems keep at their top: for repairs, quotas, snapshots, and what desktops have thrown away.
const OF_FILESYSTEMS: [&[u8]; 11] = [
    b"lost+found",
    b"aquota.user",
    b"aquota.group",
    b"quota.user",
    b"quota.group",
    b".snapshot",
    b".snapshots",
    b".zfs",
    b".Trash",
    b"$RECYCLE.BIN",
    b"System Volume Information",
];
/// The same, where a user's number follows.
const TRASH_OF_USER: &[u8] = b".Trash-";
/// What NFS and FUSE call a file that was removed while a process had it open; hexadecimal digits follow.
const REMOVED_WHILE_OPEN: [&[u8]; 2] = [b".nfs", b".fuse_hidden"];
/// Names of these are longer than any that somebody would choose.
const MIN_DIGITS: usize = 16;

/// Whether a filesystem keeps something of this name for itself; `at_top`: in the root of a directory, which may be that
/// of a filesystem.
#[must_use]
pub fn is_of_filesystem(name: &[u8], at_top: bool) -> bool {
    let digits = REMOVED_WHILE_OPEN.iter().find_map(|prefix| name.strip_prefix(*prefix));
    let is_removed =
        digits.is_some_and(|digits| digits.len() >= MIN_DIGITS && digits.iter().all(u8::is_ascii_hexdigit));
    is_removed || (at_top && (OF_FILESYSTEMS.contains(&name) || name.starts_with(TRASH_OF_USER)))
}

/// The first name in a path that is never synchronised.
#[must_use]
pub fn reserved_name(path: &Path) -> Option<&OsStr> {
    path.components().find_map(|part| match part {
        Component::Normal(name) if is_reserved(name.as_bytes()) => Some(name),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_filesystem_keeps_at_its_top_is_no_content() {
        for (name, at_top, below) in [
            ("lost+found", true, false),
            (".snapshot", true, false),
            (".Trash-1000", true, false),
            ("aquota.user", true, false),
            (".nfs00000000012c0f2600000001", true, true),
            (".fuse_hidden0000a4d100000002", true, true),
            (".nfs", false, false),
            (".nfs-server.conf", false, false),
            (".nfs1", false, false),
            ("lost+found.wav", false, false),
            ("snapshot", false, false),
        ] {
            let found = [true, false].map(|at_top| is_of_filesystem(name.as_bytes(), at_top));
            assert_eq!(found, [at_top, below], "{name}");
        }
    }
}
