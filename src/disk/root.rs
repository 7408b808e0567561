//! The one way to a root, and resolving below it.
//!
//! [`find`] walks to a root from `/`, component by component, each opened from the descriptor of the one before it. Who
//! may write in a directory decides what its names mean, not who wrote the path into a configuration:
//!
//! - A symlink is followed only when it is root's, and absolute: so it leads to the same place wherever it is moved, and
//!   nothing that is carried is like it. A relative one only where nobody but root can change any name on the way to
//!   it, and not in a directory that is synchronised.
//! - A directory may stand where others can replace it, as `recordings` does in Asterisk's `sounds`. They can put only
//!   a directory there that they could move; the marker tells whether it is still the same one.
//! - What is missing is made below the directory that was held when it was found missing, and never through anything
//!   that has come to stand there meanwhile.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, mkdirat, openat};
use rustix::io::Errno;

use super::walk::{Walk, is_ours};
use super::{OWN_DIR, OwnIdentity};
use crate::model::RelPath;
use crate::model::reserved::reserved_name;

/// A directory's root, open. Clones share the descriptor.
#[derive(Clone, Debug)]
pub struct HeldRoot {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    real: PathBuf,
    /// What is remembered of it and of our directory in it.
    ours: Option<OwnIdentity>,
}

/// What was found where a root is to be.
#[derive(Clone, Debug)]
pub enum Found {
    /// A directory.
    Root(HeldRoot),
    /// Nothing.
    Missing(MissingRoot),
}

/// A root that is not there. The directory that it would be made below is held.
#[derive(Clone, Debug)]
pub struct MissingRoot {
    above: Arc<OwnedFd>,
    /// What is missing below it: one name at least, and no `..`.
    rest: Vec<OsString>,
    path: PathBuf,
    real: PathBuf,
    /// Whether a symlink leads to where nothing is, as one does to a disk that is not mounted.
    is_dangling: bool,
}

/// What every resolution below a root obeys.
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Found {
    /// Walks to the root of a directory. It may not lie in what is never synchronised.
    pub fn root(path: &Path) -> io::Result<Found> {
        let found = Found::at(path)?;
        if let Some(name) = reserved_name(path).or_else(|| reserved_name(found.real())) {
            let name = name.display();
            return Err(io::Error::other(format!("it lies in {name}, which is never synchronised")));
        }
        Ok(found)
    }

    fn at(path: &Path) -> io::Result<Found> {
        let walk = Walk::to(&std::path::absolute(path)?)?;
        let real = walk.real();
        if walk.rest.is_empty() {
            let fd = Arc::new(openat(walk.dir(), c".", DIRECTORY, Mode::empty())?);
            return Ok(Found::Root(HeldRoot { fd, path: path.to_owned(), real, ours: None }));
        }
        if walk.rest.iter().any(|name| name == "..") {
            return Err(Errno::NOENT.into());
        }
        let (rest, is_dangling): (Vec<_>, _) = (walk.rest.iter().cloned().collect(), walk.is_dangling);
        let real = real.join(rest.iter().collect::<PathBuf>());
        let above = Arc::new(walk.into_dir());
        Ok(Found::Missing(MissingRoot { above, rest, path: path.to_owned(), real, is_dangling }))
    }

    /// Where it is, or would be, without symlinks.
    #[must_use]
    pub fn real(&self) -> &Path {
        match self {
            Found::Root(held) => &held.real,
            Found::Missing(missing) => &missing.real,
        }
    }
}

impl HeldRoot {
    /// Opens the directory at `path`, which is there.
    pub fn open(path: &Path) -> io::Result<HeldRoot> {
        match Found::at(path)? {
            Found::Root(held) => Ok(held),
            Found::Missing(_) => Err(Errno::NOENT.into()),
        }
    }

    /// What is open already.
    #[cfg(test)]
    pub(crate) fn of(fd: impl Into<OwnedFd>, path: &Path) -> HeldRoot {
        HeldRoot { fd: Arc::new(fd.into()), path: path.to_owned(), real: path.to_owned(), ours: None }
    }

    /// The path it was opened by; for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same, with what is remembered of our directory in it from before.
    #[must_use]
    pub fn remembering(self, ours: Option<OwnIdentity>) -> HeldRoot {
        HeldRoot { ours, ..self }
    }

    /// What is to be remembered of our directory, which is open.
    pub fn identity(&self, own: impl AsFd) -> Option<OwnIdentity> {
        OwnIdentity::of(self, own)
    }

    /// Who owns our directory, or one in it, must be us. One that was given to somebody else together with all that is in the
    /// root, by a `chown -R`, is taken back where it is remembered as the very one that we made. `Ok(true)`: it is to be taken
    /// back; the error says why it is refused.
    pub fn is_to_be_taken_back(&self, own: impl AsFd) -> io::Result<bool> {
        let owner = fstat(&own)?.st_uid;
        if is_ours(owner) {
            return Ok(false);
        }
        let is_root = rustix::process::geteuid().is_root();
        if is_root && self.ours.is_some() && self.ours == self.identity(&own) {
            return Ok(true);
        }
        let path = self.path.join(OWN_DIR);
        let path = path.display();
        Err(io::Error::other(format!(
            "{path} belongs to user id {owner}: if somebody has changed the owner of all that is in there, give it back by \
             'chown -R root {path}'; otherwise move it away"
        )))
    }

