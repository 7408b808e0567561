//! A host's files, reached from outside through `/proc/PID/root`.
//!
//! Every path is resolved with the host's root as `/` (openat2's `RESOLVE_IN_ROOT`): an absolute symlink on
//! the host, and XiVO's directories are such, would otherwise lead to the machine's own files.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::host::Host;
use super::tree::Tree;

impl Host {
    /// The file's content.
    #[track_caller]
    pub fn read(&self, path: impl AsRef<Path>) -> Vec<u8> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        self.open(path, OFlags::RDONLY)
            .map(File::from)
            .unwrap_or_else(|why| panic!("{}: read {}: {why}", self.name, path.display()))
            .read_to_end(&mut bytes)
            .expect("read");
        bytes
    }

    /// The file's content as text.
    #[track_caller]
    pub fn read_text(&self, path: impl AsRef<Path>) -> String {
        String::from_utf8(self.read(path)).expect("text")
    }

    /// Writes a file in place, as an editor does that does not rename. What is new, missing directories
    /// too, gets owner and group of the directory it comes into; below directories of Asterisk's user that is
    /// `asterisk:www-data` with 2775 and 0664, as on XiVO.
    #[track_caller]
    pub fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = path.as_ref();
        let parent = self.reach_or_make(path.parent().expect("a path with a parent"));
        let is_new = !self.exists(path);
        let file = self
            .open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)
            .unwrap_or_else(|why| panic!("{}: write {}: {why}", self.name, path.display()));
        let mut file = File::from(file);
        file.write_all(bytes.as_ref()).expect("write");
        if is_new {
            inherit(&path_of(&file), parent.as_ref(), 0o664);
        }
    }

    /// Writes a file that looks as if it had been finished an hour ago: nothing that waits for a file to
    /// settle waits for this one.
    #[track_caller]
    pub fn write_settled(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        self.write(path.as_ref(), bytes);
        self.set_mtime(path, SystemTime::now() - Duration::from_secs(3600));
    }

    /// Makes a directory and what is missing above it.
    #[track_caller]
    pub fn mkdir(&self, path: impl AsRef<Path>) {
        self.reach_or_make(path.as_ref());
    }

    /// Makes a symlink at `path` that says `target`.
    #[track_caller]
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) {
        std::os::unix::fs::symlink(target, self.entry(path.as_ref())).expect("symlink");
    }

    /// Removes what is at `path`, a directory with all that is in it. There must be something.
    #[track_caller]
    pub fn remove(&self, path: impl AsRef<Path>) {
        let entry = self.entry(path.as_ref());
        if self.meta(path.as_ref()).is_dir() { fs::remove_dir_all(entry) } else { fs::remove_file(entry) }
            .expect("remove");
    }

    /// Renames within one filesystem of the host.
    #[track_caller]
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        fs::rename(self.entry(from.as_ref()), self.entry(to.as_ref())).expect("rename");
    }

    /// Sets mode bits, setuid, setgid and sticky among them.
    #[track_caller]
    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) {
        fs::set_permissions(self.entry(path.as_ref()), Permissions::from_mode(mode)).expect("chmod");
    }

    /// Sets the modification time of a file.
    #[track_caller]
    pub fn set_mtime(&self, path: impl AsRef<Path>, time: SystemTime) {
        let file = self.open(path.as_ref(), OFlags::RDONLY).expect("open");
        File::from(file).set_modified(time).expect("utimensat");
    }

    /// Whether anything is at `path`, even a symlink that leads nowhere.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.try_entry(path.as_ref()).is_some_and(|entry| fs::symlink_metadata(entry).is_ok())
    }

    /// The modification time of what is at `path` itself, in nanoseconds since 1970.
    #[track_caller]
    pub fn mtime_ns(&self, path: impl AsRef<Path>) -> i128 {
        let meta = self.meta(path.as_ref());
        i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
    }

    /// The time of the last change of the inode, which no program can set: for a file that was renamed into
    /// place, when that happened. In nanoseconds since 1970.
    #[track_caller]
    pub fn ctime_ns(&self, path: impl AsRef<Path>) -> i128 {
        let meta = self.meta(path.as_ref());
        i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec())
    }

    /// The metadata of what is at `path` itself.
    #[track_caller]
    pub fn meta(&self, path: impl AsRef<Path>) -> fs::Metadata {
        let path = path.as_ref();
        fs::symlink_metadata(self.entry(path))
            .unwrap_or_else(|why| panic!("{}: {}: {why}", self.name, path.display()))
    }

    /// Everything below a directory; empty when the directory is not there.
    pub fn tree(&self, path: impl AsRef<Path>) -> Tree {
        match self.open(path.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(root) => Tree::read(&path_of(&root), &self.names()),
            Err(Errno::NOENT) => Tree::default(),
            Err(why) => panic!("{}: {}: {why}", self.name, path.as_ref().display()),
        }
    }

    /// Opens, following symlinks the way the host itself would.
    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
        openat2(&self.root, path, flags | OFlags::CLOEXEC, mode, ResolveFlags::IN_ROOT)
    }

    /// What `path` leads to, symlinks followed.
    fn reach(&self, path: &Path) -> Result<Reached, Errno> {
        let fd = self.open(path, OFlags::PATH)?;
        Ok(Reached { path: path_of(&fd), _fd: fd })
    }

    #[track_caller]
    fn reach_or_make(&self, path: &Path) -> Reached {
        let mut so_far = PathBuf::from("/");
        let mut reached = self.reach(&so_far).expect("the root");
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            so_far.push(name);
            let there = self.reach(&so_far).or_else(|why| {
                if why != Errno::NOENT {
                    return Err(why);
                }
                let new = reached.path.join(name);
                fs::create_dir(&new).expect("mkdir");
                inherit(&new, &reached.path, 0o2775);
                self.reach(&so_far)
            });
            reached = there.unwrap_or_else(|why| panic!("{}: mkdir {}: {why}", self.name, so_far.display()));
        }
        reached
    }

    /// The entry `path` itself: its parents are followed, it is not.
    #[track_caller]
    fn entry(&self, path: &Path) -> Reached {
        self.try_entry(path)
            .unwrap_or_else(|| panic!("{}: {}: its directory is not there", self.name, path.display()))
    }

    fn try_entry(&self, path: &Path) -> Option<Reached> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.reach(path).ok();
        };
        let mut reached = self.reach(parent).ok()?;
        reached.path.push(name);
        Some(reached)
    }
}

/// A name by which the standard library reaches something on a host, good for as long as this lives.
struct Reached {
    path: PathBuf,
    _fd: OwnedFd,
}

impl AsRef<Path> for Reached {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

fn path_of(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// What Asterisk's user owns is shared with the web server's group, like everything XiVO writes.
fn inherit(new: &Path, parent: &Path, mode: u32) {
    // Through /proc/self/fd a directory is a link: this must look at what it leads to.
    let above = fs::metadata(parent).expect("the directory above");
    std::os::unix::fs::chown(new, Some(above.uid()), Some(above.gid())).expect("chown");
    if above.uid() != 0 {
        fs::set_permissions(new, Permissions::from_mode(mode)).expect("chmod");
    }
}
