//! What a directory looks like, for comparing hosts and for proving that nothing was touched.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File,
    Symlink,
    /// A device, FIFO or socket.
    Special,
}

/// One entry with all that a program could have changed about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// By the host's own /etc/passwd and /etc/group; the number where that has no name.
    pub owner: String,
    pub group: String,
    pub mtime_ns: i128,
    pub ctime_ns: i128,
    pub inode: u64,
    pub size: u64,
    /// BLAKE3 of a file's content, or a symlink's target; empty for others.
    pub content: String,
}

/// Relative path, as bytes, to entry. Two trees are equal (`==`) when nothing at all was touched between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<Vec<u8>, Entry>);

/// Names of users and groups on one host.
#[derive(Default)]
pub struct Names {
    pub users: BTreeMap<u32, String>,
    pub groups: BTreeMap<u32, String>,
}

impl Tree {
    pub(crate) fn read(root: &Path, names: &Names) -> Self {
        let mut tree = Self::default();
        tree.descend(root, b"", names);
        tree
    }

    fn descend(&mut self, root: &Path, below: &[u8], names: &Names) {
        let dir = root.join(OsString::from_vec(below.to_vec()));
        for entry in fs::read_dir(dir).expect("read_dir") {
            let entry = entry.expect("read_dir");
            let mut path = below.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(entry.file_name().as_bytes());
            // What goes while we look was not there.
            let Some(found) = look(&entry.path(), names) else { continue };
            let is_dir = found.kind == Kind::Dir;
            self.0.insert(path.clone(), found);
            if is_dir {
                self.descend(root, &path, names);
            }
        }
    }

    /// The entry at this path.
    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<&Entry> {
        self.0.get(path.as_ref())
    }

    /// All paths as text, in order.
    pub fn paths(&self) -> Vec<String> {
        self.0.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    /// Without what xds-sync keeps for itself.
    pub fn visible(&self) -> Self {
        self.without(|path| path.split(|byte| *byte == b'/').any(|name| name == b".xds-sync"))
    }

    /// Without the paths for which `leave_out` holds.
    pub fn without(&self, leave_out: impl Fn(&[u8]) -> bool) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(path, _)| !leave_out(path))
                .map(|(path, entry)| (path.clone(), entry.clone()))
                .collect(),
        )
    }

    /// What differs between the copies on two hosts, one line each; empty when they are in step. The inode and its
    /// change are each host's own, and a directory's mtime and size are no difference.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut paths: Vec<_> = self.0.keys().chain(other.0.keys()).collect();
        paths.sort();
        paths.dedup();
        for path in paths {
            let name = path.escape_ascii();
            match (self.0.get(path), other.0.get(path)) {
                (Some(_), None) => lines.push(format!("{name}: only here")),
                (None, Some(_)) => lines.push(format!("{name}: only there")),
                (Some(here), Some(there)) if here.shared() != there.shared() => {
                    lines.push(format!("{name}: {:?} here, {:?} there", here.shared(), there.shared()));
                }
                _ => {}
            }
        }
        lines
    }

    /// Demands that two hosts' copies are in step, what xds-sync keeps for itself left out.
    #[track_caller]
    pub fn assert_same(&self, other: &Self) {
        let differences = self.visible().differences(&other.visible());
        assert!(differences.is_empty(), "not in step:\n{}", differences.join("\n"));
    }

    /// Demands that nothing was touched since `self` was read.
    #[track_caller]
    pub fn assert_untouched(&self, now: &Self) {
        if self != now {
            let mut lines = self.differences(now);
            lines.extend(self.0.iter().filter_map(|(path, before)| {
                let after = now.0.get(path)?;
                (before != after).then(|| format!("{}: {before:?}\n  now {after:?}", path.escape_ascii()))
            }));
            panic!("touched:\n{}", lines.join("\n"));
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, entry) in &self.0 {
            writeln!(
                f,
                "{:?} {:04o} {}:{} {:>9} {}",
                entry.kind,
                entry.mode,
                entry.owner,
                entry.group,
                entry.size,
                path.escape_ascii()
            )?;
        }
        Ok(())
    }
}

impl Entry {
    /// What both hosts of an edge must agree on.
    fn shared(&self) -> (Kind, u32, &str, &str, i128, u64, &str) {
        let is_file = self.kind == Kind::File;
        // Linux has no modes on symlinks, and their mtime is not carried.
        let mode = if self.kind == Kind::Symlink { 0 } else { self.mode };
        let mtime = if is_file { self.mtime_ns } else { 0 };
        let size = if is_file { self.size } else { 0 };
        (self.kind, mode, &self.owner, &self.group, mtime, size, &self.content)
    }
}

fn look(path: &Path, names: &Names) -> Option<Entry> {
    let meta = fs::symlink_metadata(path).ok()?;
    let file_type = meta.file_type();
    let (kind, content) = if file_type.is_dir() {
        (Kind::Dir, String::new())
    } else if file_type.is_file() {
        (Kind::File, blake3::hash(&fs::read(path).ok()?).to_hex().to_string())
    } else if file_type.is_symlink() {
        (Kind::Symlink, fs::read_link(path).ok()?.as_os_str().as_bytes().escape_ascii().to_string())
    } else {
        (Kind::Special, String::new())
    };
    let name = |names: &BTreeMap<u32, String>, id| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
    Some(Entry {
        kind,
        mode: meta.mode() & 0o7777,
        owner: name(&names.users, meta.uid()),
        group: name(&names.groups, meta.gid()),
        mtime_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        ctime_ns: i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec()),
        inode: meta.ino(),
        size: meta.len(),
        content,
    })
}
