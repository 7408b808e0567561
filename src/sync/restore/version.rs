//! What can be restored.

use crate::model::{Entry, RelPathBuf};
use crate::transfer::trash::{TrashId, TrashKind};

/// A version of a path that a host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// [`MAIN`](crate::model::MAIN), or the node's name.
    pub host: String,
    /// Where it is, or was, in the directory.
    pub path: RelPathBuf,
    /// What; never a directory.
    pub kind: TrashKind,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i64,
    /// Where the host has it.
    pub place: Place,
}

/// Where a host has a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its trash.
    Trash(TrashId),
    /// In the directory itself, while Main has something else there, or nothing.
    Standing {
        /// What stands there.
        entry: Entry,
        /// Whether it is what Main had when both last agreed: then Main has lost or changed it since, and no run has
        /// carried that here yet.
        was_mains: bool,
    },
}

impl Version {
    /// Its id in a trash; `None`: it stands in the directory.
    #[must_use]
    pub fn id(&self) -> Option<&TrashId> {
        match &self.place {
            Place::Trash(id) => Some(id),
            Place::Standing { .. } => None,
        }
    }

    /// Whether it stands in the directory.
    #[must_use]
    pub fn is_standing(&self) -> bool {
        self.id().is_none()
    }

    /// Whether Main had it when both last agreed, and has something else there now, or nothing.
    #[must_use]
    pub fn was_mains(&self) -> bool {
        matches!(self.place, Place::Standing { was_mains: true, .. })
    }
}
