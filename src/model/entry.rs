//! What stands at one path of a tree.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::path::RelPath;
use super::size::Size;
use super::steps::step;

/// What a scan found at a path.
///
/// The last three are never "absent": nothing may be concluded from them but that the path, and all
/// that may lie below it, is to be left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A directory; its modification time is never carried nor compared.
    Dir(Meta),
    /// A regular file.
    File(File),
    /// A relative symlink that stays below the root.
    Symlink(Symlink),
    /// Kept out by a rule; stays byte for byte as it is.
    Excluded,
    /// Being written, or too young to tell.
    Busy(Busy),
    /// Could not be read, or is of a kind that is not carried.
    Problem(EntryProblem),
}

/// A regular file: content and metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i64,
    /// BLAKE3 of the content.
    pub digest: Digest,
    /// Mode and owner.
    pub meta: Meta,
}

/// A symlink, carried as it is and never followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symlink {
    /// What it points to.
    pub target: Box<[u8]>,
}

impl Symlink {
    /// Whether, standing at `path`, it is absolute or may lead out of the root; read by its names alone.
    ///
    /// What a name stands for may be a symlink itself, so that `..` after a name leads anywhere: with `here -> .`,
    /// `here/here/../..` leads two directories up.
    #[must_use]
    pub fn escapes(&self, path: &RelPath) -> bool {
        if self.target.is_empty() || self.target.starts_with(b"/") {
            return true;
        }
        let names = || self.target.split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b"."));
        let up = names().take_while(|name| *name == b"..").count();
        up > path.ancestors().count() || names().skip(up).any(|name| name == b"..")
    }
}

/// Permission bits and owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Files: 0o777 at most, setuid and setgid are dropped. Directories: 0o3777 at most.
    pub mode: u16,
    /// By name; compared by name.
    pub owner: Owner,
}

/// User and group by name. `None` is an id without a name on its host: it says nothing elsewhere.
///
/// Shared between the entries of a tree: a telephony tree has one or two owners.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Owner(Arc<[Option<Box<str>>; 2]>);

impl Owner {
    /// From the names of a user and of a group.
    #[must_use]
    pub fn new(user: Option<&str>, group: Option<&str>) -> Owner {
        Owner(Arc::new([user.map(Into::into), group.map(Into::into)]))
    }

    /// The user's name.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.0[0].as_deref()
    }

    /// The group's name.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.0[1].as_deref()
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user().unwrap_or("?"), self.group().unwrap_or("?"))
    }
}

/// Why a file is held back for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Busy {
    /// A process of its host has it open for writing.
    Open,
    /// Size 0 in a both-ways directory: a recording whose first buffer is not written yet.
    Empty,
    /// A WAV whose RIFF size is still 0: Asterisk fills it in when it closes the file.
    Unfinished,
    /// Modified less than `settle` ago.
    Young,
    /// It changed while it was being read.
    Changing,
    /// The scan had no time left to read it.
    Unread,
}

/// Why a path cannot be carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryProblem {
    /// Could not be read; the system's words.
    Unreadable(Box<str>),
    /// A device, socket or FIFO.
    Special,
    /// A symlink that is absolute or leaves the root.
    EscapingLink,
    /// Another filesystem is mounted here.
    Mount,
    /// The path is longer than this tool carries.
    TooLong,
    /// A file that has other names as well, and another owner than its directory: who made this name need not be
    /// allowed to read it.
    HardLink,
    /// A `.xds-sync` of ours that was renamed.
    OwnDir,
    /// A file with more holes than are hashed: it takes `allocated` bytes on its disk.
    Sparse { size: u64, allocated: u64 },
    /// A recording that has stayed empty: nobody waits for it any more.
    Empty,
}

impl EntryProblem {
    /// Whether it is a standing skip: a fact of the site, which is reported once and does not make a run fail.
    #[must_use]
    pub fn is_standing(&self) -> bool {
        match self {
            EntryProblem::Unreadable(_) => false,
            EntryProblem::Special
            | EntryProblem::EscapingLink
            | EntryProblem::Mount
            | EntryProblem::TooLong
            | EntryProblem::HardLink
            | EntryProblem::OwnDir
            | EntryProblem::Sparse { .. }
            | EntryProblem::Empty => true,
        }
    }
}

impl Entry {
    /// Whether nothing may be concluded about this path or below it.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        matches!(self, Entry::Excluded | Entry::Busy(_) | Entry::Problem(_))
    }

    /// Whether both are the same content: the same kind, and the same bytes or target.
    #[must_use]
    pub fn same_content(&self, other: &Entry) -> bool {
        step();
        match (self, other) {
            (Entry::Dir(_), Entry::Dir(_)) => true,
            (Entry::File(a), Entry::File(b)) => a.digest == b.digest,
            (Entry::Symlink(a), Entry::Symlink(b)) => a == b,
            _ => false,
        }
    }

    /// The file, if it is one.
    #[must_use]
    pub fn as_file(&self) -> Option<&File> {
        match self {
            Entry::File(file) => Some(file),
            _ => None,
        }
    }

    /// Mode and owner of a directory or file.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Entry::Dir(meta) | Entry::File(File { meta, .. }) => Some(meta),
            _ => None,
        }
    }
}

impl fmt::Display for EntryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryProblem::Unreadable(why) => write!(f, "cannot be read: {why}"),
            EntryProblem::Special => f.write_str("a device, socket or FIFO"),
            EntryProblem::EscapingLink => f.write_str("a symlink that is absolute or leaves the directory"),
            EntryProblem::Mount => f.write_str("another filesystem is mounted here"),
            EntryProblem::TooLong => f.write_str("the path is too long"),
            EntryProblem::HardLink => {
                f.write_str("a hard link to a file of another owner than the directory's")
            }
            EntryProblem::OwnDir => f.write_str("a .xds-sync that was renamed; remove it"),
            EntryProblem::Empty => f.write_str("empty for more than a day"),
            EntryProblem::Sparse { size, allocated } => write!(
                f,
                "a sparse file: {} of {} allocated, too many holes to carry",
                Size(*allocated),
                Size(*size)
            ),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn link(target: &str) -> Symlink {
        Symlink { target: target.as_bytes().into() }
    }

    #[test]
    fn where_symlinks_lead() {
        for (at, target, out) in [
            ("a", "b", false),
            // `b` may be a symlink.
            ("a", "./b/../c", true),
            ("d/a", "../b/..", true),
            ("d/a", "./..//./b", false),
            ("a", ".", false),
            ("a", "..", true),
            ("a", "../a", true),
            ("d/a", "../b", false),
            ("d/a", "..", false),
            ("d/a", "../../root/b", true),
            ("d/e/a", "../..//x", false),
            // It would come back in, but only under this root's present name and place.
            ("d/a", "../../../x", true),
            ("d/a", "x/../../../y", true),
            ("a", "/etc/passwd", true),
            ("a", "", true),
            ("a", "...", false),
        ] {
            assert_eq!(link(target).escapes(RelPath::new(at.as_bytes()).unwrap()), out, "{at} -> {target}");
        }
    }
}
