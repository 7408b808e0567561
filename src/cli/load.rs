//! What commands begin with: the configuration, and what is remembered.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Context;
use crate::config::{self, Config, Loaded, Sources};
use crate::host;
use crate::model::escape::escape_for_people;
use crate::report::status::Status;
use crate::state::{Identity, Lock, StateDir};

/// Where the configuration is read from when nobody says otherwise.
pub(super) const DEFAULT_CONFIG: &str = "/etc/xds-sync/config.toml";
/// Of a Main that has never been taken over from another host.
const FIRST_EPOCH: u64 = 1;
/// A blocking flock(2) would not see the signal that ends the wait.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// Which configuration is meant: `--config`, `$XDS_SYNC_CONFIG`, or the usual one.
pub(super) fn config_path(context: &Context) -> PathBuf {
    let named = || host::variable("XDS_SYNC_CONFIG").map(PathBuf::from);
    context.config.clone().or_else(named).unwrap_or_else(|| DEFAULT_CONFIG.into())
}

/// The configuration with the origin of each value; the error has all its mistakes.
pub(super) fn config_with_origins(context: &Context) -> anyhow::Result<Loaded> {
    let file = config_path(context);
    let home = host::home().context("whose home directory '~' is: HOME is not set")?;
    let sources = Sources {
        file_was_named: file != Path::new(DEFAULT_CONFIG),
        file,
        env: host::environment(),
        overrides: Vec::new(),
        home,
        host_name: host::name(),
    };
    Ok(config::load(&sources)?)
}

/// The configuration; the error has all its mistakes.
pub(super) fn config(context: &Context) -> anyhow::Result<Config> {
    Ok(config_with_origins(context)?.config)
}

/// What the last run left behind; `None` before the first.
pub(super) fn status(state: &StateDir) -> anyhow::Result<Option<Status>> {
    let text = state.status()?;
    text.map(|text| Status::parse(&text)).transpose().context("reading the status of the last run")
}

/// Who this Main is: as remembered, or from now on.
pub(super) fn identity(state: &StateDir, dry_run: bool) -> anyhow::Result<Identity> {
    if let Some(identity) = state.identity()? {
        return Ok(identity);
    }
    let identity = Identity { id: host::ulid(), epoch: FIRST_EPOCH };
    // A node remembers whom it obeys from the first run that may change it.
    if !dry_run {
        state.save_identity(&identity)?;
    }
    Ok(identity)
}

/// Another process holds the lock.
#[derive(Debug)]
pub(super) struct Locked(String);

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another run is going on{}", self.0)
    }
}

impl std::error::Error for Locked {}

/// Takes the lock of a run. While `is_waited_for` says so, waits for whoever holds it.
pub(super) fn lock(state: &StateDir, is_waited_for: impl Fn() -> bool) -> anyhow::Result<Lock> {
    loop {
        if let Some(lock) = state.lock(host::pid())? {
            return Ok(lock);
        }
        if !is_waited_for() {
            let path = state.path().join("lock");
            let holder = Lock::holder(&path).map(|pid| format!(": process {pid}"));
            let since = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
            let since = since.map(|since| format!(", since {}", humantime::format_rfc3339_seconds(since)));
            bail!(Locked(holder.unwrap_or_default() + &since.unwrap_or_default()));
        }
        std::thread::sleep(LOCK_POLL);
    }
}

/// Refuses names that are not among the known ones.
pub(super) fn check_names<'a>(
    kind: &str,
    asked: &[String],
    known: impl Iterator<Item = &'a str>,
) -> anyhow::Result<()> {
    let known: Vec<&str> = known.collect();
    let unknown: Vec<String> = asked
        .iter()
        .filter(|name| !known.contains(&name.as_str()))
        .map(|name| escape_for_people(name.as_bytes()))
        .collect();
    match (unknown.as_slice(), known.as_slice()) {
        ([], _) => Ok(()),
        (unknown, []) => bail!("unknown {kind}: {}; none is configured", unknown.join(", ")),
        (unknown, known) => bail!("unknown {kind}: {}; known: {}", unknown.join(", "), known.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_wait_is_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let held = lock(&state, || false).unwrap();
        let error = lock(&state, || false).unwrap_err();
        assert!(error.is::<Locked>());
        let text = error.to_string();
        let holder = format!("another run is going on: process {}, since 2", std::process::id());
        assert!(text.starts_with(&holder), "{text}");
        // The holder goes while somebody waits.
        let held = std::cell::Cell::new(Some(held));
        let waits = || {
            drop(held.take());
            true
        };
        assert!(lock(&state, waits).is_ok());
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let known = || ["mds1", "mds2"].into_iter();
        let asked = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(check_names("node", &asked(&["mds2"]), known()).is_ok());
        assert!(check_names("node", &[], known()).is_ok());
        let error = check_names("node", &asked(&["mds1", "mds3"]), known()).unwrap_err();
        assert_eq!(error.to_string(), "unknown node: mds3; known: mds1, mds2");
    }
}
