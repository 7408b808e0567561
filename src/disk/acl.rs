//! Access lists, as Linux keeps them in extended attributes (acl(5)): what one says beyond a mode.
//!
//! Where a file has one with a mask, the group bits of its mode are that mask (acl(5), "correspondence between ACL entries
//! and file permission bits"), and no longer what the owning group may do.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
/// Begins each, in little-endian order like all that follows; entries of a tag, permissions and an id come after it.
const VERSION: [u8; 4] = [2, 0, 0, 0];
const ENTRY: usize = 8;

const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// An access list that says more than a mode does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl(Vec<[u8; ENTRY]>);

impl Acl {
    fn parse(bytes: &[u8]) -> Option<Acl> {
        let (entries, rest) = bytes.strip_prefix(&VERSION)?.as_chunks::<ENTRY>();
        let acl = Acl(entries.to_vec());
        // Without a mask it has no entries but those of a mode.
        (rest.is_empty() && acl.permissions(MASK).is_some()).then_some(acl)
    }

    fn bytes(&self) -> Vec<u8> {
        [&VERSION[..], self.0.as_flattened()].concat()
    }

    fn permissions(&self, tag: u16) -> Option<u16> {
        let entry = self.0.iter().find(|entry| entry[..2] == tag.to_le_bytes())?;
        Some(u16::from_le_bytes([entry[2], entry[3]]))
    }

    fn set(&mut self, tag: u16, permissions: u16) {
        for entry in self.0.iter_mut().filter(|entry| entry[..2] == tag.to_le_bytes()) {
            entry[2..4].copy_from_slice(&permissions.to_le_bytes());
        }
    }

    /// With what a mode says of owner, group and others. What it gives to others by name stays: the mask is not narrowed.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Acl {
        // Three bits each.
        let of = |shift: u32| (mode >> shift & 0o7) as u16;
        self.set(USER_OBJ, of(6));
        self.set(GROUP_OBJ, of(3));
        self.set(OTHER, of(0));
        let mask = self.permissions(MASK).unwrap_or(0);
        self.set(MASK, mask | of(3));
        self
    }

    /// Of something new that is made with a mode, for which nothing else is asked: the mask gives by name no more than the
    /// mode gives to the group.
    #[must_use]
    pub fn made_with(self, mode: u32) -> Acl {
        let mut acl = self.with_mode(mode);
        acl.set(MASK, (mode >> 3 & 0o7) as u16);
        acl
    }

    /// A mode whose group bits are those of the mask, as `stat` shows it.
    #[must_use]
    pub fn masked(&self, mode: u32) -> u32 {
        mode & !0o070 | u32::from(self.permissions(MASK).unwrap_or(0) & 0o7) << 3
    }

    /// A mode as `stat` shows it, with what the owning group may do instead of the mask.
    #[must_use]
    pub fn unmasked(&self, mode: u32) -> u32 {
        mode & !0o070 | u32::from(self.permissions(GROUP_OBJ).unwrap_or(0) & 0o7) << 3
    }
}

/// The list of what is open, if it says more than its mode. A filesystem without lists has none.
pub fn access(fd: impl AsFd) -> Option<Acl> {
    Acl::parse(&attribute(fd, ACCESS)?)
}

/// The list that a directory gives to what is made in it.
pub fn default(dir: impl AsFd) -> Option<Acl> {
    Acl::parse(&attribute(dir, DEFAULT)?)
}

pub fn set_access(fd: impl AsFd, acl: &Acl) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(fd, ACCESS, &acl.bytes(), XattrFlags::empty())?)
}

pub fn set_default(dir: impl AsFd, acl: &Acl) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(dir, DEFAULT, &acl.bytes(), XattrFlags::empty())?)
}

/// Leaves a directory with its mode alone: nobody else is let in by name, and nothing that is made in it gets a list.
pub fn remove(dir: impl AsFd) -> io::Result<()> {
    for name in [ACCESS, DEFAULT] {
        // As a rule there is none, and a disk that is read-only says so before it looks.
        if attribute(&dir, name).is_some() {
            rustix::fs::fremovexattr(&dir, name)?;
        }
    }
    Ok(())
}

/// A directory's mode as `stat` shows it, with what the owning group may do instead of the mask of a list.
#[must_use]
pub fn mode_of_dir(dir: impl AsFd, mode: u32) -> u32 {
    access(dir).map_or(mode, |acl| acl.unmasked(mode))
}

/// An extended attribute of what is open, of a length that is common; also of what was opened as a path only, which the
/// kernel gives by its name in `/proc` alone.
pub(crate) fn attribute(fd: impl AsFd, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let fd = fd.as_fd();
    let read = match rustix::fs::fgetxattr(fd, name, &mut value) {
        Err(Errno::BADF) => {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::getxattr(path, name, &mut value)
        }
        Err(Errno::RANGE) => {
            // The largest there is (xattr(7)).
            value.resize(1 << 16, 0);
            rustix::fs::fgetxattr(fd, name, &mut value)
        }
        read => read,
    };
    value.truncate(read.ok()?);
    Some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const USER: u16 = 0x02;

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let entry = |(tag, permissions): &(u16, u16)| {
            [tag.to_le_bytes(), permissions.to_le_bytes(), [7, 0], [0, 0]].concat()
        };
        [VERSION.to_vec(), entries.iter().flat_map(entry).collect()].concat()
    }

    #[test]
    fn a_mode_changes_what_it_speaks_of_and_takes_nothing_from_others() {
        let bytes = acl(&[(USER_OBJ, 6), (USER, 5), (GROUP_OBJ, 4), (MASK, 5), (OTHER, 0)]);
        let list = Acl::parse(&bytes).unwrap();
        assert_eq!(list.bytes(), bytes);
        assert_eq!((list.masked(0o2640), list.unmasked(0o2650)), (0o2650, 0o2640));
        let of =
            |list: &Acl| [USER_OBJ, USER, GROUP_OBJ, MASK, OTHER].map(|tag| list.permissions(tag).unwrap());
        let narrow = list.clone().with_mode(0o700);
        assert_eq!((of(&narrow), narrow.masked(0o700)), ([7, 5, 0, 5, 0], 0o750));
        let wide = list.with_mode(0o664);
        assert_eq!((of(&wide), wide.masked(0o664)), ([6, 5, 6, 7, 4], 0o674));
    }

    #[test]
    fn what_says_no_more_than_a_mode_is_no_list() {
        let plain = acl(&[(USER_OBJ, 6), (GROUP_OBJ, 4), (OTHER, 0)]);
        assert_eq!(Acl::parse(&plain), None);
        let good = acl(&[(USER_OBJ, 6), (USER, 5), (GROUP_OBJ, 4), (MASK, 5), (OTHER, 0)]);
        for bytes in [&[][..], &VERSION, &good[..good.len() - 1], &good[1..]] {
            assert_eq!(Acl::parse(bytes), None, "{bytes:?}");
        }
    }
}