    /// Whether both are the same directory, by whatever paths.
    #[must_use]
    pub fn is(&self, other: &HeldRoot) -> bool {
        match (fstat(self), fstat(other)) {
            (Ok(ours), Ok(other)) => (ours.st_dev, ours.st_ino) == (other.st_dev, other.st_ino),
            _ => false,
        }
    }

    /// Opens a directory in this one, over no symlink.
    pub fn dir(&self, name: &OsStr) -> io::Result<HeldRoot> {
        let fd = Arc::new(openat(self, name, DIRECTORY, Mode::empty())?);
        Ok(HeldRoot { fd, path: self.path.join(name), real: self.real.join(name), ours: None })
    }

    /// Opens what is at `path` below the root. Never follows a symlink, in no component.
    pub fn open_at(&self, path: &RelPath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.resolve(path.as_bytes(), flags, mode)
    }

    /// Opens the directory that holds `path`, to act on its last name. The root itself for a top-level name.
    pub fn open_parent(&self, path: &RelPath) -> io::Result<OwnedFd> {
        let parent = path.parent().map_or(&b"."[..], RelPath::as_bytes);
        self.resolve(parent, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens the directory `name` of our own, such as `.xds-sync/stage`. None of its parts may be a symlink.
    pub fn open_own(&self, name: &str) -> io::Result<OwnedFd> {
        self.resolve(name.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    fn resolve(&self, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        open_beneath(&*self.fd, path, flags, mode)
    }
}

impl MissingRoot {
    /// Makes it, with the directories above it that are missing as well.
    pub fn make(&self) -> io::Result<HeldRoot> {
        let path = || self.path.display();
        if self.is_dangling {
            return Err(io::Error::other(format!("{}: a symlink leads to where nothing is", path())));
        }
        let mut made: Option<OwnedFd> = None;
        for (index, name) in self.rest.iter().enumerate() {
            let dir = made.as_ref().map_or(self.above.as_fd(), AsFd::as_fd);
            let is_last = index + 1 == self.rest.len();
            made = Some(make_dir(dir, name, is_last).map_err(|error| {
                let name = name.display();
                io::Error::new(error.kind(), format!("{}: {name} cannot be made: {error}", path()))
            })?);
        }
        let fd = Arc::new(made.ok_or(Errno::NOENT)?);
        Ok(HeldRoot { fd, path: self.path.clone(), real: self.real.clone(), ours: None })
    }
}

/// Makes a directory and opens it. One that was not there a moment ago is taken as it is, as another root's may have
/// been made on the way; with `must_be_new` it is not, for nobody has looked at what is in it.
fn make_dir(dir: BorrowedFd<'_>, name: &OsStr, must_be_new: bool) -> io::Result<OwnedFd> {
    let is_new = match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let changed = || io::Error::other("something has just come to stand there; the next run looks at it");
    let opened = match openat(dir, name, DIRECTORY, Mode::empty()) {
        Err(Errno::LOOP | Errno::NOTDIR) => return Err(changed()),
        opened => opened?,
    };
    // Ours, unless somebody has put another one in its place meanwhile.
    let is_right = if is_new { is_ours(fstat(&opened)?.st_uid) } else { !must_be_new };
    if is_right { Ok(opened) } else { Err(changed()) }
}

/// Opens what is at `path` below a held directory, following no symlink in any component.
pub fn open_beneath(dir: impl AsFd, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut races = 0;
    loop {
        match rustix::fs::openat2(&dir, OsStr::from_bytes(path), flags, mode, BENEATH) {
            Err(Errno::INTR) => {}
            // A rename anywhere raced the walk, and the kernel asks to try again. But with `O_NONBLOCK` the same
            // number says that another process holds a lease on the file, which may last.
            Err(Errno::AGAIN) if races < MOST_RACES => races += 1,
            other => return Ok(other?),
        }
    }
}

/// So many races in a row are none.
const MOST_RACES: u32 = 16;

impl AsFd for HeldRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for MissingRoot {
    /// The directory above it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.above.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    /// A user who is nobody's friend.
    const OTHER: u32 = 1234;

    fn chown(path: &Path, uid: u32) {
        std::os::unix::fs::lchown(path, Some(uid), None).unwrap();
    }

    fn refused(path: &Path) -> String {
        Found::root(path).unwrap_err().to_string()
    }

    #[test]
    fn a_symlink_is_followed_where_only_root_can_change_it() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        assert!(rustix::process::geteuid().is_root(), "needs root, as the program does");
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("asterisk/moh")).unwrap();
        std::fs::create_dir(at("xivo")).unwrap();
        chown(&at("asterisk"), OTHER);
        chown(&at("asterisk/moh"), OTHER);
        symlink(at("asterisk/moh"), at("xivo/moh")).unwrap();
        symlink("../asterisk", at("xivo/relative")).unwrap();
        for (path, real) in [
            ("xivo/moh", "asterisk/moh"),
            ("xivo/relative/moh", "asterisk/moh"),
            ("xivo/relative/../xivo/moh/not/yet", "asterisk/moh/not/yet"),
            ("asterisk/moh", "asterisk/moh"),
        ] {
            let found = Found::root(&at(path)).unwrap();
            assert_eq!(found.real(), at(real));
            assert_eq!(matches!(found, Found::Root(_)), at(real).exists());
        }
        let is_mended_by = |path: &str, command: &str, of: &str| {
            let (why, command) = (refused(&at(path)), format!("'{command} {}'", at(of).display()));
            assert!(why.contains(&command), "{path}: {why}");
        };
        // The link's own owner, its directory's, and that of the one above it.
        chown(&at("xivo/moh"), OTHER);
        is_mended_by("xivo/moh", "chown -h root", "xivo/moh");
        chown(&at("xivo/moh"), 0);
        chown(&at("xivo"), OTHER);
        Found::root(&at("xivo/moh")).unwrap();
        is_mended_by("xivo/relative", "chown root", "xivo");
        chown(&at("xivo"), 0);
        let mode = |bits| std::fs::set_permissions(at("xivo"), PermissionsExt::from_mode(bits)).unwrap();
        mode(0o775);
        is_mended_by("xivo/relative", "chmod go-w", "xivo");
        mode(0o1777);
        Found::root(&at("xivo/relative")).unwrap();
        std::fs::create_dir(at("asterisk/of-root")).unwrap();
        symlink("../../xivo", at("asterisk/of-root/link")).unwrap();
        is_mended_by("asterisk/of-root/link", "chown root", "asterisk");
    }

    #[test]
    fn in_a_synchronised_directory_a_symlink_that_may_have_been_carried_is_not_followed() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("sounds/.xds-sync")).unwrap();
        std::fs::create_dir_all(at("sounds/a/custom")).unwrap();
        symlink(at("sounds/a"), at("sounds/recordings")).unwrap();
        symlink("../a/custom", at("sounds/a/relative")).unwrap();
        assert_eq!(Found::root(&at("sounds/recordings")).unwrap().real(), at("sounds/a"));
        assert!(refused(&at("sounds/a/relative")).contains("in a synchronised directory"));
        assert!(refused(&at("sounds/recordings/relative/x")).contains("in a synchronised directory"));
        assert!(refused(&at("sounds/.xds-sync")).contains("never synchronised"));
        assert!(refused(&at("sounds/a/xds_override.d/x")).contains("never synchronised"));
    }

