//! Files of a simulated host, as people see them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, FileTimes};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::SystemTime;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    File(u32),
    /// A file that nobody ever wrote like this.
    Torn(String),
    Dir,
    Link(String),
}

/// With what is carried along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub thing: Thing,
    pub mode: u32,
    pub mtime: (i64, i64),
}

/// Everything below a root, but for what is ours and, for `carved`, another directory's.
pub type Listing = BTreeMap<String, Seen>;

/// A content is known by its number, so that a torn one shows. Some are longer than what is read or sent at once.
pub fn content(number: u32) -> Vec<u8> {
    let times = match number % 29 {
        0 => 40_000,
        1..4 => 3_000,
        n => 1 + n as usize % 7,
    };
    format!("{number:08};").repeat(times).into_bytes()
}

/// Links that lead out of their root are not.
pub fn is_carried(path: &str, seen: &Seen) -> bool {
    match &seen.thing {
        Thing::Link(target) => target.matches("../").count() <= path.matches('/').count(),
        _ => true,
    }
}

fn thing(bytes: &[u8]) -> Thing {
    let number = bytes.get(..8).and_then(|head| std::str::from_utf8(head).ok()?.parse().ok());
    match number {
        Some(number) if content(number) == bytes => Thing::File(number),
        _ => Thing::Torn(format!(
            "{} bytes: {:?}",
            bytes.len(),
            String::from_utf8_lossy(&bytes[..bytes.len().min(20)])
        )),
    }
}

pub fn list(root: &Path, carved: Option<&str>) -> Listing {
    let mut listing = Listing::new();
    list_below(root, "", carved, &mut listing);
    listing
}

fn list_below(dir: &Path, above: &str, carved: Option<&str>, listing: &mut Listing) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap();
        let path = if above.is_empty() { name } else { format!("{above}/{name}") };
        if entry.file_name() == ".xds-sync" || Some(&*path) == carved {
            continue;
        }
        let metadata = entry.metadata().unwrap();
        let found = if metadata.is_dir() {
            list_below(&entry.path(), &path, carved, listing);
            Thing::Dir
        } else if metadata.is_symlink() {
            Thing::Link(fs::read_link(entry.path()).unwrap().into_os_string().into_string().unwrap())
        } else {
            thing(&fs::read(entry.path()).unwrap())
        };
        let mtime = if metadata.is_file() { (metadata.mtime(), metadata.mtime_nsec()) } else { (0, 0) };
        listing.insert(path, Seen { thing: found, mode: metadata.mode() & 0o7777, mtime });
    }
}

/// The numbers of the files in a root's trash.
pub fn trash(root: &Path) -> BTreeSet<u32> {
    let all = list(&root.join(".xds-sync/trash"), None);
    all.values()
        .filter_map(|seen| if let Thing::File(number) = seen.thing { Some(number) } else { None })
        .collect()
}

/// What lies in a root's stage.
pub fn stage(root: &Path) -> Vec<String> {
    list(&root.join(".xds-sync/stage"), None).into_keys().collect()
}

/// Makes a path free, whatever stands there or above it.
pub fn clear(root: &Path, path: &str) {
    let mut above = root.to_owned();
    let names: Vec<&str> = path.split('/').collect();
    for name in &names[..names.len() - 1] {
        above.push(name);
        if above.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            fs::remove_file(&above).unwrap();
        }
    }
    remove(&root.join(path));
}

pub fn remove(at: &Path) {
    match at.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(at).unwrap(),
        Ok(_) => fs::remove_file(at).unwrap(),
        Err(_) => {}
    }
}

pub fn write(root: &Path, path: &str, number: u32, now: SystemTime) {
    if root.join(path).is_dir() || root.join(path).is_symlink() || !root.join(path).exists() {
        clear(root, path);
    }
    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    fs::write(root.join(path), content(number)).unwrap();
    set_mtime(&root.join(path), now);
}

pub fn set_mtime(at: &Path, now: SystemTime) {
    let file = fs::File::options().write(true).open(at).unwrap();
    file.set_times(FileTimes::new().set_modified(now)).unwrap();
}

pub fn set_mode(at: &Path, mode: u32) {
    fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
}

/// Copies all below a directory, as a disk's image does.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (at, metadata) = (to.join(entry.file_name()), entry.metadata().unwrap());
        if metadata.is_dir() {
            copy(&entry.path(), &at);
        } else if metadata.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), &at).unwrap();
        } else {
            fs::copy(entry.path(), &at).unwrap();
            set_mode(&at, 0o600);
            set_mtime(&at, metadata.modified().unwrap());
            set_mode(&at, metadata.mode() & 0o7777);
        }
    }
    set_mode(to, fs::metadata(from).unwrap().mode() & 0o7777);
}

/// Lets files lose their content: what a disk has of them when nobody had it written before the power went.
pub fn empty(dir: &Path, inodes: &BTreeSet<u64>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            empty(&entry.path(), inodes);
        } else if metadata.is_file() && inodes.contains(&metadata.ino()) {
            fs::File::options().write(true).open(entry.path()).unwrap().set_len(metadata.len() / 2).unwrap();
        }
    }
}
