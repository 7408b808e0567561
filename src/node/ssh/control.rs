//! The directory of a connection, with its socket and its log.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;

/// Most bytes that are read of ssh's own log.
const MAX_LOG: u64 = 64 * 1024;

/// One connection's own directory.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
}

impl Control {
    /// For a new connection. `count` numbers those of this process.
    pub(super) fn new(control_dir: &Path, count: &AtomicU64) -> io::Result<Control> {
        loop {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let path = control_dir.join(format!("{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Control { path }),
                // A killed run that had our process id has left it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path.join("s")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// What ssh logged: its own words, without the node's banner.
    pub(super) fn log_text(&self) -> String {
        let mut text = Vec::new();
        if let Ok(log) = fs::File::open(self.log()) {
            // An error ends the text early.
            let _ = log.take(MAX_LOG).read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The next run sweeps what cannot be removed now.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the directories of processes that have ended.
pub(super) fn sweep(control_dir: &Path) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(control_dir).with_context(|| format!("cannot read {}", control_dir.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str());
        let pid = name.and_then(|name| name.split_once('-')).and_then(|(pid, _)| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another run may be sweeping too.
            let _ = fs::remove_dir_all(path);
        }
    }
    Ok(())
}
