//! One run at a time.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::FlockOperation;

/// The lock of a run. The kernel lets go of it when the process ends, however that happens.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock; `None` when another process has it and `wait` is false.
    pub fn take(path: &Path, wait: bool) -> anyhow::Result<Option<Lock>> {
        let open = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = open.with_context(|| format!("cannot open {}", path.display()))?;
        let operation =
            if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
            }
        }
        // Only for people who ask who holds it; the lock itself is the kernel's.
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        Ok(Some(Lock { _file: file }))
    }

    /// The process that holds the lock, as far as it wrote that down.
    #[must_use]
    pub fn holder(path: &Path) -> Option<u32> {
        let mut text = String::new();
        File::open(path).ok()?.take(32).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path, false).unwrap();
        assert!(first.is_some());
        assert!(Lock::take(&path, false).unwrap().is_none());
        assert_eq!(Lock::holder(&path), Some(std::process::id()));
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || Lock::take(&path, true).unwrap().is_some()
        });
        drop(first);
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn a_killed_process_holds_nothing() {
        use std::io::{BufRead as _, BufReader};
        use std::process::{Command, Stdio};

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut other = Command::new("flock")
            .arg("--no-fork")
            .arg(&path)
            .args(["sh", "-c", "echo held; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(other.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        assert!(Lock::take(&path, false).unwrap().is_none());
        assert_eq!(Lock::holder(&path), None, "it wrote nothing down");
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(Lock::take(&path, false).unwrap().is_some());
    }
}
