//! Files that are wholly old or wholly new, whenever the power fails.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::fault::{self, Point, reach};

/// Replaces a file (0600) in one step that survives a crash; makes the directory (0700) it is in.
pub fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let new = temporary(path);
        reach(Point::StateWrite)?;
        // Nobody else writes here: the state directory is ours alone, and the lock is held.
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        fault::wrote(&file);
        reach(Point::StateSync)?;
        file.sync_all()?;
        fault::synced(Some(file.as_fd()));
        reach(Point::StateRename)?;
        fs::rename(&new, path)?;
        reach(Point::StateDirSync)?;
        File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Gives a file, which is on disk, the place of another, in one step that survives a crash; makes the directory
/// (0700) that it goes to.
pub fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    let rename = || -> io::Result<()> {
        let dir = to.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        reach(Point::Promote)?;
        fs::rename(from, to)?;
        File::open(dir)?.sync_all()
    };
    rename().with_context(|| format!("cannot write {}", to.display()))
}

/// A name beside `path` that no other file's replacement uses, not even one at the same time. No file here
/// begins with a dot.
fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Reads a whole file; `None` when there is none.
pub fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/file");
        assert_eq!(read(&path).unwrap(), None);
        replace(&path, b"old and long").unwrap();
        let old = File::open(&path).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"new");
        // Whoever has the old one open still reads all of it.
        assert_eq!(io::read_to_string(old).unwrap(), "old and long");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn what_a_killed_replacement_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"good").unwrap();
        fs::write(temporary(&path), b"half, and longer than what comes").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"good");
        replace(&path, b"next").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"next");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_replacement_leaves_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"good").unwrap();
        fs::create_dir(temporary(&path)).unwrap();
        let error = replace(&path, b"next").unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert_eq!(read(&path).unwrap().unwrap(), b"good");
    }

    #[test]
    fn files_side_by_side_do_not_share_a_temporary_one() {
        let dir = tempfile::tempdir().unwrap();
        // Both are "10.0.0" with an extension.
        let names = ["10.0.0.11", "10.0.0.12"];
        assert_ne!(temporary(&dir.path().join(names[0])), temporary(&dir.path().join(names[1])));
        std::thread::scope(|scope| {
            for name in names {
                let path = dir.path().join(name);
                scope.spawn(move || {
                    for _ in 0..20 {
                        replace(&path, name.as_bytes()).unwrap();
                        assert_eq!(read(&path).unwrap().unwrap(), name.as_bytes());
                    }
                });
            }
        });
    }
}
