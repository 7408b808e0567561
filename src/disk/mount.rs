//! Where a filesystem is mounted.

use std::fs;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::model::escape::escape;

/// The mount point of the filesystem that an open directory is on, as it stands in this process's namespace; `None` where
/// the kernel does not tell (before Linux 5.8).
#[must_use]
pub fn mount_point(on: impl AsFd) -> Option<String> {
    let seen = statx(on, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    if seen.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return None;
    }
    find(&fs::read("/proc/self/mountinfo").ok()?, seen.stx_mnt_id)
}

/// Looks a mount up in mountinfo, see proc(5).
fn find(mountinfo: &[u8], id: u64) -> Option<String> {
    let id = id.to_string();
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        if words.next()? != id.as_bytes() {
            return None;
        }
        words.nth(3).map(|path| escape(&without_octal(path)))
    })
}

/// A path of mountinfo, in which space, tab, newline and backslash stand as `\ooo`.
fn without_octal(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, more @ ..] = rest {
        let octal = more.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        plain.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &more[3..] } else { more };
    }
    plain
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_number() {
        let info = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 8:2 / /srv/my\\040disk rw - ext4 /dev/sdb rw\nnonsense\n";
        assert_eq!(find(info, 22).as_deref(), Some("/"));
        assert_eq!(find(info, 23).as_deref(), Some("/srv/my disk"));
        assert_eq!(find(info, 2), None);
        assert_eq!(find(b"7 \n7", 7), None);
        assert_eq!(without_octal(b"a\\134\\9\\04"), b"a\\\\9\\04");
    }

    #[test]
    fn this_host_tells_where_a_directory_is() {
        let point = mount_point(fs::File::open("/proc").unwrap());
        assert!(point.is_none_or(|point| point == "/proc"));
    }
}
