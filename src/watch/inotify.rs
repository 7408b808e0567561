//! What changes below roots, as inotify(7) tells it.
//!
//! Every directory below a root has a watch, but for those that are excluded or another filesystem's: just those that a
//! scan looks into. A watch is made on a directory that is held open, so that nobody can redirect it, and before the
//! directory is read, so that nothing in it is missed. Where a root cannot be watched as a whole it is to be polled.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::Timespec;
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, fstatfs, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::gather::Kind;
use super::own_writes::OwnWrites;
use crate::disk::{HeldRoot, OWN_DIR, Stamp};
use crate::model::{RelPath, RelPathBuf};
use crate::snapshot::Rules;

/// Events that are read at a time.
const MOST_EVENTS: usize = 4096;
const BUFFER: usize = 64 * 1024;
/// Most events that wait for a commit of our own to be over. Beyond it anything may have happened.
const MOST_UNDECIDED: usize = 20_000;
/// How soon they are looked at again: ten milliseconds.
const UNDECIDED_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// What a directory is watched for. A root is watched for its own end as well.
const MASK: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);
const ROOT_MASK: WatchFlags = WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF);

/// Filesystems that other hosts change too, or whose server does: events tell a part of what happens there.
const WITHOUT_EVENTS: [(u64, &str); 11] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x0102_1997, "9P"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x0BD0_0BD0, "Lustre"),
];

/// What watching may cost, however many directories there are.
#[derive(Clone, Copy, Debug)]
pub struct WatchLimits {
    /// Most directories. The kernel has a limit of its own.
    pub watches: usize,
    /// Most bytes of their paths.
    pub bytes: usize,
    /// Most events that may wait at a time, as if the kernel's queue had no more room.
    pub events: usize,
}

impl Default for WatchLimits {
    fn default() -> WatchLimits {
        WatchLimits { watches: 1 << 17, bytes: 32 << 20, events: usize::MAX }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// At a path below a root.
    Path { root: String, path: RelPathBuf, kind: Kind },
    /// Anything may have happened below a root.
    Whole { root: String },
    /// A root is not where it was.
    Gone { root: String },
}

impl Seen {
    /// The root it happened in.
    #[must_use]
    pub fn root(&self) -> &str {
        match self {
            Seen::Path { root, .. } | Seen::Whole { root } | Seen::Gone { root } => root,
        }
    }
}

/// Watches on any number of roots.
#[derive(Debug)]
pub struct Watches {
    inotify: OwnedFd,
    limits: WatchLimits,
    roots: HashMap<String, WatchedRoot>,
    /// By watch: the root and the path below it; empty for the root itself.
    dirs: HashMap<i32, (String, Box<[u8]>)>,
    /// Bytes of these paths.
    bytes: usize,
    own: Arc<OwnWrites>,
    /// What happened in directories in which a commit of our own is under way.
    undecided: Vec<Seen>,
}

#[derive(Debug)]
struct WatchedRoot {
    held: HeldRoot,
    rules: Rules,
    device: u64,
    /// Why it is not watched as a whole.
    partial: Option<String>,
}

impl Watches {
    /// Watches on nothing. What `own` explains is told as such. The error names the setting that allows more.
    pub fn new(limits: WatchLimits, own: Arc<OwnWrites>) -> Result<Watches, String> {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|error| match error {
            Errno::MFILE => "the kernel gives no further inotify instance: raise \
                             fs.inotify.max_user_instances with sysctl"
                .to_owned(),
            error => format!("inotify cannot be used: {}", io::Error::from(error)),
        })?;
        let (roots, dirs) = (HashMap::new(), HashMap::new());
        Ok(Watches { inotify, limits, roots, dirs, bytes: 0, own, undecided: Vec::new() })
    }

    /// Watches a root from now on. The error says why it is to be polled.
    pub fn add(&mut self, name: &str, held: HeldRoot, rules: Rules) -> Result<(), String> {
        self.remove(name);
        let path = held.path().display().to_string();
        if let Some(kind) = without_events(&held) {
            return Err(format!("{path} is on {kind}, where changes of other hosts show no events"));
        }
        let device = fstat(&held).map_err(|error| format!("{path}: {}", io::Error::from(error)))?.st_dev;
        self.roots.insert(name.to_owned(), WatchedRoot { held, rules, device, partial: None });
        self.watch_below(name, b"");
        match self.roots.get(name).and_then(|root| root.partial.clone()) {
            Some(why) => Err(format!("{path}: {why}")),
            None => Ok(()),
        }
    }

    /// Watches a root no longer.
    pub fn remove(&mut self, name: &str) {
        if self.roots.remove(name).is_some() {
            self.forget(|(root, _)| root == name);
        }
    }

