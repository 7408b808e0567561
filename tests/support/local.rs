//! A host's disk as an endpoint, for tests that have no cluster: what such a test does not care about, in one place.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use xds_sync::model::{Direction, ReloadOutcome, ReloadState};
use xds_sync::node::{LocalOptions, Refusal};
use xds_sync::snapshot::ScanSpec;

/// How a pushed directory without exclusions is scanned.
pub(crate) fn spec(directory: &str, root: &Path) -> ScanSpec {
    ScanSpec {
        directory: directory.to_owned(),
        root: root.to_owned(),
        direction: Direction::Push,
        exclude: Vec::new(),
        other_roots: Vec::new(),
        settle: Duration::ZERO,
        complete: Vec::new(),
        hold_young: false,
        checksum: false,
    }
}

/// A host with its caches below `dir`, no Asterisk, and a clock that is ahead of everything in the test, so that no file
/// is too young.
pub(crate) fn options(dir: &Path) -> LocalOptions {
    LocalOptions {
        cache_dir: dir.join("cache"),
        clock: Box::new(|| SystemTime::now() + Duration::from_secs(3600)),
        new_id: Box::new(|| "01KQ0000000000000000000009".to_owned()),
        reload: Box::new(|request| ReloadOutcome {
            name: request.name.clone(),
            state: ReloadState::Owed,
            detail: None,
        }),
        replace_key: Box::new(|_| Err(Refusal::new(""))),
        progress: Arc::default(),
        stop: Arc::default(),
        limits: Default::default(),
        watch_limits: Default::default(),
    }
}
