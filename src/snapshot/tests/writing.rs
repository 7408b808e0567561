//! Files that are being written, or were a moment ago.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;
use crate::model::{Busy, EntryProblem};

#[test]
fn what_was_put_in_place_here_is_whole_however_young() {
    for direction in [Direction::Push, Direction::Both] {
        let mut site = Site::both(Duration::from_secs(10));
        (site.spec.direction, site.spec.hold_young) = (direction, true);
        let path = site.write("pushed", "Main's");
        // Written on Main so shortly before that a write here at the same moment would not show.
        let stamp = Stamp::of(&rustix::fs::lstat(&path).unwrap());
        site.now = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(stamp.mtime).unwrap());
        site.write("by-hand", "somebody's");
        site.cache.record(rel("pushed"), stamp, Digest(blake3::hash(b"another").into()));
        assert_eq!(site.seen(), map(&[("by-hand", "Young"), ("pushed", "file")]));
        // Its digest is not believed, and who writes to it is seen.
        let found = site.snapshot().tree.get(rel("pushed")).unwrap().as_file().unwrap().digest;
        assert_eq!(found, Digest(blake3::hash(b"Main's").into()));
        while Stamp::of(&rustix::fs::lstat(&path).unwrap()) == stamp {
            fs::write(&path, "edited").unwrap();
        }
        assert_eq!(site.seen(), map(&[("by-hand", "Young"), ("pushed", "Young")]));
    }
}

#[test]
fn recordings_being_made_are_busy() {
    const HOUR: f64 = 3600.0;
    let mut site = Site::both(Duration::from_secs(10));
    site.write_aged("empty.gsm", "", HOUR);
    site.write_aged("never-bridged.gsm", "", 25.0 * HOUR);
    site.write_aged("unfinished.wav", b"RIFF\0\0\0\0WAVE", HOUR);
    site.write_aged("unfinished.WAV", b"RIFF\0\0\0\0WAVE", HOUR);
    site.write_aged("abandoned.wav", b"RIFF\0\0\0\0WAVE", 25.0 * HOUR);
    site.write_aged("finished.wav", b"RIFF\x24\0\0\0WAVE", HOUR);
    site.write_aged("young.gsm", "x", 9.0);
    site.write_aged("settled.gsm", "x", 10.0);
    site.write_aged("ahead.gsm", "x", -9.0);
    site.write_aged("far-ahead.gsm", "x", -HOUR);
    let expected = map(&[
        ("abandoned.wav", "file"),
        ("ahead.gsm", "Young"),
        ("empty.gsm", "Empty"),
        ("far-ahead.gsm", "file"),
        ("finished.wav", "file"),
        ("never-bridged.gsm", "Empty"),
        ("settled.gsm", "file"),
        ("unfinished.WAV", "Unfinished"),
        ("unfinished.wav", "Unfinished"),
        ("young.gsm", "Young"),
    ]);
    let snapshot = site.snapshot();
    assert_eq!(words(&snapshot), expected);
    assert_eq!(
        ["empty.gsm", "never-bridged.gsm"].map(|name| snapshot.tree.get(rel(name)).unwrap()),
        [&Entry::Busy(Busy::Empty), &Entry::Problem(EntryProblem::Empty)]
    );
    assert!(!snapshot.settled);
    // And so they are when all else is known.
    assert_eq!(site.seen(), expected);
}

#[test]
fn a_pushed_directory_knows_no_recordings() {
    let mut site = Site::new();
    site.write("empty", "");
    site.write("upload.wav", b"RIFF\0\0\0\0WAVE");
    assert_eq!(site.seen(), map(&[("empty", "file"), ("upload.wav", "file")]));
}

#[test]
fn what_a_process_has_open_for_writing_is_busy() {
    for mut site in [Site::new(), Site::both(Duration::ZERO)] {
        let path = site.write("a", "x");
        site.write("b", "x");
        let mut writer = Command::new("sh")
            .args(["-c", r#"exec 3>>"$0"; echo open; read line"#])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(writer.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let (now, progress) = (site.now, AtomicU64::new(0));
        let while_open = scan(&site.spec, &mut site.cache, &move || now, &control(&progress));
        writer.stdin.take().unwrap().write_all(b"\n").unwrap();
        writer.wait().unwrap();
        assert_eq!(words(&while_open), map(&[("a", "Open"), ("b", "file")]));
        assert_eq!(site.seen(), map(&[("a", "file"), ("b", "file")]));
    }
}

#[test]
fn a_pushed_file_is_waited_for_until_it_is_settled() {
    let mut site = Site::new();
    site.spec.settle = Duration::from_secs(2);
    site.write_aged("old", "x", 60.0);
    let clock = site.sleeper(&|| ());
    let progress = AtomicU64::new(0);
    scan(&site.spec, &mut site.cache, &clock, &control(&progress));
    assert_eq!(*clock.slept.lock().unwrap(), Duration::ZERO);

    site.write_aged("saved", "x", 0.5);
    site.write_aged("saved.too", "x", 1.5);
    let snapshot = scan(&site.spec, &mut site.cache, &clock, &control(&progress));
    assert_eq!(words(&snapshot), map(&[("old", "file"), ("saved", "file"), ("saved.too", "file")]));
    assert_eq!(*clock.slept.lock().unwrap(), Duration::from_millis(1500));
    assert!(snapshot.settled);
}

#[test]
fn a_pushed_file_that_keeps_changing_is_busy_and_one_that_goes_is_gone() {
    let mut site = Site::new();
    site.spec.settle = Duration::from_secs(2);
    site.write("old", "x");
    let saved = site.write_aged("saved", "x", 0.5);
    let swap = site.write_aged("saved.swp", "x", 0.5);
    let later = site.now + Duration::from_secs(1);
    let meanwhile = || {
        set_mtime(&saved, later);
        let _ = fs::remove_file(&swap);
    };
    let clock = site.sleeper(&meanwhile);
    let snapshot = scan(&site.spec, &mut site.cache, &clock, &control(&AtomicU64::new(0)));
    assert_eq!(words(&snapshot), map(&[("old", "file"), ("saved", "Young")]));
    let saved = Stamp::of(&rustix::fs::lstat(site.path("saved")).unwrap());
    assert_eq!(snapshot.stamp(rel("saved")).map(|stamp| stamp.ino), Some(saved.ino));
    assert_eq!(site.cache.len(), 1);
}

#[test]
fn a_file_replaced_after_it_was_listed_is_neither_followed_nor_absent() {
    let mut site = Site::new();
    site.spec.settle = Duration::from_secs(2);
    for name in ["dir", "fifo", "link", "socket"] {
        site.write_aged(name, "x", 0.5);
    }
    let swapped = std::sync::Once::new();
    let meanwhile = || {
        swapped.call_once(|| {
            for name in ["dir", "fifo", "link", "socket"] {
                fs::remove_file(site.path(name)).unwrap();
            }
            fs::create_dir(site.path("dir")).unwrap();
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, site.path("fifo"), fifo, 0o600.into(), 0).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", site.path("link")).unwrap();
            drop(std::os::unix::net::UnixListener::bind(site.path("socket")).unwrap());
        });
    };
    let clock = site.sleeper(&meanwhile);
    let snapshot = scan(&site.spec, &mut HashCache::default(), &clock, &control(&AtomicU64::new(0)));
    let changing = ["dir", "fifo", "link", "socket"].map(|name| (name, "Changing"));
    assert_eq!(words(&snapshot), map(&changing));
}
