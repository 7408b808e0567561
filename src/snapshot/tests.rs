//! Scans of real directories.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, FileTimes};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::scan::scan_with;
use super::*;
use crate::disk::{OWN_DIR, Stamp};
use crate::model::{Entry, RelPath};

/// A clock that is moved by sleeping alone; what happens meanwhile is the test's.
struct Sleeper<'a> {
    now: Mutex<SystemTime>,
    slept: Mutex<Duration>,
    meanwhile: &'a (dyn Fn() + Sync),
}

impl Clock for Sleeper<'_> {
    fn now(&self) -> SystemTime {
        *self.now.lock().unwrap()
    }

    fn sleep(&self, duration: Duration) {
        *self.now.lock().unwrap() += duration;
        *self.slept.lock().unwrap() += duration;
        (self.meanwhile)();
    }
}

/// A directory to scan and what its scans remember.
struct Site {
    dir: tempfile::TempDir,
    spec: ScanSpec,
    cache: HashCache,
    now: SystemTime,
}

impl Site {
    /// An empty push directory in which no file is young, and none was written just now.
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let spec = ScanSpec {
            directory: "test".to_owned(),
            root,
            direction: Direction::Push,
            exclude: Vec::new(),
            other_roots: Vec::new(),
            settle: Duration::ZERO,
            checksum: false,
        };
        Site { dir, spec, cache: HashCache::default(), now: SystemTime::now() + Duration::from_secs(3600) }
    }

    fn both(settle: Duration) -> Site {
        let mut site = Site::new();
        (site.spec.direction, site.spec.settle) = (Direction::Both, settle);
        site
    }

    fn path(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.spec.root.join(OsStr::from_bytes(path.as_ref()))
    }

    fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes a file that was modified that many seconds before now, or after it.
    fn write_aged(&self, path: &str, content: impl AsRef<[u8]>, age: f64) -> PathBuf {
        let path = self.write(path, content);
        let by = Duration::from_secs_f64(age.abs());
        set_mtime(&path, if age < 0.0 { self.now + by } else { self.now - by });
        path
    }

    fn snapshot(&mut self) -> Snapshot {
        let now = self.now;
        scan(&self.spec, &mut self.cache, &move || now, &AtomicU64::new(0))
    }

    /// Number of bytes that a scan reads.
    fn bytes_read(&mut self) -> u64 {
        let (now, progress) = (self.now, AtomicU64::new(0));
        let files = |snapshot: &Snapshot| snapshot.tree.files();
        let snapshot = scan(&self.spec, &mut self.cache, &move || now, &progress);
        let moved = progress.into_inner() - snapshot.tree.len() as u64;
        // Each file looked into moves it by one besides.
        moved.saturating_sub(files(&snapshot))
    }

    /// What is where, in words.
    fn seen(&mut self) -> BTreeMap<String, String> {
        words(&self.snapshot())
    }

    fn sleeper<'a>(&self, meanwhile: &'a (dyn Fn() + Sync)) -> Sleeper<'a> {
        Sleeper { now: Mutex::new(self.now), slept: Mutex::default(), meanwhile }
    }

    /// Has the cache believe another digest of a file: a scan that shows it did not read the file.
    fn lie(&mut self, path: &str) {
        let stamp = Stamp::of(&rustix::fs::lstat(self.path(path)).unwrap());
        self.cache.record(rel(path), stamp, LIE);
    }

    fn believes_the_lie(&mut self, path: &str) -> bool {
        let snapshot = self.snapshot();
        snapshot.tree.get(rel(path)).unwrap().as_file().unwrap().digest == LIE
    }
}

const LIE: Digest = Digest([7; 32]);

fn rel(path: &str) -> &RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

fn set_mtime(path: &Path, to: SystemTime) {
    fs::File::open(path).unwrap().set_modified(to).unwrap();
}

fn words(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let word = |entry: &Entry| match entry {
        Entry::Dir(_) => "dir".to_owned(),
        Entry::File(_) => "file".to_owned(),
        Entry::Symlink(link) => format!("-> {}", String::from_utf8_lossy(&link.target)),
        Entry::Excluded => "excluded".to_owned(),
        Entry::Busy(busy) => format!("{busy:?}"),
        Entry::Problem(problem) => format!("{problem:?}"),
    };
    snapshot.tree.iter().map(|(path, entry)| (path.escaped(), word(entry))).collect()
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(path, word)| ((*path).to_owned(), (*word).to_owned())).collect()
}

