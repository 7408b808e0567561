//! Objects under names: all that is asked of a store. What is behind it is a directory, a service, or a program.

mod exec;
mod files;
mod hub;
mod service;
mod services;
#[cfg(test)]
pub(crate) mod memory;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{StoreError, several};
use crate::threads::side_by_side;

/// What became of a create-only write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there now, with these bytes, and nobody else has made it.
    New,
    /// Something has that name already, which stays as it is.
    There,
}

/// A store, as the protocol needs it. Every call blocks, and is bounded in time by its implementation.
pub trait Objects: Send + Sync {
    /// The bytes of an object, none where there is none. One that has more than `limit` is refused.
    fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError>;
    /// Several objects, in the order in which they are named, each as [`get`](Objects::get) gives it: in the time of one.
    fn get_all(&self, wanted: &[(&str, u64)]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        side_by_side(wanted, wanted.len(), |(name, limit)| self.get(name, *limit)).into_iter().collect()
    }
    /// For how many small objects one request costs little more than for one.
    fn at_once(&self) -> usize {
        1
    }
    /// Makes an object, unless its name is taken. Of several who try, one makes it.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError>;
    /// Makes or replaces an object: readers see the old bytes or the new ones.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError>;
    /// The names of all objects that begin with `prefix`, which ends with a slash, in order.
    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError>;
    /// Removes an object; none is removed where there is none.
    fn delete(&self, name: &str) -> Result<(), StoreError>;
    /// Where it is, without secrets.
    fn place(&self) -> &str;
    /// Whether [`wait`](Objects::wait) waits.
    fn can_wait(&self) -> bool {
        false
    }
    /// Waits until there is a newer publication than this one, by epoch and number. False: there was none in that time. A
    /// store that tells nothing answers so at once.
    fn wait(&self, _after: (u64, u64), _longest: Duration) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// Where a store is, and how to get there.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct StoreSpec {
    /// `file:///DIR`, `s3://BUCKET/PREFIX`, `https://HUB/store` or `exec:PROGRAM`.
    pub url: String,
    /// What `object_store` calls them, for services.
    pub options: BTreeMap<String, String>,
    /// A file with certificates to trust beside the system's (PEM).
    pub ca: Option<PathBuf>,
    /// The only way there: `http://USER:PASSWORD@HOST:PORT`. Else it is as the environment says.
    pub proxy: Option<String>,
}

impl std::fmt::Debug for StoreSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Options and the proxy hold credentials.
        f.debug_struct("StoreSpec").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a create-only write came to whose reply was lost, or said that something is there: the same bytes are one's own.
pub fn create_or_own(objects: &dyn Objects, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
    let outcome = objects.create(name, bytes);
    if matches!(outcome, Ok(Created::New)) {
        return outcome;
    }
    // An unreachable store stays one.
    match objects.get(name, bytes.len() as u64) {
        Ok(Some(there)) if there == bytes => Ok(Created::New),
        _ => outcome,
    }
}

/// Objects that are asked for together where many are wanted: as many as a hub takes in one request.
pub(crate) const BATCH: usize = several::MOST;

/// Many objects of at most `limit` bytes, in the order in which they are named: in as few calls as can be. What goes wrong
/// with one is told of that one alone.
pub(crate) fn get_each(
    objects: &dyn Objects,
    names: &[String],
    limit: u64,
) -> Vec<Result<Option<Vec<u8>>, StoreError>> {
    let batch = |names: &[String]| {
        let wanted: Vec<(&str, u64)> = names.iter().map(|name| (&**name, limit)).collect();
        match objects.get_all(&wanted) {
            Ok(found) => found.into_iter().map(Ok).collect(),
            // One of them is to blame, or all are.
            Err(_) => side_by_side(&wanted, wanted.len(), |(name, limit)| objects.get(name, *limit)),
        }
    };
    names.chunks(BATCH).flat_map(batch).collect()
}

/// A node that asks for itself: a hub answers nobody else.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Its name on Main.
    pub name: &'a str,
    /// The private key that it signs with.
    pub identity: &'a Path,
    /// The time.
    pub clock: fn() -> SystemTime,
}

/// Opens the store at a place, for a node: it may be a hub.
pub fn open_for_node(spec: &StoreSpec, asker: Asker<'_>) -> Result<Arc<dyn Objects>, StoreError> {
    if spec.url.starts_with("https:") { hub::open(spec, asker) } else { open(spec) }
}

#[cfg(not(all(feature = "gcs-untested", feature = "azure-untested")))]
fn built_without(spec: &StoreSpec, feature: &str) -> StoreError {
    StoreError::Local(format!("{}: this xds-sync was built without the cargo feature {feature}", spec.url))
}

/// Opens the store at a place.
pub fn open(spec: &StoreSpec) -> Result<Arc<dyn Objects>, StoreError> {
    let scheme = spec.url.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        "file" => Ok(Arc::new(files::open(spec)?)),
        "s3" => Ok(Arc::new(services::s3(spec)?)),
        #[cfg(feature = "gcs-untested")]
        "gs" => Ok(Arc::new(services::gcs(spec)?)),
        #[cfg(feature = "azure-untested")]
        "az" => Ok(Arc::new(services::azure(spec)?)),
        "exec" => Ok(Arc::new(exec::Exec::open(&spec.url)?)),
        #[cfg(not(feature = "gcs-untested"))]
        "gs" => Err(built_without(spec, "gcs-untested")),
        #[cfg(not(feature = "azure-untested"))]
        "az" => Err(built_without(spec, "azure-untested")),
        "https" => Err(StoreError::Local(format!(
            "{}: that is a hub, which serves the store to nodes; Main's own `[store]` names the store itself",
            spec.url
        ))),
        _ => Err(StoreError::Local(format!(
            "store.url: expected a URL such as \"file:///srv/xds-store\", found '{}'",
            spec.url
        ))),
    }
}
