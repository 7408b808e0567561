//! One run at a time.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::FlockOperation;

/// The lock of a run. The kernel lets go of it when the process ends, however that happens.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock for the process `pid`, this one; `None` when another process holds it.
    pub(crate) fn take(path: &Path, pid: u32) -> anyhow::Result<Option<Lock>> {
        let open = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = open.with_context(|| format!("cannot open {}", path.display()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
        // For people who ask which process holds it; the lock itself is the kernel's.
        let noted = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{pid}"));
        noted.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(Lock { _file: file }))
    }

    /// The process that holds the lock, as far as it wrote that down.
    #[must_use]
    pub(crate) fn holder(path: &Path) -> Option<u32> {
        let mut text = String::new();
        File::open(path).ok()?.take(32).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }
}

impl Lock {
    /// The process that holds the lock now. The lock is left alone: whoever wants it must not find it taken because
    /// somebody has asked.
    #[must_use]
    pub(crate) fn present_holder(path: &Path) -> Option<u32> {
        let (pid, inode) = (Lock::holder(path)?, std::fs::metadata(path).ok()?.ino());
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        is_listed(&locks, pid, inode).then_some(pid)
    }
}

/// Whether a process holds an flock(2) of this inode, by the lines of /proc/locks: `1: FLOCK  ADVISORY  WRITE 4711 08:01:42 0 EOF`.
fn is_listed(locks: &str, pid: u32, inode: u64) -> bool {
    locks.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words.as_slice(), [_, "FLOCK", _, "WRITE", holder, file, ..]
            if *holder == pid.to_string() && file.rsplit(':').next() == Some(&*inode.to_string()))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_second_gets_it_once_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let take = || Lock::take(&path, 4711).unwrap();
        let first = take();
        assert!(first.is_some());
        assert!(take().is_none());
        assert_eq!(Lock::holder(&path), Some(4711));
        drop(first);
        assert!(take().is_some());
    }

    #[test]
    fn who_holds_it_now_is_told_without_taking_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let me = std::process::id();
        assert_eq!(Lock::present_holder(&path), None);
        let held = Lock::take(&path, me).unwrap();
        assert_eq!(Lock::present_holder(&path), Some(me));
        drop(held);
        assert_eq!(Lock::present_holder(&path), None);
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
        assert!(Lock::take(&path, 4711).unwrap().is_none());
        assert_eq!(Lock::holder(&path), None, "it wrote nothing down");
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(Lock::take(&path, 4711).unwrap().is_some());
    }
}