/// Runs as somebody whom modes hold, which they do not root.
fn as_nobody<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let body = || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65534);
            // Of this thread alone.
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        run()
    };
    std::thread::scope(|scope| scope.spawn(body).join().unwrap())
}

#[test]
fn every_kind_of_entry() {
    let mut site = Site::new();
    site.write("dir/file", "content");
    fs::create_dir(site.path("empty")).unwrap();
    symlink("dir/file", site.path("inside")).unwrap();
    symlink("../file", site.path("dir/dangling")).unwrap();
    symlink("/etc/passwd", site.path("absolute")).unwrap();
    symlink("../root/dir", site.path("outside")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, site.path("fifo"), fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.path("socket")).unwrap();
    let snapshot = site.snapshot();
    assert_eq!(
        words(&snapshot),
        map(&[
            ("absolute", "EscapingLink"),
            ("dir", "dir"),
            ("dir/dangling", "-> ../file"),
            ("dir/file", "file"),
            ("empty", "dir"),
            ("fifo", "Special"),
            ("inside", "-> dir/file"),
            ("outside", "EscapingLink"),
            ("socket", "Special"),
        ])
    );
    assert!(snapshot.settled, "standing skips only");
    assert_eq!(snapshot.root, Root::Unmarked);
    assert!(snapshot.free > 0);
    for (path, _) in snapshot.tree.iter() {
        let now = Stamp::of(&rustix::fs::lstat(site.path(path.as_bytes())).unwrap());
        assert_eq!(snapshot.stamp(path), Some(now), "{path:?}");
    }
    assert_eq!(snapshot.stamp(rel("nowhere")), None);
}

#[test]
fn a_files_content_and_metadata() {
    let mut site = Site::new();
    let path = site.write("a", "content");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6750)).unwrap();
    set_mtime(&path, SystemTime::UNIX_EPOCH + Duration::new(5, 123_456_789));
    fs::create_dir(site.path("dir")).unwrap();
    fs::set_permissions(site.path("dir"), fs::Permissions::from_mode(0o7775)).unwrap();
    let snapshot = site.snapshot();
    let file = snapshot.tree.get(rel("a")).unwrap().as_file().unwrap();
    assert_eq!(file.digest, Digest(*blake3::hash(b"content").as_bytes()));
    assert_eq!((file.size, file.mtime, file.meta.mode), (7, 5_123_456_789, 0o750));
    let owner = fs::metadata(&path).unwrap();
    assert_eq!(file.meta.owner, crate::disk::Owners::default().of(owner.uid(), owner.gid()));
    assert_eq!(snapshot.tree.get(rel("dir")).unwrap().meta().unwrap().mode, 0o3775);
}

#[test]
fn excluded_names_of_every_kind_are_not_looked_into() {
    let mut site = Site::new();
    site.spec.exclude = vec!["*.bak".to_owned(), "conf/*.tmp".to_owned()];
    site.write("xds_override.d/inner", "");
    site.write("a/xds_override_sip.conf", "");
    symlink("/etc", site.path("xds_override_link")).unwrap();
    site.write("old.bak/inner", "");
    site.write("conf/x.tmp", "");
    site.write("x.tmp", "");
    site.write(b"caf\xe9.bak", "");
    site.write(format!("{OWN_DIR}/trash/x"), "");
    site.write(format!("a/{OWN_DIR}/x"), "");
    assert_eq!(
        site.seen(),
        map(&[
            ("a", "dir"),
            ("a/.xds-sync", "excluded"),
            ("a/xds_override_sip.conf", "excluded"),
            (r"caf\xe9.bak", "excluded"),
            ("conf", "dir"),
            ("conf/x.tmp", "excluded"),
            ("old.bak", "excluded"),
            ("x.tmp", "file"),
            ("xds_override.d", "excluded"),
            ("xds_override_link", "excluded"),
        ])
    );
}