    #[test]
    fn what_is_missing_is_made_where_it_was_missed_and_through_nothing() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let missing = |name: &str| match Found::root(&at(name)).unwrap() {
            Found::Missing(missing) => missing,
            Found::Root(root) => panic!("{root:?}"),
        };
        std::fs::create_dir(at("elsewhere")).unwrap();
        std::fs::create_dir(at("above")).unwrap();
        let (deep, linked, planted, shared) =
            (missing("above/a/b"), missing("above/link/x"), missing("above/dir"), missing("above/shared/x"));
        symlink(at("elsewhere"), at("above/link")).unwrap();
        std::fs::create_dir(at("above/dir")).unwrap();
        std::fs::create_dir(at("above/shared")).unwrap();
        for refused in [linked, planted] {
            let why = refused.make().unwrap_err().to_string();
            assert!(why.contains("has just come to stand there"), "{why}");
        }
        shared.make().unwrap();
        symlink(at("not-mounted"), at("dangling")).unwrap();
        assert!(missing("dangling").make().is_err() && missing("dangling/x").make().is_err());
        // The directory above is the one that was seen, wherever it is now.
        std::fs::rename(at("above"), at("moved")).unwrap();
        symlink(at("elsewhere"), at("above")).unwrap();
        deep.make().unwrap();
        assert!(at("moved/a/b").is_dir());
        assert_eq!(std::fs::read_dir(at("elsewhere")).unwrap().count(), 0);
        assert!(!at("not-mounted").exists());
    }

    #[test]
    fn no_symlink_leads_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/sub")).unwrap();
        std::fs::write(dir.path().join("root/sub/file"), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("root/up")).unwrap();
        std::os::unix::fs::symlink("sub", dir.path().join("root/inside")).unwrap();
        std::os::unix::fs::symlink("sub/file", dir.path().join("root/link")).unwrap();
        let root = HeldRoot::open(&dir.path().join("root")).unwrap();
        for (path, allowed) in
            [("sub/file", true), ("up/secret", false), ("inside/file", false), ("link", false)]
        {
            let path = RelPath::new(path.as_bytes()).unwrap();
            let opened = root.open_at(path, OFlags::RDONLY, Mode::empty());
            assert_eq!(opened.is_ok(), allowed, "{path:?}: {opened:?}");
        }
    }
}