    /// Whether all of a root is watched.
    #[must_use]
    pub fn is_whole(&self, name: &str) -> bool {
        self.roots.get(name).is_some_and(|root| root.partial.is_none())
    }

    /// Whether the directory that is watched as this root is `held`.
    #[must_use]
    pub fn is_at(&self, name: &str, held: &HeldRoot) -> bool {
        self.roots.get(name).is_some_and(|root| root.held.is(held))
    }

    /// How many directories are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dirs.len()
    }

    /// Whether nothing is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// Takes what has happened, without waiting.
    pub fn read(&mut self) -> io::Result<Vec<Seen>> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut events = Vec::new();
        {
            let mut reader = Reader::new(&self.inotify, &mut buffer);
            while events.len() < MOST_EVENTS {
                match reader.next() {
                    Ok(event) => {
                        let name = event.file_name().map(|name| name.to_bytes().to_vec());
                        events.push((event.wd(), event.events(), name.unwrap_or_default()));
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut seen = mem::take(&mut self.undecided);
        if events.len() > self.limits.events {
            self.overflow(&mut seen);
        } else {
            for (watch, flags, name) in events {
                self.take(watch, flags, &name, &mut seen);
            }
        }
        Ok(self.without_own(seen))
    }

    /// After how long [`Watches::read`] may have something, though nothing happens until then.
    #[must_use]
    pub fn again_after(&self) -> Option<Timespec> {
        (!self.undecided.is_empty()).then_some(UNDECIDED_AGAIN)
    }

    /// What [`Watches::read`] has not told yet, for the last time. Whose doing it was is not known.
    #[must_use]
    pub fn rest(self) -> Vec<Seen> {
        self.undecided
    }

    /// Tells apart what our own commits did. In a directory in which one is under way that cannot be said yet.
    fn without_own(&mut self, seen: Vec<Seen>) -> Vec<Seen> {
        let mut told = Vec::new();
        for mut seen in seen {
            if let Seen::Path { root, path, kind } = &mut seen {
                if self.own.is_under_way(root) {
                    self.undecided.push(seen);
                    continue;
                }
                let held = self.roots.get(root).map(|root| &root.held);
                let now = || {
                    let fd = held?.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).ok()?;
                    fstat(&fd).ok().map(|stat| Stamp::of(&stat))
                };
                if self.own.explains(root, path, *kind, now) {
                    *kind = Kind::Own;
                }
            }
            told.push(seen);
        }
        if self.undecided.len() > MOST_UNDECIDED {
            let roots: BTreeSet<String> =
                mem::take(&mut self.undecided).iter().map(|seen| seen.root().to_owned()).collect();
            told.extend(roots.into_iter().map(|root| Seen::Whole { root }));
        }
        told
    }

    fn take(&mut self, watch: i32, flags: ReadFlags, name: &[u8], seen: &mut Vec<Seen>) {
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.overflow(seen);
        }
        let Some((root, dir)) = self.dirs.get(&watch).cloned() else { return };
        if flags.contains(ReadFlags::IGNORED) {
            self.forget_one(watch);
            return;
        }
        if flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT) {
            if dir.is_empty() {
                seen.push(Seen::Gone { root });
            }
            return;
        }
        if name.is_empty() {
            // Mode or owner of the directory itself, which the one above it tells as well; a root has none.
            if dir.is_empty() {
                seen.push(Seen::Whole { root });
            }
            return;
        }
        let joined = join(&dir, name);
        let Ok(path) = RelPathBuf::new(&*joined) else {
            seen.push(Seen::Whole { root });
            return;
        };
        let is_dir = flags.contains(ReadFlags::ISDIR);
        let Some(kind) = self.kind(&root, &path, is_dir, flags) else { return };
        if is_dir && kind == Kind::Directory {
            self.watch_below(&root, path.as_bytes());
        } else if is_dir && kind == Kind::Removed {
            self.forget_below(&root, path.as_bytes());
        }
        seen.push(Seen::Path { root, path, kind });
    }

    /// What an event tells of a path; `None`: it does not belong to the directory.
    fn kind(&self, root: &str, path: &RelPath, is_dir: bool, flags: ReadFlags) -> Option<Kind> {
        let root = self.roots.get(root)?;
        let is_out = if is_dir { root.rules.excludes_dir(path) } else { root.rules.excludes(path) };
        if is_out || path.as_bytes() == OWN_DIR.as_bytes() {
            return None;
        }
        if flags.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE) {
            return Some(Kind::Removed);
        }
        if is_dir && flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            return Some(Kind::Directory);
        }
        if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
            return Some(Kind::Complete);
        }
        if flags.contains(ReadFlags::CREATE) {
            // A symlink and a further name of a file are there at once.
            let looked = root.held.open_at(path, OFlags::PATH, Mode::empty());
            let stat = looked.ok().and_then(|fd| fstat(&fd).ok())?;
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            return Some(if is_file && stat.st_nlink < 2 { Kind::Created } else { Kind::Complete });
        }
        Some(Kind::Touched)
    }

    /// Events were lost: anything may have happened, and there may be directories without a watch.
    fn overflow(&mut self, seen: &mut Vec<Seen>) {
        let roots: Vec<String> = self.roots.keys().cloned().collect();
        for root in roots {
            self.watch_below(&root, b"");
            seen.push(Seen::Whole { root });
        }
    }

    /// Makes watches on a directory and on all below it. A directory that has one keeps it.
    fn watch_below(&mut self, name: &str, dir: &[u8]) {
        let mut todo = vec![dir.to_vec()];
        while let Some(dir) = todo.pop() {
            match self.watch(name, &dir) {
                Ok(below) => todo.extend(below),
                // It has gone, or something else has taken its place: events tell.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => {}
                Err(error) => {
                    let why = match error {
                        Errno::NOSPC => "there are more directories than the kernel watches: raise \
                                         fs.inotify.max_user_watches with sysctl"
                            .to_owned(),
                        Errno::TOOBIG => format!(
                            "more than {} directories, or paths of {} bytes, are not watched",
                            self.limits.watches, self.limits.bytes
                        ),
                        error => format!("not all directories can be watched: {}", io::Error::from(error)),
                    };
                    if let Some(root) = self.roots.get_mut(name) {
                        root.partial.get_or_insert(why);
                    }
                    return;
                }
            }
        }
    }

    /// Makes a watch on one directory, and returns those in it that need one.
    fn watch(&mut self, name: &str, dir: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let Some(root) = self.roots.get(name) else { return Ok(Vec::new()) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = match RelPath::new(dir) {
            Ok(path) => root.held.open_at(path, flags, Mode::empty()),
            Err(_) => rustix::fs::openat(&root.held, c".", flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(io::Error::from),
        };
        let fd = opened.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        if fstat(&fd)?.st_dev != root.device {
            return Ok(Vec::new());
        }
        let mask = if dir.is_empty() { MASK | ROOT_MASK } else { MASK };
        if self.dirs.len() >= self.limits.watches || self.bytes + dir.len() > self.limits.bytes {
            return Err(if self.limits.watches < WatchLimits::default().watches {
                Errno::NOSPC
            } else {
                Errno::TOOBIG
            });
        }
        let watch = add_watch(&self.inotify, format!("/proc/self/fd/{}", fd.as_raw_fd()), mask)?;
        // It may have had one already.
        self.forget_one(watch);
        self.bytes += dir.len();
        self.dirs.insert(watch, (name.to_owned(), dir.into()));
        self.subdirectories(name, dir, &fd)
    }

    fn subdirectories(&self, name: &str, dir: &[u8], fd: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
        let Some(root) = self.roots.get(name) else { return Ok(Vec::new()) };
        let mut below = Vec::new();
        for entry in Dir::read_from(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let is_own = dir.is_empty() && name == OWN_DIR.as_bytes();
            if matches!(name, b"." | b"..") || is_own {
                continue;
            }
            let is_dir = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => statat(fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
                _ => false,
            };
            let path = join(dir, name);
            if is_dir && RelPath::new(&path).is_ok_and(|path| !root.rules.excludes_dir(path)) {
                below.push(path);
            }
        }
        Ok(below)
    }

    fn forget_below(&mut self, name: &str, dir: &[u8]) {
        let is_below = |path: &[u8]| {
            path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.forget(|(root, path)| root == name && is_below(path));
    }

    fn forget(&mut self, is_meant: impl Fn(&(String, Box<[u8]>)) -> bool) {
        let meant: Vec<i32> =
            self.dirs.iter().filter(|(_, dir)| is_meant(dir)).map(|(watch, _)| *watch).collect();
        for watch in meant {
            // The kernel has removed the watch of a directory that is gone.
            let _ = remove_watch(&self.inotify, watch);
            self.forget_one(watch);
        }
    }

    fn forget_one(&mut self, watch: i32) {
        if let Some((_, path)) = self.dirs.remove(&watch) {
            self.bytes = self.bytes.saturating_sub(path.len());
        }
    }
}

impl AsFd for Watches {
    /// Readable when something has happened.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// The kind of filesystem that a root is on, if it has no reliable events.
fn without_events(held: &HeldRoot) -> Option<&'static str> {
    let kind = fstatfs(held).ok()?.f_type;
    // Kernels and architectures differ in its width and sign.
    let kind = (kind as u64) & 0xFFFF_FFFF;
    WITHOUT_EVENTS.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}