#[test]
fn other_roots_are_carved_out_and_the_root_may_be_a_symlink() {
    let mut site = Site::new();
    let base = site.dir.path().to_owned();
    site.write("fr/hello.wav", "RIFF");
    fs::create_dir(base.join("custom")).unwrap();
    symlink(base.join("custom"), site.path("recordings")).unwrap();
    symlink(base.join("custom"), site.path("monitor")).unwrap();
    site.write("inner/x", "");
    symlink(&site.spec.root, base.join("sounds")).unwrap();
    let real = std::mem::replace(&mut site.spec.root, base.join("sounds"));
    site.spec.other_roots = vec![base.join("sounds/recordings"), real.join("inner"), base.join("sounds")];
    assert_eq!(
        site.seen(),
        map(&[
            ("fr", "dir"),
            ("fr/hello.wav", "file"),
            ("inner", "excluded"),
            ("monitor", "EscapingLink"),
            ("recordings", "excluded"),
        ])
    );
}

#[test]
fn the_states_of_a_root() {
    let mut site = Site::new();
    let marker = Marker { id: "01R".to_owned(), generation: None };
    marker.write(&crate::disk::HeldRoot::open(&site.spec.root).unwrap()).unwrap();
    assert_eq!(site.snapshot().root, Root::Marked(marker));

    site.write(format!("{OWN_DIR}/root.json"), "{");
    let snapshot = site.snapshot();
    assert!(matches!(&snapshot.root, Root::Unusable(why) if why.contains("marker")), "{:?}", snapshot.root);
    assert!(snapshot.held.is_none());

    site.spec.exclude = vec!["[".to_owned()];
    fs::remove_file(site.path(format!("{OWN_DIR}/root.json"))).unwrap();
    let root = site.snapshot().root;
    assert!(matches!(&root, Root::Unusable(why) if why.contains("\"[\"")), "{root:?}");

    site.spec.root = site.dir.path().join("not/there");
    let snapshot = site.snapshot();
    assert_eq!(snapshot.root, Root::Missing);
    assert!(snapshot.free > 0, "of the filesystem it would be made on");

    site.spec.root = site.dir.path().join("file");
    fs::write(&site.spec.root, "").unwrap();
    let root = site.snapshot().root;
    assert!(matches!(&root, Root::Unusable(why) if why.contains("Not a directory")), "{root:?}");
}

#[test]
fn what_cannot_be_read_is_a_problem_and_covers_all_below() {
    let mut site = Site::new();
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = site.write("file", "x");
    site.write("closed/inner", "x");
    site.write("fine", "x");
    site.write("listed/inner", "x");
    fs::set_permissions(&file, fs::Permissions::from_mode(0)).unwrap();
    fs::set_permissions(site.path("closed"), fs::Permissions::from_mode(0)).unwrap();
    fs::set_permissions(site.path("listed"), fs::Permissions::from_mode(0o444)).unwrap();
    let denied = "Unreadable(\"Permission denied\")";
    let snapshot = as_nobody(|| {
        let now = site.now;
        scan_with(&site.spec, &mut site.cache, &move || now, &AtomicU64::new(0), 1)
    });
    assert_eq!(
        words(&snapshot),
        map(&[
            ("closed", denied),
            ("file", denied),
            ("fine", "file"),
            ("listed", "dir"),
            ("listed/inner", denied),
        ])
    );
    assert!(!snapshot.settled);

    fs::set_permissions(&site.spec.root, fs::Permissions::from_mode(0)).unwrap();
    let root = as_nobody(|| site.snapshot().root);
    assert!(matches!(&root, Root::Unusable(why) if why.contains("Permission denied")), "{root:?}");
}

#[test]
fn a_path_too_long_to_carry_makes_its_directory_a_problem() {
    let mut site = Site::new();
    let name = "d".repeat(250);
    // Eleven of them make 2760 bytes, the twelfth 3011; a name of 61 more is one too many.
    let deep = vec![&*name; 12].join("/");
    fs::create_dir_all(site.path(&deep)).unwrap();
    fs::write(site.path(format!("{deep}/{}", "f".repeat(60))), "").unwrap();
    let last = deep.as_str();
    assert_eq!(site.seen()[last], "dir");
    assert_eq!(site.seen()[&format!("{deep}/{}", "f".repeat(60))], "file");

    fs::write(site.path(format!("{deep}/{}", "f".repeat(61))), "").unwrap();
    assert_eq!(site.seen()[last], "TooLong");
    assert_eq!(site.seen().len(), 12);
}

