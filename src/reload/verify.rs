//! What the looks at Asterisk after a reload have in common.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use super::command::{Answer, Keep};

/// What a look at Asterisk tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// All that should show. Perhaps with something to warn of.
    All(Option<String>),
    /// Not all, though it will not get better by itself.
    Missing(String),
    /// Not all, and another reload may have been in the way.
    NotYet(String),
}

/// Asks Asterisk on its command line.
pub(super) type Ask<'a> = dyn FnMut(&str, Keep) -> Result<Answer, String> + 'a;

/// Names in a message; the others are counted.
const NAMED: usize = 5;
/// Most of a configuration file that is read; people write some kilobytes.
const MAX_FILE: u64 = 64 << 20;
/// As much as tells what is in a WAV.
const HEAD: u64 = 64;

/// What is looked at of Asterisk's configuration, in all. Others than root write it, and root must come to an end with it.
pub(super) struct Budget {
    bytes: u64,
    names: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { bytes: 256 << 20, names: 1_000_000 }
    }
}

impl Budget {
    /// The content of a regular file, to which no symlink leads; nothing when there is none, or when enough was read.
    pub(super) fn read(&mut self, path: &Path) -> Vec<u8> {
        let length = MAX_FILE.min(self.bytes);
        let content = beginning(path, length, ResolveFlags::NO_SYMLINKS).unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(content.len() as u64);
        content
    }

    /// Whether one more name may be looked at.
    pub(super) fn take_name(&mut self) -> bool {
        self.names = self.names.saturating_sub(1);
        self.names > 0
    }

    /// Whether there may be more than was looked at.
    pub(super) fn is_spent(&self) -> bool {
        self.bytes == 0 || self.names == 0
    }

    #[cfg(test)]
    pub(super) fn of(bytes: u64, names: usize) -> Budget {
        Budget { bytes, names }
    }
}

/// The first bytes of a regular file, be it behind symlinks.
pub(super) fn head(path: &Path) -> Option<Vec<u8>> {
    beginning(path, HEAD, ResolveFlags::NO_MAGICLINKS)
}

/// Others than root can have changed what is there since it was listed: to open a device or a FIFO may do something, or
/// never end. So it is opened once it is held and known to be a file.
fn beginning(path: &Path, length: u64, resolve: ResolveFlags) -> Option<Vec<u8>> {
    let held = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).ok()?;
    if FileType::from_raw_mode(fstat(&held).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let opened = format!("/proc/self/fd/{}", held.as_raw_fd());
    // A lease of another process must not be waited for.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(opened).ok()?;
    let mut content = Vec::new();
    // What could be read before an error counts.
    let _ = file.take(length).read_to_end(&mut content);
    Some(content)
}

/// The first names, and how many more there are.
pub(super) fn listed(mut names: impl ExactSizeIterator<Item = String>) -> String {
    let mut text = names.by_ref().take(NAMED).collect::<Vec<_>>().join(", ");
    if names.len() > 0 {
        text.push_str(&format!(" and {} more", names.len()));
    }
    text
}
