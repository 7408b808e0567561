#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Once;

use super::*;
use crate::fault::Watch;

thread_local! {
    static EVENTS: RefCell<Option<Vec<Event>>> = const { RefCell::new(None) };
}

/// What the disk is told about an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Written(u64),
    Synced(u64),
}

/// What `act` does to files of this program on this thread, in order. No other unit test installs a watch.
pub(crate) fn recorded(act: impl FnOnce()) -> Vec<Event> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| fault::install(Box::new(Recorder)));
    EVENTS.set(Some(Vec::new()));
    act();
    EVENTS.take().unwrap_or_default()
}

/// Asserts that the file at `path` was brought to disk, then its directory, and that nothing was written after.
pub(crate) fn assert_durable(path: &Path, events: &[Event]) {
    let ino = |path: &Path| fs::metadata(path).unwrap().ino();
    let (file, dir) = (ino(path), ino(path.parent().unwrap()));
    assert_eq!(events, [Event::Written(file), Event::Synced(file), Event::Synced(dir)], "{}", path.display());
}

struct Recorder;

impl Recorder {
    fn add(event: fn(u64) -> Event, file: BorrowedFd<'_>) {
        let ino = rustix::fs::fstat(file).unwrap().st_ino;
        EVENTS.with_borrow_mut(|events| events.iter_mut().for_each(|events| events.push(event(ino))));
    }
}

impl Watch for Recorder {
    fn reach(&self, _: Point) -> io::Result<()> {
        Ok(())
    }

    fn wrote(&self, file: BorrowedFd<'_>) {
        Recorder::add(Event::Written, file);
    }

    fn synced(&self, file: Option<BorrowedFd<'_>>) {
        file.into_iter().for_each(|file| Recorder::add(Event::Synced, file));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_file_is_replaced_as_a_whole_and_survives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    assert_eq!(read(&path).unwrap(), None);
    let made = recorded(|| replace(&path, b"old and long", Options::PRIVATE).unwrap());
    assert_durable(&path, &made);
    let old = File::open(&path).unwrap();
    let replaced = recorded(|| replace(&path, b"new", Options::PUBLIC).unwrap());
    assert_durable(&path, &replaced);
    assert_eq!(read(&path).unwrap().unwrap(), b"new");
    // Whoever has the old one open still reads all of it.
    assert_eq!(io::read_to_string(old).unwrap(), "old and long");
    assert_eq!(mode(&path), 0o644);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn a_leftover_is_removed_and_never_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let new = dir.path().join(temporary("file".as_ref()));
    fs::write(&new, "half, and longer than what comes").unwrap();
    replace(&path, b"good", Options::PRIVATE).unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, &new).unwrap();
    replace(&path, b"next", Options::PRIVATE).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"next");
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(fs::symlink_metadata(&new).is_err());
}

#[test]
fn a_failure_leaves_the_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    replace(&path, b"good", Options::PRIVATE).unwrap();
    let full = |_: &mut File| Err(io::ErrorKind::StorageFull.into());
    assert!(replace_with(&path, Options::PRIVATE, full).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"good");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_is_created_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let made = recorded(|| create(&path, b"first", Options::PRIVATE).unwrap());
    assert_durable(&path, &made);
    let error = create(&path, b"second", Options::PRIVATE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn what_is_in_the_way_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    replace(&path, b"good", Options::PRIVATE).unwrap();
    fs::create_dir(dir.path().join(temporary("file".as_ref()))).unwrap();
    assert!(replace(&path, b"next", Options::PRIVATE).is_err());
    assert_eq!(read(&path).unwrap().unwrap(), b"good");
}

#[test]
fn files_side_by_side_do_not_share_a_temporary_one() {
    let dir = tempfile::tempdir().unwrap();
    // Both are "10.0.0" with an extension.
    let names = ["10.0.0.11", "10.0.0.12"];
    assert_ne!(temporary(names[0].as_ref()), temporary(names[1].as_ref()));
    std::thread::scope(|scope| {
        for name in names {
            let path = dir.path().join(name);
            scope.spawn(move || {
                for _ in 0..20 {
                    replace(&path, name.as_bytes(), Options::PRIVATE).unwrap();
                    assert_eq!(read(&path).unwrap().unwrap(), name.as_bytes());
                }
            });
        }
    });
}