#[test]
fn what_is_mounted_below_is_not_entered() {
    let mut site = Site::new();
    for dir in ["tmpfs", "bound", "source"] {
        fs::create_dir(site.path(dir)).unwrap();
    }
    site.write("source/inner", "");
    site.write("file", "");
    // In a mount namespace of its own, seen through the process that holds it.
    let script = r#"mount -t tmpfs none "$0/tmpfs" && mount --bind "$0/source" "$0/bound" &&
        mount --bind "$0/source/inner" "$0/file" && echo mounted && read line"#;
    let mut holder = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(&site.spec.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "mounted\n");
    let seen_by_holder = format!("/proc/{}/root{}", holder.id(), site.spec.root.display());
    site.spec.root = seen_by_holder.into();
    let seen = site.seen();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(
        seen,
        map(&[
            ("bound", "Mount"),
            ("file", "Mount"),
            ("source", "dir"),
            ("source/inner", "file"),
            ("tmpfs", "Mount")
        ])
    );
}

#[test]
fn names_are_bytes_and_the_order_is_the_trees() {
    let mut site = Site::new();
    let long = "n".repeat(255);
    for name in [&b"\xff\xfe"[..], b" space ", b"new\nline", b"-rf", b"a/b", b"a.c", b"$(x)", long.as_bytes()]
    {
        site.write(name, "");
    }
    let snapshot = site.snapshot();
    let paths: Vec<&[u8]> = snapshot.tree.iter().map(|(path, _)| path.as_bytes()).collect();
    let mut expected: Vec<&[u8]> =
        vec![b" space ", b"$(x)", b"-rf", b"a", b"a/b", b"a.c", b"new\nline", long.as_bytes(), b"\xff\xfe"];
    expected.sort_by_key(|path| RelPath::new(path).unwrap());
    assert_eq!(paths, expected);
}

#[test]
fn several_threads_see_what_one_sees() {
    let site = Site::new();
    for number in 0..600 {
        site.write(format!("{}/{}/{number}", number % 40, number % 3), number.to_string());
        site.write(format!("flat/{number}"), vec![b'x'; number * 40]);
    }
    let now = site.now;
    let scanned = |threads| {
        let progress = AtomicU64::new(0);
        let snapshot = scan_with(&site.spec, &mut HashCache::default(), &move || now, &progress, threads);
        (snapshot, progress.load(Ordering::Relaxed))
    };
    let (serial, moved) = scanned(1);
    assert_eq!(serial.tree.files(), 1200);
    for threads in [2, 5] {
        let (parallel, moved_too) = scanned(threads);
        assert_eq!(parallel.tree, serial.tree);
        assert_eq!(moved, moved_too);
        for (path, _) in serial.tree.iter() {
            assert_eq!(parallel.stamp(path), serial.stamp(path));
        }
    }
}

