//! Takes the lock of a run, waiting for it if asked to.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::bail;

use crate::host;
use crate::model::Zone;
use crate::state::{Lock, StateDir};

/// A blocking flock(2) would not see the signal that ends the wait.
const POLL: Duration = Duration::from_millis(200);

/// Another process holds the lock.
#[derive(Debug)]
pub struct Locked {
    pid: Option<u32>,
    /// By the clock on the wall.
    since: Option<String>,
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another run is going on")?;
        if let Some(pid) = self.pid {
            write!(f, ": process {pid}")?;
        }
        self.since.iter().try_for_each(|since| write!(f, ", since {since}"))
    }
}

impl std::error::Error for Locked {}

/// Takes the lock of a run. While another process holds it, waits as long as `is_waited_for` says so, or fails with
/// [`Locked`].
pub(crate) fn lock(state: &StateDir, is_waited_for: impl Fn() -> bool) -> anyhow::Result<Lock> {
    loop {
        if let Some(lock) = state.lock(host::pid())? {
            return Ok(lock);
        }
        if !is_waited_for() {
            bail!(locked(&state.path().join("lock")));
        }
        thread::sleep(POLL);
    }
}

/// Who holds a lock.
pub(crate) fn locked(path: &Path) -> Locked {
    let since = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    Locked { pid: Lock::holder(path), since: since.map(|since| Zone::of(host::time_zone()).tell(since)) }
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
        // By a clock that was wrong.
        let file = fs::File::options().write(true).open(state.path().join("lock")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH - Duration::from_secs(1)).unwrap();
        let text = lock(&state, || false).unwrap_err().to_string();
        let epoch = Zone::of(host::time_zone()).tell(std::time::SystemTime::UNIX_EPOCH);
        assert!(text.ends_with(&format!(", since {epoch}")), "{text}");
        // The holder goes while somebody waits.
        let held = std::cell::Cell::new(Some(held));
        let waits = || {
            drop(held.take());
            true
        };
        assert!(lock(&state, waits).is_ok());
    }
}
