//! A store in a directory of this host, or of one that it mounts.

use std::path::Path;
use std::sync::Arc;

use object_store::local::LocalFileSystem;

use super::StoreSpec;
use super::service::Service;
use crate::store::StoreError;

/// Opens `file:///DIR`. The directory must be there: one that is not mounted must not be taken for an empty store.
pub(super) fn open(spec: &StoreSpec) -> Result<Service, StoreError> {
    let dir = dir(&spec.url)?;
    let files = LocalFileSystem::new_with_prefix(dir).map_err(|error| {
        StoreError::Unreachable(format!("no store at {}: {error}; is it mounted?", dir.display()))
    })?;
    // What was published must outlive a power cut, as what was synchronised does.
    Service::new(Arc::new(files.with_fsync(true)), "", spec.url.clone())
}

/// The directory of a URL.
pub(crate) fn dir(url: &str) -> Result<&Path, StoreError> {
    let path = url.strip_prefix("file://").filter(|path| path.starts_with('/'));
    path.map(Path::new).ok_or_else(|| {
        StoreError::Local(format!("expected a directory such as \"file:///srv/xds-store\", found '{url}'"))
    })
}