#[test]
fn a_directory_that_is_taken_apart_meanwhile_harms_no_scan() {
    let site = Site::new();
    let make = || {
        for number in 0..50 {
            site.write(format!("{number}/sub/file"), "x");
        }
    };
    make();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for number in 0..50 {
                    let _ = fs::remove_dir_all(site.path(number.to_string()));
                }
                make();
            }
        });
        for _ in 0..30 {
            let now = site.now;
            let mut cache = HashCache::default();
            let snapshot = scan_with(&site.spec, &mut cache, &move || now, &AtomicU64::new(0), 3);
            for (path, entry) in snapshot.tree.iter() {
                assert!(!matches!(entry, Entry::Problem(_)), "{path:?}: {entry:?}");
                let is_dir = |dir| matches!(snapshot.tree.get(dir), Some(Entry::Dir(_)));
                assert!(path.ancestors().all(is_dir), "{path:?}");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_scan_changes_nothing_not_even_access_times() {
    let mut site = Site::new();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let paths = [site.write("dir/file", "x"), site.path("dir"), site.spec.root.clone()];
    for path in &paths {
        let times = FileTimes::new().set_accessed(old).set_modified(old + Duration::from_secs(1));
        fs::File::open(path).unwrap().set_times(times).unwrap();
    }
    let look = || {
        paths.each_ref().map(|path| {
            let stat = rustix::fs::lstat(path).unwrap();
            (stat.st_atime, stat.st_atime_nsec, Stamp::of(&stat))
        })
    };
    let before = look();
    site.snapshot();
    assert_eq!(look(), before);
}

#[test]
fn a_file_is_hashed_once() {
    let mut site = Site::new();
    site.write("a/b", "0123456789");
    assert_eq!(site.bytes_read(), 10);
    assert_eq!(site.bytes_read(), 0);
    site.spec.checksum = true;
    assert_eq!(site.bytes_read(), 10);
}

#[test]
fn a_known_digest_is_believed_until_the_file_changes() {
    let mut site = Site::new();
    let path = site.write_aged("a", "one", 60.0);
    let mtime = fs::metadata(&path).unwrap().modified().unwrap();
    site.lie("a");
    assert!(site.believes_the_lie("a"));

    // As many bytes, and the same mtime: the ctime tells, as soon as the kernel's clock has moved.
    let ctime = || rustix::fs::lstat(&path).map(|stat| (stat.st_ctime, stat.st_ctime_nsec)).unwrap();
    let before = ctime();
    while ctime() == before {
        fs::write(&path, "two").unwrap();
        set_mtime(&path, mtime);
    }
    assert!(!site.believes_the_lie("a"));

    site.lie("a");
    fs::rename(&path, site.path("b")).unwrap();
    let snapshot = site.snapshot();
    assert_eq!(snapshot.tree.get(rel("a")), None);
    assert_ne!(snapshot.tree.get(rel("b")).unwrap().as_file().unwrap().digest, LIE);

    site.lie("b");
    assert!(site.believes_the_lie("b"));
    site.spec.checksum = true;
    assert!(!site.believes_the_lie("b"));
    site.spec.checksum = false;
    assert!(!site.believes_the_lie("b"), "reading everything corrects the cache");
}

#[test]
fn a_file_written_just_now_is_hashed_again() {
    let mut site = Site::new();
    let path = site.write("a", "0123456789");
    site.now = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(site.bytes_read(), 10);
    assert_eq!(site.bytes_read(), 10);
    site.now += Duration::from_secs(1);
    assert_eq!(site.bytes_read(), 10);
    assert_eq!(site.bytes_read(), 0);
}

#[test]
fn the_cache_forgets_what_is_gone() {
    let mut site = Site::new();
    site.write("a/b", "x");
    site.write("c", "x");
    site.snapshot();
    assert_eq!(site.cache.len(), 2);
    fs::remove_dir_all(site.path("a")).unwrap();
    site.snapshot();
    assert_eq!(site.cache.len(), 1);
}

#[test]
fn recordings_being_made_are_busy() {
    const HOUR: f64 = 3600.0;
    let mut site = Site::both(Duration::from_secs(10));
    site.write_aged("empty.gsm", "", HOUR);
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
        ("settled.gsm", "file"),
        ("unfinished.WAV", "Unfinished"),
        ("unfinished.wav", "Unfinished"),
        ("young.gsm", "Young"),
    ]);
    let snapshot = site.snapshot();
    assert_eq!(words(&snapshot), expected);
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
        let while_open = scan(&site.spec, &mut site.cache, &move || now, &progress);
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
    scan(&site.spec, &mut site.cache, &clock, &progress);
    assert_eq!(*clock.slept.lock().unwrap(), Duration::ZERO);

    site.write_aged("saved", "x", 0.5);
    site.write_aged("saved.too", "x", 1.5);
    let snapshot = scan(&site.spec, &mut site.cache, &clock, &progress);
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
    let snapshot = scan(&site.spec, &mut site.cache, &clock, &AtomicU64::new(0));
    assert_eq!(words(&snapshot), map(&[("old", "file"), ("saved", "Young")]));
    let saved = Stamp::of(&rustix::fs::lstat(site.path("saved")).unwrap());
    assert_eq!(snapshot.stamp(rel("saved")).map(|stamp| stamp.ino), Some(saved.ino));
    assert_eq!(site.cache.len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_through_is_a_problem() {
    // A file of the kernel's that opens, and says EIO when it is read.
    let mut site = Site::new();
    site.spec.root = "/proc/self".into();
    site.spec.exclude = vec!["[!m]*".to_owned(), "m[!e]*".to_owned()];
    assert_eq!(site.seen()["mem"], "Unreadable(\"Input/output error\")");
}
