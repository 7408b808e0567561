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

/// The first name in a path that is never synchronised.
#[must_use]
pub fn reserved_name(path: &Path) -> Option<&OsStr> {
    path.components().find_map(|part| match part {
        Component::Normal(name) if is_reserved(name.as_bytes()) => Some(name),
        _ => None,
    })
}
