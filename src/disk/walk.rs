//! A walk to a path, from `/` by descriptors: what [`root::find`](super::root::find) and [`resolved`](super::resolved)
//! have in common.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::OWN_DIR;

/// As many symlinks as the kernel follows in one path.
const MOST_LINKS: u32 = 40;
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const STICKY: u32 = 0o1000;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// How far a path leads.
pub(super) struct Walk {
    /// The directories on the way, each inside the one before it. The first one is `/`.
    steps: Vec<Step>,
    /// What is not there below the last one.
    pub(super) rest: VecDeque<OsString>,
    links: u32,
    /// Whether `rest` is from a symlink.
    pub(super) is_dangling: bool,
}

struct Step {
    name: OsString,
    fd: OwnedFd,
    stat: Stat,
}

/// What stands at a name.
enum Next {
    Dir,
    Link { target: OsString },
    Nothing,
}

impl Walk {
    /// Walks as far as there is something.
    pub(super) fn to(path: &Path) -> io::Result<Walk> {
        let fd = rustix::fs::open("/", LOOK | OFlags::DIRECTORY, Mode::empty())?;
        let stat = fstat(&fd)?;
        let steps = vec![Step { name: OsString::new(), fd, stat }];
        let mut walk = Walk { steps, rest: names(path).collect(), links: 0, is_dangling: false };
        // So many of the next names are from symlinks.
        let mut from_links = 0_usize;
        while let Some(name) = walk.rest.pop_front() {
            match walk.step(&name)? {
                Next::Dir => from_links = from_links.saturating_sub(1),
                Next::Nothing => {
                    walk.is_dangling = from_links > 0;
                    walk.rest.push_front(name);
                    break;
                }
                Next::Link { target } => {
                    if target.as_bytes().starts_with(b"/") {
                        walk.steps.truncate(1);
                    }
                    let names: Vec<OsString> = names(Path::new(&target)).collect();
                    from_links = from_links.saturating_sub(1) + names.len();
                    names.into_iter().rev().for_each(|name| walk.rest.push_front(name));
                }
            }
        }
        Ok(walk)
    }

    fn step(&mut self, name: &OsStr) -> io::Result<Next> {
        if name == ".." {
            if self.steps.len() > 1 {
                self.steps.pop();
            }
            return Ok(Next::Dir);
        }
        let dir = &self.last().fd;
        // Asking for a directory has an automount point mounted.
        match openat(dir, name, LOOK | OFlags::DIRECTORY, Mode::empty()) {
            Ok(fd) => {
                let stat = fstat(&fd)?;
                self.steps.push(Step { name: name.to_owned(), fd, stat });
                Ok(Next::Dir)
            }
            Err(Errno::NOENT) => Ok(Next::Nothing),
            Err(Errno::NOTDIR | Errno::LOOP) => self.link(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the symlink `name` leads, if it may be followed.
    fn link(&mut self, name: &OsStr) -> io::Result<Next> {
        let link = openat(&self.last().fd, name, LOOK, Mode::empty())?;
        let stat = fstat(&link)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Err(Errno::NOTDIR.into());
        }
        let path = self.real().join(name);
        let target = OsString::from_vec(readlinkat(&link, c"", Vec::new())?.into_bytes());
        let is_absolute = target.as_bytes().starts_with(b"/");
        let command = match is_ours(stat.st_uid) {
            false => Some(format!("chown -h root {}", path.display())),
            // It leads to the same place wherever others may move it, and we never make one.
            true if is_absolute => None,
            true => self.mends(&stat),
        };
        if let Some(command) = command {
            let path = path.display();
            return Err(io::Error::other(format!(
                "{path} is a symlink that others than root can change, and is not followed: mend it by \
                 '{command}', or name the directory itself"
            )));
        }
        if !is_absolute && self.is_synchronised() {
            let path = path.display();
            return Err(io::Error::other(format!(
                "{path} is a symlink in a synchronised directory, and is not followed; name the directory itself"
            )));
        }
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        Ok(Next::Link { target })
    }

    /// The command that takes it from others to move a symlink of root's in the last directory, or a directory on the way
    /// to it; none where nobody but root can. There may be more to mend after that.
    fn mends(&self, link: &Stat) -> Option<String> {
        let mut path = PathBuf::from("/");
        let entries = self.steps.iter().skip(1).map(|step| &step.stat).chain([link]);
        for (dir, entry) in self.steps.iter().zip(entries) {
            path.push(&dir.name);
            let open_to_others = dir.stat.st_mode & WRITABLE_BY_OTHERS != 0;
            if !is_ours(dir.stat.st_uid) {
                return Some(format!("chown root {}", path.display()));
            }
            // In a sticky directory others can add names, and change none that is not theirs.
            if open_to_others && (dir.stat.st_mode & STICKY == 0 || !is_ours(entry.st_uid)) {
                return Some(format!("chmod go-w {}", path.display()));
            }
        }
        None
    }

    /// Whether any directory on the way is a root of ours, so that what lies here may have come from another host.
    fn is_synchronised(&self) -> bool {
        self.steps.iter().any(|step| statat(&step.fd, OWN_DIR, AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    fn last(&self) -> &Step {
        // The first one is never taken.
        &self.steps[self.steps.len() - 1]
    }

    /// The last directory that is there; to look at, and to open things from.
    pub(super) fn dir(&self) -> &OwnedFd {
        &self.last().fd
    }

    /// The same, to keep.
    pub(super) fn into_dir(mut self) -> OwnedFd {
        let last = self.steps.len() - 1;
        self.steps.swap_remove(last).fd
    }

    /// The path of the last directory that is there, without symlinks.
    pub(super) fn real(&self) -> PathBuf {
        let mut path = PathBuf::from("/");
        path.extend(self.steps.iter().skip(1).map(|step| &step.name));
        path
    }
}

/// Whether what belongs to this user is out of everybody else's hands: root's, and our own where we are not root.
pub(super) fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}
